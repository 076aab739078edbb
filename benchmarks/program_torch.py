"""The user's cells in PyTorch: a loop over steps in eager mode.

The products of the input are taken for all steps at once, before the loop; a step adds the
recurrent product to them in one call.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import torch
from torch.nn import functional as F

from .problem import Problem

Weights = dict[str, torch.Tensor]
State = tuple[torch.Tensor, ...]
Cell = Callable[[Weights, torch.Tensor], tuple[torch.Tensor, Callable[..., State]]]


class Loop(torch.nn.Module):
    """Called as ``nn.LSTM`` is; its parameters have the names of the problem's weights."""

    def __init__(self, problem: Problem) -> None:
        super().__init__()
        for name, value in problem.weights.items():
            self.register_parameter(name, torch.nn.Parameter(torch.from_numpy(value)))
        self.cell = CELLS[problem.cell]
        self.weights = {name.removesuffix("_l0"): p for name, p in self.named_parameters()}

    def forward(self, x: torch.Tensor, given: Any) -> tuple[torch.Tensor, Any]:
        state = tuple(s[0] for s in (given if isinstance(given, tuple) else (given,)))
        from_input, step = self.cell(self.weights, x)
        outputs = []
        for gates in from_input.unbind(0):
            state = step(gates, *state)
            outputs.append(state[0])
        final = tuple(s.unsqueeze(0) for s in state)
        return torch.stack(outputs), final if isinstance(given, tuple) else final[0]

    def step(self, x: torch.Tensor, state: State) -> State:
        """The state after one step, x (N, I); h comes first."""
        from_input, step = self.cell(self.weights, x)
        return step(from_input, *state)


def _own_lstm(w: Weights, x: torch.Tensor) -> tuple[torch.Tensor, Callable[..., State]]:
    R = w["weight_hh"].t()

    def step(gates: torch.Tensor, h: torch.Tensor, c: torch.Tensor) -> State:
        i, f, g, o = torch.addmm(gates, h, R).chunk(4, 1)
        c = torch.sigmoid(f) * c + torch.sigmoid(i) * torch.tanh(g)
        return torch.sigmoid(o) * torch.tanh(c), c

    return F.linear(x, w["weight_ih"], w["bias_ih"] + w["bias_hh"]), step


def _own_gru(w: Weights, x: torch.Tensor) -> tuple[torch.Tensor, Callable[..., State]]:
    R, bias = w["weight_hh"].t(), w["bias_hh"]
    H = R.shape[0]

    def step(gates: torch.Tensor, h: torch.Tensor) -> State:
        product = torch.addmm(bias, h, R)
        r, z = torch.sigmoid(gates[:, : 2 * H] + product[:, : 2 * H]).chunk(2, 1)
        n = torch.tanh(torch.addcmul(gates[:, 2 * H :], r, product[:, 2 * H :]))
        return (torch.lerp(n, h, z),)

    return F.linear(x, w["weight_ih"], w["bias_ih"]), step


def _layernorm_lstm(w: Weights, x: torch.Tensor) -> tuple[torch.Tensor, Callable[..., State]]:
    R, (rows, H) = w["weight_hh"].t(), w["weight_hh"].shape

    def step(gates: torch.Tensor, h: torch.Tensor, c: torch.Tensor) -> State:
        gates = gates + F.layer_norm(torch.mm(h, R), (rows,), w["gain_hh"])
        i, f, g, o = gates.chunk(4, 1)
        c = torch.sigmoid(f) * c + torch.sigmoid(i) * torch.tanh(g)
        normed = F.layer_norm(c, (H,), w["gain_c"], w["bias_c"])
        return torch.sigmoid(o) * torch.tanh(normed), c

    return F.layer_norm(F.linear(x, w["weight_ih"]), (rows,), w["gain_ih"], w["bias"]), step


def _peephole_lstm(w: Weights, x: torch.Tensor) -> tuple[torch.Tensor, Callable[..., State]]:
    R = w["weight_hh"].t()
    p_i, p_f, p_o = w["peep_i"], w["peep_f"], w["peep_o"]

    def step(gates: torch.Tensor, h: torch.Tensor, c: torch.Tensor) -> State:
        i, f, g, o = torch.addmm(gates, h, R).chunk(4, 1)
        i = torch.sigmoid(torch.addcmul(i, p_i, c))
        f = torch.sigmoid(torch.addcmul(f, p_f, c))
        c = f * c + i * torch.tanh(g)
        return torch.sigmoid(torch.addcmul(o, p_o, c)) * torch.tanh(c), c

    return F.linear(x, w["weight_ih"], w["bias"]), step


def _indrnn(w: Weights, x: torch.Tensor) -> tuple[torch.Tensor, Callable[..., State]]:
    u = w["weight_hh"]

    def step(gates: torch.Tensor, h: torch.Tensor) -> State:
        return (torch.tanh(torch.addcmul(gates, u, h)),)

    return F.linear(x, w["weight_ih"], w["bias"]), step


def _slstm(w: Weights, x: torch.Tensor) -> tuple[torch.Tensor, Callable[..., State]]:
    R = w["weight_hh"].t()

    def step(
        gates: torch.Tensor, h: torch.Tensor, c: torch.Tensor, n: torch.Tensor, m: torch.Tensor
    ) -> State:
        i, f, z, o = torch.addmm(gates, h, R).chunk(4, 1)
        kept = F.logsigmoid(f) + m
        m = torch.maximum(kept, i)
        i, f = torch.exp(i - m), torch.exp(kept - m)
        c = torch.addcmul(f * c, i, torch.tanh(z))
        n = torch.addcmul(i, f, n)
        return torch.sigmoid(o) * c / n, c, n, m

    return F.linear(x, w["weight_ih"], w["bias"]), step


CELLS: dict[str, Cell] = {
    "own lstm": _own_lstm,
    "own gru": _own_gru,
    "layernorm-lstm": _layernorm_lstm,
    "peephole-lstm": _peephole_lstm,
    "indrnn": _indrnn,
    "own slstm": _slstm,
}
"""(weights, x (T, N, I)) -> what the input gives to every step, and the step: (that, *state)."""
