"""What decides a run of any task, as one checked, JSON-able value; tasks add their own fields."""

from __future__ import annotations

import dataclasses
import math
from collections.abc import Mapping
from typing import Any, ClassVar, Self

from rnnkit.errors import ArgumentError
from rnnkit.train.options import described, setting
from rnnkit.train.schedules import SCHEDULES

DEFAULT_MINUTES = 1.8
_LONGEST = 1_000_000_000  # epochs, or minutes

_TRAINING = "training"


@dataclasses.dataclass(frozen=True)
class Settings:
    """Settings of any run. Raises ArgumentError naming a field that is out of range.

    At most one of ``epochs`` and ``minutes`` may be given; with neither, ``minutes`` is 1.8.
    ``ema`` is the decay of an average of the weights, which then is validated and kept.
    A task derives its own from it, with further fields and defaults of its own; what `setting` says
    of a field is what the command line shows, and its choices are held here.
    """

    batch: int = setting(16, "sequences side by side", group=_TRAINING)
    accumulate: int = setting(1, "batches of an optimiser's step", group=_TRAINING)
    lr: float = setting(0.002, "peak learning rate", group=_TRAINING)
    weight_decay: float = setting(0.01, "AdamW's", group=_TRAINING)
    schedule: str = setting(
        "cosine", "learning rate over the run", choices=SCHEDULES, group=_TRAINING
    )
    clip: float = setting(1.0, "largest gradient norm", group=_TRAINING)
    ema: float | None = setting(
        None,
        "validate and keep an average of the weights, such as 0.999 (default: the last ones)",
        metavar="DECAY",
        group=_TRAINING,
    )
    epochs: float | None = setting(
        None, "passes over the training part", exclusive="budget", group=_TRAINING
    )
    minutes: float | None = setting(
        None,
        f"time budget (default {DEFAULT_MINUTES}, unless --epochs is given)",
        exclusive="budget",
        group=_TRAINING,
    )
    validations: int = setting(20, "validations over the run", group=_TRAINING)
    patience: int | None = setting(
        None,
        "stop after N validations in a row without a gain (default: never)",
        group=_TRAINING,
    )
    seed: int = setting(0, "seed of every random number", group=_TRAINING)

    # Beyond these a settings file is damaged or hostile; nothing is allocated for it.
    largest: ClassVar[Mapping[str, int]] = {
        "batch": 1 << 16,
        "accumulate": 1 << 16,
        "validations": 1 << 20,
    }

    def __post_init__(self) -> None:
        for field in dataclasses.fields(self):
            value, about = getattr(self, field.name), described(type(self), field.name)
            if about.choices:
                one_of(field.name, value, about.choices)
            if isinstance(field.default, bool) and not isinstance(value, bool):
                raise ArgumentError(f"{field.name}: expected true or false, got {value!r}")
        for name, largest in self.largest.items():
            integer(name, getattr(self, name), 1, largest)
        if not is_integer(self.seed) or not 0 <= self.seed < 1 << 64:
            raise ArgumentError(f"seed: expected an integer from 0 to 2**64 - 1, got {self.seed!r}")
        for name in ("lr", "clip"):
            positive(name, getattr(self, name))
        if not is_real(self.weight_decay) or self.weight_decay < 0:
            raise ArgumentError(f"weight_decay: expected 0 or more, got {self.weight_decay!r}")
        if self.ema is not None:
            probability("ema", self.ema)
        if self.patience is not None:
            integer("patience", self.patience, 1, 1 << 20)
        if self.epochs is not None and self.minutes is not None:
            raise ArgumentError("epochs: not allowed together with minutes")
        if self.epochs is None and self.minutes is None:
            object.__setattr__(self, "minutes", DEFAULT_MINUTES)
        for name in ("epochs", "minutes"):
            value = getattr(self, name)
            if value is not None:
                positive(name, value)
                if value > _LONGEST:
                    raise ArgumentError(f"{name}: expected at most {_LONGEST:,}, got {value!r}")

    def as_dict(self) -> dict[str, Any]:
        """The fields by name, as JSON can hold them."""
        return dataclasses.asdict(self)

    @classmethod
    def from_dict(cls, values: Mapping[str, Any]) -> Self:
        """The settings that ``as_dict`` gave. Raises ArgumentError for unknown names."""
        known = {field.name for field in dataclasses.fields(cls)}
        strange = sorted(set(values) - known)
        if strange:
            raise ArgumentError(f"settings: unknown names {', '.join(strange)}")
        return cls(**values)


def is_integer(value: object) -> bool:
    """Whether it is an int, and no bool."""
    return isinstance(value, int) and not isinstance(value, bool)


def is_real(value: object) -> bool:
    """Whether it is a finite number."""
    return is_integer(value) or (isinstance(value, float) and math.isfinite(value))


def integer(name: str, value: Any, least: int, largest: int) -> None:
    """Raise ArgumentError unless ``value`` is an integer from ``least`` to ``largest``."""
    if not is_integer(value) or not least <= value <= largest:
        raise ArgumentError(
            f"{name}: expected an integer from {least} to {largest}, got {value!r}"
        )


def positive(name: str, value: Any) -> None:
    """Raise ArgumentError unless ``value`` is a finite number above 0."""
    if not is_real(value) or not value > 0:
        raise ArgumentError(f"{name}: expected a positive number, got {value!r}")


def probability(name: str, value: Any) -> None:
    """Raise ArgumentError unless ``value`` is a number from 0 to less than 1."""
    if not is_real(value) or not 0 <= value < 1:
        raise ArgumentError(f"{name}: expected a number from 0 to less than 1, got {value!r}")


def one_of(name: str, value: object, choices: tuple[str, ...]) -> None:
    """Raise ArgumentError unless ``value`` is among ``choices``."""
    if value not in choices:
        raise ArgumentError(f"{name}: expected one of {', '.join(choices)}, got {value!r}")
