"""The learning curve of a run as a picture."""

from __future__ import annotations

import io

from rnnkit.data.atomic import write_atomically
from rnnkit.errors import MissingPackageError
from rnnkit.train.observers import Observer, Outcome, Step, Validation


class LearningCurve(Observer):
    """Draws training and validation loss over the steps when the run is finished."""

    def __init__(self, path: str) -> None:
        """Raises MissingPackageError when matplotlib is not installed."""
        require_matplotlib()
        self.path = path
        self._steps: list[tuple[int, float]] = []
        self._validations: list[Validation] = []

    def on_step(self, step: Step) -> None:
        self._steps.append((step.step, step.bits))

    def on_validation(self, validation: Validation) -> None:
        self._validations.append(validation)

    def on_finish(self, outcome: Outcome) -> None:
        if self._steps:
            write_atomically(self.path, self._draw(outcome))

    def _draw(self, outcome: Outcome) -> bytes:
        # The figure is drawn on its own canvas: pyplot would change the caller's global state.
        from matplotlib.backends.backend_agg import FigureCanvasAgg
        from matplotlib.figure import Figure

        figure = Figure(figsize=(8, 5), dpi=120, layout="constrained")
        canvas = FigureCanvasAgg(figure)
        axes = figure.add_subplot()
        steps, bits = zip(*_averaged(self._steps), strict=True)
        axes.plot(steps, bits, color="tab:blue", alpha=0.8, label="training")
        axes.plot(
            [v.step for v in self._validations],
            [v.bits for v in self._validations],
            color="tab:orange",
            marker="o",
            markersize=4,
            label="validation",
        )
        axes.set_xlabel("step")
        axes.set_ylabel("bits per character")
        axes.set_title(
            f"best validation {outcome.best_bits:.3f} bits per character "
            f"at step {outcome.best_step:,}"
        )
        axes.grid(alpha=0.3)
        axes.legend()
        picture = io.BytesIO()
        canvas.print_png(picture)
        return picture.getvalue()


def require_matplotlib() -> None:
    """Raise MissingPackageError when no curve can be drawn."""
    try:
        import matplotlib.figure  # noqa: F401
    except ImportError:
        raise MissingPackageError(
            "no learning curve will be drawn: it needs the package matplotlib; "
            "install it with: pip install 'rnnkit[train]'"
        ) from None


def _averaged(steps: list[tuple[int, float]], points: int = 300) -> list[tuple[float, float]]:
    """Means over stretches of equal length, so that the curve is a line and not a band."""
    stretch = -(-len(steps) // points)
    out = []
    for begin in range(0, len(steps), stretch):
        part = steps[begin : begin + stretch]
        out.append((sum(s for s, _ in part) / len(part), sum(b for _, b in part) / len(part)))
    return out
