"""The simple recurrent unit: all its products are of the input, the recurrence is element-wise.

    f = sigmoid(W_f x + v_f * c + b_f)
    c' = f * c + (1 - f) * (W x)
    r = sigmoid(W_r x + v_r * c + b_r)
    y = r * c' + (1 - r) * x        W_x x in place of x where I is not H

Lei, Zhang, Wang, Dai and Artzi 2018, "Simple Recurrent Units for Highly Parallelizable
Recurrence", arXiv 1709.02755, equations 1 to 4. The paper's optional constant factor of x in y,
which scales a deep stack at its beginning, is left to the caller.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np

from rnnkit import rng
from rnnkit.cells.base import Cell, register_cell
from rnnkit.checks import check_bool
from rnnkit.ops import linear, sigmoid

if TYPE_CHECKING:
    from rnnkit.autograd import Tensor
    from rnnkit.cells.base import State
    from rnnkit.module import Parameter


@register_cell("sru")
class SRUCell(Cell):
    """One step of the simple recurrent unit.

    Args:
        input_size: I.
        hidden_size: H.
        bias: whether the gates have biases.
        dtype: float32 or float64.

    Parameters: weight_ih (3*H, I), rows f, r and the new content, or (4*H, I) with W_x where I is
    not H, drawn from U(-sqrt(3/I), sqrt(3/I)); weight_cc (2*H,), v_f and v_r, drawn from
    U(-sqrt(3/H), sqrt(3/H)); bias_ih (2*H,), which begins at 0. One state c, (N, H); the output y
    is no state.

    Raises:
        ArgumentError: a size below 1.
        DTypeError: another dtype.
    """

    state_names = ("c",)

    weight_ih: Parameter
    weight_cc: Parameter
    bias_ih: Parameter | None

    def __init__(
        self, input_size: int, hidden_size: int, bias: bool = True, *, dtype: Any = np.float32
    ) -> None:
        super().__init__(input_size, hidden_size)
        self.bias = check_bool("bias", bias)
        self.make_parameters(dtype)

    def parameter_shapes(self) -> dict[str, tuple[int, ...] | None]:
        I, H = self.input_size, self.hidden_size
        return {
            "weight_ih": (3 * H if I == H else 4 * H, I),
            "weight_cc": (2 * H,),
            "bias_ih": (2 * H,) if self.bias else None,
        }

    def reset_parameters(self) -> None:
        for weight in (self.weight_ih, self.weight_cc):
            fan_in = self.input_size if weight.ndim == 2 else self.hidden_size
            bound = (3 / fan_in) ** 0.5
            weight.data[...] = rng.generator().uniform(-bound, bound, weight.shape)
        if self.bias_ih is not None:
            self.bias_ih.data[...] = 0

    def step(self, x: Tensor, state: State) -> tuple[Tensor, State]:
        (c,) = state
        f, r, new, *rest = linear(x, self.weight_ih).chunk(self.weight_ih.shape[0] // c.shape[1], 1)
        v_f, v_r = self.weight_cc.chunk(2)
        if self.bias_ih is not None:
            b_f, b_r = self.bias_ih.chunk(2)
            f, r = f + b_f, r + b_r
        f = sigmoid(f + v_f * c)
        r = sigmoid(r + v_r * c)
        c = f * c + (1 - f) * new
        y = r * c + (1 - r) * (rest[0] if rest else x)
        return y, (c,)
