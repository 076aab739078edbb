"""What a trainer tells those who watch it: the bar, the logs, the curve, the keeper of the best.

An observer derives from Observer and overrides what it wants to hear. Losses and metrics are in
the objective's own units; `Measure.show` turns them into what people read.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, NamedTuple

from rnnkit.train.objective import Measure


class Start(NamedTuple):
    """How a run begins or goes on."""

    measure: Measure
    resumed: bool  # whether it goes on in a folder in which it ran before
    step: int  # steps already taken
    used: float  # share of the budget already used


class Step(NamedTuple):
    """One optimiser step."""

    step: int  # counted from 1
    epoch: float  # passes over the training part so far
    used: float  # share of the budget
    seconds: float  # of training so far
    loss: float  # mean training loss of this step
    metrics: Mapping[str, float]  # means of this step
    gradient_norm: float  # before clipping
    learning_rate: float
    items: int  # in this step
    items_per_second: float  # training only, smoothed


class Validation(NamedTuple):
    """One pass over the validation part."""

    step: int
    epoch: float
    used: float
    seconds: float
    loss: float  # mean over the validation part
    metrics: Mapping[str, float]
    training_loss: float  # mean since the validation before
    training_metrics: Mapping[str, float]
    value: float  # what it is judged by: the loss, or the metric that the measure names
    training_value: float  # NaN where training has no such metric
    is_best: bool
    items_per_second: float


class Outcome(NamedTuple):
    """How a run ended."""

    steps: int
    epochs: float
    seconds: float
    best_step: int  # 0: there was no validation
    best_value: float
    items_per_second: float  # training only, over the whole run
    interrupted: bool  # by Ctrl-C
    stopped_early: bool  # the target was reached, or patience ran out


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
