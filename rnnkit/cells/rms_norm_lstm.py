"""The long short-term memory with root mean square normalisation.

    i, f, g, o = RMS(W_ih x; gain_ih) + RMS(W_hh h; gain_hh) + bias_ih
    c' = sigmoid(f) * c + sigmoid(i) * tanh(g)
    h' = sigmoid(o) * tanh(RMS(c'; gain_c))

    RMS(a; gain) = gain * a / sqrt(mean(a^2) + eps)

Zhang and Sennrich 2019, "Root Mean Square Layer Normalization", arXiv 1910.07467, equation 4, in
the places where the LSTM of Ba, Kiros and Hinton 2016 (arXiv 1607.06450) has its layer
normalisations. It does not look at the rest of the batch, as the recurrent batch normalisation of
Cooijmans et al. 2016 (arXiv 1603.09025) does, and is cheaper than layer normalisation.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from rnnkit.cells.base import register_cell
from rnnkit.cells.layer_norm_lstm import LayerNormLSTMCell
from rnnkit.ops import mean, sqrt

if TYPE_CHECKING:
    from rnnkit.autograd import Tensor


@register_cell("rms_norm_lstm")
class RMSNormLSTMCell(LayerNormLSTMCell):
    """One step of the LSTM with root mean square normalisation.

    Args:
        input_size: I.
        hidden_size: H.
        bias: whether the gates have a bias.
        eps: added to the mean squares.
        dtype: float32 or float64.

    Parameters, gates stacked i, f, g, o: weight_ih (4*H, I), weight_hh (4*H, H), drawn from
    U(-1/sqrt(H), 1/sqrt(H)); gain_ih, gain_hh (4*H,), gain_c (H,), which begin at 1; bias_ih
    (4*H,), which begins at 0. States h and c, (N, H).

    Raises:
        ArgumentError: a size below 1, or a negative eps.
        DTypeError: another dtype.
    """

    def parameter_shapes(self) -> dict[str, tuple[int, ...] | None]:
        return {**super().parameter_shapes(), "bias_hh": None, "bias_c": None}

    def normalize(self, a: Tensor, gain: Tensor, bias: Tensor | None) -> Tensor:
        """RMS over the last axis, and the bias."""
        y = a / sqrt(mean(a * a, -1, keepdims=True) + self.eps) * gain
        return y if bias is None else y + bias
