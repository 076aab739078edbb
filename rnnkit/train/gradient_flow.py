"""Warnings of vanishing and exploding gradients, as training goes on."""

from __future__ import annotations

from rnnkit.checks import check_size
from rnnkit.diagnostics import Observation, watch
from rnnkit.module import Module
from rnnkit.train.observers import Observer, Start, Step


class GradientFlow(Observer):
    """Looks at one step in ``every`` how a gradient changes on its way back through each layer.

    What `rnnkit.diagnostics.watch` finds there is a GradientWarning that names the step as well.
    The step takes about twice its time, the others cost nothing, and training keeps its bits.
    """

    def __init__(
        self, model: Module, every: int = 200, vanishing: float = 1e-4, exploding: float = 1e3
    ) -> None:
        """Raises ArgumentError for a model without recurrent layers or a number out of range."""
        self.every = check_size("every", every)
        self._watch = _Watch(model, 1, vanishing, exploding)
        self._looking = False

    @property
    def history(self) -> list[Observation]:
        """What was seen so far."""
        return self._watch.history

    def on_start(self, start: Start) -> None:
        self._look_at(start.step + 1)

    def on_step(self, step: Step) -> None:
        self._look_at(step.step + 1)

    def close(self) -> None:
        if self._looking:
            self._watch.__exit__(None, None, None)
            self._looking = False

    def _look_at(self, step: int) -> None:
        self.close()
        if (step - 1) % self.every == 0:
            self._watch.step = step
            self._watch.__enter__()
            self._looking = True


class _Watch(watch):
    step = 0

    def message(self, seen: Observation) -> str:
        return f"step {self.step}: {super().message(seen)}"
