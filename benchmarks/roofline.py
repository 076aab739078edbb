"""What a recurrent layer must at least do, and how near to the machine's limits it comes.

    flops     2 N T (weights), three times that in a training step: the products for the outputs,
              for d_x and d_h, and for d_weights
    bytes     the recurrent weights, read once a step; twice in a training step

The bound is the larger of flops / FMA peak and bytes / read bandwidth, where the bandwidth is that
of a buffer of the size of the weights. What the nonlinearities cost is not in it.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import Any

import numpy as np

from rnnkit.cells import CELLS

from .limits import Limits, level_of
from .problem import Problem
from .timing import ratios, spread


def flops(problem: Problem, mode: str) -> int:
    """Multiplications and additions of the matrix products."""
    N, T, I, H = problem.shape
    return 2 * N * T * _gates(problem) * H * (I + H) * (3 if mode == "training" else 1)


def recurrent_bytes(problem: Problem) -> int:
    """The size of the recurrent weights."""
    return _gates(problem) * problem.shape.H**2 * np.dtype(problem.dtype).itemsize


def _gates(problem: Problem) -> int:
    cell: Any = CELLS[problem.cell]
    return int(cell.gates)


def bytes_read(problem: Problem, mode: str) -> int:
    """The recurrent weights as often as the steps need them."""
    return recurrent_bytes(problem) * problem.shape.T * (2 if mode == "training" else 1)


def gauges(problem: Problem, limits: Limits) -> dict[str, Callable[[], float]]:
    """What ``compare`` reads among its samples: the two limits that bound this problem."""
    size = recurrent_bytes(problem)
    return {"fma": lambda: limits.fma(problem.dtype), "read": lambda: limits.read(size)}


def against_limits(
    problem: Problem, mode: str, seconds: Sequence[float], readings: Mapping[str, list[float]]
) -> dict[str, Any]:
    """The entry of a row: rates of the work and of the machine, fractions round by round."""
    work = {"fma": flops(problem, mode), "read": bytes_read(problem, mode)}
    rates = {name: [amount / s for s in seconds] for name, amount in work.items()}
    fractions = {name: ratios(rates[name], readings[name]) for name in work}
    bound = max(fractions, key=lambda name: fractions[name]["median"])
    return {
        "flops": work["fma"],
        "bytes": work["read"],
        "weights": recurrent_bytes(problem),
        "rate": {name: spread(values) for name, values in rates.items()},
        "limit": {name: spread(values) for name, values in readings.items()},
        "fraction": fractions,
        "bound": bound,
    }


def memory_of(weights: int, threads: int) -> str:
    """The memory of one core that holds its share of the recurrent weights."""
    return level_of(weights // threads)
