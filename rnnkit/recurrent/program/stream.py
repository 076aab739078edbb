"""Programs step by step: what a ``Stepper`` runs where its cells have no fused kernel."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

import numpy as np

from rnnkit import backend
from rnnkit.autograd.tensor import wrap
from rnnkit.backend._native import LayerStep, Passes, ProgramStepper, dense, rows
from rnnkit.backend.products import always_native
from rnnkit.recurrent.held import held_by
from rnnkit.recurrent.program.prepared import Prepared
from rnnkit.recurrent.program.run import traced
from rnnkit.recurrent.program.steps import placed_drawn
from rnnkit.recurrent.program.traced import TRACING
from rnnkit.recurrent.program.variant import Variant

if TYPE_CHECKING:
    from rnnkit.autograd.tensor import Array
    from rnnkit.cells import Cell
    from rnnkit.recurrent.program.steps import Placed
    from rnnkit.recurrent.program.values import Value


class ProgramRunner:
    """All layers, each as one run of its program for every call.

    Args:
        cells: one per layer, in evaluation mode.
        state: one (L, N, *shape) array per state name, which the runs read and write.
    """

    def __init__(self, cells: Sequence[Cell], state: tuple[Array, ...]) -> None:
        self._state = state
        self._layers = [
            _Layer(cell, tuple([each[i].reshape(-1) for each in state]))
            for i, cell in enumerate(cells)
        ]

    def stepper(self, N: int, lock: Any) -> ProgramStepper | None:
        """What takes single steps of N rows in one native call, where every layer's program is
        given its input and products of it, and nothing else at each step.

        Args:
            lock: not to be had while ``run`` is.
        """
        if not all(layer.steps_by_input for layer in self._layers):
            return None
        return ProgramStepper([layer.step(N) for layer in self._layers], self._state, lock)

    def run(self, x: Array, y: Array) -> None:
        value, last = (x, y) if x.ndim == 3 else (x[None], y[None])
        for layer in self._layers[:-1]:
            value = layer.run(value, None)
        # Into the caller's array itself, where the native side can write to it.
        result = self._layers[-1].run(value, last if rows(last) is last else None)
        if result is not last:
            last[...] = result


class _Layer:
    """One layer: what depends on its parameters alone, and its weights, packed."""

    def __init__(self, cell: Cell, state: tuple[Array, ...]) -> None:
        self._cell = cell
        self._state = state
        found = held_by(cell)
        held = found.tensors
        self._step = traced(cell, found)
        with TRACING:
            self._variant = variant = Variant(self._step, list(held))
        # Copies: weights that change are others when they are taken again, and not before.
        arrays = [tensor._data.copy() for tensor in held.values()]
        needs = [False] * len(arrays)
        self._prepared = Prepared(variant, list(held), arrays, needs, cell.dtype, True)
        self._dtype = backend.DTYPE_NAMES[cell.dtype]
        self._sizes: tuple[int, int, int] | None = None
        self._passes: Any = None

    @property
    def steps_by_input(self) -> bool:
        step, variant = self._step, self._variant
        given = [*variant.rows, *variant.planned.forward_given]
        return variant.products is not None and all(value is step.x for value in given)

    def step(self, N: int) -> LayerStep:
        passes, prepared = self._passes_for(1, N), self._prepared
        return LayerStep(
            passes, self._step.x.size, prepared.operands, prepared.given, self._state
        )

    def run(self, x: Array, y: Array | None) -> Array:
        """(T, N, I) to (T, N, features of the output), in ``y`` where that is given."""
        T, N, _ = x.shape
        sizes = T, N, backend.get_num_threads()
        if self._sizes != sizes:
            self._passes = self._passes_for(T, N)
            self._sizes = sizes
        multiplied, given = self._inputs(x)
        if y is None:
            y = np.empty((T, N, self._step.y.size), x.dtype)
        self._passes.forward(
            0, T, multiplied, self._prepared.operands, self._prepared.given, given,
            ((y, "time_first"),), self._state, (), self._state,
        )
        return y

    def _passes_for(self, T: int, N: int) -> Passes:
        return Passes(
            self._variant.planned.native, self._dtype, backend.get_num_threads(), T, N, None, False,
            "time_first", T, self._prepared.packed,
        )

    def _inputs(self, x: Array) -> tuple[tuple[Array, ...], tuple[Placed, ...]]:
        """The rows that products before the loop are made of, and the program's other inputs."""
        step, variant = self._step, self._variant
        given = variant.planned.forward_given
        T, N, _ = x.shape
        arrays = {step.x: x}
        placed: dict[Value, Placed] = {step.x: (x, "time_first")}
        for value, each in zip(step.drawn, step.drawn_for(self._cell, T, N), strict=True):
            array = each._data
            placed[value] = placed_drawn(array, x.dtype)
            arrays[value] = np.broadcast_to(array, (T, *array.shape[1:]))
        multiplied: tuple[Array, ...] = ()
        if variant.products is not None:
            multiplied = dense([_as_rows(arrays[value]) for value in variant.rows])
        else:
            inputs = {value: wrap(_as_rows(arrays[value])) for value in variant.inputs}
            with always_native():
                prologue = self._prepared.invariants.prologue.for_inputs(inputs)
                for value in given:
                    if value not in placed:
                        computed = prologue.sequence(value)._data.reshape(T, N, -1)
                        placed[value] = rows(computed), "time_first"
        return multiplied, tuple([placed[value] for value in given])


def _as_rows(array: Array) -> Array:
    """(T, N, ...) as (T * N, ...)."""
    T, N, *shape = array.shape
    return array.reshape(T * N, *shape)
