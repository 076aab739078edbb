"""Writing a file so that its old content survives until the new one is safely on disk."""

from __future__ import annotations

import contextlib
import os
import re
import stat
from collections.abc import Iterable, Iterator
from typing import Any, BinaryIO

_PARTIAL = re.compile(r"\..+\.[0-9a-f]{8}\.partial")


def write_atomically(path: str, data: bytes | Iterable[Any]) -> None:
    """Replace the file at ``path`` by ``data``, or leave it as it was and raise OSError.

    ``data``: bytes, or several buffers that follow one another.
    """
    buffers: Iterable[Any] = [data] if isinstance(data, bytes) else data
    with atomic_file(path) as file:
        for buffer in buffers:
            file.write(buffer)


@contextlib.contextmanager
def atomic_file(path: str) -> Iterator[BinaryIO]:
    """A new file to write to, which takes the place of the one at ``path`` when the block ends.

    The data go to a temporary file in the same folder, are flushed to the disk and take the
    file's name in one rename, with the permissions of the file that they replace; the folder is
    flushed too, so that the rename survives a power cut.
    When the block raises, or anything else fails, the file at ``path`` is as it was; an OSError
    of the writing names ``path``. A device or a pipe is written to as it is: a rename would put a
    file in its place. Likewise a link stays one, and the file that it leads to is replaced.
    """
    target = os.path.realpath(path) if os.path.islink(path) else path
    folder, name = os.path.split(os.path.abspath(target))
    temporary = os.path.join(folder, f".{name}.{os.urandom(4).hex()}.partial")
    try:
        if os.path.exists(path) and not (os.path.isfile(path) or os.path.isdir(path)):
            with open(path, "wb") as file:
                yield file
            return
        try:
            with open(temporary, "xb") as file:
                with contextlib.suppress(FileNotFoundError):
                    os.chmod(temporary, stat.S_IMODE(os.stat(target).st_mode))
                yield file
                file.flush()
                os.fsync(file.fileno())
            os.replace(temporary, target)
        except BaseException:
            with contextlib.suppress(OSError):
                os.unlink(temporary)
            raise
        _flush_folder(folder)
    except OSError as error:
        if error.filename not in (None, temporary):
            raise  # of another file that the block has to do with
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
