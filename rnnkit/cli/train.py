"""``rnnkit train``: from files to a trained, saved model and a glance at what it can do."""

from __future__ import annotations

import argparse
import os
from typing import Any

from rnnkit.cli import machine, options, running
from rnnkit.cli.messages import note
from rnnkit.errors import ArgumentError


def run(arguments: argparse.Namespace) -> int:
    """Train on ``arguments.files``; exit code 0, or 130 when Ctrl-C ended it."""
    from rnnkit.train.run_folder import RunFolder

    settings = _settings(arguments)
    machine.apply(arguments)
    try:
        task = arguments.task.prepare(arguments.files, settings)
    except ArgumentError as error:
        raise options.as_typed(error, arguments.settings_options) from None
    options.refuse_idle(arguments, arguments.settings_options, task.idle)
    if task.note:
        note(task.note)
    if arguments.output is not None:
        folder = RunFolder.create(arguments.output)
    else:
        folder = RunFolder.create_numbered("runs", task.run_name())
    note(task.summary())
    watching = running.observers(folder)
    return running.run(lambda: task.train(folder, watching), task, folder, arguments)


def _settings(arguments: argparse.Namespace) -> Any:
    _check_files(arguments)
    if arguments.output == "":  # as a variable of a script that was not set
        arguments.usage_error("argument --output: expected a folder, got ''")
    known = arguments.settings_options
    try:
        return arguments.task.settings_type(**options.values(arguments, known))
    except ArgumentError as error:
        options.refuse(arguments, known, error)
        raise


def _check_files(arguments: argparse.Namespace) -> None:
    """The name of a task among the files is most likely one that came too late."""
    from rnnkit.train.tasks import TASKS

    for name in arguments.files:
        if name in TASKS and not os.path.exists(name):
            arguments.usage_error(f"argument TASK: {name!r} goes first: rnnkit train {name} ...")
