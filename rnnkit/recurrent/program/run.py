"""Running a layer of a traced cell over a sequence: the counterpart of ``recurrent/native.py``."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from typing import TYPE_CHECKING, Any
from weakref import WeakKeyDictionary

import numpy as np

from rnnkit import backend, ops
from rnnkit.autograd import Function, Tensor, enable_grad, grad, is_grad_enabled, no_grad
from rnnkit.autograd.function import Alias
from rnnkit.autograd.tensor import wrap
from rnnkit.errors import BackendError, GraphError, TraceError
from rnnkit.recurrent import tape
from rnnkit.recurrent.options import Result
from rnnkit.recurrent.program.plan import Compiled, Tables
from rnnkit.recurrent.program.prologue import Prologue, places_of_rows, rows_of_steps
from rnnkit.recurrent.program.settings import settings_of
from rnnkit.recurrent.program.traced import TracedStep, tensors_of, with_tensors

if TYPE_CHECKING:
    from rnnkit.cells import Cell
    from rnnkit.cells.base import State
    from rnnkit.recurrent.options import Options
    from rnnkit.recurrent.program.values import Value

    Array = np.ndarray[Any, np.dtype[Any]]

_traced: WeakKeyDictionary[Cell, dict[Any, TracedStep | TraceError]] = WeakKeyDictionary()


def traced(cell: Cell) -> TracedStep:
    """The traced step of a cell as it is now; traced once for each of its settings.

    Raises:
        TraceError: it cannot be traced; the message names the line.
    """
    of_cell = _traced.get(cell)
    if of_cell is None:
        of_cell = _traced[cell] = {}
    key = settings_of(cell)
    found = of_cell.get(key)
    if found is None:
        try:
            found = TracedStep(cell)
            compiled(found, (), True, False)
        except TraceError as error:
            found = error
        of_cell[key] = found
    if isinstance(found, TraceError):
        raise found
    return found


def obstacle(cells: Sequence[Cell]) -> str | None:
    """Why a cell cannot run as a program, or None."""
    if backend.native() is None:
        return "the native extension is not loaded"
    try:
        for cell in cells:
            traced(cell)
    except TraceError as error:
        return str(error)
    return None


def compiled(
    step: TracedStep, wanted: tuple[Value, ...], y_wanted: bool, steps_wanted: bool,
    training: bool = False, seen: bool = False,
) -> Compiled:
    """The programs of a step for certain gradients; made once."""
    cache: dict[Any, Compiled] = step.__dict__.setdefault("compiled", {})
    key = (wanted, y_wanted, steps_wanted, training, seen)
    found = cache.get(key)
    if found is None:
        gradients = None
        if training:
            gradients = step.gradients(y_wanted, (steps_wanted,) * len(step.states))
        found = Compiled(step, gradients, list(wanted), steps_wanted, y_wanted, seen)
        cache[key] = found
    return found


def run_layer(
    cells: Sequence[Cell], x: Tensor, state: State, restart: State | None, options: Options
) -> Result:
    """As ``recurrent.run_checked_layer``; the state is not None."""
    schedule = options.schedule
    if 0 in x.shape[:2] or (schedule is not None and schedule.steps == 0):
        return tape.run_layer(cells, x, state, restart, options)
    parts = [
        run_direction(
            cell, x, tuple([each[d] for each in state]),
            None if restart is None else tuple([each[d] for each in restart]), options, d == 1,
        )
        for d, cell in enumerate(cells)
    ]
    return tape.join_directions(parts, options)


def run_direction(
    cell: Cell, x: Tensor, state: State, restart: State | None, options: Options, reverse: bool
) -> tape.Results:
    """One direction; its states, and those of restarts, are (N, ...)."""
    step = traced(cell)
    T, N = x.shape[options.batch_first], x.shape[1 - options.batch_first]
    drawn = cell.draw(T, N)
    if options.seen is not None:
        options.seen.directions[reverse].drawn = drawn
    held = tensors_of(cell)
    captured = _captured(step)
    layer = _Layer(cell, step, options, reverse, len(state), restart is not None, list(held),
                   [id(t) for t in captured], len(drawn))
    inputs = (x, *state, *(restart or ()), *held.values(), *captured, *drawn)
    outputs = list(ProgramLayer.apply(*inputs, layer=layer))
    final = tuple(outputs[-len(state) :])
    steps = tuple(outputs[-2 * len(state) : -len(state)]) if options.steps else ()
    y = outputs[0] if layer.y_wanted else tape_last(final[layer.y_is_state], options)
    return y, tuple([each.unsqueeze(0) for each in final]), steps


def tape_last(h: Tensor, options: Options) -> Tensor:
    """Each row's last output where that is a state; rows without steps have none."""
    schedule = options.schedule
    if schedule is None or schedule.lengths is None or schedule.lengths.all():
        return h
    return ops.where((schedule.lengths > 0)[:, None], h, 0.0)


