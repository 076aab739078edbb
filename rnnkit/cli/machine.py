"""The options that every command shares: which path runs, and on how many threads."""

from __future__ import annotations

import argparse

from rnnkit import backend
from rnnkit.errors import ArgumentError


def apply(arguments: argparse.Namespace) -> None:
    """Set the backend and the number of threads that the options ask for."""
    if arguments.backend is not None:
        backend.set_backend(arguments.backend)
    if arguments.threads is not None:
        try:
            backend.set_num_threads(arguments.threads)
        except ArgumentError as error:
            _, _, reason = str(error).partition(": ")
            arguments.usage_error(f"argument --threads: {reason}")
