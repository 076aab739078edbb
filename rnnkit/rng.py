"""The one random generator of the library.

Initialisation, dropout, shuffling and sampling all draw from it, so that one seed fixes a run.
"""

from __future__ import annotations

import functools
from _thread import _local, allocate_lock
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any

import numpy as np

from rnnkit.checks import check_integer
from rnnkit.errors import ArgumentError
from rnnkit.forks import release_after_fork

if TYPE_CHECKING:
    from numpy.random import Generator

_generator: Generator | None = None
_making = allocate_lock()
_thread = _local()  # generator: where the thread draws from instead
release_after_fork(_making)


def generator() -> Generator:
    """The library's generator (PCG64), seeded from the operating system until `manual_seed`.

    It is the same object at all times and in all threads, also inside `drawing_apart`.
    """
    global _generator
    if _generator is None:
        with _making:
            if _generator is None:
                _generator = _make_generator()
    return _generator


@contextmanager
def drawing_apart(state: dict[str, Any] | None = None) -> Iterator[None]:
    """Inside, what this thread draws from the library's generator comes from one of its own.

    That begins in ``state``, by default in the library's, and is what `get_state`, `set_state` and
    `manual_seed` are about; the library's own stays as it is, and other threads draw from it. It
    also holds for who has held on to the generator, or to a method of it, but not to its
    ``bit_generator``.

    Raises:
        ArgumentError: `state` is no dict from `get_state`.
    """
    own = np.random.Generator(np.random.PCG64(0))
    own.bit_generator.state = get_state() if state is None else _checked(state)
    before = getattr(_thread, "generator", None)
    _thread.generator = own
    try:
        yield
    finally:
        _thread.generator = before


def _make_generator() -> Generator:
    # A class made late: NumPy loads its random package only at the first use.
    base = np.random.Generator

    def of_thread(method: Callable[..., Any]) -> Callable[..., Any]:
        @functools.wraps(method)
        def draw(self: Generator, *args: Any, **kwargs: Any) -> Any:
            return method(getattr(_thread, "generator", None) or self, *args, **kwargs)

        return draw

    members: dict[str, Any] = {
        name: of_thread(member)
        for name, member in vars(base).items()
        if callable(member) and not name.startswith("_")
    }

    @functools.wraps(base.spawn)
    def spawn(self: Generator, n_children: int) -> list[Generator]:
        # NumPy's would come from a seed that `manual_seed` and `set_state` leave as it is.
        seeds = self.integers(0, 2**32, (n_children, 4)).tolist()
        return [base(np.random.PCG64(seed)) for seed in seeds]

    members["spawn"] = spawn
    members["bit_generator"] = property(of_thread(vars(base)["bit_generator"].__get__))
    bits: Any = np.random.PCG64()
    release_after_fork(bits.lock)  # held by who draws
    return type("LibraryGenerator", (base,), members)(bits)


def given_or_own(rng: Generator | None) -> Generator:
    """`rng`, or for None the library's generator.

    Raises:
        ArgumentError: `rng` is no generator; a seed, for example.
    """
    if rng is not None and not hasattr(rng, "random"):
        raise ArgumentError(f"rng: expected a numpy.random.Generator or None, got {rng!r}")
    return generator() if rng is None else rng


def manual_seed(seed: int) -> Generator:
    """Seed the library's generator and return it.

    The generator object itself is kept, so that code which already holds it sees the new seed.

    Raises:
        ArgumentError: `seed` is not a non-negative integer.
    """
    number = check_integer("seed", seed, 0)
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
    generator().bit_generator.state = _checked(state)


def far_from(state: dict[str, Any], times: int) -> dict[str, Any]:
    """A state from `get_state` so many jumps further, of which each is more than anybody draws."""
    bits: Any = np.random.PCG64(0)
    bits.state = _checked(state)
    return dict(bits.jumped(times).state)


def _checked(state: dict[str, Any]) -> dict[str, Any]:
    # NumPy cuts off fractions, or turns negative numbers round with a warning, and takes over half
    # of a state before it finds the other half wrong.
    scratch: Any = np.random.PCG64(0)
    try:
        if min(state["state"].values()) < 0:
            raise ValueError("a negative number")
        scratch.state = state
        if scratch.state != state or state["has_uint32"] not in (0, 1):
            raise ValueError("numbers that no state has")
        return dict(scratch.state)
    except (AttributeError, TypeError, ValueError, KeyError, OverflowError) as error:
        raise ArgumentError(f"state: expected a dict from get_state(), got {error}") from error
