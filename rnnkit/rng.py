"""The one random generator of the library.

Initialisation, dropout, shuffling and sampling all draw from it, so that one seed fixes a run.
"""

from __future__ import annotations

import operator
from typing import TYPE_CHECKING, Any

import numpy as np

from rnnkit.errors import ArgumentError

if TYPE_CHECKING:
    from numpy.random import Generator

_generator: Generator | None = None


def generator() -> Generator:
    """The library's generator (PCG64), seeded from the operating system until `manual_seed`."""
    global _generator
    if _generator is None:
        # Reached by attribute: NumPy loads its random package only at the first use.
        _generator = np.random.Generator(np.random.PCG64())
    return _generator


def manual_seed(seed: int) -> Generator:
    """Seed the library's generator and return it.

    The generator object itself is kept, so that code which already holds it sees the new seed.

    Raises:
        ArgumentError: `seed` is not a non-negative integer.
    """
    try:
        number = operator.index(seed)
    except TypeError:
        raise ArgumentError(f"seed: expected an integer, got {type(seed).__name__}") from None
    if number < 0:
        raise ArgumentError(f"seed: expected a non-negative integer, got {number}")
    current = generator()
    current.bit_generator.state = np.random.PCG64(number).state
    return current


def get_state() -> dict[str, Any]:
    """The generator's state as a dict of strings and integers, ready for JSON."""
    state = generator().bit_generator.state
    return {**state, "state": dict(state["state"])}


def set_state(state: dict[str, Any]) -> None:
    """Restore a state that `get_state` returned.

    Raises:
        ArgumentError: `state` is not such a dict.
    """
    # NumPy cuts off fractions, or turns negative numbers round with a warning, and takes over half
    # of a state before it finds the other half wrong.
    scratch: Any = np.random.PCG64(0)
    try:
        if min(state["state"].values()) < 0:
            raise ValueError("a negative number")
        scratch.state = state
        if scratch.state != state or state["has_uint32"] not in (0, 1):
            raise ValueError("numbers that no state has")
        generator().bit_generator.state = scratch.state
    except (AttributeError, TypeError, ValueError, KeyError, OverflowError) as error:
        raise ArgumentError(f"state: expected a dict from get_state(), got {error}") from error
