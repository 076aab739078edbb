"""Reading the user's own text files."""

from __future__ import annotations

import codecs
import os
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from typing import BinaryIO

from rnnkit.checks import check_list, check_size
from rnnkit.errors import ArgumentError

PIECE = 1 << 22  # bytes of a text that are read at a time


def read_text(path: str | os.PathLike[str]) -> str:
    """The text of a UTF-8 file, with line ends as ``\\n`` and without a byte order mark.

    Raises ArgumentError, in one line that names the file, when it is missing, is a folder, cannot
    be read, is empty or is not UTF-8 text.
    """
    return "".join(stream_text(path))


def read_texts(paths: Iterable[str | os.PathLike[str]]) -> str:
    """The texts of several files in the order given, each beginning on a line of its own.

    Raises ArgumentError as ``read_text`` does, and when there is no file.
    """
    texts = [read_text(path) for path in check_list("paths", paths, "several paths")]
    if not texts:
        raise ArgumentError("paths: expected at least one file, got none")
    return "".join(text if text.endswith("\n") else text + "\n" for text in texts[:-1]) + texts[-1]


def stream_text(path: str | os.PathLike[str], piece: int = PIECE) -> Iterator[str]:
    """The text of a UTF-8 file of any size, in pieces that joined are what ``read_text`` returns.

    ``piece``: bytes read at a time. Raises ArgumentError as ``read_text`` does, when it gets there.
    """
    name = os.fspath(path)
    piece = check_size("piece", piece)
    decoder = codecs.getincrementaldecoder("utf-8")()
    done, blank, begun, carried = 0, True, False, ""
    with opened(name) as file:
        while True:
            raw = file.read(piece)
            if b"\0" in raw:
                raise ArgumentError(
                    f"{name}: not a text file: byte {done + raw.index(0)} is zero; "
                    "expected UTF-8 text"
                )
            held = len(decoder.getstate()[0])
            try:
                text = carried + decoder.decode(raw, final=not raw)
            except UnicodeDecodeError as error:
                raise ArgumentError(
                    f"{name}: not UTF-8 text: invalid byte 0x{error.object[error.start]:02x} "
                    f"at position {done - held + error.start}"
                ) from None
            if text and not begun:
                text, begun = text.removeprefix("\N{BYTE ORDER MARK}"), True
            # A line feed that belongs to this carriage return may be in the next piece.
            carried = "\r" if raw and text.endswith("\r") else ""
            text = text[:-1] if carried else text
            text = text.replace("\r\n", "\n").replace("\r", "\n")
            blank = blank and not text.strip()
            if text:
                yield text
            if not raw:
                break
            done += len(raw)
    if blank:
        raise ArgumentError(f"{name}: the file is empty; expected UTF-8 text")


@contextmanager
def opened(name: str) -> Iterator[BinaryIO]:
    """The file, open for reading. Raises ArgumentError that names it when it cannot be read."""
    try:
        file = open(name, "rb")  # noqa: SIM115 (closed below)
    except (OSError, ValueError) as error:
        reason = getattr(error, "strerror", None) or str(error)
        raise ArgumentError(f"{name}: cannot be read: {reason}") from None
    with file:
        try:
            yield file
        except OSError as error:
            reason = error.strerror or str(error)
            raise ArgumentError(f"{name}: cannot be read: {reason}") from None
