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
    gate_names = ("i", "f", "g", "o")
    forget_gate = "f"
    input_gate = "i"
    state_names = ("h", "c")
    kernel = "lstm"

    def step(self, x: Tensor, state: State) -> tuple[Tensor, State]:
        h, c = state
        i, f, g, o = (self.from_input(x) + self.from_hidden(h)).chunk(4, -1)
        c = sigmoid(f) * c + sigmoid(i) * tanh(g)
        h = sigmoid(o) * tanh(c)
        return h, (h, c)
