"""What is known of one layer, in one direction, after it has run under a trace."""

from __future__ import annotations

import math
from functools import cached_property
from typing import TYPE_CHECKING, NamedTuple

import numpy as np

from rnnkit.checks import check_list, check_number
from rnnkit.diagnostics.decay import factor_per_step, memory_length, norms_of_rows
from rnnkit.errors import ArgumentError, GraphError

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from rnnkit.autograd.tensor import Array
    from rnnkit.cells import Cell
    from rnnkit.recurrent.observe import DirectionRun


class Saturation(NamedTuple):
    """Shares of a gate's values, from 0 to 1.

    Attributes:
        low: near the least value that the gate can take.
        high: near the greatest.
    """

    low: float
    high: float


class LayerTrace:
    """One layer in one direction over one sequence. Arrays are (T, N, ...), in the order of time.

    The gradient of a state at step t, dL/dh_t, is the total derivative: what the loss would change
    by if h_t alone were nudged and everything after it followed, along every path: the output of
    the step, the steps after it, the final state.

    Attributes:
        name: of the layer: as in the module that was given to ``trace``, or its kind and number.
        reverse: whether it ran from the last step to the first.
        path: "fused", "program" or "python".
        cell: the cell that ran.
        T, N: steps and rows of the batch.
        lengths: (N,) steps of each row.
        states: per state name (T, N, H), after each step; zero past a row's end.
        gates: per gate name (T, N, H), or as a cell of one's own gives them, after their
            nonlinearities; zero past a row's end. Empty for a cell that shows none
            (``Cell.gate_names``). The one gate of an RNN is its h.
        d_states: per state name (T, N, H): dL/dh_t and, for the LSTM, dL/dc_t. Empty before the
            backward pass, and without the states that depend on nothing that requires a gradient;
            several passes add up.
        probe: the same run where a gradient of norm 1 came back from each row's final h and from
            nowhere else: only its ``d_states`` and what follows from them. It tells what the layer
            itself does with a gradient, wherever the loss is taken and whatever other layers send
            back. None unless ``trace`` was asked for it.
    """

    def __init__(self, name: str, run: DirectionRun) -> None:
        self.name = name
        self._run = run
        self.probe: LayerTrace | None = None

    @property
    def reverse(self) -> bool:
        return self._run.reverse

    @property
    def path(self) -> str:
        return self._run.path

    @property
    def cell(self) -> Cell:
        return self._run.cell

    @property
    def T(self) -> int:  # noqa: N802
        return self._run.T

    @property
    def N(self) -> int:  # noqa: N802
        return self._run.N

    @property
    def lengths(self) -> Array:
        schedule = self._run.schedule
        if schedule is None or schedule.lengths is None:
            return np.full(self.N, self.T, np.int64)
        return schedule.lengths

    @property
    def states(self) -> Mapping[str, Array]:
        return self._run.states

    @property
    def gates(self) -> Mapping[str, Array]:
        return self._run.gates

    @property
    def d_states(self) -> Mapping[str, Array]:
        return self._run.d_states

    @cached_property
    def sequences(self) -> Array:
        """(T, N) integers that tell apart the sequences of the batch; -1 past a row's end.

        A row is several where it is reset on its way.
        """
        T, N = self.T, self.N
        schedule = self._run.schedule
        part = np.zeros((T, N), np.int64)
        if schedule is not None and schedule.reset is not None:
            part = np.cumsum(schedule.reset, axis=0)
        numbers = np.arange(N) * (T + 1) + part
        return np.where(np.arange(T)[:, None] < self.lengths, numbers, -1)

    @cached_property
    def longest(self) -> int:
        """Steps of the longest sequence."""
        there = self.sequences[self.sequences >= 0]
        return int(np.unique(there, return_counts=True)[1].max()) if there.size else 0

    def row_norms(self, state: str | None = None) -> Array:
        """Norms (T, N) of the gradient of a state, by step and row, as float64.

        Args:
            state: a name from ``cell.state_names``; None: the first, h.

        Raises:
            ArgumentError: there is no such state.
            GraphError: no gradient has come to it: no backward pass has gone through this layer.
        """
        names = self.cell.state_names
        name = names[0] if state is None else state
        if name not in names:
            raise ArgumentError(f"state: expected one of {', '.join(names)}, got {state!r}")
        if name not in self.d_states:
            raise GraphError(
                f"{self.name}: no gradient has come to {name}; call backward() on what was "
                "computed from it"
            )
        return norms_of_rows(self.d_states[name])

    def norms(self, state: str | None = None) -> Array:
        """Norms (T,) of the gradient of a state over the whole batch; as ``row_norms``."""
        return norms_of_rows(self.row_norms(state)[:, None])[:, 0]

    def quantiles(self, q: Sequence[float], state: str | None = None) -> Array:
        """Quantiles (len(q), T) over the rows of ``row_norms``; NaN where no row has the step.

        Interpolated between rows, but infinite from the first infinite row on.

        Raises ArgumentError where one is not from 0 to 1.
        """
        q = check_list("q", q, "several numbers from 0 to 1")
        for each in q:
            check_number("q", each, high=1.0)
        rows = self.row_norms(state)
        result = np.full((len(q), self.T), np.nan)
        for t in range(self.T):
            there = rows[t][self.sequences[t] >= 0]
            if there.size:
                result[:, t] = _quantiles(there, q)
        return result

    def factor(self, state: str | None = None) -> float:
        """The factor by which the norm of the gradient changes at each step back.

        Fitted by least squares to the logarithms of ``row_norms``, a slope for all sequences and an
        intercept for each; norms that are zero or not finite are left out. Below 1 the gradient
        falls. NaN where there is nothing to compare, as in a sequence of one step.

        It says what the layer does with a gradient where that comes from the end of the sequence.
        From a loss at every step, or from a layer above, gradients enter at all steps, and their
        profile over time shows too: ``probe.factor()`` is free of it.
        """
        return factor_per_step(self.row_norms(state), self.sequences, self.reverse)

    def change(self, state: str | None = None) -> float:
        """``factor`` over the whole of the longest sequence: what is left of 1 at its beginning."""
        factor = self.factor(state)
        with np.errstate(over="ignore"):
            return float(np.float64(factor) ** max(self.longest - 1, 0))

    def memory_length(self, fraction: float = math.exp(-1), state: str | None = None) -> float:
        """The effective memory length: steps back until ``fraction`` of the gradient is left.

        ln(fraction) / ln(factor), the time constant of the decay for 1/e. Beyond a few times that
        many steps, what a step did can hardly be learned from its consequences (Hochreiter 1991;
        Bengio et al. 1994; Pascanu et al. 2013, arXiv 1211.5063). Infinite where the gradient does
        not fall; 0 where it is gone after one step.

        Raises:
            ArgumentError: fraction is not between 0 and 1.
        """
        check_number("fraction", fraction, high=1, above_low=True, below_high=True)
        return memory_length(self.factor(state), fraction)

    def saturation(self, margin: float = 0.05) -> dict[str, Saturation]:
        """For each gate the shares of its values within ``margin`` of an end of its range.

        A gate from 0 to 1 is saturated below 0.05 and above 0.95, one from -1 to 1 below -0.9 and
        above 0.9. Where the range has no upper end (relu), low is the share of values that are 0.

        Raises:
            ArgumentError: margin is not between 0 and 0.5.
        """
        check_number("margin", margin, high=0.5, above_low=True, below_high=True)
        there = self.sequences >= 0
        result = {}
        for name, gate in self.gates.items():
            low, high = self.cell.gate_ranges.get(name, (0.0, 1.0))
            edge = margin * (high - low) if math.isfinite(high) else 0.0
            values = gate[there]
            if not values.size:
                result[name] = Saturation(math.nan, math.nan)
                continue
            result[name] = Saturation(
                float((values <= low + edge).mean()), float((values >= high - edge).mean())
            )
        return result

    def __repr__(self) -> str:
        kind = type(self.cell).__name__
        gradients = ", ".join(self.d_states) or "none"
        return f"LayerTrace({self.name}: {kind}, T={self.T}, N={self.N}, gradients: {gradients})"


def _quantiles(values: Array, q: Sequence[float]) -> Array:
    """As np.quantile, which makes NaN of the difference of two that are infinite."""
    with np.errstate(invalid="ignore"):
        between = np.quantile(values, q)
    low, high = (np.quantile(values, q, method=method) for method in ("lower", "higher"))
    return np.where((low == high) | np.isinf(high), high, between)
