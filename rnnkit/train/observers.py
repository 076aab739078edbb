"""What a trainer tells those who watch it: the bar, the logs, the curve, the keeper of the best.

An observer derives from Observer and overrides what it wants to hear. Losses and metrics are in
the objective's own units; `Measure.show` turns them into what people read.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from typing import Any, NamedTuple

from rnnkit.train.objective import Measure


class Start(NamedTuple):
    """How a run begins or goes on.

    Attributes:
        measure: what it is judged by.
        resumed: whether it goes on in a folder in which it ran before.
        step: steps already taken.
        used: share of the budget already used.
    """

    measure: Measure
    resumed: bool
    step: int
    used: float


class Step(NamedTuple):
    """One optimiser step.

    Attributes:
        step: its number, from 1.
        epoch: passes over the training part so far.
        used: share of the budget used so far.
        seconds: of training so far.
        loss: mean training loss of this step.
        metrics: means of this step, by name.
        gradient_norm: of the gradients of all parameters that the optimiser has, before clipping.
        learning_rate: of the first group.
        items: in this step.
        items_per_second: of training only, smoothed.
    """

    step: int
    epoch: float
    used: float
    seconds: float
    loss: float
    metrics: Mapping[str, float]
    gradient_norm: float
    learning_rate: float
    items: int
    items_per_second: float

    def value(self, measure: Measure) -> float:
        """What the run is judged by, of this step; NaN where training has no such metric."""
        return {"loss": self.loss, **self.metrics}.get(measure.name, math.nan)


class Validation(NamedTuple):
    """One pass over the validation part.

    Attributes:
        step, epoch, used, seconds: as in `Step`, of the last step before it.
        loss: mean over the validation part.
        metrics: means over the validation part, by name.
        training_loss, training_metrics: means since the validation before.
        value: what it is judged by: the loss, or the metric that the measure names.
        training_value: the same of training; NaN where training has no such metric.
        is_best: whether it is the best so far; a value that is NaN never is.
        items_per_second: of training only, smoothed.
    """

    step: int
    epoch: float
    used: float
    seconds: float
    loss: float
    metrics: Mapping[str, float]
    training_loss: float
    training_metrics: Mapping[str, float]
    value: float
    training_value: float
    is_best: bool
    items_per_second: float


class Outcome(NamedTuple):
    """How a run ended.

    Attributes:
        steps, epochs, seconds: how many there were.
        best_step: of the best validation; 0 where there was none.
        best_value: what it was judged by; NaN where there was none.
        items_per_second: of training only, over the whole run.
        interrupted: whether by Ctrl-C.
        stopped_early: whether the target was reached, or patience ran out.
    """

    steps: int
    epochs: float
    seconds: float
    best_step: int
    best_value: float
    items_per_second: float
    interrupted: bool
    stopped_early: bool


class Observer:
    """Hears of a run in this order: start, step, validation, ..., finish; and is always closed."""

    def on_start(self, start: Start) -> None:
        """Before the first step; after `load_state_dict` when the run is resumed."""

    def on_step(self, step: Step) -> None:
        """After every optimiser step."""

    def on_validation(self, validation: Validation) -> None:
        """After every validation, while the model has the weights that were validated."""

    def on_finish(self, outcome: Outcome) -> None:
        """At the end of a run that was not cut short by an error."""

    def close(self) -> None:
        """Release files and the terminal; also called after an error."""

    def state_dict(self) -> dict[str, Any]:
        """What a checkpoint shall hold of it: numbers, texts and arrays, nested as wanted."""
        return {}

    def load_state_dict(self, state: Mapping[str, Any]) -> None:
        """Go on from ``state``."""
