"""Adam with Nesterov's momentum, with a rectified rate, and with the largest gradient.

With m, v, t, g, r and p as in `rnnkit.optim.adam`, in PyTorch's arrangement:

NAdam (Dozat 2016), with mu_t = beta1 (1 - 0.96^(t momentum_decay) / 2) and M_t = mu_1 ... mu_t:

    p  <- p - r (c g + d m) / (sqrt(v / (1 - beta2^t)) + eps)
    c   = (1 - mu_t) / (1 - M_t),   d = mu_{t+1} / (1 - M_{t+1})

RAdam (Liu et al. 2020, algorithm 2), with q = 2 / (1 - beta2) - 1 and
q_t = q - 2 t beta2^t / (1 - beta2^t):

    p  <- p - r m / (1 - beta1^t) * s_t
    s_t = sqrt((q_t - 4) (q_t - 2) q / ((q - 4) (q - 2) q_t)) sqrt(1 - beta2^t) / (sqrt(v) + eps)
          where q_t > 5, else 1

Adamax (Kingma and Ba 2015, algorithm 2):

    u  <- max(beta2 u, |g| + eps)
    p  <- p - r / (1 - beta1^t) * m / u
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np

from rnnkit.checks import check_bool, check_number
from rnnkit.optim.adam import Adam
from rnnkit.optim.optimizer import Optimizer

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping

    from rnnkit.autograd import Tensor


class NAdam(Adam):
    """``torch.optim.NAdam``: same options, defaults and update."""

    state_numbers = ("mu_product",)

    def __init__(
        self,
        params: Iterable[Tensor] | Iterable[dict[str, Any]],
        lr: float = 2e-3,
        betas: tuple[float, float] = (0.9, 0.999),
        eps: float = 1e-8,
        weight_decay: float = 0.0,
        momentum_decay: float = 4e-3,
        decoupled_weight_decay: bool = False,
    ) -> None:
        Optimizer.__init__(
            self,
            params,
            {
                "lr": lr,
                "betas": betas,
                "eps": eps,
                "weight_decay": weight_decay,
                "momentum_decay": momentum_decay,
                "decoupled_weight_decay": decoupled_weight_decay,
            },
        )

    def check_options(self, group: Mapping[str, Any]) -> None:
        super().check_options(group)
        check_number("momentum_decay", group["momentum_decay"], below_high=True)
        check_bool("decoupled_weight_decay", group["decoupled_weight_decay"])

    def _update(
        self, data: np.ndarray, grad: np.ndarray, state: dict[str, Any], group: dict[str, Any]
    ) -> None:
        lr, step = group["lr"], state["step"]
        beta1, beta2 = group["betas"]
        grad, mean, square = self._averages(data, grad, state, group)
        now, ahead = [
            beta1 * (1 - 0.5 * 0.96 ** (t * group["momentum_decay"])) for t in (step, step + 1)
        ]
        product = state["mu_product"] = state.get("mu_product", 1.0) * now

        scale = self._scratch.like(data, "scale")
        np.divide(square, 1 - beta2**step, out=scale)
        np.sqrt(scale, out=scale)
        scale += group["eps"]
        work = self._scratch.like(data, "work")
        for direction, share in (
            (grad, (1 - now) / (1 - product)),
            (mean, ahead / (1 - product * ahead)),
        ):
            np.divide(direction, scale, out=work)
            work *= lr * share
            data -= work


class RAdam(Adam):
    """``torch.optim.RAdam``: same options, defaults and update."""

    def __init__(
        self,
        params: Iterable[Tensor] | Iterable[dict[str, Any]],
        lr: float = 1e-3,
        betas: tuple[float, float] = (0.9, 0.999),
        eps: float = 1e-8,
        weight_decay: float = 0.0,
        decoupled_weight_decay: bool = False,
    ) -> None:
        Optimizer.__init__(
            self,
            params,
            {
                "lr": lr,
                "betas": betas,
                "eps": eps,
                "weight_decay": weight_decay,
                "decoupled_weight_decay": decoupled_weight_decay,
            },
        )

    def check_options(self, group: Mapping[str, Any]) -> None:
        super().check_options(group)
        check_bool("decoupled_weight_decay", group["decoupled_weight_decay"])

    def _update(
        self, data: np.ndarray, grad: np.ndarray, state: dict[str, Any], group: dict[str, Any]
    ) -> None:
        step = state["step"]
        beta1, beta2 = group["betas"]
        _, mean, square = self._averages(data, grad, state, group)
        rate = group["lr"] / (1 - beta1**step)
        work = self._scratch.like(data, "work")

        rest = 1 - beta2**step
        limit = 2 / (1 - beta2) - 1
        length = limit - 2 * step * beta2**step / rest
        if length > 5:
            share = (length - 4) * (length - 2) * limit / ((limit - 4) * (limit - 2) * length)
            np.sqrt(square, out=work)
            work += group["eps"]
            np.divide(mean, work, out=work)
            work *= rate * share**0.5 * rest**0.5
        else:
            np.multiply(mean, rate, out=work)
        data -= work


class Adamax(Adam):
    """``torch.optim.Adamax``: same options, defaults and update."""

    state_arrays = ("exp_avg", "exp_inf")

    def __init__(
        self,
        params: Iterable[Tensor] | Iterable[dict[str, Any]],
        lr: float = 2e-3,
        betas: tuple[float, float] = (0.9, 0.999),
        eps: float = 1e-8,
        weight_decay: float = 0.0,
    ) -> None:
        super().__init__(params, lr, betas, eps, weight_decay)

    def _update(
        self, data: np.ndarray, grad: np.ndarray, state: dict[str, Any], group: dict[str, Any]
    ) -> None:
        beta1, beta2 = group["betas"]
        grad = self._after_decay(data, grad, group)
        mean = self._moved_mean(data, grad, state, beta1)
        largest = self._state_array(state, "exp_inf", data)
        work = self._scratch.like(data, "work")

        largest *= beta2
        np.abs(grad, out=work)
        work += group["eps"]
        np.maximum(largest, work, out=largest)
        np.divide(mean, largest, out=work)
        work *= group["lr"] / (1 - beta1 ** state["step"])
        data -= work
