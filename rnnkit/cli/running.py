"""What ``rnnkit train`` and ``rnnkit resume`` share: watching a run, and saying how it ended."""

from __future__ import annotations

import argparse
import shutil
import sys
import textwrap
from collections.abc import Callable
from typing import TYPE_CHECKING

from rnnkit.cli.messages import INTERRUPTED, describe, note

if TYPE_CHECKING:
    from rnnkit.train import Observer, Outcome, RunFolder, Task

_SAMPLE_TEMPERATURE = 0.7


def check_sample_length(arguments: argparse.Namespace) -> None:
    """Leave with wrong usage when the sample at the end would have no possible length."""
    if arguments.sample_length < 0:
        arguments.usage_error(
            f"argument --sample-length: expected 0 or more, got {arguments.sample_length}"
        )


def introduce(task: Task) -> None:
    """Say what is trained on what."""
    from rnnkit.train import TextTask

    assert isinstance(task, TextTask)
    settings = task.settings
    weights = sum(parameter.size for parameter in task.model.parameters())
    layers = f"{settings.layers} layers" if settings.layers > 1 else "1 layer"
    note(
        f"{task.source}: {task.characters:,} characters, "
        f"{len(task.vocabulary.characters)} different; "
        f"{settings.cell.upper()} with {layers} of {settings.hidden}, {weights:,} weights"
    )


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
    train: Callable[[], Outcome], task: Task, folder: RunFolder, sample_length: int
) -> int:
    """Call ``train`` and say how it ended; exit code 0, or 130 when Ctrl-C ended it."""
    from rnnkit.train import RunError, TrainingError

    try:
        outcome = train()
    except RunError:
        raise
    except (TrainingError, OSError, MemoryError) as error:
        raise TrainingError(f"{describe(error)}; {_what_is_saved(folder)}") from None
    except KeyboardInterrupt:
        note(f"interrupted; {_what_is_saved(folder)}")
        return INTERRUPTED
    if outcome.interrupted:
        saved = _what_is_saved(folder, f" ({_best(outcome, task)})")
        note(f"interrupted after {outcome.steps:,} steps; {saved}")
        note(f"to go on: rnnkit resume {folder.path}")
        return INTERRUPTED
    _report(outcome, task, folder)
    if sample_length:
        _show_sample(folder, sample_length)
    return 0


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


def _show_sample(folder: RunFolder, length: int) -> None:
    """Write with the model as it was saved, so that what is shown is what was kept."""
    import numpy as np

    from rnnkit.train import TextTask, generate

    loaded = TextTask.load(folder.path)
    text = "".join(
        generate(
            loaded.model,
            loaded.vocabulary,
            length=length,
            temperature=_SAMPLE_TEMPERATURE,
            rng=np.random.default_rng(loaded.settings.seed),
        )
    )
    width = min(shutil.get_terminal_size().columns, 100)
    print(f"\na sample at temperature {_SAMPLE_TEMPERATURE}:\n")
    for line in text.split("\n"):
        print(textwrap.fill(line, width) if len(line) > width else line)
    print(f"\nmore: rnnkit sample {folder.path} --prompt 'The '")
