"""The length of a step along a direction: a line search for the strong Wolfe conditions.

Nocedal and Wright 2006, "Numerical Optimization", algorithms 3.5 and 3.6 and equation 3.59. With
f(t) the loss after a step of length t, a t is wanted with

    f(t) <= f(0) + c1 t f'(0)   and   |f'(t)| <= c2 |f'(0)|.

What the algorithms leave open is as in minFunc (Schmidt 2005) and PyTorch: how far a step may grow
from one to the next, and that a minimum close to an end of the bracket is believed only once.
"""

from __future__ import annotations

import math
from typing import TYPE_CHECKING, Any, NamedTuple

import numpy as np

if TYPE_CHECKING:
    from collections.abc import Callable

C1, C2 = 1e-4, 0.9
MOST_EVALUATIONS = 25


class Point(NamedTuple):
    """A place on the line.

    Attributes:
        t: the length of the step to it.
        loss: f(t).
        slope: f'(t).
        gradient: (n,) of the loss, there.
    """

    t: float
    loss: float
    slope: float
    gradient: np.ndarray[Any, np.dtype[Any]]


def strong_wolfe(
    evaluate: Callable[[float], Point],
    start: Point,
    t: float,
    tolerance: float,
    most: int = MOST_EVALUATIONS,
) -> Point:
    """A point that fulfils both conditions, or the best that was found on the way.

    Args:
        evaluate: goes to a length.
        start: the point of length 0, whose slope is negative.
        t: the length that is tried first.
        tolerance: a bracket that is not wider is searched no further.
        most: how often evaluate may be called, at least once.

    A loss that is not finite counts as too high.
    """

    def is_too_high(point: Point) -> bool:
        return not point.loss <= start.loss + C1 * point.t * start.slope

    def is_flat(point: Point) -> bool:
        return abs(point.slope) <= -C2 * start.slope

    # Algorithm 3.5: longer steps, until a minimum lies between the last two.
    previous, point = start, evaluate(t)
    calls = 1
    while True:
        if is_too_high(point) or (calls > 1 and point.loss >= previous.loss):
            low, high = previous, point
            break
        if is_flat(point):
            return point
        if point.slope >= 0:
            low, high = point, previous
            break
        if calls >= most:
            return point
        farther = point.t + 0.01 * (point.t - previous.t)
        t = cubic_minimum(previous, point, farther, 10 * point.t)
        previous, point = point, evaluate(t)
        calls += 1

    # Algorithm 3.6: low is the best point that is not too high, and the slope there falls towards
    # high.
    doubted = False
    while calls < most and abs(high.t - low.t) > tolerance:
        left, right = sorted((low.t, high.t))
        t = cubic_minimum(low, high, left, right)
        margin = 0.1 * (right - left)
        near_an_end = min(right - t, t - left) < margin
        if near_an_end and (doubted or t in (left, right)):
            t = right - margin if right - t < t - left else left + margin
            near_an_end = False
        doubted = near_an_end
        point = evaluate(t)
        calls += 1
        if is_too_high(point) or point.loss >= low.loss:
            high = point
            continue
        if is_flat(point):
            return point
        if point.slope * (high.t - low.t) >= 0:
            high = low
        low = point
    return low


def cubic_minimum(a: Point, b: Point, least: float, most: float) -> float:
    """Where the cubic with these losses and slopes is lowest, within bounds; else their middle."""
    if b.t < a.t:
        a, b = b, a
    middle = (least + most) / 2
    d1 = a.slope + b.slope - 3 * (a.loss - b.loss) / (a.t - b.t)
    square = d1 * d1 - a.slope * b.slope
    if not 0 <= square < math.inf:
        return middle
    d2 = math.sqrt(square)
    rise = b.slope - a.slope + 2 * d2
    if rise == 0:
        return middle
    t = b.t - (b.t - a.t) * (b.slope + d2 - d1) / rise
    return min(max(t, least), most)
