"""Bit by bit: threads, the rest of a batch and streaming must not change a result.

Nothing is timed here; each claim is tried on every shape of the grid.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import replace
from typing import TYPE_CHECKING, Any

import numpy as np

import rnnkit as rk

from .grid import GRID, QUICK_GRID, TINY_GRID
from .problem import FUSED, Problem, Shape, usual
from .report import Row, Table
from .sides import prepare_rnnkit, rnnkit_side
from .suite_stream import rnnkit_stepper

if TYPE_CHECKING:
    from .worker import Options

# Threads that own rows of several lengths meet in ever new ways.
UNEVEN_REPEATS = 3
GRIDS = {"full": GRID, "standard": GRID, "quick": QUICK_GRID, "tiny": TINY_GRID}


def run(options: Options, emit: Callable[[Row], None]) -> None:
    """Emits a row for each claim on each cell and dtype, with the shapes where it fails."""
    claims: dict[str, Callable[[Problem, int], bool]] = {
        f"1 to {max(options.threads, 2)} threads, training step": _any_threads,
        "threads, lengths and restarts": _any_threads_uneven,
        "a row alone or in its batch": _any_batch,
        "streamed steps or the whole sequence": _streamed,
    }
    for cell in options.cells or FUSED:
        for dtype in options.dtypes:
            for claim, holds in claims.items():
                failing = []
                for shape in GRIDS[options.size]:
                    problem = Problem(cell, shape, dtype, usual(cell))
                    if not holds(problem, options.threads):
                        failing.append(str(shape))
                emit(
                    {
                        "suite": "results",
                        "threads": options.threads,
                        "label": problem.label,
                        "dtype": dtype,
                        "claim": claim,
                        "shapes": len(GRIDS[options.size]),
                        "failing": failing,
                    }
                )
    prepare_rnnkit("auto", options.threads)


def _any_threads(problem: Problem, threads: int) -> bool:
    found = set()
    for count in range(1, max(threads, 2) + 1):
        side = rnnkit_side(problem, "native", count)
        side.prepare()
        found.add(_bits(side.to_numpy(side.train())))  # type: ignore[misc]
    return len(found) == 1


def _any_threads_uneven(problem: Problem, threads: int) -> bool:
    uneven = replace(problem, ragged=True, reset_rate=0.05)
    return all(_any_threads(uneven, threads) for _ in range(UNEVEN_REPEATS))


def _any_batch(problem: Problem, threads: int) -> bool:
    prepare_rnnkit("native", threads)
    module = problem.make_module()
    x, *state = problem.inputs.values()
    N = problem.shape.N

    def rows(part: slice) -> np.ndarray:
        tensors = [rk.tensor(array[:, part]) for array in (x, *state)]
        with rk.no_grad():
            y, _ = module(tensors[0], tensors[1] if len(state) == 1 else tuple(tensors[1:]))
        return y.numpy()

    whole = rows(slice(0, N))
    parts = (slice(0, 1), slice(N // 2, N // 2 + 1), slice(N // 3, N))
    return all(_bits([rows(part)]) == _bits([whole[:, part]]) for part in parts)


def _streamed(problem: Problem, threads: int) -> bool:
    N, T, I, H = problem.shape
    short = Problem(problem.cell, Shape(N, min(T, 30), I, H), problem.dtype, problem.options)
    stepper = rnnkit_stepper(short, threads)
    steps = stepper.run()
    with rk.no_grad():
        y, _ = short.make_module()(rk.tensor(short.inputs["x"]))
    return _bits([steps]) == _bits([y.numpy()])


def _bits(arrays: list[np.ndarray]) -> bytes:
    return b"".join(np.ascontiguousarray(array).tobytes() for array in arrays)


def line(row: Row) -> str:
    verdict = f"fails on {', '.join(row['failing'])}" if row["failing"] else "same bits"
    return f"results  {row['label']} {row['dtype']}, {row['claim']}: {verdict}"


def tables(rows: list[Row]) -> Iterator[Table]:
    body: list[list[Any]] = [
        [
            row["label"],
            row["dtype"],
            row["claim"],
            f"fails on {', '.join(row['failing'])}" if row["failing"] else "yes",
            f"{row['shapes'] - len(row['failing'])} of {row['shapes']}",
        ]
        for row in rows
    ]
    head = ["cell", "dtype", "whatever", "same bits", "shapes"]
    yield Table("Results, bit by bit", head, body, texts=4)
