"""Linear attention as a recurrence: a sum of outer products and its normaliser.

    k, q, v = W_ih x + b_ih             K, K and H rows
    S' = S + v phi(k)^T
    z' = z + phi(k)
    y = S' phi(q) / (z' . phi(q))       phi(a) = elu(a) + 1

Katharopoulos, Vyas, Pappas and Fleuret 2020, "Transformers are RNNs: Fast Autoregressive
Transformers with Linear Attention", arXiv 2006.16236, equations 16 to 20, one head and without the
residual connection and the feed-forward part of a whole transformer layer.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from rnnkit.cells.base import register_cell
from rnnkit.cells.delta_net import DeltaNetCell, phi
from rnnkit.ops import linear

if TYPE_CHECKING:
    from rnnkit.autograd import Tensor
    from rnnkit.cells.base import State


@register_cell("linear_attention")
class LinearAttentionCell(DeltaNetCell):
    """One step of linear attention.

    Args:
        input_size: I.
        hidden_size: H, the size of a value and of the output.
        bias: whether there is ``bias_ih``; the paper has none.
        key_size: K, the size of a key and of a query; None: H.
        dtype: float32 or float64.

    Parameters, stacked k, q, v: weight_ih (2*K + H, I) and bias_ih (2*K + H,), drawn from
    U(-1/sqrt(H), 1/sqrt(H)). States S, (N, H, K), and z, (N, K); the output y is no state.

    Raises:
        ArgumentError: a size below 1.
        DTypeError: another dtype.
    """

    state_names = ("S", "z")

    def parameter_shapes(self) -> dict[str, tuple[int, ...] | None]:
        rows = 2 * self.key_size + self.hidden_size
        return {"weight_ih": (rows, self.input_size), "bias_ih": (rows,) if self.bias else None}

    @property
    def state_shapes(self) -> tuple[tuple[int, ...], ...]:
        return ((self.hidden_size, self.key_size), (self.key_size,))

    def step(self, x: Tensor, state: State) -> tuple[Tensor, State]:
        S, z = state
        K, H = self.key_size, self.hidden_size
        k, q, v = linear(x, self.weight_ih, self.bias_ih).split([K, K, H], -1)
        k, q = phi(k), phi(q)
        S = S + v.unsqueeze(2) * k.unsqueeze(1)
        z = z + k
        y = (S * q.unsqueeze(1)).sum(-1) / (z * q).sum(-1, keepdims=True)
        return y, (S, z)
