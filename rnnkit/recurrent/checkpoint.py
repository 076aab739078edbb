"""Segments of a run on the tape, of which only the states between them are kept.

The forward pass records nothing. When the backward pass comes to the layer, each segment, from the
last to the first, is computed again with its operations recorded, and walked back through at once.
The walk is the one that came: every sum of gradients goes on in the order of the whole tape, and
has its bits. What a run draws from the library's generator it draws once; a step that changes
anything but its results has no second run that is alike, and needs ``memory="full"``.

The policy and its sources are in ``memory.py``.
"""

from __future__ import annotations

import gc
from _thread import allocate_lock, get_ident
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from itertools import chain, count
from sys import getsizeof
from typing import TYPE_CHECKING, Any, NamedTuple, Protocol

import numpy as np

from rnnkit import backend, forks, rng
from rnnkit.autograd import Tensor, enable_grad, no_grad
from rnnkit.autograd.function import Context
from rnnkit.autograd.node import Node, next_number
from rnnkit.autograd.tape import history, slot_of, walk_on
from rnnkit.autograd.tensor import wrap
from rnnkit.errors import GraphError
from rnnkit.recurrent.memory import segment_within
from rnnkit.recurrent.options import Result
from rnnkit.recurrent.tape import outside

if TYPE_CHECKING:
    from rnnkit.autograd.accumulate import Collector
    from rnnkit.autograd.tensor import Array
    from rnnkit.recurrent.options import Options
    from rnnkit.recurrent.tape import Carry, Run


class Pieces(Protocol):
    """A layer that can be run piece by piece; ``tape.Pieces`` says what each member means."""

    options: Options
    T: int
    directions: int
    states: int

    @property
    def name(self) -> str: ...
    @property
    def requires_grad(self) -> bool: ...
    def times(self, direction: int) -> range: ...
    def begin(self, direction: int) -> Carry: ...
    def tensors(self, direction: int) -> list[Tensor]: ...
    def frozen(self) -> Pieces: ...
    def fullest(self) -> int: ...
    def run(self, direction: int, times: range, carry: Carry) -> Run: ...
    def results(self, direction: int, run: Run) -> Any: ...
    def joined(self, parts: Sequence[Any]) -> Result: ...


def segment_of(pieces: Pieces, budget: int) -> int | None:
    """Steps of a segment within a budget of bytes; None where nothing needs to be computed again.

    One step is recorded and taken for all: it counts with every object and array that its
    operations keep, the states between segments with their arrays.
    """
    step, between, used, _ = _measure(pieces, 0)
    if not (used or pieces.requires_grad):
        return None
    if pieces.directions * pieces.T * step <= budget:
        return None
    # One direction at a time is recorded, but the states of all are kept.
    return segment_within(
        budget, pieces.T, lambda steps: steps * step, pieces.directions * between
    )


def run_in_segments(pieces: Pieces, steps: int) -> Result:
    """The layer, with a graph that is made only when the backward pass comes to it.

    Args:
        pieces: the layer; gradients are being recorded.
        steps: of each segment; the last may be shorter.
    """
    outputs = _Outputs(pieces)
    later = pieces.frozen()
    directions = []
    inputs: list[Tensor] = []
    for direction in range(pieces.directions):
        pieces.begin(direction)
        measured = _measure(pieces, direction)
        inputs += pieces.tensors(direction) + measured.used
        requiring = _requiring(pieces, direction, measured.behind)
        outputs.require(requiring)
        with no_grad():
            directions.append(_forward(pieces, direction, steps, outputs, requiring))
    unique = {id(each): each for each in inputs if each.dtype.kind == "f"}
    node = SegmentsNode(later, tuple(unique.values()), directions, outputs)
    return outputs.result(node)


_begun: list[tuple[int, dict[str, Any]]] = []
"""By thread: the states in which runs have begun to draw that are not at their end."""

_beginning = allocate_lock()
forks.release_after_fork(_beginning)
_distances = count(1)


def _forget_other_threads() -> None:
    """In a forked child, where these come to no end."""
    _begun[:] = [each for each in _begun if each[0] == get_ident()]


forks.in_forked_children(_forget_other_threads)


