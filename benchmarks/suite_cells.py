"""Every cell over a grid of shapes: inference, and the whole training step.

A training step is the forward pass and the gradients of the input, of the initial states and of
every weight and bias. Before anything is timed, all sides must agree to rounding.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import TYPE_CHECKING, Any

import rnnkit as rk
from rnnkit.cells import CELLS

from .comparison import MODES, compare_sides, compiled_line, settings_line
from .grid import GRID, QUICK_GRID, TINY_GRID, deepbench
from .limits import limits_or_none
from .problem import FUSED, Problem, Shape, usual
from .report import (
    Row,
    Table,
    compared,
    compared_head,
    means,
    milliseconds,
    of_threads,
    others,
    percent,
    speedup_text,
)
from .roofline import flops, flops_of_numbers
from .sides import ISA, DisagreementError, Side, peer_sides, rnnkit_side
from .timing import plans

if TYPE_CHECKING:
    from .worker import Options

PLANS = plans(too_slow=(10.0, 5.0))
GRIDS = {"full": GRID, "standard": GRID, "quick": QUICK_GRID, "tiny": TINY_GRID}

# The names of the native path when it may not use the other threads of the run, and when it uses
# the matrix unit, which only training steps do.
ONE_THREAD = "native on 1 thread"
ON_UNIT = "native on amx"
# A DeepBench problem takes part if its comparison fits in about a minute: some sixty calls of all
# sides together, at a hundred billion operations a second.
MINUTE_FLOPS = 1e11
# The Python path takes part up to here; beyond it would take most of the time of a run.
PYTHON_STEPS, PYTHON_FLOPS = 200, 1e11


def run(options: Options, emit: Callable[[Row], None]) -> None:
    """Measures every problem in its modes and emits a row for each."""
    limits = limits_or_none(options.threads)
    for problem, modes in problems(options):
        sides = _sides(problem, options)
        for mode in modes:
            able = [side for side in sides if _takes_part(side, problem, mode)]
            head = {"suite": "cells", "threads": options.threads}
            try:
                emit(head | compare_sides(problem, mode, able, PLANS[options.size], limits))
            except DisagreementError as error:
                emit(head | {"failed": str(error)})


def problems(options: Options) -> Iterator[tuple[Problem, tuple[str, ...]]]:
    """The problems of a run with their modes; only a full one has the variants of a cell."""
    for name in options.cells or FUSED:
        variants = _fused_variants(name) if options.size == "full" else CELLS[name].variants[:1]
        for dtype in options.dtypes:
            for variant in variants:
                for shape in GRIDS[options.size]:
                    yield Problem(name, shape, dtype, dict(variant)), MODES
            if options.size == "full":
                for shape, modes in deepbench(name):
                    fitting = tuple(mode for mode in modes if _fits_in_a_minute(name, shape, mode))
                    if fitting:
                        yield Problem(name, shape, dtype, usual(name), source="DeepBench"), fitting


def _fits_in_a_minute(name: str, shape: Shape, mode: str) -> bool:
    """Told without making the weights, which may be of any size."""
    N, T, I, H = shape
    kind: Any = CELLS[name]
    return flops_of_numbers(kind.gates * H * (I + H), N * T, mode) <= MINUTE_FLOPS


def _fused_variants(name: str) -> list[dict[str, Any]]:
    """Those that a fused kernel runs: no library here has the others."""
    kind: Any = CELLS[name]
    return [variant for variant in kind.variants if kind(4, 8, **variant).kernel]


def has_unit() -> bool:
    """Whether there is a matrix unit that this run does not use anyway."""
    return "amx" in rk.config()["isa_supported"] and ISA == "avx512"


def _sides(problem: Problem, options: Options) -> list[Side]:
    sides = [rnnkit_side(problem, "native", options.threads)]
    if options.threads > 1:
        sides.append(rnnkit_side(problem, "native", 1, ONE_THREAD))
    if has_unit() and problem.dtype == "float32":
        sides.append(rnnkit_side(problem, "native", options.threads, ON_UNIT, "amx"))
    sides.append(rnnkit_side(problem, "python", options.threads))
    return sides + peer_sides(problem, options.peers, options.threads)


def _takes_part(side: Side, problem: Problem, mode: str) -> bool:
    if side.name == ON_UNIT:
        return mode == "training"
    if side.name == "python":
        return problem.shape.T <= PYTHON_STEPS and flops(problem, mode) <= PYTHON_FLOPS
    return mode == "forward" or side.train is not None


def line(row: Row) -> str:
    return (
        f"{row['threads']} thr  {row['label']} {row['mode']} {row['shape_text']} {row['dtype']}: "
        f"{milliseconds(row['seconds']['native']['median'])} ms  {speedup_text(row)}"
    )


def tables(rows: list[Row]) -> Iterator[Table]:
    """For each thread count and dtype: the times, their geometric means, the peers' settings."""
    groups: dict[tuple[int, str], list[Row]] = {}
    for row in rows:
        groups.setdefault((row["threads"], row["dtype"]), []).append(row)
    for (threads, dtype), members in groups.items():
        where = f"{dtype}, {of_threads(threads)}"
        names = others(members)
        head = ["cell", "mode", "shape", "native", "of limit", *compared_head(names)]
        body = [
            [
                row["label"],
                row["mode"],
                row["shape_text"],
                milliseconds(row["seconds"]["native"]["median"]),
                _of_limit(row),
                *compared(row, names),
            ]
            for row in members
        ]
        title = (
            f"Cells, {where}: milliseconds, the fraction of the bounding limit, and how many times "
            "as fast native is (median, quartiles)"
        )
        yield Table(title, head, body, texts=3)
        yield means(members, ("label", "mode"), f"Cells, {where}: geometric means")
        for text in (settings_line(members), compiled_line(members)):
            if text:
                yield Table(text, [], [])


def _of_limit(row: Row) -> str:
    if "limits" not in row:
        return "-"
    bound = row["limits"]["bound"]
    return f"{percent(row['limits']['fraction'][bound])} {bound}"


def grid_rows(rows: list[Row]) -> list[Row]:
    """The rows on the grid that every size shares, DeepBench's left out."""
    return [row for row in rows if row["source"] == "grid"]
