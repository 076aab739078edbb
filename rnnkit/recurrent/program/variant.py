"""A traced step for one kind of call: which gradients are wanted, and what is shown.

All that can be known before there are numbers is found here, once.
"""

from __future__ import annotations

from collections.abc import Sequence
from functools import cache
from typing import TYPE_CHECKING, Any, NamedTuple

import numpy as np

from rnnkit.autograd import Tensor, no_grad
from rnnkit.autograd.tensor import wrap
from rnnkit.recurrent.program.plan import Compiled
from rnnkit.recurrent.program.planned import Planned
from rnnkit.recurrent.program.trace import TracedArray
from rnnkit.recurrent.program.traced import TRACING

if TYPE_CHECKING:
    from collections.abc import Callable

    from rnnkit.autograd.primitive import Primitive
    from rnnkit.recurrent.program.trace import Call
    from rnnkit.recurrent.program.traced import TracedStep
    from rnnkit.recurrent.program.values import Value


class Source(NamedTuple):
    """Where an invariant comes from.

    Attributes:
        place: its place among the tensors that a run is given; -1: it is none of them.
        tensor: what stood for it in the trace: itself where it is a constant.
        computed: whether primitives give it from others.
        requires_grad: whether its gradient is wanted.
    """

    place: int
    tensor: Tensor
    computed: bool
    requires_grad: bool


class Product(NamedTuple):
    """A hoisted value that is one product of an input of every step with an invariant.

    Attributes:
        rows: the input: x, or what the run draws.
        matrix: (K, M), or (M, K) where it is ``transposed``.
        bias: (M), or None.
    """

    value: Value
    rows: Value
    matrix: Source
    transposed: bool
    bias: Source | None


class Needs(NamedTuple):
    """What of a run needs a gradient: x, the initial states, what is drawn, the tensors."""

    x: bool
    states: Sequence[bool]
    drawn: Sequence[bool]
    tensors: Sequence[bool]


