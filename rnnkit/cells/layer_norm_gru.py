"""The gated recurrent unit with layer normalisation.

    r, z = LN(W_irz x; gain, bias) + LN(W_hrz h; gain, bias)
    n = tanh(LN(W_in x; gain, bias) + sigmoid(r) * LN(W_hn h; gain, bias))
    h' = (1 - sigmoid(z)) * h + sigmoid(z) * n

    LN(a; gain, bias) = gain * (a - mean(a)) / sqrt(var(a) + eps) + bias

Ba, Kiros and Hinton 2016, "Layer Normalization", arXiv 1607.06450, the GRU of the supplementary
material. r and z are normalised together, n by itself; each of the four normalisations has its own
gain and bias. As in the paper, z is the share of the new: PyTorch's GRU calls that 1 - z.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from rnnkit.cells.base import register_cell
from rnnkit.cells.normalized import NormalizedCell
from rnnkit.ops import layer_norm, linear, sigmoid, tanh

if TYPE_CHECKING:
    from rnnkit.autograd import Tensor
    from rnnkit.cells.base import State


@register_cell("layer_norm_gru")
class LayerNormGRUCell(NormalizedCell):
    """One step of the layer-normalised GRU.

    Args:
        input_size: I.
        hidden_size: H.
        bias: whether the normalisations have biases.
        eps: added to the variances.
        dtype: float32 or float64.

    Parameters, gates stacked r, z, n: weight_ih (3*H, I), weight_hh (3*H, H), drawn from
    U(-1/sqrt(H), 1/sqrt(H)); gain_ih, gain_hh (3*H,), which begin at 1; bias_ih, bias_hh (3*H,),
    which begin at 0. One state h, (N, H).

    Raises:
        ArgumentError: a size below 1, or a negative eps.
        DTypeError: another dtype.
    """

    gates = 3

    def _normalize(self, a: Tensor, gain: Tensor, bias: Tensor | None) -> tuple[Tensor, Tensor]:
        """r and z side by side, (N, 2*H), and n, (N, H)."""
        sizes = [2 * self.hidden_size, self.hidden_size]
        biases = (None, None) if bias is None else bias.split(sizes)
        parts = zip(sizes, a.split(sizes, -1), gain.split(sizes), biases, strict=True)
        rz, n = [layer_norm(part, size, g, b, self.eps) for size, part, g, b in parts]
        return rz, n

    def step(self, x: Tensor, state: State) -> tuple[Tensor, State]:
        (h,) = state
        x_rz, x_n = self._normalize(linear(x, self.weight_ih), self.gain_ih, self.bias_ih)
        h_rz, h_n = self._normalize(linear(h, self.weight_hh), self.gain_hh, self.bias_hh)
        r, z = sigmoid(x_rz + h_rz).chunk(2, -1)
        n = tanh(x_n + r * h_n)
        h = (1 - z) * h + z * n
        return h, (h,)
