"""One traced step of a cell, with its gradients."""

from __future__ import annotations

import os
import traceback
from itertools import chain
from threading import RLock
from typing import TYPE_CHECKING, Any

import numpy as np

from rnnkit import forks, rng
from rnnkit.autograd import Tensor, grad
from rnnkit.autograd.grad_mode import enable_grad
from rnnkit.cells.base import original_of
from rnnkit.errors import ShapeError, TraceError
from rnnkit.module import Parameter
from rnnkit.recurrent.held import tensors_of
from rnnkit.recurrent.program.rows import without_batch
from rnnkit.recurrent.program.settings import (
    changed,
    generators_unchanged,
    other_tensors,
    settings_of,
    tensors_in,
    unchanged,
)
from rnnkit.recurrent.program.trace import TracedArray, Tracer, is_of_user, numbers_of_rows
from rnnkit.recurrent.program.values import Value, told_apart

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

    from rnnkit.autograd.tensor import Array
    from rnnkit.cells import Cell
    from rnnkit.recurrent.program.plan import Compiled
    from rnnkit.recurrent.program.variant import Variant


def _alike(tensor: Tensor, array: Array) -> Tensor:
    """A tensor, or a parameter, as another is, of an array that is shared."""
    kind = Parameter if isinstance(tensor, Parameter) else Tensor
    other: Tensor = kind.__new__(kind)
    Tensor.__init__(other, array, requires_grad=tensor._requires_grad, copy=False)
    return other


def _other_numbers(tensor: Tensor) -> Tensor:
    """A tensor like another, but for its numbers: each has another sign and another size."""
    array = tensor._data
    if array.dtype.kind == "f":
        with np.errstate(all="ignore"):
            others = np.asarray(array * -1.5)
        if not array.all():
            others[array == 0] = 0.25
    elif array.dtype.kind == "b":
        others = np.asarray(~array)
    else:
        others = np.asarray(_other_integers(array))
    return _alike(tensor, others)


def _kinds_of(drawn: Sequence[Value]) -> list[tuple[str, tuple[int, ...]]]:
    return [(value.dtype.name, value.shape) for value in drawn]


def _other_integers(array: Array) -> Array:
    """Others for all of them; where they differ, out of the same ones: they may be indices."""
    known, places = np.unique(array, return_inverse=True)
    if len(known) == 1:
        return np.where(array > 0, array - 1, array + 1).astype(array.dtype)
    return np.roll(known, 1)[places].reshape(array.shape)


def _sizes(cell: Cell, drawn: Sequence[Tensor]) -> Iterator[int]:
    """Of all that a step is given."""
    yield from (cell.input_size, cell.hidden_size, cell.output_size)
    for tensors in tensors_in(cell).values():
        for tensor, *_ in tensors:
            yield from tensor.shape
    for shape in (*cell.state_shapes, *[each.shape[2:] for each in drawn]):
        yield from shape


TRACING = RLock()
"""Held by who traces a step, or makes something of a traced one, which adds to its trace."""
forks.release_after_fork(TRACING)

PASSING = (OSError, RecursionError)
"""What a step may meet at one time and not at another: the cause of a TraceError that is not to be
remembered."""


def _apart(cell: Cell) -> Cell:
    """A copy that holds each tensor once and for itself.

    Its trace serves where two that are one now part, too; and what the step comes by in another
    way than by the cell's attributes (a list, a bound method) is not theirs.
    """
    held = tensors_of(cell).items()
    return cell.with_tensors({path: _alike(t, t._data.view()) for path, t in held})


def _line_of(error: Exception) -> str:
    """The innermost line of the user's code that an error came through."""
    frames = [f for f in traceback.extract_tb(error.__traceback__) if is_of_user(f.filename)]
    if not frames:
        return type(error).__name__
    return f"{os.path.basename(frames[-1].filename)}:{frames[-1].lineno}: {type(error).__name__}"