def _captured(step: TracedStep) -> list[Tensor]:
    """Tensors that the step uses and the cell does not hold, whose gradient may be wanted."""
    tracer = step.tracer
    found = {}
    for call in [*tracer.calls.values()]:
        for tensor in call.inputs:
            found[id(tensor)] = tensor
    for tensor in tracer.tensor_of.values():
        found[id(tensor)] = tensor
    return [
        t for i, t in found.items()
        if t._requires_grad and i not in step.cell_tensors and i not in tracer.calls
    ]


class _Layer:
    """What a direction's forward and backward passes share besides arrays."""

    def __init__(
        self, cell: Cell, step: TracedStep, options: Options, reverse: bool, n_states: int,
        restarts: bool, paths: list[str], captured: list[int], n_drawn: int,
    ) -> None:
        self.cell, self.step, self.options, self.reverse = cell, step, options, reverse
        self.n_states, self.restarts = n_states, restarts
        self.paths, self.captured, self.n_drawn = paths, captured, n_drawn
        self.y_is_state = step.after.index(step.y) if step.y in step.after else -1
        self.y_wanted = options.sequences or self.y_is_state < 0

    def parts(self, items: Sequence[Any]) -> tuple[Any, list[Any], list[Any], list[Any], list[Any]]:
        """x, states, restarts, tensors, drawn: of the inputs, or of anything laid out like them."""
        n, m = self.n_states, len(self.paths) + len(self.captured)
        first = 1 + n * (1 + self.restarts)
        return (
            items[0], list(items[1 : 1 + n]), list(items[1 + n : first]),
            list(items[first : first + m]), list(items[first + m :]),
        )


class ProgramLayer(Function):
    """One direction of one layer as a native program.

    Inputs: x, each initial state (N, ...), each restart state, the cell's tensors, captured
    tensors, what the run draws. Outputs: y, if it is wanted; the states of every step, if wanted;
    final states.
    """

    @staticmethod
    def forward(ctx: Any, *arrays: Array, layer: _Layer) -> tuple[Array, ...]:
        ctx.layer = layer
        ctx.run = _Run(layer, arrays, ctx.needs_input_grad)
        ctx.consumed = False
        return ctx.run.forward()

    @staticmethod
    def backward(ctx: Any, *d_outputs: Tensor | None) -> tuple[Tensor | None, ...]:
        if is_grad_enabled():
            return _backward_on_tape(ctx, d_outputs)
        if ctx.consumed:
            raise GraphError(
                "an earlier backward pass through this layer was interrupted; run the forward pass "
                "again"
            )
        ctx.consumed = not ctx.retain_graph
        return ctx.run.backward([None if d is None else d.data for d in d_outputs],
                                ctx.needs_input_grad, ctx.retain_graph)


