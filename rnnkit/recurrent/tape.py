"""The pure-Python path: the cell's own ``step`` recorded on the tape, once per time step.

This is the definition that the native path is checked against, and what runs any cell at all.
"""

from __future__ import annotations

import copy
from collections.abc import Sequence
from typing import TYPE_CHECKING, Any, NamedTuple

import numpy as np

from rnnkit import ops, rng
from rnnkit.autograd import enable_grad, grad, is_grad_enabled
from rnnkit.autograd.node import next_number
from rnnkit.autograd.tape import history
from rnnkit.autograd.tensor import wrap
from rnnkit.cells.base import own_copy
from rnnkit.recurrent.options import Result

if TYPE_CHECKING:
    from rnnkit.autograd import Tensor
    from rnnkit.autograd.node import Node
    from rnnkit.autograd.tensor import Array
    from rnnkit.cells import Cell
    from rnnkit.cells.base import State
    from rnnkit.recurrent.options import Options

    Carry = tuple[Tensor | None, ...]
    Results = tuple[Tensor, State, State]


def run_layer(
    cells: Sequence[Cell], x: Tensor, state: State, restart: State | None, options: Options
) -> Result:
    """As ``recurrent.run_checked_layer``; the state is not None."""
    schedule = options.schedule
    if 0 in x.shape[:2] or (schedule is not None and schedule.steps == 0):
        return _run_empty(cells, x, state, restart, options)
    return Pieces(cells, x, state, restart, options).whole()


class Run(NamedTuple):
    """Some steps of one direction, in the order in which it takes them.

    Attributes:
        outputs: (N, H) of each step; none where only the last is wanted.
        states: after each step; none where they are not wanted.
        carry: what the next step goes on from: the state and, where only the last output of each
            row is wanted, that.
    """

    outputs: list[Tensor]
    states: list[State]
    carry: Carry


class Pieces:
    """One layer over one sequence, of which any part can be run that follows on a known one.

    Args:
        cells, x, state, restart, options: as for ``run_layer``; some row has a step.
    """

    def __init__(
        self,
        cells: Sequence[Cell],
        x: Tensor,
        state: State,
        restart: State | None,
        options: Options,
    ) -> None:
        self.options = options
        self.T, self.N = x.shape[:2][:: -1 if options.batch_first else 1]
        self.directions = len(cells)
        self.states = len(state)
        self._cells = list(cells)
        self._xs = x.unbind(1 if options.batch_first else 0)
        self._state = state
        self._restart = restart
        self._begun: list[_Begun] = []

    @property
    def name(self) -> str:
        return type(self._cells[0]).__name__

    @property
    def requires_grad(self) -> bool:
        """Whether any of what the layer is known to be computed from does."""
        parameters = [each for cell in self._cells for each in cell.parameters()]
        given = *self._xs[:1], *self._state, *(self._restart or ()), *parameters
        return any(each.requires_grad for each in given)

    def times(self, direction: int) -> range:
        """The steps of a direction, in its own order."""
        return range(self.T - 1, -1, -1) if direction else range(self.T)

    def begin(self, direction: int) -> Carry:
        """What the first step of a direction begins from; the directions begin in their order."""
        if direction == len(self._begun):
            state = tuple([each[direction] for each in self._state])
            restart = self._restart
            if restart is not None:
                restart = tuple([each[direction] for each in restart])
                # No rows of it, so that its gradient exists though no row may ever restart.
                nothing = [each[:0] for each in restart]
                state = tuple(map(_put_rows, [np.arange(0)] * len(state), nothing, state))
            drawn = self._cells[direction].drawn_for(self.T, self.N)
            if self.options.seen is not None:
                self.options.seen.directions[direction].drawn = drawn
            self._begun.append(_Begun((*state, None), restart, drawn))
        return self._begun[direction].carry

    def tensors(self, direction: int) -> list[Tensor]:
        """All that the steps of a direction that has begun are known to be computed from."""
        carry, restart, drawn = self._begun[direction]
        begin = [each for each in carry if each is not None]
        cell = self._cells[direction]
        # A tensor with a history may be a remnant of an earlier run.
        own = [each for each in (*cell.parameters(), *cell.buffers()) if each.is_leaf]
        return [*self._xs, *begin, *(restart or ()), *drawn, *own]

    def frozen(self) -> Pieces:
        """The same with the cells as they are now, whatever is assigned to them later."""
        twin = copy.copy(self)
        twin._cells = [own_copy(cell) for cell in self._cells]
        return twin

    def fullest(self) -> int:
        """A step that keeps about as much as any: of many rows, and those picked or restarted."""
        schedule = self.options.schedule
        if schedule is None:
            return 0

        def size(t: int) -> int:
            active, restarting = schedule.active(t), schedule.restarts(t, False)
            rows = self.N if active is None else int(active.sum())
            return rows * (2 + (active is not None) + (restarting is not None))

        return max(range(self.T), key=size)

    def run(self, direction: int, times: range, carry: Carry) -> Run:
        """Some steps of a direction that has begun, from what the step before them left."""
        schedule, options = self.options.schedule, self.options
        cell = self._cells[direction]
        step: Any = cell.step
        _, restart, drawn = self._begun[direction]
        *held, last = carry
        state: State = tuple(held)  # type: ignore[arg-type]
        outputs: list[Tensor] = []
        states: list[State] = []
        for t in times:
            x, before, active, rows = self._xs[t], state, None, None
            now = [each[t if each.shape[0] > 1 else 0] for each in drawn]
            if schedule is not None:
                restarting = schedule.restarts(t, direction == 1)
                if restarting is not None:
                    begin = _zeros_like(state) if restart is None else restart
                    before = tuple(map(_where_rows, [restarting] * len(state), begin, state))
                active = schedule.active(t)
            if active is None:
                y, new = cell.checked_result(step(x, before, *now), self.N)
                state = after = new
            else:
                rows = np.flatnonzero(active)
                # By themselves: what stands in the padding reaches no row and no gradient, nor
                # does NaN, which zeros in its place would become where weights are infinite.
                x, now = x[rows], [each[rows] for each in now]
                new = tuple([each[rows] for each in before])
                y = ops.zeros((0, cell.output_size), dtype=cell.dtype)
                if rows.size:
                    y, new = cell.checked_result(step(x, new, *now), rows.size)
                state = tuple(map(_put_rows, [rows] * len(new), new, before))
                after = tuple([_where_rows(active, each, 0.0) for each in state])
            if options.seen is not None:
                options.seen.directions[direction].watch(t if rows is None else (t, rows), y, new)
            if options.sequences:
                outputs.append(y if rows is None else _put_rows(rows, y, self.N))
            else:
                last = y if rows is None else _put_rows(rows, y, self.N if last is None else last)
            if options.steps:
                states.append(after)
        return Run(outputs, states, (*state, last))

    def whole(self) -> Result:
        """The layer in one piece."""
        parts = [
            self.results(d, self.run(d, self.times(d), self.begin(d)))
            for d in range(self.directions)
        ]
        return self.joined(parts)

    def joined(self, parts: Sequence[Results]) -> Result:
        """The layer's results from those of each direction."""
        return join_directions(parts, self.options)

    def results(self, direction: int, run: Run) -> Results:
        """y, the final state (1, N, H) and the states after every step, of one direction."""
        time = 1 if self.options.batch_first else 0
        order = slice(None, None, -1 if direction else 1)
        outputs, states = run.outputs[order], run.states[order]
        names = range(self.states)
        final = [run.carry[i].unsqueeze(0) for i in names]  # type: ignore[union-attr]
        steps = [ops.stack([after[i] for after in states], time) for i in names if states]
        last: Any = run.carry[-1]
        return ops.stack(outputs, time) if outputs else last, tuple(final), tuple(steps)


