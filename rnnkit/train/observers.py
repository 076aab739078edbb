"""What a trainer tells those who watch it: the bar, the log, the curve, the keeper of the best.

An observer derives from Observer and overrides what it wants to hear.
"""

from __future__ import annotations

from typing import NamedTuple


class Step(NamedTuple):
    """One optimiser step."""

    step: int  # counted from 1
    epoch: float  # passes over the training text so far
    used: float  # share of the budget
    seconds: float  # since training began
    bits: float  # training loss of this step, bits per character
    learning_rate: float
    tokens_per_second: float  # training only, smoothed


class Validation(NamedTuple):
    """One pass over the validation part."""

    step: int
    epoch: float
    used: float
    seconds: float
    bits: float  # bits per character on the validation part
    training_bits: float  # mean training loss since the validation before
    is_best: bool
    tokens_per_second: float


class Outcome(NamedTuple):
    """How a run ended."""

    steps: int
    epochs: float
    seconds: float
    best_step: int
    best_bits: float
    tokens_per_second: float  # training only, over the whole run
    interrupted: bool


class Observer:
    """Hears of a run in this order: step, validation, ..., finished; and always closed."""

    def on_step(self, step: Step) -> None:
        """After every optimiser step."""

    def on_validation(self, validation: Validation) -> None:
        """After every validation."""

    def on_finish(self, outcome: Outcome) -> None:
        """At the end of a run that was not cut short by an error."""

    def close(self) -> None:
        """Release files and the terminal; also called after an error."""
