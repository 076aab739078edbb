"""What surrounds a network in training: gradients clipped and truncated, ragged batches packed."""

from rnnkit.nn.utils import rnn
from rnnkit.nn.utils.clip_grad import clip_grad_norm_, clip_grad_value_
from rnnkit.nn.utils.tbptt import Chunk, detach_state, tbptt

__all__ = ["Chunk", "clip_grad_norm_", "clip_grad_value_", "detach_state", "rnn", "tbptt"]
