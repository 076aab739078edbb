"""From a traced step to its two native programs: what the forward pass keeps, and what the backward
pass repeats."""

from __future__ import annotations

from copy import copy
from typing import TYPE_CHECKING, Any, NamedTuple

import numpy as np

from rnnkit import backend
from rnnkit.errors import TraceError
from rnnkit.recurrent.program.draft import Draft
from rnnkit.recurrent.program.encode import KINDS, Encoder, Place, Record, contiguous
from rnnkit.recurrent.program.values import CHEAP, VIEWS, Value

if TYPE_CHECKING:
    from rnnkit.recurrent.program.traced import Gradients, TracedStep


def is_invariant(value: Value, memo: dict[Value, bool]) -> bool:
    """Whether a value without rows is computed from invariants alone."""
    if value not in memo:
        memo[value] = value.rows is None and (
            value.of is None
            or (
                value.of.name == "primitive"
                and all(is_invariant(v, memo) for v in value.of.inputs)
            )
        )
    return memo[value]


def _is_transposed(value: Value) -> bool:
    """Whether a value is an invariant's transposed matrix, which needs no copy."""
    of = value.of
    return (
        of is not None and of.name == "primitive" and of.params["primitive"].name == "permute"
        and of.params["params"]["axes"] == (1, 0) and of.inputs[0].of is None
    )


_NARROW = 16
"""A value that is so many times smaller than another is as good as nothing to keep."""


