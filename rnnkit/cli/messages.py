"""What the commands say on standard error, and the exit codes that go with it."""

from __future__ import annotations

import sys

INTERRUPTED = 130
BROKEN_PIPE = 141


def note(text: str) -> None:
    """Say something that is not part of the result."""
    print(f"rnnkit: {text}", file=sys.stderr, flush=True)


def describe(error: BaseException) -> str:
    """What went wrong, in one line that names the file if there is one."""
    if isinstance(error, OSError) and error.strerror:
        if error.filename is None:
            return error.strerror
        return f"{error.filename or repr('')}: {error.strerror}"
    text = " ".join(str(error).split())
    if isinstance(error, MemoryError):
        return f"out of memory: {text}" if text else "out of memory"
    return text or type(error).__name__