def _line_of_step(cell: Cell) -> str:
    code = getattr(cell.step, "__code__", None)
    if code is None:
        return type(cell).__name__
    return f"{os.path.basename(code.co_filename)}:{code.co_firstlineno}"


class TracedStep:
    """A cell's step as operations on rows.

    It is traced twice, with batches of other sizes and tensors of other numbers: a step that is
    not the same then depends on what no program knows.

    Attributes:
        x: the input of a step; states: before the step; drawn: what a run draws.
        y: the output; after: the states after the step.
        hoisted: inputs of every step that are computed from x, what is drawn and invariants.
        inputs: all inputs of every step.
        tracer: what there is beside.
        free: tensors that the step uses and the cell does not hold.
        largest: elements of the largest tensor that the cell holds.
        compiled: programs of the step that have been made.
        variants: what else is known of the step for kinds of calls that there have been.

    Raises:
        TraceError: the step does what no program can do, or raises an error, which is the cause;
            the message names the line.
        MemoryError: as it comes.
    """

    _own: Sequence[Array] = ()  # of the second trace, the numbers that nobody else has

    def __init__(self, cell: Cell) -> None:
        own, cell = cell, _apart(cell)
        others = {path: _other_numbers(tensor) for path, tensor in tensors_of(cell).items()}
        twin = TracedStep.__new__(TracedStep)
        twin._own = [other._data for other in others.values()]
        # Around both: a step that draws from a generator of its cell is then not the same.
        with generators_unchanged(cell):
            twin._trace(cell.with_tensors(others), 1)
            # What both come by was there before: its gradient may be wanted, now or later.
            self._trace(cell, 0, twin._free_tensors())
        self._refuse_numbers(own, twin)
        self.compiled: dict[Any, Compiled] = {}
        self.variants: dict[Any, Variant] = {}
        self._gradients: dict[Any, Gradients] = {}
        self._behind: dict[int, set[Value]] = {}
        if _kinds_of(self.drawn) != _kinds_of(twin.drawn):
            raise TraceError("draw: another number of steps or rows gives other kinds of tensors")
        if self._text() != twin._text():
            held = {id(tensor._data) for tensor in self._held.values()}
            lines = [line for key, (_, _, line) in self.tracer.read.items() if key in held]
            raise TraceError(
                f"{lines[0] if lines else _line_of_step(cell)}: the step is another for another "
                "size of the batch, or for other numbers in the cell's tensors: it may use them in "
                "operations alone"
            )
        # What each trace has made for itself is no tensor of anybody else.
        elsewhere = {id(tensor) for tensor in twin._free_tensors()}
        self.free = [tensor for tensor in self._free_tensors() if id(tensor) in elsewhere]
        free = {id(tensor) for tensor in self.free}
        self._of_others = {*self.cell_tensors, *free}
        self._by_other_ways = {
            path: t for path, t in tensors_of(original_of(own)).items() if id(t) in free
        }
        self._share(self._share_calls())

    def _share_calls(self) -> dict[Value, Value]:
        """Calls before the loop share what they give: every 2 * sigmoid(b) has made a 2 of its own,
        which was not known to be one while the step was traced.

        Returns invariants, and those to take in their place.
        """
        tracer = self.tracer
        made = {id(tensor): tensor for tensor in tracer._alive}
        first: dict[Any, Tensor] = {}
        instead: dict[int, Tensor] = {}  # by id of a tensor that a call has made, or stands for it

        def shared(tensors: Sequence[Any]) -> tuple[Any, ...]:
            return tuple([instead.get(id(tensor), tensor) for tensor in tensors])

        for key, call in tracer.calls.items():
            call.inputs = shared(call.inputs)
            of = [
                told_apart(t._data) if self.is_constant(t) else id(t) for t in call.inputs
            ]
            how = call.primitive, call.recorded, call.position, told_apart(call.params), *of
            found = first.setdefault(how, made[key])
            if found is not made[key]:
                instead[key] = found
        values: dict[Value, Value] = {}
        for key, tensor in list(instead.items()):
            stand_in = tracer._stand_ins.get(key)
            if stand_in is not None:
                instead[id(stand_in)] = tracer.stand_in(tensor)
                values[tracer.value_of(stand_in)] = tracer.value_of(tensor)
        if values:
            for each in tracer._alive:
                node: Any = each.grad_fn
                call_of_rows = getattr(each._data, "call", None)
                for user in (node, call_of_rows):
                    if user is not None:
                        user.inputs = shared(user.inputs)
        return values

    def _share(self, instead: dict[Value, Value] | None = None) -> None:
        """Operations on constants share what they give, too.

        Args:
            instead: values, and those to take in their place.
        """
        first: dict[Any, Value] = {}
        instead = instead or {}

        def enter(value: Value, key: Any) -> None:
            found = first.setdefault((key, value.shape, value.dtype, value.rows), value)
            if found is not value:
                instead[value] = found

        for value in self.tracer.invariants:
            array = self.constant(value)
            if array is not None:
                enter(value, array.tobytes())
        for operation in self.tracer.operations:
            operation.inputs[:] = [instead.get(v, v) for v in operation.inputs]
            enter(operation.out, operation.key)

    def serves(self, cell: Cell) -> bool:
        """Whether the tensors of the cell that the step came by in another way than by attributes,
        by a bound method, are still those: it would come by others now."""
        if not self._by_other_ways:
            return True
        held = tensors_of(original_of(cell))
        return all(held.get(path) is tensor for path, tensor in self._by_other_ways.items())

    def _refuse_numbers(self, cell: Cell, twin: TracedStep) -> None:
        """Whose tensors the step came by in another way had the same numbers in both traces."""
        held = {id(each[1]) for each in chain(*tensors_in(cell).values())}
        for key, (_, trained, line) in self.tracer.read.items():
            if key in twin.tracer.read and (trained or key in held):
                raise TraceError(
                    f"{line}: the numbers of a tensor are read: what a step does may not depend on "
                    "them"
                )

    def _trace(self, cell: Cell, number: int, trained: Sequence[Tensor] = ()) -> None:
        """The first trace (number 0), or the second. It takes nothing from the generator: the run
        draws for itself."""
        with rng.drawing_apart():
            self._trace_apart(cell, number, trained)

    def _trace_apart(self, cell: Cell, number: int, trained: Sequence[Tensor]) -> None:
        held = tensors_of(cell)
        self.cell_tensors = {id(t): path for path, t in held.items()}
        self._held = held  # so that their ids stay theirs
        self.largest = max([tensor._data.size for tensor in held.values()], default=1)
        original = original_of(cell)  # on which a bound method works that it holds
        settings = settings_of(cell), settings_of(original)
        drawn = cell.draw(1 + number, 1 + number)
        after_draw = rng.get_state()
        # What the step does to numbers shows in the second trace, few of whose tensors others have:
        # its own cannot be written to any more, a step that does so is found there.
        for array in self._own:
            array.flags.writeable = False
        tensors = tensors_in(cell, number == 1), tensors_in(original)
        rows = numbers_of_rows(_sizes(cell, drawn))[number]
        self.tracer = tracer = Tracer(cell.dtype, rows)
        tracer.train([*held.values(), *trained])
        tracer.holders = {id(tensor._data): tensor for tensor in held.values()}
        x = tracer.leaf("sequence", (cell.input_size,), "x", serial=False)
        states = [
            tracer.leaf("state", shape, name, number=i)
            for i, (name, shape) in enumerate(zip(cell.state_names, cell.state_shapes, strict=True))
        ]
        drawn_leaves = [
            tracer.leaf("sequence", each.shape[2:], f"drawn{i}", each.dtype, serial=False)
            for i, each in enumerate(drawn)
        ]
        step: Any = cell.step
        try:
            with unchanged(original), unchanged(cell, number == 1), enable_grad(), tracer:
                result = step(x, tuple(states), *drawn_leaves)
                after_step = settings_of(cell), settings_of(original)
                tensors_after = tensors_in(cell, number == 1), tensors_in(original)
        except (TraceError, MemoryError):
            raise
        except Exception as error:  # whatever it is, the tape shows it if it is the step's own
            raise TraceError(f"the step cannot be traced: {_line_of(error)}: {error}") from error
        names = ", ".join(dict.fromkeys([
            *chain(*map(changed, settings, after_step)),
            *chain(*map(other_tensors, tensors, tensors_after)),
        ]))
        if names:
            raise TraceError(f"{_line_of_step(cell)}: the step changes attributes: {names}")
        if rng.get_state() != after_draw:
            raise TraceError("the step draws from the generator: that is what draw() is for")
        tracer.end_step()
        self.x = tracer.value_of(x)
        self.states = [tracer.value_of(state) for state in states]
        self.drawn = [tracer.value_of(each) for each in drawn_leaves]
        self._take_result(cell, result)
        self._states = states
        self.forward_end = len(tracer.operations)
        self.hoisted = [
            v for v in tracer.sequences if v is not self.x and v not in self.drawn
        ]
        self.inputs = list(tracer.sequences)

    def _take_result(self, cell: Cell, result: Any) -> None:
        pair = isinstance(result, (tuple, list)) and len(result) == 2
        if not pair or not isinstance(result[1], (tuple, list)):
            raise TraceError("the step must return its output and a tuple of states")
        y, after = result
        names, shapes = cell.state_names, cell.state_shapes
        if len(after) != len(names):
            raise TraceError(f"the step returns {len(after)} states, expected {len(names)}")
        self._y = self._with_rows("output", y, (cell.output_size,))
        self._after = [
            self._with_rows(name, state, shape)
            for name, state, shape in zip(names, after, shapes, strict=True)
        ]
        self.y = self.tracer.value_of(self._y)
        self.after = [self.tracer.value_of(state) for state in self._after]

    def drawn_for(self, cell: Cell, steps: int, batch: int) -> tuple[Tensor, ...]:
        """What a run of the cell draws: of the kinds that the step was traced with.

        Raises:
            ShapeError: it is not.
        """
        drawn = cell.drawn_for(steps, batch)
        if drawn or self.drawn:
            expected = _kinds_of(self.drawn)
            got = [(each._data.dtype.name, each._data.shape[2:]) for each in drawn]
            if got != expected:
                raise ShapeError(
                    f"draw: {type(cell).__name__}: expected rows {expected} as for one step, got "
                    f"{got}"
                )
        return drawn

    def _free_tensors(self) -> list[Tensor]:
        tracer = self.tracer
        used = [tensor for call in tracer.calls.values() for tensor in call.inputs]
        found = {id(tensor): tensor for tensor in (*used, *tracer.tensor_of.values())}
        return [
            tensor for i, tensor in found.items() if i not in self.cell_tensors
            and i not in tracer.calls and type(tensor._data) is not TracedArray
        ]

    def is_constant(self, tensor: Tensor) -> bool:
        """Whether the step, or a rule, has made a tensor of the trace of numbers alone."""
        return id(tensor) not in self._of_others and id(tensor) not in self.tracer.calls

    def constant(self, value: Value) -> Array | None:
        """The numbers of an invariant that is one."""
        tensor = self.tracer.tensor_of.get(value)
        return tensor._data if tensor is not None and self.is_constant(tensor) else None

    def number_of(self, value: Value) -> float | None:
        """That of a constant which is a single one."""
        array = self.constant(value)
        if array is None or array.size != 1 or array.dtype.kind not in "fb":
            return None
        return float(array.reshape(()))

    def _with_rows(self, name: str, tensor: Any, shape: tuple[int, ...]) -> Tensor:
        if not isinstance(tensor, Tensor):
            raise TraceError(f"{name}: expected a Tensor, got {type(tensor).__name__}")
        value = self.tracer.value_of(tensor)
        got = value.shape
        if value.rows is None:
            if got[:1] != (self.tracer.rows,):
                raise TraceError(f"{name}: expected rows, got shape {got} for the whole batch")
            got = got[1:]
        if got != shape or value.rows not in (None, "first"):
            raise TraceError(f"{name}: expected rows of shape {shape}, got {got}")
        if value.dtype != self.tracer.dtype:
            raise TraceError(f"{name}: expected {self.tracer.dtype}, got {value.dtype}")
        if value.rows is None:
            row = without_batch(self.tracer, name, value, len(shape))
            return self.tracer.tensor(self.tracer.emit("copy", [row], shape))
        if type(tensor._data) is not TracedArray:
            raise TraceError(f"{name}: does not depend on the step's input")
        return tensor

    def _text(self) -> list[Any]:
        """What is done with what, without names that are of one trace only."""
        t = self.tracer
        number = {operation.out: i for i, operation in enumerate(t.operations)}

        def of_value(value: Value) -> Any:
            if value in number:
                return number[value]
            tensor = t.tensor_of.get(value)
            return (value.kind, value.number) if tensor is None else of_tensor(tensor)

        def of_tensor(tensor: Tensor) -> Any:
            array: Any = tensor._data
            if type(array) is TracedArray:
                return of_value(array.value)
            if id(tensor) in self.cell_tensors:
                return self.cell_tensors[id(tensor)]
            if id(tensor) in t.calls:
                return "computed"
            if array.ndim and array.shape[0] == t.rows:
                array = array[:1]
            return array.dtype.str, array.shape, array.tobytes()

        done = [
            (
                each.name,
                [of_value(v) for v in each.inputs],
                told_apart(each.params, t.rows),
                told_apart(each.out.shape, t.rows),
            )
            for each in t.operations
        ]
        calls = [
            (
                each.primitive.name,
                [of_tensor(v) for v in each.inputs],
                told_apart(each.params, t.rows),
            )
            for each in (*t.calls.values(), *t.input_calls.values())
        ]
        return [done, calls, [of_value(v) for v in (self.y, *self.after)]]

    @property
    def y_is_state(self) -> int:
        """The number of the state that the output is, with its gradient; -1: it is none.

        One of the same value, of which the step has detached one or the other, is another.
        """
        return next((i for i, each in enumerate(self._after) if each is self._y), -1)

    def behind(self, result: Tensor) -> set[Value]:
        """The inputs of the step, states and invariants that a result has gradients of."""
        found = self._behind.get(id(result))
        if found is None:
            found = set()
            stack, seen = [result], set()
            while stack:
                tensor = stack.pop()
                if id(tensor) in seen or not tensor._requires_grad:
                    continue
                seen.add(id(tensor))
                if tensor.grad_fn is None:
                    found.add(self.tracer.value_of(tensor))
                else:
                    inputs = tensor.grad_fn.inputs
                    assert inputs is not None
                    stack += [each for each in inputs if each is not None]
            self._behind[id(result)] = found
        return found

    def flowing(self, d_y: bool, given: Sequence[bool]) -> tuple[bool, tuple[bool, ...]]:
        """Whether outputs bring a gradient, and which states do, after any step of a run.

        Args:
            d_y: whether outputs have gradients of their own.
            given: whether states do, after some step.
        """
        flowing = [a or not s._requires_grad for a, s in zip(given, self._after, strict=True)]
        while True:
            after = [s for s, flows in zip(self._after, flowing, strict=True) if flows]
            roots = [self._y, *after] if d_y else after
            reached = set[Value]().union(*map(self.behind, roots))
            more = [a or b in reached for a, b in zip(flowing, self.states, strict=True)]
            if more == flowing:
                alike = not self._y._requires_grad or any(self._y is each for each in after)
                return d_y or alike, tuple(flowing)
            flowing = more

    def gradients(
        self, d_y: bool, d_steps: tuple[bool, ...], flowing: Sequence[bool] | None = None
    ) -> Gradients:
        """The backward program's values, where the output and some states of every step have
        gradients of their own, and all states, or those that are ``flowing``, have any; traced
        once."""
        flowing = tuple(flowing or (True,) * len(self.states))
        key = d_y, d_steps, flowing
        found = self._gradients.get(key)
        if found is None:
            self.tracer.backward = True
            try:
                found = Gradients(self, d_y, d_steps, flowing)
            except (TraceError, MemoryError):
                raise
            except Exception as error:  # of a rule; the tape shows it where a gradient is asked for
                text = f"{_line_of(error)}: {error}"
                raise TraceError(f"its gradients cannot be traced: {text}") from error
            finally:
                self.tracer.backward = False
            self._share()
            self._gradients[key] = found
        return found


