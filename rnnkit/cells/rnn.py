"""The simple recurrent network (Elman, "Finding structure in time", Cognitive Science 14, 1990).

h' = tanh(W_ih x + b_ih + W_hh h + b_hh)        or relu in place of tanh
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np

from rnnkit.cells.base import GatedCell, register_cell
from rnnkit.errors import ArgumentError
from rnnkit.ops import relu, tanh

if TYPE_CHECKING:
    from rnnkit.autograd import Tensor
    from rnnkit.cells.base import State


@register_cell("rnn")
class RNNCell(GatedCell):
    """One step of the simple recurrent network, as ``torch.nn.RNNCell``.

    Args:
        input_size: I.
        hidden_size: H.
        bias: whether the cell has ``bias_ih`` and ``bias_hh``.
        nonlinearity: "tanh" or "relu".
        dtype: float32 or float64.

    Shapes: weight_ih (H, I), weight_hh (H, H), biases (H,).
    Called as ``h = cell(x, h)`` with x (N, I) or (I,) and h (N, H), (H,) or None.

    Raises:
        ArgumentError: a size below 1, or another nonlinearity.
        DTypeError: another dtype.
    """

    gates = 1
    kernel = "rnn"
    variants = ({"nonlinearity": "tanh"}, {"nonlinearity": "relu"})

    def __init__(
        self,
        input_size: int,
        hidden_size: int,
        bias: bool = True,
        nonlinearity: str = "tanh",
        *,
        dtype: Any = np.float32,
    ) -> None:
        if nonlinearity not in ("tanh", "relu"):
            raise ArgumentError(f"nonlinearity: expected 'tanh' or 'relu', got {nonlinearity!r}")
        super().__init__(input_size, hidden_size, bias, dtype=dtype)
        self.nonlinearity = nonlinearity

    @property
    def kernel_variant(self) -> str:
        return self.nonlinearity

    def step(self, x: Tensor, state: State) -> tuple[Tensor, State]:
        (h,) = state
        activation = tanh if self.nonlinearity == "tanh" else relu
        h = activation(self.from_input(x) + self.from_hidden(h))
        return h, (h,)
