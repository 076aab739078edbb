"""``rnnkit train``: from text files to a trained, saved model and a sample of what it writes."""

from __future__ import annotations

import argparse
import dataclasses
import os
import shutil
import sys
import textwrap
from typing import TYPE_CHECKING

from rnnkit.cli import machine
from rnnkit.cli.messages import INTERRUPTED, describe, note
from rnnkit.errors import ArgumentError

if TYPE_CHECKING:
    from rnnkit.train import Observer, Outcome, RunFolder, Settings, TextRun

_SAMPLE_TEMPERATURE = 0.7


def run(arguments: argparse.Namespace) -> int:
    """Train on ``arguments.files``; exit code 0, or 130 when Ctrl-C ended it."""
    from rnnkit.train import RunFolder, TextRun, TrainingError
    from rnnkit.train.run_folder import require_safetensors

    settings = _settings(arguments)
    machine.apply(arguments)
    require_safetensors()
    name, text = _text(arguments.files)
    text_run = TextRun(text, settings, source=name)
    if arguments.output:
        folder = RunFolder.create(arguments.output)
    else:
        stem = os.path.splitext(os.path.basename(name))[0]
        folder = RunFolder.create_numbered("runs", f"{stem}-{settings.cell}")
    _introduce(text_run)
    try:
        outcome = text_run.train(folder, _observers(folder))
    except (TrainingError, OSError, MemoryError) as error:
        raise TrainingError(f"{describe(error)}; {_what_is_saved(folder)}") from None
    except KeyboardInterrupt:
        note(f"interrupted; {_what_is_saved(folder)}")
        return INTERRUPTED
    if outcome.interrupted:
        note(f"interrupted after {outcome.steps:,} steps; {_what_is_saved(folder, outcome)}")
        return INTERRUPTED
    _report(outcome, folder)
    if arguments.sample_length:
        _show_sample(folder, settings, arguments.sample_length)
    return 0


def _settings(arguments: argparse.Namespace) -> Settings:
    from rnnkit.train import Settings

    names = [field.name for field in dataclasses.fields(Settings)]
    try:
        if arguments.sample_length < 0:
            raise ArgumentError(f"sample-length: expected 0 or more, got {arguments.sample_length}")
        return Settings(**{name: getattr(arguments, name) for name in names})
    except ArgumentError as error:
        arguments.usage_error(f"argument --{error}")
        raise  # not reached: usage_error leaves the process


def _text(files: list[str]) -> tuple[str, str]:
    from rnnkit.data import default_corpus, read_texts

    if files:
        return files[0] if len(files) == 1 else f"{files[0]} and others", read_texts(files)
    corpus = default_corpus()
    if corpus.note:
        note(corpus.note)
    return corpus.name, corpus.text


def _introduce(text_run: TextRun) -> None:
    settings = text_run.settings
    weights = sum(parameter.size for parameter in text_run.model.parameters())
    layers = f"{settings.layers} layers" if settings.layers > 1 else "1 layer"
    note(
        f"{text_run.source}: {text_run.characters:,} characters, "
        f"{len(text_run.vocabulary.characters)} different; "
        f"{settings.cell.upper()} with {layers} of {settings.hidden}, {weights:,} weights"
    )


def _observers(folder: RunFolder) -> list[Observer]:
    from rnnkit.train import MissingPackageError
    from rnnkit.train.curve import LearningCurve
    from rnnkit.train.log import JsonLinesLog
    from rnnkit.train.progress import progress_on

    observers: list[Observer] = [progress_on(sys.stderr), JsonLinesLog(folder.log)]
    try:
        observers.append(LearningCurve(folder.curve))
    except MissingPackageError as error:
        note(str(error))
    return observers


def _what_is_saved(folder: RunFolder, outcome: Outcome | None = None) -> str:
    if not folder.has_model():
        return f"no model was saved in {folder.path}"
    quality = ""
    if outcome is not None:
        quality = f" ({outcome.best_bits:.3f} bits/char, step {outcome.best_step:,})"
    return f"the best model so far{quality} is saved in {folder.path}"


def _report(outcome: Outcome, folder: RunFolder) -> None:
    print(
        f"{outcome.steps:,} steps ({outcome.epochs:.1f} epochs) in {outcome.seconds:.0f} s, "
        f"{outcome.tokens_per_second:,.0f} tokens/s in training"
    )
    print(
        f"best validation {outcome.best_bits:.3f} bits/char at step {outcome.best_step:,}; "
        f"saved in {folder.path}: {', '.join(folder.files())}"
    )


def _show_sample(folder: RunFolder, settings: Settings, length: int) -> None:
    """Write with the model as it was saved, so that what is shown is what was kept."""
    import numpy as np

    from rnnkit.train import generate, load_text_run

    loaded = load_text_run(folder.path)
    text = "".join(
        generate(
            loaded.model,
            loaded.vocabulary,
            length=length,
            temperature=_SAMPLE_TEMPERATURE,
            rng=np.random.default_rng(settings.seed),
        )
    )
    width = min(shutil.get_terminal_size().columns, 100)
    print(f"\na sample at temperature {_SAMPLE_TEMPERATURE}:\n")
    for line in text.split("\n"):
        print(textwrap.fill(line, width) if len(line) > width else line)
    print(f"\nmore: rnnkit sample {folder.path} --prompt 'The '")
