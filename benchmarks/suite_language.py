"""End to end: the same language model trained in rnnkit and in PyTorch.

Embedding, LSTM layers with dropout, linear head, cross entropy, gradient clipping, optimiser: every
part of a step counts. Both sides have the same data, initial weights and optimiser. Without dropout
their losses must agree step by step, which is checked first; with dropout they draw different
masks, so their loss curves are near each other and not equal.

The sides train in turns, some steps each. Validation is not timed. The loss to reach is the worse
of the two best validation losses, which both sides come to.
"""

from __future__ import annotations

import math
import statistics
import time
from collections.abc import Callable, Iterator, Sequence
from dataclasses import asdict, dataclass, replace
from typing import TYPE_CHECKING

from . import language_task, roofline
from .language_sides import PEERS, RnnkitTrainer, Trainer, peer_trainer
from .language_task import Task
from .limits import limits_or_none
from .report import Row, Table, of_threads, speedup_text, times
from .sides import DisagreementError, thread_settings
from .timing import SETTLE_SECONDS, ratios, settle, spread

if TYPE_CHECKING:
    from .worker import Options

# Rounding grows from step to step, the faster the larger the learning rate.
CHECK_TOLERANCE = 1e-3
PROBED_STEPS = 3


@dataclass(frozen=True)
class Length:
    """How long to train: turns, and steps a turn; each ends with a validation.

    Before, ``checked`` steps without dropout must agree.
    """

    turns: int
    steps: int
    checked: int
    validation_windows: int = 12
    settle_seconds: float = SETTLE_SECONDS


TASKS = {
    "full": [language_task.CHARACTERS, language_task.WORDS, language_task.WORDS_ADAM],
    "standard": [language_task.CHARACTERS, language_task.WORDS, language_task.WORDS_ADAM],
    "quick": [language_task.CHARACTERS, language_task.WORDS],
    "tiny": [language_task.TINY, language_task.TINY_CHARACTERS],
}
LENGTHS = {
    "full": Length(turns=60, steps=20, checked=20),
    "standard": Length(turns=25, steps=12, checked=10),
    "quick": Length(turns=4, steps=4, checked=3, validation_windows=2),
    "tiny": Length(turns=3, steps=1, checked=2, validation_windows=2, settle_seconds=0.0),
}


def run(options: Options, emit: Callable[[Row], None]) -> None:
    """Emits a row for each task."""
    for task in TASKS[options.size]:
        head = {"suite": "language", "threads": options.threads, "task": asdict(task)}
        try:
            emit(head | _train(task, LENGTHS[options.size], options))
        except DisagreementError as error:
            emit(head | {"failed": str(error)})


def _train(task: Task, length: Length, options: Options) -> Row:
    peers = [peer for peer in options.peers if peer in PEERS]
    deviation = _check(task, length.checked, peers, options.threads)
    settings = {peer: _best_threads(task, peer, options.threads) for peer in peers}
    trainers: list[Trainer] = [RnnkitTrainer(task, options.threads)]
    trainers += [peer_trainer(peer, task, thread_settings(options.threads)[setting])
                 for peer, setting in settings.items()]  # fmt: skip
    limits = limits_or_none(options.threads)
    peaks: list[float] = []
    turns = _take_turns(
        task, trainers, length, lambda: peaks.append(limits.fma("float32")) if limits else None
    )

    tokens = length.steps * task.N * task.T
    curves = {t.name: _curve(turns[t.name], length.steps) for t in trainers}
    goal = max(min(loss for _, _, loss in curve) for curve in curves.values())
    native = [seconds for seconds, _ in turns["native"][1:]]
    others = {name: [s for s, _ in taken[1:]] for name, taken in turns.items() if name != "native"}
    matrices = {name: w for name, w in task.weights.items() if not name.startswith("embedding.")}
    work = roofline.flops_of_matrices(matrices, tokens, "training")
    return {
        "title": str(task),
        "setting": settings,
        "tokens_per_second": {
            name: spread([tokens / s for s in seconds])
            for name, seconds in {"native": native, **others}.items()
        },
        "speedup_over": {name: ratios(seconds, native) for name, seconds in others.items()},
        "at_peak": {
            name: roofline.at_peak(work, seconds, peaks)
            for name, seconds in others.items()
            if peaks
        },
        "curves": curves,
        "goal": goal,
        "seconds_to_goal": {name: _seconds_to(goal, curve) for name, curve in curves.items()},
        "deviation_without_dropout": deviation,
    }


