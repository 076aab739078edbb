"""Ops that fold axes away, and running sums and products.

``axis`` is an axis, a sequence of axes, or None for all; negative axes count from the end.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np

from rnnkit.autograd.primitive import primitive
from rnnkit.checks import check_bool, check_finite, check_number
from rnnkit.errors import ArgumentError, ShapeError
from rnnkit.ops.comparison import equal
from rnnkit.ops.creation import full_like
from rnnkit.ops.elementwise import abs, exp, where
from rnnkit.ops.operands import any_tensor, many_axes, one_axis, real
from rnnkit.ops.shape import broadcast_to, cat, flip, reshape, split
from rnnkit.ops.sums import count_along, sum_array

if TYPE_CHECKING:
    from rnnkit.autograd.tensor import Array, Axis, Tensor


def _kept_shape(shape: tuple[int, ...], axes: tuple[int, ...]) -> tuple[int, ...]:
    return tuple([1 if i in axes else size for i, size in enumerate(shape)])


def _spread(y: Tensor, x: Tensor, axes: tuple[int, ...]) -> Tensor:
    """A reduced tensor repeated along the axes that were folded away."""
    shape = x._data.shape
    return broadcast_to(reshape(y, _kept_shape(shape, axes)), shape)


# ---- sums and moments


def _mean_array(x: Array, axis: tuple[int, ...], keepdims: bool) -> Array:
    return sum_array(x, axis, keepdims) / np.asarray(count_along(x, axis), x.dtype)


_sum = primitive("sum", sum_array)
_sum.defvjp(lambda d_y, _, x, axis, keepdims: _spread(d_y, x, axis))

_mean = primitive("mean", _mean_array)
_mean.defvjp(lambda d_y, _, x, axis, keepdims: _spread(d_y / count_along(x, axis), x, axis))


def sum(x: Tensor, axis: Axis = None, keepdims: bool = False) -> Tensor:
    """Sum of the elements; of bools, their count."""
    x = any_tensor(x)
    return _sum(x, axis=many_axes("sum", axis, x.ndim), keepdims=keepdims)


def mean(x: Tensor, axis: Axis = None, keepdims: bool = False) -> Tensor:
    """Arithmetic mean; NaN of no elements."""
    x = real("mean", x)
    return _mean(x, axis=many_axes("mean", axis, x.ndim), keepdims=keepdims)


def var(x: Tensor, axis: Axis = None, correction: float = 1, keepdims: bool = False) -> Tensor:
    """Sum of squared deviations from the mean over n - `correction`; NaN where that is not > 0."""
    deviation, divisor = _deviation("var", x, axis, correction)
    return sum(deviation * deviation, axis, keepdims) / divisor


def _deviation(name: str, x: Tensor, axis: Axis, correction: float) -> tuple[Tensor, float]:
    """What elements are away from their mean, and what the sum of its squares is divided by."""
    x = real(name, x)
    check_finite(f"{name}: correction", correction)
    axes = many_axes(name, axis, x.ndim)
    divisor = count_along(x, axes) - correction
    return x - _mean(x, axis=axes, keepdims=True), divisor if divisor > 0 else float("nan")


def std(x: Tensor, axis: Axis = None, correction: float = 1, keepdims: bool = False) -> Tensor:
    """Square root of `var`; the derivative where all elements are equal is 0.

    Finite also where the variance itself would overflow, and not 0 where it would underflow.
    """
    deviation, divisor = _deviation("std", x, axis, correction)
    return norm(deviation, 2, axis, keepdims) / np.sqrt(divisor)


def _norm_array(x: Array, axis: tuple[int, ...], keepdims: bool) -> Array:
    total = sum_array(x * x, axis, keepdims)
    limits = np.finfo(x.dtype)
    if np.all((total >= limits.tiny / limits.eps) & (total < np.inf)):
        return np.sqrt(total)
    # Squares have overflowed or lost digits: those of shares of the largest element do neither.
    largest = np.abs(x).max(axis=axis, keepdims=True, initial=0.0)
    unit = np.where((largest > 0) & (largest < np.inf), largest, np.ones_like(largest))
    share = x / unit
    return np.sqrt(sum_array(share * share, axis, keepdims)) * unit.reshape(total.shape)


_norm = primitive("norm", _norm_array)


def _d_norm(d_y: Tensor, y: Tensor, x: Tensor, axis: tuple[int, ...], keepdims: bool) -> Tensor:
    length = _spread(where(equal(y, 0.0), 1.0, y), x, axis)
    return x / length * _spread(d_y, x, axis)


_norm.defvjp(_d_norm)


def norm(x: Tensor, p: float = 2, axis: Axis = None, keepdims: bool = False) -> Tensor:
    """The p-norm of the elements, (sum |x|^p)^(1/p): p is 1, 2 or infinity.

    The 2-norm is right also where squares overflow or underflow. The derivative of the norm of
    nothing but zeros is 0.

    Raises:
        ArgumentError: another p.
    """
    x = real("norm", x)
    if type(p) not in (int, float):
        check_number("norm: p", p)
    if p == 2:
        return _norm(x, axis=many_axes("norm", axis, x.ndim), keepdims=keepdims)
    if p == 1:
        return sum(abs(x), axis, keepdims)
    if p == float("inf"):
        return max(abs(x), axis, keepdims)
    raise ArgumentError(f"norm: p: expected 1, 2 or infinity, got {p!r}")


# ---- extremes

_max = primitive("max", lambda x, axis, keepdims: x.max(axis=axis, keepdims=keepdims))
_min = primitive("min", lambda x, axis, keepdims: x.min(axis=axis, keepdims=keepdims))


def _d_extreme(d_y: Tensor, y: Tensor, x: Tensor, axis: tuple[int, ...], keepdims: bool) -> Tensor:
    # Equal extremes share the gradient evenly.
    hit = equal(x, _spread(y, x, axis)).astype(x.dtype)
    share = hit / _sum(hit, axis=axis, keepdims=True)
    return share * _spread(d_y, x, axis)


_max.defvjp(_d_extreme)
_min.defvjp(_d_extreme)

_argmax = primitive(
    "argmax", lambda x, axis, keepdims: x.argmax(axis=axis, keepdims=keepdims), differentiable=False
)
_argmin = primitive(
    "argmin", lambda x, axis, keepdims: x.argmin(axis=axis, keepdims=keepdims), differentiable=False
)


def _nonempty(name: str, x: Tensor, axes: tuple[int, ...]) -> None:
    if count_along(x, axes) == 0:
        raise ShapeError(f"{name}: no elements along axes {axes} of shape {x.shape}")


def max(x: Tensor, axis: Axis = None, keepdims: bool = False) -> Tensor:
    """Largest element (the value alone; see `argmax`); NaN wins. Equal ones share the gradient.

    Raises:
        ShapeError: there are no elements to choose from.
    """
    x = any_tensor(x)
    axes = many_axes("max", axis, x.ndim)
    _nonempty("max", x, axes)
    return _max(x, axis=axes, keepdims=keepdims)


def min(x: Tensor, axis: Axis = None, keepdims: bool = False) -> Tensor:
    """Smallest element; see `max`."""
    x = any_tensor(x)
    axes = many_axes("min", axis, x.ndim)
    _nonempty("min", x, axes)
    return _min(x, axis=axes, keepdims=keepdims)


def _position(name: str, x: Tensor, axis: int | None) -> int | None:
    one = None if axis is None else one_axis(name, axis, x.ndim)
    _nonempty(name, x, tuple(range(x.ndim)) if one is None else (one,))
    return one


def argmax(x: Tensor, axis: int | None = None, keepdims: bool = False) -> Tensor:
    """Index of the first largest element along `axis`, or in the flattened tensor.

    Raises:
        DTypeError: `axis` is neither an integer nor None.
        ShapeError: there is no such axis, or no element to choose from.
    """
    x = any_tensor(x)
    if keepdims is not False:  # NumPy would take anything
        check_bool("argmax: keepdims", keepdims)
    return _argmax(x, axis=_position("argmax", x, axis), keepdims=keepdims)


def argmin(x: Tensor, axis: int | None = None, keepdims: bool = False) -> Tensor:
    """Index of the first smallest element along `axis`, or in the flattened tensor; see `argmax`.
    """
    x = any_tensor(x)
    if keepdims is not False:
        check_bool("argmin: keepdims", keepdims)
    return _argmin(x, axis=_position("argmin", x, axis), keepdims=keepdims)


# ---- truth

_all = primitive(
    "all", lambda x, axis, keepdims: np.all(x, axis=axis, keepdims=keepdims), differentiable=False
)
_any = primitive(
    "any", lambda x, axis, keepdims: np.any(x, axis=axis, keepdims=keepdims), differentiable=False
)


def all(x: Tensor, axis: Axis = None, keepdims: bool = False) -> Tensor:
    """Whether all elements are non-zero."""
    x = any_tensor(x)
    return _all(x, axis=many_axes("all", axis, x.ndim), keepdims=keepdims)


def any(x: Tensor, axis: Axis = None, keepdims: bool = False) -> Tensor:
    """Whether some element is non-zero."""
    x = any_tensor(x)
    return _any(x, axis=many_axes("any", axis, x.ndim), keepdims=keepdims)


# ---- running sums


def _cumsum_array(x: Array, axis: int) -> Array:
    if x.dtype != np.float32:
        return np.add.accumulate(x, axis=axis)
    # A running float32 sum that has grown large would lose what is added to it.
    return np.add.accumulate(x, axis=axis, dtype=np.float64).astype(np.float32)


_cumsum = primitive("cumsum", _cumsum_array)
_cumsum.defvjp(lambda d_y, _, x, axis: flip(_cumsum(flip(d_y, axis), axis=axis), axis))


def cumsum(x: Tensor, axis: int) -> Tensor:
    """Sums of the elements up to and including each, along `axis`."""
    x = any_tensor(x)
    return _cumsum(x, axis=one_axis("cumsum", axis, x.ndim))


# ---- running products
#
# Their derivative divides by no element, any of which may be 0: it is the linear recurrence
# y_t = a_t y_{t-1} + b_t, taken backwards, and the derivative of that is another one.


def _recurrence_array(a: Array, b: Array, axis: int) -> Array:
    y = b.copy()
    steps, factors = np.moveaxis(y, axis, 0), np.moveaxis(a, axis, 0)
    for t in range(1, len(steps)):
        steps[t] += factors[t] * steps[t - 1]
    return y


_recurrence = primitive("recurrence", _recurrence_array)


def _shifted(x: Tensor, axis: int, by: int, first: float = 0.0) -> Tensor:
    """The elements one step on (`by` 1) or back (-1) along an axis, and `first` where none came."""
    length = x.shape[axis]
    if length == 0:
        return x
    before, after = split(x, [length - 1, 1] if by == 1 else [1, length - 1], axis)
    if by == 1:
        return cat([full_like(after, first), before], axis)
    return cat([after, full_like(before, first)], axis)


def _backwards(d_y: Tensor, a: Tensor, axis: int) -> Tensor:
    """s_t = d_y_t + a_{t+1} s_{t+1}: what b of the recurrence receives."""
    ahead = flip(_shifted(a, axis, -1), axis)
    return flip(_recurrence(ahead, flip(d_y, axis), axis=axis), axis)


_recurrence.defvjp(
    lambda d_y, y, a, b, axis: _backwards(d_y, a, axis) * _shifted(y, axis, 1),
    lambda d_y, _, a, b, axis: _backwards(d_y, a, axis),
)

_cumprod = primitive("cumprod", lambda x, axis: np.multiply.accumulate(x, axis=axis))
_cumprod.defvjp(
    lambda d_y, y, x, axis: _backwards(d_y, x, axis) * _shifted(y, axis, 1, first=1.0)
)


def cumprod(x: Tensor, axis: int) -> Tensor:
    """Products of the elements up to and including each, along `axis`.

    Zeros among them have the derivatives that they have.
    """
    x = any_tensor(x)
    return _cumprod(x, axis=one_axis("cumprod", axis, x.ndim))


# ---- logsumexp


def _logsumexp_array(x: Array, axis: tuple[int, ...], keepdims: bool) -> Array:
    if count_along(x, axis) == 0:
        return sum_array(x, axis, keepdims) - np.asarray(np.inf, x.dtype)
    shift = x.max(axis=axis, keepdims=True)
    # An infinite maximum is the answer itself; subtracting it would give NaN.
    shift = np.where(np.isfinite(shift), shift, np.zeros((), x.dtype))
    y = np.log(sum_array(np.exp(x - shift), axis, True)) + shift
    return y if keepdims else np.squeeze(y, axis)


def _d_logsumexp(
    d_y: Tensor, y: Tensor, x: Tensor, axis: tuple[int, ...], keepdims: bool
) -> Tensor:
    # Of elements that are all -inf none has a share; NaN and inf must not be hidden.
    shift = where(equal(y, -np.inf), 0.0, y)
    return _spread(d_y, x, axis) * exp(x - _spread(shift, x, axis))


_logsumexp = primitive("logsumexp", _logsumexp_array)
_logsumexp.defvjp(_d_logsumexp)


def logsumexp(x: Tensor, axis: Axis = None, keepdims: bool = False) -> Tensor:
    """log(sum(exp(x))) without overflow; -inf of no elements or of all -inf."""
    x = real("logsumexp", x)
    if keepdims is not False:
        check_bool("logsumexp: keepdims", keepdims)
    return _logsumexp(x, axis=many_axes("logsumexp", axis, x.ndim), keepdims=keepdims)
