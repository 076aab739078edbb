"""Batches as they are, and sequences longer than memory: what lengths, restarts and budgets cost.

Each is timed in turns with the same layer without it: a ragged batch with the full one of as many
rows and steps, restarts with none, a budget of memory with all of it. Before, all sides of a
problem must agree, and a layer with lengths or restarts and without them with the Python path.
PyTorch gets its padded batch packed, and its outputs padded again, as part of the call.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import replace
from typing import TYPE_CHECKING, Any

from .comparison import MODES, compare_sides, settings_line
from .limits import limits_or_none
from .problem import FUSED, Problem, Shape, usual
from .report import (
    Row,
    Table,
    compared,
    compared_head,
    count,
    milliseconds,
    of_threads,
    others,
    speedup_text,
    times,
)
from .sides import DisagreementError, check_sides, peer_sides, rnnkit_side
from .suite_footprint import step_memory
from .timing import inverse, plans

if TYPE_CHECKING:
    from .worker import Options

RAGGED, RESETS, BUDGET = "ragged", "resets", "memory budget"
WITHOUT = {RAGGED: "full batch", RESETS: "no resets", BUDGET: "memory=full"}
"""What is measured, and the name of the side that goes without it."""
RESET_RATE = 1 / 20

SHAPES = [Shape(32, 100, 64, 128), Shape(64, 50, 256, 256), Shape(16, 200, 32, 64)]
SHAPES_OF = {"full": SHAPES, "standard": SHAPES, "quick": SHAPES[:1], "tiny": [Shape(3, 5, 4, 6)]}
# A shape whose backward pass fits in memory whole, and a budget for a tenth of it.
BUDGETED = {
    "full": (Shape(8, 4000, 32, 256), "16MB"),
    "standard": (Shape(8, 4000, 32, 256), "16MB"),
    "quick": (Shape(8, 1000, 32, 256), "4MB"),
    "tiny": (Shape(2, 40, 3, 5), "5kB"),
}
# What is kept would take many times its budget; of the longest, x and its gradient take 205 MB.
LONG = {
    "full": (Shape(8, 100_000, 32, 256), "192MB"),
    "standard": (Shape(8, 100_000, 32, 256), "192MB"),
    "quick": (Shape(8, 10_000, 32, 256), "32MB"),
    "tiny": (Shape(2, 40, 3, 5), "5kB"),
}
PLANS = plans()


def run(options: Options, emit: Callable[[Row], None]) -> None:
    """Emits a row for each comparison, and one of kind "memory" for the longest sequence."""
    for cell in options.cells or FUSED:
        for shape in SHAPES_OF[options.size]:
            plain = _problem(cell, shape)
            for mode in MODES:
                _compare(RAGGED, replace(plain, ragged=True), plain, mode, options, emit)
                _compare(RESETS, replace(plain, reset_rate=RESET_RATE), plain, mode, options, emit)
    if "lstm" in (options.cells or FUSED):
        shape, budget = BUDGETED[options.size]
        plain = _problem("lstm", shape, last_only=True)
        _compare(BUDGET, replace(plain, memory=budget), plain, "training", options, emit)
        emit(_head(options) | {"kind": "memory"} | _longest(options))


def _problem(cell: str, shape: Shape, **how: Any) -> Problem:
    return Problem(cell, shape, "float32", usual(cell), source="sequences", **how)


def _head(options: Options) -> Row:
    return {"suite": "sequences", "threads": options.threads}


def _compare(
    what: str,
    problem: Problem,
    plain: Problem,
    mode: str,
    options: Options,
    emit: Callable[[Row], None],
) -> None:
    sides = [
        rnnkit_side(problem, "native", options.threads),
        *peer_sides(problem, options.peers, options.threads),
    ]
    without = rnnkit_side(plain, "native", options.threads, WITHOUT[what])
    plan, head = PLANS[options.size], _head(options) | {"kind": "time", "what": what}
    limits = limits_or_none(options.threads)
    try:
        if what == BUDGET:  # which changes no result
            row = compare_sides(problem, mode, [*sides, without], plan, limits)
        else:
            for side, own in ((sides[0], problem), (without, plain)):
                check_sides(own, [side, rnnkit_side(own, "python")], mode)
            row = compare_sides(problem, mode, sides, plan, limits, beside=[without])
    except DisagreementError as error:
        emit(head | {"failed": str(error)})
        return
    share = inverse(row["speedup_over"].pop(WITHOUT[what]))
    emit(head | row | {"without": WITHOUT[what], "share": share})


def _longest(options: Options) -> Row:
    """Peak of the whole process: interpreter and libraries, x and its gradient, the training step.

    y is each row's last output.
    """
    shape, budget = LONG[options.size]
    found = step_memory("native", options.threads, shape, last_only=True, memory=budget)
    return {"label": "LSTM", "shape": shape._asdict(), "shape_text": str(shape), "memory": budget,
            **found}  # fmt: skip


def line(row: Row) -> str:
    if row["kind"] == "memory":
        return f"sequences  {' '.join(_memory_cells(row))}"
    return (
        f"sequences  {row['what']}, {row['label']} {row['mode']} {row['shape_text']}: "
        f"{milliseconds(row['seconds']['native']['median'])} ms, {row['share']['median']:.2f} of "
        f"{row['without']}  {speedup_text(row)}"
    )


def _memory_cells(row: Row) -> list[str]:
    return [row["label"], row["shape_text"], row["memory"], count(row["before"], "B"),
            count(row["peak"], "B")]  # fmt: skip


def tables(rows: list[Row]) -> Iterator[Table]:
    timed = [row for row in rows if row["kind"] == "time"]
    where = of_threads(rows[0]["threads"])
    for what in dict.fromkeys(row["what"] for row in timed):
        members = [row for row in timed if row["what"] == what]
        names = others(members)
        head = ["cell", "mode", "shape", "native", WITHOUT[what], "of it", *compared_head(names)]
        body = [
            [
                row["label"],
                row["mode"],
                row["shape_text"],
                milliseconds(row["seconds"]["native"]["median"]),
                milliseconds(row["seconds"][row["without"]]["median"]),
                times(row["share"]),
                *compared(row, names),
            ]
            for row in members
        ]
        title = f"Sequences, {what}, float32, {where}: milliseconds, and the share of the time of"
        yield Table(f"{title} {WITHOUT[what]}", head, body, texts=3)
        if text := settings_line(members):
            yield Table(text, [], [])
    body = [_memory_cells(row) for row in rows if row["kind"] == "memory"]
    if body:
        title = "Sequences, a training step within a budget: peak memory of its whole process"
        yield Table(title, ["cell", "shape", "memory", "before the step", "peak"], body, texts=2)
