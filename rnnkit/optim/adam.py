"""Adam (Kingma and Ba 2015, algorithm 1) and AdamW (Loshchilov and Hutter 2019, algorithm 2).

With gradient g, averages m and v, step t, learning rate r:

    m  <- m + (1 - beta1) (g - m)
    v  <- beta2 v + (1 - beta2) g^2
    p  <- p - r / (1 - beta1^t) * m / (sqrt(v) / sqrt(1 - beta2^t) + eps)

Adam adds weight_decay * p to g first; AdamW multiplies p by 1 - r * weight_decay instead.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, ClassVar

import numpy as np

from rnnkit.checks import check_number
from rnnkit.errors import ArgumentError
from rnnkit.optim.optimizer import Optimizer

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping

    from rnnkit.autograd import Tensor


class Adam(Optimizer):
    """``torch.optim.Adam`` without amsgrad: same options, defaults and update."""

    kernel = "adam"
    state_arrays = ("exp_avg", "exp_avg_sq")
    decoupled_weight_decay: ClassVar[bool] = False

    def __init__(
        self,
        params: Iterable[Tensor] | Iterable[dict[str, Any]],
        lr: float = 1e-3,
        betas: tuple[float, float] = (0.9, 0.999),
        eps: float = 1e-8,
        weight_decay: float = 0.0,
    ) -> None:
        super().__init__(
            params, {"lr": lr, "betas": betas, "eps": eps, "weight_decay": weight_decay}
        )

    def check_options(self, group: Mapping[str, Any]) -> None:
        for name in ("lr", "eps", "weight_decay"):
            check_number(name, group[name], below_high=True)
        betas = group["betas"]
        if not isinstance(betas, (tuple, list)) or len(betas) != 2:
            raise ArgumentError(f"betas: expected a pair of numbers, got {betas!r}")
        for position, beta in enumerate(betas):
            check_number(f"betas[{position}]", beta, high=1.0, below_high=True)

    def _update(
        self, data: np.ndarray, grad: np.ndarray, state: dict[str, Any], group: dict[str, Any]
    ) -> None:
        lr, step = group["lr"], state["step"]
        beta1, beta2 = group["betas"]
        _, mean, square = self._averages(data, grad, state, group)
        work = self._scratch.like(data, "work")

        np.sqrt(square, out=work)
        work /= (1 - beta2**step) ** 0.5
        work += group["eps"]
        np.divide(mean, work, out=work)
        work *= lr / (1 - beta1**step)
        data -= work

    def _after_decay(
        self, data: np.ndarray, grad: np.ndarray, group: dict[str, Any]
    ) -> np.ndarray:
        """The gradient to go by; a decoupled decay has shrunk ``data`` then."""
        decay = group["weight_decay"]
        if not group.get("decoupled_weight_decay", self.decoupled_weight_decay):
            return self._decayed(data, grad, decay)
        data *= 1 - group["lr"] * decay
        return grad

    def _moved_mean(
        self, data: np.ndarray, grad: np.ndarray, state: dict[str, Any], beta: float
    ) -> np.ndarray:
        mean = self._state_array(state, "exp_avg", data)
        work = self._scratch.like(data, "work")
        np.subtract(grad, mean, out=work)
        work *= 1 - beta
        mean += work
        return mean

    def _averages(
        self, data: np.ndarray, grad: np.ndarray, state: dict[str, Any], group: dict[str, Any]
    ) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
        """The gradient to go by, and the averages of it and of its square, moved on."""
        beta1, beta2 = group["betas"]
        grad = self._after_decay(data, grad, group)
        mean = self._moved_mean(data, grad, state, beta1)
        square = self._state_array(state, "exp_avg_sq", data)
        work = self._scratch.like(data, "work")
        square *= beta2
        np.multiply(grad, 1 - beta2, out=work)
        work *= grad
        square += work
        return grad, mean, square

    def _native_step(
        self, data: np.ndarray, state: dict[str, Any], group: dict[str, Any]
    ) -> tuple[tuple[np.ndarray | None, ...], tuple[float, ...]]:
        lr, decay, step = group["lr"], group["weight_decay"], state["step"]
        beta1, beta2 = group["betas"]
        shrink = 1.0
        if self.decoupled_weight_decay:
            decay, shrink = 0.0, 1 - lr * decay
        correction = (1 - beta2**step) ** 0.5
        rate = lr / (1 - beta1**step)
        return (
            self._state_array(state, "exp_avg", data),
            self._state_array(state, "exp_avg_sq", data),
        ), (decay, shrink, 1 - beta1, beta2, correction, group["eps"], rate)


class AdamW(Adam):
    """``torch.optim.AdamW`` without amsgrad: same options, defaults and update."""

    decoupled_weight_decay = True

    def __init__(
        self,
        params: Iterable[Tensor] | Iterable[dict[str, Any]],
        lr: float = 1e-3,
        betas: tuple[float, float] = (0.9, 0.999),
        eps: float = 1e-8,
        weight_decay: float = 1e-2,
    ) -> None:
        super().__init__(params, lr, betas, eps, weight_decay)
