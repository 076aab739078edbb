"""The minGRU: a GRU whose gate and candidate see only the input.

    z = sigmoid(W_z x + b_z)
    n = W_n x + b_n
    h' = (1 - z) * h + z * n

Feng, Tung, Ahmed, Bengio and Hajimirsadeghi 2024, "Were RNNs All We Needed?", arXiv 2410.01201,
section 3.1. With ``positive=True`` the candidate is g(W_n x + b_n), where g(a) = a + 0.5 for a >= 0
and sigmoid(a) below: the form in which the paper trains, in the space of logarithms (appendix B).
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np

from rnnkit.cells.base import Cell, register_cell
from rnnkit.checks import check_bool
from rnnkit.ops import linear, sigmoid, where

if TYPE_CHECKING:
    from rnnkit.autograd import Tensor
    from rnnkit.cells.base import State
    from rnnkit.module import Parameter


@register_cell("min_gru")
class MinGRUCell(Cell):
    """One step of the minGRU.

    Args:
        input_size: I.
        hidden_size: H.
        bias: whether there is ``bias_ih``.
        positive: whether the candidate passes through g, which keeps h positive.
        dtype: float32 or float64.

    Parameters, stacked z, n: weight_ih (2*H, I) and bias_ih (2*H,), drawn from
    U(-1/sqrt(H), 1/sqrt(H)). One state h, (N, H).

    Raises:
        ArgumentError: a size below 1.
        DTypeError: another dtype.
    """

    variants = ({"positive": False}, {"positive": True})

    weight_ih: Parameter
    bias_ih: Parameter | None

    def __init__(
        self,
        input_size: int,
        hidden_size: int,
        bias: bool = True,
        *,
        positive: bool = False,
        dtype: Any = np.float32,
    ) -> None:
        super().__init__(input_size, hidden_size)
        self.bias = check_bool("bias", bias)
        self.positive = check_bool("positive", positive)
        self.make_parameters(dtype)

    def parameter_shapes(self) -> dict[str, tuple[int, ...] | None]:
        rows = 2 * self.hidden_size
        return {"weight_ih": (rows, self.input_size), "bias_ih": (rows,) if self.bias else None}

    def step(self, x: Tensor, state: State) -> tuple[Tensor, State]:
        (h,) = state
        z, n = linear(x, self.weight_ih, self.bias_ih).chunk(2, -1)
        if self.positive:
            n = where(n >= 0, n + 0.5, sigmoid(n))
        z = sigmoid(z)
        h = (1 - z) * h + z * n
        return h, (h,)
