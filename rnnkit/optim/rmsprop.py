"""RMSprop (Hinton 2012, lecture 6e; centered: Graves 2013, arXiv 1308.0850, section 4.2).

With gradient g, averages v and a, momentum buffer b, learning rate r:

    v  <- alpha v + (1 - alpha) g^2
    a  <- a + (1 - alpha) (g - a)                          (centered)
    d   = g / (sqrt(v) + eps)   or   g / (sqrt(v - a^2) + eps)
    p  <- p - r d,   or with momentum   b <- momentum b + d,  p <- p - r b
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np

from rnnkit.checks import check_bool, check_number
from rnnkit.optim.optimizer import Optimizer

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping

    from rnnkit.autograd import Tensor


class RMSprop(Optimizer):
    """``torch.optim.RMSprop``: same options, defaults and update."""

    kernel = "rmsprop"
    state_arrays = ("square_avg",)
    optional_arrays = ("grad_avg", "momentum_buffer")

    def __init__(
        self,
        params: Iterable[Tensor] | Iterable[dict[str, Any]],
        lr: float = 1e-2,
        alpha: float = 0.99,
        eps: float = 1e-8,
        weight_decay: float = 0.0,
        momentum: float = 0.0,
        centered: bool = False,
    ) -> None:
        super().__init__(
            params,
            {
                "lr": lr,
                "alpha": alpha,
                "eps": eps,
                "weight_decay": weight_decay,
                "momentum": momentum,
                "centered": centered,
            },
        )

    def check_options(self, group: Mapping[str, Any]) -> None:
        for name in ("lr", "alpha", "eps", "weight_decay", "momentum"):
            check_number(name, group[name], below_high=True)
        check_bool("centered", group["centered"])

    def _update(
        self, data: np.ndarray, grad: np.ndarray, state: dict[str, Any], group: dict[str, Any]
    ) -> None:
        alpha, momentum = group["alpha"], group["momentum"]
        grad = self._decayed(data, grad, group["weight_decay"])
        square = self._state_array(state, "square_avg", data)
        work = self._scratch.like(data, "work")

        square *= alpha
        np.multiply(grad, 1 - alpha, out=work)
        work *= grad
        square += work

        if group["centered"]:
            mean = self._state_array(state, "grad_avg", data)
            np.subtract(grad, mean, out=work)
            work *= 1 - alpha
            mean += work
            np.multiply(mean, mean, out=work)
            np.subtract(square, work, out=work)
            # A steady gradient makes this zero, and rounding may make it a little less.
            np.maximum(work, 0, out=work)
            np.sqrt(work, out=work)
        else:
            np.sqrt(square, out=work)
        work += group["eps"]
        np.divide(grad, work, out=work)
        if momentum:
            buffer = self._state_array(state, "momentum_buffer", data)
            buffer *= momentum
            buffer += work
            np.multiply(buffer, group["lr"], out=work)
        else:
            work *= group["lr"]
        data -= work

    def _native_step(
        self, data: np.ndarray, state: dict[str, Any], group: dict[str, Any]
    ) -> tuple[tuple[np.ndarray | None, ...], tuple[float, ...]]:
        momentum = group["momentum"]
        return (
            self._state_array(state, "square_avg", data),
            self._state_array(state, "grad_avg", data) if group["centered"] else None,
            self._state_array(state, "momentum_buffer", data) if momentum else None,
        ), (group["weight_decay"], group["alpha"], group["eps"], momentum, group["lr"])
