"""``rnnkit resume``: go on with a run that was cut short."""

from __future__ import annotations

import argparse

from rnnkit import backend
from rnnkit.cli import machine, running
from rnnkit.cli.messages import note
from rnnkit.errors import ArgumentError


def run(arguments: argparse.Namespace) -> int:
    """Go on in ``arguments.folder``; exit code 0, or 130 when Ctrl-C ended it."""
    from rnnkit.train import Observer, Outcome, RunError, RunFolder, Start
    from rnnkit.train.tasks import reopen

    machine.apply(arguments)
    folder = RunFolder(arguments.folder)
    if arguments.backend is None:
        try:
            # The bits are promised for the path that the run began on.
            backend.set_backend(folder.load_settings().get("backend", "auto"))
        except (ArgumentError, TypeError) as error:
            raise RunError(f"{folder.settings}: damaged: {error}") from None
    task = reopen(folder.path)
    note(task.summary())

    class SayWhere(Observer):
        said = False

        def on_start(self, start: Start) -> None:
            SayWhere.said = True
            place = f"after step {start.step:,}" if start.step else "from the beginning"
            note(f"{folder.path}: going on {place}")

    def go_on() -> Outcome:
        outcome = task.resume(folder, [SayWhere(), *running.observers(folder)])
        if not SayWhere.said:
            note(f"{folder.path}: this run is finished, there is nothing left to do")
        return outcome

    return running.run(go_on, task, folder, arguments)
