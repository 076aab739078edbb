"""The clockwork RNN: modules of units that tick at periods of their own.

    h' = tanh(W_ih x + b_ih + W_hh h + b_hh)    in the modules whose period divides the time
    h' = h                                      in the others

Koutnik, Greff, Gomez and Schmidhuber 2014, "A Clockwork RNN", arXiv 1402.3511, section 3. W_hh is
block upper triangular: a module hears itself and the modules that are slower. The first step has
time 0, at which every module ticks.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

import numpy as np

from rnnkit.autograd import Tensor
from rnnkit.cells.base import GatedCell, register_cell
from rnnkit.checks import check_size
from rnnkit.errors import ArgumentError
from rnnkit.ops import linear, tanh, where

if TYPE_CHECKING:
    from rnnkit.cells.base import State


@register_cell("clockwork")
class ClockworkRNNCell(GatedCell):
    """One step of the clockwork RNN.

    Args:
        input_size: I.
        hidden_size: H, shared out evenly over the modules; the first ones get what is left over.
        bias: whether the cell has ``bias_ih`` and ``bias_hh``.
        periods: the period of each module in steps, ascending.
        dtype: float32 or float64.

    Parameters: weight_ih (H, I), weight_hh (H, H), of which only the blocks on and above the
    diagonal are used, biases (H,); all drawn from U(-1/sqrt(H), 1/sqrt(H)). States h, (N, H), and
    clock, (N, H): how many steps ago the unit ticked for the last time, 0 where it is to tick now.

    Raises:
        ArgumentError: a size below 1, or periods that are not positive, ascending integers.
        DTypeError: another dtype.
    """

    gates = 1
    state_names = ("h", "clock")
    variants = ({"periods": (1, 2, 4, 8)}, {"periods": (1, 3)})

    period: Tensor
    heard: Tensor

    def __init__(
        self,
        input_size: int,
        hidden_size: int,
        bias: bool = True,
        *,
        periods: Sequence[int] = (1, 2, 4, 8),
        dtype: Any = np.float32,
    ) -> None:
        super().__init__(input_size, hidden_size, bias, dtype=dtype)
        try:
            self.periods = tuple([check_size("periods", each) for each in periods])
        except TypeError:
            raise ArgumentError(f"periods: expected several integers, got {periods!r}") from None
        count = len(self.periods)
        if not count or any(np.diff(self.periods) <= 0):
            raise ArgumentError(f"periods: expected ascending integers, got {self.periods}")
        sizes = [len(part) for part in np.array_split(np.arange(self.hidden_size), count)]
        period = np.repeat(self.periods, sizes)
        heard = period[:, None] <= period
        # Made by the constructor's arguments, so no part of what is saved.
        self.register_buffer("period", Tensor(period.astype(self.dtype)), persistent=False)
        self.register_buffer("heard", Tensor(heard.astype(self.dtype)), persistent=False)

    def recurrent_weight(self) -> Tensor:
        """W_hh without the blocks below the diagonal."""
        return self.weight_hh * self.heard

    def step(self, x: Tensor, state: State) -> tuple[Tensor, State]:
        h, clock = state
        new = tanh(self.from_input(x) + linear(h, self.recurrent_weight(), self.bias_hh))
        # Halves keep clear of rounding, and a clock that counts to its period never overflows.
        h = where(clock < 0.5, new, h)
        clock = where(self.period - clock < 1.5, 0.0, clock + 1)
        return h, (h, clock)
