"""The long short-term memory with layer normalisation.

    i, f, g, o = LN(W_ih x; gain_ih, bias_ih) + LN(W_hh h; gain_hh, bias_hh)
    c' = sigmoid(f) * c + sigmoid(i) * tanh(g)
    h' = sigmoid(o) * tanh(LN(c'; gain_c, bias_c))

    LN(a; gain, bias) = gain * (a - mean(a)) / sqrt(var(a) + eps) + bias

Ba, Kiros and Hinton 2016, "Layer Normalization", arXiv 1607.06450, the LSTM of the supplementary
material. The first two normalisations run over all four gates at once. The paper adds one more
bias to the gates, which bias_ih and bias_hh together hold already.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from rnnkit.cells.base import register_cell
from rnnkit.cells.normalized import NormalizedCell
from rnnkit.ops import layer_norm, linear, sigmoid, tanh

if TYPE_CHECKING:
    from rnnkit.autograd import Tensor
    from rnnkit.cells.base import State
    from rnnkit.module import Parameter


@register_cell("layer_norm_lstm")
class LayerNormLSTMCell(NormalizedCell):
    """One step of the layer-normalised LSTM.

    Args:
        input_size: I.
        hidden_size: H.
        bias: whether the normalisations have biases.
        eps: added to the variances.
        dtype: float32 or float64.

    Parameters, gates stacked i, f, g, o: weight_ih (4*H, I), weight_hh (4*H, H), drawn from
    U(-1/sqrt(H), 1/sqrt(H)); gain_ih, gain_hh (4*H,), gain_c (H,), which begin at 1; bias_ih,
    bias_hh (4*H,), bias_c (H,), which begin at 0. States h and c, (N, H).

    Raises:
        ArgumentError: a size below 1, or a negative eps.
        DTypeError: another dtype.
    """

    gates = 4
    state_names = ("h", "c")

    gain_c: Parameter
    bias_c: Parameter | None

    def parameter_shapes(self) -> dict[str, tuple[int, ...] | None]:
        H = self.hidden_size
        more = {"gain_c": (H,), "bias_c": (H,) if self.bias else None}
        return {**super().parameter_shapes(), **more}

    def normalize(self, a: Tensor, gain: Tensor, bias: Tensor | None) -> Tensor:
        """LN over the last axis."""
        return layer_norm(a, a.shape[-1], gain, bias, self.eps)

    def from_input(self, x: Tensor) -> Tensor:
        return self.normalize(linear(x, self.weight_ih), self.gain_ih, self.bias_ih)

    def from_hidden(self, h: Tensor) -> Tensor:
        return self.normalize(linear(h, self.weight_hh), self.gain_hh, self.bias_hh)

    def step(self, x: Tensor, state: State) -> tuple[Tensor, State]:
        h, c = state
        i, f, g, o = (self.from_input(x) + self.from_hidden(h)).chunk(4, -1)
        c = sigmoid(f) * c + sigmoid(i) * tanh(g)
        h = sigmoid(o) * tanh(self.normalize(c, self.gain_c, self.bias_c))
        return h, (h, c)
