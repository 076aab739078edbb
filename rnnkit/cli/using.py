"""What the commands share that use a trained model: finding it, and what it can do."""

from __future__ import annotations

import argparse
from collections.abc import Callable, Iterable
from typing import Any

from rnnkit.cli import machine, options
from rnnkit.errors import ArgumentError


def method_of_run(arguments: argparse.Namespace, name: str) -> Callable[..., Any]:
    """The method ``name`` of the model in ``arguments.folder``.

    Called with the positional arguments, it has the options that were given; one that is out of
    range leaves with wrong usage. Raises RunError when the model cannot be loaded and ArgumentError
    when its task has no such method.
    """
    from rnnkit.train.tasks import TASKS, load_run, task_type

    machine.apply(arguments)
    loaded = load_run(arguments.folder)
    method = getattr(loaded, name, None)
    if method is None:
        able = (task for task in TASKS if hasattr(task_type(task).loaded_type, name))
        raise ArgumentError(
            f"{arguments.folder}: a run of the task {loaded.task_type.name!r}, which has no "
            f"{name}; those that have one: {', '.join(able)}"
        )

    def call(*positional: Any) -> Any:
        try:
            found = method(*positional, **options.values(arguments, arguments.options))
        except ArgumentError as error:
            options.refuse(arguments, arguments.options, error)
            raise
        return _checked(arguments, found) if name != "evaluate" else found

    return call


def _checked(arguments: argparse.Namespace, found: Iterable[Any]) -> Iterable[Any]:
    try:
        yield from found
    except ArgumentError as error:
        options.refuse(arguments, arguments.options, error)
        raise
