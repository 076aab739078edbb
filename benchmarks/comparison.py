"""One comparison of several sides on one problem, as a row of results."""

from __future__ import annotations

import statistics
from collections.abc import Sequence

from . import roofline
from .limits import Limits
from .problem import Problem
from .report import Row
from .sides import Side, check_sides, compile_sides
from .timing import Plan, compare, spread

MODES = ("forward", "training")


def compare_sides(
    problem: Problem,
    mode: str,
    sides: list[Side],
    plan: Plan,
    limits: Limits | None = None,
    beside: Sequence[Side] = (),
) -> Row:
    """Compiles what compiles, checks that all agree, then times; the first side is native.

    ``beside`` are sides of other problems, timed along and checked by the caller.

    Raises DisagreementError when a side computes something else, or fails.
    """
    compile_seconds = compile_sides(problem, sides, mode)
    check_sides(problem, sides, mode)
    gauges = roofline.gauges(problem, limits) if limits else {}
    found = compare([side.entry(mode) for side in (*sides, *beside)], plan, gauges)
    row: Row = {
        "cell": problem.cell,
        "label": problem.label,
        "mode": mode,
        "dtype": problem.dtype,
        "source": problem.source,
        "shape": problem.shape._asdict(),
        "shape_text": str(problem.shape),
        "seconds": {name: spread(values) for name, values in found.seconds.items()},
        "speedup_over": found.ratios_to("native"),
        "setting": {name: setting for name, setting in found.setting.items() if setting},
        "settings": {name: each for name, each in found.settings.items() if len(each) > 1},
        "left_out": found.left_out,
        "compile_seconds": compile_seconds,
        "rounds": len(found.seconds["native"]),
    }
    if limits:
        others = {name: values for name, values in found.seconds.items() if name != "native"}
        native, work = found.seconds["native"], roofline.flops(problem, mode)
        row["limits"] = roofline.against_limits(problem, mode, native, found.readings)
        row["at_peak"] = {
            name: roofline.at_peak(work, values, found.readings["fma"])
            for name, values in others.items()
        }
    return row


def settings_line(rows: list[Row]) -> str:
    """How often each setting of a peer was its best."""
    wins: dict[str, dict[str, int]] = {}
    for row in rows:
        for name in row["settings"]:
            counts = wins.setdefault(name, {})
            setting = row["setting"][name]
            counts[setting] = counts.get(setting, 0) + 1
    parts = [
        f"{name} ({', '.join(f'{setting}: {n}' for setting, n in counts.items())})"
        for name, counts in wins.items()
    ]
    return f"Best setting, number of rows: {'; '.join(parts)}" if parts else ""


def compiled_line(rows: list[Row]) -> str:
    """What compiling took, which is in none of the times."""
    seconds = [s for row in rows for s in row["compile_seconds"].values()]
    if not seconds:
        return ""
    names = sorted({name.split(" (")[0] for row in rows for name in row["compile_seconds"]})
    return (
        f"Compiling, once for each shape and mode and not in the times ({', '.join(names)}): "
        f"median {statistics.median(seconds):.2f} s, longest {max(seconds):.2f} s"
    )
