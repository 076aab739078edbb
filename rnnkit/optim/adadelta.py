"""Adadelta (Zeiler 2012, arXiv 1212.5701, algorithm 1), in PyTorch's arrangement.

With gradient g, averages v and a, learning rate r:

    v  <- rho v + (1 - rho) g^2
    d   = sqrt(a + eps) / sqrt(v + eps) * g
    a  <- rho a + (1 - rho) d^2
    p  <- p - r d
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np

from rnnkit.checks import check_number
from rnnkit.optim.optimizer import Optimizer

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping

    from rnnkit.autograd import Tensor


class Adadelta(Optimizer):
    """``torch.optim.Adadelta``: same options, defaults and update."""

    state_arrays = ("square_avg", "acc_delta")

    def __init__(
        self,
        params: Iterable[Tensor] | Iterable[dict[str, Any]],
        lr: float = 1.0,
        rho: float = 0.9,
        eps: float = 1e-6,
        weight_decay: float = 0.0,
    ) -> None:
        super().__init__(params, {"lr": lr, "rho": rho, "eps": eps, "weight_decay": weight_decay})

    def check_options(self, group: Mapping[str, Any]) -> None:
        for name in ("lr", "eps", "weight_decay"):
            check_number(name, group[name], below_high=True)
        check_number("rho", group["rho"], high=1.0)

    def _update(
        self, data: np.ndarray, grad: np.ndarray, state: dict[str, Any], group: dict[str, Any]
    ) -> None:
        rho, eps = group["rho"], group["eps"]
        grad = self._decayed(data, grad, group["weight_decay"])
        square = self._state_array(state, "square_avg", data)
        moved = self._state_array(state, "acc_delta", data)
        work, delta = [self._scratch.like(data, use) for use in ("work", "delta")]

        square *= rho
        np.multiply(grad, 1 - rho, out=work)
        work *= grad
        square += work

        np.add(moved, eps, out=delta)
        np.sqrt(delta, out=delta)
        np.add(square, eps, out=work)
        np.sqrt(work, out=work)
        delta /= work
        delta *= grad

        moved *= rho
        np.multiply(delta, 1 - rho, out=work)
        work *= delta
        moved += work

        delta *= group["lr"]
        data -= delta
