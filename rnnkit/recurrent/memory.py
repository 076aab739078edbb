"""How much the forward pass may keep for the backward pass.

``"full"`` keeps everything. A number of bytes, or a text such as ``"256MB"``, is a budget for what
is kept besides inputs and outputs: the sequence is cut into segments, of which only the states
between them are kept (and the last segment, on the native path); the backward pass runs forward
again over one segment after the other. The results have the bits of ``"full"``, at the price of up
to one more forward pass.

Chen et al. 2016, "Training deep nets with sublinear memory cost", arXiv 1604.06174; for recurrent
nets Gruslys et al. 2016, arXiv 1606.03401.
"""

from __future__ import annotations

import math
import re
from collections.abc import Callable
from numbers import Integral
from typing import TYPE_CHECKING, Any

from rnnkit.errors import ArgumentError, warn

if TYPE_CHECKING:
    from rnnkit.backend import Decision

# Lengths of a segment that are compared to find the most frugal one: of more, some are left out.
MOST_TRIED = 20_000

UNITS = {"": 1, "B": 1}
for _power, _letter in enumerate("KMGT", start=1):
    UNITS |= {f"{_letter}B": 1000**_power, f"{_letter}IB": 1024**_power}


class MemoryBudgetWarning(UserWarning):
    """A memory budget that cannot be met: the least possible is used instead."""


def bytes_of(memory: Any) -> int | None:
    """A memory policy as a number of bytes; None for ``"full"``.

    Raises:
        ArgumentError: it is neither "full", nor a whole number from 1 on, nor a text like "256MB"
            or "1.5GiB".
    """
    if isinstance(memory, str):
        if memory == "full":
            return None
        found = re.fullmatch(r"(\d+(?:\.\d+)?)\s*([A-Za-z]*)", memory.strip())
        if found is not None and found[2].upper() in UNITS:
            number = float(found[1]) * UNITS[found[2].upper()]
            memory = int(number) if math.isfinite(number) else memory
    if isinstance(memory, bool) or not isinstance(memory, Integral) or memory < 1:
        raise ArgumentError(
            f"memory: expected 'full', a number of bytes or a text like '256MB', got {memory!r}"
        )
    return int(memory)


def segment_within(
    budget: int, T: int, segment_bytes: Callable[[int], int], between_bytes: int, together: int = 1,
    warns: bool = True,
) -> int:
    """Steps of a segment, of as few segments as a budget allows, as even as they can be.

    Args:
        budget: in bytes.
        T: steps of the sequence.
        segment_bytes: what a segment of so many steps needs; it grows with the steps.
        between_bytes: what is kept between two segments.
        together: steps of a block; segments are whole blocks, but for the last.
        warns: where the budget cannot be met.

    Returns:
        T, or whole blocks. Where even the most frugal segments need more than the budget, those,
        with a ``MemoryBudgetWarning``.
    """
    most = -(-T // together)  # blocks

    def total(blocks: int) -> int:
        segments = -(-most // blocks)
        of_one = segment_bytes(min(T, blocks * together))
        return of_one + (segments * between_bytes if segments > 1 else 0)

    if total(most) <= budget:
        return T
    # The best trade between both terms is near the root of their ratio; beyond it the total grows.
    block_bytes = max(1, segment_bytes(2 * together) - segment_bytes(together))
    guess = max(1, min(most, int((most * between_bytes / block_bytes) ** 0.5)))
    least, end = max(1, guess // 2), min(most, 2 * guess + 1) + 1
    frugal = min(range(least, end, 1 + (end - least) // MOST_TRIED), key=total)
    if total(frugal) > budget:
        if warns:
            warn(
                f"memory: a budget of {budget} bytes cannot be met: {total(frugal)} bytes are "
                f"needed at least for a layer over {T} steps, and are used",
                MemoryBudgetWarning,
            )
        return min(T, frugal * together)
    low, high = frugal, most  # total(low) fits, total(high) does not
    while high - low > 1:
        middle = (low + high) // 2
        low, high = (middle, high) if total(middle) <= budget else (low, middle)
    # The last segment is not computed again: it is no shorter than need be.
    segments = -(-most // low)
    return -(-most // segments) * together


def note_segments(decision: Decision, segments: int, steps: int, again: str) -> None:
    """Let ``why`` say how many segments of how many steps there are, and what is done again."""
    decision.reason += f"; {segments} segments of {steps} steps, {again} again for backward"
