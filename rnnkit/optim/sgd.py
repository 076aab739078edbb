"""Stochastic gradient descent with momentum.

With gradient g, momentum m, dampening d, learning rate r (Sutskever et al. 2013, in PyTorch's
arrangement):

    g  <- g + weight_decay * p
    b  <- g at the first step, then m * b + (1 - d) * g
    p  <- p - r * b,   or   p - r * (g + m * b) with Nesterov's momentum
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np

from rnnkit.checks import check_bool, check_finite, check_number
from rnnkit.errors import ArgumentError
from rnnkit.optim.optimizer import Optimizer

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping

    from rnnkit.autograd import Tensor


class SGD(Optimizer):
    """``torch.optim.SGD``: same options, defaults and update."""

    kernel = "sgd"
    optional_arrays = ("momentum_buffer",)
    counts_steps = False

    def __init__(
        self,
        params: Iterable[Tensor] | Iterable[dict[str, Any]],
        lr: float = 1e-3,
        momentum: float = 0.0,
        dampening: float = 0.0,
        weight_decay: float = 0.0,
        nesterov: bool = False,
    ) -> None:
        super().__init__(
            params,
            {
                "lr": lr,
                "momentum": momentum,
                "dampening": dampening,
                "weight_decay": weight_decay,
                "nesterov": nesterov,
            },
        )

    def check_options(self, group: Mapping[str, Any]) -> None:
        for name in ("lr", "momentum", "weight_decay"):
            check_number(name, group[name], below_high=True)
        check_finite("dampening", group["dampening"])
        check_bool("nesterov", group["nesterov"])
        if group["nesterov"] and (group["momentum"] == 0 or group["dampening"] != 0):
            raise ArgumentError(
                "nesterov: expected momentum > 0 and dampening 0 with it, "
                f"got momentum {group['momentum']} and dampening {group['dampening']}"
            )

    def _update(
        self, data: np.ndarray, grad: np.ndarray, state: dict[str, Any], group: dict[str, Any]
    ) -> None:
        grad = self._decayed(data, grad, group["weight_decay"])
        change = self._scratch.like(data, "change")
        momentum = group["momentum"]
        direction = grad
        if momentum:
            if "momentum_buffer" in state:
                buffer = self._state_array(state, "momentum_buffer", data)
                buffer *= momentum
                np.multiply(grad, 1 - group["dampening"], out=change)
                buffer += change
            else:
                buffer = state["momentum_buffer"] = grad.copy()
            direction = buffer
            if group["nesterov"]:
                np.multiply(buffer, momentum, out=change)
                change += grad
                direction = change
        np.multiply(direction, group["lr"], out=change)
        data -= change

    def _native_step(
        self, data: np.ndarray, state: dict[str, Any], group: dict[str, Any]
    ) -> tuple[tuple[np.ndarray | None, ...], tuple[float, ...]]:
        momentum, decay, lr = group["momentum"], group["weight_decay"], group["lr"]
        if not momentum:
            return (None,), (decay, 0.0, 1.0, 0.0, lr)
        keep, gain = momentum, 1 - group["dampening"]
        if "momentum_buffer" not in state:
            keep, gain = 0.0, 1.0
        buffer = self._state_array(state, "momentum_buffer", data)
        ahead = momentum if group["nesterov"] else 0.0
        return (buffer,), (decay, keep, gain, ahead, lr)
