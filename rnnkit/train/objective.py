"""What a model is trained on: a loss over some items, its metrics, and how they are shown."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from types import MappingProxyType
from typing import Any, NamedTuple, TypeAlias

from rnnkit.autograd import Tensor
from rnnkit.checks import as_float, check_callable, check_number
from rnnkit.errors import ArgumentError, DTypeError, ShapeError
from rnnkit.module import Module


class Loss(NamedTuple):
    """What an objective returns for a batch.

    Attributes:
        value: (), the mean over the items; what is differentiated.
        count: how many items: characters, frames, sequences; 0 leaves the batch out.
        state: carried to the next batch, unless that one starts an epoch.
        metrics: sums over the items, by name; "loss" is the value's.
    """

    value: Tensor
    count: int  # type: ignore[assignment]  # a tuple has a method of that name
    state: Any = None
    metrics: Mapping[str, float] = MappingProxyType({})


Objective: TypeAlias = Callable[[Any, Any], Loss]
"""``objective(batch, state)``; ``state`` is what it returned for the batch before, or None."""


def objective_of(model: Module, objective: Objective | None) -> Objective:
    """``objective``, by default ``model.loss``. Raises ArgumentError where there is neither."""
    found: Objective | None = getattr(model, "loss", None) if objective is None else objective
    if found is None:
        raise ArgumentError(
            f"objective: expected one, as {type(model).__name__} has no method loss"
        )
    check_callable("objective", found)
    return found


def loss_of(objective: Objective, batch: Any, state: Any) -> Loss:
    """What ``objective`` says of a batch, its numbers as Python's.

    Raises DTypeError when that is no `Loss` of a Tensor; ShapeError for a value of more than one
    element; ArgumentError for a count that is no whole number from 0 on, and for metrics that are
    no numbers by name.
    """
    loss = objective(batch, state)
    if not isinstance(loss, Loss):
        raise DTypeError(
            f"objective: expected it to return a Loss(value, count), got {type(loss).__name__}"
        )
    if not isinstance(loss.value, Tensor):
        raise DTypeError(
            f"objective: value: expected a Tensor, the mean loss, got {type(loss.value).__name__}"
        )
    if loss.value.size != 1:
        raise ShapeError(
            f"objective: value: expected one number, the mean loss, got shape {loss.value.shape}"
        )
    return loss._replace(count=_count(loss.count), metrics=_metrics(loss.metrics))


def _count(count: Any) -> int:
    # What is counted with NumPy need not be an int: the sum of a mask of floats is not.
    check_number("objective: count", count, below_high=True)
    if count != int(count):
        raise ArgumentError(f"objective: count: expected a whole number, got {count!r}")
    return int(count)


def _metrics(metrics: Any) -> dict[str, float]:
    if not isinstance(metrics, Mapping):
        raise ArgumentError(f"objective: metrics: expected numbers by name, got {metrics!r}")
    found = {}
    for name, value in metrics.items():
        if not isinstance(name, str) or name == "loss":
            raise ArgumentError(
                f"objective: metrics: expected names other than 'loss', got {name!r}"
            )
        found[name] = as_float(f"objective: metrics: {name}", value)
    return found


class Measure(NamedTuple):
    """What a run is judged by, and how that is shown.

    Attributes:
        name: "loss", or one of the objective's metrics.
        unit: what stands behind the number.
        scale: what is shown is the value times this.
        digits: how many of them behind the point.
        higher_is_better: whether a larger value is a gain.
        items: what the objective counts, in words.
    """

    name: str = "loss"
    unit: str = ""
    scale: float = 1.0
    digits: int = 4
    higher_is_better: bool = False
    items: str = "items"

    def show(self, value: float) -> str:
        """``value`` in the unit in which it is shown, the unit left out."""
        return f"{value * self.scale:.{self.digits}f}"

    @property
    def label(self) -> str:
        """The unit, or where there is none the name."""
        return self.unit or self.name

    def is_better(self, value: float, than: float) -> bool:
        """Whether ``value`` is a gain over ``than``."""
        return value > than if self.higher_is_better else value < than


class Mean:
    """The mean loss and metrics of many batches, each item counting the same."""

    def __init__(self) -> None:
        self.count = 0
        self._sums: dict[str, float] = {}

    def add(self, count: int, sums: Mapping[str, float]) -> None:
        """``count`` items more, and what they add up to."""
        self.count += count
        for name, value in sums.items():
            self._sums[name] = self._sums.get(name, 0.0) + value

    def add_means(self, count: int, means: Mapping[str, float]) -> None:
        """``count`` items more, and what they are on average."""
        self.add(count, {name: value * count for name, value in means.items()})

    def means(self) -> dict[str, float]:
        """By name. There must be at least one item."""
        return {name: value / self.count for name, value in self._sums.items()}

    def clear(self) -> None:
        """Begin anew."""
        self.count = 0
        self._sums.clear()

    def state_dict(self) -> dict[str, Any]:
        """What `load_state_dict` takes; JSON-able."""
        return {"count": self.count, "sums": dict(self._sums)}

    def load_state_dict(self, state: Mapping[str, Any]) -> None:
        """Go on from ``state``."""
        self.count = int(state["count"])
        self._sums = {str(name): float(value) for name, value in state["sums"].items()}
