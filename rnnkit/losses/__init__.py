"""Loss functions, under PyTorch's names and under short ones."""

from rnnkit.losses.classification import cross_entropy, nll_loss
from rnnkit.losses.ctc import ctc_loss
from rnnkit.losses.linear_cross_entropy import linear_cross_entropy
from rnnkit.losses.regression import (
    binary_cross_entropy_with_logits,
    l1_loss,
    mse_loss,
    smooth_l1_loss,
)

nll = nll_loss
mse = mse_loss
l1 = l1_loss
smooth_l1 = smooth_l1_loss
ctc = ctc_loss
bce_with_logits = binary_cross_entropy_with_logits

__all__ = [
    "bce_with_logits",
    "binary_cross_entropy_with_logits",
    "cross_entropy",
    "ctc",
    "ctc_loss",
    "l1",
    "l1_loss",
    "linear_cross_entropy",
    "mse",
    "mse_loss",
    "nll",
    "nll_loss",
    "smooth_l1",
    "smooth_l1_loss",
]
