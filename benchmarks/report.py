"""The results as text: tables, plain or in Markdown, and the numbers in them."""

from __future__ import annotations

import statistics
from collections.abc import Iterable
from dataclasses import dataclass
from typing import Any

Row = dict[str, Any]


@dataclass(frozen=True)
class Table:
    """A titled table; the first ``texts`` columns are words and go left, the others right."""

    title: str
    head: list[str]
    body: list[list[str]]
    texts: int = 1

    def text(self) -> str:
        if not self.head:
            return f"{self.title}\n"
        widths = [max(map(len, column)) for column in zip(self.head, *self.body, strict=True)]

        def line(cells: list[str]) -> str:
            return "  ".join(
                cell.ljust(width) if k < self.texts else cell.rjust(width)
                for k, (cell, width) in enumerate(zip(cells, widths, strict=True))
            ).rstrip()

        rule = "  ".join("-" * width for width in widths)
        return "\n".join([self.title, "", line(self.head), rule, *map(line, self.body)]) + "\n"

    def markdown(self) -> str:
        if not self.head:
            return f"{self.title}\n"
        rule = ["---" if k < self.texts else "---:" for k in range(len(self.head))]
        lines = [f"| {' | '.join(cells)} |" for cells in (self.head, rule, *self.body)]
        return "\n".join([f"**{self.title}**", "", *lines]) + "\n"


def heads(machines: Iterable[Row]) -> list[str]:
    """What it all ran on; several runs are told apart where they differ in more than the time."""
    dates: dict[tuple[str, ...], str] = {}
    for machine in machines:
        dates.setdefault(_head(machine), machine["date"])
    return [line for lines, date in dates.items() for line in (*lines, date)]


def _head(machine: Row) -> tuple[str, ...]:
    rnnkit = machine["rnnkit"]
    peers = "".join(f", {name} {version}" for name, version in machine["peers"].items())
    return (
        f"{machine['cpu']}, {machine['cores']} cores, {machine['system']}",
        f"rnnkit {rnnkit['rnnkit']} ({rnnkit['isa_in_use']}, {rnnkit['compiler']}), "
        f"commit {machine['commit'] or 'unknown'}",
        f"Python {machine['python']}, NumPy {machine['numpy']} ({machine['blas']}){peers}",
    )


def others(rows: Iterable[Row]) -> list[str]:
    """The names of all that native was compared with."""
    return list(dict.fromkeys(name for row in rows for name in row["speedup_over"]))


def compared(row: Row, names: list[str]) -> list[str]:
    """For each name its time and how many times as fast native is."""
    cells = []
    for name in names:
        if name in row["speedup_over"]:
            cells += [time(row["seconds"][name]), times(row["speedup_over"][name])]
        elif name in row.get("left_out", {}):
            cells += [f"> {milliseconds(row['left_out'][name])}", "-"]
        else:
            cells += ["-", "-"]
    return cells


def compared_head(names: list[str]) -> list[str]:
    return [title for name in names for title in (name, f"over {name}")]


def means(rows: list[Row], by: tuple[str, ...], title: str) -> Table:
    """Geometric means and minima of the speed-ups, for each combination of the keys ``by``."""
    names = others(rows)
    body = []
    for group in dict.fromkeys(tuple(row[key] for key in by) for row in rows):
        cells = [str(value) for value in group]
        members = [row for row in rows if tuple(row[key] for key in by) == group]
        for name in names:
            found = speedups(members, name)
            cells.append(
                f"{statistics.geometric_mean(found):.2f}x (min {min(found):.2f})" if found else "-"
            )
        body.append(cells)
    return Table(title, [*by, *(f"over {name}" for name in names)], body, texts=len(by))


def speedups(rows: Iterable[Row], name: str) -> list[float]:
    """The median speed-up over ``name`` of each row that has one."""
    return [row["speedup_over"][name]["median"] for row in rows if name in row["speedup_over"]]


def speedup_text(row: Row, digits: int = 2) -> str:
    """A row's median speedups on one line: "1.20x over torch  9.31x over python"."""
    found = row["speedup_over"].items()
    return "  ".join(f"{spread['median']:.{digits}f}x over {name}" for name, spread in found)


def time(spread: dict[str, float]) -> str:
    return milliseconds(spread["median"])


def milliseconds(seconds: float) -> str:
    return f"{seconds * 1e3:.3f}"


def times(spread: dict[str, float]) -> str:
    return f"{spread['median']:.2f}x ({spread['low']:.2f}-{spread['high']:.2f})"


def percent(spread: dict[str, float]) -> str:
    return f"{100 * spread['median']:.0f}%"


def count(number: float, unit: str) -> str:
    """A number of bytes or the like with a binary prefix."""
    for prefix in ("", "Ki", "Mi"):
        if number < 1024:
            return f"{number:.4g} {prefix}{unit}"
        number /= 1024
    return f"{number:.4g} Gi{unit}"


def of_threads(number: int) -> str:
    return f"{number} thread{'s' if number > 1 else ''}"
