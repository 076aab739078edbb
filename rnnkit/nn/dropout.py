"""Dropout."""

from __future__ import annotations

from typing import TYPE_CHECKING

from rnnkit.checks import check_probability
from rnnkit.module import Module
from rnnkit.ops import dropout

if TYPE_CHECKING:
    from rnnkit.autograd import Tensor


class Dropout(Module):
    """Zeroes each element with probability p while training, as ``torch.nn.Dropout``.

    The others are scaled by 1 / (1 - p); in evaluation mode the input is returned as it is.
    Srivastava et al. 2014. The draws come from the library's generator (rk.manual_seed).

    Raises:
        ArgumentError: p is not in [0, 1].
        DTypeError: the input is not float32 or float64.
    """

    def __init__(self, p: float = 0.5) -> None:
        super().__init__()
        self.p = check_probability("p", p)

    def forward(self, x: Tensor) -> Tensor:
        return dropout(x, self.p, self.training)

    def extra_repr(self) -> str:
        return f"p={self.p}"
