"""Running a layer of a traced cell over a sequence: the counterpart of ``recurrent/native.py``."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from itertools import compress
from typing import TYPE_CHECKING, Any
from weakref import WeakKeyDictionary

from rnnkit import backend
from rnnkit.autograd import is_grad_enabled
from rnnkit.autograd.function import Alias, Function
from rnnkit.autograd.grad_mode import state as thread
from rnnkit.autograd.tensor import wrap
from rnnkit.cells.base import original_of
from rnnkit.errors import TraceError
from rnnkit.module import Parameter
from rnnkit.ops import split
from rnnkit.recurrent import tape
from rnnkit.recurrent.held import tensors_of
from rnnkit.recurrent.memory import note_segments
from rnnkit.recurrent.node import LayerNode
from rnnkit.recurrent.options import PLAIN, Result
from rnnkit.recurrent.program.direction import DirectionOfLayer
from rnnkit.recurrent.program.passes import Passes
from rnnkit.recurrent.program.traced import PASSING, TRACING, TracedStep
from rnnkit.recurrent.program.variant import Needs, Variant

if TYPE_CHECKING:
    from rnnkit.autograd import Tensor
    from rnnkit.autograd.primitive import Primitive
    from rnnkit.autograd.tensor import Array
    from rnnkit.cells import Cell
    from rnnkit.cells.base import State
    from rnnkit.recurrent.held import Held
    from rnnkit.recurrent.options import Options

_traced: WeakKeyDictionary[Cell, dict[Any, TracedStep | TraceError]] = WeakKeyDictionary()
MOST_SETTINGS = 16
"""Of a cell, whose traced steps are kept; the oldest give way, where a setting moves on and on."""


def traced(cell: Cell, held: Held) -> TracedStep:
    """The traced step of a cell that holds this; traced once for each of its settings.

    Raises:
        TraceError: it cannot be traced; the message names the line.
    """
    if held.step is None:
        held.step = _found_or_traced(cell, held.settings_of(cell))
    if isinstance(held.step, TraceError):
        # Each time anew: an error that is raised again and again remembers all these ways.
        raise TraceError(str(held.step))
    return held.step


def _found_or_traced(cell: Cell, settings: Any) -> TracedStep | TraceError:
    original = original_of(cell)  # as which a copy with other tensors is traced
    of_cell = _traced.get(original)
    if of_cell is None:
        of_cell = _traced[original] = {}
    key = type(cell), settings
    found = of_cell.get(key)
    if not _serves(found, cell):
        with TRACING:
            found = of_cell.get(key)  # another thread may have traced it meanwhile
            if not _serves(found, cell):
                found = of_cell[key] = _trace(cell)
                if len(of_cell) > MOST_SETTINGS:
                    del of_cell[next(iter(of_cell))]
    assert found is not None
    return found


def _serves(found: TracedStep | TraceError | None, cell: Cell) -> bool:
    return found is not None and (isinstance(found, TraceError) or found.serves(cell))


def _trace(cell: Cell) -> TracedStep | TraceError:
    try:
        step = TracedStep(cell)
        _make_programs(step, cell)
    except TraceError as error:
        if isinstance(error.__cause__, PASSING):
            raise
        return TraceError(str(error))  # without the frames that it came through, and all in them
    return step


def _make_programs(step: TracedStep, cell: Cell) -> None:
    """Those of inference and of training, so that no call meets one that cannot be made."""
    held = tensors_of(cell)
    tensors = (*held.values(), *step.free)
    names: tuple[str | int, ...] = (*held, *map(id, step.free))
    Variant(step, names)
    trained = [each._requires_grad or isinstance(each, Parameter) for each in tensors]
    needs = Needs(True, [True] * len(step.states), [False] * len(step.drawn), trained)
    Variant(step, names, needs)


def run_layer(
    cells: Sequence[Cell], x: Tensor, state: State, restart: State | None, options: Options,
    decision: backend.Decision, held: Sequence[Held],
) -> Result:
    """As ``recurrent.run_checked_layer``; the state is not None.

    Args:
        decision: for ``why()``.
        held: by the cells as they are now, with their traced steps.
    """
    schedule = options.schedule
    if 0 in x.shape[:2] or (schedule is not None and schedule.steps == 0):
        return tape.run_layer(cells, x, state, restart, options)
    if len(cells) == 1:
        y, final, steps = run_direction(
            cells[0], held[0], x, state, restart, options, False, 1, decision
        )
        return Result(y, final, steps if options.steps else None)
    room: list[Array] = []
    parts = [
        run_direction(
            cell, held[d], x, tuple([each[d : d + 1] for each in state]),
            None if restart is None else tuple([each[d : d + 1] for each in restart]), options,
            d == 1, len(cells), decision, room,
        )
        for d, cell in enumerate(cells)
    ]
    joined = SideBySide.apply(parts[0][0], parts[1][0], both=room[0]) if room else None
    return tape.join_directions(parts, options, joined)


class SideBySide(Function):
    """The outputs of two directions as the array of which each has written its part."""

    @staticmethod
    def forward(ctx: Any, forward: Array, backward: Array, *, both: Array) -> Array:
        return both

    @staticmethod
    def backward(ctx: Any, d_y: Tensor) -> tuple[Tensor, ...]:
        return split(d_y, d_y.shape[-1] // 2, -1)


def run_direction(
    cell: Cell, held: Held, x: Tensor, state: State, restart: State | None,
    options: Options, reverse: bool, directions: int, decision: backend.Decision,
    room: list[Array] | None = None,
) -> tape.Results:
    """One direction; its states, and those of restarts, are (1, N, ...).

    Args:
        room: for the outputs of every step of both directions; the first of two makes it.
    """
    T, N = x.shape[options.batch_first], x.shape[1 - options.batch_first]
    step = held.step
    assert isinstance(step, TracedStep)
    drawn = step.drawn_for(cell, T, N)
    if options.seen is not None:
        options.seen.directions[reverse].drawn = drawn
    captured = [tensor for tensor in step.free if tensor._requires_grad]
    layer = _layer(held, step, options, reverse, restart is not None, captured, directions)
    inputs = (x, *state, *(restart or ()), *held.tensors.values(), *captured, *drawn)
    enabled = is_grad_enabled()
    needs = tuple([enabled and tensor._requires_grad for tensor in inputs])
    passes = Passes(
        cell, layer, layer.variant(needs), [tensor._data for tensor in inputs], needs
    )
    y_room, H = None, step.y.size
    if room is not None and options.sequences:
        if not room:
            room.append(passes.steps.empty(directions * H))
        y_room = room[0][..., reverse * H : (reverse + 1) * H]
    outputs = [wrap(array) for array in passes.forward(y_room)]
    if True in needs:
        if len(passes.starts) > 1 and not reverse:  # both directions have the same
            steps_of_segment = passes.starts.step
            note_segments(
                decision, len(passes.starts), steps_of_segment, "all but the last run"
            )
        node = ProgramLayer(passes, inputs, needs, len(outputs))
        node.made(outputs, passes.variant.constant_outputs)
        if options.seen is not None:
            needed = compress(cell.state_names, passes.variant.needed_after)
            options.seen.directions[reverse].need(needed)
    end = len(outputs) - len(state)  # of what is shown of every step
    final = tuple(outputs[end:])
    steps = tuple(outputs[end - len(state) : end]) if options.steps else ()
    y = outputs[0] if layer.y_wanted else tape.last_outputs(final[layer.y_is_state][0], options, T)
    return y, final, steps


def _layer(
    held: Held, step: TracedStep, options: Options, reverse: bool, restarts: bool,
    captured: Sequence[Tensor], directions: int,
) -> DirectionOfLayer:
    plain = options is PLAIN[options.batch_first] and not captured
    kind = (options.batch_first, reverse, restarts, directions)
    found = held.layers.get(kind) if plain else None
    if found is None or found.step is not step:
        found = DirectionOfLayer(
            step, options, reverse, restarts, list(held.tensors), [id(t) for t in captured],
            directions,
        )
        if plain:
            held.layers[kind] = found
    return found


class ProgramLayer(LayerNode):
    """One direction of one layer as a native program.

    Inputs: x, each initial state (1, N, ...), each restart state, the cell's tensors, captured
    tensors, what the run draws. Outputs: y, if it is wanted; the states of every step, if wanted;
    final states.
    """

    __slots__ = ("_needs", "_passes")

    def __init__(
        self, passes: Passes, inputs: Sequence[Tensor], needs: tuple[bool, ...], n_outputs: int
    ) -> None:
        self.begin(inputs, n_outputs)
        self._needs = needs
        self._passes: Passes | None = passes

    @property
    def name(self) -> str:
        return "ProgramLayer"

    def free(self) -> None:
        self.inputs = self._passes = None

    def _needed(self, needs: Sequence[bool]) -> Sequence[bool]:
        """Those of them that the forward pass has prepared for."""
        prepared = self._needs
        return [need and prepared[i] for i, need in enumerate(needs)]

    def back(
        self, d_outputs: list[Array | None], needs: Sequence[bool], retain: bool
    ) -> Sequence[Array | None]:
        assert self._passes is not None
        return self._passes.backward(d_outputs, self._needed(needs), retain)

    def back_on_tape(
        self, d_outputs: Sequence[Tensor | None], needs: Sequence[bool]
    ) -> Sequence[Tensor | None]:
        """The direction runs once more on the tape."""
        assert self.inputs is not None
        assert self._passes is not None
        layer, cell = self._passes.layer, self._passes.cell
        self.note_tape(cell)
        inputs: list[Any] = [Alias.apply(t) for t in self.inputs]
        tensors, n_held = inputs[layer.at_tensors], len(layer.paths)
        stand_in = cell.with_tensors(dict(zip(layer.paths, tensors, strict=False)))
        stand_in.__dict__["draw"] = lambda steps, batch: tuple(inputs[layer.at_drawn])
        options = replace(layer.options, sequences=layer.y_wanted and layer.options.sequences)
        with _Replacing(dict(zip(layer.names[n_held:], tensors[n_held:], strict=True))):
            y, final, steps = tape.run_direction(
                stand_in, inputs[0], tuple([each[0] for each in inputs[layer.at_states]]),
                tuple([each[0] for each in inputs[layer.at_restarts]]) or None, options,
                layer.reverse,
            )
        outputs = [y] if layer.y_wanted else []
        outputs += [*steps, *final]
        return tape.gradients(outputs, d_outputs, inputs, self._needed(needs))


class _Replacing:
    """Calls of primitives take other tensors in place of some, which nobody else can replace.

    Args:
        others: by ``id`` of those that a step uses and its cell does not hold.
    """

    def __init__(self, others: dict[str | int, Tensor]) -> None:
        self._others = others

    def __enter__(self) -> None:
        thread.tracer = self

    def __exit__(self, *_: object) -> None:
        thread.tracer = None

    def call(self, primitive: Primitive, inputs: tuple[Tensor, ...], params: dict[str, Any]) -> Any:
        """See ``Primitive.__call__``."""
        thread.tracer = None
        try:
            return primitive(*[self._others.get(id(t), t) for t in inputs], **params)
        finally:
            thread.tracer = self