class _Run:
    """A forward pass, and what its backward passes need."""

    def __init__(self, layer: _Layer, arrays: Sequence[Array], needs: Sequence[bool]) -> None:
        self.layer = layer
        self.arrays = arrays
        step, options = layer.step, layer.options
        self.schedule = schedule = options.schedule
        x, states, restarts, tensors, drawn = layer.parts(arrays)
        self.batch_first = options.batch_first
        self.T, self.N = x.shape[options.batch_first], x.shape[1 - options.batch_first]
        self.steps = self.T if schedule is None else schedule.steps
        self.places = None
        lengths = None if schedule is None else schedule.lengths
        self.ragged = lengths is not None and lengths.min() < self.T
        if lengths is not None and self.ragged:
            self.places = places_of_rows(lengths, self.T, self.batch_first, layer.reverse)
        self.rows = self.steps * self.N if self.places is None else len(self.places)
        training = any(needs)
        need_x, _, _, need_tensors, need_drawn = layer.parts(needs)
        self.any_restart = bool(restarts)
        # The prologue is a small graph of its own, from these leaves.
        self.x = _leaf(x, need_x)
        names: list[Any] = [*layer.paths, *layer.captured]
        self.tensors = {
            name: _leaf(a, need) for name, a, need in zip(names, tensors, need_tensors, strict=True)
        }
        self.drawn = [_leaf(a, need) for a, need in zip(drawn, need_drawn, strict=True)]
        with enable_grad() if training else no_grad():
            rows: dict[Value, Tensor] = {}
            needs_rows = any(v in step.tracer.input_calls for v in step.tracer.sequences)
            if needs_rows:
                rows[step.x] = rows_of_steps(self.x, self.places)
                for value, each in zip(step.drawn, self.drawn, strict=True):
                    if each.shape[0] == 1 < self.T:
                        each = ops.broadcast_to(each, (self.T, *each.shape[1:]))
                    if self.batch_first:
                        each = ops.transpose(each, 0, 1)
                    rows[value] = rows_of_steps(each, self.places)
            self.prologue = Prologue(step, self.tensors, rows)
            wanted = self._wanted(training)
            self.compiled = compiled(
                step, wanted, layer.y_wanted, options.steps, training, options.seen is not None
            )
        self.initial = [_flat(a) for a in states]
        self.restart = [_flat(a) for a in restarts]
        self.kept: Array | None = None
        self.training = training
        self.sequence_of: dict[Value, Tensor] = {}
        self.invariant_of: dict[Value, Tensor] = {}

    def _wanted(self, training: bool) -> tuple[Value, ...]:
        """Sequences and invariants whose gradients are wanted."""
        if not training:
            return ()
        step = self.layer.step
        found = []
        for value in step.tracer.sequences:
            if value is step.x:
                tensor = self.x
            elif value in step.drawn:
                tensor = self.drawn[step.drawn.index(value)]
            elif value in step.tracer.input_calls:
                tensor = self.prologue.sequence(value)
            else:
                continue  # a gradient, which the backward pass brings
            if tensor.requires_grad:
                found.append(value)
        for value in list(step.tracer.tensor_of):
            if self.prologue.invariant(value).requires_grad:
                found.append(value)
        return tuple(found)

    # ---- arrays as the native side takes them

    def _sequence(self, value: Value) -> tuple[Array, str]:
        step = self.layer.step
        if value is step.x:
            return _steps(self.x.data), self._layout
        if value in step.drawn:
            array = np.asarray(self.drawn[step.drawn.index(value)].data, self.x.data.dtype)
            layout = "shared" if array.shape[0] == 1 else "time_first"
            return _steps(array.reshape(*array.shape[:2], -1)), layout
        rows = self.prologue.sequence(value).data
        return self._as_steps(np.ascontiguousarray(rows).reshape(rows.shape[0], -1))

    def _as_steps(self, rows: Array) -> tuple[Array, str]:
        if self.places is not None:
            return rows, "packed"
        shape = (self.N, self.T) if self.batch_first else (self.T, self.N)
        return rows.reshape(*shape, -1), self._layout

    @property
    def _layout(self) -> str:
        return "batch_first" if self.batch_first else "time_first"

    def _invariant(self, value: Value) -> Array:
        # Truth, such as a mask that the cell holds, is 1 and 0 to the executor.
        return _flat(np.asarray(self._computed(value), self.x.data.dtype))

    def _computed(self, value: Value) -> Array:
        """A value without rows that the backward pass needs, by the engine's array code."""
        if value.of is None:
            return self.prologue.invariant(value).data
        if value in self.sums:
            return self.sums[value]
        params = value.of.params
        result = params["primitive"].forward(
            *[self._computed(v) for v in value.of.inputs], **params["params"]
        )
        return np.asarray(result if params["position"] is None else result[params["position"]])

    def _steps_of(self, width: int, dtype: Any) -> Array:
        shape = (self.N, self.T, width) if self.batch_first else (self.T, self.N, width)
        return (np.zeros if self.ragged else np.empty)(shape, dtype)

    def _native(self, tables: Tables, outputs: list[tuple[Array, str]], final: tuple[Any, ...],
                given: dict[Value, tuple[Array, str]], **more: Any) -> None:
        extension = backend.native()
        if extension is None:
            raise BackendError("the native extension is not loaded")
        x = self.x.data
        extension.run_program(
            tables.native, backend.DTYPE_NAMES[x.dtype], backend.get_num_threads(), self.steps,
            self.N, None if self.schedule is None else self.schedule.native, self.layer.reverse,
            tuple([self._invariant(v) for v in tables.invariants]),
            tuple([given[v] if v in given else self._sequence(v) for v in tables.sequences]),
            tuple(outputs), tuple(self.initial), tuple(self.restart), final, self.kept,
            tuple(self.compiled.state_places), self.compiled.kept.size, **more,
        )

    # ---- the passes

    def forward(self) -> tuple[Array, ...]:
        layer, step, programs = self.layer, self.layer.step, self.compiled
        self.sums: dict[Value, Array] = {}
        dtype = self.x.data.dtype
        outputs: list[tuple[Array, str]] = []
        shown: list[Array] = []
        if layer.y_wanted:
            if layer.options.sequences:
                y = self._steps_of(step.y.size, dtype)
                outputs.append((y, self._layout))
                shown.append(y)
            else:
                y = np.zeros((1, self.N, step.y.size), dtype)  # the last step's remains
                outputs.append((y, "shared"))
                shown.append(y[0])
        if layer.options.steps:
            for value in step.after:
                array = self._steps_of(value.size, dtype)
                outputs.append((array, self._layout))
                shown.append(array.reshape(*array.shape[:2], *value.shape))
        final = [np.empty((self.N, *v.shape), dtype) for v in step.after]
        if self.training and programs.kept.size:
            self.kept = np.empty(self.rows * programs.kept.size, dtype)
        self._native(programs.forward, outputs, tuple([_flat(a) for a in final]), {})
        return (*shown, *final)

    def backward(
        self, d_outputs: list[Array | None], needs: Sequence[bool], retain: bool
    ) -> tuple[Tensor | None, ...]:
        layer, step, programs = self.layer, self.layer.step, self.compiled
        gradients, tables = programs.gradients, programs.backward
        assert gradients is not None
        assert tables is not None
        dtype, N = self.x.data.dtype, self.N
        n = layer.n_states
        given: dict[Value, tuple[Array, str]] = {}
        d_final = d_outputs[-n:]
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
                given[value] = self._given(d, value.size)
        d_x, d_states, d_restarts, d_tensors, d_drawn = layer.parts([None] * len(needs))
        need_states = layer.parts(needs)[1]
        initial = [
            np.empty((N, *v.shape), dtype) if need else None
            for v, need in zip(step.states, need_states, strict=True)
        ]
        restart = [np.zeros((N, *v.shape), dtype) for v in step.states] if self.any_restart else []
        outputs = []
        for value in programs.sequence_gradients:
            if value is step.x or value in step.drawn:
                array = self._steps_of(value.size, dtype)
                if value in step.drawn:
                    array = np.zeros((self.T, N, value.size), dtype)
                    outputs.append((array, "time_first"))
                else:
                    outputs.append((array, self._layout))
            else:
                rows = self.rows if self.places is not None else self.T * N
                make = np.zeros if self.steps < self.T else np.empty
                array = make((rows, value.size), dtype)
                outputs.append(self._as_steps(array))
        seen = layer.options.seen
        flowed = [np.zeros((self.T, N, v.size), dtype) for v in step.after] if seen else []
        outputs += [(array, "time_first") for array in flowed]
        encoder = tables.encoder
        summands = sums = None
        if encoder.summands.size:
            summands = np.empty(self.rows * encoder.summands.size, dtype)
        if encoder.sums.size:
            sums = np.zeros(N * encoder.sums.size, dtype)
        self.sums = {}
        self._native(
            tables, outputs, (), given, backward=True,
            d_final=tuple([None if d is None else _flat(d) for d in d_final]),
            d_initial=tuple([None if a is None else a.reshape(-1) for a in initial]),
            d_restart=tuple([a.reshape(-1) for a in restart]), summands=summands, sums=sums,
        )
        for name, value, array in zip(layer.cell.state_names, step.after, flowed, strict=False):
            assert seen is not None
            shown = array.reshape(self.T, N, *value.shape)
            seen.directions[layer.reverse].add_gradient(name, shown)
        self._add_up(tables, summands, sums)
        # Back through the prologue.
        roots: list[Tensor] = []
        seeds: list[Array] = []
        for value, (array, _) in zip(programs.sequence_gradients, outputs, strict=False):
            if value is step.x:
                roots.append(self.x)
                seeds.append(array)
            elif value in step.drawn:
                root = self.drawn[step.drawn.index(value)]
                if root.shape[0] == 1:
                    array = array.sum(0, keepdims=True)
                roots.append(root)
                seeds.append(array.reshape(root.shape))
            else:
                root = self.prologue.sequence(value)
                roots.append(root)
                seeds.append(array.reshape(root.shape))
        for value, d in programs.found["invariants"]:
            root = self.prologue.invariant(value)
            roots.append(root)
            seeds.append(np.ascontiguousarray(self._computed(d)).reshape(root.shape))
        leaves = [self.x, *self.tensors.values(), *self.drawn]
        wanted = [leaf for leaf in leaves if leaf.requires_grad]
        found: dict[int, Tensor | None] = {}
        used = [
            (root, wrap(np.asarray(seed, dtype)))
            for root, seed in zip(roots, seeds, strict=True) if root.requires_grad
        ]
        if used and wanted:
            results = grad([r for r, _ in used], wanted, [s for _, s in used], retain_graph=True,
                           allow_unused=True)
            found = {id(leaf): d for leaf, d in zip(wanted, results, strict=True)}
        d_x = found.get(id(self.x))
        d_tensors = [found.get(id(t)) for t in self.tensors.values()]
        d_drawn = [found.get(id(t)) for t in self.drawn]
        d_states = [None if a is None else wrap(a) for a in initial]
        d_restarts = [wrap(a) for a in restart]
        if not retain:
            self.kept = None
        return (d_x, *d_states, *d_restarts, *d_tensors, *d_drawn)

    def _add_up(self, tables: Tables, summands: Array | None, sums: Array | None) -> None:
        """The sums over the batch that the loop left in rows."""
        encoder = tables.encoder
        for value in self.compiled.found["sums"]:
            if value.of.name == "sum_rows":
                assert sums is not None
                place = encoder.sums.fields[value]
                rows = sums.reshape(self.N, -1)[:, place.offset : place.offset + value.size]
                self.sums[value] = np.add.reduce(rows, axis=0).reshape(value.shape)
            else:
                assert summands is not None
                rows = summands.reshape(self.rows, -1)
                a, b = [
                    rows[:, p.offset : p.offset + v.size]
                    for v, p in ((v, encoder.summands.fields[v]) for v in value.of.inputs)
                ]
                self.sums[value] = _product(a, b)

    def _given(self, d: Array | None, width: int) -> tuple[Array, str]:
        if d is None:
            zero = np.zeros(width, self.x.data.dtype)
            return np.broadcast_to(zero, (1, self.N, width)), "shared"
        return _steps(d), self._layout

    def _d_y(self, d: Array | None, width: int) -> tuple[Array, str]:
        if self.layer.options.sequences or d is None:
            return self._given(d, width)
        # Only each row's last output has a gradient.
        d_y = np.zeros((self.T, self.N, width), d.dtype)
        lengths = np.full(self.N, self.T)
        if self.schedule is not None and self.schedule.lengths is not None:
            lengths = self.schedule.lengths
        rows = np.flatnonzero(lengths)
        d_y[0 if self.layer.reverse else lengths[rows] - 1, rows] = d[rows]
        return d_y, "time_first"


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
    leaf._requires_grad = need
    return leaf