def join_directions(
    parts: Sequence[Results], options: Options, y: Tensor | None = None
) -> Result:
    """A layer's results from those of each direction; y where it has been joined."""
    ys, finals, steps = zip(*parts, strict=True)
    if y is None:
        y = _side_by_side(ys, 1)
    final = tuple([ops.cat(list(each), 0) for each in zip(*finals, strict=True)])
    if not options.steps:
        return Result(y, final)
    both = tuple([_side_by_side(each, 2) for each in zip(*steps, strict=True)])
    return Result(y, final, both)


def run_direction(
    cell: Cell, x: Tensor, state: State, restart: State | None, options: Options, reverse: bool
) -> Results:
    """One direction alone, over at least one step; its states and restarts are (N, ...)."""
    cells = [cell] * (1 + reverse)
    both: Any = tuple([[each] * (1 + reverse) for each in state])
    begins: Any = restart and tuple([[each] * (1 + reverse) for each in restart])
    pieces = Pieces(cells, x, both, begins, options)
    carry = [pieces.begin(d) for d in range(1 + reverse)][-1]
    return pieces.results(int(reverse), pieces.run(int(reverse), pieces.times(int(reverse)), carry))


def last_outputs(y: Tensor, options: Options, T: int) -> Tensor:
    """Each row's last output, (N, ...), where rows without steps have none: zero."""
    schedule = options.schedule
    lengths = None if schedule is None else schedule.lengths
    has_steps = np.full(y.shape[0], T > 0) if lengths is None else lengths > 0
    return y if has_steps.all() else ops.where(has_steps[:, None], y, 0.0)


