"""The results as pictures: speed-ups over shapes, rooflines, scaling, loss curves."""

from __future__ import annotations

import math
from pathlib import Path
from typing import Any

from .report import Row, of_threads, others
from .suite_cells import ONE_THREAD, grid_rows

CELL_COLOURS = {"rnn": "tab:green", "gru": "tab:orange", "lstm": "tab:blue"}
MODE_MARKS = {"forward": "o", "training": "s"}


def draw_all(rows: list[Row], caption: str, folder: Path) -> list[Path]:
    """Draws what the rows have figures for into PNG files in ``folder``; returns their paths.

    ``caption`` says on what machine and with what versions, below each picture.
    """
    import matplotlib

    matplotlib.use("Agg")
    from matplotlib import pyplot

    folder.mkdir(parents=True, exist_ok=True)
    figures = {
        "speedup": _speedups(_main_rows(rows)),
        "roofline": _rooflines(rows),
        "scaling": _scaling([row for row in rows if row["suite"] == "scaling"]),
        "language": _curves([row for row in rows if row["suite"] == "language"]),
    }
    paths = []
    for name, figure in figures.items():
        if figure is not None:
            paths.append(folder / f"{name}.png")
            figure.supxlabel(caption, fontsize=6, color="grey")
            figure.savefig(paths[-1], dpi=120)
            pyplot.close(figure)
    return paths


def _main_rows(rows: list[Row]) -> list[Row]:
    """The cells on the common grid, at the largest thread count and in the first dtype."""
    found = grid_rows([row for row in rows if row["suite"] == "cells"])
    if not found:
        return []
    threads, dtype = max(row["threads"] for row in found), found[0]["dtype"]
    return [row for row in found if (row["threads"], row["dtype"]) == (threads, dtype)]


def _speedups(rows: list[Row]) -> Any:
    """A heat map for each other side: cells and modes down, shapes across."""
    from matplotlib import colors, pyplot

    names = others(rows)
    if not names:
        return None
    shapes = list(dict.fromkeys(row["shape_text"] for row in rows))
    works = {
        name: list(
            dict.fromkeys(f"{r['label']} {r['mode']}" for r in rows if name in r["speedup_over"])
        )
        for name in names
    }
    heights = [0.32 * len(each) + 1.4 for each in works.values()]
    figure, axes = pyplot.subplots(
        len(names),
        1,
        figsize=(max(6.0, 0.62 * len(shapes) + 3), sum(heights) + 1),
        height_ratios=heights,
        squeeze=False,
        layout="constrained",
    )
    for axis, name in zip(axes[:, 0], names, strict=True):
        grid = [[math.nan] * len(shapes) for _ in works[name]]
        for row in rows:
            if name in row["speedup_over"]:
                place = works[name].index(f"{row['label']} {row['mode']}")
                column = shapes.index(row["shape_text"])
                grid[place][column] = row["speedup_over"][name]["median"]
        # One scale for all panels, white where both are equal; the end colours go on beyond it.
        scale = colors.LogNorm(1 / 16, 16)
        axis.imshow(grid, norm=scale, cmap="RdBu", aspect="auto")
        for y, line in enumerate(grid):
            for x, ratio in enumerate(line):
                if not math.isnan(ratio):
                    dark = not 1 / 6 < ratio < 6
                    colour = "white" if dark else "black"
                    axis.text(x, y, f"{ratio:.3g}", ha="center", va="center", fontsize=7,
                              color=colour)  # fmt: skip
        title = "all threads over one" if name == ONE_THREAD else f"rnnkit over {name}"
        axis.set_title(f"{title}, times as fast", fontsize=9)
        axis.set_yticks(range(len(works[name])), works[name], fontsize=7)
        axis.set_xticks(range(len(shapes)), shapes, rotation=35, ha="right", fontsize=7)
    figure.suptitle(f"{rows[0]['dtype']}, {of_threads(rows[0]['threads'])}")
    return figure


