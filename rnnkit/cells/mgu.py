"""The minimal gated unit: a GRU whose only gate both resets and updates.

    f = sigmoid(W_if x + b_if + W_hf h + b_hf)
    n = tanh(W_in x + b_in + W_hn (f * h) + b_hn)
    h' = (1 - f) * h + f * n

Zhou, Wu, Zhang and Zhou 2016, "Minimal Gated Unit for Recurrent Neural Networks",
arXiv 1603.09420, table 1. The gates are stacked in the order f, n.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np

from rnnkit.cells.base import GatedCell, register_cell
from rnnkit.ops import linear, sigmoid, tanh

if TYPE_CHECKING:
    from rnnkit.autograd import Tensor
    from rnnkit.cells.base import State


@register_cell("mgu")
class MGUCell(GatedCell):
    """One step of the minimal gated unit.

    Args:
        input_size: I.
        hidden_size: H.
        bias: whether the cell has ``bias_ih`` and ``bias_hh``.
        dtype: float32 or float64.

    Parameters, stacked f, n: weight_ih (2*H, I), weight_hh (2*H, H), biases (2*H,), all drawn from
    U(-1/sqrt(H), 1/sqrt(H)). One state h, (N, H).

    Raises:
        ArgumentError: a size below 1.
        DTypeError: another dtype.
    """

    gates = 2

    def __init__(
        self, input_size: int, hidden_size: int, bias: bool = True, *, dtype: Any = np.float32
    ) -> None:
        super().__init__(input_size, hidden_size, bias, dtype=dtype)

    def step(self, x: Tensor, state: State) -> tuple[Tensor, State]:
        (h,) = state
        x_f, x_n = self.from_input(x).chunk(2, -1)
        W_f, W_n = self.weight_hh.chunk(2)
        b_f, b_n = (None, None) if self.bias_hh is None else self.bias_hh.chunk(2)
        f = sigmoid(x_f + linear(h, W_f, b_f))
        n = tanh(x_n + linear(f * h, W_n, b_n))
        h = (1 - f) * h + f * n
        return h, (h,)
