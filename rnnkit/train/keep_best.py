"""Keeping the weights of the best validation in the run's folder."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from rnnkit.checks import check_kind
from rnnkit.module import Module
from rnnkit.train.errors import RunError
from rnnkit.train.objective import Measure
from rnnkit.train.observers import Observer, Start, Validation
from rnnkit.train.run_folder import RunFolder


class KeepBest(Observer):
    """Saves the model whenever a validation is the best so far.

    A run that is killed after such a save and before the next checkpoint is resumed from before
    it. The saved model is then ahead of the run; it gives way only to one that is no worse.
    """

    def __init__(self, model: Module, folder: RunFolder) -> None:
        check_kind("model", model, Module)
        check_kind("folder", folder, RunFolder)
        self._model = model
        self._folder = folder
        self._measure = Measure()
        self._step = 0
        self._ahead: float | None = None

    def on_start(self, start: Start) -> None:
        """Raises RunError when the run is resumed and the model it had saved is not there."""
        self._measure = start.measure
        if not start.resumed:
            return
        if not self._folder.has_model():
            if self._step:
                raise RunError(
                    f"{self._folder.model}: missing: the run saved it at step {self._step}"
                )
            return
        step, value = self._folder.model_quality()
        if step > start.step:
            self._ahead = value

    def on_validation(self, validation: Validation) -> None:
        if not validation.is_best:
            return
        self._step = validation.step
        if self._ahead is not None and self._measure.is_better(self._ahead, validation.value):
            return
        self._ahead = None
        self._folder.save_best(self._model.state_dict(), validation.step, validation.value)

    def state_dict(self) -> dict[str, Any]:
        return {"step": self._step}

    def load_state_dict(self, state: Mapping[str, Any]) -> None:
        self._step = int(state["step"])
