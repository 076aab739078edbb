"""The tasks of the command line, one file each: from the user's files to a saved run, and back."""

from __future__ import annotations

import os
from collections.abc import Sequence
from importlib import import_module
from typing import TYPE_CHECKING, Any

from rnnkit.errors import ArgumentError, RnnkitError
from rnnkit.train.errors import RunError

if TYPE_CHECKING:
    from rnnkit.train.observers import Observer, Outcome
    from rnnkit.train.tasks.base import Task

# name -> its class; the module is that of the name
TASKS = {
    "text": "TextTask",
    "classify": "ClassifyTask",
    "tag": "TagTask",
    "forecast": "ForecastTask",
    "translate": "TranslateTask",
    "compose": "ComposeTask",
}
DEFAULT_TASK = "text"


def task_type(name: str) -> type[Task]:
    """The class of the task called ``name``, loaded when it is asked for."""
    if name not in TASKS:
        raise ArgumentError(f"task: expected one of {', '.join(TASKS)}, got {name!r}")
    found: type[Task] = getattr(import_module(f"rnnkit.train.tasks.{name}"), TASKS[name])
    return found


def task_of(path: str | os.PathLike[str]) -> type[Task]:
    """The class of the task of the run in the folder ``path``.

    Raises RunError, in one line, when the folder is no run or its settings are damaged.
    """
    from rnnkit.train.run_folder import RunFolder

    folder = RunFolder(path)
    try:
        return task_type(str(folder.load_settings().get("task")))
    except ArgumentError as error:
        raise _damaged(folder.settings, error) from None


def load_run(path: str | os.PathLike[str]) -> Any:
    """The best model of the run in the folder ``path``, as its task's `Loaded`.

    Raises as `Task.load`.
    """
    return task_of(path).load(path)


def reopen(path: str | os.PathLike[str]) -> Task:
    """The task of the run in the folder ``path``, made ready again from the data it began with.

    Raises RunError, in one line, when the folder is no run, its settings are damaged or do not fit
    its checkpoint, or its data are missing or have changed.
    """
    from rnnkit.train.loading import within_checkpoint
    from rnnkit.train.run_folder import RunFolder

    folder = RunFolder(path)
    record = folder.load_settings()
    try:
        return task_type(str(record.get("task"))).reopen(record, within_checkpoint(folder))
    except RunError:
        raise
    except (RnnkitError, ArithmeticError, LookupError, TypeError) as error:
        raise _damaged(folder.settings, error) from None


def _damaged(path: str, error: Exception) -> RunError:
    return RunError(f"{path}: damaged: {error}")


def resume_run(
    path: str | os.PathLike[str], observers: Sequence[Observer] = ()
) -> Outcome:
    """Go on with the run in the folder ``path``, as ``rnnkit resume`` does.

    Raises RunError when the folder is no run, is damaged, or its data are missing or have changed,
    and as `Task.resume`.
    """
    from rnnkit.train.run_folder import RunFolder

    return reopen(path).resume(RunFolder(path), observers)


__all__ = ["DEFAULT_TASK", "TASKS", "load_run", "reopen", "resume_run", "task_of", "task_type"]
