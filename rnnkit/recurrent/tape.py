"""The pure-Python path: the cell's own ``step`` recorded on the tape, once per time step.

This is the definition that the native path is checked against, and what runs any cell at all.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING

from rnnkit import ops

if TYPE_CHECKING:
    from rnnkit.autograd import Tensor
    from rnnkit.cells import Cell
    from rnnkit.cells.base import State


def run_layer(
    cells: Sequence[Cell], x: Tensor, state: State, batch_first: bool
) -> tuple[Tensor, State]:
    """As ``recurrent.run_layer``, which has checked the arguments; the state is not None."""
    time = 1 if batch_first else 0
    if x.shape[time] == 0:
        return _run_empty(cells, x, state)
    steps = list(x.unbind(time))
    outputs, finals = [], []
    for direction, cell in enumerate(cells):
        output, final = _run_direction(
            cell, steps, tuple(each[direction] for each in state), reverse=direction == 1
        )
        outputs.append(ops.stack(output, time))
        finals.append(final)
    y = outputs[0] if len(cells) == 1 else ops.cat(outputs, -1)
    return y, tuple(ops.stack(list(parts), 0) for parts in zip(*finals, strict=True))


def _run_direction(
    cell: Cell, steps: list[Tensor], state: State, reverse: bool
) -> tuple[list[Tensor], State]:
    """The outputs in the order of time, and the state after the last step taken."""
    output = []
    for x in reversed(steps) if reverse else steps:
        y, state = cell.step(x, state)
        output.append(y)
    if reverse:
        output.reverse()
    return output, state


def _run_empty(cells: Sequence[Cell], x: Tensor, state: State) -> tuple[Tensor, State]:
    """T = 0: one step over no rows, so that every gradient exists and is zero."""
    outputs = []
    for direction, cell in enumerate(cells):
        no_rows = tuple(each[direction][:0] for each in state)
        output, _ = cell.step(x.reshape(0, x.shape[-1]), no_rows)
        outputs.append(output)
    y = outputs[0] if len(cells) == 1 else ops.cat(outputs, -1)
    return y.reshape(*x.shape[:-1], y.shape[-1]), state
