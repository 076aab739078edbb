"""The phased LSTM: a clock opens each unit for a short part of its own period.

    phase = (t - shift) / period - floor((t - shift) / period)
    k = 2 phase / open            phase < open / 2:           opening
        2 - 2 phase / open        open / 2 <= phase < open:   closing
        leak phase                open <= phase:              closed

    i, f, g, o = W_ih x + b_ih + W_hh h + b_hh
    i, f = sigmoid(i + p_i * c), sigmoid(f + p_f * c)
    c~ = f * c + i * tanh(g)
    h~ = sigmoid(o + p_o * c~) * tanh(c~)
    c' = k * c~ + (1 - k) * c
    h' = k * h~ + (1 - k) * h

Neil, Pfeiffer and Liu 2016, "Phased LSTM: Accelerating Recurrent Network Training for Long or
Event-based Sequences", arXiv 1610.09513, equations 1 to 10.

Time is a state: t counts the steps, or with ``timed=True`` is what the last input feature says.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np

from rnnkit import rng
from rnnkit.cells.base import Cell, GatedCell, register_cell
from rnnkit.checks import check_bool, check_number, check_size
from rnnkit.errors import ArgumentError
from rnnkit.ops import floor, sigmoid, tanh, where

if TYPE_CHECKING:
    from rnnkit.autograd import Tensor
    from rnnkit.cells.base import State
    from rnnkit.module import Parameter


@register_cell("phased_lstm")
class PhasedLSTMCell(GatedCell):
    """One step of the phased LSTM.

    Args:
        input_size: I, with the time where ``timed``.
        hidden_size: H.
        bias: whether the cell has ``bias_ih`` and ``bias_hh``.
        timed: whether the last feature of the input is the time of the step, and goes into nothing
            else. By default the first step has time 1, the second time 2, and so on. The layers
            above do not see the input: a timed cell can be stacked only by hand.
        leak: what passes a closed gate, from 0 to 1. The paper trains with 0.001 and has 0
            afterwards.
        periods: the periods are drawn between these two, uniformly in their logarithm.
        dtype: float32 or float64.

    Parameters, gates stacked i, f, g, o: weight_ih (4*H, I), or (4*H, I - 1) where ``timed``,
    weight_hh (4*H, H), biases (4*H,), weight_peephole (3*H,) for i, f, o, drawn from
    U(-1/sqrt(H), 1/sqrt(H)); period (H,); shift (H,), drawn from U(0, period); open (H,), the share
    of the period, which begins at 0.05. States h and c, (N, H), and t, (N, 1).

    Raises:
        ArgumentError: a size below 1; only one input feature where ``timed``; a leak out of
            range; periods that are not positive and ascending.
        DTypeError: another dtype.
    """

    gates = 4
    state_names = ("h", "c", "t")
    variants = ({"timed": False}, {"timed": True})

    weight_peephole: Parameter
    period: Parameter
    shift: Parameter
    open: Parameter

    def __init__(
        self,
        input_size: int,
        hidden_size: int,
        bias: bool = True,
        *,
        timed: bool = False,
        leak: float = 0.001,
        periods: tuple[float, float] = (1.0, 20.0),
        dtype: Any = np.float32,
    ) -> None:
        self.timed = check_bool("timed", timed)
        if timed and check_size("input_size", input_size) == 1:
            raise ArgumentError("input_size: expected the time and at least one feature, got 1")
        if not isinstance(periods, (tuple, list)) or len(periods) != 2:
            raise ArgumentError(f"periods: expected two ascending numbers, got {periods!r}")
        for period in periods:
            check_number("periods", period, above_low=True, below_high=True)
        if not periods[0] <= periods[1]:
            raise ArgumentError(f"periods: expected two ascending numbers, got {periods!r}")
        check_number("leak", leak, high=1)
        self.leak, self.periods = leak, periods
        super().__init__(input_size, hidden_size, bias, dtype=dtype)

    @property
    def state_shapes(self) -> tuple[tuple[int, ...], ...]:
        return ((self.hidden_size,), (self.hidden_size,), (1,))

    def parameter_shapes(self) -> dict[str, tuple[int, ...] | None]:
        H = self.hidden_size
        return {
            **super().parameter_shapes(),
            "weight_ih": (4 * H, self.input_size - self.timed),
            "weight_peephole": (3 * H,),
            "period": (H,),
            "shift": (H,),
            "open": (H,),
        }

    def reset_parameters(self) -> None:
        super().reset_parameters()
        low, high = np.log(self.periods)
        self.period.data[...] = np.exp(rng.generator().uniform(low, high, self.hidden_size))
        self.shift.data[...] = rng.generator().random(self.hidden_size) * self.period.data
        self.open.data[...] = 0.05

    def renew(self, input_size: int) -> Cell:
        if self.timed and input_size != self.input_size:
            raise ArgumentError("timed: the layers above the first do not see the time")
        return super().renew(input_size)

    def gate(self, t: Tensor) -> Tensor:
        """k, (N, H), at the times t, (N, 1)."""
        cycles = (t - self.shift) / self.period
        phase = cycles - floor(cycles)
        rising = 2 * phase / self.open
        return where(rising < 1, rising, where(rising < 2, 2 - rising, self.leak * phase))

    def step(self, x: Tensor, state: State) -> tuple[Tensor, State]:
        h, c, t = state
        if self.timed:
            x, t = x.split([self.input_size - 1, 1], -1)
        else:
            t = t + 1
        k = self.gate(t)
        i, f, g, o = (self.from_input(x) + self.from_hidden(h)).chunk(4, -1)
        p_i, p_f, p_o = self.weight_peephole.chunk(3)
        new_c = sigmoid(f + p_f * c) * c + sigmoid(i + p_i * c) * tanh(g)
        new_h = sigmoid(o + p_o * new_c) * tanh(new_c)
        c = k * new_c + (1 - k) * c
        h = k * new_h + (1 - k) * h
        return h, (h, c, t)
