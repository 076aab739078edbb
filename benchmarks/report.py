"""The results as text: a table per thread count and dtype, and geometric means."""

from __future__ import annotations

import statistics
from collections.abc import Iterator
from typing import Any

Row = dict[str, Any]


def machine_lines(machine: dict[str, Any]) -> list[str]:
    """The head of a report."""
    rnnkit = machine["rnnkit"]
    peers = "".join(f", {name} {version}" for name, version in machine["peers"].items())
    return [
        f"{machine['cpu']}, {machine['cores']} cores, {machine['system']}",
        f"rnnkit {rnnkit['rnnkit']} ({rnnkit['isa_in_use']}, {rnnkit['compiler']}), "
        f"commit {machine['commit'] or 'unknown'}",
        f"Python {machine['python']}, NumPy {machine['numpy']} ({machine['blas']}){peers}",
        machine["date"],
    ]


def tables(rows: list[Row]) -> Iterator[str]:
    """One table for each thread count and dtype, in the order of the rows."""
    groups: dict[tuple[int, str], list[Row]] = {}
    for row in rows:
        groups.setdefault((row["threads"], row["dtype"]), []).append(row)
    for (threads, dtype), members in groups.items():
        yield (
            f"{dtype}, {threads} thread{'s' if threads > 1 else ''}; milliseconds, then how "
            "many times as fast native is (median, quartiles)"
        )
        yield _table(members)
        yield _means(members)


def _others(rows: list[Row]) -> list[str]:
    return list(dict.fromkeys(name for row in rows for name in row["speedup_over"]))


def _table(rows: list[Row]) -> str:
    others = _others(rows)
    head = ["cell", "mode", "shape", "native"]
    for name in others:
        head += [name, f"native over {name}"]
    body = []
    for row in rows:
        cells = [row["label"], row["mode"], row["shape_text"], _time(row["seconds"]["native"])]
        for name in others:
            if name in row["speedup_over"]:
                cells += [_time(row["seconds"][name]), _ratio(row["speedup_over"][name])]
            else:
                cells += ["-", "-"]
        body.append(cells)
    return _align(head, body)


def _means(rows: list[Row]) -> str:
    others = _others(rows)
    head = ["geometric mean", "mode", *(f"native over {name}" for name in others)]
    body = []
    for label, mode in dict.fromkeys((row["label"], row["mode"]) for row in rows):
        cells = [label, mode]
        for name in others:
            ratios = [
                row["speedup_over"][name]["median"]
                for row in rows
                if (row["label"], row["mode"]) == (label, mode) and name in row["speedup_over"]
            ]
            cells.append(f"{statistics.geometric_mean(ratios):.2f}x" if ratios else "-")
        body.append(cells)
    return _align(head, body)


def _time(spread: dict[str, float]) -> str:
    return f"{spread['median'] * 1e3:.3f}"


def _ratio(spread: dict[str, float]) -> str:
    return f"{spread['median']:.2f}x ({spread['low']:.2f}-{spread['high']:.2f})"


def _align(head: list[str], body: list[list[str]]) -> str:
    widths = [max(len(line[k]) for line in [head, *body]) for k in range(len(head))]
    texts = sum(1 for title in head if title in ("cell", "geometric mean", "mode", "shape"))

    def line(cells: list[str]) -> str:
        return "  ".join(
            cell.ljust(width) if k < texts else cell.rjust(width)
            for k, (cell, width) in enumerate(zip(cells, widths, strict=True))
        ).rstrip()

    rule = "  ".join("-" * width for width in widths)
    return "\n".join([line(head), rule, *map(line, body)]) + "\n"
