"""The check of a number that every part of the library shares."""

from __future__ import annotations

import math
from typing import Any

import numpy as np

from rnnkit.errors import ArgumentError


def check_number(
    name: str,
    value: Any,
    low: float = 0.0,
    high: float = math.inf,
    *,
    above_low: bool = False,
    below_high: bool = False,
) -> None:
    """Raise ArgumentError unless low <= value <= high; NaN, bools and texts never pass.

    Args:
        above_low, below_high: whether that bound itself is left out.
    """
    try:
        fits = (value > low if above_low else value >= low) and (
            value < high if below_high else value <= high
        )
        fits = bool(fits) and not isinstance(value, bool | np.bool_)
    except (TypeError, ValueError):  # the latter of arrays of several numbers
        fits = False
    if not fits:
        lower = f"{'>' if above_low else '>='} {low:g}"
        upper = f" and {'<' if below_high else '<='} {high:g}"
        raise ArgumentError(
            f"{name}: expected a number {lower}{upper if below_high or high < math.inf else ''}, "
            f"got {value!r}"
        )
