"""Programs step by step: what a ``Stepper`` runs where its cells have no fused kernel."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

import numpy as np

from rnnkit import backend, ops
from rnnkit.autograd.tensor import wrap
from rnnkit.backend.products import always_native
from rnnkit.recurrent.arrays import flat, rows
from rnnkit.recurrent.program.prologue import Prologue
from rnnkit.recurrent.program.run import traced
from rnnkit.recurrent.program.traced import tensors_of
from rnnkit.recurrent.program.variant import compiled

if TYPE_CHECKING:
    from rnnkit.autograd import Tensor
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
        value = x if x.ndim == 3 else x[None]
        for layer in self._layers:
            value = layer.run(value)
        y[...] = value if x.ndim == 3 else value[0]


class _Layer:
    def __init__(self, cell: Cell, state: tuple[Array, ...]) -> None:
        self._cell = cell
        self._state = state
        self._step = step = traced(cell)
        self._programs = compiled(step, (), True, False)
        tensors: dict[str | int, Tensor] = {}
        tensors.update(tensors_of(cell).items())
        self._invariants = Prologue(step, tensors, {})
        self._given = tuple(
            [flat(self._invariants.invariant(v).data) for v in self._programs.forward.invariants]
        )

    def run(self, x: Array) -> Array:
        """(T, N, I) to (T, N, features of the output)."""
        step, programs = self._step, self._programs
        tables = programs.forward
        T, N, _ = x.shape
        drawn = self._cell.drawn_for(T, N)
        inputs: dict[Value, Tensor] = {step.x: wrap(x.reshape(T * N, -1))}
        for value, each in zip(step.drawn, drawn, strict=True):
            spread = ops.broadcast_to(each, (T, *each.shape[1:]))
            inputs[value] = ops.reshape(spread, T * N, *each.shape[2:])
        prologue = self._invariants.for_inputs(inputs)
        sequences = []
        with always_native():
            for value in tables.sequences:
                array = prologue.sequence(value).data.reshape(T, N, -1)
                sequences.append((rows(array), "time_first"))
        y = np.empty((T, N, step.y.size), x.dtype)
        extension = backend.native()
        assert extension is not None
        extension.run_program(
            tables.native, backend.DTYPE_NAMES[x.dtype], backend.get_num_threads(), T, N, None,
            False, self._given, tuple(sequences), ((y, "time_first"),), self._state, (),
            self._state, None, programs.state_places, programs.kept.size,
        )
        return y
