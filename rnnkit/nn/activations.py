"""Activation functions as modules, for use in Sequential."""

from __future__ import annotations

from typing import TYPE_CHECKING

from rnnkit.module import Module
from rnnkit.ops import relu, sigmoid, tanh

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
