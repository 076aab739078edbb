"""What rnnkit promises about its speed, next to what was measured.

All for float32 and the largest thread count unless said otherwise; peers with their best setting.
Of a cell of one's own, the training step.
A comparison that did not run leaves its line unmeasured.

"At the FMA peak" is how many times as fast as the peer the matrix products alone would be if they
ran at the machine's peak, where that is least: no kernel can be faster there without leaving some
of them out.
"""

from __future__ import annotations

import statistics
from collections.abc import Callable, Iterable, Iterator
from typing import Any, NamedTuple

from .report import Row, Table, speedups
from .roofline import memory_of
from .suite_cells import ONE_THREAD, grid_rows
from .suite_sequences import BUDGET, RAGGED, RESETS


class Measured(NamedTuple):
    """A line's second half: whether the target is met, and the figures with where the worst is."""

    met: bool
    text: str
    at_peak: str = ""


class Target(NamedTuple):
    work: str
    target: str
    measure: Callable[[list[Row]], Measured | None]


def summary(rows: list[Row]) -> Table:
    """A line for each target."""
    body = []
    for target in TARGETS:
        measured = target.measure(rows)
        verdict = "-" if measured is None else "yes" if measured.met else "NO"
        found, at_peak = (measured.text, measured.at_peak) if measured else ("not measured", "")
        body.append([target.work, target.target, found, verdict, at_peak])
    return Table("Targets", ["work", "target", "measured", "met", "at the FMA peak"], body, texts=5)


def _cells(rows: list[Row], **wanted: Any) -> list[Row]:
    """Rows of the cells suite at the largest thread count on the common grid; ``wanted`` filters.

    A wanted tuple means any of its values.
    """
    found = grid_rows([row for row in rows if row["suite"] == "cells"])
    threads = max((row["threads"] for row in found), default=1)
    conditions = {"threads": threads, "dtype": "float32", **wanted}
    return [
        row
        for row in found
        if all(
            row[key] in value if isinstance(value, tuple) else row[key] == value
            for key, value in conditions.items()
        )
    ]


def _speed(mean: float | None, least: float | None, over: str, **wanted: Any) -> Any:
    def measure(rows: list[Row]) -> Measured | None:
        found = [row for row in _cells(rows, **wanted) if over in row["speedup_over"]]
        if not found:
            return None
        ratios = speedups(found, over)
        average, worst = statistics.geometric_mean(ratios), min(ratios)
        met = (mean is None or average >= mean) and (least is None or worst >= least)
        place = _mode_place(found[ratios.index(worst)])
        text = f"mean {average:.2f}x, least {worst:.2f}x ({place})"
        return Measured(met, text, _at_peak(found, over, _mode_place))

    return measure


def _fraction(
    least: float, limit: str, keep: Callable[[Row], bool], **wanted: Any
) -> Callable[[list[Row]], Measured | None]:
    def measure(rows: list[Row]) -> Measured | None:
        found = [row for row in _cells(rows, **wanted) if "limits" in row and keep(row)]
        return _least(
            least,
            [
                (row["limits"]["fraction"][limit]["median"], f"{row['label']} {row['shape_text']}")
                for row in found
            ],
            lambda fraction: f"{100 * fraction:.0f} %",
        )

    return measure


def _least(
    least: float, values: Iterable[tuple[float, str]], show: Callable[[float], str]
) -> Measured | None:
    found = sorted(values)
    if not found:
        return None
    worst, place = found[0]
    middle = statistics.median(value for value, _ in found)
    return Measured(worst >= least, f"least {show(worst)} ({place}), median {show(middle)}")


def _least_over(
    over: str, least: float, rows: list[Row], place: Callable[[Row], str]
) -> Measured | None:
    """Of how many times as fast as ``over`` the rows are, with what the peak would allow."""
    ratios = [(row["speedup_over"][over]["median"], place(row)) for row in rows]
    measured = _least(least, ratios, _times)
    return measured._replace(at_peak=_at_peak(rows, over, place)) if measured else None


def _most(
    most: float, values: Iterable[tuple[float, str]], show: Callable[[float], str]
) -> Measured | None:
    found = sorted(values)
    if not found:
        return None
    worst, place = found[-1]
    middle = statistics.median(value for value, _ in found)
    return Measured(worst <= most, f"most {show(worst)} ({place}), median {show(middle)}")


def _at_peak(rows: list[Row], over: str, place: Callable[[Row], str]) -> str:
    """Where the products alone, at the FMA peak, are the least ahead of ``over``."""
    found = [(row["at_peak"][over]["median"], place(row)) for row in rows if row.get("at_peak")]
    return f"{min(found)[0]:.2f}x ({min(found)[1]})" if found else ""


def _mode_place(row: Row) -> str:
    return f"{row['label']} {row['mode']} {row['shape_text']}"


def _times(value: float) -> str:
    return f"{value:.2f}x"