def choose_kept(step: TracedStep, needed: list[Value], states_used: list[bool]) -> list[Value]:
    """Which values of the forward pass are kept, of those that the backward pass needs.

    Values that cheap operations give from others that are there are computed again, and so are wide
    ones for which only a narrow one has to be kept as well: a normalised row from its mean. Of a
    value that is read by way of views alone only these are kept, where they are smaller.
    """
    kept: dict[Value, None] = {}
    for used, after in zip(states_used, step.after, strict=True):
        if used and after.of is not None and after.of.name not in VIEWS:
            kept[after] = None
    roots: dict[Value, list[Value]] = {}  # with what is read of each
    for value in needed:
        root = value
        while root.of is not None and root.of.name in VIEWS:
            root = root.of.inputs[0]
        if root.of is not None and root.rows is not None:
            roots.setdefault(root, []).append(value)

    def keep(root: Value) -> None:
        read = roots[root]
        smaller = sum(value.size for value in read) < root.size
        kept.update(dict.fromkeys(read if smaller else [root]))

    cheap: list[Value] = []
    for root in roots:
        assert root.of is not None
        if root.of.name in CHEAP:
            cheap.append(root)
        elif root not in kept:
            keep(root)

    def lacking(value: Value, depth: int, narrow: int) -> list[Value] | None:
        """What has to be kept for it to be computed again; None: something that is not narrow."""
        if value.of is None or value.rows is None or value in kept:
            return []
        if value.size <= narrow:
            return [value]
        if depth == 0 or not (value.of.name in CHEAP or value.of.name in VIEWS):
            return None
        found: list[Value] = []
        for each in value.of.inputs:
            more = lacking(each, depth - (value.of.name in CHEAP), narrow)
            if more is None:
                return None
            found += more
        return found

    for root in cheap:
        if root in kept:
            continue
        found = lacking(root, 3, root.size // _NARROW)
        if found is None:
            keep(root)
        else:
            kept.update(dict.fromkeys(found))
    return list(kept)


class Tables(NamedTuple):
    """A native program, and what its run needs to know."""

    native: Any
    encoder: Encoder
    invariants: list[Value]
    sequences: list[Value]


class Results(NamedTuple):
    """What a backward program computes.

    Attributes:
        flowed: of each state before the step, its gradient, or None.
        sequences, invariants: those whose gradients there are, each with its own.
        sums: what the gradients of invariants need of sums over rows and steps.
    """

    flowed: list[Value | None]
    sequences: list[tuple[Value, Value]]
    invariants: list[tuple[Value, Value]]
    sums: list[Value]


class Compiled:
    """The two programs of a step, for certain gradients.

    Args:
        wanted: sequences and invariants whose gradients are.
        steps_wanted, y_wanted: what the forward pass shows.
        seen: whether the backward pass shows what flows into the states after every step.

    Attributes:
        forward, backward: tables; backward is None where no gradient is wanted.
        results: of the backward program.
        kept: what each row of each step keeps.
        state_places: (base kind, offset) of each state after the step in a forward pass; kind
            "state" of one that the step hands on.
        sequence_gradients: the inputs of every step whose gradients the backward pass writes.
        shown_flows: how many states' flows it shows after these.
        outer_sums: sums of products of rows, with the parts of a record of summands that are
            multiplied.
        row_sums: sums of rows, with the part of a row's sums that each is.
    """

    def __init__(
        self, step: TracedStep, gradients: Gradients | None, wanted: list[Value],
        steps_wanted: bool, y_wanted: bool, seen: bool = False,
    ) -> None:
        self.step = step
        self._seen = seen
        self.gradients = gradients
        self.wanted = wanted
        self._memo: dict[Value, bool] = {}
        tracer = step.tracer
        self.kept = Record("kept")
        self._kept_values: list[Value] = []
        forward_values = {op.out for op in tracer.operations[: step.forward_end]}
        states_used = [False] * len(step.states)
        self.backward: Tables | None = None
        self.sequence_gradients: list[Value] = []
        self.shown_flows = 0
        self.outer_sums: list[tuple[Value, list[slice]]] = []
        self.row_sums: list[tuple[Value, slice]] = []
        if gradients is not None:
            self.results = self._backward_results(gradients)
            needed, met = self._needs(self.results, forward_values)
            states_met = [state in met for state in step.states]
            self._kept_values = choose_kept(step, needed, states_met)
            for value in self._kept_values:
                self.kept.field(value, value.shape)
            states_used = self._compile_backward(gradients)
        self._compile_forward(states_used, steps_wanted, y_wanted)

    def going_back_by(self, gradients: Gradients) -> Compiled:
        """The same forward pass, and the backward pass of a part of the gradients: it needs no more
        than is kept."""
        other = copy(self)
        other.gradients, other.outer_sums, other.row_sums = gradients, [], []
        other.results = self._backward_results(gradients)
        other._compile_backward(gradients)
        return other

    # ---- forward

    def _compile_forward(
        self, states_used: list[bool], steps_wanted: bool, y_wanted: bool
    ) -> None:
        step = self.step
        stores: dict[Value, list[Place]] = {}
        for value in self._kept_values:
            stores.setdefault(value, []).append(self.kept.fields[value])
        after = Record("next")
        outputs: list[Value] = []
        results: list[Value] = list(self._kept_values)
        state_places: list[tuple[int, int]] = []
        for i, value in enumerate(step.after):
            if value is step.states[i]:  # handed on: it stays where it is
                state_places.append((KINDS.index("state"), 0))
                continue
            if states_used[i]:
                result = value if value in self.kept.fields else self._copied(value)
                place = self.kept.field(result, value.shape)
            else:
                result = value if value.of is not None else self._copied(value)
                place = after.field(result, value.shape)
            if place not in stores.setdefault(result, []):
                stores[result].append(place)
            results.append(result)
            state_places.append((KINDS.index(place.kind), place.offset))
        for i, value in enumerate([step.y] * y_wanted + step.after * steps_wanted):
            outputs.append(value)
            result = value if value.of is not None else self._copied(value)
            stores.setdefault(result, []).append(
                Place("output", i, 0, value.shape, contiguous(value.shape))
            )
            results.append(result)
        self.state_places = tuple(state_places)
        basis = [step.y, *step.after]
        draft = Draft(results, self._is_invariant, step.number_of, basis)
        self.forward = self._tables(draft, stores, {}, after, outputs, Record("summands"))

    def _copied(self, value: Value) -> Value:
        return self.step.tracer.emit("copy", [value], value.shape)

    def _is_invariant(self, value: Value) -> bool:
        return is_invariant(value, self._memo) and not _is_transposed(value)

    # ---- backward

    def _backward_results(self, gradients: Gradients) -> Results:
        flowed = [gradients.of.get(state) for state in self.step.states]
        found = [(v, d) for v in self.wanted if (d := gradients.of.get(v)) is not None]
        sequences = [(v, d) for v, d in found if v.kind == "sequence"]
        invariants = [(v, d) for v, d in found if v.kind == "invariant"]
        sums: dict[Value, None] = {}
        stack = [d for _, d in invariants]
        seen: set[Value] = set()
        while stack:
            value = stack.pop()
            if value in seen or value.of is None:
                continue
            seen.add(value)
            if value.of.name in ("sum_rows", "outer"):
                sums[value] = None
            else:
                stack += [v for v in value.of.inputs if v.rows is None]
        return Results(flowed, sequences, invariants, list(sums))

    def _needs(
        self, results: Results, forward_values: set[Value]
    ) -> tuple[list[Value], set[Value]]:
        """Forward values that the backward pass reads, and all values that it comes by."""
        needed: dict[Value, None] = {}
        seen: set[Value] = set()
        stack = [
            *[v for v in results.flowed if v is not None],
            *[d for _, d in results.sequences],
            *results.sums,
        ]
        while stack:
            value = stack.pop()
            if value in seen:
                continue
            seen.add(value)
            if value in forward_values and value.rows is not None:
                needed[value] = None
                # States that it may be computed from again count too.
                stack += [v for v in (value.of.inputs if value.of else ()) if v.kind == "state"]
                if value.of is not None and (value.of.name in VIEWS or value.of.name in CHEAP):
                    stack += [
                        v for v in value.of.inputs if v.of is None or v.of.name in VIEWS
                    ]
                continue
            if value.of is not None:
                stack += value.of.inputs
        order = {op.out: i for i, op in enumerate(self.step.tracer.operations)}
        return sorted(needed, key=order.__getitem__), seen

    def _compile_backward(self, gradients: Gradients) -> list[bool]:
        """Returns which states before the step the program reads."""
        step, found = self.step, self.results
        tracer = step.tracer
        stores: dict[Value, list[Place]] = {}
        results: list[Value] = []
        flows = Record("flowed")
        leaves: dict[Value, Place] = {}

        def store(value: Value, place: Place) -> None:
            if value.of is None or value in self.kept.fields:
                value = self._copied(value)
            stores.setdefault(value, []).append(place)
            results.append(value)

        self.flow_places: list[int] = []
        for i, (flow, d) in enumerate(zip(gradients.flow, found.flowed, strict=True)):
            place = flows.field(i, flow.shape)
            leaves[flow] = place._replace(kind="flowing")
            self.flow_places.append(place.offset)
            if d is None:
                d = tracer.emit("zero", [flow], flow.shape)
            store(d, place)
        outputs: list[Value] = []
        for i, (value, d) in enumerate(found.sequences):
            outputs.append(value)
            store(d, Place("output", i, 0, value.shape, contiguous(value.shape)))
        self.sequence_gradients = list(outputs)
        self.shown_flows = len(step.after) if self._seen else 0
        shown = step.after[: self.shown_flows]
        for value, flow, d in zip(shown, gradients.flow, gradients.after, strict=False):
            if d is None:
                d = tracer.emit("zero", [flow], value.shape)
            place = Place("output", len(outputs), 0, value.shape, contiguous(value.shape))
            outputs.append(value)
            store(d, place)
        summands = Record("summands")
        results += found.sums
        for value in found.sums:
            assert value.of is not None
            if value.of.name == "outer":
                for x in value.of.inputs:
                    is_computed = x.of is not None and x.of.name not in VIEWS
                    if is_computed and x not in self.kept.fields:
                        place = summands.field(x, x.shape)
                        if place not in stores.setdefault(x, []):
                            stores[x].append(place)
        for value in self._kept_values:
            leaves[value] = self.kept.fields[value]

        def is_leaf(value: Value) -> bool:
            return value in leaves or self._is_invariant(value)

        draft = Draft(results, is_leaf, step.number_of)
        self.backward = self._tables(draft, stores, leaves, flows, outputs, summands)
        self._find_sums(found.sums, self.backward.encoder)
        used = {v for definition in draft.definitions.values() for v in definition.inputs}
        return [state in used for state in step.states]

    def _find_sums(self, sums: list[Value], encoder: Encoder) -> None:
        """Where the backward pass leaves what is summed."""

        def part(record: Record, value: Value) -> slice:
            offset = record.fields[value].offset
            return slice(offset, offset + value.size)

        for value in sums:
            assert value.of is not None
            if value.of.name == "outer":
                parts = [part(encoder.summands, v) for v in value.of.inputs]
                self.outer_sums.append((value, parts))
            else:
                self.row_sums.append((value, part(encoder.sums, value)))

    # ---- both

    def _tables(
        self, draft: Draft, stores: dict[Value, list[Place]], leaves: dict[Value, Place],
        states: Record, outputs: list[Value], summands: Record,
    ) -> Tables:
        step = self.step
        places, invariants, sequences = self._place_inputs(draft, leaves)
        extension = backend.native()
        assert extension is not None
        numbers = {name: i for i, name in enumerate(extension.program_ops())}
        encoder = Encoder(draft, places, stores, numbers, summands)

        def table(rows: Any, width: int) -> Any:
            return np.array(rows, np.int32).reshape(-1, width)

        backward = states.kind == "flowed"
        if backward:
            state_rows = [
                [KINDS.index("flowed"), offset, flow.size]
                for offset, flow in zip(self.flow_places, step.states, strict=True)
            ]
        else:
            state_rows = [
                [kind, offset, v.size]
                for (kind, offset), v in zip(self.state_places, step.states, strict=True)
            ]
        try:
            native = extension.Program(
                table([[KINDS.index(kind), index] for kind, index in encoder.bases], 2),
                table(encoder.instructions, 24),
                table(encoder.products, 6),
                table(list(encoder.weights), 5),
                table(encoder.stages, 4),
                table(state_rows, 3),
                (encoder.temp_size, encoder.wide.size, 0 if backward else self.kept.size,
                 encoder.summands.size, states.size, encoder.sums.size),
                tuple([v.size for v in invariants]),
                tuple([v.size for v in sequences]),
                tuple([v.size for v in outputs]),
            )
        except ValueError as error:
            raise TraceError(f"the step is more than a program can hold: {error}") from None
        return Tables(native, encoder, invariants, sequences)

    def _place_inputs(
        self, draft: Draft, leaves: dict[Value, Place]
    ) -> tuple[dict[Value, Place], list[Value], list[Value]]:
        """Places of all that is given; the invariants and the sequences among it, in order."""
        places = dict(leaves)
        invariants: dict[Value, int] = {}
        sequences: dict[Value, int] = {}
        constants: dict[Any, Value] = {}
        inputs = [v for definition in draft.definitions.values() for v in definition.inputs]
        for value in dict.fromkeys(inputs):
            if value in places or value in draft.definitions:
                continue
            if value.kind == "state":
                kind, number = "state", value.number
            elif value.kind == "sequence":
                kind, number = "sequence", sequences.setdefault(value, len(sequences))
            else:
                array = self.step.constant(value)
                shown = value  # one of the constants that are equal
                if array is not None:
                    key = array.dtype.char, array.shape, array.tobytes()
                    shown = constants.setdefault(key, value)
                kind, number = "invariant", invariants.setdefault(shown, len(invariants))
            places[value] = Place(kind, number, 0, value.shape, contiguous(value.shape))
        return places, list(invariants), list(sequences)