class Gradients:
    """Gradients of a traced step.

    Attributes:
        d_y, d_steps: inputs of every step: gradients of y and of the states of every step, or None.
        flow: gradients of the states after the step, from the steps after it.
        after: all that flows into the states after the step, for those who want to see it.
        of: by value (state, sequence or invariant): its gradient, or None.
    """

    def __init__(
        self, traced: TracedStep, d_y: bool, d_steps: tuple[bool, ...], flowing: Sequence[bool]
    ) -> None:
        tracer = traced.tracer
        n_sequences = len(tracer.sequences)
        self.d_y: Value | None = None
        self.d_steps: list[Value | None] = [None] * len(traced.states)
        self.flow: list[Value] = []
        roots: list[Tensor] = []
        seeds: list[Tensor] = []
        with tracer:
            if d_y:
                seed = tracer.leaf("sequence", traced.y.shape, "d_y")
                self.d_y = tracer.value_of(seed)
                roots.append(traced._y)
                seeds.append(seed)
            for i, state in enumerate(traced._after):
                shape = traced.after[i].shape
                flow = tracer.leaf("flow", shape, f"d_{traced.states[i].name}", number=i)
                self.flow.append(tracer.value_of(flow))
                if not flowing[i]:
                    continue  # a zero that is sent back may meet an infinity
                if d_steps[i]:
                    step = tracer.leaf("sequence", shape, f"d_{traced.states[i].name}_t")
                    self.d_steps[i] = tracer.value_of(step)
                    flow = flow + step
                roots.append(state)
                seeds.append(flow)
            inputs = [
                *traced._states, *[t for t in tracer._alive if _is_wanted(t, n_sequences)],
            ]
            after = [t for t in traced._after if t._requires_grad]
            targets = list({id(t): t for t in (*inputs, *after)}.values())
            used = [
                (r, s) for r, s in zip(roots, seeds, strict=True) if r._requires_grad
            ]
            found: Any = [None] * len(targets)
            if used:
                found = grad(
                    [r for r, _ in used], targets, [s for _, s in used], create_graph=True,
                    allow_unused=True,
                )
            by_tensor = {
                id(target): None if d is None else tracer.value_of(d)
                for target, d in zip(targets, found, strict=True)
            }
            self.after = [by_tensor.get(id(t)) for t in traced._after]
            # A state after the step may be a copy of one before, of the same value: only what is
            # an input counts here.
            self.of: dict[Value, Value | None] = {
                tracer.value_of(t): by_tensor[id(t)] for t in inputs
            }


def _is_wanted(tensor: Any, n_sequences: int) -> bool:
    """Whether a tensor is an input of the step whose gradient can be asked for."""
    data = tensor._data
    if type(data) is not TracedArray or not tensor._requires_grad or tensor.grad_fn is not None:
        return False
    value = data.value
    if value.kind == "sequence":
        return value.number < n_sequences
    return value.kind == "invariant"
