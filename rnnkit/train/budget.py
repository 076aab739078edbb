"""How long to train: a number of steps or a span of time."""

from __future__ import annotations

from rnnkit.errors import ArgumentError


class Budget:
    """Measures progress as the share of the budget used, from 0 to 1.

    Whatever follows progress (the learning rate, the times of validation, the bar) follows this
    share, so a run by time anneals as completely as a run by epochs.
    """

    def __init__(self, *, steps: int | None = None, seconds: float | None = None) -> None:
        """Exactly one of ``steps`` and ``seconds``, positive; ArgumentError otherwise."""
        if (steps is None) == (seconds is None):
            raise ArgumentError("budget: expected exactly one of steps and seconds")
        for name, value in (("steps", steps), ("seconds", seconds)):
            if value is not None and not value > 0:
                raise ArgumentError(f"{name}: expected a positive number, got {value}")
        self.steps = steps
        self.seconds = seconds

    def used(self, steps: int, seconds: float) -> float:
        """The share used after ``steps`` steps in ``seconds`` seconds, at most 1."""
        if self.steps is not None:
            return min(1.0, steps / self.steps)
        assert self.seconds is not None
        return min(1.0, seconds / self.seconds)
