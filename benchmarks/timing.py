"""Interleaved timing: every side once a round, medians and quartiles over the rounds."""

from __future__ import annotations

import statistics
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any

MIN_ROUNDS, MAX_ROUNDS = 3, 25
# Idle threads of OpenMP and OpenBLAS spin for up to some tens of milliseconds after their last
# work; whoever is timed meanwhile shares the cores with them.
SETTLE_SECONDS = 0.03
LONGEST_WARM_UP = 0.05


@dataclass(frozen=True)
class Plan:
    """How long to measure: per sample of one side, and per comparison in all."""

    sample_seconds: float
    budget_seconds: float
    settle_seconds: float = SETTLE_SECONDS


@dataclass(frozen=True)
class Spread:
    """Median and quartiles."""

    median: float
    low: float
    high: float

    @classmethod
    def of(cls, values: list[float]) -> Spread:
        low, middle, high = statistics.quantiles(values, n=4, method="inclusive")
        return cls(middle, low, high)


def compare(
    sides: Mapping[str, tuple[Callable[[], None], Callable[[], Any]]], plan: Plan
) -> dict[str, list[float]]:
    """Seconds per call of every side, one value a round.

    Args:
        sides: name -> (prepare, call); ``prepare`` is not timed.
        plan: durations.
    """
    once = {}
    for name, (prepare, call) in sides.items():
        prepare()
        call()
        once[name] = _seconds(call, 1)
    calls = {name: max(1, round(plan.sample_seconds / seconds)) for name, seconds in once.items()}
    round_seconds = sum(calls[name] * once[name] + plan.settle_seconds for name in sides)
    rounds = min(MAX_ROUNDS, max(MIN_ROUNDS, int(plan.budget_seconds / round_seconds)))
    samples: dict[str, list[float]] = {name: [] for name in sides}
    order = list(sides)
    for _ in range(rounds):
        for name in order:
            prepare, call = sides[name]
            time.sleep(plan.settle_seconds)
            prepare()
            if once[name] < LONGEST_WARM_UP:
                call()
            samples[name].append(_seconds(call, calls[name]) / calls[name])
        order.append(order.pop(0))
    return samples


def _seconds(call: Callable[[], Any], times: int) -> float:
    start = time.perf_counter()
    for _ in range(times):
        call()
    return time.perf_counter() - start