def gradients(
    outputs: Sequence[Tensor], d_outputs: Sequence[Tensor | None], inputs: Sequence[Any],
    needs: Sequence[bool],
) -> tuple[Tensor | None, ...]:
    """Gradients of what was run on the tape, which can be differentiated again.

    Args:
        outputs: what it gave.
        d_outputs: their gradients; None where there is none.
        inputs: what it was given.
        needs: of which of these a gradient is wanted.
    """
    used = [
        (output, d) for output, d in zip(outputs, d_outputs, strict=True)
        if d is not None and output.requires_grad
    ]
    wanted = [each for each, need in zip(inputs, needs, strict=True) if need]
    found = iter(
        grad(
            [output for output, _ in used], wanted, [d for _, d in used], create_graph=True,
            allow_unused=True,
        )
    )
    return tuple([next(found) if need else None for need in needs])


def outside(nodes: Sequence[Node], roots: Sequence[Tensor], since: int) -> list[Tensor]:
    """What requires a gradient and the nodes, or roots, were computed from, but not among them."""
    found: dict[int, Tensor] = {}
    for tensors in (roots, *[node.inputs or () for node in nodes]):
        for each in tensors:
            if each is not None and each.requires_grad:
                made = each.grad_fn
                if made is None or made.number < since:
                    found[id(each)] = each
    return list(found.values())


class _Begun(NamedTuple):
    carry: Carry
    restart: State | None
    drawn: tuple[Tensor, ...]


def _where_rows(rows: Array, a: Tensor, b: Tensor | float) -> Tensor:
    """a in the given rows, (N, 1), and b in the others, whatever the axes of a row."""
    return ops.where(rows.reshape(-1, *[1] * (a.ndim - 1)), a, b)


def _put_rows(rows: Array, new: Tensor, others: Tensor | int) -> Tensor:
    """Some rows of a batch, and the others as they are in another; or zeros, of so many in all."""
    if isinstance(others, int):
        others = ops.zeros((others, *new.shape[1:]), dtype=new.dtype)
    place = np.arange(len(rows), len(rows) + others.shape[0])
    place[rows] = np.arange(len(rows))
    return ops.cat([new, others], 0)[place]


def _zeros_like(state: State) -> State:
    return tuple([ops.zeros(each.shape, dtype=each.dtype) for each in state])


def _side_by_side(directions: Sequence[Tensor], leading: int) -> Tensor:
    """In the last axis of a row, after so many others; a row of no axes, one number, gets one."""
    if len(directions) == 1:
        return directions[0]
    join = ops.stack if directions[0].ndim == leading else ops.cat
    return join(list(directions), -1)


def _step_of_no_rows(
    cell: Cell, x: Tensor, state: State, drawn: Sequence[Tensor]
) -> tuple[Tensor, State]:
    """A step may ask for gradients itself, which as a program it gets whatever the call records:
    so they are recorded here, of all that it takes, and what came by this alone is cut off."""
    step: Any = cell.step
    given = [each if each.requires_grad else wrap(each.data) for each in (x, *state, *drawn)]
    own = [
        each.requires_grad_() for each in given
        if each.dtype.kind == "f" and not each.requires_grad
    ]
    since = next_number()
    with enable_grad():
        result = step(given[0], tuple(given[1 : 1 + len(state)]), *given[1 + len(state) :])
    output, after = cell.checked_result(result, 0)

    def cut(each: Tensor) -> Tensor:
        behind = outside(history([each], since), [each], since)
        needs = any(not any(one is other for other in own) for one in behind)
        return each if needs and is_grad_enabled() else each.detach()

    return cut(output), tuple(map(cut, after))


def _run_empty(
    cells: Sequence[Cell], x: Tensor, state: State, restart: State | None, options: Options
) -> Result:
    """No row has a step: one over no rows, so that every gradient exists and is zero."""
    first, second, I = x.shape
    no_rows = np.arange(0)
    outputs, states = [], []
    for direction, cell in enumerate(cells):
        before = tuple([each[direction][:0] for each in state])
        if restart is not None:
            begin = [each[direction][:0] for each in restart]
            before = tuple(map(_put_rows, [no_rows] * len(begin), begin, before))
        drawn = [each[0] for each in cell.drawn_for(1, 0)]
        output, after = _step_of_no_rows(cell, x.reshape(first * second, I)[:0], before, drawn)
        if options.seen is not None:
            seen = options.seen.directions[direction]
            seen.watch((slice(0), slice(0)), output, after)
            with rng.drawing_apart():  # for its gates; the run has drawn nothing
                seen.drawn = cell.drawn_for(seen.T, seen.N)
        outputs.append(output)
        states.append(after)

    def of_steps(directions: Sequence[Tensor]) -> Tensor:
        both = _side_by_side(directions, 1)
        zeros = _put_rows(no_rows, both, first * second)
        return zeros.reshape(first, second, *both.shape[1:])

    if options.sequences:
        y = of_steps(outputs)
    else:
        y = _put_rows(no_rows, _side_by_side(outputs, 1), state[0].shape[1])
    final = tuple([
        ops.stack([_put_rows(no_rows, after[i], each[d]) for d, after in enumerate(states)], 0)
        for i, each in enumerate(state)
    ])
    steps = tuple(map(of_steps, zip(*states, strict=True))) if options.steps else None
    return Result(y, final, steps)
