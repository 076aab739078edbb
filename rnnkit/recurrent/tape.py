"""The pure-Python path: the cell's own ``step`` recorded on the tape, once per time step.

This is the definition that the native path is checked against, and what runs any cell at all.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

from rnnkit import ops
from rnnkit.recurrent.options import Result

if TYPE_CHECKING:
    from rnnkit.autograd import Tensor
    from rnnkit.autograd.tensor import Array
    from rnnkit.cells import Cell
    from rnnkit.cells.base import State
    from rnnkit.recurrent.options import Options


def run_layer(
    cells: Sequence[Cell], x: Tensor, state: State, restart: State | None, options: Options
) -> Result:
    """As ``recurrent.run_checked_layer``; the state is not None."""
    time = 1 if options.batch_first else 0
    if x.shape[time] == 0:
        return _run_empty(cells, x, state, options)
    return join_directions([
        run_direction(
            cell,
            x,
            tuple([each[direction] for each in state]),
            None if restart is None else tuple([each[direction] for each in restart]),
            options,
            reverse=direction == 1,
        )
        for direction, cell in enumerate(cells)
    ])


def join_directions(runs: list[Result]) -> Result:
    """The result of a layer from those of its directions, whose states are (N, ...)."""
    y = _side_by_side([run.y for run in runs])
    finals = zip(*[run.final for run in runs], strict=True)
    final = tuple([ops.stack(list(parts), 0) for parts in finals])
    if runs[0].steps is None:
        return Result(y, final)
    steps = zip(*[run.steps or () for run in runs], strict=True)
    return Result(y, final, tuple([_side_by_side(list(parts)) for parts in steps]))


def _where_rows(rows: Array, a: Tensor, b: Tensor | float) -> Tensor:
    """a in the given rows, (N, 1), and b in the others, whatever the axes of a row."""
    return ops.where(rows.reshape(-1, *[1] * (a.ndim - 1)), a, b)


def _zeros_like(state: State) -> State:
    return tuple([ops.zeros(each.shape, dtype=each.dtype) for each in state])


def _side_by_side(directions: list[Tensor]) -> Tensor:
    return directions[0] if len(directions) == 1 else ops.cat(directions, -1)


def run_direction(
    cell: Cell,
    x: Tensor,
    state: State,
    restart: State | None,
    options: Options,
    reverse: bool,
) -> Result:
    """One direction over at least one step; its states, and those of restarts, are (N, ...)."""
    time = 1 if options.batch_first else 0
    xs = list(x.unbind(time))
    schedule = options.schedule
    step: Any = cell.step
    drawn = cell.draw(len(xs), xs[0].shape[0])
    seen = None if options.seen is None else options.seen.directions[reverse]
    if seen is not None:
        seen.drawn = drawn
    outputs: list[Tensor] = []
    states: list[list[Tensor]] = [[] for _ in state]
    last: Tensor | None = None
    for t in reversed(range(len(xs))) if reverse else range(len(xs)):
        x, active = xs[t], None
        now = [each[t if each.shape[0] > 1 else 0] for each in drawn]
        if schedule is not None:
            restarting = schedule.restarts(t, reverse)
            if restarting is not None:
                begin = _zeros_like(state) if restart is None else restart
                state = tuple(map(_where_rows, [restarting] * len(state), begin, state))
            active = schedule.active(t)
        # Whatever stands in the padding, it reaches no row and no gradient.
        y, new = step(x if active is None else ops.where(active, x, 0.0), state, *now)
        if seen is not None:
            seen.watch(t, new)
        if active is None:
            last, state, after = y, new, new
        else:
            state = tuple(map(_where_rows, [active] * len(state), new, state))
            y = ops.where(active, y, 0.0)
            last = y if last is None else ops.where(active, y, last)
            after = tuple([_where_rows(active, each, 0.0) for each in state])
        outputs.append(y)
        if options.steps:
            for steps, each in zip(states, after, strict=True):
                steps.append(each)
    assert last is not None
    if reverse:
        outputs.reverse()
        for steps in states:
            steps.reverse()
    y = ops.stack(outputs, time) if options.sequences else last
    if not options.steps:
        return Result(y, state)
    return Result(y, state, tuple([ops.stack(steps, time) for steps in states]))


def _run_empty(cells: Sequence[Cell], x: Tensor, state: State, options: Options) -> Result:
    """T = 0: one step over no rows, so that every gradient exists and is zero."""
    outputs, states = [], []
    for direction, cell in enumerate(cells):
        no_rows = tuple([each[direction][:0] for each in state])
        step: Any = cell.step
        drawn = [each[0] for each in cell.draw(1, 0)]
        output, after = step(x.reshape(0, x.shape[-1]), no_rows, *drawn)
        outputs.append(output)
        states.append(after)
    y = _side_by_side(outputs)
    N = state[0].shape[1]
    if options.sequences:
        y = y.reshape(*x.shape[:-1], y.shape[-1])
    else:
        # No row has a last output.
        y = ops.cat([y, ops.zeros((N, y.shape[-1]), dtype=y.dtype)], 0)
    if not options.steps:
        return Result(y, state)
    steps = [_side_by_side(list(parts)) for parts in zip(*states, strict=True)]
    return Result(
        y, state, tuple([each.reshape(*x.shape[:-1], *each.shape[1:]) for each in steps])
    )
