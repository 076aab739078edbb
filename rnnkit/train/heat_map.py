"""What an attention looked at, as a picture."""

from __future__ import annotations

import io
import os
from collections.abc import Sequence

import numpy as np

from rnnkit.data.atomic import write_atomically
from rnnkit.errors import MissingPackageError


def attention_map(
    path: str | os.PathLike[str],
    source: Sequence[str],
    target: Sequence[str],
    weights: np.ndarray,
) -> None:
    """Draw ``weights`` (T, S) as a PNG: a row for each of the T target words, a column for each of
    the S source words, dark where the weight is near 1.

    Raises MissingPackageError when matplotlib is not installed, and OSError.
    """
    try:
        from matplotlib.backends.backend_agg import FigureCanvasAgg
        from matplotlib.figure import Figure
    except ImportError:
        raise MissingPackageError(
            "a picture of the attention needs the package matplotlib; "
            "install it with: pip install 'rnnkit[train]'"
        ) from None
    width, height = 2.0 + 0.45 * len(source), 1.5 + 0.35 * len(target)
    figure = Figure(figsize=(width, height), dpi=120, layout="constrained")
    canvas = FigureCanvasAgg(figure)
    axes = figure.add_subplot()
    axes.imshow(weights, cmap="Blues", vmin=0.0, vmax=1.0, aspect="auto")
    # A dollar sign in a word is no formula.
    axes.set_xticks(range(len(source)), source, rotation=60, ha="left", parse_math=False)
    axes.set_yticks(range(len(target)), target, parse_math=False)
    axes.xaxis.tick_top()
    picture = io.BytesIO()
    canvas.print_png(picture)
    write_atomically(os.fspath(path), picture.getvalue())
