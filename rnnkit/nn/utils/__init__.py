"""What surrounds a network in training: gradients clipped, ragged batches padded and packed."""

from rnnkit.nn.utils import rnn
from rnnkit.nn.utils.clip_grad import clip_grad_norm_, clip_grad_value_

__all__ = ["clip_grad_norm_", "clip_grad_value_", "rnn"]
