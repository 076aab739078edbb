"""The minLSTM: an LSTM whose gates see only the input and add up to one.

    f = sigmoid(W_f x + b_f)
    i = sigmoid(W_i x + b_i)
    n = W_n x + b_n
    h' = f / (f + i) * h + i / (f + i) * n

Feng, Tung, Ahmed, Bengio and Hajimirsadeghi 2024, "Were RNNs All We Needed?", arXiv 2410.01201,
section 3.2. With ``positive=True`` the candidate is g(W_n x + b_n), where g(a) = a + 0.5 for a >= 0
and sigmoid(a) below: the form in which the paper trains, in the space of logarithms (appendix B).

f / (f + i) is computed as sigmoid(log f - log i), which holds also where f and i underflow.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from rnnkit.cells.base import register_cell
from rnnkit.cells.min_gru import MinGRUCell
from rnnkit.ops import linear, sigmoid, softplus, where

if TYPE_CHECKING:
    from rnnkit.autograd import Tensor
    from rnnkit.cells.base import State


@register_cell("min_lstm")
class MinLSTMCell(MinGRUCell):
    """One step of the minLSTM.

    Args:
        input_size: I.
        hidden_size: H.
        bias: whether there is ``bias_ih``.
        positive: whether the candidate passes through g, which keeps h positive.
        dtype: float32 or float64.

    Parameters, stacked f, i, n: weight_ih (3*H, I) and bias_ih (3*H,), drawn from
    U(-1/sqrt(H), 1/sqrt(H)). One state h, (N, H).

    Raises:
        ArgumentError: a size below 1.
        DTypeError: another dtype.
    """

    def parameter_shapes(self) -> dict[str, tuple[int, ...] | None]:
        rows = 3 * self.hidden_size
        return {"weight_ih": (rows, self.input_size), "bias_ih": (rows,) if self.bias else None}

    def step(self, x: Tensor, state: State) -> tuple[Tensor, State]:
        (h,) = state
        f, i, n = linear(x, self.weight_ih, self.bias_ih).chunk(3, -1)
        if self.positive:
            n = where(n >= 0, n + 0.5, sigmoid(n))
        f = sigmoid(softplus(-i) - softplus(-f))
        h = f * h + (1 - f) * n
        return h, (h,)
