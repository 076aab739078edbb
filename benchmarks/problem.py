"""One problem to time: a cell, its shape, and the arrays that every side shares."""

from __future__ import annotations

from dataclasses import dataclass, field
from functools import cached_property
from typing import Any, NamedTuple

import numpy as np

import rnnkit as rk
from rnnkit import nn
from rnnkit.cells import CELLS, Cell

from .program_cells import POSITIVE_STATES, PROGRAM_CELLS

Shapes = dict[str, tuple[int, ...]]

FUSED = tuple(name for name, cell in CELLS.items() if cell.kernel is not None)
"""The cells that the suites go over: those with a kernel to be timed."""


def usual(cell: str) -> dict[str, Any]:
    """The options of a shipped cell's first variant."""
    return dict(CELLS[cell].variants[0])


class Shape(NamedTuple):
    N: int
    T: int
    I: int
    H: int

    def __str__(self) -> str:
        return f"N{self.N} T{self.T} I{self.I} H{self.H}"


@dataclass(frozen=True)
class Problem:
    """A cell on one shape and dtype.

    Attributes:
        cell: a name in ``rnnkit.cells.CELLS`` or ``program_cells.PROGRAM_CELLS``.
        options: of the cell.
        source: which list of shapes it is from.
        ragged: whether the rows differ in length; else all have T steps.
        reset_rate: the probability that a row restarts before a step.
        last_only: whether y is only the last output of each row.
        memory: the policy of a training step, as ``nn.Recurrent`` takes it.
    """

    cell: str
    shape: Shape
    dtype: str = "float32"
    options: dict[str, Any] = field(default_factory=dict)
    source: str = "grid"
    ragged: bool = False
    reset_rate: float = 0.0
    last_only: bool = False
    memory: str = "full"

    @property
    def kind(self) -> type[Cell]:
        return CELLS[self.cell] if self.cell in CELLS else PROGRAM_CELLS[self.cell]

    @property
    def label(self) -> str:
        usual = self.kind.variants[0]
        words = [
            value if isinstance(value, str) else f"{name}={value}"
            for name, value in self.options.items()
            if isinstance(value, str) or value != usual.get(name)
        ]
        return " ".join([self.cell.upper(), *words])

    def __str__(self) -> str:
        how = [
            *(["ragged"] if self.ragged else []),
            *(["resets"] if self.reset_rate else []),
            *([f"memory={self.memory}"] if self.memory != "full" else []),
        ]
        return " ".join([self.label, str(self.shape), self.dtype, *how])

    @property
    def is_plain(self) -> bool:
        """Whether it asks for no more than every library's recurrent layer has."""
        return not (self.ragged or self.reset_rate or self.last_only)

    @property
    def states(self) -> tuple[str, ...]:
        return self.kind.state_names

    @cached_property
    def lengths(self) -> np.ndarray | None:
        """(N,) uniform on 1..T, unsorted; spread evenly, so that no draw is a lucky one."""
        N, T = self.shape.N, self.shape.T
        if not self.ragged:
            return None
        spread = np.ceil((np.arange(N) + 0.5) * T / N).astype(np.int64)
        return np.random.default_rng(4).permutation(spread)

    @property
    def row_steps(self) -> int:
        """The steps of all rows together."""
        return self.shape.N * self.shape.T if self.lengths is None else int(self.lengths.sum())

    @cached_property
    def call_options(self) -> dict[str, Any]:
        """What a call of the module gets beside x and the states."""
        options: dict[str, Any] = {}
        if self.ragged:
            options["lengths"] = self.lengths
        if self.reset_rate:
            draws = np.random.default_rng(5).random((self.shape.T, self.shape.N))
            options["reset"] = draws < self.reset_rate
        if self.last_only:
            options["return_sequences"] = False
        return options

    def make_module(self) -> nn.Recurrent:
        """An rnnkit module with this problem's weights."""
        module = self._draw_module()
        module.load_state_dict(self.weights)
        return module

    @cached_property
    def weights(self) -> dict[str, np.ndarray]:
        return self._draw_module().state_dict()

    def _draw_module(self) -> nn.Recurrent:
        rk.manual_seed(1)
        kind: Any = self.kind
        cell = kind(self.shape.I, self.shape.H, dtype=self.dtype, **self.options)
        return nn.Recurrent(cell, memory=self.memory)

    @cached_property
    def inputs(self) -> dict[str, np.ndarray]:
        """x (T, N, I) and the initial state of every name (1, N, H)."""
        N, T, I, H = self.shape
        shapes: Shapes = {"x": (T, N, I), **{f"{name}0": (1, N, H) for name in self.states}}
        arrays = self._normal(2, shapes)
        for name in POSITIVE_STATES.get(self.cell, ()):
            arrays[f"{name}0"] = np.abs(arrays[f"{name}0"]) + 1
        return arrays

    @cached_property
    def d_outputs(self) -> dict[str, np.ndarray]:
        """The gradients that a training step feeds to y and to the final states."""
        N, T, _, H = self.shape
        y = (N, H) if self.last_only else (T, N, H)
        shapes: Shapes = {"d_y": y, **{f"d_{name}n": (1, N, H) for name in self.states}}
        return self._normal(3, shapes)

    def _normal(self, seed: int, shapes: Shapes) -> dict[str, np.ndarray]:
        random = np.random.default_rng(seed)
        return {
            name: random.standard_normal(shape, np.dtype(self.dtype).type)
            for name, shape in shapes.items()
        }

    def tolerance(self) -> float:
        """Largest error, relative to an array's largest element, that rounding explains.

        Errors of a sum of K terms grow with sqrt(K); a hidden state sums I + H terms in each of T
        steps.
        """
        shape = self.shape
        return 16 * float(np.finfo(self.dtype).eps) * (shape.T * (shape.I + shape.H)) ** 0.5
