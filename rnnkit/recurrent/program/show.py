"""A program as a text: what runs before the loop, at each step forward and backward, and after."""

from __future__ import annotations

import math
import time
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, NamedTuple

import numpy as np

from rnnkit import backend, ops
from rnnkit.autograd import enable_grad
from rnnkit.errors import TraceError
from rnnkit.recurrent.held import tensors_of
from rnnkit.recurrent.program.encode import KINDS
from rnnkit.recurrent.program.plan import Compiled
from rnnkit.recurrent.program.prologue import Prologue
from rnnkit.recurrent.program.trace import TracedArray
from rnnkit.recurrent.program.traced import TRACING, TracedStep
from rnnkit.recurrent.program.values import VIEWS

if TYPE_CHECKING:
    from rnnkit.autograd import Tensor
    from rnnkit.cells import Cell
    from rnnkit.recurrent.program.draft import Definition
    from rnnkit.recurrent.program.plan import Tables
    from rnnkit.recurrent.program.trace import Call
    from rnnkit.recurrent.program.values import Shape, Value

_INFIX = {
    "add": "+", "sub": "-", "mul": "*", "div": "/", "power": "**", "equal": "==", "not_equal": "!=",
    "less": "<", "less_equal": "<=", "greater": ">", "greater_equal": ">=", "row_product": "@",
}
_MOVES = frozenset({"copy", "cat", "put", "take", "zero"})


class Line(NamedTuple):
    """One operation of a program.

    Attributes:
        text: the operation as it is shown, ``f = sigmoid(%3)``.
        name: of the value that it gives.
        op: what it does: "muladd", "product", "sum_rows" and so on.
        shape: of that value, a row's where it has rows.
        stage: in a loop, the stage that runs it; products end a stage, and all rows wait for them.
        flops: per row and step; 0 for what is computed once for a whole call, and for moves.
    """

    text: str
    name: str
    op: str
    shape: Shape
    stage: int
    flops: int


class Stored(NamedTuple):
    """What the forward pass keeps for the backward pass: ``size`` elements per row and step."""

    name: str
    shape: Shape
    size: int


@dataclass(frozen=True)
class Listing:
    """The program of one cell, or why it has none; its ``str`` is the whole of it.

    FLOPs are per row and step: a product of a row with a (K, M) matrix counts 2*K*M, everything
    else one per element that it computes or, for a reduction, reads. What is computed from
    parameters alone, once for a whole call, does not count.

    Attributes:
        title: the cell.
        path: "program", "fused" (a hand-written kernel runs the cell) or "python" (the tape does).
        reason: what runs it, or why no program does.
        before: what is computed before the loop: from parameters, once, and from the input, for
            all steps at once.
        forward, backward: the operations of a step.
        stored: what the forward pass keeps for the backward pass.
        recomputed: names of forward values that the backward pass computes again.
        after: what follows the loop of the backward pass: sums over rows and steps.
        flops_forward, flops_backward: the whole pass, before and after its loop too; backward with
            the gradients of the input and of everything that is trained.
        tracing_seconds: what tracing and compiling took.
    """

    title: str
    path: str
    reason: str
    before: tuple[Line, ...] = ()
    forward: tuple[Line, ...] = ()
    stored: tuple[Stored, ...] = ()
    backward: tuple[Line, ...] = ()
    recomputed: tuple[str, ...] = ()
    after: tuple[Line, ...] = ()
    flops_forward: int = 0
    flops_backward: int = 0
    tracing_seconds: float = 0.0

    def __str__(self) -> str:
        head = f"{self.title}: {self.path} ({self.reason})"
        if self.path != "program":
            return head
        kept = [f"  {s.name:<28} {_shape(s.shape)}" for s in self.stored]
        total = sum(s.size for s in self.stored)
        parts = [
            head,
            _section("before the loop", self.before),
            _loop(f"forward, {self.flops_forward} FLOPs per row and step", self.forward),
            "\n".join([f"kept for backward, {total} elements per row and step", *kept]),
            _loop(f"backward, {self.flops_backward} FLOPs per row and step", self.backward),
            "computed again in backward: " + (", ".join(self.recomputed) or "nothing"),
            _section("after the loop, sums over rows and steps", self.after),
        ]
        return "\n\n".join(parts)

    __repr__ = __str__


