"""Cells without a fused kernel, as a user writes them, run by ``nn.Recurrent``.

"native" is whatever path rnnkit takes for them by itself: a row says which, as ``rnnkit.why`` gives
it. It is compared with the Python path ("python"), with a loop over steps in PyTorch and a
``lax.scan`` in JAX where these are asked for, and, for the classic cells, with the fused kernel
("fused"). What a cell's first call takes beyond its next is measured apart.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator
from dataclasses import replace
from typing import TYPE_CHECKING

import rnnkit as rk
from rnnkit import nn

from .comparison import MODES, compare_sides, compiled_line, settings_line
from .limits import limits_or_none
from .problem import Problem, Shape
from .program_cells import FUSED_TWIN, PROGRAM_CELLS
from .report import (
    Row,
    Table,
    compared,
    compared_head,
    means,
    milliseconds,
    of_threads,
    others,
    speedup_text,
)
from .sides import DisagreementError, Side, peer_sides, prepare_rnnkit, rnnkit_side
from .timing import plans, spread

if TYPE_CHECKING:
    from .worker import Options

SHAPES = [
    Shape(1, 100, 64, 64),
    Shape(16, 50, 64, 64),
    Shape(32, 100, 64, 128),
    Shape(32, 50, 256, 256),
]
SHAPES_OF = {
    "full": SHAPES,
    "standard": SHAPES,
    "quick": [SHAPES[0], SHAPES[-1]],
    "tiny": [Shape(1, 3, 4, 4), Shape(2, 4, 3, 5)],
}
MODES_OF = {"full": MODES, "standard": MODES, "quick": ("training",), "tiny": MODES}
PLANS = plans(too_slow=(5.0, 5.0))
PLANNED = Shape(1, 2, 64, 64)
PLANNING_ROUNDS = {"full": 15, "standard": 9, "quick": 5, "tiny": 2}


def run(options: Options, emit: Callable[[Row], None]) -> None:
    """Emits a row of kind "time" for each cell, shape and mode, and of "planning" for each cell."""
    head = {"suite": "programs", "threads": options.threads}
    limits = limits_or_none(options.threads)
    for cell in PROGRAM_CELLS:
        for shape in SHAPES_OF[options.size]:
            problem = Problem(cell, shape, source="programs")
            sides = _sides(problem, options)
            for mode in MODES_OF[options.size]:
                try:
                    row = compare_sides(problem, mode, sides, PLANS[options.size], limits)
                except DisagreementError as error:
                    emit(head | {"failed": str(error)})
                    continue
                emit(head | {"kind": "time"} | path_of(problem, mode, options.threads) | row)
        emit(head | {"kind": "planning"} | _planning(cell, options))
    prepare_rnnkit("auto", options.threads)


def _sides(problem: Problem, options: Options) -> list[Side]:
    sides = [rnnkit_side(problem, "auto", options.threads, "native")]
    if problem.cell in FUSED_TWIN:
        twin = replace(problem, cell=FUSED_TWIN[problem.cell])
        sides.append(rnnkit_side(twin, "native", options.threads, "fused"))
    sides.append(rnnkit_side(problem, "python", options.threads))
    return sides + peer_sides(problem, options.peers, options.threads)


def path_of(problem: Problem, mode: str, threads: int) -> Row:
    """The path that rnnkit chooses for a layer of this problem, and why.

    Asked of two steps, since a longer tape would push the layer's own decision out of view.
    """
    short = replace(problem, shape=problem.shape._replace(T=min(2, problem.shape.T)))
    side = rnnkit_side(short, "auto", threads)
    side.prepare()
    side.timed(mode)()
    decision = [each for each in rk.why() if " layer " in each.op][-1]
    return {"path": decision.path, "reason": decision.reason}


def _planning(cell: str, options: Options) -> Row:
    """What the first training step of a cell takes beyond the next one: tracing and planning.

    Each round has a class of its own, which nothing can be known of before.
    """
    prepare_rnnkit("auto", options.threads)
    problem = Problem(cell, PLANNED, source="programs")
    kind = PROGRAM_CELLS[cell]
    first, later = [], []
    for number in range(1 + PLANNING_ROUNDS[options.size]):
        fresh = type(kind.__name__, (kind,), {})
        module = nn.Recurrent(fresh(PLANNED.I, PLANNED.H))
        taken = [_step_seconds(module, problem) for _ in range(4)]
        if number > 0:
            first.append(taken[0])
            later.append(min(taken[1:]))
    return {
        "cell": cell,
        "label": problem.label,
        "shape_text": str(PLANNED),
        **path_of(problem, "training", options.threads),
        "first": spread(first),
        "later": spread(later),
        "planning": spread([a - b for a, b in zip(first, later, strict=True)]),
    }


def _step_seconds(module: nn.Recurrent, problem: Problem) -> float:
    x, *state = (rk.as_tensor(value) for value in problem.inputs.values())
    start = time.perf_counter()
    y, _ = module(x, state[0] if len(state) == 1 else tuple(state))
    rk.grad(y.sum(), list(module.parameters()))
    return time.perf_counter() - start


def line(row: Row) -> str:
    if row["kind"] == "planning":
        return f"programs  {' '.join(_planning_cells(row))} to trace and plan"
    return (
        f"programs  {row['label']} {row['mode']} {row['shape_text']}, {row['path']}: "
        f"{milliseconds(row['seconds']['native']['median'])} ms  {speedup_text(row)}"
    )


def _planning_cells(row: Row) -> list[str]:
    figures = (row[key]["median"] for key in ("first", "later", "planning"))
    return [row["label"], row["shape_text"], row["path"], *map(milliseconds, figures)]


def tables(rows: list[Row]) -> Iterator[Table]:
    timed = [row for row in rows if row["kind"] == "time"]
    where = f"float32, {of_threads(rows[0]['threads'])}"
    if timed:
        names = others(timed)
        body = [
            [
                row["label"],
                row["mode"],
                row["shape_text"],
                row["path"],
                milliseconds(row["seconds"]["native"]["median"]),
                *compared(row, names),
            ]
            for row in timed
        ]
        head = ["cell", "mode", "shape", "path", "native", *compared_head(names)]
        title = (
            f"Cells of one's own, {where}: milliseconds on the path that rnnkit takes, and how "
            "many times as fast that is (median, quartiles)"
        )
        yield Table(title, head, body, texts=4)
        reasons = dict.fromkeys(f"{row['path']}: {row['reason']}" for row in timed)
        yield Table(f"Paths: {'; '.join(reasons)}", [], [])
        yield means(timed, ("label", "mode"), f"Cells of one's own, {where}: geometric means")
        for text in (settings_line(timed), compiled_line(timed)):
            if text:
                yield Table(text, [], [])
    body = [_planning_cells(row) for row in rows if row["kind"] == "planning"]
    if body:
        head = ["cell", "shape", "path", "first step", "a later one", "beyond it"]
        title = "Cells of one's own: milliseconds of the first training step of a new class"
        yield Table(title, head, body, texts=3)
