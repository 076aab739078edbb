"""Every cell over a grid of shapes: inference, and the whole training step.

A training step is the forward pass and the gradients of the input, of the initial states and of
every weight and bias. Before anything is timed, all sides must agree to rounding.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import asdict
from typing import TYPE_CHECKING, Any

from rnnkit.cells import CELLS

from .problem import Problem, Shape
from .sides import check_sides, make_sides
from .timing import Plan, Spread, compare

if TYPE_CHECKING:
    from .worker import Options

MODES = ("forward", "training")

GRID = [
    Shape(1, 100, 16, 16),
    Shape(1, 100, 32, 32),
    Shape(1, 100, 32, 64),
    Shape(1, 100, 64, 64),
    Shape(1, 100, 128, 128),
    Shape(1, 100, 256, 256),
    Shape(16, 50, 32, 32),
    Shape(16, 50, 128, 128),
    Shape(32, 100, 64, 128),
    Shape(32, 50, 256, 256),
    Shape(64, 50, 512, 512),
]
QUICK_GRID = [
    Shape(1, 100, 16, 16),
    Shape(1, 100, 64, 64),
    Shape(16, 50, 32, 32),
    Shape(16, 50, 128, 128),
    Shape(32, 50, 256, 256),
    Shape(64, 50, 512, 512),
]
TINY_GRID = [Shape(1, 3, 2, 2), Shape(2, 4, 3, 5)]

SIZES = {
    "full": (GRID, Plan(sample_seconds=0.02, budget_seconds=2.0)),
    "quick": (QUICK_GRID, Plan(sample_seconds=0.005, budget_seconds=0.4)),
    "tiny": (TINY_GRID, Plan(sample_seconds=0.0, budget_seconds=0.0, settle_seconds=0.0)),
}


def problems(options: Options) -> Iterator[Problem]:
    """The problems of a run; a quick one leaves out the variants of a cell."""
    grid, _ = SIZES[options.size]
    for name, cell in CELLS.items():
        if options.only and name not in options.only:
            continue
        variants = cell.variants if options.size == "full" else cell.variants[:1]
        for variant in variants:
            for dtype in options.dtypes:
                for shape in grid:
                    yield Problem(name, shape, dtype, dict(variant))


def run(options: Options, emit: Callable[[dict[str, Any]], None]) -> None:
    """Measures every problem in both modes and emits a row for each."""
    _, plan = SIZES[options.size]
    for problem in problems(options):
        sides = make_sides(problem, options.peers, options.threads)
        for mode in MODES:
            check_sides(problem, sides, mode)
            samples = compare({side.name: (side.prepare, side.timed(mode)) for side in sides}, plan)
            emit(_row(problem, mode, options.threads, samples))


def _row(
    problem: Problem, mode: str, threads: int, samples: dict[str, list[float]]
) -> dict[str, Any]:
    native = samples["native"]
    ratios = {
        name: Spread.of([other / own for other, own in zip(values, native, strict=True)])
        for name, values in samples.items()
        if name != "native"
    }
    return {
        "suite": "cells",
        "cell": problem.cell,
        "label": problem.label,
        "mode": mode,
        "dtype": problem.dtype,
        "threads": threads,
        "shape": problem.shape._asdict(),
        "shape_text": str(problem.shape),
        "seconds": {name: asdict(Spread.of(values)) for name, values in samples.items()},
        "speedup_over": {name: asdict(spread) for name, spread in ratios.items()},
        "rounds": len(native),
    }
