"""The Legendre memory unit: a memory that holds a sliding window of its input.

    u = e_x . x + e_h . h + e_m . m
    m' = A m + B u
    h' = tanh(W_ih x + W_hh h + W_mh m')

    A = exp(P),  B = P^-1 (A - 1) Q                     zero-order hold of m' = P m + Q u
    P_ij = (2i + 1) / window * (-1 if i < j else (-1)^(i - j + 1))
    Q_i = (2i + 1) / window * (-1)^i                    i, j from 0

Voelker, Kajic and Eliasmith 2019, "Legendre Memory Units: Continuous-Time Representation in
Recurrent Neural Networks", NeurIPS 32, equations 1 to 7. m holds the coefficients of the
last ``window`` steps of u in Legendre polynomials; A and B are constants.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np

from rnnkit.autograd import Tensor
from rnnkit.cells.base import Cell, register_cell
from rnnkit.cells.matrix_exp import matrix_exp
from rnnkit.checks import check_number, check_size
from rnnkit.errors import ArgumentError
from rnnkit.ops import linear, tanh

if TYPE_CHECKING:
    from rnnkit.autograd.tensor import Array
    from rnnkit.cells.base import State
    from rnnkit.module import Parameter


def legendre(order: int, window: float) -> tuple[Array, Array]:
    """A (order, order) and B (order,) in float64.

    Raises ArgumentError for a window so short that P is beyond the range of a float.
    """
    i = np.arange(order)
    signs = np.where(i[:, None] < i, -1.0, (-1.0) ** (i[:, None] - i + 1))
    # One exponential gives both: exp([[P, Q], [0, 0]]) = [[A, B], [0, 1]].
    both = np.zeros((order + 1, order + 1))
    with np.errstate(over="ignore"):
        scale = (2 * i + 1) / window
        both[:order, :order] = scale[:, None] * signs
        both[:order, order] = scale * (-1.0) ** i
        size = np.linalg.norm(both, 1)
    if not np.isfinite(size):
        raise ArgumentError(f"window: expected a longer one for order {order}, got {window!r}")
    squarings = max(0, 1 + int(np.ceil(np.log2(size))))
    both = matrix_exp(Tensor(both), squarings).numpy()
    return both[:order, :order], both[:order, order]


@register_cell("lmu")
class LMUCell(Cell):
    """One step of the Legendre memory unit.

    Args:
        input_size: I.
        hidden_size: H.
        order: M, the number of polynomials.
        window: the length of the window in steps.
        dtype: float32 or float64.

    Parameters, drawn from U(-1/sqrt(H), 1/sqrt(H)): encoder_x (1, I), encoder_h (1, H), encoder_m
    (1, M), which begins at 0 as in the paper; weight_ih (H, I), weight_hh (H, H), weight_mh (H, M).
    States h, (N, H), and m, (N, M).

    Raises:
        ArgumentError: a size below 1, or a window that is not positive, or too short to compute
            with.
        DTypeError: another dtype.
    """

    state_names = ("h", "m")
    variants = ({"order": 8, "window": 32.0}, {"order": 5, "window": 7.0})

    encoder_x: Parameter
    encoder_h: Parameter
    encoder_m: Parameter
    weight_ih: Parameter
    weight_hh: Parameter
    weight_mh: Parameter
    A: Tensor
    B: Tensor

    def __init__(
        self,
        input_size: int,
        hidden_size: int,
        *,
        order: int = 8,
        window: float = 32.0,
        dtype: Any = np.float32,
    ) -> None:
        super().__init__(input_size, hidden_size)
        self.order = check_size("order", order)
        check_number("window", window, above_low=True, below_high=True)
        self.window = window
        self.make_parameters(dtype)
        for name, array in zip("AB", legendre(self.order, window), strict=True):
            self.register_buffer(name, Tensor(array.astype(self.dtype)), persistent=False)

    def parameter_shapes(self) -> dict[str, tuple[int, ...] | None]:
        I, H, M = self.input_size, self.hidden_size, self.order
        return {
            "encoder_x": (1, I),
            "encoder_h": (1, H),
            "encoder_m": (1, M),
            "weight_ih": (H, I),
            "weight_hh": (H, H),
            "weight_mh": (H, M),
        }

    @property
    def state_shapes(self) -> tuple[tuple[int, ...], ...]:
        return ((self.hidden_size,), (self.order,))

    def reset_parameters(self) -> None:
        super().reset_parameters()
        self.encoder_m.data[...] = 0

    def step(self, x: Tensor, state: State) -> tuple[Tensor, State]:
        h, m = state
        u = linear(x, self.encoder_x) + linear(h, self.encoder_h) + linear(m, self.encoder_m)
        m = linear(m, self.A) + u * self.B
        h = linear(x, self.weight_ih) + linear(h, self.weight_hh) + linear(m, self.weight_mh)
        h = tanh(h)
        return h, (h, m)
