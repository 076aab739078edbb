"""What gated cells with layer normalisation have in common."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np

from rnnkit.cells.base import GatedCell
from rnnkit.checks import check_number

if TYPE_CHECKING:
    from rnnkit.module import Parameter


class NormalizedCell(GatedCell):
    """Base of the gated cells that normalise the products of their weights.

    Args:
        input_size: I.
        hidden_size: H.
        bias: whether the normalisations have biases.
        eps: added to the variances, or to the mean squares.
        dtype: float32 or float64.

    Parameters beside those of ``GatedCell``: gain_ih, gain_hh (G*H,). All whose names begin with
    "gain" begin at 1, all biases at 0.

    Raises:
        ArgumentError: a size below 1, or a negative eps.
        DTypeError: another dtype.
    """

    gain_ih: Parameter
    gain_hh: Parameter

    def __init__(
        self,
        input_size: int,
        hidden_size: int,
        bias: bool = True,
        *,
        eps: float = 1e-5,
        dtype: Any = np.float32,
    ) -> None:
        super().__init__(input_size, hidden_size, bias, dtype=dtype)
        check_number("eps", eps)
        self.eps = eps

    def parameter_shapes(self) -> dict[str, tuple[int, ...] | None]:
        rows = self.gates * self.hidden_size
        return {**super().parameter_shapes(), "gain_ih": (rows,), "gain_hh": (rows,)}

    def reset_parameters(self) -> None:
        super().reset_parameters()
        for name, parameter in self.named_parameters():
            if name.startswith(("gain", "bias")):
                parameter.data[...] = name.startswith("gain")
