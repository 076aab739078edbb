"""PyTorch in eager mode: nn.RNN, nn.GRU and nn.LSTM with the same weights.

Cells that it has no module of are loops over steps; ragged batches are packed for its modules.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from typing import Any

import numpy as np
import torch
from torch.nn.utils.rnn import pack_padded_sequence, pad_packed_sequence

from . import program_torch
from .problem import Problem
from .sides import Side, Stepper, thread_settings

CLASSES = {
    "rnn": (torch.nn.RNN, torch.nn.RNNCell),
    "gru": (torch.nn.GRU, torch.nn.GRUCell),
    "lstm": (torch.nn.LSTM, torch.nn.LSTMCell),
}


def make_sides(problem: Problem, threads: int) -> list[Side]:
    """The same problem in PyTorch; nothing where it has no way to put it."""
    module: Any
    if problem.cell in program_torch.CELLS:
        module = program_torch.Loop(problem)
    else:
        module = _make(problem, 0)
    if module is None or not (problem.is_plain or _packs(problem)):
        return []
    module.load_state_dict({k: torch.from_numpy(v) for k, v in problem.weights.items()})
    inputs = [torch.from_numpy(v).requires_grad_() for v in problem.inputs.values()]
    x, state = inputs[0], inputs[1:]
    given = state[0] if len(state) == 1 else tuple(state)
    wanted = [*inputs, *(dict(module.named_parameters())[name] for name in problem.weights)]
    d_outputs = [torch.from_numpy(v) for v in problem.d_outputs.values()]
    lengths = None if problem.lengths is None else torch.from_numpy(problem.lengths)

    def run() -> tuple[torch.Tensor, Any]:
        if lengths is None:
            return module(x, given)
        packed = pack_padded_sequence(x, lengths, enforce_sorted=False)
        y, final = module(packed, given)
        return pad_packed_sequence(y, total_length=problem.shape.T)[0], final

    def outputs() -> list[torch.Tensor]:
        y, final = run()
        return [y, *final] if isinstance(final, tuple) else [y, final]

    def forward() -> list[torch.Tensor]:
        with torch.inference_mode():
            return outputs()

    def train() -> list[torch.Tensor]:
        results = outputs()
        return [*results, *torch.autograd.grad(results, wanted, d_outputs)]

    def to_numpy(tensors: list[Any]) -> list[np.ndarray]:
        return [tensor.detach().numpy() for tensor in tensors]

    return [
        Side("torch", forward, train, to_numpy, prepare_threads(count), setting)
        for setting, count in thread_settings(threads).items()
    ]


def make_steppers(problem: Problem, threads: int) -> list[Stepper]:
    """The layer module on sequences of one step, and the cell module; or a cell of one's own."""
    x = torch.from_numpy(problem.inputs["x"])
    weights = {k: torch.from_numpy(v) for k, v in problem.weights.items()}
    contestants: list[tuple[str, Any, list[Any]]]
    if problem.cell in program_torch.CELLS:
        own = program_torch.Loop(problem)
        own.load_state_dict(weights)
        contestants = [("torch step", own, list(x.unbind(0)))]
    else:
        cell, layer = _make(problem, 1), _make(problem, 0)
        if cell is None or layer is None:
            return []
        layer.load_state_dict(weights)
        cell.load_state_dict({k.removesuffix("_l0"): v for k, v in weights.items()})
        contestants = [("torch", layer, list(x.split(1))), ("torch cell", cell, list(x.unbind(0)))]
    steppers = []
    for name, module, inputs in contestants:
        for setting, count in thread_settings(threads).items():
            reset, step = _carry(module, problem)
            steppers.append(
                Stepper(
                    name,
                    inputs,
                    reset,
                    step,
                    lambda y: y.numpy().reshape(problem.shape.N, problem.shape.H),
                    prepare_threads(count),
                    torch.inference_mode,
                    setting,
                )
            )
    return steppers


def prepare_threads(count: int) -> Callable[[], None]:
    return lambda: torch.set_num_threads(count)


def _carry(module: Any, problem: Problem) -> tuple[Callable[[], None], Callable[[Any], Any]]:
    """``reset`` and ``step`` of a module whose state is kept here."""
    state: Any = None
    own = isinstance(module, program_torch.Loop)
    zeros = tuple(torch.zeros(problem.shape.N, problem.shape.H) for _ in problem.states)

    def reset() -> None:
        nonlocal state
        state = zeros if own else None

    def step_own(x: torch.Tensor) -> torch.Tensor:
        nonlocal state
        state = module.step(x, state)
        return state[0]

    def step_cell(x: torch.Tensor) -> torch.Tensor:
        nonlocal state
        state = module(x, state)
        return state[0] if isinstance(state, tuple) else state

    def step_layer(x: torch.Tensor) -> torch.Tensor:
        nonlocal state
        y, state = module(x, state)
        return y

    if own:
        return reset, step_own
    is_cell = isinstance(module, torch.nn.RNNCellBase)
    return reset, step_cell if is_cell else step_layer


def _packs(problem: Problem) -> bool:
    """Whether it is a ragged batch and nothing else, for a module that takes packed sequences."""
    return problem.cell in CLASSES and replace(problem, ragged=False).is_plain


def _make(problem: Problem, kind: int) -> Any:
    options = dict(problem.options)
    if problem.cell not in CLASSES or not options.pop("reset_after", True):
        return None
    sizes = problem.shape.I, problem.shape.H
    return CLASSES[problem.cell][kind](*sizes, dtype=getattr(torch, problem.dtype), **options)
