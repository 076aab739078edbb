"""The tasks of the command line, one file each: from the user's files to a saved run, and back."""

from __future__ import annotations

import os
from collections.abc import Sequence
from importlib import import_module
from typing import TYPE_CHECKING

from rnnkit.errors import ArgumentError, RnnkitError
from rnnkit.train.errors import RunError

if TYPE_CHECKING:
    from rnnkit.train.observers import Observer, Outcome
    from rnnkit.train.tasks.base import Task

# name -> its class; the module is that of the name
TASKS = {
    "text": "TextTask",
    "forecast": "ForecastTask",
    "translate": "TranslateTask",
    "compose": "ComposeTask",
}


def task_type(name: str) -> type[Task]:
    """The class of the task called ``name``, loaded when it is asked for."""
    if name not in TASKS:
        raise ArgumentError(f"task: expected one of {', '.join(TASKS)}, got {name!r}")
    found: type[Task] = getattr(import_module(f"rnnkit.train.tasks.{name}"), TASKS[name])
    return found


def reopen(path: str | os.PathLike[str]) -> Task:
    """The task of the run in the folder ``path``, made ready again from the data it began with.

    Raises RunError, in one line, when the folder is no run, its settings are damaged, or its data
    are missing or have changed.
    """
    from rnnkit.train.run_folder import RunFolder

    folder = RunFolder(path)
    record = folder.load_settings()
    try:
        return task_type(str(record.get("task"))).reopen(record)
    except RunError:
        raise
    except (RnnkitError, TypeError) as error:
        raise RunError(f"{folder.settings}: damaged: {error}") from None


def resume_run(
    path: str | os.PathLike[str], observers: Sequence[Observer] = ()
) -> Outcome:
    """Go on with the run in the folder ``path``, as ``rnnkit resume`` does.

    Raises as `reopen`, and as `Task.resume`.
    """
    from rnnkit.train.run_folder import RunFolder

    return reopen(path).resume(RunFolder(path), observers)


__all__ = ["TASKS", "reopen", "resume_run", "task_type"]
