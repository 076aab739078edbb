"""A trace as a picture."""

from __future__ import annotations

import math
from typing import TYPE_CHECKING, Any

import numpy as np

from rnnkit.errors import ArgumentError, MissingPackageError

if TYPE_CHECKING:
    from rnnkit.diagnostics.layers import LayerTrace

COLUMNS = 3


def draw(layers: list[LayerTrace], path: Any) -> Any:
    """See ``trace.plot``."""
    if not layers:
        raise ArgumentError("plot: no recurrent layer has run")
    try:
        # The figure is drawn on its own canvas: pyplot would change the caller's global state.
        from matplotlib.backends.backend_agg import FigureCanvasAgg
        from matplotlib.figure import Figure
    except ImportError:
        raise MissingPackageError(
            "plot: it needs the package matplotlib; install it with: pip install 'rnnkit[plot]'"
        ) from None
    gated = [layer for layer in layers if layer.gates and layer.longest]
    rows = 1 + -(-len(gated) // COLUMNS)
    figure = Figure(figsize=(9, 3.2 + 2.4 * (rows - 1)), dpi=120, layout="constrained")
    FigureCanvasAgg(figure)
    grid = figure.add_gridspec(rows, COLUMNS, height_ratios=[1.5, *[1] * (rows - 1)])
    _draw_norms(figure.add_subplot(grid[0, :]), layers)
    for i, layer in enumerate(gated):
        _draw_gates(figure.add_subplot(grid[1 + i // COLUMNS, i % COLUMNS]), layer)
    if path is not None:
        figure.savefig(path)
    return figure


def _draw_norms(axes: Any, layers: list[LayerTrace]) -> None:
    """|dL/dh_t| over t: a line for the whole batch, a band for the middle of its rows."""
    positive = False
    for layer in layers:
        for state in layer.cell.state_names:
            if state not in layer.d_states:
                continue
            norms = layer.norms(state)
            # Zeros have no place on a logarithmic axis.
            norms = np.where((norms > 0) & np.isfinite(norms), norms, np.nan)
            low, high = layer.quantiles([0.1, 0.9], state)
            factor = layer.factor(state)
            text = f"{layer.name} {state}"
            text += "" if math.isnan(factor) else f": {factor:.3f} a step"
            style = "-" if state == layer.cell.state_names[0] else "--"
            (line,) = axes.plot(np.arange(layer.T), norms, style, marker=".", ms=3, label=text)
            if layer.N > 1:
                low = np.where(low > 0, low, np.nan)
                axes.fill_between(
                    np.arange(layer.T), low, high, color=line.get_color(), alpha=0.15, linewidth=0
                )
            positive = positive or bool(np.isfinite(norms).any())
    if positive:
        axes.set_yscale("log")
        axes.legend(fontsize="small")
    else:
        axes.text(
            0.5, 0.5, "no gradient has come", ha="center", va="center", transform=axes.transAxes
        )
    axes.set_xlabel("step t")
    axes.set_ylabel("norm of the gradient of the state")
    axes.grid(alpha=0.3)


def _draw_gates(axes: Any, layer: LayerTrace) -> None:
    """How often a gate takes which value."""
    there = layer.sequences >= 0
    for name, (low, high) in layer.saturation().items():
        values = layer.gates[name][there].astype(np.float64).ravel()
        values = values[np.isfinite(values)]
        least, most = layer.cell.gate_ranges.get(name, (0.0, 1.0))
        if not math.isfinite(most):
            most = max(least + 1e-12, values.max(initial=least))
        counts, edges = np.histogram(values, bins=40, range=(least, most))
        axes.stairs(
            counts / max(counts.sum(), 1), edges, label=f"{name}: {low:.0%} | {high:.0%}"
        )
    axes.set_title(f"{layer.name}: gates (saturated low | high)", fontsize="small")
    axes.set_yticks([])
    axes.legend(fontsize="x-small")
