"""How fast a gradient falls or grows on its way back through time.

Bengio, Simard and Frasconi, "Learning long-term dependencies with gradient descent is difficult",
1994; Hochreiter 1991 and Pascanu, Mikolov and Bengio 2013, arXiv 1211.5063, section 2: the norm of
what flows back is bounded by a power of the number of steps, so that its logarithm is a straight
line where one factor rules.
"""

from __future__ import annotations

import math
from typing import TYPE_CHECKING

import numpy as np

if TYPE_CHECKING:
    from rnnkit.autograd.tensor import Array


def norms_of_rows(array: Array) -> Array:
    """Euclidean norms (T, N) of an array (T, N, ...), as float64; their squares may underflow."""
    flat = np.abs(array.reshape(*array.shape[:2], math.prod(array.shape[2:])).astype(np.float64))
    with np.errstate(invalid="ignore", over="ignore"):
        largest = flat.max(axis=2, initial=0.0)
        scale = np.where((largest > 0) & np.isfinite(largest), largest, 1.0)
        norms: Array = scale * np.sqrt(((flat / scale[..., None]) ** 2).sum(axis=2))
    return norms


def factor_per_step(norms: Array, sequences: Array, reverse: bool) -> float:
    """The factor by which norms change at each step back, fitted by least squares on logarithms.

    One slope is fitted to all sequences, each with an intercept of its own, so that neither lengths
    nor sizes of their gradients weigh in. Norms that are zero or not finite are left out.

    Args:
        norms: (T, N).
        sequences: (T, N) integers that tell apart sequences, -1 where there is none.
        reverse: whether the layer runs from the last step to the first, so that its gradient
            flows towards later steps.

    Returns:
        The factor; 0 where the gradient is gone after a single step everywhere; NaN where there is
        nothing to compare.
    """
    T = len(norms)
    used = (sequences >= 0) & (norms > 0) & np.isfinite(norms)
    if not used.any():
        return math.nan
    order = np.broadcast_to(np.arange(T)[:, None], norms.shape)  # in which the steps are taken
    order = T - 1 - order if reverse else order
    which, group = np.unique(sequences[used], return_inverse=True)
    step, log = order[used].astype(np.float64), np.log(norms[used])
    count = np.bincount(group)
    step = step - (np.bincount(group, step) / count)[group]
    log = log - (np.bincount(group, log) / count)[group]
    spread = float(step @ step)
    if spread > 0:
        return math.exp(min(-float(step @ log) / spread, 700.0))
    # One step of a sequence has a gradient: is there one before it, to which nothing came?
    first = np.full(which[-1] + 1, T)
    np.minimum.at(first, sequences[used], order[used])
    has_any = np.isin(sequences, which)
    before = order < first[np.where(has_any, sequences, which[0])]
    return 0.0 if (has_any & before & (norms == 0)).any() else math.nan


def memory_length(factor: float, fraction: float) -> float:
    """Steps back after which ``fraction`` of a gradient is left that changes by ``factor`` a step.

    ln(fraction) / ln(factor): for 1/e the time constant of the decay. Infinite where nothing is
    lost, 0 where all is lost at once.
    """
    if math.isnan(factor):
        return math.nan
    if factor >= 1:
        return math.inf
    return math.log(fraction) / math.log(factor) if factor > 0 else 0.0
