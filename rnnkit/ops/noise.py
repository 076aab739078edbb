"""Ops that draw from the library's random generator."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np

from rnnkit.autograd.tensor import wrap
from rnnkit.errors import ArgumentError
from rnnkit.ops.operands import real
from rnnkit.rng import generator

if TYPE_CHECKING:
    from rnnkit.autograd.tensor import Tensor


def dropout(x: Tensor, p: float = 0.5, training: bool = True) -> Tensor:
    """Zero each element with probability `p` and scale the others by 1 / (1 - p).

    The expected value stays that of `x`. Outside training, `x` itself is returned.
    Source: Srivastava et al., "Dropout", JMLR 15 (2014).

    Raises:
        ArgumentError: `p` is not in [0, 1].
    """
    if not 0.0 <= p <= 1.0:
        raise ArgumentError(f"dropout: p: expected a probability in [0, 1], got {p}")
    x = real("dropout", x)
    if not training or p == 0.0:
        return x
    # Drawn as float32 for both dtypes: one seed drops the same elements in either.
    kept = generator().random(x.shape, dtype=np.float32) >= p
    scale = 0.0 if p == 1.0 else 1.0 / (1.0 - p)
    return x * wrap(np.multiply(kept, np.asarray(scale, x.dtype), dtype=x.dtype))
