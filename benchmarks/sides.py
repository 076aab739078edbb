"""What is compared: rnnkit's two paths, and peers where they are installed."""

from __future__ import annotations

import importlib
import importlib.util
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import numpy as np

import rnnkit as rk

from .problem import Problem

PEERS = {"torch": "benchmarks.peer_torch"}
"""Name of a peer's package -> the module here that makes a ``Side`` of it."""


@dataclass(frozen=True)
class Side:
    """One contestant on one problem.

    ``forward`` is inference; ``train`` a forward pass and the gradients of x, of the initial states
    and of every weight. Each returns its arrays in the order y, final states, gradients.
    ``prepare`` is called, untimed, before each sample.
    """

    name: str
    forward: Callable[[], Any]
    train: Callable[[], Any]
    to_numpy: Callable[[Any], list[np.ndarray]]
    prepare: Callable[[], None]

    def timed(self, mode: str) -> Callable[[], Any]:
        return self.forward if mode == "forward" else self.train


def rnnkit_side(problem: Problem, backend: str) -> Side:
    """rnnkit on the path that ``backend`` forces: "native" or "python"."""
    weights = problem.weights
    module = problem.make_module()
    inputs = [rk.tensor(value, requires_grad=True) for value in problem.inputs.values()]
    x, state = inputs[0], inputs[1:]
    given = state[0] if len(state) == 1 else tuple(state)
    wanted = [*inputs, *(dict(module.named_parameters())[name] for name in weights)]
    d_outputs = [rk.tensor(value) for value in problem.d_outputs.values()]

    def outputs() -> list[Any]:
        y, final = module(x, given)
        return [y, *final] if isinstance(final, tuple) else [y, final]

    def forward() -> list[Any]:
        with rk.no_grad():
            return outputs()

    def train() -> list[Any]:
        results = outputs()
        return [*results, *rk.grad(results, wanted, d_outputs)]

    return Side(
        backend,
        forward,
        train,
        lambda tensors: [tensor.detach().numpy() for tensor in tensors],
        lambda: rk.set_backend(backend),
    )


def missing_peers(names: list[str]) -> list[str]:
    """Those of the named peers that aren't installed in this interpreter."""
    return [name for name in names if importlib.util.find_spec(name) is None]


def make_sides(problem: Problem, peers: list[str], threads: int) -> list[Side]:
    """All contestants that can run the problem; the native one comes first."""
    sides = [rnnkit_side(problem, "native"), rnnkit_side(problem, "python")]
    for name in peers:
        side = importlib.import_module(PEERS[name]).make_side(problem, threads)
        if side is not None:
            sides.append(side)
    return sides


def check_sides(problem: Problem, sides: list[Side], mode: str) -> None:
    """Raises AssertionError unless all sides compute what the first one does, to rounding."""
    names = ["y", *(f"{state}n" for state in problem.states)]
    if mode == "training":
        names += [f"d_{name}" for name in (*problem.inputs, *problem.weights)]
    expected: list[np.ndarray] = []
    for side in sides:
        side.prepare()
        arrays = side.to_numpy(side.timed(mode)())
        if side is sides[0]:
            expected = arrays
        for name, a, b in zip(names, arrays, expected, strict=True):
            scale = max(float(np.abs(b).max()), 1e-30)
            error = float(np.abs(a - b).max()) / scale
            if not error <= problem.tolerance():
                raise AssertionError(
                    f"{problem.label} {problem.shape} {problem.dtype} {mode}: {name} of "
                    f"{side.name} differs from that of {sides[0].name} by {error:.1e} of its "
                    f"largest element (at most {problem.tolerance():.1e} is rounding)"
                )
