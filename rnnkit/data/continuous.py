"""Batches for truncated backpropagation through time with carried state.

A text of L ids has L - 1 (character, next character) pairs. They are dealt to N streams of equal
length, each a contiguous stretch of the text:

    stream 0   a b c d e | f g h i j | ...       row 0 of window 0, of window 1, ...
    stream 1   p q r s t | u v w x y | ...       row 1 of window 0, of window 1, ...

A window is the same stretch of time of all streams. Because row n of a window goes on where row n
of the window before it stopped, the final state of one is the initial state of the next.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import NamedTuple

import numpy as np

from rnnkit.checks import check_size
from rnnkit.data.batches import PositionedBatches
from rnnkit.errors import ArgumentError


class Window(NamedTuple):
    """One step of training: T characters of N streams and the characters that follow them.

    Attributes:
        position: its place in the endless sequence of windows.
        starts_epoch: whether the streams begin anew: the carried state must not be used.
        inputs: (T, N) int64.
        targets: (T, N) int64; targets[t] is inputs[t + 1].
    """

    position: int
    starts_epoch: bool
    inputs: np.ndarray
    targets: np.ndarray


class ContinuousBatches(PositionedBatches[Window]):
    """The endless sequence of windows over a text, epoch after epoch.

    The windows of an epoch differ in length by at most one, so none is a short leftover; the
    fewer than N pairs that do not fill all streams are left out at the end of the text in the
    first epoch, and each following epoch begins one character later, so that in turn every
    character is used.
    """

    def __init__(self, ids: np.ndarray, streams: int, length: int) -> None:
        """``ids``: the text, a 1-D integer array, memory-mapped ones read as they are used;
        ``streams``: N; ``length``: the longest T.

        Raises ArgumentError for ids that are no such array, when a size is not positive, or when
        the text holds no more characters than there are streams.
        """
        if not isinstance(ids, np.ndarray):
            raise ArgumentError(f"ids: expected a 1-D integer array, got {type(ids).__name__}")
        if ids.ndim != 1 or ids.dtype.kind not in "iu":
            raise ArgumentError(
                f"ids: expected a 1-D integer array, got {ids.ndim}-D of {ids.dtype}"
            )
        self.ids = ids
        self.streams = check_size("streams", streams)
        self.length = check_size("length", length)
        self.stream_length = (len(ids) - 1) // streams
        if self.stream_length < 1:
            raise ArgumentError(
                f"ids: expected at least {streams + 1} characters for {streams} streams, "
                f"got {len(ids)}"
            )
        self._spare = (len(ids) - 1) % streams
        self.batches_per_epoch = -(-self.stream_length // length)

    def __repr__(self) -> str:
        return (
            f"ContinuousBatches({len(self.ids)} characters, {self.streams} streams, "
            f"{self.batches_per_epoch} windows of up to {self.length})"
        )

    def batch(self, position: int) -> Window:
        """The window at ``position`` = epoch * batches_per_epoch + window of the epoch."""
        epoch, index = self._place(position)
        begin = index * self.stream_length // self.batches_per_epoch
        end = (index + 1) * self.stream_length // self.batches_per_epoch
        offset = epoch % (self._spare + 1)
        return Window(
            position,
            index == 0,
            self._streams_at(offset, begin, end),
            self._streams_at(offset + 1, begin, end),
        )

    def epoch(self) -> Iterator[Window]:
        """The windows of the first epoch: one pass over the text."""
        for position in range(self.batches_per_epoch):
            yield self.batch(position)

    def _streams_at(self, offset: int, begin: int, end: int) -> np.ndarray:
        stretch = self.ids[offset : offset + self.streams * self.stream_length]
        streams = stretch.reshape(self.streams, self.stream_length)
        return np.array(streams[:, begin:end].T, np.int64, order="C")