def _stream(over: str, least: float) -> Callable[[list[Row]], Measured | None]:
    def measure(rows: list[Row]) -> Measured | None:
        found = [
            (row["speedup_over"][over]["median"], f"{row['label']} H{row['hidden']}")
            for row in rows
            if row["suite"] == "stream" and row["hidden"] <= 64 and over in row["speedup_over"]
        ]
        return _least(least, found, _times)

    return measure


def _threads(least: float, keep: Callable[[Row], bool]) -> Callable[[list[Row]], Measured | None]:
    def measure(rows: list[Row]) -> Measured | None:
        found = [
            (row["speedup_over"][ONE_THREAD]["median"], _mode_place(row))
            for row in _cells(rows)
            if ONE_THREAD in row["speedup_over"] and keep(row)
        ]
        return _least(least, found, _times)

    return measure


def _language(rows: list[Row]) -> Measured | None:
    found = [row for row in rows if row["suite"] == "language" and "torch" in row["speedup_over"]]
    return _least_over("torch", 1.5, found, lambda row: str(row["title"].split(":")[0]))


def _matmul(kind: str, least: float) -> Callable[[list[Row]], Measured | None]:
    def measure(rows: list[Row]) -> Measured | None:
        found = [
            (ratio["median"], row["shape_text"])
            for row in rows
            if row["suite"] == "matmul" and row["kind"] == kind
            for ratio in row["speedup_over"].values()
        ]
        return _least(least, found, _times)

    return measure


def _results(rows: list[Row]) -> Measured | None:
    found = [row for row in rows if row["suite"] == "results"]
    if not found:
        return None
    broken = sum(bool(row["failing"]) for row in found)
    return Measured(not broken, f"{len(found) - broken} of {len(found)} claims hold")


def _imports(rows: list[Row]) -> Measured | None:
    for row in rows:
        if row["suite"] == "footprint" and (row["kind"], row["name"]) == ("import", "rnnkit"):
            ratio = row["over_numpy"]["median"]
            return Measured(ratio <= 1.4, f"{ratio:.2f}x")
    return None


def _sequences(what: str, most_share: float) -> Callable[[list[Row]], Measured | None]:
    """The share of the time that the same layer takes without it."""

    def measure(rows: list[Row]) -> Measured | None:
        found = [
            (row["share"]["median"], _mode_place(row))
            for row in rows
            if row["suite"] == "sequences" and row["kind"] == "time" and row["what"] == what
        ]
        return _most(most_share, found, _times)

    return measure


def _packed(rows: list[Row]) -> Measured | None:
    found = [
        row
        for row in rows
        if row["suite"] == "sequences" and row["kind"] == "time" and "torch" in row["speedup_over"]
    ]
    return _least_over("torch", 3, found, _mode_place)


def _longest(rows: list[Row]) -> Measured | None:
    found = [
        (row["peak"] / 1e6, f"{row['label']} {row['shape_text']}, memory={row['memory']}")
        for row in rows
        if row["suite"] == "sequences" and row["kind"] == "memory" and row["shape"]["T"] >= 100_000
    ]
    return _most(512, found, lambda value: f"{value:.0f} MB")


def _programs(
    over: str,
    least: float,
    keep: Callable[[Row], bool] = lambda row: True,
    mean: float | None = None,
) -> Callable[[list[Row]], Measured | None]:
    def measure(rows: list[Row]) -> Measured | None:
        found = [row for row in _program_steps(rows) if over in row["speedup_over"] and keep(row)]
        measured = _least_over(over, least, found, _program_place)
        if measured is None or mean is None:
            return measured
        average = statistics.geometric_mean(speedups(found, over))
        return measured._replace(
            met=measured.met and average >= mean, text=f"mean {average:.2f}x, {measured.text}"
        )

    return measure


def _over_fused(most: float, keep: Callable[[Row], bool]) -> Callable[[list[Row]], Measured | None]:
    def measure(rows: list[Row]) -> Measured | None:
        found = [
            (1 / row["speedup_over"]["fused"]["median"], _program_place(row))
            for row in _program_steps(rows)
            if row["cell"] == "own lstm" and keep(row)
        ]
        return _most(most, found, _times)

    return measure


def _planning(rows: list[Row]) -> Measured | None:
    """Only where there was something to plan."""
    found = [
        (row["planning"]["median"] * 1e3, row["label"])
        for row in rows
        if row["suite"] == "programs" and row["kind"] == "planning" and row["path"] == "program"
    ]
    return _most(20, found, lambda value: f"{value:.1f} ms")


def _program_steps(rows: list[Row]) -> list[Row]:
    return [
        row
        for row in rows
        if row["suite"] == "programs" and row["kind"] == "time" and row["mode"] == "training"
    ]


def _program_place(row: Row) -> str:
    return f"{row['label']} {row['shape_text']}, path {row['path']}"


def _small(row: Row) -> bool:
    return row["shape"]["N"] <= 16 and row["shape"]["H"] <= 64


def _one_row(row: Row) -> bool:
    return row["shape"]["N"] == 1 and row["shape"]["H"] == 64


