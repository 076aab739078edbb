"""The random masks of the cells' regularisers, each fixed by one number that is drawn."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from rnnkit import ops

if TYPE_CHECKING:
    import numpy as np

    from rnnkit.autograd import Tensor


def dropout_mask(shape: tuple[int, ...], p: float, dtype: np.dtype[Any]) -> Tensor:
    """0 with probability p, else 1 / (1 - p): what dropout multiplies with."""
    return ops.dropout(ops.ones(shape, dtype=dtype), p)


def bernoulli(shape: tuple[int, ...], p: float, dtype: np.dtype[Any]) -> Tensor:
    """1 with probability p, else 0."""
    return ops.equal(dropout_mask(shape, p, dtype), 0.0).astype(dtype)