class Variant:
    """
    Args:
        step: the traced step.
        names: of the tensors that a run is given: paths in the cell, ``id`` of captured ones.
        needs: what needs a gradient; None: nothing.
        y_wanted, steps_wanted: whether outputs, and states, of every step are shown.
        seen: whether the backward pass shows what flows into the states.
        idle: whether a row has no steps.

    Attributes:
        planned: what its passes do, where all gradients come that may.
        products: the hoisted values, where each is a product; None where one is not.
        rows: the inputs that these multiply.
        places: of the invariants that a run is given, among its tensors.
        inputs: those among x and what is drawn of which hoisted values are computed.
        watched: the states after the step of which hoisted values are computed, where these are
            seen: by number, what stood for each in the trace.
        constant_outputs: places of the run's outputs that depend on nothing that needs a gradient.
        needed_after: by number, whether a state after the step does; empty where nothing does.
    """

    def __init__(
        self, step: TracedStep, names: Sequence[str | int], needs: Needs | None = None,
        y_wanted: bool = True, steps_wanted: bool = False, seen: bool = False, idle: bool = False,
    ) -> None:
        self.step = step
        self.training = training = needs is not None
        if needs is None:
            none = [False] * max(len(step.states), len(step.drawn), len(names))
            needs = Needs(False, none, none, none)
        need_x, need_states, need_drawn, need_tensors = needs
        self._place_of_name = {name: i for i, name in enumerate(names)}
        self._need_tensors = need_tensors
        self._needs = {step.x: need_x, **dict(zip(step.drawn, need_drawn, strict=False))}
        self._trained: dict[Call, bool] = {}
        self._sources: dict[int, Source] = {}
        self.places: dict[Value, int] = {}
        tracer = step.tracer
        wanted: tuple[Value, ...] = ()
        if training:
            wanted = (
                *[v for v in step.inputs if self.requires_grad(v)],
                *[v for v in tracer.tensor_of if self.source(v).requires_grad],
            )
        self._key = wanted, y_wanted, steps_wanted, training, seen
        self._back_from: dict[tuple[bool, ...], Planned] = {}
        for value in tracer.tensor_of:
            place = self.source(value).place
            if place >= 0:
                self.places[value] = place
        made_of = self._made_of(step.hoisted)
        given = {each.value for each in made_of if each.call is None}
        self.inputs = [value for value in (step.x, *step.drawn) if value in given]
        after: Any = [each._data for each in step._after]
        self.watched = {i: each for i, each in enumerate(after) if seen and each in made_of}
        # Native products show what flows into their rows, and no more.
        of_rows = all(each.call is None for each in self.watched.values())
        self.products = self._as_products(step.hoisted) if of_rows else None
        self.rows = list(dict.fromkeys([each.rows for each in self.products or ()]))
        self.planned = Planned(self, compiled(step, *self._key))
        needed: list[bool] = []
        self.needed_after: list[bool] = []
        if training:
            before, self.needed_after = self._needed_states(need_states)
            # A row without steps ends with the state that it begins with.
            states = before if idle else self.needed_after
            needed = [self._depends(step._y, before)] * y_wanted + states * steps_wanted + states
        self.constant_outputs = frozenset(i for i, need in enumerate(needed) if not need)

    def back_from(self, given: tuple[bool, ...]) -> Planned:
        """The same forward pass, and the backward pass where these of the run's outputs have
        gradients; made once."""
        found = self._back_from.get(given)
        if found is None:
            with TRACING:
                found = self._back_from[given] = self._planned_for(given)
        return found

    def _planned_for(self, given: tuple[bool, ...]) -> Planned:
        step, (_, y_wanted, *_) = self.step, self._key
        n, states = len(step.states), given[y_wanted:]  # of every step, and final ones
        d_y, flowing = step.flowing(y_wanted and given[0], [any(states[i::n]) for i in range(n)])
        if all(flowing) and (d_y or not y_wanted):
            return self.planned
        return Planned(self, compiled(step, *self._key, (y_wanted and d_y, flowing)))

    def _needed_states(self, first: Sequence[bool]) -> tuple[list[bool], list[bool]]:
        """Which states depend, before and after any step, on something that needs a gradient."""
        before = list(first)
        while True:
            after = [self._depends(state, before) for state in self.step._after]
            more = [a or b for a, b in zip(before, after, strict=True)]
            if more == before:
                return before, after
            before = more

    def _depends(self, result: Tensor, states: Sequence[bool]) -> bool:
        """Whether a result of the step does, where these states do."""
        for value in self.step.behind(result):
            if value.kind == "state":
                need = states[value.number]
            elif value.kind == "invariant":
                need = self.source(value).requires_grad
            else:
                need = self.requires_grad(value)
            if need:
                return True
        return False

    def requires_grad(self, value: Value) -> bool:
        """Of an input of every step."""
        found = self._needs.get(value)
        return self._is_trained(self.step.tracer.input_calls[value]) if found is None else found

    def _is_trained(self, call: Call) -> bool:
        """Whether the result of a call on inputs of every step needs a gradient."""
        found = self._trained.get(call)
        if found is None:
            found = call.recorded and any(map(self._is_trained_input, call.inputs))
            self._trained[call] = found
        return found

    def _is_trained_input(self, tensor: Tensor) -> bool:
        """Whether what such a call is made with does."""
        each = self._input(tensor)
        if isinstance(each, Source):
            return each.requires_grad
        data: Any = tensor._data
        return tensor._requires_grad and (
            self._needs[each] if data.call is None else self._is_trained(data.call)
        )

    def source(self, value: Value) -> Source:
        """Of an invariant that is no operation."""
        return self.source_of(self.step.tracer.tensor_of[value])

    def source_of(self, tensor: Tensor) -> Source:
        """Of what stood for an invariant in the trace."""
        found = self._sources.get(id(tensor))
        if found is None:
            path = self.step.cell_tensors.get(id(tensor))
            call = self.step.tracer.calls.get(id(tensor))
            if path is None and call is not None:
                need = call.recorded and any(
                    self.source_of(each).requires_grad for each in call.inputs
                )
                found = Source(-1, tensor, True, need)
            else:
                place = self._place_of_name.get(id(tensor) if path is None else path, -1)
                need = place >= 0 and bool(self._need_tensors[place])
                found = Source(place, tensor, False, need)
            self._sources[id(tensor)] = found
        return found

    def _input(self, tensor: Tensor) -> Value | Source:
        """What a call on inputs of every step is made with."""
        data: Any = tensor._data
        if type(data) is not TracedArray:
            return self.source_of(tensor)
        value: Value = data.value
        return value if value.rows else self.source(value)

    def _made_of(self, hoisted: Sequence[Value]) -> set[TracedArray]:
        """All that hoisted values are computed of, step by step."""
        found: set[TracedArray] = set()
        stack = [self.step.tracer.input_calls[value] for value in hoisted]
        while stack:
            for tensor in stack.pop().inputs:
                data: Any = tensor._data
                if type(data) is TracedArray and data not in found:
                    found.add(data)
                    if data.call is not None:
                        stack.append(data.call)
        return found

    def _as_products(self, hoisted: Sequence[Value]) -> list[Product] | None:
        found = []
        given = (self.step.x, *self.step.drawn)
        for value in hoisted:
            call = self.step.tracer.input_calls[value]
            rows, *operands = map(self._input, call.inputs)
            # What is made for the batch has the traced number of rows.
            of_step = [
                each for each in operands
                if isinstance(each, Source) and self.step.tracer.rows not in each.tensor.shape
            ]
            is_product = (
                call.primitive.name in ("linear", "matmul")
                and _rules_are_of_a_product(
                    call.primitive, call.primitive.rules, len(operands) > 1
                )
                and not isinstance(rows, Source) and rows in given and len(rows.shape) == 1
                # Native passes have one gradient of the rows, for all products of them.
                and (call.inputs[0]._requires_grad or not self.requires_grad(rows))
                and len(of_step) == len(operands) and of_step[0].tensor.ndim == 2
            )
            if not is_product:
                return None
            assert not isinstance(rows, Source)
            matrix, bias = of_step[0], of_step[1] if len(of_step) > 1 else None
            found.append(Product(value, rows, matrix, call.primitive.name == "linear", bias))
        return found


