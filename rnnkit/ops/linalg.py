"""Matrix products. Every one of them goes through `_kernel`, which can be replaced."""

from __future__ import annotations

from math import prod
from typing import TYPE_CHECKING, TypeAlias

import numpy as np

from rnnkit.autograd.primitive import primitive
from rnnkit.errors import ShapeError
from rnnkit.ops.elementwise import mul
from rnnkit.ops.operands import real, same_dtype
from rnnkit.ops.shape import reshape, reverse_axes, sum_to, transpose

if TYPE_CHECKING:
    from collections.abc import Callable

    from rnnkit.autograd.tensor import Array, Tensor


def _numpy_kernel(a: Array, b: Array, bias: Array | None = None) -> Array:
    c: Array = np.matmul(a, b)
    if bias is not None:
        c += bias
    return c


Kernel: TypeAlias = "Callable[..., Array]"

_kernel: Kernel = _numpy_kernel


def set_matmul_kernel(kernel: Kernel | None) -> Kernel:
    """Have all matrix products computed by `kernel` (None: by `numpy.matmul`); returns the former.

    The kernel is called as ``kernel(a, b)``, or ``kernel(a, b, bias)`` with a vector to add to
    every row, with arrays of one float dtype and at least two axes, possibly transposed or
    otherwise strided, empty, or with leading axes to broadcast; it returns a new array. It must
    not use Tensors.
    """
    global _kernel
    former = _kernel
    _kernel = _numpy_kernel if kernel is None else kernel
    return former


def _matmul_array(a: Array, b: Array) -> Array:
    if a.ndim > 2 and b.ndim == 2:
        # One large product instead of one for each leading index.
        rows = _kernel(a.reshape(prod(a.shape[:-1]), a.shape[-1]), b)
        return rows.reshape(*a.shape[:-1], b.shape[1])
    return _kernel(a, b)


def _linear_array(x: Array, weight: Array, bias: Array | None = None) -> Array:
    rows = x if x.ndim == 2 else x.reshape(prod(x.shape[:-1]), x.shape[-1])
    y = _kernel(rows, weight.T) if bias is None else _kernel(rows, weight.T, bias)
    return y if x.ndim == 2 else y.reshape(*x.shape[:-1], weight.shape[0])


def _rows(x: Tensor) -> Tensor:
    """All axes but the last merged into one."""
    return x if x.ndim == 2 else reshape(x, prod(x.shape[:-1]), x.shape[-1])


def _swap(x: Tensor) -> Tensor:
    return reverse_axes(x) if x._data.ndim == 2 else transpose(x, -2, -1)


_matmul = primitive("matmul", _matmul_array)


def _d_left(d_y: Tensor, _: None, a: Tensor, b: Tensor) -> Tensor:
    return sum_to(_matmul(d_y, _swap(b)), a._data.shape)


def _d_right(d_y: Tensor, _: None, a: Tensor, b: Tensor) -> Tensor:
    if b._data.ndim == 2:
        return _matmul(_swap(_rows(a)), _rows(d_y))
    return sum_to(_matmul(_swap(a), d_y), b._data.shape)


_matmul.defvjp(_d_left, _d_right)

_linear = primitive("linear", _linear_array)
_linear.defvjp(
    lambda d_y, _, x, weight, bias=None: _matmul(d_y, weight),
    lambda d_y, _, x, weight, bias=None: _matmul(_swap(_rows(d_y)), _rows(x)),
    lambda d_y, _, x, weight, bias: sum_to(d_y, bias._data.shape),
)


def matmul(a: Tensor | Array, b: Tensor | Array) -> Tensor:
    """Matrix product over the last two axes; leading axes broadcast.

    A 1-d operand is a row on the left and a column on the right, and its axis is dropped after.

    Raises:
        ShapeError: an operand is 0-d, or the inner sizes differ.
        DTypeError: an operand is not of floats, or the dtypes differ.
    """
    left, right = same_dtype("matmul", a, b)
    real("matmul", left)
    if not left.ndim or not right.ndim:
        raise ShapeError(f"matmul: expected at least 1-d operands, got {left.shape}, {right.shape}")
    if left.shape[-1] != right.shape[-2 if right.ndim > 1 else 0]:
        raise ShapeError(f"matmul: inner sizes differ: {left.shape} @ {right.shape}")
    drop_row, drop_column = left.ndim == 1, right.ndim == 1
    if drop_row:
        left = left.unsqueeze(0)
    if drop_column:
        right = right.unsqueeze(1)
    y = _matmul(left, right)
    if drop_column:
        y = y.squeeze(-1)
    if drop_row:
        y = y.squeeze(-1 if drop_column else -2)
    return y


def outer(a: Tensor | Array, b: Tensor | Array) -> Tensor:
    """All products of an element of `a` (M,) and one of `b` (N,): (M, N).

    Raises:
        ShapeError: an operand is not 1-d.
        DTypeError: the dtypes are float32 and float64.
    """
    left, right = same_dtype("outer", a, b)
    if left.ndim != 1 or right.ndim != 1:
        raise ShapeError(f"outer: expected 1-d operands, got {left.shape}, {right.shape}")
    return mul(left.unsqueeze(1), right)


def linear(x: Tensor, weight: Tensor, bias: Tensor | None = None) -> Tensor:
    """``x @ weight.T + bias``.

    Args:
        x: (..., I).
        weight: (O, I).
        bias: (O) or None.

    Returns:
        (..., O).

    Raises:
        ShapeError: the sizes do not fit.
        DTypeError: an operand is not of floats, or the dtypes differ.
    """
    if bias is None:
        x, weight = operands = same_dtype("linear", x, weight)
    else:
        x, weight, bias = operands = same_dtype("linear", x, weight, bias)
    real("linear", x)
    if weight.ndim != 2:
        raise ShapeError(f"linear: weight: expected (O, I), got {weight.shape}")
    if not x.ndim or x.shape[-1] != weight.shape[1]:
        raise ShapeError(f"linear: x: expected (..., {weight.shape[1]}), got {x.shape}")
    if bias is not None and bias.shape != weight.shape[:1]:
        raise ShapeError(f"linear: bias: expected {weight.shape[:1]}, got {bias.shape}")
    return _linear(*operands)
