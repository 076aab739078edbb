"""The multiplicative LSTM: the input chooses the transition of the hidden state.

    m = (W_mx x) * (W_mh h)
    i, f, g, o = W_ih x + b_ih + W_hh m + b_hh
    c' = sigmoid(f) * c + sigmoid(i) * tanh(g)
    h' = sigmoid(o) * tanh(c')

Krause, Lu, Murray and Renals 2017, "Multiplicative LSTM for sequence modelling",
arXiv 1609.07959: the LSTM with m in place of the hidden state. Some implementations have the output
gate inside the last tanh; here it is outside, as in every other LSTM.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np

from rnnkit.cells.base import GatedCell, register_cell
from rnnkit.ops import linear, sigmoid, tanh

if TYPE_CHECKING:
    from rnnkit.autograd import Tensor
    from rnnkit.cells.base import State
    from rnnkit.module import Parameter


@register_cell("multiplicative_lstm")
class MultiplicativeLSTMCell(GatedCell):
    """One step of the multiplicative LSTM.

    Args:
        input_size: I.
        hidden_size: H.
        bias: whether the cell has ``bias_ih`` and ``bias_hh``.
        dtype: float32 or float64.

    Parameters, gates stacked i, f, g, o: weight_ih (4*H, I), weight_hh (4*H, H), which multiplies
    m, biases (4*H,); weight_mx (H, I), weight_mh (H, H); all drawn from U(-1/sqrt(H), 1/sqrt(H)).
    States h and c, (N, H).

    Raises:
        ArgumentError: a size below 1.
        DTypeError: another dtype.
    """

    gates = 4
    state_names = ("h", "c")

    weight_mx: Parameter
    weight_mh: Parameter

    def __init__(
        self, input_size: int, hidden_size: int, bias: bool = True, *, dtype: Any = np.float32
    ) -> None:
        super().__init__(input_size, hidden_size, bias, dtype=dtype)

    def parameter_shapes(self) -> dict[str, tuple[int, ...] | None]:
        H = self.hidden_size
        return {
            **super().parameter_shapes(),
            "weight_mx": (H, self.input_size),
            "weight_mh": (H, H),
        }

    def step(self, x: Tensor, state: State) -> tuple[Tensor, State]:
        h, c = state
        m = linear(x, self.weight_mx) * linear(h, self.weight_mh)
        i, f, g, o = (self.from_input(x) + self.from_hidden(m)).chunk(4, -1)
        c = sigmoid(f) * c + sigmoid(i) * tanh(g)
        h = sigmoid(o) * tanh(c)
        return h, (h, c)
