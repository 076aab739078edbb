"""What is seen of layers while they run, for those who want to look (``rnnkit.diagnostics``).

An observer is told of every layer that runs in its thread. Observing changes no result: the states
of every step are asked for as any caller may ask for them, gates are computed beside the run, and
gradients are copied as they pass. With no observer in force a layer looks here once.
"""

from __future__ import annotations

from _thread import _local
from collections.abc import Callable, Iterable, Sequence
from dataclasses import replace
from functools import partial
from typing import TYPE_CHECKING, Any

import numpy as np

from rnnkit import backend, rng
from rnnkit.autograd import enable_grad, grad, no_grad
from rnnkit.autograd.tensor import wrap
from rnnkit.cells import Cell
from rnnkit.recurrent.options import Result

if TYPE_CHECKING:
    from types import TracebackType
    from typing import Self

    from rnnkit.autograd import Tensor
    from rnnkit.autograd.tensor import Array
    from rnnkit.cells.base import State
    from rnnkit.recurrent.options import Options
    from rnnkit.recurrent.schedule import Schedule

    Run = Callable[[Sequence[Cell], Tensor, State, "State | None", Options], Result]


class Observer:
    """Base of those who look: a context manager, inside of which it is told of the layers that run.

    Attributes:
        records: whether it wants states, gates and gradients.
        probes: whether it wants a probe of the layer.
    """

    records: bool
    probes: bool

    def __enter__(self) -> Self:
        here.observers = (*here.observers, self)
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        # It may have been entered twice: only the last time ends.
        now = list(here.observers)
        del now[len(now) - 1 - now[::-1].index(self)]
        here.observers = tuple(now)

    def looks_at(self, cells: Sequence[Cell]) -> bool:
        """Whether it wants to see the run of these cells that is about to begin."""
        raise NotImplementedError

    def saw(self, run: LayerRun) -> None:
        """The forward pass is done; gradients come to ``run`` with the backward pass."""
        raise NotImplementedError


class _Here(_local):
    observers: tuple[Observer, ...] = ()


here = _Here()
"""The observers in force in this thread."""


class DirectionRun:
    """One direction of a layer over one sequence; arrays (T, N, ...) are in the order of time.

    Attributes:
        cell: the cell that ran.
        reverse: whether it ran from the last step to the first.
        path: "fused", "program" or "python".
        T, N: steps and rows.
        schedule: lengths and resets; None: every row takes every step.
        states: per state name (T, N, *shape), the state after every step, zero past a row's end.
        gates: per gate name (T, N, *), of the shipped cells (T, N, H), zero past a row's end.
        d_states: per state name (T, N, *shape), all that has flowed back into that state at that
            step: the derivative of what ``backward`` was called on, along every path. Several
            passes add up; empty before the first, and without the states that depend on nothing
            that requires a gradient.
        drawn: what the cell drew for the run.
    """

    __slots__ = (
        "N", "T", "_needed", "cell", "d_states", "drawn", "gates", "path", "reverse", "schedule",
        "states",
    )

    def __init__(
        self, cell: Cell, reverse: bool, path: str, T: int, N: int, schedule: Schedule | None
    ) -> None:
        self.cell = cell
        self.reverse = reverse
        self.path = path
        self.T = T
        self.N = N
        self.schedule = schedule
        self.states: dict[str, Array] = {}
        self.gates: dict[str, Array] = {}
        self.d_states: dict[str, Array] = {}
        self._needed: set[str] = set()
        self.drawn: tuple[Tensor, ...] = ()

    def need(self, names: Iterable[str]) -> None:
        """These states depend on something that requires a gradient: theirs are recorded."""
        self._needed.update(names)

    def watch(self, taken: Any, y: Tensor, states: State) -> None:
        """See what will flow back into what a step has made on the tape.

        ``taken`` is the place of its states in arrays (T, N, *shape).
        """
        for name, state in zip(self.cell.state_names, states, strict=True):
            if state.requires_grad:
                self.need([name])
                state.register_hook(partial(self._arrived, name, taken))
        if y.requires_grad:
            y.register_hook(self._begin)

    def _begin(self, gradient: Tensor) -> None:
        """Room for all of them, as from a native pass: to some states no gradient may ever come."""
        for name, shape in zip(self.cell.state_names, self.cell.state_shapes, strict=True):
            if name in self._needed and name not in self.d_states:
                self.d_states[name] = np.zeros((self.T, self.N, *shape), gradient.dtype)

    def _arrived(self, name: str, taken: Any, d_state: Tensor) -> None:
        self._begin(d_state)
        self.d_states[name][taken] += d_state.data

    def add_gradient(self, name: str, d_state: Array) -> None:
        """What a native backward pass found to flow into a state, (T, N, *shape)."""
        if name in self._needed:
            former = self.d_states.get(name)
            self.d_states[name] = d_state if former is None else former + d_state

    def keep_gates(self, x: Array, initial: Sequence[Array], restart: Sequence[Array]) -> None:
        """The gates of every step, from what the step took; x is (T, N, I)."""
        cell, schedule = self.cell, self.schedule
        if not cell.gate_names:
            return
        values_of: Any = cell.gate_values
        times = range(self.T)
        before = list(initial)
        with no_grad(), backend.backend("python"):
            for t in reversed(times) if self.reverse else times:
                x_t, active = x[t], None
                if schedule is not None:
                    active = schedule.active(t)
                    restarting = schedule.restarts(t, self.reverse)
                    if restarting is not None:
                        before = list(map(partial(_where_rows, restarting), restart, before))
                if active is not None:
                    x_t = np.where(active, x_t, x_t.dtype.type(0))
                now = [each[t if each.shape[0] > 1 else 0] for each in self.drawn]
                found = values_of(wrap(x_t), tuple(map(wrap, before)), *now)
                for name, value in zip(cell.gate_names, found, strict=True):
                    if name not in self.gates:
                        self.gates[name] = np.zeros((self.T, *value.shape), value.dtype)
                    gate = value.data
                    if active is not None:
                        gate = _where_rows(active, gate, np.zeros_like(gate))
                    self.gates[name][t] = gate
                after = [self.states[name][t] for name in cell.state_names]
                if active is not None:
                    after = list(map(partial(_where_rows, active), after, before))
                before = after


