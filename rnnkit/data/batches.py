"""What every source of batches is: a pure function of position.

Position p is batch ``p % batches_per_epoch`` of epoch ``p // batches_per_epoch``, without end. A
batch depends on its position and on what the constructor got, on nothing that was asked before.
So one integer says where training stands, and going on from it gives the very batches that an
undisturbed run would have seen.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Iterator
from typing import Any, Generic, NamedTuple, Protocol, TypeVar

import numpy as np

from rnnkit.checks import check_integer
from rnnkit.errors import ArgumentError


class Batch(Protocol):
    """What all batches have; the particular ones are named tuples with more."""

    @property
    def position(self) -> int:
        """Its place in the endless sequence of batches."""

    @property
    def starts_epoch(self) -> bool:
        """Whether it is the first of an epoch: a carried state must not be used."""

    @property
    def inputs(self) -> Any:
        """(T, N, ...)"""

    @property
    def targets(self) -> Any:
        """What the model shall say of ``inputs``."""


B = TypeVar("B", bound=Batch)
B_co = TypeVar("B_co", bound=Batch, covariant=True)


class Batches(Protocol[B_co]):
    """A source of batches, as a trainer needs it."""

    @property
    def batches_per_epoch(self) -> int:
        """How many batches an epoch has: the same for every epoch."""

    def batch(self, position: int) -> B_co:
        """The batch at ``position`` = epoch * batches_per_epoch + place in the epoch."""

    def epoch(self) -> Iterator[B_co]:
        """One ordered pass for evaluation: every item exactly once, unshuffled."""


class SequenceBatch(NamedTuple):
    """N sequences side by side, padded at their ends, with what belongs to each of them.

    Attributes:
        position: its place in the endless sequence of batches.
        starts_epoch: whether it is the first of an epoch. No state is to be carried to the others
            either: their rows never go on from those of the batch before.
        inputs: (T, N, ...) int64 ids or floating features; T the longest length.
        lengths: (N,) int64, 1 to T.
        targets: (N, ...), (T, N, ...) or (S, N, ...); None where there are none.
        target_lengths: (N,) int64, 0 to S, of targets that are sequences; else None.
        rows: (N,) int64: the places of the sequences in the data set.
    """

    position: int
    starts_epoch: bool
    inputs: np.ndarray
    lengths: np.ndarray
    targets: Any
    target_lengths: np.ndarray | None
    rows: np.ndarray


class PositionedBatches(ABC, Generic[B]):
    """Base of the sources here: what follows from ``batch`` alone."""

    batches_per_epoch: int

    @abstractmethod
    def batch(self, position: int) -> B:
        """The batch at ``position`` = epoch * batches_per_epoch + place in the epoch.

        Raises ArgumentError when ``position`` is negative.
        """

    @abstractmethod
    def epoch(self) -> Iterator[B]:
        """One ordered pass for evaluation: every item exactly once, unshuffled."""

    def batches(self, start: int = 0) -> Iterator[B]:
        """The batches from position ``start`` on, without end."""
        while True:
            yield self.batch(start)
            start += 1

    def _place(self, position: int) -> tuple[int, int]:
        """The epoch of a position and its place in the epoch."""
        return divmod(check_integer("position", position, 0), self.batches_per_epoch)


def epoch_generator(seed: int, epoch: int) -> np.random.Generator:
    """The generator of an epoch's order: of its own, so that position alone decides a batch."""
    return np.random.Generator(np.random.PCG64([seed, epoch]))


def check_batches(name: str, batches: Any) -> Batches[Any]:
    """``batches`` as they were given. Raises ArgumentError unless they are such a source."""
    if isinstance(batches, type) or not hasattr(batches, "batches_per_epoch"):
        raise ArgumentError(f"{name}: expected a source of batches, got {batches!r}")
    found: Batches[Any] = batches
    return found
