"""For training: gradients, bounds of recurrent matrices, packed batches, scheduled sampling."""

from rnnkit.nn.utils import rnn, scheduled_sampling
from rnnkit.nn.utils.clip_grad import clip_grad_norm_, clip_grad_value_
from rnnkit.nn.utils.spectral import spectral_norm_, spectral_norms, spectral_radii
from rnnkit.nn.utils.tbptt import Chunk, detach_state, tbptt

__all__ = [
    "Chunk",
    "clip_grad_norm_",
    "clip_grad_value_",
    "detach_state",
    "rnn",
    "scheduled_sampling",
    "spectral_norm_",
    "spectral_norms",
    "spectral_radii",
    "tbptt",
]