def _shape(shape: Shape) -> str:
    return "(" + ", ".join(str(n) for n in shape) + ("," if len(shape) == 1 else "") + ")"


def _section(head: str, lines: tuple[Line, ...]) -> str:
    return "\n".join([head, *(_shown(line) for line in lines)] if lines else [f"{head}: nothing"])


def _shown(line: Line) -> str:
    shape = _shape(line.shape) if line.shape else ""
    return f"  {line.text:<52} {shape}".rstrip()


def _loop(head: str, lines: tuple[Line, ...]) -> str:
    shown, stage = [head], 0
    for line in lines:
        if line.stage != stage:
            shown.append("  ----")
            stage = line.stage
        shown.append(_shown(line))
    return "\n".join(shown)


def show(cell: Cell) -> Listing:
    """The program of a cell as it is now; nothing is changed, and no number is drawn."""
    dtype = backend.DTYPE_NAMES[cell.dtype]
    title = f"{cell!r} {dtype}"
    if cell.kernel is not None:
        return Listing(title, "fused", f"its kernel is {cell.kernel!r}: there is no program")
    if backend.native() is None:
        return Listing(title, "python", "the native extension is not loaded")
    begun = time.perf_counter()
    try:
        with TRACING:
            step = TracedStep(cell)
            compiled = _compiled(cell, step)
    except TraceError as error:
        return Listing(title, "python", f"no program: {error}")
    seconds = time.perf_counter() - begun
    return _Writer(cell, step, compiled).listing(title, seconds)


def _compiled(cell: Cell, step: TracedStep) -> Compiled:
    """The programs of a training step, with the gradients of all that may have any."""
    dtype = cell.dtype
    with enable_grad():
        x = ops.zeros((1, *step.x.shape), dtype=dtype).requires_grad_()
        rows = {step.x: x}
        rows |= {v: ops.zeros((1, *v.shape), dtype=dtype) for v in step.drawn}
        held: Any = tensors_of(cell)
        prologue = Prologue(step, held, rows)
        tracer = step.tracer
        sequences = [step.x, *[v for v in tracer.sequences if v in tracer.input_calls]]
        wanted = [v for v in sequences if prologue.sequence(v).requires_grad]
        wanted += [v for v in tracer.tensor_of if prologue.invariant(v).requires_grad]
    gradients = step.gradients(True, (False,) * len(step.states))
    return Compiled(step, gradients, wanted, False, True)


