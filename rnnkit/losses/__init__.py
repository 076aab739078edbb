"""Loss functions, under PyTorch's names and under short ones."""

from rnnkit.losses.classification import cross_entropy, nll_loss
from rnnkit.losses.ctc import ctc_loss
from rnnkit.losses.frames import frame_nll
from rnnkit.losses.likelihoods import gaussian_nll_loss, kl_div, poisson_nll_loss
from rnnkit.losses.linear_cross_entropy import linear_cross_entropy
from rnnkit.losses.mixture_density import (
    gaussian_mixture_nll,
    handwriting_nll,
    sample_gaussian_mixture,
    sample_handwriting,
)
from rnnkit.losses.ragged import valid_steps
from rnnkit.losses.regression import (
    binary_cross_entropy,
    binary_cross_entropy_with_logits,
    huber_loss,
    l1_loss,
    mse_loss,
    smooth_l1_loss,
)
from rnnkit.losses.sampled_softmax import (
    DistributionSampler,
    LogUniformSampler,
    sampled_softmax_loss,
)

nll = nll_loss
mse = mse_loss
l1 = l1_loss
smooth_l1 = smooth_l1_loss
huber = huber_loss
ctc = ctc_loss
bce = binary_cross_entropy
bce_with_logits = binary_cross_entropy_with_logits

__all__ = [
    "DistributionSampler",
    "LogUniformSampler",
    "bce",
    "bce_with_logits",
    "binary_cross_entropy",
    "binary_cross_entropy_with_logits",
    "cross_entropy",
    "ctc",
    "ctc_loss",
    "frame_nll",
    "gaussian_mixture_nll",
    "gaussian_nll_loss",
    "handwriting_nll",
    "huber",
    "huber_loss",
    "kl_div",
    "l1",
    "l1_loss",
    "linear_cross_entropy",
    "mse",
    "mse_loss",
    "nll",
    "nll_loss",
    "poisson_nll_loss",
    "sample_gaussian_mixture",
    "sample_handwriting",
    "sampled_softmax_loss",
    "smooth_l1",
    "smooth_l1_loss",
    "valid_steps",
]
