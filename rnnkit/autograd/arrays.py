"""What arrays are like. Compiled, it is found out without the objects that NumPy makes of shapes
and flags (arrays.pxd), and costs next to nothing."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from rnnkit.autograd.tensor import Array

_PRIVATE = 0x1 | 0x4 | 0x400  # NumPy's flags: contiguous in C order, owns its data, writeable


def alike(a: Array, b: Array) -> bool:
    """Whether two arrays have the same shape and dtype."""
    return a.shape == b.shape and (a.dtype is b.dtype or a.dtype == b.dtype)


def fits(a: Array, shape: tuple[int, ...], dtype: Any) -> bool:
    """Whether an array is of this shape and dtype."""
    return a.shape == shape and (a.dtype is dtype or a.dtype == dtype)


def is_private(a: Array) -> bool:
    """Whether it is dense, may be written to, and has memory of its own."""
    return a.flags.num & _PRIVATE == _PRIVATE