def _large(row: Row) -> bool:
    return row["shape"]["N"] >= 32 and row["shape"]["H"] >= 256


def _in_l2(row: Row) -> bool:
    return row["shape"]["N"] == 1 and memory_of(row["limits"]["weights"], row["threads"]) == "L2"


def _parallel(row: Row) -> bool:
    return row["shape"]["N"] >= 16 and row["shape"]["H"] >= 128


TRAINING, FORWARD = {"mode": "training"}, {"mode": "forward"}

TARGETS = [
    Target(
        "GRU and RNN training step vs PyTorch",
        "mean 5x, least 1.3x",
        _speed(5, 1.3, "torch", **TRAINING, cell=("gru", "rnn")),
    ),
    Target(
        "LSTM training step vs PyTorch",
        "mean 2x, least 1.1x",
        _speed(2, 1.1, "torch", **TRAINING, cell="lstm"),
    ),
    Target(
        "all cells, training step vs JAX",
        "mean 3x, least 1.2x",
        _speed(3, 1.2, "jax", **TRAINING),
    ),
    Target("inference vs PyTorch", "mean 3x, least 1x", _speed(3, 1, "torch", **FORWARD)),
    Target(
        "inference vs ONNX Runtime", "mean 1.5x, least 1x", _speed(1.5, 1, "onnxruntime", **FORWARD)
    ),
    Target("a streamed step, H <= 64, vs ONNX Runtime", "least 4x", _stream("onnxruntime", 4)),
    Target("a streamed step, H <= 64, vs PyTorch's layer", "least 30x", _stream("torch", 30)),
    Target("a streamed step, H <= 64, vs PyTorch's cell", "least 30x", _stream("torch cell", 30)),
    Target(
        "float64 training step vs PyTorch",
        "mean 3x",
        _speed(3, None, "torch", **TRAINING, dtype="float64"),
    ),
    Target(
        "N >= 32, H >= 256, forward",
        "least 80 % of the FMA peak",
        _fraction(0.8, "fma", _large, **FORWARD),
    ),
    Target(
        "N >= 32, H >= 256, training step",
        "least 70 % of the FMA peak",
        _fraction(0.7, "fma", _large, **TRAINING),
    ),
    Target(
        "batch 1, weights in L2, 1 thread",
        "least 60 % of its read bandwidth",
        _fraction(0.6, "read", _in_l2, **FORWARD, threads=1),
    ),
    Target(
        "batch 1, weights in L2, all threads",
        "least 60 % of its read bandwidth",
        _fraction(0.6, "read", _in_l2, **FORWARD),
    ),
    Target("all threads over one, N >= 16, H >= 128", "least 1.8x", _threads(1.8, _parallel)),
    Target("all threads over one, any shape", "least 1x", _threads(1.0, lambda row: True)),
    Target("language model end to end vs PyTorch", "least 1.5x tokens/s", _language),
    Target("matmul vs NumPy, large", "least 0.95x", _matmul("large", 0.95)),
    Target("matmul vs NumPy, M <= 32", "least 1.5x", _matmul("skinny", 1.5)),
    Target("a layer and a product in turns vs alone", "least 0.95x", _matmul("in turns", 0.95)),
    Target("results, bit by bit", "all hold", _results),
    Target("import rnnkit vs import numpy", "at most 1.4x", _imports),
    Target(
        "lengths uniform on 1..T vs all of T",
        "at most 0.65x its time",
        _sequences(RAGGED, 0.65),
    ),
    Target("lengths uniform on 1..T vs PyTorch, packed", "least 3x", _packed),
    Target("restarts at 1 of 20 steps vs none", "at most 1.05x", _sequences(RESETS, 1.05)),
    Target("a memory budget vs none", "at most 1.4x", _sequences(BUDGET, 1.4)),
    Target("LSTM N8 T100000 H256, training step", "at most 512 MB in all", _longest),
    Target(
        "own cell, N <= 16, H <= 64, vs PyTorch's loop", "least 10x", _programs("torch", 10, _small)
    ),
    Target(
        "own cell, N >= 32, H >= 256, vs PyTorch's loop", "least 2x", _programs("torch", 2, _large)
    ),
    Target("own cell vs JAX's scan", "mean 2x, least 1x", _programs("jax", 1, mean=2)),
    Target("own cell vs Python, N 1, H 64", "least 30x", _programs("python", 30, _one_row)),
    Target("own cell vs Python, N >= 32, H >= 256", "least 2x", _programs("python", 2, _large)),
    Target("own LSTM vs fused, N >= 32, H >= 256", "at most 1.6x", _over_fused(1.6, _large)),
    Target("own LSTM vs fused, N 1, H 64", "at most 2.5x", _over_fused(2.5, _one_row)),
    Target("tracing and planning an own cell", "at most 20 ms", _planning),
]


def failures(rows: list[Row]) -> Iterator[str]:
    """What went wrong, a line each."""
    for row in rows:
        if "failed" in row:
            yield f"{row['suite']}: {row['failed']}"
