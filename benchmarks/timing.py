"""Interleaved timing: every contestant once a round, medians and quartiles over the rounds.

Each round has an order of its own: whoever always came after the same one would find what that one
has left in the caches, or has driven out of them.

A contestant may have several settings (thread counts, call styles). All are timed; the one with the
lowest median counts. One that is plainly slower than its best sibling after the first rounds stops
taking part, which only saves time.
"""

from __future__ import annotations

import contextlib
import gc
import math
import random
import statistics
import threading
import time
from collections.abc import Callable, Mapping, Sequence
from contextlib import AbstractContextManager, nullcontext
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

MAX_ROUNDS = 25
# Idle threads of OpenMP and OpenBLAS spin for tens of milliseconds after their last work, in some
# versions for a hundred; whoever is timed meanwhile shares the cores with them.
SETTLE_SECONDS = 0.03
LONGEST_SETTLE = 0.3
LONGEST_WARM_UP = 0.05
# After so many rounds, whoever is so much slower than a sibling leaves.
KNOCKOUT_ROUNDS, PLAINLY_SLOWER = 3, 1.25


@dataclass(frozen=True)
class Plan:
    """How long to measure: per sample of one side, and per comparison in all.

    An entry whose single call takes longer than ``too_slow`` seconds is left out, unless it is the
    first.
    """

    sample_seconds: float
    budget_seconds: float
    settle_seconds: float = SETTLE_SECONDS
    too_slow: float = math.inf
    min_rounds: int = 5


QUICK = Plan(0.005, 0.4, settle_seconds=0.02, too_slow=1.0, min_rounds=3)
AT_ONCE = Plan(0.0, 0.0, settle_seconds=0.0, min_rounds=3)
"""The fewest rounds of one call each: a check of the suite, not a measurement."""


def plans(
    full: float = 3.0, standard: float = 2.0, too_slow: tuple[float, float] = (math.inf, math.inf)
) -> dict[str, Plan]:
    """A suite's plan for each size: so many seconds for a comparison, full and standard."""
    return {
        "full": Plan(0.02, full, too_slow=too_slow[0]),
        "standard": Plan(0.02, standard, too_slow=too_slow[1]),
        "quick": QUICK,
        "tiny": AT_ONCE,
    }


def settle(seconds: float) -> None:
    """Wait until no other thread of this process runs; at least ``seconds``, 0 for not at all.

    Where the system does not tell what threads do, ``seconds`` is all.
    """
    if seconds <= 0:
        return
    deadline = time.perf_counter() + LONGEST_SETTLE
    time.sleep(seconds)
    while _others_running() and time.perf_counter() < deadline:
        time.sleep(0.005)


def _others_running() -> bool:
    own = threading.get_native_id()
    for task in Path("/proc/self/task").glob("[0-9]*"):
        if int(task.name) == own:
            continue
        with contextlib.suppress(OSError):  # it may have ended meanwhile
            state = (task / "stat").read_text().rpartition(")")[2].split()[0]
            if state == "R":
                return True
    return False


@dataclass(frozen=True)
class Spread:
    """Median and quartiles."""

    median: float
    low: float
    high: float

    @classmethod
    def of(cls, values: Sequence[float]) -> Spread:
        low, middle, high = statistics.quantiles(values, n=4, method="inclusive")
        return cls(middle, low, high)


def spread(values: Sequence[float]) -> dict[str, float]:
    """Median and quartiles as they go into a row."""
    return asdict(Spread.of(values))


def ratios(over: Sequence[float], under: Sequence[float]) -> dict[str, float]:
    """The spread of the ratios of the rounds."""
    return spread([a / b for a, b in zip(over, under, strict=True)])


def inverse(spread: dict[str, float]) -> dict[str, float]:
    """The spread of the ratios turned round."""
    return {"median": 1 / spread["median"], "low": 1 / spread["high"], "high": 1 / spread["low"]}


