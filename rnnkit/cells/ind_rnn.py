"""The independently recurrent network: each unit remembers only itself.

    h' = relu(W_ih x + w_hh * h + b)        or tanh in place of relu

Li, Li, Cook, Zhu and Gao 2018, "Independently Recurrent Neural Network (IndRNN)",
arXiv 1803.04831, equation 2; w_hh is a vector. Units mix in the next layer.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np

from rnnkit import rng
from rnnkit.cells.base import Cell, register_cell
from rnnkit.checks import check_bool, check_choice
from rnnkit.ops import linear, relu, tanh

if TYPE_CHECKING:
    from rnnkit.autograd import Tensor
    from rnnkit.cells.base import State
    from rnnkit.module import Parameter


@register_cell("ind_rnn")
class IndRNNCell(Cell):
    """One step of the independently recurrent network.

    Args:
        input_size: I.
        hidden_size: H.
        bias: whether there is ``bias_ih``.
        nonlinearity: "relu" (the paper's) or "tanh".
        dtype: float32 or float64.

    Parameters: weight_ih (H, I) and bias_ih (H,), drawn from U(-1/sqrt(H), 1/sqrt(H)); weight_hh
    (H,), drawn from U(0, 1) so that units begin with memories of all lengths. With relu the paper
    keeps |weight_hh| below 2^(1/T) for sequences of T steps; clip it after each update where
    sequences are long. One state h, (N, H).

    Raises:
        ArgumentError: a size below 1, or another nonlinearity.
        DTypeError: another dtype.
    """

    variants = ({"nonlinearity": "relu"}, {"nonlinearity": "tanh"})

    weight_ih: Parameter
    weight_hh: Parameter
    bias_ih: Parameter | None

    def __init__(
        self,
        input_size: int,
        hidden_size: int,
        bias: bool = True,
        nonlinearity: str = "relu",
        *,
        dtype: Any = np.float32,
    ) -> None:
        check_choice("nonlinearity", nonlinearity, ("relu", "tanh"))
        super().__init__(input_size, hidden_size)
        self.bias = check_bool("bias", bias)
        self.nonlinearity = nonlinearity
        self.make_parameters(dtype)

    def parameter_shapes(self) -> dict[str, tuple[int, ...] | None]:
        H = self.hidden_size
        return {
            "weight_ih": (H, self.input_size),
            "weight_hh": (H,),
            "bias_ih": (H,) if self.bias else None,
        }

    def reset_parameters(self) -> None:
        super().reset_parameters()
        self.weight_hh.data[...] = rng.generator().random(self.hidden_size)

    def step(self, x: Tensor, state: State) -> tuple[Tensor, State]:
        (h,) = state
        activation = relu if self.nonlinearity == "relu" else tanh
        h = activation(linear(x, self.weight_ih, self.bias_ih) + self.weight_hh * h)
        return h, (h,)
