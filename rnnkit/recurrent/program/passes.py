"""The forward and the backward pass of one direction of a program over a sequence.

A run goes over its steps in *segments*: one, unless a memory budget asks for more. Between two
segments only the states are kept; the backward pass runs forward again over all but the last. Sums
over steps are formed by *blocks* of steps, whose length depends on the number of rows alone, and
segments are whole blocks: so the bits of a result do not depend on the segments.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

import numpy as np

from rnnkit import backend
from rnnkit.autograd import Tensor, enable_grad, grad, no_grad
from rnnkit.autograd.tensor import wrap
from rnnkit.backend.products import always_native, matmul
from rnnkit.errors import BackendError
from rnnkit.recurrent.memory import segment_within
from rnnkit.recurrent.program.prologue import Prologue, places_of_rows

if TYPE_CHECKING:
    from rnnkit.recurrent.program.plan import Compiled, Tables
    from rnnkit.recurrent.program.run import DirectionOfLayer
    from rnnkit.recurrent.program.values import Value

    Array = np.ndarray[Any, np.dtype[Any]]

SHORTEST_BLOCK = 64
ROWS_OF_BLOCK = 4096
"""A block has at least so many steps, and at least so many rows."""


class Block:
    """Some steps, and what the prologue computes for all of them at once.

    Attributes:
        first, last: the steps, from ``first`` to ``last - 1`` in the direction's own order.
        inputs: leaves for x and what the run draws, as rows (rows, ...).
        sequences: hoisted values, as rows; a graph from the inputs and from the layer's operands.
    """

    def __init__(
        self, first: int, last: int, inputs: dict[Value, Tensor], sequences: dict[Value, Tensor]
    ) -> None:
        self.first, self.last = first, last
        self.inputs = inputs
        self.sequences = sequences


class Passes:
    """A forward pass, and what its backward passes need.

    Args:
        layer: what is run.
        arrays: its inputs, as ``layer.parts`` takes them apart.
        needs: which of them need a gradient.
        compiled: gives the programs for (wanted values, whether there are gradients at all).
    """

    def __init__(
        self, layer: DirectionOfLayer, arrays: Sequence[Array], needs: Sequence[bool],
        compiled: Any,
    ) -> None:
        self.layer = layer
        step, options = layer.step, layer.options
        self.schedule = schedule = options.schedule
        self.x, states, restarts, tensors, self.drawn = layer.parts(arrays)
        self.need_x, _, _, need_tensors, self.need_drawn = layer.parts(needs)
        self.training = any(needs)
        self.dtype = self.x.dtype
        self.batch_first = options.batch_first
        self.T, self.N = self.x.shape[:2][:: -1 if self.batch_first else 1]
        self.steps = self.T if schedule is None else schedule.steps
        # Lengths that are all T are none.
        lengths = None if schedule is None else schedule.lengths
        self.is_ragged = lengths is not None and int(lengths.min()) < self.T
        self.lengths = lengths if self.is_ragged else None
        if self.lengths is not None:
            self.places = places_of_rows(self.lengths, self.T, self.batch_first, layer.reverse)
            active = np.count_nonzero(self.lengths[:, None] > np.arange(self.steps), axis=0)
        else:
            active = np.full(self.steps, self.N)
        self.rows_before = np.concatenate([[0], np.cumsum(active)])

        # The invariants are a small graph of their own, from these leaves.
        names: list[Any] = [*layer.paths, *layer.captured]
        self.tensors = {
            name: _leaf(a, need) for name, a, need in zip(names, tensors, need_tensors, strict=True)
        }
        self.prologue = Prologue(step, self.tensors, {})
        self.operands: dict[int, Tensor] = {}  # leaves in their place, for the hoisted values
        with enable_grad() if self.training else no_grad():
            wanted = self._wanted() if self.training else ()
        self.compiled: Compiled = compiled(wanted, self.training)
        self.initial = [flat(a) for a in states]
        self.restart = [flat(a) for a in restarts]
        self.block = max(SHORTEST_BLOCK, -(-ROWS_OF_BLOCK // self.N))
        self.segment = self._segment()
        self.between: list[list[Array]] = []
        self.kept: Array | None = None
        self.blocks: list[Block] = []

    def _wanted(self) -> tuple[Value, ...]:
        """Inputs of every step and invariants whose gradients are wanted."""
        step = self.layer.step
        found = [v for v in step.inputs if self._requires_grad(v)]
        found += [
            v for v in step.tracer.tensor_of if self.prologue.invariant(v).requires_grad
        ]
        return tuple(found)

    def _requires_grad(self, value: Value) -> bool:
        step = self.layer.step
        if value is step.x:
            return bool(self.need_x)
        if value in step.drawn:
            return bool(self.need_drawn[step.drawn.index(value)])
        values, tensors = self.prologue.operands(value)
        return any(map(self._requires_grad, values)) or any(t.requires_grad for t in tensors)

    def _segment(self) -> int:
        """Steps of a segment."""
        budget = self.layer.options.memory
        options = self.layer.options
        if options.memory is None or not self.training:
            return self.steps
        budget = options.memory // self.layer.directions
        tables = self.compiled.backward
        width = self.compiled.kept.size + (tables.encoder.summands.size if tables else 0)
        width += 2 * sum(v.size for v in self.layer.step.hoisted)
        row = self.N * self.dtype.itemsize
        blocks = -(-self.steps // self.block)
        states = sum(v.size for v in self.layer.step.states)
        return self.block * segment_within(
            budget, blocks, lambda n: n * self.block * width * row, states * row
        )

    @property
    def n_segments(self) -> int:
        return -(-self.steps // self.segment)

    # ---- arrays as the native side takes them

    @property
    def _layout(self) -> str:
        return "batch_first" if self.batch_first else "time_first"

    def _steps_of(self, width: int) -> Array:
        shape = (self.N, self.T, width) if self.batch_first else (self.T, self.N, width)
        return (np.zeros if self.is_ragged else np.empty)(shape, self.dtype)

    def _local_times(self, first: int, last: int) -> slice:
        """The times of some steps."""
        if self.layer.reverse:
            return slice(self.steps - last, self.steps - first)
        return slice(first, last)

    def _rows(self, array: Array, first: int, last: int) -> Array:
        """x, or what is laid out like it, at some steps, as rows."""
        if self.lengths is not None:
            places = self.places[self.rows_before[first] : self.rows_before[last]]
            return array.reshape(self.T * self.N, *array.shape[2:])[places]
        times = self._local_times(first, last)
        part = array[:, times] if self.batch_first else array[times]
        return np.ascontiguousarray(part).reshape(-1, *array.shape[2:])

    def _add_rows(self, total: Array, first: int, last: int, rows: Array) -> None:
        """The inverse, for gradients: no row comes twice."""
        if self.lengths is not None:
            places = self.places[self.rows_before[first] : self.rows_before[last]]
            total.reshape(self.T * self.N, *total.shape[2:])[places] += rows
            return
        times = self._local_times(first, last)
        part = total[:, times] if self.batch_first else total[times]
        part += rows.reshape(part.shape)

    def _as_local_steps(self, rows: Array, first: int, last: int) -> tuple[Array, str]:
        """Rows of some steps as the native side takes them."""
        rows = rows.reshape(len(rows), -1)
        if self.lengths is not None:
            return rows, "packed"
        shape = (self.N, last - first) if self.batch_first else (last - first, self.N)
        return rows.reshape(*shape, -1), f"local_{self._layout}"

    def _like_x(self, i: int) -> Array:
        """Input i of those drawn, laid out as x is."""
        array = self.drawn[i]
        if array.shape[0] == 1 < self.T:
            array = np.broadcast_to(array, (self.T, *array.shape[1:]))
        return array.swapaxes(0, 1) if self.batch_first else array

    # ---- the prologue

    def _prologue_of_block(self, first: int, last: int) -> Block:
        step = self.layer.step
        inputs = {step.x: _leaf(self._rows(self.x, first, last), self.need_x)}
        for i, value in enumerate(step.drawn):
            rows = self._rows(self._like_x(i), first, last)
            inputs[value] = _leaf(rows, self.need_drawn[i])
        prologue = self.prologue.for_inputs(inputs, self._operand)
        records = self.training and self._simple_products(step.hoisted) is None
        with enable_grad() if records else no_grad(), always_native():
            sequences = {value: prologue.sequence(value) for value in step.hoisted}
        return Block(first, last, inputs, sequences)

    def _operand(self, tensor: Tensor) -> Tensor:
        """The leaf that stands for an invariant in the graphs of blocks."""
        if id(tensor) not in self.operands:
            self.operands[id(tensor)] = _leaf(tensor.data, tensor.requires_grad)
        return self.operands[id(tensor)]

    def _begin_segment(self, first: int, last: int) -> dict[Value, tuple[Array, str]]:
        """Compute the hoisted values of a segment."""
        self.blocks = []
        hoisted = self.layer.step.hoisted
        if not hoisted:
            return {}
        for start in range(first, last, self.block):
            end = min(start + self.block, last)
            self.blocks.append(self._prologue_of_block(start, end))
        found = {}
        for value in hoisted:
            parts = [block.sequences[value] for block in self.blocks]
            rows = self._joined(parts, first, last) if len(parts) > 1 else parts[0].data
            found[value] = self._as_local_steps(np.ascontiguousarray(rows), first, last)
        return found

    def _joined(self, parts: list[Tensor], first: int, last: int) -> Array:
        """Rows of several blocks as those of one."""
        if self.lengths is not None:
            return np.concatenate([part.data for part in parts])
        arrays = []
        for part, block in zip(parts, self.blocks, strict=True):
            steps = block.last - block.first
            shape = (self.N, steps, -1) if self.batch_first else (steps, self.N, -1)
            arrays.append(part.data.reshape(shape))
        if self.layer.reverse:
            arrays.reverse()
        whole = np.concatenate(arrays, axis=1 if self.batch_first else 0)
        return whole.reshape((last - first) * self.N, -1)

    def _part_of_block(
        self, array: Array, layout: str, block: Block, first: int, last: int
    ) -> Array:
        """A block's rows of an array over a segment."""
        if layout == "packed":
            before = self.rows_before
            return array[before[block.first] - before[first] : before[block.last] - before[first]]
        start, end = block.first - first, block.last - first
        if self.layer.reverse:
            start, end = last - block.last, last - block.first
        part = array[:, start:end] if self.batch_first else array[start:end]
        return np.ascontiguousarray(part)

    # ---- native calls

    def _native(
        self, tables: Tables, first: int, last: int, given: dict[Value, tuple[Array, str]],
        outputs: Sequence[tuple[Array, str]], initial: Sequence[Array], final: tuple[Array, ...],
        kept: Array | None, **more: Any,
    ) -> None:
        extension = backend.native()
        if extension is None:
            raise BackendError("the native extension is not loaded")
        sequences = [given[v] if v in given else self._given_input(v) for v in tables.sequences]
        extension.run_program(
            tables.native, backend.DTYPE_NAMES[self.dtype], backend.get_num_threads(), self.steps,
            self.N, None if self.schedule is None else self.schedule.native, self.layer.reverse,
            tuple([self._invariant(v) for v in tables.invariants]), tuple(sequences),
            tuple(outputs), tuple(initial), tuple(self.restart), final, kept,
            tuple(self.compiled.state_places), self.compiled.kept.size, first=first,
            count=last - first, **more,
        )

    def _given_input(self, value: Value) -> tuple[Array, str]:
        step = self.layer.step
        if value is step.x:
            return as_steps(self.x), self._layout
        array = np.asarray(self.drawn[step.drawn.index(value)], self.dtype)
        layout = "shared" if array.shape[0] == 1 else "time_first"
        return as_steps(array.reshape(*array.shape[:2], -1)), layout

    def _invariant(self, value: Value) -> Array:
        # Truth, such as a mask that the cell holds, is 1 and 0 to the executor.
        return flat(np.asarray(self._computed(value), self.dtype))

    def _computed(self, value: Value) -> Array:
        """A value without rows, by the engine's array code."""
        if value.of is None:
            return self.prologue.invariant(value).data
        if value in self.sums:
            return self.sums[value]
        params = value.of.params
        result = params["primitive"].forward(
            *[self._computed(v) for v in value.of.inputs], **params["params"]
        )
        return np.asarray(result if params["position"] is None else result[params["position"]])

    def _forward_segment(
        self, first: int, last: int, outputs: Sequence[tuple[Array, str]],
        initial: Sequence[Array], final: Sequence[Array],
    ) -> None:
        """Run forward over a segment; what it keeps replaces what the one before kept."""
        self.kept = None
        given = self.given = self._begin_segment(first, last)
        if self.compiled.kept.size:
            rows = int(self.rows_before[last] - self.rows_before[first])
            self.kept = np.empty(rows * self.compiled.kept.size, self.dtype)
        self._native(
            self.compiled.forward, first, last, given, outputs, initial,
            tuple([flat(a) for a in final]), self.kept,
        )

    def _segments(self) -> list[tuple[int, int]]:
        starts = range(0, self.steps, self.segment)
        return [(first, min(first + self.segment, self.steps)) for first in starts]

    # ---- the passes

    def forward(self) -> tuple[Array, ...]:
        """y, where it is wanted; the states of every step, where wanted; the final states."""
        layer, step = self.layer, self.layer.step
        self.sums: dict[Value, Array] = {}
        outputs: list[tuple[Array, str]] = []
        shown: list[Array] = []
        if layer.y_wanted:
            if layer.options.sequences:
                y = self._steps_of(step.y.size)
                outputs.append((y, self._layout))
                shown.append(y)
            else:
                y = np.zeros((1, self.N, step.y.size), self.dtype)  # the last step's remains
                outputs.append((y, "shared"))
                shown.append(y[0])
        if layer.options.steps:
            for value in step.after:
                array = self._steps_of(value.size)
                outputs.append((array, self._layout))
                shown.append(array.reshape(*array.shape[:2], *value.shape))
        self.outputs = outputs
        initial = self.initial
        segments = self._segments()
        for first, last in segments:
            final = [np.empty((1, self.N, *v.shape), self.dtype) for v in step.after]
            self._forward_segment(first, last, outputs, initial, final)
            initial = [flat(a) for a in final]
            if last < self.steps:
                self.between.append(initial)
        self.outputs = [(np.empty_like(a), layout) for a, layout in outputs] if (
            len(segments) > 1) else []
        if not self.training:
            self.blocks = []
        return (*shown, *final)

    def backward(
        self, d_outputs: list[Array | None], needs: Sequence[bool], retain: bool
    ) -> tuple[Tensor | None, ...]:
        """Gradients of the inputs."""
        layer, step, programs = self.layer, self.layer.step, self.compiled
        gradients, tables = programs.gradients, programs.backward
        assert gradients is not None
        assert tables is not None
        given, d_final = self._given_gradients(d_outputs)
        _, need_states, *_ = layer.parts(needs)
        d_restart = [np.zeros((1, self.N, *v.shape), self.dtype) for v in step.states]
        d_restart = d_restart if self.restart else []
        d_x = self._steps_of(step.x.size) if step.x in programs.sequence_gradients else None
        if d_x is None and self.need_x:
            d_x = np.zeros(self.x.shape, self.dtype)
        d_drawn = [np.zeros_like(a) if need else None
                   for a, need in zip(self.drawn, self.need_drawn, strict=True)]
        drawn_steps = {}
        for value in programs.sequence_gradients:
            if value in step.drawn:
                drawn_steps[value] = np.zeros((self.T, self.N, value.size), self.dtype)
        seen = layer.options.seen
        flowed = [
            np.zeros((self.T, self.N, v.size), self.dtype) for v in (step.after if seen else ())
        ]
        encoder = tables.encoder
        sums = np.zeros(self.N * encoder.sums.size, self.dtype) if encoder.sums.size else None
        self.sums = {}
        self.d_operands: dict[int, Array] = {}
        segments = self._segments()
        initial: list[Array] = []
        for k in range(len(segments) - 1, -1, -1):
            first, last = segments[k]
            start = self.between[k - 1] if k else self.initial
            if self.last_segment != k:
                scratch = [np.empty((self.N, *v.shape), self.dtype) for v in step.after]
                self._forward_segment(first, last, self.outputs, start, scratch)
                self.last_segment = k
            rows = int(self.rows_before[last] - self.rows_before[first])
            outputs: list[tuple[Array, str]] = []
            hoisted: list[tuple[Value, Array, str]] = []
            for value in programs.sequence_gradients:
                if value is step.x:
                    assert d_x is not None
                    outputs.append((d_x, self._layout))
                elif value in step.drawn:
                    outputs.append((drawn_steps[value], "time_first"))
                else:
                    array = np.empty((rows, value.size), self.dtype)
                    outputs.append(self._as_local_steps(array, first, last))
                    hoisted.append((value, *outputs[-1]))
            outputs += [(array, "time_first") for array in flowed]
            summands = None
            if encoder.summands.size:
                summands = np.empty(rows * encoder.summands.size, self.dtype)
            initial = [np.empty((1, self.N, *v.shape), self.dtype) for v in step.states]
            self._native(
                tables, first, last, {**given, **self.given}, outputs, start, (), self.kept,
                backward=True,
                d_final=tuple([None if d is None else flat(d) for d in d_final]),
                d_initial=tuple([a.reshape(-1) for a in initial]),
                d_restart=tuple([a.reshape(-1) for a in d_restart]), summands=summands, sums=sums,
            )
            d_final = list(initial)
            self._add_products(tables, summands, first, last)
            self._through_blocks(hoisted, first, last, d_x, d_drawn)
        self._add_sums(tables, sums)
        for name, value, array in zip(layer.cell.state_names, step.after, flowed, strict=False):
            assert seen is not None
            shown = array.reshape(self.T, self.N, *value.shape)
            seen.directions[layer.reverse].add_gradient(name, shown)
        for value, array in drawn_steps.items():
            i = step.drawn.index(value)
            if d_drawn[i] is not None:
                total = array.reshape(self.T, *self.drawn[i].shape[1:])
                shared = self.drawn[i].shape[0] == 1
                d_drawn[i] += total.sum(0, keepdims=True) if shared else total
        d_tensors = self._through_invariants()
        d_states = [
            wrap(a) if need else None for a, need in zip(initial, need_states, strict=True)
        ]
        if not retain:
            self.kept, self.blocks = None, []
        d_input = None if d_x is None else wrap(d_x)
        return (
            d_input if self.need_x else None, *d_states, *[wrap(a) for a in d_restart], *d_tensors,
            *[None if d is None else wrap(d) for d in d_drawn],
        )

    last_segment = -1

    def _given_gradients(
        self, d_outputs: list[Array | None]
    ) -> tuple[dict[Value, tuple[Array, str]], list[Array | None]]:
        """The gradients that come, as inputs of every step and for the final states."""
        layer, step, gradients = self.layer, self.layer.step, self.compiled.gradients
        assert gradients is not None
        if self.last_segment < 0:
            self.last_segment = self.n_segments - 1
        n = layer.n_states
        given: dict[Value, tuple[Array, str]] = {}
        position = 0
        if layer.y_wanted:
            assert gradients.d_y is not None
            given[gradients.d_y] = self._d_y(d_outputs[0], step.y.size)
            position = 1
        if layer.options.steps:
            for i, value in enumerate(gradients.d_steps):
                assert value is not None
                d = d_outputs[position + i]
                if d is not None:
                    d = d.reshape(*d.shape[:2], -1)
                given[value] = self._given_or_zero(d, value.size)
        return given, d_outputs[-n:]

    def _given_or_zero(self, d: Array | None, width: int) -> tuple[Array, str]:
        if d is None:
            zero = np.zeros(width, self.dtype)
            return np.broadcast_to(zero, (1, self.N, width)), "shared"
        return as_steps(d), self._layout

    def _d_y(self, d: Array | None, width: int) -> tuple[Array, str]:
        if self.layer.options.sequences or d is None:
            return self._given_or_zero(d, width)
        # Only each row's last output has a gradient.
        d_y = np.zeros((self.T, self.N, width), d.dtype)
        lengths = np.full(self.N, self.T) if self.lengths is None else self.lengths
        rows = np.flatnonzero(lengths)
        d_y[0 if self.layer.reverse else lengths[rows] - 1, rows] = d[rows]
        return d_y, "time_first"

    # ---- sums over steps

    def _add_products(
        self, tables: Tables, summands: Array | None, first: int, last: int
    ) -> None:
        """Sums of products of rows, block by block from the last step to the first."""
        if summands is None:
            return
        encoder, before = tables.encoder, self.rows_before
        rows = summands.reshape(-1, encoder.summands.size)
        for value in self.compiled.found["sums"]:
            if value.of.name != "outer":
                continue
            a, b = [
                rows[:, place.offset : place.offset + v.size]
                for v, place in ((v, encoder.summands.fields[v]) for v in value.of.inputs)
            ]
            starts = range(first, last, self.block)
            for start in reversed(starts):
                end = min(start + self.block, last)
                part = slice(before[last] - before[end], before[last] - before[start])
                total = _product(a[part], b[part])
                self.sums[value] = total if value not in self.sums else self.sums[value] + total

    def _add_sums(self, tables: Tables, sums: Array | None) -> None:
        """Sums of rows, which the loop has left for each row of the batch."""
        for value in self.compiled.found["sums"]:
            if value.of.name == "sum_rows":
                assert sums is not None
                place = tables.encoder.sums.fields[value]
                rows = sums.reshape(self.N, -1)[:, place.offset : place.offset + value.size]
                self.sums[value] = np.add.reduce(rows, axis=0).reshape(value.shape)

    def _through_blocks(
        self, hoisted: list[tuple[Value, Array, str]], first: int, last: int, d_x: Array | None,
        d_drawn: list[Array | None],
    ) -> None:
        """Back through the hoisted values, from the last block to the first."""
        step = self.layer.step
        simple = self._simple_products([value for value, _, _ in hoisted])
        for block in reversed(self.blocks if hoisted else []):
            if simple is not None:
                for (value, array, layout), operands in zip(
                    hoisted[::-1], simple[::-1], strict=True
                ):
                    part = self._part_of_block(array, layout, block, first, last)
                    self._through_product(block, part.reshape(-1, value.size), operands, d_x)
                continue
            roots, seeds = [], []
            for value, array, layout in hoisted:
                root = block.sequences[value]
                if root.requires_grad:
                    part = self._part_of_block(array, layout, block, first, last)
                    roots.append(root)
                    seeds.append(wrap(part.reshape(root.shape)))
            inputs = [t for t in block.inputs.values() if t.requires_grad]
            leaves = [(i, t) for i, t in self.operands.items() if t.requires_grad]
            with always_native():
                found = grad(roots, [*inputs, *[t for _, t in leaves]], seeds,
                             retain_graph=True, allow_unused=True)
            for (i, _), d in zip(leaves, found[len(inputs) :], strict=True):
                if d is not None:
                    self._add_to_operand(i, d.data)
            by_leaf = {id(t): d for t, d in zip(inputs, found, strict=False)}
            for value, leaf in block.inputs.items():
                d = by_leaf.get(id(leaf))
                if d is None:
                    continue
                if value is step.x:
                    assert d_x is not None
                    self._add_rows(d_x, block.first, block.last, d.data)
                    continue
                i = step.drawn.index(value)
                total = np.zeros((self.T, *self.drawn[i].shape[1:]), self.dtype)
                like_x = total.swapaxes(0, 1) if self.batch_first else total
                self._add_rows(like_x, block.first, block.last, d.data)
                own = d_drawn[i]
                assert own is not None
                own += total.sum(0, keepdims=True) if own.shape[0] == 1 < self.T else total

    def _add_to_operand(self, i: int, d: Array) -> None:
        so_far = self.d_operands.get(i)
        self.d_operands[i] = d if so_far is None else so_far + d

    def _simple_products(self, hoisted: list[Value]) -> list[list[Tensor]] | None:
        """The weight and the bias of each hoisted value, where all are ``linear`` of x itself."""
        found = []
        for value in hoisted:
            call = self.layer.step.tracer.input_calls[value]
            values, tensors = self.prologue.operands(value)
            if call.primitive.name != "linear" or values != [self.layer.step.x]:
                return None
            found.append(tensors)
        return found

    def _through_product(
        self, block: Block, d: Array, operands: list[Tensor], d_x: Array | None
    ) -> None:
        """The derivative rules of ``linear``, without a graph."""
        x = block.inputs[self.layer.step.x]
        weight, *bias = operands
        with always_native():
            if x.requires_grad:
                assert d_x is not None
                rows = matmul(d, np.ascontiguousarray(weight.data))
                self._add_rows(d_x, block.first, block.last, rows)
            if weight.requires_grad:
                self._add_to_operand(id(weight), matmul(d.T, x.data))
        for each in bias:
            if each.requires_grad:
                self._add_to_operand(id(each), np.add.reduce(d, axis=0))

    def _through_invariants(self) -> list[Tensor | None]:
        """Gradients of the cell's tensors and of captured ones."""
        roots, seeds = [], []
        for value, d in self.compiled.found["invariants"]:
            root = self.prologue.invariant(value)
            roots.append(root)
            seeds.append(np.ascontiguousarray(self._computed(d)).reshape(root.shape))
        for tensor in self.prologue.real_tensors():
            if id(tensor) in self.d_operands:
                roots.append(tensor)
                seeds.append(self.d_operands[id(tensor)])
        used = [
            (root, wrap(np.asarray(seed, self.dtype)))
            for root, seed in zip(roots, seeds, strict=True) if root.requires_grad
        ]
        wanted = [leaf for leaf in self.tensors.values() if leaf.requires_grad]
        found: dict[int, Tensor | None] = {}
        names = {id(root) for root, _ in used}
        if len(names) == len(used) and all(root.is_leaf for root, _ in used):
            found = {id(root): seed for root, seed in used}  # nothing to go back through
        elif used and wanted:
            results = grad([root for root, _ in used], wanted, [seed for _, seed in used],
                           retain_graph=True, allow_unused=True)
            found = {id(leaf): d for leaf, d in zip(wanted, results, strict=True)}
        return [found.get(id(t)) for t in self.tensors.values()]


def _product(a: Array, b: Array) -> Array:
    """a^T b, of rows of one record."""
    extension = backend.native()
    assert extension is not None
    c = np.empty((a.shape[1], b.shape[1]), a.dtype)
    name = backend.DTYPE_NAMES[a.dtype]
    extension.matmul(a.T, b, None, c, name, backend.get_num_threads())
    return c


def _leaf(array: Array, need: bool) -> Tensor:
    leaf = wrap(array)
    leaf._requires_grad = bool(need)
    return leaf


def flat(a: Array) -> Array:
    """As one vector, in C order and aligned."""
    return np.require(a, requirements=("C", "A")).reshape(-1)


def as_steps(a: Array) -> Array:
    """Aligned, with a contiguous last axis and whole strides."""
    size = a.itemsize
    good = a.flags.aligned and (a.shape[-1] == 1 or a.strides[-1] == size)
    return a if good and not any(s % size for s in a.strides) else np.array(a, order="C")