class _Segment(NamedTuple):
    times: range
    carry: Carry  # leaves, or what has a history outside of the layer
    drawing_from: dict[str, Any] | None  # the generator's state, where the steps draw from it


class _Direction(NamedTuple):
    segments: list[_Segment]
    # By id of a tensor in a carry: the outputs that are this very tensor. Their gradients come
    # first in its sum, before those from the steps that follow.
    shared: dict[int, list[Key]]


def _requiring(
    pieces: Pieces, direction: int, behind: Sequence[_Behind]
) -> list[tuple[bool, ...]]:
    """After each number of steps of a direction, from none: which of the carry require a gradient;
    the last is the output where all are wanted.

    Args:
        behind: the states after a step, and its output or the last outputs of the rows.
    """
    schedule = pieces.options.schedule
    found = [
        tuple([each is not None and each.requires_grad for each in pieces.begin(direction)])
    ]
    for t in pieces.times(direction):
        before = found[-1]
        active = None if schedule is None else schedule.active(t)
        if active is not None and not active.any():
            last = before[-1] and not pieces.options.sequences
            found.append((*before[:-1], last))
            continue
        after = [each.else_requires or any(before[i] for i in each.states) for each in behind]
        if schedule is not None:
            # Rows that have ended keep what they have; others may get back what began.
            after = [a or b for a, b in zip(after, before, strict=True)]
        found.append(tuple(after))
    return found


def _forward(
    pieces: Pieces, direction: int, steps: int, outputs: _Outputs,
    requiring: Sequence[tuple[bool, ...]],
) -> _Direction:
    times, carry = pieces.times(direction), pieces.begin(direction)
    known = {id(each) for each in pieces.tensors(direction)}
    shared: dict[int, list[Key]] = {id(each): [] for each in carry if each is not None}
    segments = []
    leaves: list[Tensor] = []
    with _drawing_alone() as begun_from:
        for start in range(0, len(times), steps):
            part = times[start : start + steps]
            is_last = start + steps >= len(times)
            segments.append(_Segment(part, carry, rng.get_state()))
            run = pieces.run(direction, part, carry)
            successors: dict[int, Tensor] = {}
            for each, requires in zip(run.carry, requiring[start + len(part)], strict=True):
                if not is_last and each is not None and id(each) not in successors:
                    if each.requires_grad or id(each) in known or id(each) in shared:
                        successors[id(each)] = each
                    else:
                        leaf = wrap(each.data)
                        successors[id(each)] = leaf
                        if requires:
                            leaves.append(leaf)
                    shared.setdefault(id(successors[id(each)]), [])
            for key, tensor in outputs.of(run, part, is_last):
                outputs.put(key, direction, tensor)
                itself = successors.get(id(tensor), tensor)
                if id(itself) in shared:
                    shared[id(itself)].append(key)
            carry = tuple([successors.get(id(each)) for each in run.carry])
        ended = rng.get_state()
    for leaf in leaves:
        _require_grad(leaf)
    if ended == begun_from:
        segments = [segment._replace(drawing_from=None) for segment in segments]
    return _Direction(segments, shared)


