"""Writing a file so that its old content survives until the new one is safely on disk."""

from __future__ import annotations

import contextlib
import os
import re
from collections.abc import Iterable
from typing import Any

_PARTIAL = re.compile(r"\..+\.[0-9a-f]{8}\.partial")


def write_atomically(path: str, data: bytes | Iterable[Any]) -> None:
    """Replace the file at ``path`` by ``data``, or leave it as it was and raise OSError.

    ``data``: bytes, or several buffers that follow one another. They go to a temporary file in
    the same folder, are flushed to the disk and take the file's name in one rename; the folder is
    flushed too, so that the rename survives a power cut.
    """
    buffers: Iterable[Any] = [data] if isinstance(data, bytes) else data
    folder, name = os.path.split(os.path.abspath(path))
    temporary = os.path.join(folder, f".{name}.{os.urandom(4).hex()}.partial")
    try:
        try:
            with open(temporary, "xb") as file:
                for buffer in buffers:
                    file.write(buffer)
                file.flush()
                os.fsync(file.fileno())
            os.replace(temporary, path)
        except BaseException:
            with contextlib.suppress(OSError):
                os.unlink(temporary)
            raise
        _flush_folder(folder)
    except OSError as error:
        raise OSError(error.errno, error.strerror, path) from None


def remove_partial_files(folder: str) -> None:
    """Remove what writes left behind in ``folder`` that a kill cut short."""
    for name in os.listdir(folder):
        if _PARTIAL.fullmatch(name):
            with contextlib.suppress(FileNotFoundError):
                os.unlink(os.path.join(folder, name))


def _flush_folder(folder: str) -> None:
    handle = os.open(folder, os.O_RDONLY)
    try:
        os.fsync(handle)
    finally:
        os.close(handle)
