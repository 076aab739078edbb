"""The long short-term memory with forget gates.

    i = sigmoid(W_ii x + b_ii + W_hi h + b_hi)
    f = sigmoid(W_if x + b_if + W_hf h + b_hf)
    g = tanh(W_ig x + b_ig + W_hg h + b_hg)
    o = sigmoid(W_io x + b_io + W_ho h + b_ho)
    c' = f * c + i * g
    h' = o * tanh(c')

Hochreiter and Schmidhuber, Neural Computation 9(8), 1997; the forget gate is from Gers,
Schmidhuber and Cummins, Neural Computation 12(10), 2000. The gates are stacked in the order
i, f, g, o.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from rnnkit.cells.base import GatedCell, register_cell
from rnnkit.ops import sigmoid, tanh

if TYPE_CHECKING:
    from collections.abc import Mapping

    from rnnkit.autograd import Tensor
    from rnnkit.cells.base import State


@register_cell("lstm")
class LSTMCell(GatedCell):
    """One step of the long short-term memory, as ``torch.nn.LSTMCell``.

    Args:
        input_size: I.
        hidden_size: H.
        bias: whether the cell has ``bias_ih`` and ``bias_hh``.
        dtype: float32 or float64.

    Shapes: weight_ih (4*H, I), weight_hh (4*H, H), biases (4*H,); gate order i, f, g, o.
    Called as ``h, c = cell(x, (h, c))`` with x (N, I) or (I,), states (N, H) or (H,), or None.

    Raises:
        ArgumentError: a size below 1.
        DTypeError: another dtype.
    """

    gates = 4
    state_names = ("h", "c")
    gate_names = ("i", "f", "g", "o")
    kernel = "lstm"

    @property
    def gate_ranges(self) -> Mapping[str, tuple[float, float]]:
        return {"g": (-1.0, 1.0)}

    def gate_values(self, x: Tensor, state: State) -> tuple[Tensor, ...]:
        i, f, g, o = (self.from_input(x) + self.from_hidden(state[0])).chunk(4, -1)
        return sigmoid(i), sigmoid(f), tanh(g), sigmoid(o)

    def step(self, x: Tensor, state: State) -> tuple[Tensor, State]:
        i, f, g, o = self.gate_values(x, state)
        c = f * state[1] + i * g
        h = o * tanh(c)
        return h, (h, c)
