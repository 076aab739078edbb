"""The files that a run was trained on, recorded so that a resumed one finds the same again."""

from __future__ import annotations

import hashlib
import os
import stat
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from typing import Any

from rnnkit.errors import ArgumentError
from rnnkit.train.errors import RunError

_BLOCK = 1 << 20


def record_files(files: Sequence[str | os.PathLike[str]]) -> list[dict[str, Any]]:
    """For each file its absolute path, its size and a hash of its content, as JSON can hold them;
    of a pipe the path alone, as what was read of it is gone.

    Raises ArgumentError, in one line that names the file, when one cannot be read.
    """
    paths = [os.path.abspath(os.fspath(name)) for name in files]
    return [
        {"path": path} if _is_pipe(path) else _record(path, os.fspath(name))
        for name, path in zip(files, paths, strict=True)
    ]


@contextmanager
def unchanged(files: Sequence[str | os.PathLike[str]]) -> Iterator[None]:
    """Inside, ``files`` are read, more than once. Raises ArgumentError naming one that changes
    meanwhile: what was learnt from it would not be what is recorded of it."""
    before = [_state(name) for name in files]
    yield
    for name, state in zip(files, before, strict=True):
        if _state(name) != state:
            raise ArgumentError(f"{os.fspath(name)}: changed while it was read; try again")


def find_files(record: Mapping[str, Any]) -> list[str]:
    """The files of a settings.json, if all are what they were. RunError naming one that is not."""
    files = record.get("files")
    if not isinstance(files, list) or not all(
        isinstance(file, dict) and isinstance(file.get("path"), str) for file in files
    ):
        raise ArgumentError("expected a list 'files' of objects with a 'path'")
    for file in files:
        path = file["path"]
        if _is_pipe(path):  # whose end nobody need ever write to
            raise RunError(f"the run cannot go on without its data: {path}: is a pipe, no file")
        try:
            now = _record(path, path)
        except ArgumentError as error:
            raise RunError(f"the run cannot go on without its data: {error}") from None
        if now != file:
            raise RunError(f"{path}: has changed since the run began, so it cannot go on")
    return [file["path"] for file in files]


def _state(name: str | os.PathLike[str]) -> tuple[int, int, int] | None:
    """What tells a file that is written to; None of what is none, such as a pipe."""
    try:
        status = os.stat(name)
    except (OSError, ValueError):  # which reading it says better
        return None
    regular = stat.S_ISREG(status.st_mode)
    return (status.st_ino, status.st_size, status.st_mtime_ns) if regular else None


def _is_pipe(path: str) -> bool:
    """Whether it is one, or a device: something that cannot be read twice."""
    try:
        mode = os.stat(path).st_mode
    except (OSError, ValueError):  # which reading it says better
        return False
    return not (stat.S_ISREG(mode) or stat.S_ISDIR(mode))


def _record(path: str, name: str) -> dict[str, Any]:
    digest, size = hashlib.sha256(), 0
    try:
        with open(path, "rb") as file:
            while block := file.read(_BLOCK):
                digest.update(block)
                size += len(block)
    except (OSError, ValueError) as error:
        reason = getattr(error, "strerror", None) or str(error)
        raise ArgumentError(f"{name}: cannot be read: {reason}") from None
    return {"path": path, "bytes": size, "sha256": digest.hexdigest()}