@dataclass(frozen=True)
class Entry:
    """A contestant in one of its settings.

    ``prepare`` is called, untimed, before each sample; ``context`` is entered around it, untimed.
    """

    name: str
    call: Callable[[], Any]
    setting: str = ""
    prepare: Callable[[], None] = lambda: None
    context: Callable[[], AbstractContextManager[Any]] = nullcontext

    def get_ready(self) -> None:
        """What comes before a sample, untimed; the garbage of the one before goes, too."""
        gc.collect()
        self.prepare()

    def seconds(self, times: int) -> float:
        call = self.call
        with self.context():
            start = time.perf_counter()
            for _ in range(times):
                call()
            return time.perf_counter() - start


@dataclass
class Comparison:
    """What ``compare`` found; every list has one value a round.

    Attributes:
        seconds: contestant -> seconds per call in its best setting.
        setting: contestant -> that setting.
        settings: contestant -> setting -> median seconds, the best one included.
        readings: gauge -> what it read.
        left_out: contestants too slow to take part -> seconds of their one call.
    """

    seconds: dict[str, list[float]] = field(default_factory=dict)
    setting: dict[str, str] = field(default_factory=dict)
    settings: dict[str, dict[str, float]] = field(default_factory=dict)
    readings: dict[str, list[float]] = field(default_factory=dict)
    left_out: dict[str, float] = field(default_factory=dict)

    def ratios_to(self, name: str) -> dict[str, dict[str, float]]:
        """How many times as long as ``name`` every other contestant takes."""
        return {
            other: ratios(values, self.seconds[name])
            for other, values in self.seconds.items()
            if other != name
        }


def compare(
    entries: Sequence[Entry],
    plan: Plan,
    gauges: Mapping[str, Callable[[], float]] | None = None,
) -> Comparison:
    """Times the entries in turns, each with a garbage collector that has nothing left to do.

    Args:
        entries: the contestants; those of one name are settings of the same.
        plan: durations.
        gauges: name -> a measurement of the machine, read once a round among the samples.
    """
    # What is there before stays as it is: a collection then looks at little, and takes little.
    gc.collect()
    gc.freeze()
    try:
        return _compare(entries, plan, gauges or {})
    finally:
        gc.unfreeze()


def _compare(
    entries: Sequence[Entry], plan: Plan, gauges: Mapping[str, Callable[[], float]]
) -> Comparison:
    found = Comparison(readings={name: [] for name in gauges})
    once: dict[Entry, float] = {}
    for entry in entries:
        entry.get_ready()
        seconds = entry.seconds(1)
        if seconds < plan.too_slow:
            seconds = entry.seconds(1)
        if seconds < plan.too_slow or not once:
            once[entry] = seconds
        else:
            found.left_out[entry.name] = seconds
    for entry in once:
        found.left_out.pop(entry.name, None)

    samples: dict[Entry, list[float]] = {entry: [] for entry in once}
    order = list(once)
    shuffle = random.Random(0).shuffle
    began = time.perf_counter()
    for rounds in range(MAX_ROUNDS):
        if rounds >= plan.min_rounds and time.perf_counter() - began >= plan.budget_seconds:
            break
        if rounds == KNOCKOUT_ROUNDS:
            order = [entry for entry in order if not _is_beaten(entry, samples)]
        for entry in order:
            settle(plan.settle_seconds)
            entry.get_ready()
            if once[entry] < LONGEST_WARM_UP:
                entry.seconds(1)
            times = max(1, round(plan.sample_seconds / once[entry]))
            samples[entry].append(entry.seconds(times) / times)
        for name, read in gauges.items():
            found.readings[name].append(read())
        shuffle(order)
    _choose(found, samples, finalists=order)
    return found


def _is_beaten(entry: Entry, samples: Mapping[Entry, list[float]]) -> bool:
    best = min(
        statistics.median(values) for other, values in samples.items() if other.name == entry.name
    )
    return statistics.median(samples[entry]) > PLAINLY_SLOWER * best


def _choose(
    found: Comparison, samples: Mapping[Entry, list[float]], finalists: Sequence[Entry]
) -> None:
    median = {entry: statistics.median(values) for entry, values in samples.items()}
    for name in dict.fromkeys(entry.name for entry in samples):
        best = min((entry for entry in finalists if entry.name == name), key=median.__getitem__)
        found.seconds[name] = samples[best]
        found.setting[name] = best.setting
        found.settings[name] = {e.setting: median[e] for e in samples if e.name == name}