class SegmentsNode(Node):
    """A layer that is recorded when the walk comes to it, segment by segment."""

    __slots__ = ("_directions", "_mode", "_outputs", "_pieces")

    def __init__(
        self,
        pieces: Pieces,
        inputs: tuple[Tensor, ...],
        directions: list[_Direction],
        outputs: _Outputs,
    ) -> None:
        self.begin(inputs, outputs.count)
        self._pieces: Pieces | None = pieces
        self._directions = directions
        self._outputs = outputs
        # Products have other bits on another path.
        self._mode = backend.get_backend()

    @property
    def name(self) -> str:
        return "segments" if self._pieces is None else f"{self._pieces.name} in segments"

    def free(self) -> None:
        self.inputs = self._pieces = None
        self._directions = []

    def gradients(
        self, d_outputs: Any, needs: list[bool], retain_graph: bool, collector: Collector
    ) -> list[None]:
        pieces = self._pieces
        assert pieces is not None
        if collector.create_graph:
            self._walk_whole(pieces, d_outputs, needs, collector)
        else:
            for direction in reversed(range(pieces.directions)):
                self._walk_direction(pieces, direction, d_outputs, needs, collector)
        return [None] * len(needs)

    def _slots(self, needs: list[bool]) -> tuple[set[Any], set[Any]]:
        """Where gradients of all inputs are collected, and of those that are wanted."""
        assert self.inputs is not None
        slots = [slot_of(each) for each in self.inputs if each is not None]
        return set(slots), {slot for slot, need in zip(slots, needs, strict=True) if need}

    def _walk_whole(
        self,
        pieces: Pieces,
        d_outputs: Sequence[Tensor | None],
        needs: list[bool],
        collector: Collector,
    ) -> None:
        """Where the gradients refer to all that is recorded, nothing is saved by segments."""
        reason = "create_graph: the whole layer recorded again, whatever the budget"
        backend.record(f"{pieces.name} backward", "python", reason)
        since = next_number()
        parts = []
        for direction, (segments, _) in enumerate(self._directions):
            first = segments[0]
            with enable_grad(), backend.backend(self._mode), _drawing_from(first.drawing_from):
                run = pieces.run(direction, pieces.times(direction), first.carry)
                parts.append(pieces.results(direction, run))
        with enable_grad():
            found = self._outputs.in_order(pieces.joined(parts))
        for each, gradient in zip(found, d_outputs, strict=True):
            if gradient is not None and each.requires_grad:
                collector.add(slot_of(each), gradient)
        walk_on(collector, history(found, since), self._slots(needs)[1], retain_graph=True)

    def _walk_direction(
        self,
        pieces: Pieces,
        direction: int,
        d_outputs: Sequence[Tensor | None],
        needs: list[bool],
        collector: Collector,
    ) -> None:
        segments, shared = self._directions[direction]
        known, wanted = self._slots(needs)
        elsewhere = {key for keys in shared.values() for key in keys}
        following: Carry = ()
        seeded: set[int] = set()
        unforeseen = GraphError(
            f"memory: {pieces.name} computes a result of some of its steps, but not of the first, "
            "from what requires a gradient; run it with memory='full'"
        )

        def seed(key: Key, tensor: Tensor) -> None:
            gradient = self._outputs.part(d_outputs, key, direction)
            if gradient is not None and tensor.requires_grad:
                collector.add(slot_of(tensor), gradient)

        def walk(segment: _Segment) -> None:
            # What it makes is gone before the next segment is recorded.
            since = next_number()
            with (
                enable_grad(),
                backend.backend(self._mode),
                _drawing_from(segment.drawing_from),
            ):
                run = pieces.run(direction, segment.times, segment.carry)
            for tensor, leaf in zip(run.carry, following, strict=False):
                if tensor is not None and leaf is not None and tensor is not leaf:
                    if tensor.requires_grad and not leaf.requires_grad:
                        raise unforeseen
                    _hand_over(collector, leaf, tensor)
            for key, tensor in self._outputs.of(run, segment.times, segment is segments[-1]):
                if tensor.requires_grad and key[0] in self._outputs.constant:
                    raise unforeseen
                if key not in elsewhere:
                    seed(key, tensor)
            roots = _roots(run)
            nodes = history(roots, since)
            for stray in outside(nodes, roots, since):
                if slot_of(stray) not in known and slot_of(stray) not in begin:
                    raise GraphError(
                        f"memory: {pieces.name} computes some of its steps, but not the first, "
                        f"from a tensor of shape {stray.shape} that requires a gradient and is not "
                        "one of its parameters; run it with memory='full'"
                    )
            walk_on(collector, nodes, wanted, retain_graph=False)

        for segment in reversed(segments):
            own = [each for each in segment.carry if each is not None and each.requires_grad]
            for each in own:
                if id(each) not in seeded:
                    seeded.add(id(each))
                    for key in sorted(shared[id(each)]):
                        seed(key, each)
            begin = {slot_of(each) for each in own}
            wanted |= begin - known
            walk(segment)
            following = segment.carry


def _hand_over(collector: Collector, leaf: Tensor, tensor: Tensor) -> None:
    """The gradient of the state that a segment began from, to the end of the one before it."""
    if not tensor.requires_grad:
        collector.take(leaf)
        return
    if leaf._hooks:
        # A step that watches the state it is given watches the tensor that the leaf stands for.
        for hook in leaf._hooks.values():
            tensor.register_hook(hook)
        leaf._hooks = None
    collector.move(leaf, slot_of(tensor))


