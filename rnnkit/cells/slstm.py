"""The sLSTM of xLSTM: exponential gates, a normaliser, and a stabiliser that keeps them finite.

    i, f, g, o = W_ih x + b_ih + W_hh h + b_hh
    log f = log sigmoid(f)        or f, with forget="exp"
    m' = max(log f + m, i)        i where n is 0: nothing is remembered yet
    c' = exp(log f + m - m') * c + exp(i - m') * tanh(g)
    n' = exp(log f + m - m') * n + exp(i - m')
    h' = sigmoid(o) * c' / n'

Beck, Poppel, Spanring, Auer, Prudnikova, Kopp, Klambauer, Brandstetter and Hochreiter 2024,
"xLSTM: Extended Long Short-Term Memory", arXiv 2405.04517, equations 8 to 17, with one head.
c and n are those of the equations without a stabiliser, times exp(-m): h is the same.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np

from rnnkit.cells.base import GatedCell, register_cell
from rnnkit.checks import check_choice
from rnnkit.ops import exp, maximum, sigmoid, softplus, tanh, where

if TYPE_CHECKING:
    from rnnkit.autograd import Tensor
    from rnnkit.cells.base import State


@register_cell("slstm")
class SLSTMCell(GatedCell):
    """One step of the sLSTM.

    Args:
        input_size: I.
        hidden_size: H.
        bias: whether the cell has ``bias_ih`` and ``bias_hh``.
        forget: "sigmoid" or "exp", the forget gate; the paper allows either.
        dtype: float32 or float64.

    Parameters, gates stacked i, f, g, o (g is the paper's z): weight_ih (4*H, I), weight_hh
    (4*H, H), biases (4*H,), all drawn from U(-1/sqrt(H), 1/sqrt(H)). States h, c, n and m, (N, H);
    n is not negative.

    Raises:
        ArgumentError: a size below 1, or another forget gate.
        DTypeError: another dtype.
    """

    gates = 4
    state_names = ("h", "c", "n", "m")
    variants = ({"forget": "sigmoid"}, {"forget": "exp"})

    def __init__(
        self,
        input_size: int,
        hidden_size: int,
        bias: bool = True,
        *,
        forget: str = "sigmoid",
        dtype: Any = np.float32,
    ) -> None:
        check_choice("forget", forget, ("sigmoid", "exp"))
        super().__init__(input_size, hidden_size, bias, dtype=dtype)
        self.forget = forget

    def step(self, x: Tensor, state: State) -> tuple[Tensor, State]:
        h, c, n, m = state
        i, f, g, o = (self.from_input(x) + self.from_hidden(h)).chunk(4, -1)
        kept = (f if self.forget == "exp" else -softplus(-f)) + m
        m = where(n > 0, maximum(kept, i), i)
        # Where nothing is kept, m leaves it out, and its exponential could overflow.
        keep = exp(where(n > 0, kept - m, 0.0))
        write = exp(i - m)
        c = keep * c + write * tanh(g)
        n = keep * n + write
        h = sigmoid(o) * c / n
        return h, (h, c, n, m)
