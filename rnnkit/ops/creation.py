"""Functions that make tensors from nothing but a shape."""

from __future__ import annotations

import math
from typing import TYPE_CHECKING, Any

import numpy as np

from rnnkit.autograd.dtypes import default_dtype, supported_dtype
from rnnkit.autograd.tensor import Tensor, plain_array, wrap
from rnnkit.checks import check_elements, check_finite, check_fits, check_integer
from rnnkit.errors import ArgumentError, DTypeError, ShapeError
from rnnkit.ops.operands import any_tensor, sizes
from rnnkit.rng import generator

if TYPE_CHECKING:
    from collections.abc import Sequence

    import numpy.typing as npt

    from rnnkit.autograd.tensor import Array


def _leaf(array: Array, requires_grad: bool) -> Tensor:
    made = wrap(array)
    if requires_grad is not False:
        made.requires_grad = requires_grad
    return made


def _float_dtype(name: str, dtype: npt.DTypeLike) -> np.dtype[Any]:
    found = supported_dtype(dtype)
    if found.kind != "f":
        raise DTypeError(f"{name}: dtype: expected float32 or float64, got {found.name}")
    return found


def _shape(name: str, shape: Any, dtype: np.dtype[Any]) -> tuple[int, ...]:
    """A shape as `sizes` reads it. Raises ShapeError for sizes that no array of a dtype has."""
    found = sizes(name, shape)
    if any(size < 0 for size in found):
        raise ShapeError(f"{name}: shape: expected sizes of 0 or more, got {found}")
    check_elements(f"{name}: shape", found, dtype.itemsize)
    return found


def _filled(name: str, shape: tuple[int, ...], value: Any, dtype: npt.DTypeLike) -> Array:
    """An array of one number. Raises DTypeError where `value` is none that the dtype has."""
    number = plain_array(f"{name}: value", value)
    if number.ndim or (number.dtype.kind not in "biuf" and not isinstance(value, int)):
        raise DTypeError(f"{name}: value: expected a number, got {value!r}")
    dtype, number = supported_dtype(dtype), number.item()
    if dtype.kind in "iu" and not np.iinfo(dtype).min <= number <= np.iinfo(dtype).max:
        raise DTypeError(f"{name}: value: expected a number of {dtype}, got {value!r}")
    try:
        return np.full(shape, number, dtype)
    except OverflowError:  # an integer beyond the range of floats
        raise DTypeError(f"{name}: value: expected a number of {dtype}, got {value!r}") from None


def zeros(
    *shape: int | Sequence[int],
    dtype: npt.DTypeLike = default_dtype,
    requires_grad: bool = False,
) -> Tensor:
    """Zeros of a shape, given as integers or as one sequence."""
    found = supported_dtype(dtype)
    return _leaf(np.zeros(_shape("zeros", shape, found), found), requires_grad)


def ones(
    *shape: int | Sequence[int],
    dtype: npt.DTypeLike = default_dtype,
    requires_grad: bool = False,
) -> Tensor:
    """Ones of a shape, given as integers or as one sequence."""
    found = supported_dtype(dtype)
    return _leaf(np.ones(_shape("ones", shape, found), found), requires_grad)


def full(
    shape: Sequence[int],
    value: float,
    dtype: npt.DTypeLike = default_dtype,
    requires_grad: bool = False,
) -> Tensor:
    """A tensor of one value."""
    found = supported_dtype(dtype)
    return _leaf(_filled("full", _shape("full", (shape,), found), value, found), requires_grad)


def zeros_like(x: Tensor, requires_grad: bool = False) -> Tensor:
    """Zeros of the shape and dtype of `x`."""
    x = any_tensor(x)
    return _leaf(np.zeros(x.shape, x.dtype), requires_grad)


def ones_like(x: Tensor, requires_grad: bool = False) -> Tensor:
    """Ones of the shape and dtype of `x`."""
    x = any_tensor(x)
    return _leaf(np.ones(x.shape, x.dtype), requires_grad)