class LayerRun:
    """One layer over one sequence.

    Attributes:
        cells: (forward,) or (forward, reverse).
        directions: a ``DirectionRun`` for each.
        probe: another run of the same layer on the same sequence, with a backward pass from a
            gradient of norm 1 at each row's final h; None unless an observer wants it.
    """

    __slots__ = ("_dtype", "cells", "directions", "probe")

    def __init__(
        self, cells: Sequence[Cell], path: str, T: int, N: int, options: Options, dtype: Any
    ) -> None:
        self.cells = tuple(cells)
        self.directions = tuple(
            [
                DirectionRun(cell, direction == 1, path, T, N, options.schedule)
                for direction, cell in enumerate(cells)
            ]
        )
        self._dtype = dtype
        self.probe: LayerRun | None = None

    def keep_steps(
        self, x: Array, initial: State, restart: State | None, steps: State, batch_first: bool
    ) -> None:
        """The states of every step, as a layer returns them, and the gates that led there."""
        self._share_out([each.data for each in steps], batch_first, self._keep_state)
        x = _by_time(x, batch_first)
        for d, direction in enumerate(self.directions):
            starts = [each.data[d] for each in initial]
            if restart is None:
                restarts = [np.zeros_like(start) for start in starts]
            else:
                restarts = [each.data[d] for each in restart]
            direction.keep_gates(x, starts, restarts)

    def room(self, batch_first: bool) -> tuple[Array, ...]:
        """For the gradients of the states at every step: arrays like y, one per state name."""
        first = self.directions[0]
        leading = (first.N, first.T) if batch_first else (first.T, first.N)
        D = len(self.directions)
        shapes = [(*leading, *inner, D * width) for *inner, width in first.cell.state_shapes]
        return tuple([np.zeros(shape, self._dtype) for shape in shapes])

    def add(self, d_states: Sequence[Array], batch_first: bool) -> None:
        """Gradients that a native backward pass has left in ``room``."""
        self._share_out(d_states, batch_first, DirectionRun.add_gradient)

    def _share_out(
        self, arrays: Sequence[Array], batch_first: bool,
        use: Callable[[DirectionRun, str, Array], None],
    ) -> None:
        """Hand each direction its part of arrays that hold all of them side by side."""
        D = len(self.directions)
        first = self.cells[0]
        for name, shape, array in zip(first.state_names, first.state_shapes, arrays, strict=True):
            parts = np.split(_by_time(array, batch_first), D, axis=-1)
            for direction, part in zip(self.directions, parts, strict=True):
                use(direction, name, part.reshape(direction.T, direction.N, *shape))

    @staticmethod
    def _keep_state(direction: DirectionRun, name: str, state: Array) -> None:
        direction.states[name] = state


def observed(run: Run, path: str) -> Run:
    """The same run of a layer, seen by the observers in force."""

    def run_observed(
        cells: Sequence[Cell], x: Tensor, state: State, restart: State | None, options: Options
    ) -> Result:
        observers = [each for each in dict.fromkeys(here.observers) if each.looks_at(cells)]
        if not observers:
            return run(cells, x, state, restart, options)
        first, second, _ = x.shape
        T, N = (second, first) if options.batch_first else (first, second)

        def new_run() -> LayerRun:
            return LayerRun(cells, path, T, N, options, x.dtype)

        seen = new_run()
        before = rng.get_state()
        if any(each.records for each in observers):
            result = run(cells, x, state, restart, replace(options, steps=True, seen=seen))
            assert result.steps is not None
            seen.keep_steps(x.data, state, restart, result.steps, options.batch_first)
        else:
            result = run(cells, x, state, restart, options)
        if any(each.probes for each in observers):
            seen.probe = new_run()
            with rng.drawing_apart(before):
                more = replace(options, steps=False, seen=seen.probe)
                _probe(run, cells, x, state, restart, more)
        for observer in observers:
            observer.saw(seen)
        return result if options.steps else Result(result.y, result.final)

    return run_observed


def _probe(
    run: Run, cells: Sequence[Cell], x: Tensor, state: State, restart: State | None,
    options: Options,
) -> None:
    """Run the layer again, by itself, and send a gradient of norm 1 back from each final h.

    It has the same random direction every time, and takes nothing from the library's generator.
    """
    with enable_grad():
        starts = [wrap(each.data).requires_grad_() for each in state]
        begin = None if restart is None else tuple([each.detach() for each in restart])
        result = run(cells, x.detach(), tuple(starts), begin, options)
    h_n = result.final[0]
    if not h_n.requires_grad:
        return
    seeds = np.random.default_rng(0).standard_normal(h_n.shape)
    seeds /= np.sqrt((seeds**2).sum(axis=tuple(range(2, seeds.ndim)), keepdims=True))
    grad(h_n, starts, wrap(seeds.astype(h_n.dtype)), allow_unused=True)


def _by_time(array: Array, batch_first: bool) -> Array:
    return array.swapaxes(0, 1) if batch_first else array


def _where_rows(rows: Array, a: Array, b: Array) -> Array:
    """a in the given rows, (N, 1), and b in the others, whatever the axes of a row."""
    return np.where(rows.reshape(-1, *[1] * (a.ndim - 1)), a, b)
