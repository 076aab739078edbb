"""Everything that decides a run, as one checked, JSON-able value."""

from __future__ import annotations

import dataclasses
import math
from collections.abc import Mapping
from typing import Any

from rnnkit.errors import ArgumentError
from rnnkit.train.schedules import SCHEDULES

DEFAULT_MINUTES = 1.8

# Beyond these a settings file is damaged or hostile; nothing is allocated for it.
_LARGEST = {
    "layers": 64,
    "hidden": 1 << 16,
    "embedding": 1 << 16,
    "batch": 1 << 16,
    "length": 1 << 20,
    "validations": 1 << 20,
}


@dataclasses.dataclass(frozen=True)
class Settings:
    """Settings of a language model run. Raises ArgumentError naming a field that is out of range.

    At most one of ``epochs`` and ``minutes`` may be given; with neither, ``minutes`` is 1.8.
    """

    cell: str = "lstm"
    layers: int = 1
    hidden: int = 256
    embedding: int = 64
    dropout: float = 0.25
    batch: int = 16
    length: int = 64
    lr: float = 0.008
    schedule: str = "cosine"
    clip: float = 1.0
    epochs: float | None = None
    minutes: float | None = None
    validations: int = 20
    seed: int = 0

    def __post_init__(self) -> None:
        _one_of("cell", self.cell, ("rnn", "gru", "lstm"))
        _one_of("schedule", self.schedule, SCHEDULES)
        for name, largest in _LARGEST.items():
            value = getattr(self, name)
            if not _is_integer(value) or not 1 <= value <= largest:
                raise ArgumentError(
                    f"{name}: expected an integer from 1 to {largest}, got {value!r}"
                )
        if not _is_integer(self.seed) or not 0 <= self.seed < 1 << 64:
            raise ArgumentError(f"seed: expected an integer from 0 to 2**64 - 1, got {self.seed!r}")
        for name in ("lr", "clip"):
            _positive(name, getattr(self, name))
        if not _is_real(self.dropout) or not 0 <= self.dropout < 1:
            raise ArgumentError(
                f"dropout: expected a number from 0 to less than 1, got {self.dropout!r}"
            )
        if self.epochs is not None and self.minutes is not None:
            raise ArgumentError("epochs: not allowed together with minutes")
        if self.epochs is None and self.minutes is None:
            object.__setattr__(self, "minutes", DEFAULT_MINUTES)
        for name in ("epochs", "minutes"):
            if getattr(self, name) is not None:
                _positive(name, getattr(self, name))

    def as_dict(self) -> dict[str, Any]:
        """The fields by name, as JSON can hold them."""
        return dataclasses.asdict(self)

    @classmethod
    def from_dict(cls, values: Mapping[str, Any]) -> Settings:
        """The settings that ``as_dict`` gave. Raises ArgumentError for unknown names."""
        known = {field.name for field in dataclasses.fields(cls)}
        strange = sorted(set(values) - known)
        if strange:
            raise ArgumentError(f"settings: unknown names {', '.join(strange)}")
        return cls(**values)


def _is_integer(value: object) -> bool:
    return isinstance(value, int) and not isinstance(value, bool)


def _is_real(value: object) -> bool:
    return _is_integer(value) or (isinstance(value, float) and math.isfinite(value))


def _positive(name: str, value: Any) -> None:
    if not _is_real(value) or not value > 0:
        raise ArgumentError(f"{name}: expected a positive number, got {value!r}")


def _one_of(name: str, value: object, choices: tuple[str, ...]) -> None:
    if value not in choices:
        raise ArgumentError(f"{name}: expected one of {', '.join(choices)}, got {value!r}")
