"""From arguments to an exit code: what goes wrong becomes one line on standard error.

Exit codes: 0 done, 1 an error, 2 wrong usage, 130 Ctrl-C, 141 the reader of a pipe has gone.
"""

from __future__ import annotations

import contextlib
import io
import os
import sys
import warnings
from collections.abc import Sequence
from typing import TextIO

from rnnkit.cli.messages import BROKEN_PIPE, INTERRUPTED, describe, note
from rnnkit.errors import RnnkitError


def main(argv: Sequence[str] | None = None) -> int:
    """Run the command line on ``argv``, the process's own arguments by default."""
    _open_what_is_closed()
    for stream in (sys.stdout, sys.stderr):
        if isinstance(stream, io.TextIOWrapper):
            stream.reconfigure(errors="backslashreplace")
    try:
        return _reported(argv)
    except BrokenPipeError:
        _forget_what_cannot_be_written()
        return BROKEN_PIPE


def _reported(argv: Sequence[str] | None) -> int:
    try:
        code = _run(argv)
        sys.stdout.flush()
        return code
    except BrokenPipeError:
        raise
    except KeyboardInterrupt:
        note("interrupted")
        return INTERRUPTED
    except (RnnkitError, OSError, MemoryError) as error:
        note(f"error: {describe(error)}")
        _forget_what_cannot_be_written()
        return 1


def _run(argv: Sequence[str] | None) -> int:
    from rnnkit.cli.parser import make_parser

    try:
        arguments = make_parser().parse_args(argv)
    except SystemExit as stop:  # --help, --version and wrong usage, already printed
        return stop.code if isinstance(stop.code, int) else 0
    with warnings.catch_warnings():
        warnings.showwarning = _warn
        try:
            return arguments.run(arguments)
        except SystemExit as stop:  # wrong usage found only by the command
            return stop.code if isinstance(stop.code, int) else 0


def _warn(
    message: Warning | str,
    category: type[Warning],
    filename: str,
    lineno: int,
    file: TextIO | None = None,
    line: str | None = None,
) -> None:
    note(f"warning: {message}")


def _open_what_is_closed() -> None:
    """Python has None for a standard stream that the process was started without."""
    for name, mode in (("stdin", "r"), ("stdout", "w"), ("stderr", "w")):
        if getattr(sys, name) is None:
            setattr(sys, name, open(os.devnull, mode))  # noqa: SIM115 (until the process ends)


def _forget_what_cannot_be_written() -> None:
    """Keep the interpreter from failing at exit on it."""
    for stream in (sys.stdout, sys.stderr):
        try:
            stream.flush()
        except (OSError, ValueError):
            with contextlib.suppress(OSError, ValueError):
                null = os.open(os.devnull, os.O_WRONLY)
                os.dup2(null, stream.fileno())
                os.close(null)
