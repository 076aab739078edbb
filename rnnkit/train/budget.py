"""How long to train: a number of steps, passes over the data, or a span of time."""

from __future__ import annotations

from rnnkit.checks import check_number
from rnnkit.errors import ArgumentError


class Budget:
    """Measures progress as the share of the budget used, from 0 to 1.

    Whatever follows progress (the learning rate, the times of validation, the bar) follows this
    share, so a run by time anneals as completely as a run by epochs.
    """

    def __init__(
        self,
        *,
        steps: int | None = None,
        seconds: float | None = None,
        epochs: float | None = None,
    ) -> None:
        """Exactly one of the three, positive, and whole steps; ArgumentError otherwise."""
        given = {"steps": steps, "seconds": seconds, "epochs": epochs}
        if sum(value is not None for value in given.values()) != 1:
            raise ArgumentError("budget: expected exactly one of steps, seconds and epochs")
        for name, value in given.items():
            if value is not None:
                check_number(name, value, above_low=True, below_high=True)
        if steps is not None and steps != int(steps):
            raise ArgumentError(f"steps: expected a whole number, got {steps}")
        self.steps = None if steps is None else int(steps)
        self.seconds = seconds
        self.epochs = epochs

    def in_steps(self, steps_per_epoch: float) -> Budget:
        """This budget, with epochs turned into at least one step.

        Raises ArgumentError for more steps than can be counted.
        """
        if self.epochs is None:
            return self
        steps = self.epochs * steps_per_epoch
        if steps >= 1 << 63:
            raise ArgumentError(f"epochs: {self.epochs} are more steps than can be counted")
        return Budget(steps=max(1, round(steps)))

    def used(self, steps: int, seconds: float) -> float:
        """The share used after ``steps`` steps in ``seconds`` seconds, at most 1.

        Raises ArgumentError for a budget in epochs: only the trainer knows how long one is.
        """
        if self.steps is not None:
            return min(1.0, steps / self.steps)
        if self.seconds is not None:
            return min(1.0, seconds / self.seconds)
        raise ArgumentError("budget: in epochs; in_steps() turns it into one in steps")
