"""Arrays that nothing can change: what is derived from one may be kept as long as it is."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np

from rnnkit.errors import ArgumentError

if TYPE_CHECKING:
    from rnnkit.autograd.tensor import Array


def unchangeable(a: Array) -> Array:
    """A copy in memory that cannot be written to, whatever flags somebody sets."""
    return np.ndarray(a.shape, a.dtype, a.tobytes())


def is_unchangeable(a: Array) -> bool:
    """Whether an array is one of those."""
    return type(a.base) is bytes and not a.flags.writeable


def check_writeable(name: str, a: Array) -> None:
    """Raise ArgumentError for an array that is to be written to, and cannot be."""
    if not a.flags.writeable:
        raise ArgumentError(f"{name}: it is read-only: call unfreeze() of its module first")