Key = tuple[int, int]
"""An output's place among those of the node, and the step; of a last or final one, T."""


class _Outputs:
    """The outputs of a layer, and which part of them each tensor of a run is.

    They are in the order in which a walk over the whole tape comes to them: y, the states after
    every step and the final states, each from the last name to the first.
    """

    def __init__(self, pieces: Pieces) -> None:
        self._T, self._directions = pieces.T, pieces.directions
        self._options = options = pieces.options
        self._time = 1 if options.batch_first else 0
        self._names = names = pieces.states
        self._first_final = 1 + names * options.steps
        self.count = self._first_final + names
        self._arrays: list[Array | None] = [None] * self.count
        self._numbers: set[int] = set()  # places of states of which a row is one number
        self.constant = set(range(self.count))

    def require(self, requiring: Sequence[tuple[bool, ...]]) -> None:
        """Takes from the ``constant`` outputs, by place, those that a direction has made of what
        requires a gradient; see ``_requiring``."""
        names, after = range(self._names), requiring[1:]
        if any(each[-1] for each in (after if self._options.sequences else after[-1:])):
            self.constant.discard(0)
        if self._options.steps:
            self.constant -= {self._names - i for i in names if any(each[i] for each in after)}
        self.constant -= {self.count - 1 - i for i in names if after[-1][i]}

    def of(self, run: Run, times: range, is_last: bool) -> list[tuple[Key, Tensor]]:
        """The tensors of a run that belong to the outputs, in the order of their keys."""
        found: list[tuple[Key, Tensor | None]] = []
        names = range(self._names)
        found += [((0, t), each) for t, each in zip(times, run.outputs, strict=False)]
        for t, after in zip(times, run.states, strict=False):
            found += [((self._names - i, t), after[i]) for i in names]
        if is_last:
            if not self._options.sequences:
                found.append(((0, self._T), run.carry[-1]))
            found += [((self.count - 1 - i, self._T), run.carry[i]) for i in names]
        found.sort(key=lambda item: item[0])
        return [(key, each) for key, each in found if each is not None]

    def put(self, key: Key, direction: int, tensor: Tensor) -> None:
        place, part = key[0], tensor.data
        array = self._arrays[place]
        if array is None:
            shape = part.shape
            if place >= self._first_final:
                shape = (self._directions, *shape)
            else:
                if key[1] < self._T:
                    shape = (*shape[: self._time], self._T, *shape[self._time :])
                if part.ndim == 1:
                    self._numbers.add(place)
                    shape += (self._directions,) * (self._directions > 1)
                else:
                    shape = (*shape[:-1], self._directions * shape[-1])
            array = self._arrays[place] = np.empty(shape, part.dtype)
        array[self._index(key, direction, array.shape[-1])] = part

    def part(
        self, gradients: Sequence[Tensor | None], key: Key, direction: int
    ) -> Tensor | None:
        """Of the outputs' gradients, that which belongs to a key."""
        whole = gradients[key[0]]
        return None if whole is None else whole[self._index(key, direction, whole.shape[-1])]

    def _index(self, key: Key, direction: int, features: int) -> tuple[Any, ...]:
        place, t = key
        if place >= self._first_final:
            return (direction,)
        width = features // self._directions
        own: tuple[Any, ...] = (slice(direction * width, (direction + 1) * width),)
        if place in self._numbers:
            own = (direction,) if self._directions > 1 else ()
        if t == self._T:
            return ..., *own
        return (*[slice(None)] * self._time, t, ..., *own)

    def in_order(self, result: Result) -> list[Tensor]:
        return [result.y, *(result.steps or ())[::-1], *result.final[::-1]]

    def result(self, node: Node) -> Result:
        """The outputs as they leave the node; the arrays are then the caller's alone."""
        found = []
        for array in self._arrays:
            assert array is not None
            found.append(wrap(array))
        node.made(found, self.constant)
        self._arrays = []
        final = tuple(found[self._first_final :][::-1])
        steps = tuple(found[1 : self._first_final][::-1]) if self._options.steps else None
        return Result(found[0], final, steps)


