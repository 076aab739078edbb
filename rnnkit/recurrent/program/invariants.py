"""What no step of a run changes: the tensors of the cell and what is computed from them."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

import numpy as np

from rnnkit.autograd import Tensor, enable_grad, grad, no_grad
from rnnkit.autograd.grad_mode import state
from rnnkit.autograd.tensor import wrap
from rnnkit.backend._native import dense
from rnnkit.recurrent.program.prologue import Prologue, leaf

if TYPE_CHECKING:
    from rnnkit.autograd.tensor import Array
    from rnnkit.recurrent.program.values import Value
    from rnnkit.recurrent.program.variant import Source, Variant


class Invariants:
    """
    Args:
        variant: of the traced step.
        names: of the tensors.
        tensors: their arrays.
        needs: which of them need a gradient.

    Attributes:
        sums: what a backward pass has summed over steps and rows, by value.
    """

    def __init__(
        self, variant: Variant, names: Sequence[str | int], tensors: Sequence[Array],
        needs: Sequence[bool], dtype: Any,
    ) -> None:
        self._variant = variant
        self._names, self._arrays, self._needs = names, tensors, needs
        self._dtype = dtype
        self._prologue: Prologue | None = None
        self._leaves: list[Tensor] = []
        self.sums: dict[Value, Array] = {}
        # Gradients of the tensors, and, by ``id`` of what stood for it, of what is computed.
        self._d_tensors: list[Array | None] = []
        self._d_computed: dict[int, tuple[Source, Array]] = {}

    @property
    def prologue(self) -> Prologue:
        """A graph of what is computed, from leaves of this run alone."""
        if self._prologue is None:
            self._leaves = [
                leaf(array, need) for array, need in zip(self._arrays, self._needs, strict=True)
            ]
            tensors = dict(zip(self._names, self._leaves, strict=True))
            self._prologue = Prologue(self._variant.step, tensors, {})
        return self._prologue

    def tensor(self, source: Source) -> Tensor:
        """One of the tensors, or what is computed, in the graph."""
        with enable_grad() if self._variant.training else no_grad():
            return self.prologue.real(source.tensor)

    def array(self, source: Source) -> Array:
        if source.place >= 0:
            return self._arrays[source.place]
        if source.computed:
            return self.tensor(source)._data
        return source.tensor._data

    def native(self, values: Sequence[Value]) -> tuple[Array, ...]:
        """As the native side takes them."""
        arrays, places = self._arrays, self._variant.places
        found = [
            arrays[places[value]] if value in places else self._computed(value) for value in values
        ]
        # Truth, such as a mask that the cell holds, is 1 and 0 to the executor.
        return dense(
            [a if a.dtype == self._dtype else np.asarray(a, self._dtype) for a in found]
        )

    def _computed(self, value: Value) -> Array:
        """A value without rows, by the engine's array code."""
        if value.of is None:
            return self.array(self._variant.source(value))
        if value in self.sums:
            return self.sums[value]
        params = value.of.params
        inputs = [self._computed(v) for v in value.of.inputs]
        result = state.run(params["primitive"].forward, *inputs, **params["params"])
        return np.asarray(result if params["position"] is None else result[params["position"]])

    # ---- gradients

    def begin_backward(self) -> None:
        """Forget what an earlier backward pass has left."""
        self.sums = {}
        self._d_tensors = [None] * len(self._arrays)
        self._d_computed = {}

    def add_gradient(self, source: Source, d: Array) -> None:
        place = source.place
        if place >= 0:
            shape = self._arrays[place].shape
            if d.shape != shape:
                d = d.reshape(shape)
            before = self._d_tensors[place]
            self._d_tensors[place] = d if before is None else before + d
        elif source.requires_grad:
            key = id(source.tensor)
            so_far = self._d_computed.get(key)
            self._d_computed[key] = source, d if so_far is None else so_far[1] + d

    def gradients(self, found: Sequence[tuple[Source, Value]]) -> list[Array | None]:
        """Of the tensors that the run was given, from those that the programs give."""
        for source, value in found:
            d = self._computed(value)
            self.add_gradient(source, d if d.dtype == self._dtype else np.asarray(d, self._dtype))
        # Nothing else keeps what is handed out: the engine copies what somebody might look at.
        d_tensors, self._d_tensors, self.sums = self._d_tensors, [], {}
        if self._d_computed:
            self._through_prologue(d_tensors)
        return d_tensors

    def _through_prologue(self, d_tensors: list[Array | None]) -> None:
        """Go on back from what is computed to the tensors."""
        roots, seeds = [], []
        for source, d in self._d_computed.values():
            root = self.tensor(source)
            roots.append(root)
            seeds.append(wrap(np.asarray(d, self._dtype).reshape(root.shape)))
        self._d_computed = {}
        wanted = [i for i, each in enumerate(self._leaves) if each._requires_grad]
        through = grad(roots, [self._leaves[i] for i in wanted], seeds, retain_graph=True,
                       allow_unused=True)
        for i, d_leaf in zip(wanted, through, strict=True):
            if d_leaf is not None:
                direct = d_tensors[i]
                d_tensors[i] = d_leaf.data if direct is None else direct + d_leaf.data
