"""Arrays as the native side takes them, copied only where they are not so already."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

import numpy as np

if TYPE_CHECKING:
    Array = np.ndarray[Any, np.dtype[Any]]


_DENSE = 0x1 | 0x100  # NumPy's flags: contiguous in C order, aligned


def dense(arrays: Sequence[Array | None]) -> tuple[Any, ...]:
    """C-contiguous and aligned; None stays None."""
    return tuple([
        a
        if a is None or a.flags.num & _DENSE == _DENSE
        else np.require(a, requirements=("C", "A"))
        for a in arrays
    ])


def flat(a: Array) -> Array:
    """As one vector, in C order and aligned."""
    if a.flags.num & _DENSE != _DENSE:
        a = np.require(a, requirements=("C", "A"))
    return a if a.ndim == 1 else a.reshape(-1)


def rows(a: Array) -> Array:
    """Aligned, with a contiguous last axis and whole strides."""
    flags = a.flags
    if flags.num & _DENSE == _DENSE:
        return a
    size = a.itemsize
    good = flags.aligned and (a.shape[-1] == 1 or a.strides[-1] == size)
    return a if good and not any(s % size for s in a.strides) else np.array(a, order="C")


def lined_up(a: Array) -> Array:
    """A matrix with one contiguous axis, aligned, and whole strides."""
    flags = a.flags
    if flags.forc and flags.aligned:
        return a
    size = a.itemsize
    good = flags.aligned and size in a.strides and not any(s % size for s in a.strides)
    return a if good else np.array(a, order="C")


def room(shapes: Sequence[tuple[int, ...] | None], dtype: Any) -> tuple[Any, ...]:
    """New arrays; None stays None."""
    return tuple([None if shape is None else np.empty(shape, dtype) for shape in shapes])
