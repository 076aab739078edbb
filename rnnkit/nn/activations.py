"""Activation functions and changes of shape as modules, for use in Sequential."""

from __future__ import annotations

from typing import TYPE_CHECKING

from rnnkit.checks import check_integer, check_number
from rnnkit.module import Module
from rnnkit.ops import flatten, log_softmax, relu, sigmoid, softmax, softplus, tanh

if TYPE_CHECKING:
    from rnnkit.autograd import Tensor


class Identity(Module):
    """Returns its input."""

    def forward(self, x: Tensor) -> Tensor:
        return x


class Tanh(Module):
    """tanh(x), elementwise."""

    def forward(self, x: Tensor) -> Tensor:
        return tanh(x)


class ReLU(Module):
    """max(x, 0), elementwise; slope 0 at 0."""

    def forward(self, x: Tensor) -> Tensor:
        return relu(x)


class Sigmoid(Module):
    """1 / (1 + exp(-x)), elementwise."""

    def forward(self, x: Tensor) -> Tensor:
        return sigmoid(x)


class Softplus(Module):
    """log(1 + exp(beta x)) / beta, elementwise."""

    def __init__(self, beta: float = 1.0) -> None:
        super().__init__()
        check_number("beta", beta, above_low=True)
        self.beta = beta

    def forward(self, x: Tensor) -> Tensor:
        return softplus(x, self.beta)

    def extra_repr(self) -> str:
        return f"beta={self.beta}"


class _AlongAxis(Module):
    """A function along an axis, which PyTorch calls ``dim``."""

    def __init__(self, dim: int = -1) -> None:
        super().__init__()
        self.dim = check_integer("dim", dim)

    def extra_repr(self) -> str:
        return f"dim={self.dim}"


class Softmax(_AlongAxis):
    """exp(x) over its sum along the axis ``dim``."""

    def forward(self, x: Tensor) -> Tensor:
        return softmax(x, self.dim)


class LogSoftmax(_AlongAxis):
    """x less the logarithm of the sum of exp(x) along the axis ``dim``."""

    def forward(self, x: Tensor) -> Tensor:
        return log_softmax(x, self.dim)


class Flatten(Module):
    """Merges the axes from ``start_dim`` to ``end_dim``, both included, into one."""

    def __init__(self, start_dim: int = 1, end_dim: int = -1) -> None:
        super().__init__()
        self.start_dim = check_integer("start_dim", start_dim)
        self.end_dim = check_integer("end_dim", end_dim)

    def forward(self, x: Tensor) -> Tensor:
        return flatten(x, self.start_dim, self.end_dim)

    def extra_repr(self) -> str:
        return f"start_dim={self.start_dim}, end_dim={self.end_dim}"
