"""The command line: train, resume, sample, predict, evaluate, info."""

from rnnkit.cli.entry import main

__all__ = ["main"]
