"""What a recurrent layer must at least do, and how near to the machine's limits it comes.

    flops     2 (rows and steps) (weights), three times that in a training step: the products for
              the outputs, for d_x and d_h, and for d_weights
    bytes     the recurrent weights, read once a step; twice in a training step
    outside   those of the flops that are not in a loop over time, and read no weights at each step

The fraction of the FMA peak is that of all flops in all of the time. The fraction of the read
bandwidth is that of the loops: their time is what remains when the products outside are given what
they need at the FMA peak; the bandwidth is that of a buffer of the size of the weights. The larger
of the two bounds the problem. What the nonlinearities cost is in neither.

Whoever forms these products can't be faster than the FMA peak: by how much that is faster than
another library is the most that any work on the kernels could reach.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import Any

import numpy as np

from .limits import Limits, level_of
from .problem import Problem
from .timing import ratios, spread


def flops(problem: Problem, mode: str) -> int:
    """Multiplications and additions of the matrix products."""
    return flops_of_matrices(problem.weights, problem.row_steps, mode)


def flops_of_matrices(weights: Mapping[str, np.ndarray], vectors: int, mode: str) -> int:
    """Those of every matrix among ``weights`` with so many vectors."""
    return flops_of_numbers(sum(w.size for w in weights.values() if w.ndim == 2), vectors, mode)


def flops_of_numbers(numbers: int, vectors: int, mode: str) -> int:
    """Those of matrices of so many numbers."""
    return 2 * vectors * numbers * (3 if mode == "training" else 1)


def flops_outside(problem: Problem, mode: str) -> int:
    """Those of the products of the input and of the gradients of weights and input."""
    w_ih, w_hh = (_matrix_size(problem, name) for name in ("weight_ih", "weight_hh"))
    return 2 * problem.row_steps * (3 * w_ih + w_hh if mode == "training" else w_ih)


def _matrix_size(problem: Problem, name: str) -> int:
    value = problem.weights[f"{name}_l0"]
    return value.size if value.ndim == 2 else 0


def recurrent_bytes(problem: Problem) -> int:
    """The size of the recurrent weights."""
    return problem.weights["weight_hh_l0"].nbytes


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
    outside = flops_outside(problem, mode)
    # However bad a reading is, the loops take a part of the time.
    in_loops = [
        max(s - outside / peak, s / 10) for s, peak in zip(seconds, readings["fma"], strict=True)
    ]
    rates = {
        "fma": [work["fma"] / s for s in seconds],
        "read": [work["read"] / s for s in in_loops],
    }
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


def at_peak(flops: int, seconds: Sequence[float], peak: Sequence[float]) -> dict[str, float]:
    """How many times as fast as ``seconds`` the products alone are at the FMA peak of the round."""
    return ratios(seconds, [flops / each for each in peak])


def memory_of(weights: int, threads: int) -> str:
    """The memory of one core that holds its share of the recurrent weights."""
    return level_of(weights // threads)
