"""The mean loss and metrics of a model over some data."""

from __future__ import annotations

from typing import Any

from rnnkit.autograd import no_grad
from rnnkit.checks import check_kind
from rnnkit.data import Batches
from rnnkit.data.batches import check_batches
from rnnkit.errors import ArgumentError
from rnnkit.module import Module, evaluating
from rnnkit.train.objective import Mean, Objective, loss_of, objective_of


def evaluate(
    model: Module, batches: Batches[Any], objective: Objective | None = None
) -> dict[str, float]:
    """The mean "loss" and metrics over one ordered pass, in evaluation mode.

    ``objective``: by default ``model.loss``. Raises ArgumentError when there is none, or no item,
    and DTypeError when it returns something else than a `Loss`.
    """
    check_kind("model", model, Module)
    objective = objective_of(model, objective)
    check_batches("batches", batches)
    mean, state = Mean(), None
    with no_grad(), evaluating(model):
        for batch in batches.epoch():
            loss = loss_of(objective, batch, None if batch.starts_epoch else state)
            state = loss.state
            if loss.count:
                value = loss.value.item() * loss.count
                mean.add(loss.count, {"loss": value, **loss.metrics})
    if not mean.count:
        raise ArgumentError("batches: there is no item to evaluate")
    return mean.means()