@cache
def _rules_are_of_a_product(
    product: Primitive, rules: tuple[Callable[..., Any] | None, ...], has_bias: bool
) -> bool:
    """Whether the engine's derivative rules are what native passes do: they are asked.

    Args:
        product: ``linear`` or ``matmul``.
        rules: its rules now.
    """
    rows, d = np.array([[1.0, 2.0], [3.0, 5.0], [7.0, 11.0]]), np.arange(12.0).reshape(3, 4)
    matrix = np.array([[2.0, 3.0, 5.0, 7.0], [1.0, 4.0, 6.0, 9.0]])
    expected = [d @ matrix.T, rows.T @ d, d.sum(0)]
    if product.name == "linear":
        matrix, expected[1] = matrix.T, expected[1].T
    inputs = [wrap(each) for each in (rows, matrix, d[0])][: 2 + has_bias]
    if product.joint_rule is not None or len(rules) < len(inputs):
        return False
    with no_grad():
        return all(
            rule is not None and np.array_equal(rule(wrap(d), None, *inputs)._data, right)
            for rule, right in zip(rules[: len(inputs)], expected, strict=False)
        )


def compiled(
    step: TracedStep, wanted: tuple[Value, ...], y_wanted: bool, steps_wanted: bool,
    training: bool = False, seen: bool = False,
    flowing: tuple[bool, tuple[bool, ...]] | None = None,
) -> Compiled:
    """The programs of a step for certain gradients; made once.

    Args:
        flowing: whether outputs, and which states, bring a gradient; None: all do.
    """
    d_steps = (steps_wanted,) * len(step.states)
    gradients = None
    if training:
        gradients = step.gradients(y_wanted, d_steps)
        # An input that only products see has no gradient of its own: others' programs serve it.
        wanted = tuple([value for value in wanted if gradients.of.get(value) is not None])
    key = (wanted, y_wanted, steps_wanted, training, seen, flowing)
    found = step.compiled.get(key)
    if found is None:
        if flowing is None:
            found = Compiled(step, gradients, list(wanted), steps_wanted, y_wanted, seen)
        else:
            whole = compiled(step, wanted, y_wanted, steps_wanted, training, seen)
            d_y, d_states = flowing
            found = whole.going_back_by(step.gradients(d_y, d_steps, d_states))
        step.compiled[key] = found
    return found
