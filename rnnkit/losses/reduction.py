"""How losses check their arguments and come down to one number."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np

from rnnkit.autograd import Tensor
from rnnkit.autograd.tensor import FLOATS, to_array, wrap
from rnnkit.errors import ArgumentError, DTypeError, ShapeError

if TYPE_CHECKING:
    from collections.abc import Sequence

    from numpy.typing import ArrayLike

REDUCTIONS = ("mean", "sum", "none")


def check_reduction(reduction: str, *others: str) -> None:
    """Raise ArgumentError for a name that is not among the usual ones and ``others``."""
    if not isinstance(reduction, str) or reduction not in (*REDUCTIONS, *others):
        *names, last = [repr(name) for name in (*others, *REDUCTIONS)]
        raise ArgumentError(
            f"reduction: expected {', '.join(names)} or {last}, got {reduction!r}"
        )


def check_input(value: ArrayLike | Tensor, name: str = "input") -> Tensor:
    """Return the argument ``input``, or of another name, as a float32 or float64 Tensor."""
    tensor = _tensor(name, value)
    if tensor.dtype not in FLOATS:
        raise DTypeError(f"{name}: expected float32 or float64, got {tensor.dtype}")
    return tensor


def real_like(name: str, value: Any, input: Tensor) -> Tensor:
    """Return ``value`` as a Tensor of the dtype of ``input``.

    Numbers and lists of them are converted, arrays and Tensors are not.
    """
    if not isinstance(value, Tensor | np.ndarray) or (
        isinstance(value, np.ndarray) and value.ndim == 0
    ):
        return _tensor(name, value, input.dtype)
    tensor = _tensor(name, value)
    if tensor.dtype != input.dtype:
        raise DTypeError(f"{name}: expected {input.dtype} as input is, got {tensor.dtype}")
    return tensor


def _tensor(name: str, value: Any, dtype: Any = None) -> Tensor:
    return value if isinstance(value, Tensor) else wrap(to_array(value, dtype, name=name))


def check_shape(name: str, tensor: Tensor | np.ndarray, shape: Sequence[int], why: str) -> None:
    if tensor.shape != tuple(shape):
        raise ShapeError(f"{name}: expected shape {tuple(shape)} ({why}), got {tensor.shape}")


def check_pair(
    input: ArrayLike | Tensor, target: ArrayLike | Tensor, reduction: str, *others: str
) -> tuple[Tensor, Tensor]:
    """Return input and target as Tensors of one float dtype and one shape.

    The reduction is checked first, as by `check_reduction`.
    """
    check_reduction(reduction, *others)
    values = check_input(input)
    wanted = real_like("target", target, values)
    check_shape("target", wanted, values.shape, "as input")
    return values, wanted


def check_linear(
    input: ArrayLike | Tensor, weight: Any, bias: Any, classes: str
) -> tuple[Tensor, Tensor, Tensor | None]:
    """Return input (..., H), weight (C, H) and bias (C,) or None of a layer that scores classes.

    ``classes`` is the letter by which the caller's docstring calls C.
    """
    x = check_input(input)
    w = real_like("weight", weight, x)
    if x.ndim == 0 or w.ndim != 2 or 0 in w.shape or w.shape[1] != x.shape[-1]:
        raise ShapeError(
            f"input, weight: expected (..., H) and ({classes}, H), "
            f"got shapes {x.shape} and {w.shape}"
        )
    b = None if bias is None else real_like("bias", bias, x)
    if b is not None:
        check_shape("bias", b, w.shape[:1], "one per class")
    return x, w, b


def reduce(losses: Tensor, reduction: str, divisor: float) -> Tensor:
    """Return the losses, their sum, or their sum over ``divisor``: NaN where that is 0."""
    if reduction == "none":
        return losses
    total = losses.sum()
    if reduction == "sum":
        return total
    # Not a division by zero: that would also make NaN of gradients that are exactly zero.
    return total / divisor if divisor else total * float("nan")
