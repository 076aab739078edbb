"""The forward and the backward pass of one direction of a program over a sequence.

A run goes over its steps in *segments*: one, unless a memory budget asks for more. Between two
segments only the states are kept; the backward pass runs forward again over all but the last. Sums
over steps are formed by *blocks* of steps (``hoisted.py``), and segments are whole blocks: so the
bits of a result do not depend on the segments.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

import numpy as np

from rnnkit import backend
from rnnkit.backend._native import Passes as NativePasses
from rnnkit.backend._native import dense, new_arrays, rows
from rnnkit.recurrent.memory import segment_within
from rnnkit.recurrent.program.hoisted import Graphs, steps_of_block
from rnnkit.recurrent.program.prepared import prepared
from rnnkit.recurrent.program.steps import Steps, placed_drawn

if TYPE_CHECKING:
    from rnnkit.autograd.tensor import Array
    from rnnkit.cells import Cell
    from rnnkit.recurrent.observe import LayerRun
    from rnnkit.recurrent.program.direction import DirectionOfLayer
    from rnnkit.recurrent.program.steps import Placed
    from rnnkit.recurrent.program.values import Value
    from rnnkit.recurrent.program.variant import Variant

    Segment = tuple[int, int]


class Passes:
    """A forward pass, and what its backward passes need.

    Args:
        cell: what is run.
        layer: what its runs have in common.
        variant: of its step.
        arrays: its inputs, laid out as ``layer`` tells.
        needs: which of them need a gradient.
    """

    def __init__(
        self, cell: Cell, layer: DirectionOfLayer, variant: Variant, arrays: Sequence[Array],
        needs: Sequence[bool],
    ) -> None:
        self.cell, self.layer, self.variant = cell, layer, variant
        self.planned = variant.planned  # or, after a backward pass, what that has done
        self.x, self.drawn = arrays[0], arrays[self.layer.at_drawn]
        self.needs = needs
        self.dtype = self.x.dtype
        self.steps = steps = Steps(self.x, self.layer.options, self.layer.reverse)
        self.N = steps.N
        self.state_shapes = [(1, steps.N, *v.shape) for v in self.layer.step.states]
        self.prepared = made = prepared(
            cell, variant, self.layer.names, arrays[self.layer.at_tensors],
            needs[self.layer.at_tensors], self.dtype,
        )
        self.invariants, self.operands = made.invariants, made.operands
        self.block = steps_of_block(steps.N, self.layer.step.largest)
        self.graphs = None
        if variant.products is None:
            self.graphs = Graphs(variant, steps, self.block, self.invariants)
        self.initial: Sequence[Array] = dense(arrays[self.layer.at_states])
        self.restart = dense(arrays[self.layer.at_restarts]) if self.layer.restarts else ()
        schedule = self.layer.options.schedule
        self.native = NativePasses(
            self.planned.native, backend.DTYPE_NAMES[self.dtype], backend.get_num_threads(),
            steps.count, steps.N, None if schedule is None else schedule.native, self.layer.reverse,
            steps.layout if steps.lengths is None else "packed", self.block, made.packed,
        )
        memory, steps_of_segment = self.layer.options.memory, steps.count
        if memory is not None and variant.training:
            steps_of_segment = self._steps_within(memory)
        self.starts = range(0, steps.count, steps_of_segment)  # of each segment the first step
        # The states after all segments but the last.
        self.between: list[Sequence[Array]] = []
        # What the forward pass has left of one segment, if that is whole.
        self.present: Segment | None = None
        self.rows: tuple[Array, ...] = ()
        self.computed: dict[Value, Placed] = {}
        # The gradients of x and of what is drawn, while a backward pass is under way.
        self.d_x: Array | None = None
        self.d_drawn: list[Array | None] = []
        # What flows into the states after every step, where that is seen.
        self.flowed: list[Array] = []

    def _steps_within(self, memory: int) -> int:
        count = self.steps.count
        compiled = self.planned.compiled
        tables = compiled.backward
        hoisted = sum(v.size for v in self.layer.step.hoisted)
        row = self.N * self.dtype.itemsize
        states = sum(v.size for v in self.layer.step.states)
        # What is kept counts for both directions, which so have the same segments; what a backward
        # pass works in counts once, as one goes back at a time.
        kept = (compiled.kept.size + hoisted) * self.layer.directions
        width = kept + hoisted + (tables.encoder.summands.size if tables else 0)
        return segment_within(
            memory, count, lambda steps: steps * width * row,
            states * self.layer.directions * row, self.block, warns=not self.layer.reverse,
        )

    def _segment(self, k: int) -> Segment:
        first = self.starts[k]
        return first, min(first + self.starts.step, self.steps.count)

    def _like_x(self, value: Value) -> Array:
        """x, or something drawn, laid out as x is."""
        if value is self.layer.step.x:
            return self.x
        array = self.drawn[self.layer.step.drawn.index(value)]
        if array.shape[0] == 1 < self.steps.T:
            array = np.broadcast_to(array, (self.steps.T, *array.shape[1:]))
        return array.swapaxes(0, 1) if self.steps.batch_first else array

    def _given(self, values: Sequence[Value], more: dict[Value, Placed]) -> tuple[Placed, ...]:
        """Inputs of every step, as the native side takes them."""
        return tuple([more[v] if v in more else self._given_input(v) for v in values])

    def _given_input(self, value: Value) -> Placed:
        step = self.layer.step
        if value is step.x:
            return rows(self.x), self.steps.layout
        return placed_drawn(self.drawn[step.drawn.index(value)], self.dtype)

    def _forward_segment(
        self, segment: Segment, outputs: Sequence[Placed], initial: Sequence[Array],
        final: Sequence[Array],
    ) -> None:
        """Run forward over a segment; what it leaves replaces what the one before left."""
        variant, (first, last) = self.variant, segment
        self.present = None
        if self.graphs is not None:
            self.computed = self.graphs.compute(first, last, self._like_x)
        self.rows = dense([
            self.steps.rows(self._like_x(value), first, last) for value in variant.rows
        ])
        self.native.forward(
            first, last - first, self.rows, self.operands, self.prepared.given,
            self._given(self.planned.forward_given, self.computed), tuple(outputs), tuple(initial),
            self.restart, tuple(final),
        )
        self.present = segment

    # ---- the passes

    def forward(self, y: Array | None = None) -> tuple[Array, ...]:
        """y, where it is wanted; the states of every step, where wanted; the final states.

        Args:
            y: where to write it, if that of every step is wanted; else in an array of its own.
        """
        outputs, shown = self._outputs(y)
        initial = self.initial
        n_segments = len(self.starts)
        for k in range(n_segments):
            final = new_arrays(self.state_shapes, self.dtype)
            self._forward_segment(self._segment(k), outputs, initial, final)
            initial = final
            if k + 1 < n_segments:
                self.between.append(initial)
        if not self.variant.training:
            self._forget()
        return (*shown, *final)

    def _forget(self) -> None:
        """Let go of what the forward pass has left."""
        self.present, self.rows, self.computed = None, (), {}
        self.native.forget()
        if self.graphs is not None:
            self.graphs.forget()

    def _outputs(self, y: Array | None = None) -> tuple[list[Placed], list[Array]]:
        """Room for what is shown of every step, as the native side and as the caller sees it."""
        layer, step = self.layer, self.layer.step
        outputs: list[Placed] = []
        shown: list[Array] = []
        if layer.y_wanted:
            if layer.options.sequences:
                y = self.steps.empty(step.y.size) if y is None else y
                outputs.append((y, self.steps.layout))
                shown.append(y)
            else:
                y = np.zeros((1, self.N, step.y.size), self.dtype)  # the last step's remains
                outputs.append((y, "shared"))
                shown.append(y[0])
        if layer.options.steps:
            for value in step.after:
                array = self.steps.empty(value.size)
                outputs.append((array, self.steps.layout))
                shown.append(array.reshape(*array.shape[:2], *value.shape))
        return outputs, shown

    def backward(
        self, d_outputs: list[Array | None], needs: Sequence[bool], retain: bool
    ) -> list[Array | None]:
        """Gradients of the inputs."""
        layer, step = self.layer, self.layer.step
        self.planned = planned = self.variant.back_from(tuple([d is not None for d in d_outputs]))
        self.native.follow(planned.native)
        compiled = planned.compiled
        tables = compiled.backward
        assert tables is not None
        given = self._given_gradients(d_outputs)
        d_final = dense(d_outputs[len(d_outputs) - layer.n_states :])
        d_restart: list[Array] = []
        if self.restart:
            d_restart = [np.zeros(shape, self.dtype) for shape in self.state_shapes]
        seen = layer.options.seen
        if seen is not None:
            self.flowed = [np.zeros((self.steps.T, self.N, v.size), self.dtype) for v in step.after]
        flows = [(array, "time_first") for array in self.flowed]
        size = tables.encoder.sums.size
        row_sums = np.zeros(self.N * size, self.dtype) if size else None
        sums = new_arrays(planned.sums_shapes, self.dtype)
        d_matrices = new_arrays(planned.matrix_shapes, self.dtype)
        d_biases = new_arrays(planned.bias_shapes, self.dtype)
        self.d_x, self.d_drawn = None, []
        if self.drawn:
            of_drawn = self.needs[layer.at_drawn]
            self.d_drawn = [
                np.zeros_like(a) if of_drawn[i] else None for i, a in enumerate(self.drawn)
            ]
        self.invariants.begin_backward()
        invariants: tuple[Array, ...] = ()
        again: list[Placed] = []
        outputs, drawn = self._outputs_of_inputs()
        d_initial: tuple[Any, ...] = ()
        for k in range(len(self.starts) - 1, -1, -1):
            first, last = segment = self._segment(k)
            start = self.between[k - 1] if k else self.initial
            if self.present != segment:
                again = again or self._outputs()[0]
                scratch = new_arrays(self.state_shapes, self.dtype)
                self._forward_segment(segment, again, start, scratch)
            invariants = invariants or self.invariants.native(tables.invariants)
            n_rows = self.steps.rows_of(first, last)
            hoisted = [
                (v, self.steps.placed(np.empty((n_rows, v.size), self.dtype), first, last))
                for v in planned.d_graphs
            ]
            d_rows = tuple([self._room_for_rows(value, n_rows) for value in planned.d_rows])
            d_initial = new_arrays(self.state_shapes, self.dtype)
            self.native.backward(
                first, last - first, self.rows, self.operands, invariants,
                self._given(planned.backward_given, {**given, **self.computed}),
                (*outputs, *[placed for _, placed in hoisted], *flows),
                tuple(start), self.restart, d_final, d_initial, tuple(d_restart),
                row_sums, sums, d_rows, d_matrices, d_biases, k + 1 < len(self.starts),
            )
            d_final = d_initial
            self._add_rows(segment, d_rows)
            if self.graphs is not None:
                self.graphs.back(hoisted, first, last, self._add_to_input, self._add_to_flow)
        for i, (value, _) in enumerate(compiled.outer_sums):
            self.invariants.sums[value] = sums[i]
        for i, source in enumerate(planned.d_matrices):
            if source is not None:
                self.invariants.add_gradient(source, d_matrices[i])
        for i, source in enumerate(planned.d_biases):
            if source is not None:
                self.invariants.add_gradient(source, d_biases[i])
        if row_sums is not None:
            self._add_row_sums(row_sums)
        if seen is not None:
            self._show_flows(seen)
        for value, array in drawn.items():
            self._add_to_drawn(value, array)
        if not retain:
            self._forget()
        # Nothing here keeps what is handed out: the engine copies what somebody might look at.
        d_x, self.d_x = self.d_x, None
        d_drawn, self.d_drawn = self.d_drawn, []
        if not self.needs[0]:
            d_x = None
        elif d_x is None:
            d_x = np.zeros(self.x.shape, self.dtype)
        of_states = needs[layer.at_states]
        return [
            d_x, *[d if of_states[i] else None for i, d in enumerate(d_initial)], *d_restart,
            *self.invariants.gradients(planned.d_invariants), *d_drawn,
        ]

    def _add_rows(self, segment: Segment, d_rows: Sequence[Array | None]) -> None:
        """Gradients of rows that products are made of, where they are not in that of x already."""
        for i, value in enumerate(self.variant.rows):
            d = d_rows[i]
            if d is None:
                continue
            for state, watched in self.variant.watched.items():
                if watched.value is value:
                    self._add_to_flow(state, *segment, d)
            if d.base is None or d.base is not self.d_x:
                self._add_to_input(value, *segment, d)

    def _show_flows(self, seen: LayerRun) -> None:
        """What flows into the states, to those who look."""
        flowed, self.flowed = self.flowed, []
        direction = seen.directions[self.layer.reverse]
        for name, value, array in zip(
            self.cell.state_names, self.layer.step.after, flowed, strict=True
        ):
            shown = array.reshape(self.steps.T, self.N, *value.shape)
            direction.add_gradient(name, shown)

    def _outputs_of_inputs(self) -> tuple[list[Placed], dict[Value, Array]]:
        """Room for the gradients of x and of what is drawn, where the program itself gives them."""
        step = self.layer.step
        outputs: list[Placed] = []
        drawn = {}
        for value in self.planned.d_inputs:
            if value is step.x:
                self.d_x = self.steps.empty(value.size)
                outputs.append((self.d_x, self.steps.layout))
            else:
                drawn[value] = np.zeros((self.steps.T, self.N, value.size), self.dtype)
                outputs.append((drawn[value], "time_first"))
        return outputs, drawn

    def _room_for_rows(self, value: Value | None, n_rows: int) -> Array | None:
        """For the gradient of rows that products are made of: in that of x, where they are all."""
        if value is None:
            return None
        if value is self.layer.step.x and self.d_x is None and n_rows == self.steps.T * self.N:
            (self.d_x,) = new_arrays((self.x.shape,), self.dtype)
            return self.d_x.reshape(n_rows, value.size)
        return new_arrays(((n_rows, value.size),), self.dtype)[0]

    def _given_gradients(self, d_outputs: list[Array | None]) -> dict[Value, Placed]:
        """The gradients that come for what is shown of every step."""
        layer, step, gradients = self.layer, self.layer.step, self.planned.compiled.gradients
        assert gradients is not None
        given: dict[Value, Placed] = {}
        if gradients.d_y is not None:
            given[gradients.d_y] = self._d_y(d_outputs[0], step.y.size)
        if layer.options.steps:
            for value, d in zip(gradients.d_steps, d_outputs[layer.y_wanted :], strict=False):
                if value is None:
                    continue
                if d is not None:
                    d = d.reshape(*d.shape[:2], -1)
                given[value] = self._given_or_zero(d, value.size)
        return given

    def _given_or_zero(self, d: Array | None, width: int) -> Placed:
        if d is None:
            zero = np.zeros(width, self.dtype)
            return np.broadcast_to(zero, (1, self.N, width)), "shared"
        return rows(d), self.steps.layout

    def _d_y(self, d: Array | None, width: int) -> Placed:
        if self.layer.options.sequences or d is None:
            return self._given_or_zero(d, width)
        # Only each row's last output has a gradient.
        steps = self.steps
        d_y = np.zeros((steps.T, self.N, width), d.dtype)
        lengths = np.full(self.N, steps.T) if steps.lengths is None else steps.lengths
        with_steps = np.flatnonzero(lengths)
        d_y[0 if self.layer.reverse else lengths[with_steps] - 1, with_steps] = d[with_steps]
        return d_y, "time_first"

    # ---- sums over steps, and gradients of inputs

    def _add_row_sums(self, sums: Array) -> None:
        """Sums of rows, which the loop has left for each row of the batch."""
        total = sums if self.N == 1 else np.add.reduce(sums.reshape(self.N, -1), axis=0)
        for value, part in self.planned.compiled.row_sums:
            self.invariants.sums[value] = total[part].reshape(value.shape)

    def _add_to_input(self, value: Value, first: int, last: int, d: Array) -> None:
        """The gradient of x, or of what is drawn, for the rows of some steps."""
        if value is self.layer.step.x:
            if self.d_x is None:
                self.d_x = np.zeros(self.x.shape, self.dtype)
            self.steps.add_rows(self.d_x, first, last, d)
            return
        self._add_to_drawn(value, self._by_time(first, last, d))

    def _add_to_flow(self, state: int, first: int, last: int, d: Array) -> None:
        """What flows into a state by way of hoisted values, for the rows of some steps."""
        self.flowed[state] += self._by_time(first, last, d)

    def _by_time(self, first: int, last: int, d: Array) -> Array:
        """Rows of some steps, as (T, N, size) with zeros elsewhere."""
        T, N, batch_first = self.steps.T, self.N, self.steps.batch_first
        rows = d.reshape(len(d), -1)
        # Laid out as x: what is added to a view in another order may be lost.
        total = np.zeros((*((N, T) if batch_first else (T, N)), rows.shape[1]), self.dtype)
        self.steps.add_rows(total, first, last, rows)
        return total.swapaxes(0, 1) if batch_first else total

    def _add_to_drawn(self, value: Value, d: Array) -> None:
        """The gradient of what is drawn, (T, N, size)."""
        own = self.d_drawn[self.layer.step.drawn.index(value)]
        if own is not None:
            d = d.reshape(self.steps.T, *own.shape[1:])
            own += d.sum(0, keepdims=True) if own.shape[0] == 1 else d
