"""Programs: any cell's ``step``, traced once, run natively over time.

values.py    what a program is made of
trace.py     runs a step on tensors without numbers and records it
rows.py      what each primitive is on rows
picks.py     what indices and slices pick of a row
order.py     what depends on the order of a row's elements; running sums
products.py  products over more axes of a row, in parts
settings.py  what else a step may depend on
traced.py    a traced step and, by the engine's own rules, its gradients
draft.py     the operations that are needed, simplified, in stages
encode.py    where every value stands; the tables of csrc/program.h
plan.py      the forward and the backward program, and what is kept between them
variant.py   a traced step for one kind of call
planned.py   what its passes do
steps.py     where the rows of a run's steps stand
prologue.py  what is computed before the loop, with ordinary tensors
invariants.py  what no step of a run changes, and its gradients
prepared.py  what a run needs of these before its first step, kept where nothing can change
hoisted.py   what is computed for many steps at once, and its gradients
direction.py  what runs of one direction of a layer have in common
passes.py    the forward and the backward pass of a direction
run.py       a layer of a traced cell over a sequence
stream.py    the same, step by step, with a carried state
show.py      what runs, as text
"""

from __future__ import annotations

from collections.abc import Sequence
from functools import cache
from typing import TYPE_CHECKING, Any

from rnnkit.errors import TraceError

if TYPE_CHECKING:
    from rnnkit.cells import Cell
    from rnnkit.recurrent.held import Held


@cache
def runner() -> Any:
    """The module ``run``, loaded when the first program is asked for."""
    from rnnkit.recurrent.program import run

    return run


def obstacle(cells: Sequence[Cell], held: Sequence[Held]) -> str | None:
    """Why cells that hold this cannot run as programs; or None, and there are their traced steps.
    """
    try:
        for i, cell in enumerate(cells):
            runner().traced(cell, held[i])
    except TraceError as error:
        return str(error)
    return None
