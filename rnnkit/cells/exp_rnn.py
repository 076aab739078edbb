"""The orthogonal RNN: its recurrent matrix is a rotation, whatever its parameters are.

    B = exp(A),  A = U - U^T,  U the strict upper triangle of weight_skew
    h' = modrelu(W_ih x + B h)
    modrelu(a) = sign(a) * relu(|a| + b)

Lezcano-Casado and Martinez-Rubio 2019, "Cheap Orthogonal Constraints in Neural Networks: A Simple
Parametrization of the Orthogonal and Unitary Group", arXiv 1901.08428, section 3; modrelu is from
Arjovsky, Shah and Bengio 2016, arXiv 1511.06464. The exponential of a skew-symmetric matrix is
orthogonal with determinant 1, and every such matrix is one: gradients neither vanish nor explode in
the linear part of the recurrence.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np

from rnnkit import rng
from rnnkit.autograd import Tensor
from rnnkit.cells.base import Cell, register_cell
from rnnkit.cells.matrix_exp import matrix_exp
from rnnkit.checks import check_bool
from rnnkit.ops import abs, linear, relu, sign

if TYPE_CHECKING:
    from rnnkit.cells.base import State
    from rnnkit.module import Parameter


@register_cell("exp_rnn")
class ExpRNNCell(Cell):
    """One step of the orthogonal RNN in its exponential parametrisation.

    Args:
        input_size: I.
        hidden_size: H.
        bias: whether modrelu has its threshold ``bias_hh``; without, it is the identity.
        dtype: float32 or float64.

    Parameters: weight_ih (H, I), drawn from U(-1/sqrt(H), 1/sqrt(H)); weight_skew (H, H), zero but
    for rotations of pairs of units by angles from U(-pi, pi); bias_hh (H,), drawn from
    U(-0.01, 0.01). One state h, (N, H).

    B is exact to rounding while the norm of A is at most 16; angles up to pi reach every rotation.

    Raises:
        ArgumentError: a size below 1.
        DTypeError: another dtype.
    """

    weight_ih: Parameter
    weight_skew: Parameter
    bias_hh: Parameter | None
    upper: Tensor

    def __init__(
        self, input_size: int, hidden_size: int, bias: bool = True, *, dtype: Any = np.float32
    ) -> None:
        super().__init__(input_size, hidden_size)
        self.bias = check_bool("bias", bias)
        self.make_parameters(dtype)
        H = self.hidden_size
        self.register_buffer("upper", Tensor(np.triu(np.ones((H, H), self.dtype), 1)), False)

    def parameter_shapes(self) -> dict[str, tuple[int, ...] | None]:
        H = self.hidden_size
        return {
            "weight_ih": (H, self.input_size),
            "weight_skew": (H, H),
            "bias_hh": (H,) if self.bias else None,
        }

    def reset_parameters(self) -> None:
        super().reset_parameters()
        first = np.arange(0, self.hidden_size - 1, 2)
        self.weight_skew.data[...] = 0
        self.weight_skew.data[first, first + 1] = rng.generator().uniform(-np.pi, np.pi, len(first))
        if self.bias_hh is not None:
            self.bias_hh.data[...] = rng.generator().uniform(-0.01, 0.01, self.hidden_size)

    def recurrent_weight(self) -> Tensor:
        """B, (H, H), orthogonal."""
        U = self.weight_skew * self.upper
        return matrix_exp(U - U.T)

    def step(self, x: Tensor, state: State) -> tuple[Tensor, State]:
        (h,) = state
        h = linear(x, self.weight_ih) + linear(h, self.recurrent_weight())
        if self.bias_hh is not None:
            h = sign(h) * relu(abs(h) + self.bias_hh)
        return h, (h,)