def _flat(a: Array) -> Array:
    return np.require(a, requirements=("C", "A")).reshape(-1)


def _steps(a: Array) -> Array:
    """Aligned, with a contiguous last axis and whole strides."""
    size = a.itemsize
    good = a.flags.aligned and (a.shape[-1] == 1 or a.strides[-1] == size)
    return a if good and not any(s % size for s in a.strides) else np.array(a, order="C")


def _backward_on_tape(
    ctx: Any, d_outputs: Sequence[Tensor | None]
) -> tuple[Tensor | None, ...]:
    """Gradients that can be differentiated again: run the direction once more on the tape."""
    layer: _Layer = ctx.layer
    backend.record(
        f"{type(layer.cell).__name__} backward", "python", "create_graph: recomputed on the tape"
    )
    inputs: list[Any] = [Alias.apply(t) for t in ctx.inputs]
    x, states, restarts, tensors, drawn = layer.parts(inputs)
    stand_in = with_tensors(layer.cell, dict(zip(layer.paths, tensors, strict=False)))
    stand_in.__dict__["draw"] = lambda steps, batch: tuple(drawn)
    options = replace(layer.options, sequences=layer.y_wanted and layer.options.sequences)
    y, final, steps = tape.run_direction(
        stand_in, x, tuple(states), tuple(restarts) or None, options, layer.reverse
    )
    outputs = [y] if layer.y_wanted else []
    outputs += [*steps, *[each.squeeze(0) for each in final]]
    used = [(o, d) for o, d in zip(outputs, d_outputs, strict=True)
            if d is not None and o.requires_grad]
    wanted = [i for i, need in enumerate(ctx.needs_input_grad) if need]
    found = grad([o for o, _ in used], [inputs[i] for i in wanted], [d for _, d in used],
                 create_graph=True, allow_unused=True)
    grads: list[Tensor | None] = [None] * len(inputs)
    for i, gradient in zip(wanted, found, strict=True):
        grads[i] = gradient
    return tuple(grads)
