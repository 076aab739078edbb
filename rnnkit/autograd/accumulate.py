"""Sums of gradients, and whose memory they are in."""

from __future__ import annotations

from sys import getrefcount
from typing import TYPE_CHECKING

import numpy as np

from rnnkit.autograd import arrays
from rnnkit.autograd.grad_mode import state
from rnnkit.autograd.node import Node, PartialGradient
from rnnkit.autograd.tensor import Tensor, wrap

if TYPE_CHECKING:
    from typing import TypeAlias

    # Where a gradient is collected: a leaf, a node with one output, or one output of several.
    Slot: TypeAlias = Tensor | Node | tuple[Node, int]


class _Sum:
    """A gradient made of several contributions.

    The first contribution may be shared with other gradients and is never written to; the buffer
    of the first addition is the engine's own, and later contributions are added in place.
    """

    __slots__ = ("_create_graph", "_dense", "_owned", "_parts")

    def __init__(self, create_graph: bool) -> None:
        self._create_graph = create_graph
        self._dense: Tensor | None = None
        self._owned = False
        self._parts: list[PartialGradient] = []

    def add(self, gradient: Tensor | PartialGradient) -> None:
        if isinstance(gradient, PartialGradient):
            self._parts.append(gradient)
        elif self._dense is None:
            self._dense = gradient
        elif self._create_graph:
            self._dense = self._dense + gradient
        elif self._owned:
            array = self._dense._data
            state.run(np.add, array, gradient._data, out=array)
        else:
            self._dense = wrap(np.asarray(state.run(np.add, self._dense._data, gradient._data)))
            self._owned = True

    def total(self) -> Tensor:
        while self._parts:
            kind = type(self._parts[0])
            alike = [part for part in self._parts if type(part) is kind]
            self._parts = [part for part in self._parts if type(part) is not kind]
            self.add(alike[0].combine(alike))
        assert self._dense is not None
        return self._dense


class Collector:
    """Sums gradients by where they belong.

    Attributes:
        create_graph: the walk is recorded.
        fills_grad: the walk is for ``grad``, of leaves and of what retains it.
    """

    __slots__ = ("create_graph", "fills_grad", "slots")

    def __init__(self, create_graph: bool, fills_grad: bool) -> None:
        self.create_graph = create_graph
        self.fills_grad = fills_grad
        self.slots: dict[Slot, Tensor | PartialGradient | _Sum] = {}

    def add(self, slot: Slot, gradient: Tensor | PartialGradient) -> None:
        slots = self.slots
        present = slots.get(slot)
        if present is None:
            slots[slot] = gradient
        elif type(present) is _Sum:
            present.add(gradient)
        else:
            both = _Sum(self.create_graph)
            both.add(present)  # type: ignore[arg-type]
            both.add(gradient)
            slots[slot] = both

    def leaves(self) -> list[Tensor]:
        return [slot for slot in self.slots if isinstance(slot, Tensor)]

    def take(self, slot: Slot) -> Tensor | None:
        """Remove and return the total of a slot; None if nothing came."""
        present = self.slots.pop(slot, None)
        if present is None or isinstance(present, Tensor):
            return present
        if isinstance(present, PartialGradient):
            return present.combine([present])
        return present.total()

    def move(self, source: Slot, slot: Slot) -> None:
        """Hand what a slot has collected on to another, where later contributions follow it."""
        present = self.slots.pop(source, None)
        if present is not None:
            self.slots[slot] = present


def _references_of_its_own() -> int:
    """What getrefcount tells of an object that one list, or tensor, and one variable refer to."""
    holder = [object()]
    only = holder[0]
    return getrefcount(only)


_ALONE = _references_of_its_own()


def own(holder: list[Tensor]) -> Tensor:
    """The one tensor in `holder` without its history, copied unless nothing else can refer to it.
    """
    gradient = holder[0]
    array = gradient._data
    if (
        not arrays.is_private(array)
        or getrefcount(gradient) > _ALONE
        or getrefcount(array) > _ALONE
    ):
        return wrap(array.copy())
    plain = type(gradient) is Tensor and not gradient._requires_grad
    return gradient if plain else wrap(array)


def add_to_grad(leaf: Tensor, gradient: Tensor) -> None:
    """``leaf.grad += gradient``, in place only where nobody else can be looking at the sum."""
    grad = leaf._grad
    assert grad is not None
    in_place = grad._data.flags.writeable and not grad._requires_grad
    del grad
    if in_place and getrefcount(leaf._grad) <= 2 and getrefcount(leaf._grad._data) <= 2:  # type: ignore[union-attr]
        array = leaf._grad._data  # type: ignore[union-attr]
        state.run(np.add, array, gradient._data, out=array)
    else:
        array = state.run(np.add, leaf._grad._data, gradient._data)  # type: ignore[union-attr]
        leaf._grad = wrap(np.asarray(array))
