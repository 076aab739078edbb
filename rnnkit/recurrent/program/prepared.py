"""What a run needs of a cell's tensors before its first step."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, Any, NamedTuple
from weakref import WeakKeyDictionary

from rnnkit import backend
from rnnkit.autograd.unchangeable import is_unchangeable
from rnnkit.backend._native import Packed, lined_up
from rnnkit.recurrent.program.invariants import Invariants

if TYPE_CHECKING:
    from rnnkit.autograd.tensor import Array
    from rnnkit.cells import Cell
    from rnnkit.recurrent.program.variant import Variant


class Prepared:
    """
    Args:
        variant: of the traced step.
        names: of the tensors.
        arrays: of the tensors.
        needs: which of them need a gradient.
        serves: whether many runs will use it: its weights are then packed once.

    Attributes:
        invariants: the tensors, and what is computed from them.
        given: those that the forward program reads, as the native side takes them.
        operands: those that products before the loop are made with.
        packed: room for packed weights, or None.
    """

    def __init__(
        self, variant: Variant, names: Sequence[str | int], arrays: Sequence[Array],
        needs: Sequence[bool], dtype: Any, serves: bool,
    ) -> None:
        self.invariants = invariants = Invariants(variant, names, arrays, needs, dtype)
        planned = variant.planned
        forward = planned.compiled.forward
        self.given = invariants.native(forward.invariants)
        self.operands = tuple([lined_up(invariants.array(each)) for each in planned.operands])
        self.packed = Packed(forward.native, backend.DTYPE_NAMES[dtype]) if serves else None


class _Kept(NamedTuple):
    """What was prepared for a cell that cannot change, and for what."""

    variant: Variant
    arrays: tuple[Array, ...]
    captured: list[bytes]
    prepared: Prepared


_kept: WeakKeyDictionary[Cell, _Kept] = WeakKeyDictionary()


def prepared(
    cell: Cell, variant: Variant, names: Sequence[str | int], arrays: Sequence[Array],
    needs: Sequence[bool], dtype: Any,
) -> Prepared:
    """For a run; what was prepared for an earlier one where no gradient is wanted and nothing that
    it is made of can change."""
    if variant.training or not all(map(is_unchangeable, arrays)):
        return Prepared(variant, names, arrays, needs, dtype, False)
    # What the step uses and the cell does not hold cannot be frozen.
    captured = [tensor._data.tobytes() for tensor in variant.step.free]
    kept = _kept.get(cell)
    if (
        kept is None or kept.variant is not variant or kept.captured != captured
        or any(a is not b for a, b in zip(kept.arrays, arrays, strict=True))
    ):
        new = Prepared(variant, names, arrays, needs, dtype, True)
        kept = _kept[cell] = _Kept(variant, tuple(arrays), captured, new)
    return kept.prepared
