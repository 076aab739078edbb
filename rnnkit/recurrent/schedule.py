"""Batches as they are: rows of several lengths, and rows whose state restarts on the way."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np

from rnnkit import backend
from rnnkit.autograd.tensor import plain_array
from rnnkit.errors import ArgumentError, DTypeError, ShapeError

if TYPE_CHECKING:
    from rnnkit.autograd.tensor import Array


class Schedule:
    """Which rows of a batch take which step, and before which steps they restart.

    Attributes:
        lengths: int64 (N,), or None where every row has all T steps.
        reset: bool (T, N), contiguous, True where a new sequence begins; None: nowhere.
        steps: of the longest row.
    """

    def __init__(self, T: int, N: int, lengths: Array | None, reset: Array | None) -> None:
        self.T = T
        self.N = N
        self.lengths = lengths
        self.reset = reset
        # Quicker than NumPy's, for batches of common size.
        self.steps = T if lengths is None else max(lengths.tolist(), default=0)
        self._native: Any = None

    @property
    def native(self) -> Any:
        """The same as the kernels take it."""
        if self._native is None:
            extension = backend.native()
            assert extension is not None
            self._native = extension.Schedule(self.T, self.N, self.lengths, self.reset)
        return self._native

    def empty(
        self, shape: tuple[int, int, int], dtype: np.dtype[Any], batch_first: bool
    ) -> Array:
        """Room for (T, N, width), or (N, T, width), with zeros where no row reaches."""
        array = np.empty(shape, dtype)
        if self.lengths is not None and array.size:
            self.native.clear_padding(array, batch_first)
        return array

    @property
    def describes(self) -> str:
        """For the text that says which path ran."""
        return " lengths" * (self.lengths is not None) + " reset" * (self.reset is not None)

    def active(self, t: int) -> Array | None:
        """bool (N, 1): rows that have step t; None: all."""
        if self.lengths is None:
            return None
        rows = t < self.lengths
        return None if rows.all() else rows[:, None]

    def restarts(self, t: int, reverse: bool) -> Array | None:
        """bool (N, 1): rows whose state restarts before step t is taken; None: none of them.

        A row that begins a sequence at t restarts before step t in the forward direction and, since
        the reverse direction comes from later steps, before step t - 1 in that one.
        """
        if self.reset is None:
            return None
        if reverse:
            t += 1
            if t == self.T:
                return None
        rows = self.reset[t]
        if self.lengths is not None:
            rows = rows & (t < self.lengths)  # what is past the end is no sequence
        return rows[:, None] if rows.any() else None


def make_schedule(
    T: int, N: int, lengths: Any, reset: Any, batch_first: bool, single: bool = False
) -> Schedule | None:
    """The schedule that a caller asks for; None where every row simply takes all T steps.

    Args:
        T, N: steps and rows of x.
        lengths: (N,) integers from 0 to T: an array, a Tensor or a sequence; None: all T.
        reset: (T, N) booleans, or (N, T) with ``batch_first``; None: nowhere.
        batch_first: which of the two.
        single: whether x is one sequence without a batch: lengths may be a number, reset is (T,).

    Raises:
        ShapeError: another shape.
        DTypeError: lengths that are not integers, or a reset that is not bool.
        ArgumentError: a length out of range.
    """
    if lengths is None and reset is None:
        return None
    if single and lengths is not None:
        lengths = np.atleast_1d(plain_array("lengths", lengths))
    checked = None if lengths is None else check_lengths(lengths, T, N)
    return Schedule(T, N, checked, _check_reset(reset, T, N, batch_first, single))


def check_lengths(
    lengths: Any,
    T: int,
    N: int,
    smallest: int = 0,
    name: str = "lengths",
    of: str = "the steps of x",
) -> Array:
    """The steps of each row as int64 (N,), each from ``smallest`` to T; raises as above.

    ``name`` is that of the argument, and ``of`` says what T is.
    """
    array = plain_array(name, lengths)
    if array.dtype.kind not in "iu" and array.size:
        raise DTypeError(f"{name}: expected integers, got {array.dtype}")
    if array.shape != (N,):
        raise ShapeError(f"{name}: expected shape {(N,)}, one for each row, got {array.shape}")
    steps = array.tolist()  # of a batch of common size quicker than arrays of truth
    if steps and not smallest <= min(steps) <= max(steps) <= T:
        wrong = next(each for each in steps if not smallest <= each <= T)
        raise ArgumentError(f"{name}: expected from {smallest} to {T}, {of}, got {wrong}")
    return array.astype(np.int64)


def _check_reset(
    reset: Any, T: int, N: int, batch_first: bool, single: bool
) -> Array | None:
    if reset is None:
        return None
    array = plain_array("reset", reset)
    if array.dtype != np.bool_:
        raise DTypeError(f"reset: expected bool, got {array.dtype}")
    shape: tuple[int, ...]
    if single:
        shape, axes = (T,), "(T,)"
    else:
        shape, axes = ((N, T), "(N, T)") if batch_first else ((T, N), "(T, N)")
    if array.shape != shape:
        raise ShapeError(f"reset: expected shape {axes} = {shape}, got {array.shape}")
    if single:
        return np.array(array[:, None])
    return np.array(array.T if batch_first else array, order="C")
