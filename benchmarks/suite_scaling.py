"""How the time of a training step grows with T, H, N and the number of threads.

A peer drops out of a sweep when its next point would take longer than a few seconds a call.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator
from typing import TYPE_CHECKING

from .comparison import compare_sides
from .problem import FUSED, Problem, Shape, usual
from .report import (
    Row,
    Table,
    compared,
    compared_head,
    milliseconds,
    of_threads,
    others,
    speedup_text,
)
from .roofline import flops
from .sides import DisagreementError, peer_sides, rnnkit_side
from .timing import plans

if TYPE_CHECKING:
    from .worker import Options

MODE = "training"
# The shape that each sweep varies.
BASES = {
    "T": Shape(1, 100, 64, 64),
    "H": Shape(16, 25, 256, 256),
    "N": Shape(16, 25, 256, 256),
    "threads": Shape(32, 50, 256, 256),
}
TINY_BASES = dict.fromkeys(BASES, Shape(1, 3, 2, 2))
WHOLE = {
    "T": (10, 100, 1000, 10_000, 100_000),
    "H": (8, 16, 32, 64, 128, 256, 512, 1024, 2048),
    "N": (1, 2, 4, 8, 16, 32, 64, 128, 256),
}
SWEEPS: dict[str, dict[str, tuple[int, ...]]] = {
    "full": WHOLE,
    "standard": WHOLE,
    "quick": {"T": (100, 10_000), "H": (32, 512), "N": (1, 64)},
    "tiny": {"T": (2, 5), "H": (2, 3), "N": (1, 2)},
}
PLANS = plans(3.0, 1.5)
LONGEST_CALL = {"full": 20.0, "standard": 3.0, "quick": 0.3, "tiny": 1.0}


def run(options: Options, emit: Callable[[Row], None]) -> None:
    """Emits a row for each point of each sweep; a quick run takes one cell."""
    cells = options.cells or list(FUSED)
    if options.size == "quick" and not options.cells:
        cells = ["lstm"]
    for cell in cells:
        for axis, values in SWEEPS[options.size].items():
            _sweep(cell, axis, values, options, emit)
        _thread_sweep(cell, options, emit)


def _sweep(
    cell: str, axis: str, values: tuple[int, ...], options: Options, emit: Callable[[Row], None]
) -> None:
    expected: dict[str, float] = {}
    last_flops = 1
    for value in values:
        problem = _problem(cell, _base(axis, options)._replace(**_change(axis, value)))
        growth = flops(problem, MODE) / last_flops
        last_flops = flops(problem, MODE)
        longest = LONGEST_CALL[options.size]
        peers = [p for p in options.peers if growth * expected.get(p, 0.0) <= longest]
        sides = [
            rnnkit_side(problem, "native", options.threads),
            *(side for side in peer_sides(problem, peers, options.threads) if side.train),
        ]
        row = _head(cell, options, axis, value)
        try:
            row |= compare_sides(problem, MODE, sides, PLANS[options.size])
        except DisagreementError as error:
            emit(row | {"failed": str(error)})
            return
        emit(row)
        # Who took no part in this point takes none in the next.
        expected = dict.fromkeys(options.peers, math.inf)
        expected |= {name: spread["median"] for name, spread in row["seconds"].items()}


def _thread_sweep(cell: str, options: Options, emit: Callable[[Row], None]) -> None:
    """All counts in one comparison, so that they take turns; a row for each."""
    problem = _problem(cell, _base("threads", options))
    counts = [n for n in range(1, options.threads + 1) if options.threads <= 8 or n & (n - 1) == 0]
    counts = list(dict.fromkeys((*counts, options.threads)))
    sides = [rnnkit_side(problem, "native", 1)]
    sides += [rnnkit_side(problem, "native", n, f"{n} threads") for n in counts if n > 1]
    try:
        row = compare_sides(problem, MODE, sides, PLANS[options.size])
    except DisagreementError as error:
        emit(_head(cell, options, "threads", options.threads) | {"failed": str(error)})
        return
    for n in counts:
        seconds = row["seconds"]["native" if n == 1 else f"{n} threads"]
        emit(
            _head(cell, options, "threads", n)
            | {
                "label": row["label"],
                "shape_text": row["shape_text"],
                "seconds": {"native": seconds},
                "speedup_over": {},
            }
        )


def _head(cell: str, options: Options, axis: str, value: int) -> Row:
    return {
        "suite": "scaling",
        "threads": options.threads,
        "cell": cell,
        "axis": axis,
        "value": value,
    }


def _problem(cell: str, shape: Shape) -> Problem:
    return Problem(cell, shape, "float32", usual(cell), source="scaling")


def _base(axis: str, options: Options) -> Shape:
    return (TINY_BASES if options.size == "tiny" else BASES)[axis]


def _change(axis: str, value: int) -> dict[str, int]:
    return {"H": value, "I": value} if axis == "H" else {axis: value}


def line(row: Row) -> str:
    return (
        f"scaling  {row['label']} {row['axis']} {row['value']}: "
        f"{milliseconds(row['seconds']['native']['median'])} ms  {speedup_text(row)}"
    )


def tables(rows: list[Row]) -> Iterator[Table]:
    names = others(rows)
    body = [
        [
            row["label"],
            row["axis"],
            row["shape_text"],
            str(row["value"]),
            milliseconds(row["seconds"]["native"]["median"]),
            *compared(row, names),
        ]
        for row in rows
    ]
    head = ["cell", "axis", "shape", "value", "native", *compared_head(names)]
    title = f"Scaling of a training step, float32, {of_threads(rows[0]['threads'])}: milliseconds"
    yield Table(title, head, body, texts=3)