def full_like(x: Tensor, value: float, requires_grad: bool = False) -> Tensor:
    """One value in the shape and dtype of `x`."""
    x = any_tensor(x)
    return _leaf(_filled("full_like", x.shape, value, x.dtype), requires_grad)


def arange(
    start: float,
    stop: float | None = None,
    step: float = 1,
    dtype: npt.DTypeLike | None = None,
    requires_grad: bool = False,
) -> Tensor:
    """`start` (default 0) to `stop` (excluded): int64 for integers, else float32.

    Raises:
        ArgumentError: `step` is 0, one of the numbers is not finite, an integer does not fit into
            the dtype, or there are more than an array can have.
    """
    if stop is None:
        start, stop = 0, start
    for name, value in (("start", start), ("stop", stop), ("step", step)):
        check_finite(f"arange: {name}", value)
    if not step:
        raise ArgumentError(f"arange: step: expected another number than 0, got {step}")
    whole = all(isinstance(value, int | np.integer) for value in (start, stop, step))
    if dtype is None:
        dtype = np.int64 if whole else default_dtype
    wanted = supported_dtype(dtype)
    if whole and wanted.kind != "f":
        if wanted.kind in "iu":
            bounds = np.iinfo(wanted)
            check_integer("arange: start", start, int(bounds.min), int(bounds.max))
            check_integer("arange: stop", stop, int(bounds.min) - 1, int(bounds.max) + 1)
            check_integer("arange: step", step, int(bounds.min), int(bounds.max))
        check_fits("arange: stop", -int((start - stop) // step), wanted.itemsize)
        return _leaf(np.arange(start, stop, step, dtype=wanted), requires_grad)
    # NumPy's would step by the difference of the first two, which is rounded to the dtype.
    first, size = float(start), float(step)
    count = max(0.0, (float(stop) - first) / size)
    check_fits("arange: stop", count, 8)
    values = first + size * np.arange(math.ceil(count))
    return _leaf(values.astype(wanted, copy=False), requires_grad)


def rand(
    *shape: int | Sequence[int],
    dtype: npt.DTypeLike = default_dtype,
    requires_grad: bool = False,
) -> Tensor:
    """Uniform in [0, 1), from the library's generator."""
    found = _float_dtype("rand", dtype)
    return _leaf(generator().random(_shape("rand", shape, found), dtype=found), requires_grad)


def randn(
    *shape: int | Sequence[int],
    dtype: npt.DTypeLike = default_dtype,
    requires_grad: bool = False,
) -> Tensor:
    """Standard normal, from the library's generator."""
    found = _float_dtype("randn", dtype)
    drawn = generator().standard_normal(_shape("randn", shape, found), dtype=found)
    return _leaf(np.asarray(drawn), requires_grad)


def randint(low: int, high: int, shape: Sequence[int]) -> Tensor:
    """Integers uniform in [low, high), int64, from the library's generator.

    Raises:
        ArgumentError: `high` is not above `low`, or one of them is no integer or not of int64.
    """
    low = check_integer("randint: low", low)  # NumPy would round it off
    high = check_integer("randint: high", high)
    check_integer("randint: low", low, -(2**63), 2**63 - 1)
    check_integer("randint: high", high, -(2**63), 2**63)
    if not low < high:
        raise ArgumentError(f"randint: high: expected a number above low, {low}, got {high}")
    found = _shape("randint", (shape,), np.dtype(np.int64))
    return wrap(np.asarray(generator().integers(low, high, found)))


def rand_like(x: Tensor, requires_grad: bool = False) -> Tensor:
    """`rand` of the shape and dtype of `x`."""
    x = any_tensor(x)
    return rand(x.shape, dtype=x.dtype, requires_grad=requires_grad)


def randn_like(x: Tensor, requires_grad: bool = False) -> Tensor:
    """`randn` of the shape and dtype of `x`."""
    x = any_tensor(x)
    return randn(x.shape, dtype=x.dtype, requires_grad=requires_grad)
