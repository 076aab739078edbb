"""The numbers of a trace as a table."""

from __future__ import annotations

import math
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

import numpy as np

if TYPE_CHECKING:
    from rnnkit.diagnostics.layers import LayerTrace, Saturation


@dataclass(frozen=True)
class ReportLine:
    """One state of one layer in one direction.

    Attributes:
        name: of the layer.
        state: of the state, with "probe" after it where the gradient is that of the probe.
        steps: of the longest sequence.
        first, last: norm of the state's gradient over the batch at the first and at the last step
            of time; NaN without a gradient.
        zeros: share of steps and rows to which no gradient came at all.
        finite: whether all of the gradient is finite.
        factor, change, memory: see ``LayerTrace.factor``, ``change`` and ``memory_length``.
    """

    name: str
    state: str
    steps: int
    first: float = math.nan
    last: float = math.nan
    zeros: float = math.nan
    finite: bool = True
    factor: float = math.nan
    change: float = math.nan
    memory: float = math.nan


@dataclass(frozen=True)
class Report:
    """What ``trace.report`` returns; ``print`` shows it as a table.

    Attributes:
        lines: one for each layer, direction and state.
        saturation: per layer, per gate, shares of values near the low and the high end.
        fraction, margin: what ``report`` was called with.
    """

    lines: list[ReportLine] = field(default_factory=list)
    saturation: dict[str, dict[str, Saturation]] = field(default_factory=dict)
    fraction: float = math.exp(-1)
    margin: float = 0.05

    def __str__(self) -> str:
        if not self.lines:
            return "no recurrent layer has run"
        share = "1/e" if self.fraction == math.exp(-1) else f"{self.fraction:g}"
        titles = [
            "gradient of", "steps", "first step", "last step", "per step back", "over all",
            f"memory ({share})", "",
        ]
        rows = [titles]
        for line in self.lines:
            notes = [] if line.finite else ["not finite"]
            if line.zeros > 0:
                notes.append(f"{line.zeros:.0%} zero")
            rows.append([
                f"{line.name} {line.state}", str(line.steps), _short(line.first), _short(line.last),
                _short(line.factor, ".4f"), _short(line.change), _short(line.memory, ".1f"),
                ", ".join(notes),
            ])
        text = _table(rows)
        gates = {name: each for name, each in self.saturation.items() if each}
        if not gates:
            return text
        text += f"\n\nsaturated gates: values within {self.margin:.0%} of the low | high end\n"
        rows = [
            [name, *[f"{gate} {_percent(*each)}" for gate, each in shares.items()]]
            for name, shares in gates.items()
        ]
        width = max(map(len, rows))
        return text + _table([[*row, *[""] * (width - len(row))] for row in rows])


def report_on(layers: list[LayerTrace], fraction: float, margin: float) -> Report:
    """See ``trace.report``."""
    lines = []
    for layer in layers:
        states = layer.cell.state_names
        lines += [_line(layer, state, state, fraction) for state in states]
        if layer.probe is not None:
            lines += [_line(layer.probe, state, f"{state} probe", fraction) for state in states]
    saturation = {layer.name: layer.saturation(margin) for layer in layers}
    return Report(lines, saturation, fraction, margin)


def _line(layer: LayerTrace, state: str, label: str, fraction: float) -> ReportLine:
    if state not in layer.d_states or not layer.longest:
        return ReportLine(layer.name, label, layer.longest)
    rows, norms = layer.row_norms(state), layer.norms(state)
    there = layer.sequences >= 0
    return ReportLine(
        layer.name,
        label,
        layer.longest,
        first=float(norms[0]),
        last=float(norms[int(layer.lengths.max()) - 1]),
        zeros=float((rows[there] == 0).mean()),
        finite=bool(np.isfinite(rows[there]).all()),
        factor=layer.factor(state),
        change=layer.change(state),
        memory=layer.memory_length(fraction, state),
    )


def _short(number: float, form: str = ".2e") -> str:
    return "-" if math.isnan(number) else f"{number:{form}}"


def _percent(low: float, high: float) -> str:
    return f"{low:.0%} | {high:.0%}" if low == low else "-"


def _table(rows: list[list[str]]) -> str:
    widths = [max(len(row[i]) for row in rows) for i in range(len(rows[0]))]
    lines = []
    for row in rows:
        cells = [row[0].ljust(widths[0])]
        cells += [cell.rjust(width) for cell, width in zip(row[1:], widths[1:], strict=True)]
        lines.append("  ".join(cells).rstrip())
    return "\n".join(lines)
