"""Ops that act on each element, or on pairs of elements with broadcasting."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np

from rnnkit.autograd.primitive import Primitive, primitive
from rnnkit.autograd.tensor import Tensor
from rnnkit.checks import check_number
from rnnkit.errors import ArgumentError, DTypeError
from rnnkit.ops.comparison import (
    equal,
    greater,
    greater_equal,
    isnan,
    less,
    less_equal,
    logical_and,
    logical_or,
)
from rnnkit.ops.operands import any_tensor, pair, real
from rnnkit.ops.shape import clone, sum_to

if TYPE_CHECKING:
    from rnnkit.autograd.tensor import Array, Operand

# ---- arithmetic

_add = primitive("add", np.add)
_add.defvjp(
    lambda d_y, _, a, b: sum_to(d_y, a._data.shape),
    lambda d_y, _, a, b: sum_to(d_y, b._data.shape),
)

_sub = primitive("sub", np.subtract)
_sub.defvjp(
    lambda d_y, _, a, b: sum_to(d_y, a._data.shape),
    lambda d_y, _, a, b: sum_to(_neg(d_y), b._data.shape),
)

_mul = primitive("mul", np.multiply)
_mul.defvjp(
    lambda d_y, _, a, b: sum_to(_mul(d_y, b), a._data.shape),
    lambda d_y, _, a, b: sum_to(_mul(d_y, a), b._data.shape),
)

_div = primitive("div", np.true_divide)
_div.defvjp(
    lambda d_y, _, a, b: sum_to(_div(d_y, b), a._data.shape),
    lambda d_y, y, a, b: sum_to(_neg(_div(_mul(d_y, y), b)), b._data.shape),
)

_neg: Primitive = primitive("neg", np.negative)
_neg.defvjp(lambda d_y, _, x: _neg(d_y))

_square = primitive("square", np.square)
_square.defvjp(lambda d_y, _, x: d_y * (2.0 * x))


def add(a: Operand, b: Operand) -> Tensor:
    """a + b."""
    return _add(*pair("add", a, b))


def sub(a: Operand, b: Operand) -> Tensor:
    """a - b."""
    return _sub(*pair("sub", a, b))


def mul(a: Operand, b: Operand) -> Tensor:
    """a * b."""
    return _mul(*pair("mul", a, b))


def div(a: Operand, b: Operand) -> Tensor:
    """a / b, of floats.

    Raises:
        DTypeError: both are integers.
    """
    a, b = pair("div", a, b)
    return _div(real("div", a), real("div", b))


def neg(x: Tensor) -> Tensor:
    """-x."""
    return _neg(any_tensor(x))


def square(x: Tensor) -> Tensor:
    """x * x."""
    return _square(any_tensor(x))


# ---- powers, exponentials, logarithms

_power = primitive("power", np.power)


def _d_power_base(d_y: Tensor, _: None, a: Tensor, b: Tensor) -> Tensor:
    # The exponent 0 is set apart: its derivative is 0 also at a = 0, where a ** -1 is infinite.
    zero = equal(b, 0.0)
    d_a = where(zero, 0.0, b * _power(a, where(zero, 1.0, b - 1.0)))
    return sum_to(d_y * d_a, a._data.shape)


def _d_power_exponent(d_y: Tensor, y: Tensor, a: Tensor, b: Tensor) -> Tensor:
    # 0 ** b is 0 near every b > 0: no slope, although log 0 is infinite. Below, it is infinite.
    zero = logical_and(equal(a, 0.0), greater_equal(b, 0.0))
    d_b = where(zero, 0.0, y * log(where(zero, 1.0, a)))
    return sum_to(d_y * d_b, b._data.shape)


_power.defvjp(_d_power_base, _d_power_exponent)

_sqrt = primitive("sqrt", np.sqrt)
_sqrt.defvjp(lambda d_y, y, x: d_y / (2.0 * y))

_exp = primitive("exp", np.exp)
_exp.defvjp(lambda d_y, y, x: _mul(d_y, y))

_expm1 = primitive("expm1", np.expm1)
_expm1.defvjp(lambda d_y, y, x: d_y * (y + 1.0))

_log = primitive("log", np.log)
_log.defvjp(lambda d_y, _, x: _div(d_y, x))

_log1p = primitive("log1p", np.log1p)
_log1p.defvjp(lambda d_y, _, x: d_y / (x + 1.0))


def pow(a: Operand, b: Operand) -> Tensor:
    """a ** b. A negative base with a fractional exponent gives NaN.

    Raises:
        ArgumentError: an integer is raised to a negative integer.
    """
    if type(b) in (int, float) and isinstance(a, Tensor) and a._data.dtype.kind == "f":
        if b == 2:
            return _square(a)
        if b == 1:
            return clone(a)
        if b == 0.5:
            return _sqrt(a)
    base, exponent = pair("pow", a, b)
    if exponent._data.dtype.kind == "i" and (exponent._data < 0).any():
        raise ArgumentError("pow: integers have no negative powers; convert them to floats first")
    return _power(base, exponent)


def sqrt(x: Tensor) -> Tensor:
    """Square root; NaN below 0."""
    return _sqrt(real("sqrt", x))


def exp(x: Tensor) -> Tensor:
    """e ** x."""
    return _exp(real("exp", x))


def expm1(x: Tensor) -> Tensor:
    """e ** x - 1, exact near 0."""
    return _expm1(real("expm1", x))


def log(x: Tensor) -> Tensor:
    """Natural logarithm; -inf at 0, NaN below."""
    return _log(real("log", x))


def log1p(x: Tensor) -> Tensor:
    """log(1 + x), exact near 0."""
    return _log1p(real("log1p", x))


# ---- trigonometry

_sin = primitive("sin", np.sin)
_sin.defvjp(lambda d_y, _, x: _mul(d_y, _cos(x)))

_cos: Primitive = primitive("cos", np.cos)
_cos.defvjp(lambda d_y, _, x: _neg(_mul(d_y, _sin(x))))


def sin(x: Tensor) -> Tensor:
    """Sine of x in radians."""
    return _sin(real("sin", x))


def cos(x: Tensor) -> Tensor:
    """Cosine of x in radians."""
    return _cos(real("cos", x))


# ---- activations


def _sigmoid_array(x: Array) -> Array:
    # exp(-x) may overflow to inf, whose reciprocal is the right limit: no case distinction needed.
    y = np.exp(-x)
    y += 1.0
    return np.reciprocal(y)


def _softplus_array(x: Array) -> Array:
    return np.maximum(x, 0) + np.log1p(np.exp(-np.abs(x)))


_tanh = primitive("tanh", np.tanh)
_tanh.defvjp(lambda d_y, y, x: d_y * (1.0 - _mul(y, y)))

_sigmoid = primitive("sigmoid", _sigmoid_array)
_sigmoid.defvjp(lambda d_y, y, x: d_y * _mul(y, 1.0 - y))

_relu = primitive("relu", lambda x: np.maximum(x, 0))
_relu.defvjp(lambda d_y, y, x: where(less_equal(y, 0.0), 0.0, d_y))

_softplus = primitive("softplus", _softplus_array)
_softplus.defvjp(lambda d_y, _, x: _mul(d_y, _sigmoid(x)))


def tanh(x: Tensor) -> Tensor:
    """Hyperbolic tangent."""
    return _tanh(real("tanh", x))


def sigmoid(x: Tensor) -> Tensor:
    """1 / (1 + exp(-x))."""
    return _sigmoid(real("sigmoid", x))


def relu(x: Tensor) -> Tensor:
    """max(x, 0); the derivative at 0 is 0. NaN stays, and lets the gradient through."""
    return _relu(real("relu", x))


def softplus(x: Tensor, beta: float = 1.0) -> Tensor:
    """log(1 + exp(beta x)) / beta, without overflow.

    Raises:
        ArgumentError: `beta` is not positive.
    """
    check_number("softplus: beta", beta, above_low=True)
    if beta == 1.0:
        return _softplus(real("softplus", x))
    return _softplus(beta * real("softplus", x)) / beta


# ---- piecewise

_abs = primitive("abs", np.abs)
_abs.defvjp(lambda d_y, _, x: _mul(d_y, _sign(x)))

_sign: Primitive = primitive("sign", np.sign, differentiable=False)

_floor = primitive("floor", np.floor, differentiable=False)

_maximum = primitive("maximum", np.maximum)
_minimum = primitive("minimum", np.minimum)


def _unless_lost(d_y: Tensor, lost: Tensor, ties: Tensor, shape: tuple[int, ...]) -> Tensor:
    """The gradient but where the operand lost, half of it where the two were equal.

    Beside NaN neither has lost: the gradient of a result that is NaN must not vanish.
    """
    return sum_to(where(ties, 0.5 * d_y, where(lost, 0.0, d_y)), shape)


_maximum.defvjp(
    lambda d_y, _, a, b: _unless_lost(d_y, less(a, b), equal(a, b), a._data.shape),
    lambda d_y, _, a, b: _unless_lost(d_y, less(b, a), equal(a, b), b._data.shape),
)
_minimum.defvjp(
    lambda d_y, _, a, b: _unless_lost(d_y, greater(a, b), equal(a, b), a._data.shape),
    lambda d_y, _, a, b: _unless_lost(d_y, greater(b, a), equal(a, b), b._data.shape),
)

_where = primitive("where", np.where)
_where.defvjp(
    None,
    lambda d_y, _, condition, a, b: sum_to(where(condition, d_y, 0.0), a._data.shape),
    lambda d_y, _, condition, a, b: sum_to(where(condition, 0.0, d_y), b._data.shape),
)

_clip = primitive("clip", lambda x, low, high: np.minimum(np.maximum(x, low), high))
_clip.defvjp(
    lambda d_y, _, x, low, high: where(logical_or(less(x, low), greater(x, high)), 0.0, d_y)
)


def abs(x: Tensor) -> Tensor:
    """|x|; the derivative at 0 is 0."""
    return _abs(any_tensor(x))


def sign(x: Tensor) -> Tensor:
    """-1, 0 or 1; has no gradient."""
    return _sign(any_tensor(x))


def floor(x: Tensor) -> Tensor:
    """The largest whole number not above x; has no gradient."""
    return _floor(real("floor", x))


def maximum(a: Operand, b: Operand) -> Tensor:
    """The larger of each pair; NaN wins. Equal elements share the gradient."""
    return _maximum(*pair("maximum", a, b))


def minimum(a: Operand, b: Operand) -> Tensor:
    """The smaller of each pair; NaN wins. Equal elements share the gradient."""
    return _minimum(*pair("minimum", a, b))


def where(condition: Operand, a: Operand, b: Operand) -> Tensor:
    """`a` where `condition` holds, `b` elsewhere; all three broadcast.

    Raises:
        DTypeError: `condition` is not of bools.
    """
    chosen = any_tensor(condition, "where: condition")
    if chosen._data.dtype != np.bool_:
        raise DTypeError(f"where: condition: expected bools, got {chosen._data.dtype.name}")
    return _where(chosen, *pair("where", a, b))


def clip(x: Tensor, min: Operand | None = None, max: Operand | None = None) -> Tensor:
    """Elements below `min` become `min`, above `max` become `max`; NaN stays.

    The derivative is 1 inside, on the bounds and at NaN, 0 outside. Bounds may be tensors, with
    gradients where elements become them. Integers stay integers where the bounds are.
    """
    if min is None and max is None:
        raise ArgumentError("clip: expected min or max, got neither")
    x = any_tensor(x)
    low = -np.inf if min is None else _number(min)
    high = np.inf if max is None else _number(max)
    if low is not None and high is not None and x._data.dtype.kind == "f":
        return _clip(x, low=low, high=high)
    if min is not None:
        x, bound = pair("clip", x, min)
        x = where(logical_or(greater_equal(x, bound), isnan(x)), x, bound)
    if max is not None:
        x, bound = pair("clip", x, max)
        x = where(logical_or(less_equal(x, bound), isnan(x)), x, bound)
    return x


def _number(bound: Operand) -> float | None:
    """A bound that is a number, as Python's; None for one that is not."""
    if isinstance(bound, np.ndarray | np.generic):
        # Not those of other kinds: float() reads texts, and drops imaginary parts.
        is_number = bound.ndim == 0 and bound.dtype.kind in "biuf"
    else:
        is_number = isinstance(bound, int | float)
    try:
        return float(bound) if is_number else None
    except OverflowError:  # an integer beyond the range of floats
        return None
