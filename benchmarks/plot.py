"""A bar chart of the speed-ups over every other side, one panel per mode."""

from __future__ import annotations

from pathlib import Path
from typing import Any


def draw(rows: list[dict[str, Any]], path: Path) -> None:
    """Draws the rows of the largest thread count and the first dtype into an image file."""
    import matplotlib

    matplotlib.use("Agg")
    from matplotlib import pyplot, ticker

    threads = max(row["threads"] for row in rows)
    dtype = rows[0]["dtype"]
    rows = [row for row in rows if (row["threads"], row["dtype"]) == (threads, dtype)]
    modes = list(dict.fromkeys(row["mode"] for row in rows))
    labels = list(dict.fromkeys(row["label"] for row in rows))
    shapes = list(dict.fromkeys(row["shape_text"] for row in rows))
    others = list(dict.fromkeys(name for row in rows for name in row["speedup_over"]))

    width = max(6.0, 1.1 * len(shapes) + 1)
    figure, axes = pyplot.subplots(
        len(modes), len(others), figsize=(width * len(others), 3.6 * len(modes)), squeeze=False
    )
    bar = 0.8 / len(labels)
    for i, mode in enumerate(modes):
        for j, other in enumerate(others):
            axis = axes[i][j]
            for k, label in enumerate(labels):
                found = {
                    row["shape_text"]: row["speedup_over"][other]["median"]
                    for row in rows
                    if (row["mode"], row["label"]) == (mode, label) and other in row["speedup_over"]
                }
                places = [n for n, shape in enumerate(shapes) if shape in found]
                ratios = [found[shapes[n]] for n in places]
                bars = axis.bar(
                    [n + (k - (len(labels) - 1) / 2) * bar for n in places],
                    [ratio - 1 for ratio in ratios],
                    bar,
                    bottom=1,
                    label=label,
                )
                axis.bar_label(bars, [f"{ratio:.3g}" for ratio in ratios], fontsize=6, padding=1)
            axis.axhline(1, color="black", linewidth=0.8)
            axis.set_yscale("log")
            axis.margins(y=0.15)
            axis.yaxis.set_major_formatter("{x:g}")
            axis.yaxis.set_minor_formatter(ticker.NullFormatter())
            axis.set_title(f"{mode}: native over {other}")
            axis.set_ylabel("times as fast")
            axis.set_xticks(range(len(shapes)), shapes, rotation=30, ha="right", fontsize=8)
    axes[0][0].legend(fontsize=8)
    figure.suptitle(f"rnnkit, {dtype}, {threads} thread{'s' if threads > 1 else ''}")
    figure.tight_layout()
    figure.savefig(path, dpi=120)
    pyplot.close(figure)
