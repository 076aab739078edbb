"""Functions under PyTorch's names: ``from rnnkit.nn import functional as F``.

They are those of `rnnkit.ops` and `rnnkit.losses`. Losses have the classes in the last axis.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from rnnkit import ops
from rnnkit.losses import (
    binary_cross_entropy,
    binary_cross_entropy_with_logits,
    cross_entropy,
    ctc_loss,
    gaussian_nll_loss,
    huber_loss,
    kl_div,
    l1_loss,
    mse_loss,
    nll_loss,
    poisson_nll_loss,
    smooth_l1_loss,
)
from rnnkit.ops import (
    dropout,
    embedding,
    layer_norm,
    linear,
    one_hot,
    relu,
    sigmoid,
    softplus,
    tanh,
)
from rnnkit.ops.operands import real

if TYPE_CHECKING:
    from rnnkit.autograd import Tensor

__all__ = [
    "binary_cross_entropy",
    "binary_cross_entropy_with_logits",
    "cross_entropy",
    "ctc_loss",
    "dropout",
    "embedding",
    "gaussian_nll_loss",
    "huber_loss",
    "kl_div",
    "l1_loss",
    "layer_norm",
    "linear",
    "log_softmax",
    "logsigmoid",
    "mse_loss",
    "nll_loss",
    "one_hot",
    "poisson_nll_loss",
    "relu",
    "sigmoid",
    "smooth_l1_loss",
    "softmax",
    "softplus",
    "tanh",
]


def softmax(input: Tensor, dim: int = -1) -> Tensor:
    """`ops.softmax` along an axis that PyTorch calls ``dim``."""
    return ops.softmax(input, dim)


def log_softmax(input: Tensor, dim: int = -1) -> Tensor:
    """`ops.log_softmax` along an axis that PyTorch calls ``dim``."""
    return ops.log_softmax(input, dim)


def logsigmoid(input: Tensor) -> Tensor:
    """log(sigmoid(x)), without overflow."""
    return -softplus(-real("logsigmoid: input", input))