class _Writer:
    """Gives values their names and puts operations into words."""

    def __init__(self, cell: Cell, step: TracedStep, compiled: Compiled) -> None:
        self.cell, self.step, self.compiled = cell, step, compiled
        self.tracer = step.tracer
        self.names: dict[Any, str] = {}  # by value; by id for a real tensor
        self.before: list[Line] = []
        # Of what is computed before the loop: those that gradients go back to.
        self._inputs_of: dict[str, list[str]] = {}
        self._flops_back: dict[str, int] = {}  # of their gradients
        self._count = self._n_hoisted = self._n_invariants = 0
        for value in (step.x, *step.states, *step.drawn):
            self.names[value] = value.name
        assert compiled.gradients is not None
        for flow, state in zip(compiled.gradients.flow, step.states, strict=True):
            self.names[flow] = f"d_{state.name}'"
        d_y = compiled.gradients.d_y
        assert d_y is not None
        self.names[d_y] = "d_y"

    def listing(self, title: str, seconds: float) -> Listing:
        compiled = self.compiled
        assert compiled.backward is not None
        forward = self._forward()
        backward = self._backward(compiled.backward)
        forward_values = {op.out for op in self.tracer.operations[: self.step.forward_end]}
        definitions = compiled.backward.encoder.draft.definitions
        recomputed = [
            self.names[v] for v, d in definitions.items()
            if v in forward_values and v.rows and d.name not in VIEWS
        ]
        after = self._sums()
        stored = [
            Stored(self._name(v), v.shape, v.size)
            for v in compiled.kept.fields
        ]
        isa = backend.native().isa_in_use()  # type: ignore[union-attr]
        return Listing(
            title, "program", f"traced program, {isa}", tuple(self.before), tuple(forward),
            tuple(stored), tuple(backward), tuple(recomputed), tuple(after),
            sum(line.flops for line in [*self.before, *forward]),
            sum(line.flops for line in [*backward, *after]), seconds,
        )

    # ---- names

    def _new(self) -> str:
        self._count += 1
        return f"%{self._count}"

    def _name_results(self, tables: Tables, wanted: list[tuple[str, Value]]) -> list[Line]:
        """Names for what a program gives; lines for results that go by another name already."""
        for name, value in reversed(wanted):
            if value.of is not None and value.of.name not in VIEWS:
                self.names.setdefault(value, name)
        lines = self._lines(tables)
        last = tables.encoder.draft.n_stages - 1
        for name, value in wanted:
            own = self._name(value)
            if own != name:
                lines.append(Line(f"{name} = {own}", name, "copy", value.shape, last, 0))
        return lines

    def _forward(self) -> list[Line]:
        compiled = self.compiled
        states = dict(zip(compiled.state_places, self.step.states, strict=True))
        outputs, after = [], []
        for value, places in compiled.forward.encoder.stores.items():
            for place in places:
                state = states.get((KINDS.index(place.kind), place.offset))
                if place.kind == "output":
                    outputs.append(("y", value))
                elif state is not None:
                    after.append((f"{state.name}'", value))
        handed_on = [
            (f"{state.name}'", state)
            for state, after in zip(self.step.states, self.step.after, strict=True)
            if after is state
        ]
        return self._name_results(compiled.forward, [*outputs, *after, *handed_on])

    def _backward(self, tables: Tables) -> list[Line]:
        compiled = self.compiled
        states = {
            offset: f"d_{state.name}"
            for offset, state in zip(compiled.flow_places, self.step.states, strict=True)
        }
        wanted = []
        for value, places in tables.encoder.stores.items():
            for place in places:
                if place.kind == "flowed":
                    wanted.append((states[place.offset], value))
                elif place.kind == "output":
                    of = compiled.sequence_gradients[place.which]
                    wanted.append((f"d_{self._name(of)}", value))
        return self._name_results(tables, wanted)

    def _name(self, value: Value) -> str:
        """The name of a value, or an expression for a view of one."""
        found = self.names.get(value)
        if found is not None:
            return found
        if value in self.tracer.input_calls and value.kind == "sequence":
            return self._call(value, self.tracer.input_calls[value], value.shape, True)
        if value.kind == "invariant":
            name = self._invariant(self.tracer.tensor_of[value])
        elif value.of is not None and value.of.name == "primitive":
            of = value.of
            name = self._words(
                of.params["primitive"].name, [self._name(v) for v in of.inputs], of.params["params"]
            )
        elif value.of is not None and value.of.name in VIEWS:
            return self._view(value.of.name, self._name(value.of.inputs[0]), value.of.params)
        else:
            name = self._new()
        self.names[value] = name
        return name

    def _invariant(self, tensor: Tensor) -> str:
        path = self.step.cell_tensors.get(id(tensor))
        if path is not None:
            return path
        found = self.names.get(id(tensor))
        if found is not None:
            return found
        call = self.tracer.calls.get(id(tensor))
        if call is not None:
            return self._call(id(tensor), call, tensor.shape, False)
        array = np.asarray(tensor.data)
        if array.size and array.dtype.kind in "fb" and (array == array.flat[0]).all():
            name = f"{array.flat[0]:g}"
        else:
            self._n_invariants += 1
            name = f"k{self._n_invariants}"
            text = f"{name} = a constant"
            self.before.append(Line(text, name, "constant", array.shape, 0, 0))
        self.names[id(tensor)] = name
        return name

    def _call(self, key: Any, call: Call, shape: Shape, of_input: bool) -> str:
        """A call before the loop: a line of its own."""
        inputs = []
        for tensor in call.inputs:
            data: Any = tensor._data
            if type(data) is not TracedArray:
                inputs.append(self._invariant(tensor))
            elif data.call is not None:
                value = data.value
                inputs.append(
                    self.names.get(value) or self._call(value, data.call, value.shape, True)
                )
            else:
                inputs.append(self._name(data.value))
        primitive = call.primitive.name
        text = self._words(primitive, inputs, call.params)
        if call.position is not None:
            text += f"[{call.position}]"
        flops = product = 0
        if of_input:
            self._n_hoisted += 1
            name = f"a{self._n_hoisted}"
            size = math.prod(shape)
            if primitive in ("linear", "matmul"):
                product = 2 * call.inputs[0].shape[-1] * size
                flops = product + size * (len(call.inputs) > 2)
            elif primitive not in ("reshape", "permute", "getitem", "split", "cat", "stack"):
                flops = size
        else:
            self._n_invariants += 1
            name = f"k{self._n_invariants}"
        self.names[key] = name
        note = ", all steps" if of_input else ""
        back_to = [
            each for each, tensor in zip(inputs, call.inputs, strict=True)
            if tensor._requires_grad or not isinstance(tensor._data, TracedArray)
        ] if call.recorded else []
        self._inputs_of[name] = list(dict.fromkeys(back_to))
        # A product's gradient is two products; another's is about one more of it.
        self._flops_back[name] = flops + product
        line = Line(f"{name} = {text}{note}", name, primitive, shape, 0, flops)
        self.before.append(line)
        return name

    def _words(self, primitive: str, inputs: list[str], params: Any) -> str:
        if primitive == "permute" and tuple(params["axes"]) == (1, 0):
            return f"{inputs[0]}.T"
        if primitive in _INFIX and len(inputs) == 2:
            return f"{_in_brackets(inputs[0])} {_INFIX[primitive]} {_in_brackets(inputs[1])}"
        given = []
        for key, value in params.items():
            if key == "shape" and value[:1] == (self.tracer.rows,):
                value = ("rows", *value[1:])
            given.append(f"{key}={value}")
        return f"{primitive}({', '.join([*inputs, *given])})"

    @staticmethod
    def _view(kind: str, of: str, params: dict[str, Any]) -> str:
        if kind == "slice":
            return f"{_in_brackets(of)}[{_key(params['starts'], params['steps'], params['sizes'])}]"
        if kind == "broadcast":
            return of
        if kind == "reshape":
            return f"{_in_brackets(of)}.reshape{_shape(params['shape'])}"
        return f"{_in_brackets(of)}.{kind}{_shape(params['axes'])}"

    # ---- lines

    def _lines(self, tables: Tables) -> list[Line]:
        draft = tables.encoder.draft
        by_stage: list[list[Line]] = [[] for _ in range(draft.n_stages)]
        products: list[list[Line]] = [[] for _ in range(draft.n_stages)]
        for value, definition in draft.definitions.items():
            if definition.name in VIEWS:
                inner = self._name(definition.inputs[0])
                params = {**definition.params, "sizes": value.shape}
                self.names[value] = self._view(definition.name, inner, params)
            elif definition.name not in ("turn", "sum_rows", "outer", "primitive"):
                stage = draft.stage[value]
                if definition.name == "product":
                    stage -= 1
                    products[stage].append(self._line(value, definition, stage))
                else:
                    by_stage[stage].append(self._line(value, definition, stage))
        return [line for both in zip(by_stage, products, strict=True) for part in both
                for line in part]

    def _line(self, value: Value, definition: Definition, stage: int) -> Line:
        op, params = definition.name, definition.params
        inputs = [self._name(v) for v in definition.inputs]
        flops = 0 if op in _MOVES else value.size
        name = self._name(value)
        if op == "product":
            flops = 2 * definition.inputs[0].size * value.size
            weight = inputs[1]
            if params["transposed"]:
                weight = weight.removesuffix(".T") if weight.endswith(".T") else f"{weight}.T"
            text = f"{inputs[0]} @ {weight}" + (f" + {inputs[2]}" if len(inputs) > 2 else "")
        elif op == "muladd":
            text = f"{inputs[0]} * {inputs[1]} + {inputs[2]}"
        elif op == "mulsub":
            text = f"{inputs[2]} - {inputs[0]} * {inputs[1]}"
        elif op == "dot":
            flops = 2 * definition.inputs[0].size
            text = f"sum({inputs[0]} * {inputs[1]}, axis 0)"
        elif op in _INFIX:
            text = f"{inputs[0]} {_INFIX[op]} {inputs[1]}"
            if op == "row_product":
                flops = 2 * definition.inputs[0].size * value.shape[1]
        elif op == "neg":
            text = f"-{inputs[0]}"
        elif op == "copy":
            text = inputs[0]
        elif op == "zero":
            text = "0"
        elif op == "put":
            parts = zip(params["places"], definition.inputs, inputs, strict=True)
            put = [
                f"[{_key(starts, steps, of.shape)}] = {part}"
                for (starts, steps), of, part in parts
            ]
            text = f"0, with {', '.join(put)}"
        elif op == "take":
            text = f"{inputs[0]} at {params['index'].tolist()}, axis {params['axis']}"
        elif op.startswith("reduce_"):
            flops = definition.inputs[0].size
            axes = ", ".join(str(axis) for axis in params["axes"])
            text = f"{op.removeprefix('reduce_')}({inputs[0]}, axis {axes})"
        elif op == "cat":
            text = f"cat({', '.join(inputs)}, axis {params['axis']})"
        else:
            text = f"{op}({', '.join(inputs)})"
        return Line(f"{name} = {text}", name, op, value.shape, stage, flops)

    def _sums(self) -> list[Line]:
        """Gradients of invariants, from sums over rows and steps."""
        results = self.compiled.results
        assert self.compiled.backward is not None
        definitions = self.compiled.backward.encoder.draft.definitions
        lines = []
        for value in results.sums:
            assert value.of is not None
            inputs = [self._name(v) for v in definitions[value].inputs]
            if value.of.name == "outer":
                text = f"sum of {inputs[0]}[:, None] * {inputs[1]}[None, :]"
                a, b = value.of.inputs
                flops = 2 * a.size * b.size
            else:
                text, flops = f"sum of {' * '.join(inputs)}", len(inputs) * value.size
            of = [self._name(v) for v, d in results.invariants if d is value]
            name = f"d_{of[0]}" if of else self._new()
            self.names[value] = name
            lines.append(Line(f"{name} = {text}", name, value.of.name, value.shape, 0, flops))
        for value, d in results.invariants:
            name = f"d_{self._name(value)}"
            if self._name(d) != name:
                text = f"{name} = {self._name(d)}"
                lines.append(Line(text, name, "invariant", value.shape, 0, 0))
        return lines + self._gradients_of_calls()

    def _gradients_of_calls(self) -> list[Line]:
        """What the tape does with gradients of values that are computed before the loop."""
        compiled = self.compiled
        roots = [*compiled.sequence_gradients, *[v for v, _ in compiled.results.invariants]]
        lines: list[Line] = []
        counted: set[str] = set()
        held = tensors_of(self.cell).items()
        trained = {"x", *[path for path, tensor in held if tensor.requires_grad]}
        for root in dict.fromkeys([self._name(value) for value in roots]):
            if root not in self._inputs_of:
                continue
            leaves: dict[str, None] = {}
            flops, stack = 0, [root]
            seen: set[str] = set()
            while stack:
                name = stack.pop()
                if name in seen:
                    continue
                seen.add(name)
                if name in trained:
                    leaves[name] = None
                stack += reversed(self._inputs_of.get(name, ()))
                if name not in counted:
                    counted.add(name)
                    flops += self._flops_back.get(name, 0)
            names = ", ".join(f"d_{leaf}" for leaf in leaves)
            lines.append(Line(f"{names} from d_{root}", names, "tape", (), 0, flops))
        return lines


def _in_brackets(text: str) -> str:
    return f"({text})" if " " in text and not text.endswith(")") else text


def _key(starts: Shape, steps: Shape, sizes: Shape) -> str:
    parts = []
    for start, step, size in zip(starts, steps, sizes, strict=True):
        stop = start + step * size
        part = f"{start}:{stop if stop >= 0 else ''}"
        parts.append(part if step == 1 else f"{part}:{step}")
    return ", ".join(parts)
