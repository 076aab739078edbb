"""One problem to time: a cell, its shape, and the arrays that every side shares."""

from __future__ import annotations

from dataclasses import dataclass, field
from functools import cached_property
from typing import Any, NamedTuple

import numpy as np

import rnnkit as rk
from rnnkit import nn
from rnnkit.cells import CELLS

Shapes = dict[str, tuple[int, ...]]

FUSED = tuple(name for name, cell in CELLS.items() if cell.kernel is not None)
"""The cells that the suites go over: those with a kernel to be timed."""


class Shape(NamedTuple):
    N: int
    T: int
    I: int
    H: int

    def __str__(self) -> str:
        return f"N{self.N} T{self.T} I{self.I} H{self.H}"


@dataclass(frozen=True)
class Problem:
    """A cell (a name in ``FUSED`` and its options) on one shape and dtype.

    ``source`` says which list of shapes it is from.
    """

    cell: str
    shape: Shape
    dtype: str = "float32"
    options: dict[str, Any] = field(default_factory=dict)
    source: str = "grid"

    @property
    def label(self) -> str:
        usual = CELLS[self.cell].variants[0]
        words = [
            value if isinstance(value, str) else f"{name}={value}"
            for name, value in self.options.items()
            if isinstance(value, str) or value != usual[name]
        ]
        return " ".join([self.cell.upper(), *words])

    def __str__(self) -> str:
        return f"{self.label} {self.shape} {self.dtype}"

    @property
    def states(self) -> tuple[str, ...]:
        return CELLS[self.cell].state_names

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
        kind: Any = CELLS[self.cell]
        return nn.Recurrent(kind(self.shape.I, self.shape.H, dtype=self.dtype, **self.options))

    @cached_property
    def inputs(self) -> dict[str, np.ndarray]:
        """x (T, N, I) and the initial state of every name (1, N, H)."""
        N, T, I, H = self.shape
        shapes: Shapes = {"x": (T, N, I), **{f"{name}0": (1, N, H) for name in self.states}}
        return self._normal(2, shapes)

    @cached_property
    def d_outputs(self) -> dict[str, np.ndarray]:
        """The gradients that a training step feeds to y and to the final states."""
        N, T, _, H = self.shape
        shapes: Shapes = {"d_y": (T, N, H), **{f"d_{name}n": (1, N, H) for name in self.states}}
        return self._normal(3, shapes)

    def _normal(self, seed: int, shapes: Shapes) -> dict[str, np.ndarray]:
        random = np.random.default_rng(seed)
        return {
            name: random.standard_normal(shape).astype(self.dtype) for name, shape in shapes.items()
        }

    def tolerance(self) -> float:
        """Largest error, relative to an array's largest element, that rounding explains.

        Errors of a sum of K terms grow with sqrt(K); a hidden state sums I + H terms in each of T
        steps.
        """
        shape = self.shape
        return 16 * float(np.finfo(self.dtype).eps) * (shape.T * (shape.I + shape.H)) ** 0.5