def _check(task: Task, steps: int, peers: list[str], threads: int) -> dict[str, float]:
    """The largest relative difference of a loss from rnnkit's over some steps without dropout."""
    plain = replace(task, dropout=0.0)
    trainers: list[Trainer] = [RnnkitTrainer(plain, threads)]
    trainers += [peer_trainer(peer, plain, threads) for peer in peers]
    curves = {}
    for trainer in trainers:
        trainer.prepare()
        windows = (plain.training.batch(k) for k in range(steps))
        curves[trainer.name] = [trainer.step(window) for window in windows]
        curves[trainer.name].append(trainer.validate(plain.validation(2)))
    deviation = {}
    for peer in peers:
        pairs = zip(curves[peer], curves["native"], strict=True)
        deviation[peer] = max(abs(a - b) / b for a, b in pairs)
        if not deviation[peer] <= CHECK_TOLERANCE:
            raise DisagreementError(
                f"{task}: without dropout, a loss of {peer} differs from rnnkit's by "
                f"{deviation[peer]:.1e} of it (at most {CHECK_TOLERANCE:.0e} is rounding)"
            )
    return deviation


def _best_threads(task: Task, peer: str, threads: int) -> str:
    """The thread setting in which a few steps are the fastest."""
    medians = {}
    for setting, count in thread_settings(threads).items():
        trainer = peer_trainer(peer, task, count)
        trainer.prepare()
        seconds = []
        for k in range(1 + PROBED_STEPS):
            window = task.training.batch(k)
            start = time.perf_counter()
            trainer.step(window)
            seconds.append(time.perf_counter() - start)
        medians[setting] = statistics.median(seconds[1:])
    return min(medians, key=medians.__getitem__)


def _take_turns(
    task: Task, trainers: Sequence[Trainer], length: Length, after_each: Callable[[], None]
) -> dict[str, list[tuple[float, float]]]:
    """For each side (seconds, validation loss) after each turn; the entry before the first is 0.

    When all have had a turn, ``after_each`` is called.
    """
    held_back = task.validation(length.validation_windows)
    turns = {}
    for trainer in trainers:
        trainer.prepare()
        turns[trainer.name] = [(0.0, trainer.validate(held_back))]
    order = list(trainers)
    for turn in range(length.turns):
        windows = [task.training.batch(turn * length.steps + k) for k in range(length.steps)]
        for trainer in order:
            settle(length.settle_seconds)
            trainer.prepare()
            start = time.perf_counter()
            for window in windows:
                trainer.step(window)
            seconds = time.perf_counter() - start
            turns[trainer.name].append((seconds, trainer.validate(held_back)))
        order.append(order.pop(0))
        after_each()
    return turns


def _curve(turns: list[tuple[float, float]], steps: int) -> list[tuple[int, float, float]]:
    """(steps, seconds of training so far, validation loss)"""
    curve, total = [], 0.0
    for number, (seconds, loss) in enumerate(turns):
        total += seconds
        curve.append((number * steps, total, loss))
    return curve


def _seconds_to(goal: float, curve: list[tuple[int, float, float]]) -> float:
    """When a curve first comes down to the goal, on the straight line between two validations."""
    before: tuple[float, float] | None = None
    for _, seconds, loss in curve:
        if loss <= goal:
            if before is None or loss == before[1]:
                return seconds
            share = (before[1] - goal) / (before[1] - loss)
            return before[0] + share * (seconds - before[0])
        before = seconds, loss
    return math.inf


def line(row: Row) -> str:
    rate = row["tokens_per_second"]["native"]["median"]
    return f"language  {row['title']}: {rate:,.0f} tokens/s  {speedup_text(row)}"


def tables(rows: list[Row]) -> Iterator[Table]:
    body = []
    for row in rows:
        for name, rate in row["tokens_per_second"].items():
            over = row["speedup_over"].get(name)
            seconds = row["seconds_to_goal"][name]
            body.append(
                [
                    row["title"],
                    "rnnkit" if name == "native" else f"{name} ({row['setting'][name]})",
                    f"{rate['median']:,.0f}",
                    times(over) if over else "",
                    f"{row['curves'][name][-1][2]:.4f}",
                    f"{seconds:.2f} s to {row['goal']:.4f}",
                    f"{row['deviation_without_dropout'].get(name, 0.0):.0e}",
                ]
            )
    head = [
        "model",
        "by",
        "tokens/s",
        "rnnkit is",
        "last loss",
        "to reach the loss",
        "loss differs, no dropout",
    ]
    title = f"A language model end to end, {of_threads(rows[0]['threads'])}; validation losses"
    yield Table(title, head, body, texts=2)
