"""Where the rows of a run's steps stand: in arrays laid out as x, and one after the other."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

import numpy as np

from rnnkit.backend._native import new_arrays, rows

if TYPE_CHECKING:
    from rnnkit.autograd.tensor import Array
    from rnnkit.recurrent.options import Options

    Placed = tuple[Array, str]
    """An array and its layout, as the native side takes them."""


class Steps:
    """The steps of one direction over one batch, in the direction's own order.

    *Rows* are those of all steps, or of some, one step after the other; where the batch is ragged a
    step has only the rows that reach it, the longest first.

    Attributes:
        T, N: of x.
        count: steps of the longest row.
        lengths: of the rows; None where all have T.
        layout: of x.
    """

    def __init__(self, x: Array, options: Options, reverse: bool) -> None:
        self.batch_first = options.batch_first
        self.reverse = reverse
        self.layout = "batch_first" if options.batch_first else "time_first"
        self.T, self.N = x.shape[1::-1] if options.batch_first else x.shape[:2]
        self.dtype = x.dtype
        self.count = self.T
        self.lengths: Array | None = None
        self._schedule = schedule = options.schedule
        if schedule is not None:
            self.count = schedule.steps
            lengths = schedule.lengths
            # Lengths that are all T are none.
            if lengths is not None and int(lengths.min()) < self.T:
                self.lengths = lengths
                self._places, self._before = places_of_rows(
                    lengths, self.T, self.batch_first, reverse
                )

    def before(self, step: int) -> int:
        """How many rows the steps before one have."""
        return step * self.N if self.lengths is None else self._before[step]

    def rows_of(self, first: int, last: int) -> int:
        """How many rows the steps from ``first`` to ``last - 1`` have."""
        return self.before(last) - self.before(first)

    def empty(self, width: int) -> Array:
        """For what has so many features at every step, laid out as x; zero past a row's end."""
        shape = (self.N, self.T, width) if self.batch_first else (self.T, self.N, width)
        if self._schedule is None:
            return new_arrays((shape,), self.dtype)[0]
        return self._schedule.empty(shape, self.dtype, self.batch_first)

    def _times(self, first: int, last: int) -> slice:
        return slice(self.count - last, self.count - first) if self.reverse else slice(first, last)

    def _part(self, array: Array, first: int, last: int) -> Array:
        if last - first == self.T:
            return array
        times = self._times(first, last)
        return array[:, times] if self.batch_first else array[times]

    def rows(self, array: Array, first: int, last: int) -> Array:
        """The rows of some steps of what is laid out as x."""
        if self.lengths is not None:
            places = self._places[self.before(first) : self.before(last)]
            return array.reshape(self.T * self.N, *array.shape[2:])[places]
        part = self._part(array, first, last)
        return np.ascontiguousarray(part).reshape(-1, *array.shape[2:])

    def add_rows(self, total: Array, first: int, last: int, rows: Array) -> None:
        """The inverse, for gradients: no row comes twice."""
        if self.lengths is not None:
            places = self._places[self.before(first) : self.before(last)]
            total.reshape(self.T * self.N, *total.shape[2:])[places] += rows
            return
        part = self._part(total, first, last)
        part += rows.reshape(part.shape)

    def placed(self, rows: Array, first: int, last: int) -> Placed:
        """Rows of some steps as the native side takes them."""
        if self.lengths is not None:
            return rows.reshape(len(rows), -1), "packed"
        shape = (self.N, last - first) if self.batch_first else (last - first, self.N)
        return rows.reshape(*shape, -1), f"local_{self.layout}"

    def joined(self, parts: Sequence[Array], counts: Sequence[int]) -> Array:
        """The rows of several runs of so many steps, as those of one."""
        if len(parts) == 1:
            return parts[0]
        if self.lengths is not None:
            return np.concatenate(parts)
        arrays = []
        for part, steps in zip(parts, counts, strict=True):
            shape = (self.N, steps, -1) if self.batch_first else (steps, self.N, -1)
            arrays.append(part.reshape(shape))
        if self.reverse:
            arrays.reverse()
        whole = np.concatenate(arrays, axis=1 if self.batch_first else 0)
        return whole.reshape(sum(counts) * self.N, -1)

    def some_of(
        self, placed: Placed, first: int, last: int, within: tuple[int, int]
    ) -> Array:
        """The rows of some steps, of what is ``placed`` for the steps ``within``."""
        array, layout = placed
        if (first, last) == within:
            return array.reshape(-1, array.shape[-1])
        if layout == "packed":
            start = self.before(within[0])
            return array[self.before(first) - start : self.before(last) - start]
        start, end = first - within[0], last - within[0]
        if self.reverse:
            start, end = within[1] - last, within[1] - first
        part = array[:, start:end] if self.batch_first else array[start:end]
        return np.ascontiguousarray(part).reshape(-1, array.shape[-1])


def places_of_rows(
    lengths: Array, T: int, batch_first: bool, reverse: bool
) -> tuple[Array, list[int]]:
    """Where the rows of all steps stand, in the order of a ragged run (rk_schedule).

    That is step by step in the direction's own order, the longest rows first. With it, how many
    rows come before each step, and in all.
    """
    N = len(lengths)
    order = np.argsort(-lengths, kind="stable")
    sorted_lengths = lengths[order]
    steps = int(sorted_lengths[0])
    active = np.searchsorted(-sorted_lengths, -np.arange(steps), side="left")
    before = np.concatenate([[0], np.cumsum(active)])
    t = np.repeat(np.arange(steps), active)
    n = np.arange(before[-1]) - before[t]
    time = sorted_lengths[n] - 1 - t if reverse else t
    row = order[n]
    return row * T + time if batch_first else time * N + row, before.tolist()


def placed_drawn(array: Array, dtype: Any) -> Placed:
    """What a run draws, (T or 1, N, ...), as the native side takes it."""
    layout = "shared" if array.shape[0] == 1 else "time_first"
    return rows(np.asarray(array, dtype).reshape(*array.shape[:2], -1)), layout