def _rooflines(rows: list[Row]) -> Any:
    """A panel for each thread count: what the kernels reach under the roofs of the machine."""
    from matplotlib import pyplot

    cells = [row for row in rows if row["suite"] == "cells" and "limits" in row]
    cells = [row for row in cells if row["dtype"] == "float32"]
    roofs = [row for row in rows if row["suite"] == "limits" and "rate" in row]
    counts = [n for n in dict.fromkeys(row["threads"] for row in roofs)
              if any(row["threads"] == n for row in cells)]  # fmt: skip
    if not counts:
        return None
    figure, axes = pyplot.subplots(
        1, len(counts), figsize=(7 * len(counts), 5), squeeze=False, layout="constrained"
    )
    for axis, threads in zip(axes[0], counts, strict=True):
        points = [row for row in cells if row["threads"] == threads]
        intensities = [row["limits"]["flops"] / row["limits"]["bytes"] for row in points]
        low, high = min(intensities) / 2, max(intensities) * 2
        rates = {
            row["what"]: row["rate"]["median"] / 1e9 for row in roofs if row["threads"] == threads
        }
        peak = rates.pop("FMA float32")
        rates.pop("FMA float64", None)
        axis.axhline(peak, color="black", linewidth=1)
        axis.annotate("FMA peak", (high, peak), ha="right", va="bottom", fontsize=7)
        for what, rate in rates.items():
            ridge = min(peak / rate, high)
            axis.plot([low, ridge], [low * rate, ridge * rate], color="grey", linewidth=0.8)
            axis.annotate(what, (low, low * rate), va="bottom", fontsize=7, color="grey")
        for row, intensity in zip(points, intensities, strict=True):
            axis.plot(
                intensity,
                row["limits"]["rate"]["fma"]["median"] / 1e9,
                MODE_MARKS[row["mode"]],
                color=CELL_COLOURS.get(row["cell"], "tab:red"),
                markersize=4,
                alpha=0.7,
                label=f"{row['cell'].upper()} {row['mode']}",
            )
        _legend_once(axis)
        axis.set_xscale("log")
        axis.set_yscale("log")
        axis.set_xlabel("operations a byte of recurrent weights read")
        axis.set_ylabel("GFLOP/s")
        axis.set_title(f"float32, {of_threads(threads)}", fontsize=9)
    return figure


def _scaling(rows: list[Row]) -> Any:
    """A panel for each cell and axis: seconds of a training step, native and peers."""
    from matplotlib import pyplot

    if not rows:
        return None
    labels = list(dict.fromkeys(row["label"] for row in rows))
    sweeps = list(dict.fromkeys(row["axis"] for row in rows))
    figure, axes = pyplot.subplots(
        len(labels),
        len(sweeps),
        figsize=(3.6 * len(sweeps), 3.0 * len(labels)),
        squeeze=False,
        layout="constrained",
    )
    for y, label in enumerate(labels):
        for x, sweep in enumerate(sweeps):
            axis = axes[y][x]
            points = [row for row in rows if (row["label"], row["axis"]) == (label, sweep)]
            for name in dict.fromkeys(name for row in points for name in row["seconds"]):
                known = [row for row in points if name in row["seconds"]]
                axis.plot(
                    [row["value"] for row in known],
                    [row["seconds"][name]["median"] for row in known],
                    "o-",
                    markersize=3,
                    label="rnnkit" if name == "native" else name,
                )
            if sweep == "threads":
                axis.set_xticks([row["value"] for row in points])
                axis.set_ylim(bottom=0)
            else:
                axis.set_xscale("log")
                axis.set_yscale("log")
            axis.set_xlabel(sweep)
            axis.set_title(f"{label}, {sweep}", fontsize=8)
            axis.grid(alpha=0.3)
            axis.legend(fontsize=7)
        axes[y][0].set_ylabel("seconds a training step")
    figure.suptitle(f"float32, {of_threads(rows[0]['threads'])}")
    return figure


def _curves(rows: list[Row]) -> Any:
    """Validation loss against seconds of training and against steps."""
    from matplotlib import pyplot

    if not rows:
        return None
    figure, axes = pyplot.subplots(
        2, len(rows), figsize=(4.5 * len(rows), 6.5), squeeze=False, layout="constrained"
    )
    for x, row in enumerate(rows):
        for name, curve in row["curves"].items():
            steps, seconds, losses = zip(*curve, strict=True)
            label = "rnnkit" if name == "native" else name
            axes[0][x].plot(seconds, losses, label=label)
            axes[1][x].plot(steps, losses, label=label)
        axes[0][x].axhline(row["goal"], color="grey", linewidth=0.8, linestyle=":")
        axes[0][x].set_title(row["title"], fontsize=8)
        for axis, what in ((axes[0][x], "seconds of training"), (axes[1][x], "steps")):
            axis.set_xlabel(what)
            axis.grid(alpha=0.3)
            axis.legend(fontsize=7)
    axes[0][0].set_ylabel("validation loss, nats a token")
    axes[1][0].set_ylabel("validation loss, nats a token")
    return figure


def _legend_once(axis: Any) -> None:
    """One entry a label, though many points carry it."""
    handles, labels = axis.get_legend_handles_labels()
    known = dict(zip(labels, handles, strict=True))
    axis.legend(known.values(), known.keys(), fontsize=7)
