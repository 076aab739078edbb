"""Batches of sequences of many lengths, those of like length together."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import Any

import numpy as np

from rnnkit.checks import check_bool, check_integer, check_list, check_size
from rnnkit.data.batches import (
    PositionedBatches,
    SequenceBatch,
    epoch_generator,
)
from rnnkit.errors import ArgumentError, DTypeError, ShapeError

IGNORED = -100  # the ``ignore_index`` of the losses: what stands past the end of classes per step

# How far, relative to its length, a sequence may stray from its place among its like: enough to
# give it other neighbours in every epoch, too little to cost much padding.
_NOISE = 0.1


class RaggedBatches(PositionedBatches[SequenceBatch]):
    """Padded batches of sequences, every sequence exactly once an epoch.

    With ``shuffle``, each epoch deals the sequences to pools of ``pool`` batches at random; with
    ``bucket`` those of a pool are sorted by length, roughly, before they are cut into batches, and
    the batches are shuffled. What does not fill a batch is a random few that come last. Without
    ``shuffle`` all epochs are alike: in the order of length with ``bucket``, of the data else.

    ``epoch()`` goes through the sequences unshuffled: in the order of length with ``bucket`` (the
    batch's ``rows`` say which they are), in that of the data else.
    """

    def __init__(
        self,
        sequences: Sequence[Any],
        targets: Any = None,
        *,
        batch_size: int,
        aligned: bool = True,
        seed: int = 0,
        shuffle: bool = True,
        bucket: bool = True,
        pool: int = 32,
        padding: float = 0,
        target_padding: float | None = None,
    ) -> None:
        """Nothing is copied here; batches are made when they are asked for.

        Args:
            sequences: arrays (L_i, ...), all of integers (ids, given as int64) or all floating
                (features, given in their common dtype), alike in all axes but the first.
            targets: None; or an array (R, ...) or a list of R numbers, one for each sequence; or a
                list of R arrays (L_i, ...), one entry for each step; or, when not ``aligned``, a
                list of R arrays (S_i, ...) with lengths of their own, zero allowed.
            batch_size: N, the most sequences in a batch.
            aligned: whether targets that are sequences have an entry for each step of the input.
            seed: decides every epoch's order.
            pool: how many batches are sorted together: more pads less, fewer mixes better.
            padding: what stands past the end of an input.
            target_padding: the same for targets that are sequences; by default -100, the losses'
                ``ignore_index``, for integers that are aligned, else 0.

        Raises:
            ArgumentError: no sequences, an empty one, targets of other counts or lengths, integers
                that int64 does not hold, a padding of integers that is none, or an option that is
                out of range.
            ShapeError: sequences or targets that differ in other axes than the first.
            DTypeError: sequences or targets that are no numbers, or integers mixed with others.
        """
        sequences = check_list("sequences", sequences, "several sequences")
        self.inputs = _Padded("sequences", sequences, padding)
        self.inputs.check_padding("padding")
        self.lengths = self.inputs.lengths
        if not len(self.lengths):
            raise ArgumentError("sequences: expected at least one, got none")
        if not self.lengths.all():
            raise ArgumentError(f"sequences[{int(self.lengths.argmin())}]: no steps in it")
        self.targets = self._check_targets(targets, aligned, target_padding)
        self.aligned = check_bool("aligned", aligned)
        self.batch_size = check_size("batch_size", batch_size)
        self.pool = check_size("pool", pool)
        self.seed = check_integer("seed", seed, 0)
        self.shuffle = check_bool("shuffle", shuffle)
        self.bucket = check_bool("bucket", bucket)
        self.batches_per_epoch = -(-len(self.lengths) // batch_size)
        self._in_order = self._cut(
            np.argsort(self.lengths, kind="stable") if bucket else np.arange(len(self.lengths))
        )
        self._newest: tuple[int, list[np.ndarray]] = (-1, [])

    def __len__(self) -> int:
        """How many sequences there are."""
        return len(self.lengths)

    def __repr__(self) -> str:
        return (
            f"RaggedBatches({len(self)} sequences of {self.lengths.min()} to "
            f"{self.lengths.max()} steps, {self.batches_per_epoch} batches of "
            f"{self.batch_size}, {self.padding_share():.1%} padding)"
        )

    def batch(self, position: int) -> SequenceBatch:
        """The batch at ``position``. Raises ArgumentError when it is negative."""
        epoch, index = self._place(position)
        return self._make(position, index, self._order(epoch)[index])

    def epoch(self) -> Iterator[SequenceBatch]:
        """Every sequence once, unshuffled; see the class for the order."""
        for index, rows in enumerate(self._in_order):
            yield self._make(index, index, rows)

    def padding_share(self, epoch: int = 0) -> float:
        """The share of the steps of that epoch's batches which are padding, from 0 to 1.

        Raises ArgumentError when it is negative.
        """
        batches = self._order(check_integer("epoch", epoch, 0))
        steps = sum(len(rows) * int(self.lengths[rows].max()) for rows in batches)
        return 1.0 - int(self.lengths.sum()) / steps

    def _order(self, epoch: int) -> list[np.ndarray]:
        """The rows of every batch of an epoch."""
        if not self.shuffle:
            return self._in_order
        known, batches = self._newest
        if known != epoch:
            batches = self._shuffled(epoch)
            self._newest = (epoch, batches)
        return batches

    def _shuffled(self, epoch: int) -> list[np.ndarray]:
        random = epoch_generator(self.seed, epoch)
        rows = random.permutation(len(self))
        if not self.bucket:
            return self._cut(rows)
        full = len(rows) // self.batch_size * self.batch_size
        keys = self.lengths[rows] * random.uniform(1 - _NOISE, 1 + _NOISE, len(rows))
        batches = []
        for begin in range(0, full, self.pool * self.batch_size):
            end = min(begin + self.pool * self.batch_size, full)
            batches += self._cut(rows[begin:end][np.argsort(keys[begin:end], kind="stable")])
        mixed = [batches[place] for place in random.permutation(len(batches))]
        return mixed + self._cut(rows[full:])

    def _cut(self, rows: np.ndarray) -> list[np.ndarray]:
        return [rows[k : k + self.batch_size] for k in range(0, len(rows), self.batch_size)]

    def _make(self, position: int, index: int, rows: np.ndarray) -> SequenceBatch:
        targets, target_lengths = self.targets, None
        if isinstance(targets, _Padded):
            target_lengths = targets.lengths[rows]
            targets = targets.pad(rows)
        elif targets is not None:
            targets = targets[rows]
        inputs, lengths = self.inputs.pad(rows), self.lengths[rows]
        return SequenceBatch(
            position, index == 0, inputs, lengths, targets, target_lengths, rows.astype(np.int64)
        )

    def _check_targets(self, targets: Any, aligned: bool, padding: float | None) -> Any:
        if targets is None:
            return None
        if not isinstance(targets, np.ndarray) or not targets.ndim:
            targets = check_list("targets", targets, "one for each sequence")
        if len(targets) != len(self.lengths):
            raise ArgumentError(
                f"targets: expected {len(self.lengths)}, one for each sequence, got {len(targets)}"
            )
        if isinstance(targets, np.ndarray) or not _as_array("targets", 0, targets[0]).ndim:
            return _one_dtype("targets", _alike("targets", targets))
        padded = _Padded("targets", targets, 0)
        whole = padded.dtype.kind == "i"
        padded.padding = padding if padding is not None else IGNORED if whole and aligned else 0
        padded.check_padding("target_padding")
        wrong = np.flatnonzero(aligned & (padded.lengths != self.lengths))
        if len(wrong):
            row = int(wrong[0])
            raise ArgumentError(
                f"targets[{row}]: expected {self.lengths[row]} entries, one for each step, got "
                f"{padded.lengths[row]}; targets with lengths of their own need aligned=False"
            )
        return padded


class _Padded:
    """Arrays (L_i, ...) that go into one of (max L, N, ...)."""

    def __init__(self, name: str, sequences: Sequence[Any], padding: float) -> None:
        self.padding = padding
        self.each = [_as_array(name, row, sequence) for row, sequence in enumerate(sequences)]
        self.features: tuple[int, ...] = self.each[0].shape[1:] if self.each else ()
        for row, array in enumerate(self.each):
            if not array.ndim:
                raise ShapeError(f"{name}[{row}]: expected an array (steps, ...), got one number")
            if array.shape[1:] != self.features:
                raise ShapeError(
                    f"{name}[{row}]: expected (steps, *{self.features}) as {name}[0], "
                    f"got {array.shape}"
                )
            _check_range(f"{name}[{row}]", array)
        self.lengths = np.array([len(array) for array in self.each], np.int64)
        # An empty list is of floats to NumPy, whatever the others are of.
        dtypes = {array.dtype for array in self.each if array.size}
        for dtype in dtypes:
            if dtype.kind not in "iuf":
                raise DTypeError(f"{name}: expected integers or floating numbers, got {dtype}")
        if len({dtype.kind == "f" for dtype in dtypes}) > 1:
            names = ", ".join(sorted(map(str, dtypes)))
            raise DTypeError(f"{name}: expected all integers or all floating, got {names}")
        # Not the common type of integers: that of uint64 and int64 is a floating one.
        floating = any(dtype.kind == "f" for dtype in dtypes)
        self.dtype = np.result_type(*dtypes) if floating else np.dtype(np.int64)

    def check_padding(self, name: str) -> None:
        """Raise ArgumentError for what would become another number among the sequences."""
        if not isinstance(self.padding, int | float | np.number):
            raise ArgumentError(f"{name}: expected a number, got {self.padding!r}")
        whole = self.dtype.kind == "i"
        if whole and not (self.padding == self.padding // 1 and -(2**63) <= self.padding < 2**63):
            raise ArgumentError(f"{name}: expected an integer, as all are, got {self.padding!r}")
        most = 0.0 if whole else float(np.finfo(self.dtype).max)  # type: ignore[type-var]
        if not whole and most < abs(self.padding) != np.inf:
            raise ArgumentError(f"{name}: expected what {self.dtype} holds, got {self.padding!r}")

    def pad(self, rows: np.ndarray) -> np.ndarray:
        shape = (int(self.lengths[rows].max()), len(rows), *self.features)
        padded = np.full(shape, self.padding, self.dtype)
        for column, row in enumerate(rows):
            padded[: self.lengths[row], column] = self.each[row]
        return padded


def _as_array(name: str, row: int, sequence: Any) -> np.ndarray:
    try:
        return np.asarray(sequence)
    except ValueError:
        raise ShapeError(f"{name}[{row}]: its steps differ in shape") from None


def _alike(name: str, numbers: Any) -> np.ndarray:
    try:
        return np.asarray(numbers)
    except ValueError:
        raise ShapeError(f"{name}: expected all alike, one for each sequence") from None


def _one_dtype(name: str, array: np.ndarray) -> np.ndarray:
    if array.dtype.kind == "f":
        return array
    if array.dtype.kind not in "iu":
        raise DTypeError(f"{name}: expected integers or floating numbers, got {array.dtype}")
    _check_range(name, array)
    return array.astype(np.int64)


def _check_range(name: str, array: np.ndarray) -> None:
    """Raise ArgumentError for integers that would become others as int64."""
    if array.dtype == np.uint64 and array.size and int(array.max()) >= 1 << 63:
        raise ArgumentError(f"{name}: expected integers that int64 holds, got {array.max()}")
