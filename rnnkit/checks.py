"""The checks of arguments that every part of the library shares.

Each raises an ArgumentError that names the argument, what was expected and what came.
"""

from __future__ import annotations

import math
import sys
from collections.abc import Collection, Sequence
from typing import Any

import numpy as np

from rnnkit.errors import ArgumentError, ShapeError


def check_number(
    name: str,
    value: Any,
    low: float = 0.0,
    high: float = math.inf,
    *,
    above_low: bool = False,
    below_high: bool = False,
) -> None:
    """Raise ArgumentError unless low <= value <= high; NaN, bools, texts and lists never pass.

    Nor do integers beyond the range of floats, with which nothing could be computed.

    Args:
        above_low, below_high: whether that bound itself is left out.
    """
    try:
        fits = (value > low if above_low else value >= low) and (
            value < high if below_high else value <= high
        )
        # Nor does an array of one number, unless it has no axes: float() would not take it.
        no_number = isinstance(value, bool | np.bool_) or getattr(value, "shape", ()) != ()
        fits = bool(fits) and not no_number
        beyond = type(value) is int and abs(value) > sys.float_info.max
    except (TypeError, ValueError):  # the latter of arrays of several numbers
        fits = beyond = False
    if not fits or beyond:
        bounds = [" in the range of a float"] if beyond else []
        if above_low or low > -math.inf:
            bounds.append(f" {'>' if above_low else '>='} {low:g}")
        if below_high or high < math.inf:
            bounds.append(f" {'<' if below_high else '<='} {high:g}")
        raise ArgumentError(f"{name}: expected a number{' and'.join(bounds)}, got {value!r}")


def as_float(name: str, value: Any) -> float:
    """A number of any kind, a bool and a Tensor of one element among them, as a float; also NaN.

    Raises ArgumentError for what is none, such as a text.
    """
    try:
        return float("" if isinstance(value, str | bytes) else value)
    except (TypeError, ValueError, OverflowError):
        raise ArgumentError(f"{name}: expected a number, got {value!r}") from None


def check_integer(name: str, value: Any, low: int | None = None, high: int | None = None) -> int:
    """An integer (Python's or NumPy's, but not a bool) from `low` to `high`.

    Raises:
        ArgumentError: it is something else.
    """
    whole = isinstance(value, int | np.integer) and not isinstance(value, bool)
    if not whole or (low is not None and value < low) or (high is not None and value > high):
        wanted = "" if low is None else f" from {low} " + ("on" if high is None else f"to {high}")
        raise ArgumentError(f"{name}: expected an integer{wanted}, got {value!r}")
    return int(value)


def check_size(name: str, value: Any, most: int = sys.maxsize) -> int:
    """A positive integer (Python's or NumPy's, but not a bool) up to ``most``."""
    if not isinstance(value, (int, np.integer)) or isinstance(value, bool):
        raise ArgumentError(f"{name}: expected an int, got {value!r} ({type(value).__name__})")
    if value < 1:
        raise ArgumentError(f"{name}: expected at least 1, got {value}")
    if value > most:
        raise ArgumentError(f"{name}: expected at most {most}, got {value}")
    return int(value)


def check_probability(name: str, value: Any) -> float:
    """A number from 0 to 1."""
    number = isinstance(value, (int, float, np.floating)) and not isinstance(value, bool)
    if not number or not 0 <= value <= 1:
        raise ArgumentError(f"{name}: expected a probability from 0 to 1, got {value!r}")
    return float(value)


def check_finite(name: str, value: Any) -> None:
    """A number of either sign, neither infinite nor NaN."""
    try:
        check_number(name, value, -math.inf, above_low=True, below_high=True)
    except ArgumentError:
        raise ArgumentError(f"{name}: expected a finite number, got {value!r}") from None


def check_bool(name: str, value: Any) -> bool:
    """A bool, so that a text or a misplaced positional argument doesn't pass for one."""
    if value is True or value is False:
        return bool(value)
    if not isinstance(value, np.bool_):
        raise ArgumentError(f"{name}: expected a bool, got {value!r} ({type(value).__name__})")
    return bool(value)


def check_fits(name: str, count: float, bytes_of_one: int) -> None:
    """No more than an array can have, whatever memory there is."""
    most = sys.maxsize // max(1, bytes_of_one)
    if count > most:
        raise ArgumentError(f"{name}: expected at most {most}, got {count}")


def check_elements(name: str, shape: Sequence[int], bytes_of_one: int) -> None:
    """No more of them than an array can have, whatever memory there is; or ShapeError."""
    if not fits_an_array(shape, bytes_of_one):
        most = sys.maxsize // bytes_of_one
        raise ShapeError(f"{name}: expected at most {most} elements, got sizes {tuple(shape)}")


def fits_an_array(shape: Sequence[int], bytes_of_one: int) -> bool:
    """Whether NumPy has arrays of such sizes, whose count leaves out those of 0."""
    return math.prod([size for size in shape if size]) * bytes_of_one <= sys.maxsize


def check_choice(name: str, value: Any, choices: Collection[str]) -> None:
    """One of some words."""
    if not isinstance(value, str) or value not in choices:
        *most, last = [repr(choice) for choice in choices]
        raise ArgumentError(f"{name}: expected {', '.join(most)} or {last}, got {value!r}")


def check_list(name: str, values: Any, what: str) -> list[Any]:
    """All that can be iterated over, but for a text, as a list."""
    if isinstance(values, (list, tuple)):
        return list(values)
    try:
        each = None if isinstance(values, str | bytes) else iter(values)
    except TypeError:
        each = None
    if each is None:
        raise ArgumentError(f"{name}: expected {what}, got {values!r}")
    return list(each)


def check_callable(name: str, value: Any) -> None:
    """Something that can be called."""
    if not callable(value):
        raise ArgumentError(f"{name}: expected a function, got {value!r}")


def check_kind(name: str, value: Any, kind: type) -> None:
    """An object of a class."""
    if not isinstance(value, kind):
        article = "an" if kind.__name__[0] in "AEIOaeio" else "a"
        raise ArgumentError(f"{name}: expected {article} {kind.__name__}, got {value!r}")
