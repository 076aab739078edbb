"""What every source of batches offers: each batch by its position, and one ordered pass."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any, Protocol


class Batches(Protocol):
    """Batches as a pure function of position, so that a run resumes from one integer.

    A batch has at least ``position``, ``starts_epoch`` (a carried state must not be used),
    ``inputs`` and ``targets``.
    """

    @property
    def batches_per_epoch(self) -> int:
        """How many there are in an epoch, the same in each."""

    def batch(self, position: int) -> Any:
        """The batch at ``position`` = epoch * batches_per_epoch + its place in the epoch."""

    def epoch(self) -> Iterator[Any]:
        """One ordered pass for evaluation: every item exactly once."""
