"""What ``rnnkit train`` and ``rnnkit resume`` share: watching a run, and saying how it ended."""

from __future__ import annotations

import argparse
import os
import sys
from collections.abc import Callable
from typing import TYPE_CHECKING

from rnnkit.cli import options
from rnnkit.cli.messages import INTERRUPTED, describe, note

if TYPE_CHECKING:
    from rnnkit.train import Observer, Outcome, RunFolder, Task


def observers(folder: RunFolder) -> list[Observer]:
    """Those that watch a run in ``folder``."""
    from rnnkit.train import CsvLog, JsonLinesLog, LearningCurve, MissingPackageError, progress_on

    found: list[Observer] = [
        progress_on(sys.stderr), JsonLinesLog(folder.log), CsvLog(folder.table)
    ]  # fmt: skip
    try:
        found.append(LearningCurve(folder.curve))
    except MissingPackageError as error:
        note(str(error))
    return found


def run(
    train: Callable[[], Outcome], task: Task, folder: RunFolder, arguments: argparse.Namespace
) -> int:
    """Call ``train``, say how it ended and what the task shows of it.

    Exit code 0, or 130 when Ctrl-C ended it.
    """
    from rnnkit.train import RunError, TrainingError

    try:
        outcome = train()
    except (RunError, BrokenPipeError):
        raise
    except (TrainingError, OSError, MemoryError) as error:
        raise TrainingError(f"{describe(error)}; {_what_is_saved(folder)}") from None
    except KeyboardInterrupt:
        return _interrupted(folder, f"interrupted; {_what_is_saved(folder)}")
    if outcome.interrupted:
        saved = _what_is_saved(folder, f" ({_best(outcome, task)})")
        return _interrupted(folder, f"interrupted after {outcome.steps:,} steps; {saved}")
    _report(outcome, task, folder)
    lines = task.show(folder, **options.values(arguments, arguments.options))
    try:
        for number, line in enumerate(lines):
            print(line if number else f"\n{line}", flush=True)  # the next may take a while
    except KeyboardInterrupt:
        return _interrupted(folder, f"interrupted; {_what_is_saved(folder)}")
    return 0


def _interrupted(folder: RunFolder, how: str) -> int:
    note(how)
    if os.path.exists(folder.settings):
        note(f"to go on: {folder.command('resume')}")
    return INTERRUPTED


def _best(outcome: Outcome, task: Task) -> str:
    measure = task.measure
    return (
        f"{measure.show(outcome.best_value)} {measure.label} at step {outcome.best_step:,}"
    )


def _what_is_saved(folder: RunFolder, quality: str = "") -> str:
    if not folder.has_model():
        return f"no model was saved in {folder.path}"
    return f"the best model so far{quality} is saved in {folder.path}"


def _report(outcome: Outcome, task: Task, folder: RunFolder) -> None:
    early = ", ended as nothing was gained any more" if outcome.stopped_early else ""
    print(
        f"{outcome.steps:,} steps ({outcome.epochs:.1f} epochs) in {outcome.seconds:.0f} s, "
        f"{outcome.items_per_second:,.0f} {task.measure.items}/s in training{early}"
    )
    print(
        f"best validation {_best(outcome, task)}; "
        f"saved in {folder.path}: {', '.join(folder.files())}"
    )
