"""The nested LSTM: the memory of an LSTM is itself the output of an LSTM.

    i, f, g, o = W_ih x + b_ih + W_hh h + b_hh
    a = sigmoid(i) * tanh(g)                                        the inner input
    b = sigmoid(f) * c                                              the inner hidden state
    i~, f~, g~, o~ = V_ih a + d_ih + V_hh b + d_hh
    c~' = sigmoid(f~) * c~ + sigmoid(i~) * tanh(g~)
    c' = sigmoid(o~) * tanh(c~')
    h' = sigmoid(o) * tanh(c')

Moniz and Krueger 2018, "Nested LSTMs", arXiv 1801.10308, one level of nesting. c~ is the state
``inner``.
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


@register_cell("nested_lstm")
class NestedLSTMCell(GatedCell):
    """One step of the nested LSTM.

    Args:
        input_size: I.
        hidden_size: H.
        bias: whether there are biases.
        dtype: float32 or float64.

    Parameters, gates stacked i, f, g, o: weight_ih (4*H, I), weight_hh (4*H, H), bias_ih, bias_hh
    (4*H,); inner_weight_ih (V_ih), inner_weight_hh (V_hh) (4*H, H), inner_bias_ih, inner_bias_hh
    (4*H,); all drawn from U(-1/sqrt(H), 1/sqrt(H)). States h, c and inner, (N, H).

    Raises:
        ArgumentError: a size below 1.
        DTypeError: another dtype.
    """

    gates = 4
    state_names = ("h", "c", "inner")

    inner_weight_ih: Parameter
    inner_weight_hh: Parameter
    inner_bias_ih: Parameter | None
    inner_bias_hh: Parameter | None

    def __init__(
        self, input_size: int, hidden_size: int, bias: bool = True, *, dtype: Any = np.float32
    ) -> None:
        super().__init__(input_size, hidden_size, bias, dtype=dtype)

    def parameter_shapes(self) -> dict[str, tuple[int, ...] | None]:
        outer, H = super().parameter_shapes(), self.hidden_size
        inner = {f"inner_{name}": shape for name, shape in outer.items()}
        return {**outer, **inner, "inner_weight_ih": (4 * H, H)}

    def step(self, x: Tensor, state: State) -> tuple[Tensor, State]:
        h, c, inner = state
        i, f, g, o = (self.from_input(x) + self.from_hidden(h)).chunk(4, -1)
        from_new = linear(sigmoid(i) * tanh(g), self.inner_weight_ih, self.inner_bias_ih)
        from_old = linear(sigmoid(f) * c, self.inner_weight_hh, self.inner_bias_hh)
        inner_i, inner_f, inner_g, inner_o = (from_new + from_old).chunk(4, -1)
        inner = sigmoid(inner_f) * inner + sigmoid(inner_i) * tanh(inner_g)
        c = sigmoid(inner_o) * tanh(inner)
        h = sigmoid(o) * tanh(c)
        return h, (h, c, inner)
