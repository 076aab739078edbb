"""Learning rates over the share of the budget used."""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping
from typing import Any, Protocol

from rnnkit.checks import as_float, check_bool, check_kind, check_number
from rnnkit.errors import ArgumentError
from rnnkit.optim import Optimizer
from rnnkit.optim.lr_scheduler import ReduceLROnPlateau

SCHEDULES = ("cosine", "plateau", "constant")

_WARM_UP = 0.02
_FLOOR = 0.01
# Shares of the budget at which functions are told from each other.
_SHARES = tuple(share / 16 for share in range(16))


class Schedule(Protocol):
    """Sets the learning rates of an optimiser as training goes on."""

    def before_step(self, used: float) -> None:
        """``used``: the share of the budget used so far."""

    def after_validation(self, value: float) -> None:
        """``value``: what the newest validation is judged by."""

    def state_dict(self) -> dict[str, Any]:
        """What it needs to go on beside the optimiser's own options."""

    def load_state_dict(self, state: Mapping[str, Any]) -> None:
        """Go on from ``state``."""


class Constant:
    """The learning rate as given, throughout."""

    def before_step(self, used: float) -> None:
        pass

    def after_validation(self, value: float) -> None:
        pass

    def state_dict(self) -> dict[str, Any]:
        return {}

    def load_state_dict(self, state: Mapping[str, Any]) -> None:
        pass


class Factor(Constant):
    """The learning rate as given times a function of the share of the budget used.

    Raises ArgumentError, when it is asked, for a function that gives no finite number from 0 on.
    """

    def __init__(self, optimizer: Optimizer, factor: Callable[[float], float]) -> None:
        self._optimizer = optimizer
        self._factor = factor
        self._rates = [float(group["lr"]) for group in optimizer.param_groups]

    def before_step(self, used: float) -> None:
        factor = self._at(used)
        for group, learning_rate in zip(self._optimizer.param_groups, self._rates, strict=True):
            group["lr"] = learning_rate * factor

    def state_dict(self) -> dict[str, Any]:
        return {"rates": self._rates, "factors": self._factors()}

    def load_state_dict(self, state: Mapping[str, Any]) -> None:
        """Raises ArgumentError when ``state`` is of another function."""
        rates = [float(rate) for rate in state["rates"]]
        if len(rates) != len(self._rates):
            raise ArgumentError(f"schedule: expected {len(self._rates)} rates, got {len(rates)}")
        for share, there, own in zip(_SHARES, state["factors"], self._factors(), strict=True):
            if there != own:
                raise ArgumentError(
                    f"schedule: of another function: {there} there, {own} here, when {share} of "
                    "the budget is used"
                )
        self._rates = rates

    def _factors(self) -> list[float]:
        return [self._at(share) for share in _SHARES]

    def _at(self, used: float) -> float:
        name = f"schedule({used:.3g})"
        factor = as_float(name, self._factor(used))
        check_number(name, factor, below_high=True)
        return factor


class Plateau(Constant):
    """Halves the learning rate when two validations in a row brought no gain."""

    def __init__(self, optimizer: Optimizer, higher_is_better: bool = False) -> None:
        mode = "max" if higher_is_better else "min"
        # A threshold that is a share of the best would take for a gain what is a little worse than
        # a negative loss, such as that of a density.
        self._scheduler = ReduceLROnPlateau(
            optimizer, mode, factor=0.5, patience=1, threshold=0.0
        )

    def after_validation(self, value: float) -> None:
        self._scheduler.step(value)

    def state_dict(self) -> dict[str, Any]:
        return self._scheduler.state_dict()

    def load_state_dict(self, state: Mapping[str, Any]) -> None:
        self._scheduler.load_state_dict(state)


def cosine_factor(used: float) -> float:
    """What the learning rate is multiplied by when the share ``used`` of the budget is gone.

    A short linear warm-up, then half a cosine wave down to a hundredth (SGDR, one cycle);
    Loshchilov and Hutter 2017, equation 5.
    """
    if used < _WARM_UP:
        return max(used / _WARM_UP, _FLOOR)
    through = (used - _WARM_UP) / (1.0 - _WARM_UP)
    return _FLOOR + (1.0 - _FLOOR) * 0.5 * (1.0 + math.cos(math.pi * through))


def make_schedule(
    schedule: str | Callable[[float], float] | Schedule,
    optimizer: Optimizer,
    higher_is_better: bool = False,
) -> Schedule:
    """The schedule "cosine", "plateau" or "constant"; ArgumentError for any other name.

    A function of the share of the budget used gives the factor of the learning rates, and a
    Schedule is returned as it is. ``higher_is_better``: what a plateau is judged by.
    """
    check_kind("optimizer", optimizer, Optimizer)
    higher_is_better = check_bool("higher_is_better", higher_is_better)
    if callable(schedule):
        return Factor(optimizer, schedule)
    if not isinstance(schedule, str) and hasattr(schedule, "before_step"):
        return schedule
    if schedule == "cosine":
        return Factor(optimizer, cosine_factor)
    if schedule == "plateau":
        return Plateau(optimizer, higher_is_better)
    if schedule == "constant":
        return Constant()
    raise ArgumentError(
        f"schedule: expected one of {', '.join(SCHEDULES)}, a function of the share of the budget "
        f"used, or a Schedule, got {schedule!r}"
    )
