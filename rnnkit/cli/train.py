"""``rnnkit train``: from text files to a trained, saved model and a sample of what it writes."""

from __future__ import annotations

import argparse
import dataclasses
import os
from typing import TYPE_CHECKING

from rnnkit.cli import machine, running
from rnnkit.cli.messages import note
from rnnkit.errors import ArgumentError

if TYPE_CHECKING:
    from rnnkit.train import TextSettings


def run(arguments: argparse.Namespace) -> int:
    """Train on ``arguments.files``; exit code 0, or 130 when Ctrl-C ended it."""
    from rnnkit.train import RunFolder, TextTask

    settings = _settings(arguments)
    machine.apply(arguments)
    task = TextTask.prepare(arguments.files, settings)
    if task.note:
        note(task.note)
    if arguments.output:
        folder = RunFolder.create(arguments.output)
    else:
        stem = os.path.splitext(os.path.basename(arguments.files[0]))[0] if arguments.files else ""
        folder = RunFolder.create_numbered("runs", f"{stem or task.source}-{settings.cell}")
    running.introduce(task)
    watching = running.observers(folder)
    return running.run(
        lambda: task.train(folder, watching), task, folder, arguments.sample_length
    )


def _settings(arguments: argparse.Namespace) -> TextSettings:
    from rnnkit.train import TextSettings

    names = [field.name for field in dataclasses.fields(TextSettings)]
    running.check_sample_length(arguments)
    try:
        return TextSettings(**{name: getattr(arguments, name) for name in names})
    except ArgumentError as error:
        arguments.usage_error(f"argument --{str(error).replace('_', '-', 1)}")
        raise  # not reached: usage_error leaves the process
