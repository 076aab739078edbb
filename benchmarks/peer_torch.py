"""PyTorch in eager mode: nn.RNN, nn.GRU and nn.LSTM with the same weights."""

from __future__ import annotations

from typing import Any

import numpy as np
import torch

from .problem import Problem
from .sides import Side


def make_side(problem: Problem, threads: int) -> Side | None:
    """The same problem in PyTorch, or None where it has no such module."""
    dtype = getattr(torch, problem.dtype)
    options = dict(problem.options)
    if problem.cell == "gru" and not options.pop("reset_after", True):
        return None
    classes = {"rnn": torch.nn.RNN, "gru": torch.nn.GRU, "lstm": torch.nn.LSTM}
    if problem.cell not in classes:
        return None
    module = classes[problem.cell](problem.shape.I, problem.shape.H, dtype=dtype, **options)
    module.load_state_dict({k: torch.from_numpy(v) for k, v in problem.weights.items()})
    inputs = [torch.from_numpy(v).requires_grad_() for v in problem.inputs.values()]
    x, state = inputs[0], inputs[1:]
    given = state[0] if len(state) == 1 else tuple(state)
    wanted = [*inputs, *(dict(module.named_parameters())[name] for name in problem.weights)]
    d_outputs = [torch.from_numpy(v) for v in problem.d_outputs.values()]

    def outputs() -> list[torch.Tensor]:
        y, final = module(x, given)
        return [y, *final] if isinstance(final, tuple) else [y, final]

    def forward() -> list[torch.Tensor]:
        with torch.inference_mode():
            return outputs()

    def train() -> list[torch.Tensor]:
        results = outputs()
        return [*results, *torch.autograd.grad(results, wanted, d_outputs)]

    def to_numpy(tensors: list[Any]) -> list[np.ndarray]:
        return [tensor.detach().numpy() for tensor in tensors]

    return Side("torch", forward, train, to_numpy, lambda: torch.set_num_threads(threads))
