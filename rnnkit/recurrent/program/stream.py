"""Programs step by step: what a ``Stepper`` runs where its cells have no fused kernel."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

import numpy as np

from rnnkit import backend, ops
from rnnkit.autograd.tensor import wrap
from rnnkit.backend.arrays import rows
from rnnkit.backend.products import always_native
from rnnkit.recurrent.program.hoisted import products_of
from rnnkit.recurrent.program.invariants import Invariants
from rnnkit.recurrent.program.run import traced
from rnnkit.recurrent.program.traced import tensors_of
from rnnkit.recurrent.program.variant import Variant

if TYPE_CHECKING:
    from rnnkit.cells import Cell
    from rnnkit.recurrent.program.values import Value

    Array = np.ndarray[Any, np.dtype[Any]]


class ProgramRunner:
    """All layers, each as one run of its program for every call.

    Args:
        cells: one per layer, in evaluation mode now and at every run.
        state: one (L, N, *shape) array per state name, which the runs read and write.
    """

    def __init__(self, cells: Sequence[Cell], state: tuple[Array, ...]) -> None:
        self._cells = cells
        self._state = state
        self.refresh()

    def refresh(self) -> None:
        """Compute again what depends on parameters alone."""
        self._layers = [
            _Layer(cell, tuple([each[i].reshape(-1) for each in self._state]))
            for i, cell in enumerate(self._cells)
        ]

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
        self._step = step = traced(cell)
        held = tensors_of(cell)
        self._variant = variant = Variant(step, list(held))
        self._dtype = backend.DTYPE_NAMES[cell.dtype]
        arrays = [tensor._data for tensor in held.values()]
        needs = [False] * len(arrays)
        self._invariants = Invariants(variant, list(held), arrays, needs, cell.dtype)
        tables = variant.compiled.forward
        self._given = self._invariants.native(tables.invariants)
        extension = backend.native()
        assert extension is not None
        self._packed = extension.Packed(tables.native, self._dtype)

    def run(self, x: Array, y: Array | None) -> Array:
        """(T, N, I) to (T, N, features of the output), in ``y`` where that is given."""
        T, N, _ = x.shape
        programs = self._variant.compiled
        sequences = self._sequences(x)
        if y is None:
            y = np.empty((T, N, self._step.y.size), x.dtype)
        extension = backend.native()
        assert extension is not None
        extension.run_program(
            programs.forward.native, self._dtype, backend.get_num_threads(), T, N, None, False,
            self._given, sequences, ((y, "time_first"),), self._state, (), self._state, None,
            programs.state_places, programs.kept.size, packed=self._packed,
        )
        return y

    def _sequences(self, x: Array) -> tuple[tuple[Array, str], ...]:
        """The inputs of every step."""
        step, variant = self._step, self._variant
        T, N, _ = x.shape
        inputs: dict[Value, Array] = {step.x: x.reshape(T * N, -1)}
        for value, each in zip(step.drawn, self._cell.drawn_for(T, N), strict=True):
            spread = ops.broadcast_to(each, (T, *each.shape[1:]))
            inputs[value] = ops.reshape(spread, T * N, *each.shape[2:])._data
        with always_native():
            if variant.products is not None:
                inputs |= products_of(variant, self._invariants, inputs)
            else:
                given = {value: wrap(array) for value, array in inputs.items()}
                prologue = self._invariants.prologue.for_inputs(given)
                for value in step.hoisted:
                    inputs[value] = prologue.sequence(value)._data
        return tuple([
            (rows(inputs[value].reshape(T, N, -1)), "time_first")
            for value in variant.compiled.forward.sequences
        ])
