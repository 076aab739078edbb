"""The delta network: a fast weight matrix, programmed by the delta rule.

    k, q, v, b = W_ih x + b_ih          K, K, H and 1 rows
    k, q = phi(k) / sum(phi(k)), phi(q) / sum(phi(q)),  phi(a) = elu(a) + 1
    S' = S + sigmoid(b) (v - S k) k^T
    y = S' q

Schlag, Irie and Schmidhuber 2021, "Linear Transformers Are Secretly Fast Weight Programmers",
arXiv 2102.11174, section 4: the delta rule (section 4.2) with sum normalisation. phi is that of
Katharopoulos et al. 2020, arXiv 2006.16236.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, ClassVar

import numpy as np

from rnnkit.cells.base import Cell, register_cell
from rnnkit.checks import check_bool, check_size
from rnnkit.ops import exp, linear, minimum, relu, sigmoid

if TYPE_CHECKING:
    from rnnkit.autograd import Tensor
    from rnnkit.cells.base import State
    from rnnkit.module import Parameter


def phi(a: Tensor) -> Tensor:
    """elu(a) + 1: a + 1 above 0 and exp(a) below, always positive."""
    return relu(a) + exp(minimum(a, 0.0))


@register_cell("delta_net")
class DeltaNetCell(Cell):
    """One step of the delta network.

    Args:
        input_size: I.
        hidden_size: H, the size of a value and of the output.
        bias: whether there is ``bias_ih``; the paper has none.
        key_size: K, the size of a key; None: H.
        dtype: float32 or float64.

    Parameters, stacked k, q, v, b: weight_ih (2*K + H + 1, I) and bias_ih (2*K + H + 1,), drawn
    from U(-1/sqrt(H), 1/sqrt(H)). One state S, (N, H, K); the output y is no state.

    Raises:
        ArgumentError: a size below 1.
        DTypeError: another dtype.
    """

    state_names: ClassVar[tuple[str, ...]] = ("S",)
    variants = ({"key_size": None}, {"key_size": 3})

    weight_ih: Parameter
    bias_ih: Parameter | None

    def __init__(
        self,
        input_size: int,
        hidden_size: int,
        bias: bool = False,
        *,
        key_size: int | None = None,
        dtype: Any = np.float32,
    ) -> None:
        super().__init__(input_size, hidden_size)
        self.key_size = check_size("key_size", hidden_size if key_size is None else key_size)
        self.bias = check_bool("bias", bias)
        self.make_parameters(dtype)

    def parameter_shapes(self) -> dict[str, tuple[int, ...] | None]:
        rows = 2 * self.key_size + self.hidden_size + 1
        return {"weight_ih": (rows, self.input_size), "bias_ih": (rows,) if self.bias else None}

    @property
    def state_shapes(self) -> tuple[tuple[int, ...], ...]:
        return ((self.hidden_size, self.key_size),)

    def step(self, x: Tensor, state: State) -> tuple[Tensor, State]:
        (S,) = state
        K, H = self.key_size, self.hidden_size
        k, q, v, b = linear(x, self.weight_ih, self.bias_ih).split([K, K, H, 1], -1)
        k, q = phi(k), phi(q)
        k = (k / k.sum(-1, keepdims=True)).unsqueeze(1)
        q = (q / q.sum(-1, keepdims=True)).unsqueeze(1)
        change = sigmoid(b) * (v - (S * k).sum(-1))
        S = S + change.unsqueeze(2) * k
        return (S * q).sum(-1), (S,)
