"""The light gated recurrent unit: a GRU without a reset gate, with relu.

    z = sigmoid(LN(W_iz x; gain, bias) + W_hz h)
    n = relu(LN(W_in x; gain, bias) + W_hn h)
    h' = z * h + (1 - z) * n

Ravanelli, Brakel, Omologo and Bengio 2018, "Light Gated Recurrent Units for Speech Recognition",
arXiv 1803.10225, section 3. The paper's batch normalisation of the two input products, which would
make a row depend on the rest of its batch, is a layer normalisation of each here. Without it
(``normalized=False``) the products have a plain bias; relu then has nothing that bounds it.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np

from rnnkit.cells.base import Cell, register_cell
from rnnkit.checks import check_bool, check_number
from rnnkit.ops import layer_norm, linear, relu, sigmoid

if TYPE_CHECKING:
    from rnnkit.autograd import Tensor
    from rnnkit.cells.base import State
    from rnnkit.module import Parameter


@register_cell("li_gru")
class LiGRUCell(Cell):
    """One step of the light gated recurrent unit.

    Args:
        input_size: I.
        hidden_size: H.
        bias: whether there is ``bias_ih``.
        normalized: whether the input's products are normalised.
        eps: added to the variances.
        dtype: float32 or float64.

    Parameters, stacked z, n: weight_ih (2*H, I), weight_hh (2*H, H), drawn from
    U(-1/sqrt(H), 1/sqrt(H)); gain_ih (2*H,), which begins at 1, or None; bias_ih (2*H,), which
    begins at 0. One state h, (N, H).

    Raises:
        ArgumentError: a size below 1, or a negative eps.
        DTypeError: another dtype.
    """

    variants = ({"normalized": True}, {"normalized": False})

    weight_ih: Parameter
    weight_hh: Parameter
    gain_ih: Parameter | None
    bias_ih: Parameter | None

    def __init__(
        self,
        input_size: int,
        hidden_size: int,
        bias: bool = True,
        *,
        normalized: bool = True,
        eps: float = 1e-5,
        dtype: Any = np.float32,
    ) -> None:
        super().__init__(input_size, hidden_size)
        self.bias = check_bool("bias", bias)
        self.normalized = check_bool("normalized", normalized)
        check_number("eps", eps)
        self.eps = eps
        self.make_parameters(dtype)

    def parameter_shapes(self) -> dict[str, tuple[int, ...] | None]:
        H = self.hidden_size
        return {
            "weight_ih": (2 * H, self.input_size),
            "weight_hh": (2 * H, H),
            "gain_ih": (2 * H,) if self.normalized else None,
            "bias_ih": (2 * H,) if self.bias else None,
        }

    def reset_parameters(self) -> None:
        super().reset_parameters()
        if self.gain_ih is not None:
            self.gain_ih.data[...] = 1
        if self.bias_ih is not None:
            self.bias_ih.data[...] = 0

    def _from_input(self, x: Tensor) -> tuple[Tensor, ...]:
        """The input's share of z and of n, each (N, H)."""
        if self.gain_ih is None:
            return linear(x, self.weight_ih, self.bias_ih).chunk(2, -1)
        biases = (None, None) if self.bias_ih is None else self.bias_ih.chunk(2)
        products = linear(x, self.weight_ih).chunk(2, -1)
        parts = zip(products, self.gain_ih.chunk(2), biases, strict=True)
        return tuple([layer_norm(a, self.hidden_size, g, b, self.eps) for a, g, b in parts])

    def step(self, x: Tensor, state: State) -> tuple[Tensor, State]:
        (h,) = state
        x_z, x_n = self._from_input(x)
        h_z, h_n = linear(h, self.weight_hh).chunk(2, -1)
        z = sigmoid(x_z + h_z)
        n = relu(x_n + h_n)
        h = z * h + (1 - z) * n
        return h, (h,)
