"""The quasi-recurrent network: a convolution over time and an element-wise recurrence.

    z = tanh(W_z x + V_z x_before + b_z)
    f = sigmoid(W_f x + V_f x_before + b_f)
    o = sigmoid(W_o x + V_o x_before + b_o)
    c' = f * c + (1 - f) * z
    y = o * c'

Bradbury, Merity, Xiong and Socher 2017, "Quasi-Recurrent Neural Networks", arXiv 1611.01576,
section 2: a convolution of width 2 (equation 2) and fo-pooling (equation 4). x_before is the input
of the step before, and zero at the first: its products V x_before, and not itself, are carried as
a state, which so has one size in every layer.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np

from rnnkit.cells.base import Cell, register_cell
from rnnkit.checks import check_bool
from rnnkit.ops import linear, sigmoid, tanh

if TYPE_CHECKING:
    from rnnkit.autograd import Tensor
    from rnnkit.cells.base import State
    from rnnkit.module import Parameter


@register_cell("qrnn")
class QRNNCell(Cell):
    """One step of the quasi-recurrent network.

    Args:
        input_size: I.
        hidden_size: H.
        bias: whether there is ``bias_ih``.
        dtype: float32 or float64.

    Parameters, stacked z, f, o: weight_ih (3*H, I), W; weight_before (3*H, I), V; bias_ih (3*H,);
    all drawn from U(-1/sqrt(H), 1/sqrt(H)). States c, (N, H), and before, (N, 3*H), which is
    V x_before; the output y is no state.

    Raises:
        ArgumentError: a size below 1.
        DTypeError: another dtype.
    """

    state_names = ("c", "before")

    weight_ih: Parameter
    weight_before: Parameter
    bias_ih: Parameter | None

    def __init__(
        self, input_size: int, hidden_size: int, bias: bool = True, *, dtype: Any = np.float32
    ) -> None:
        super().__init__(input_size, hidden_size)
        self.bias = check_bool("bias", bias)
        self.make_parameters(dtype)

    def parameter_shapes(self) -> dict[str, tuple[int, ...] | None]:
        rows = 3 * self.hidden_size
        return {
            "weight_ih": (rows, self.input_size),
            "weight_before": (rows, self.input_size),
            "bias_ih": (rows,) if self.bias else None,
        }

    @property
    def state_shapes(self) -> tuple[tuple[int, ...], ...]:
        return ((self.hidden_size,), (3 * self.hidden_size,))

    def step(self, x: Tensor, state: State) -> tuple[Tensor, State]:
        c, before = state
        z, f, o = (linear(x, self.weight_ih, self.bias_ih) + before).chunk(3, -1)
        f = sigmoid(f)
        c = f * c + (1 - f) * tanh(z)
        return sigmoid(o) * c, (c, linear(x, self.weight_before))