class _Behind(NamedTuple):
    """What an output of a step, or a state after it, is computed from."""

    states: list[int]  # before the step, by number; after these, the last outputs of the rows
    else_requires: bool  # whether anything else requires a gradient


class _Measured(NamedTuple):
    step: int  # bytes that a recorded step keeps
    between: int  # bytes of the arrays of a state
    used: list[Tensor]  # what requires a gradient and the step is computed from
    behind: list[_Behind]  # the states after the step, and its output


def _measure(pieces: Pieces, direction: int) -> _Measured:
    carry = pieces.begin(direction)
    t = pieces.fullest()
    with _drawing_from(rng.get_state()):
        with no_grad():
            first = pieces.run(direction, pieces.times(direction)[:1], carry)
        begin = tuple([
            None if each is None else _require_grad(wrap(each.data)) for each in first.carry
        ])
        since = next_number()
        with enable_grad():
            run = pieces.run(direction, range(t, t + 1), begin)
    roots = _roots(run)
    given = [each for each in begin if each is not None]
    used = outside(history(roots, since), roots, since)
    used = [each for each in used if not any(each is one for one in given)]
    between = {id(owner): owner.nbytes for owner in (_owner(each.data) for each in given)}
    apart = [*given, *used, *pieces.tensors(direction)]
    kept = _kept_bytes(roots, since, apart)
    results = run.carry[: pieces.states], run.outputs or run.carry[-1:]
    behind = [_behind(each, given, since) for each in chain(*results)]
    return _Measured(kept, sum(between.values()), used, behind)


def _behind(result: Any, given: Sequence[Tensor], since: int) -> _Behind:
    found = outside(history([result], since), [result], since)
    states = [i for i, each in enumerate(given) if any(each is one for one in found)]
    return _Behind(states, len(found) > len(states))


def _kept_bytes(roots: Sequence[Tensor], since: int, apart: Sequence[Tensor]) -> int:
    """Bytes of what hangs on the graph of the roots, as far as it is not older than ``since``.

    Objects count as well as arrays: beside small arrays they are most of it. What stands
    ``apart`` was there before, and its memory does not count.
    """
    seen = {id(each) for each in apart}
    lent = {id(_owner(each.data)) for each in apart}
    total = 0
    stack: list[Any] = list(roots)
    while stack:
        each = stack.pop()
        if id(each) in seen or not isinstance(each, _KEPT):
            continue
        if isinstance(each, Node) and each.number < since:
            continue
        seen.add(id(each))
        if isinstance(each, np.ndarray):
            if id(each) not in lent:
                total += getsizeof(each)
                stack.append(each.base)
            continue
        total += getsizeof(each)
        stack += gc.get_referents(each)
    return total


_KEPT = (Tensor, Node, Context, np.ndarray, tuple, list, dict)


def _roots(run: Run) -> list[Tensor]:
    after = [each for state in run.states for each in state]
    return [*run.outputs, *after, *[each for each in run.carry if each is not None]]


def _require_grad(leaf: Tensor) -> Tensor:
    return leaf.requires_grad_(leaf.dtype.kind == "f")


def _owner(array: Array) -> Array:
    while isinstance(array.base, np.ndarray):
        array = array.base
    return array


@contextmanager
def _drawing_alone() -> Iterator[dict[str, Any]]:
    """Draws go on from where the library's generator is, which then goes on from their end.

    No draws of another thread come in between, as backward repeats these. Where the run of another
    thread has begun at the same place, they come from far away: masks of two threads must not be
    the same. Gives the state that they begin in.
    """
    thread, begin = get_ident(), rng.get_state()
    with _beginning:
        if any(each == begin for other, each in _begun if other != thread):
            begin = rng.far_from(begin, next(_distances))
        _begun.append((thread, begin))
    try:
        with rng.drawing_apart(begin):
            yield begin
            ended = rng.get_state()
    finally:
        with _beginning:
            _begun.remove((thread, begin))
    if rng.get_state() == begin:
        rng.set_state(ended)


@contextmanager
def _drawing_from(state: dict[str, Any] | None) -> Iterator[None]:
    """Draws begin in a state of the library's generator, which stays as it is; None: none come."""
    if state is None:
        yield
        return
    with rng.drawing_apart(state):
        yield
