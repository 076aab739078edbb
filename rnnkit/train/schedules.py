"""Learning rates over the share of the budget used."""

from __future__ import annotations

import math
from typing import Protocol

from rnnkit.errors import ArgumentError
from rnnkit.optim import Optimizer
from rnnkit.optim.lr_scheduler import ReduceLROnPlateau

SCHEDULES = ("cosine", "plateau", "constant")

_WARM_UP = 0.02
_FLOOR = 0.01


class Schedule(Protocol):
    """Sets the learning rates of an optimiser as training goes on."""

    def before_step(self, used: float) -> None:
        """``used``: the share of the budget used so far."""

    def after_validation(self, bits: float) -> None:
        """``bits``: the newest validation loss."""


class Constant:
    """The learning rate as given, throughout."""

    def before_step(self, used: float) -> None:
        pass

    def after_validation(self, bits: float) -> None:
        pass


class Cosine(Constant):
    """A short linear warm-up, then half a cosine wave down to a hundredth (SGDR, one cycle).

    Loshchilov and Hutter 2017, equation 5.
    """

    def __init__(self, optimizer: Optimizer) -> None:
        self._groups = [(group, group["lr"]) for group in optimizer.param_groups]

    def before_step(self, used: float) -> None:
        factor = cosine_factor(used)
        for group, learning_rate in self._groups:
            group["lr"] = learning_rate * factor


class Plateau(Constant):
    """Halves the learning rate when two validations in a row brought no gain."""

    def __init__(self, optimizer: Optimizer) -> None:
        self._scheduler = ReduceLROnPlateau(optimizer, factor=0.5, patience=1)

    def after_validation(self, bits: float) -> None:
        self._scheduler.step(bits)


def cosine_factor(used: float) -> float:
    """What the learning rate is multiplied by when the share ``used`` of the budget is gone."""
    if used < _WARM_UP:
        return max(used / _WARM_UP, _FLOOR)
    through = (used - _WARM_UP) / (1.0 - _WARM_UP)
    return _FLOOR + (1.0 - _FLOOR) * 0.5 * (1.0 + math.cos(math.pi * through))


def make_schedule(name: str, optimizer: Optimizer) -> Schedule:
    """The schedule called ``name``, one of SCHEDULES; ArgumentError for any other."""
    if name == "cosine":
        return Cosine(optimizer)
    if name == "plateau":
        return Plateau(optimizer)
    if name == "constant":
        return Constant()
    raise ArgumentError(f"schedule: expected one of {', '.join(SCHEDULES)}, got {name!r}")
