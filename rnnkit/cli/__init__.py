"""The command line: ``rnnkit train``, ``rnnkit sample``, ``rnnkit info``."""

from rnnkit.cli.entry import main

__all__ = ["main"]
