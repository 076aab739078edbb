"""Sums of arrays whose rounding errors hardly grow with the number of elements.

NumPy adds in pairs only along the axis that lies densest in memory. Along the others it adds one
row after the other, and a float32 that has grown large loses what is added to it.
"""

from __future__ import annotations

import math
from typing import TYPE_CHECKING, Any

import numpy as np

if TYPE_CHECKING:
    from collections.abc import Sequence

    from rnnkit.autograd.tensor import Array, Tensor

# Sums of fewer elements are left to NumPy: they are good enough, and as fast as can be.
_MANY = 512
# Of others, so many rows are added one after the other, as at the bottom of NumPy's sums in pairs.
_ROWS = 128
# Short rows are added several at a time, up to so many elements, which is faster.
_LANES = 256
# Typed loosely: NumPy's stub of reduce wants keepdims to be a literal.
_reduce: Any = np.add.reduce


def sum_array(x: Array, axis: tuple[int, ...], keepdims: bool = False) -> Array:
    """Sum over axes counted from the front, in the dtype that NumPy's sum has."""
    if x.size and x.dtype.kind == "f" and count_along(x, axis) > _MANY:
        for one in _long_axes(x, axis):
            x = _sum_in_blocks(x, one)
    return _reduce(x, axis=axis, keepdims=keepdims)


def count_along(x: Array | Tensor, axis: Sequence[int]) -> int:
    """How many elements of x a sum over these axes adds for each of its own."""
    count = 1
    for one in axis:
        count *= x.shape[one]
    return count


def _long_axes(x: Array, axis: tuple[int, ...]) -> list[int]:
    """Axes without which NumPy adds few rows one after the other."""
    first = x.ndim - len(axis)
    if x.flags.c_contiguous and all(one >= first for one in axis):
        return []  # one axis in memory
    # The stride of an axis of size 1, or that repeats the same memory, tells nothing.
    strides = [abs(x.strides[i]) if x.shape[i] > 1 else 0 for i in range(x.ndim)]
    densest = min(range(x.ndim), key=lambda i: (strides[i] or math.inf, -i))
    rows = sorted([one for one in axis if one != densest], key=lambda i: x.shape[i])
    long = []
    while count_along(x, rows) > _ROWS:
        long.append(rows.pop())
    return long


def _sum_in_blocks(x: Array, axis: int) -> Array:
    """Sum along an axis, which stays with size 1: of blocks of rows, then of the sums of those."""
    lead = (slice(None),) * axis
    before, after = x.shape[:axis], x.shape[axis + 1 :]
    while (n := x.shape[axis]) > _ROWS:
        together = max(1, min(_LANES // math.prod(after), n // _ROWS))
        whole = n - n % (_ROWS * together)
        blocks = x[(*lead, slice(whole))].reshape(*before, -1, _ROWS, together, *after)
        total = _reduce(blocks, axis=axis + 1).reshape(*before, -1, *after)
        if whole < n:
            total[(*lead, slice(1))] += _sum_in_blocks(x[(*lead, slice(whole, n))], axis)
        x = total
    return _reduce(x, axis=axis, keepdims=True)
