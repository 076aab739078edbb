"""How often a decoder in training reads its own prediction, as training goes on.

Bengio et al. 2015, "Scheduled sampling for sequence prediction with recurrent neural networks",
arXiv 1506.03099, section 2.4. The paper's epsilon is the probability of reading the true token;
each function gives p = 1 - epsilon after ``step`` updates, from 0 (teacher forcing) towards 1::

    p = scheduled_sampling.inverse_sigmoid(step, k=1000)
    loss = model.loss(source, target, source_lengths, target_lengths, sampling=p)
"""

from __future__ import annotations

import math

from rnnkit.checks import check_number
from rnnkit.errors import ArgumentError

__all__ = ["exponential", "inverse_sigmoid", "linear"]


def linear(step: float, slope: float, floor: float = 0.0, first: float = 1.0) -> float:
    """p = 1 - max(floor, first - slope step).

    Args:
        step: updates so far, from 0.
        slope: the paper's c, how much p grows with each.
        floor: the least epsilon, from 0 to ``first``.
        first: epsilon at the beginning, up to 1: the paper's k.

    Raises:
        ArgumentError: an argument out of range.
    """
    _check_step(step)
    check_number("slope", slope, below_high=True)
    check_number("first", first, high=1)
    check_number("floor", floor, high=1)
    if floor > first:
        raise ArgumentError(
            f"floor, first: expected 0 <= floor <= first <= 1, got {floor!r} and {first!r}"
        )
    return 1.0 - max(floor, first - slope * step)


def exponential(step: float, k: float) -> float:
    """p = 1 - k ** step.

    Args:
        step: updates so far, from 0.
        k: between 0 and 1.

    Raises:
        ArgumentError: an argument out of range.
    """
    _check_step(step)
    check_number("k", k, high=1, above_low=True, below_high=True)
    return -math.expm1(step * math.log(k))


def inverse_sigmoid(step: float, k: float) -> float:
    """p = 1 - k / (k + exp(step / k)).

    Args:
        step: updates so far, from 0.
        k: from 1; p is one half after k log k updates.

    Raises:
        ArgumentError: an argument out of range.
    """
    _check_step(step)
    check_number("k", k, 1, below_high=True)
    return 1.0 / (1.0 + k * math.exp(-float(step) / k))


def _check_step(step: float) -> None:
    check_number("step", step)
