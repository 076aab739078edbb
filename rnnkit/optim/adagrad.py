"""Adagrad (Duchi, Hazan and Singer 2011), in PyTorch's arrangement.

With gradient g, accumulated squares s, step t, learning rate r:

    s  <- s + g^2
    p  <- p - r / (1 + (t - 1) lr_decay) * g / (sqrt(s) + eps)
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np

from rnnkit.checks import check_number
from rnnkit.optim.optimizer import Optimizer

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping

    from rnnkit.autograd import Tensor


class Adagrad(Optimizer):
    """``torch.optim.Adagrad``: same options, defaults and update."""

    kernel = "adagrad"
    state_arrays = ("sum",)

    def __init__(
        self,
        params: Iterable[Tensor] | Iterable[dict[str, Any]],
        lr: float = 1e-2,
        lr_decay: float = 0.0,
        weight_decay: float = 0.0,
        initial_accumulator_value: float = 0.0,
        eps: float = 1e-10,
    ) -> None:
        super().__init__(
            params,
            {
                "lr": lr,
                "lr_decay": lr_decay,
                "weight_decay": weight_decay,
                "initial_accumulator_value": initial_accumulator_value,
                "eps": eps,
            },
        )

    def check_options(self, group: Mapping[str, Any]) -> None:
        for name in ("lr", "lr_decay", "weight_decay", "initial_accumulator_value", "eps"):
            check_number(name, group[name], below_high=True)

    def _update(
        self, data: np.ndarray, grad: np.ndarray, state: dict[str, Any], group: dict[str, Any]
    ) -> None:
        grad = self._decayed(data, grad, group["weight_decay"])
        total = self._state_array(state, "sum", data, fill=group["initial_accumulator_value"])
        work = self._scratch.like(data, "work")

        np.multiply(grad, grad, out=work)
        total += work

        np.sqrt(total, out=work)
        work += group["eps"]
        np.divide(grad, work, out=work)
        work *= group["lr"] / (1 + (state["step"] - 1) * group["lr_decay"])
        data -= work

    def _native_step(
        self, data: np.ndarray, state: dict[str, Any], group: dict[str, Any]
    ) -> tuple[tuple[np.ndarray | None, ...], tuple[float, ...]]:
        total = self._state_array(state, "sum", data, fill=group["initial_accumulator_value"])
        rate = group["lr"] / (1 + (state["step"] - 1) * group["lr_decay"])
        return (total,), (group["weight_decay"], group["eps"], rate)
