"""The learning curve of a run as a picture."""

from __future__ import annotations

import io
import math
import os
from collections.abc import Mapping
from typing import Any

import numpy as np

from rnnkit.data.atomic import write_atomically
from rnnkit.errors import MissingPackageError
from rnnkit.train.objective import Measure
from rnnkit.train.observers import Observer, Outcome, Start, Step, Validation

_POINTS = 300


class LearningCurve(Observer):
    """Draws what the run is judged by, in training and validation, over the steps, at its end."""

    def __init__(self, path: str | os.PathLike[str]) -> None:
        """Raises MissingPackageError when matplotlib is not installed."""
        require_matplotlib()
        self.path = os.fspath(path)
        self._measure = Measure()
        self._training = _Stretches()
        self._validations: list[tuple[int, float]] = []

    def on_start(self, start: Start) -> None:
        self._measure = start.measure

    def on_step(self, step: Step) -> None:
        value = step.value(self._measure)
        if not math.isnan(value):
            self._training.add(step.step, value)

    def on_validation(self, validation: Validation) -> None:
        self._validations.append((validation.step, validation.value))

    def on_finish(self, outcome: Outcome) -> None:
        if outcome.steps:
            write_atomically(self.path, self._draw(outcome))

    def state_dict(self) -> dict[str, Any]:
        return {
            "training": self._training.state_dict(),
            "validations": np.array(self._validations, np.float64).reshape(-1, 2),
        }

    def load_state_dict(self, state: Mapping[str, Any]) -> None:
        self._training.load_state_dict(state["training"])
        self._validations = [(int(step), value) for step, value in state["validations"].tolist()]

    def _draw(self, outcome: Outcome) -> bytes:
        # The figure is drawn on its own canvas: pyplot would change the caller's global state.
        from matplotlib.backends.backend_agg import FigureCanvasAgg
        from matplotlib.figure import Figure

        measure = self._measure
        figure = Figure(figsize=(8, 5), dpi=120, layout="constrained")
        canvas = FigureCanvasAgg(figure)
        axes = figure.add_subplot()
        for points, colour, marker, label in (
            (self._training.points(), "tab:blue", "", "training"),
            (self._validations, "tab:orange", "o", "validation"),
        ):
            if points:
                steps, values = zip(*points, strict=True)
                shown = [value * measure.scale for value in values]
                axes.plot(steps, shown, color=colour, marker=marker, markersize=4, label=label)
                axes.legend()
        axes.set_xlabel("step")
        axes.set_ylabel(measure.label)
        if outcome.best_step:
            axes.set_title(
                f"best validation {measure.show(outcome.best_value)} {measure.label} "
                f"at step {outcome.best_step:,}"
            )
        axes.grid(alpha=0.3)
        picture = io.BytesIO()
        canvas.print_png(picture)
        return picture.getvalue()


class _Stretches:
    """Means over stretches of equal length, so that the curve is a line and not a band.

    When there are too many, two and two are joined: a long run takes no more memory than a short.
    """

    def __init__(self) -> None:
        self._stretch = 1
        self._whole: list[tuple[float, float]] = []
        self._open: list[tuple[float, float]] = []

    def add(self, step: float, value: float) -> None:
        self._open.append((step, value))
        if len(self._open) == self._stretch:
            self._whole.append(_middle(self._open))
            self._open = []
            if len(self._whole) == 2 * _POINTS:
                self._stretch *= 2
                pairs = zip(self._whole[::2], self._whole[1::2], strict=True)
                self._whole = [_middle(list(pair)) for pair in pairs]

    def points(self) -> list[tuple[float, float]]:
        return [*self._whole, *([_middle(self._open)] if self._open else [])]

    def state_dict(self) -> dict[str, Any]:
        points = np.array([*self._whole, *self._open], np.float64).reshape(-1, 2)
        return {"stretch": self._stretch, "whole": len(self._whole), "points": points}

    def load_state_dict(self, state: Mapping[str, Any]) -> None:
        points = [(step, value) for step, value in state["points"].tolist()]
        self._stretch = int(state["stretch"])
        self._whole = points[: int(state["whole"])]
        self._open = points[int(state["whole"]) :]


def _middle(points: list[tuple[float, float]]) -> tuple[float, float]:
    return (
        sum(step for step, _ in points) / len(points),
        sum(value for _, value in points) / len(points),
    )


def require_matplotlib() -> None:
    """Raise MissingPackageError when no curve can be drawn."""
    try:
        import matplotlib.figure  # noqa: F401
    except ImportError:
        raise MissingPackageError(
            "no learning curve will be drawn: it needs the package matplotlib; "
            "install it with: pip install 'rnnkit[train]'"
        ) from None
