"""``rnnkit sample``: write with the model of a run."""

from __future__ import annotations

import argparse
import sys

from rnnkit.cli.using import method_of_run


def run(arguments: argparse.Namespace) -> int:
    """Write what the model makes up to standard output, as it is made."""
    for piece in method_of_run(arguments, "sample")():
        sys.stdout.write(piece)
        if sys.stdout.isatty():
            sys.stdout.flush()
    sys.stdout.write("\n")
    return 0
