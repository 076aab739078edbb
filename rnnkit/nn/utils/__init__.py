"""What is done to the parameters of a network between backward() and the optimiser's step."""

from rnnkit.nn.utils.clip_grad import clip_grad_norm_, clip_grad_value_

__all__ = ["clip_grad_norm_", "clip_grad_value_"]
