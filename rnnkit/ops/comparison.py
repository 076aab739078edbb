"""Comparisons and logic, element by element: bool results, which carry no gradient."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np

from rnnkit.autograd.primitive import Primitive, primitive
from rnnkit.ops.operands import any_tensor, pair

if TYPE_CHECKING:
    from rnnkit.autograd.tensor import Operand, Tensor

_comparisons: dict[str, Primitive] = {
    name: primitive(name, ufunc, differentiable=False)
    for name, ufunc in (
        ("equal", np.equal),
        ("not_equal", np.not_equal),
        ("less", np.less),
        ("less_equal", np.less_equal),
        ("greater", np.greater),
        ("greater_equal", np.greater_equal),
        ("logical_and", np.logical_and),
        ("logical_or", np.logical_or),
        ("logical_xor", np.logical_xor),
    )
}
_logical_not = primitive("logical_not", np.logical_not, differentiable=False)
_isnan = primitive("isnan", np.isnan, differentiable=False)
_isfinite = primitive("isfinite", np.isfinite, differentiable=False)


def equal(a: Operand, b: Operand) -> Tensor:
    """a == b."""
    return _comparisons["equal"](*pair("equal", a, b))


def not_equal(a: Operand, b: Operand) -> Tensor:
    """a != b."""
    return _comparisons["not_equal"](*pair("not_equal", a, b))


def less(a: Operand, b: Operand) -> Tensor:
    """a < b."""
    return _comparisons["less"](*pair("less", a, b))


def less_equal(a: Operand, b: Operand) -> Tensor:
    """a <= b."""
    return _comparisons["less_equal"](*pair("less_equal", a, b))


def greater(a: Operand, b: Operand) -> Tensor:
    """a > b."""
    return _comparisons["greater"](*pair("greater", a, b))


def greater_equal(a: Operand, b: Operand) -> Tensor:
    """a >= b."""
    return _comparisons["greater_equal"](*pair("greater_equal", a, b))


def logical_and(a: Operand, b: Operand) -> Tensor:
    """Both are non-zero."""
    return _comparisons["logical_and"](*pair("logical_and", a, b))


def logical_or(a: Operand, b: Operand) -> Tensor:
    """At least one is non-zero."""
    return _comparisons["logical_or"](*pair("logical_or", a, b))


def logical_xor(a: Operand, b: Operand) -> Tensor:
    """Exactly one is non-zero."""
    return _comparisons["logical_xor"](*pair("logical_xor", a, b))


def logical_not(x: Tensor) -> Tensor:
    """x is zero."""
    return _logical_not(any_tensor(x))


def isnan(x: Tensor) -> Tensor:
    """x is NaN."""
    return _isnan(any_tensor(x))


def isfinite(x: Tensor) -> Tensor:
    """x is neither NaN nor infinite."""
    return _isfinite(any_tensor(x))
