"""The gated recurrent unit, in its two dialects.

    r = sigmoid(W_ir x + b_ir + W_hr h + b_hr)
    z = sigmoid(W_iz x + b_iz + W_hz h + b_hz)
    n = tanh(W_in x + b_in + r * (W_hn h + b_hn))       reset_after=True: PyTorch, cuDNN
    n = tanh(W_in x + b_in + W_hn (r * h) + b_hn)       reset_after=False: the original
    h' = (1 - z) * n + z * h

The original is Cho et al. 2014, arXiv 1406.1078, equations 5 to 8. Weights of one dialect are
not weights of the other. The gates are stacked in the order r, z, n.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, ClassVar

import numpy as np

from rnnkit.cells.base import FusedKernel, GatedCell, register_cell
from rnnkit.checks import check_bool
from rnnkit.ops import linear, sigmoid, tanh

if TYPE_CHECKING:
    from collections.abc import Mapping

    from rnnkit.autograd import Tensor
    from rnnkit.cells.base import State


@register_cell("gru")
class GRUCell(GatedCell):
    """One step of the gated recurrent unit, as ``torch.nn.GRUCell``.

    Args:
        input_size: I.
        hidden_size: H.
        bias: whether the cell has ``bias_ih`` and ``bias_hh``.
        reset_after: whether the reset gate acts after the recurrent product (PyTorch's dialect)
            or on the hidden state before it (the original paper's).
        recurrent_dropout, zoneout: see ``GatedCell``.
        dtype: float32 or float64.

    Shapes: weight_ih (3*H, I), weight_hh (3*H, H), biases (3*H,); gate order r, z, n.
    Called as ``h = cell(x, h)`` with x (N, I) or (I,) and h (N, H), (H,) or None.

    Raises:
        ArgumentError: a size below 1, or no probability where one is expected.
        DTypeError: another dtype.
    """

    gates = 3
    gate_names = ("r", "z", "n")
    forget_gate = "z"
    kernel: ClassVar[Any] = FusedKernel("gru")
    variants = ({"reset_after": True}, {"reset_after": False})

    def __init__(
        self,
        input_size: int,
        hidden_size: int,
        bias: bool = True,
        *,
        reset_after: bool = True,
        recurrent_dropout: float = 0.0,
        zoneout: float = 0.0,
        dtype: Any = np.float32,
    ) -> None:
        super().__init__(
            input_size, hidden_size, bias,
            recurrent_dropout=recurrent_dropout, zoneout=zoneout, dtype=dtype,
        )
        self.reset_after = check_bool("reset_after", reset_after)

    @property
    def kernel_variant(self) -> str:
        return "reset_after" if self.reset_after else "reset_before"

    @property
    def gate_ranges(self) -> Mapping[str, tuple[float, float]]:
        return {"n": (-1.0, 1.0)}

    def gate_values(self, x: Tensor, state: State, *drawn: Tensor) -> tuple[Tensor, ...]:
        (h,) = state
        seen = self.drop_hidden(h, drawn)
        if self.reset_after:
            x_r, x_z, x_n = self.from_input(x).chunk(3, -1)
            h_r, h_z, h_n = self.from_hidden(seen).chunk(3, -1)
            r = sigmoid(x_r + h_r)
            z = sigmoid(x_z + h_z)
            n = tanh(x_n + r * h_n)
        else:
            H = self.hidden_size
            W_rz, W_n = self.weight_hh.split([2 * H, H])
            b_rz, b_n = (None, None) if self.bias_hh is None else self.bias_hh.split([2 * H, H])
            x_rz, x_n = self.from_input(x).split([2 * H, H], -1)
            r, z = sigmoid(x_rz + linear(seen, W_rz, b_rz)).chunk(2, -1)
            n = tanh(x_n + linear(r * seen, W_n, b_n))
        return r, z, n

    def step(self, x: Tensor, state: State, *drawn: Tensor) -> tuple[Tensor, State]:
        _, z, n = self.gate_values(x, state, *drawn)
        (h,) = self.zone_out(state, ((1 - z) * n + z * state[0],), drawn)
        return h, (h,)
