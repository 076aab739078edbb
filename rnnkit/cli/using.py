"""What the commands share that use a trained model: finding it, and what it can do."""

from __future__ import annotations

import argparse
from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager
from typing import Any

from rnnkit.cli import machine, options
from rnnkit.errors import ArgumentError
from rnnkit.train.options import settings_options


def method_of_run(arguments: argparse.Namespace, name: str) -> Callable[..., Any]:
    """The method ``name`` of the model in ``arguments.folder``.

    Called with the positional arguments, it has the options that were given; one that is out of
    range leaves with wrong usage. Raises RunError when the model cannot be loaded and ArgumentError
    when its task has no such method.
    """
    from rnnkit.train.tasks import TASKS, load_run, task_type

    machine.apply(arguments)
    loaded = load_run(arguments.folder)
    if loaded.task_type is not arguments.task:  # the parser took another run for this one
        arguments.usage_error(
            f"argument RUN: {arguments.folder!r} goes before the options and other arguments"
        )
    method = getattr(loaded, name, None)
    if method is None:
        able = (task for task in TASKS if hasattr(task_type(task).loaded_type, name))
        raise ArgumentError(
            f"{arguments.folder}: a run of the task {loaded.task_type.name!r}, which has no "
            f"{name}; those that have one: {', '.join(able)}"
        )

    def call(*positional: Any) -> Any:
        with _named_as_typed(arguments):
            found = method(*positional, **options.values(arguments, arguments.options))
        return _checked(arguments, found) if name != "evaluate" else found

    return call


def _checked(arguments: argparse.Namespace, found: Iterable[Any]) -> Iterable[Any]:
    with _named_as_typed(arguments):
        yield from found


@contextmanager
def _named_as_typed(arguments: argparse.Namespace) -> Iterator[None]:
    try:
        yield
    except ArgumentError as error:
        files = getattr(arguments, "files", None) or [getattr(arguments, "input", "")]
        if str(error).partition(": ")[0] not in files:  # which may have the name of an option
            options.refuse(arguments, arguments.options, error)
        of_run = settings_options(arguments.task.settings_type)
        raise options.as_typed(error, of_run, "rnnkit train") from None
