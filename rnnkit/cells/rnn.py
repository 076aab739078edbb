"""The simple recurrent network (Elman, "Finding structure in time", Cognitive Science 14, 1990).

h' = tanh(W_ih x + b_ih + W_hh h + b_hh)        or relu in place of tanh
"""

from __future__ import annotations

import math
from typing import TYPE_CHECKING, Any, ClassVar

import numpy as np

from rnnkit.cells.base import FusedKernel, GatedCell, register_cell
from rnnkit.checks import check_choice
from rnnkit.ops import relu, tanh

if TYPE_CHECKING:
    from collections.abc import Mapping

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
        recurrent_dropout, zoneout: see ``GatedCell``.
        dtype: float32 or float64.

    Shapes: weight_ih (H, I), weight_hh (H, H), biases (H,).
    Called as ``h = cell(x, h)`` with x (N, I) or (I,) and h (N, H), (H,) or None.

    Raises:
        ArgumentError: a size below 1, another nonlinearity, or no probability where one is
            expected.
        DTypeError: another dtype.
    """

    gates = 1
    gate_names = ("h",)
    kernel: ClassVar[Any] = FusedKernel("rnn")
    variants = ({"nonlinearity": "tanh"}, {"nonlinearity": "relu"})

    def __init__(
        self,
        input_size: int,
        hidden_size: int,
        bias: bool = True,
        nonlinearity: str = "tanh",
        *,
        recurrent_dropout: float = 0.0,
        zoneout: float = 0.0,
        dtype: Any = np.float32,
    ) -> None:
        check_choice("nonlinearity", nonlinearity, ("tanh", "relu"))
        super().__init__(
            input_size, hidden_size, bias,
            recurrent_dropout=recurrent_dropout, zoneout=zoneout, dtype=dtype,
        )
        self.nonlinearity = nonlinearity

    @property
    def kernel_variant(self) -> str:
        return self.nonlinearity

    @property
    def gate_ranges(self) -> Mapping[str, tuple[float, float]]:
        return {"h": (-1.0, 1.0) if self.nonlinearity == "tanh" else (0.0, math.inf)}

    def gate_values(self, x: Tensor, state: State, *drawn: Tensor) -> tuple[Tensor, ...]:
        (h,) = state
        activation = tanh if self.nonlinearity == "tanh" else relu
        return (activation(self.from_input(x) + self.from_hidden(self.drop_hidden(h, drawn))),)

    def step(self, x: Tensor, state: State, *drawn: Tensor) -> tuple[Tensor, State]:
        (h,) = self.zone_out(state, self.gate_values(x, state, *drawn), drawn)
        return h, (h,)
