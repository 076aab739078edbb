"""Reading the user's own text files."""

from __future__ import annotations

import os
from collections.abc import Iterable

from rnnkit.errors import ArgumentError


def read_text(path: str | os.PathLike[str]) -> str:
    """The text of a UTF-8 file, with line ends as ``\\n`` and without a byte order mark.

    Raises ArgumentError, in one line that names the file, when it is missing, is a folder, cannot
    be read, is empty or is not UTF-8 text.
    """
    name = os.fspath(path)
    try:
        with open(name, "rb") as file:
            raw = file.read()
    except (OSError, ValueError) as error:
        reason = getattr(error, "strerror", None) or str(error)
        raise ArgumentError(f"{name}: cannot be read: {reason}") from None
    if b"\0" in raw:
        raise ArgumentError(
            f"{name}: not a text file: byte {raw.index(0)} is zero; expected UTF-8 text"
        )
    try:
        text = raw.decode("utf-8-sig")
    except UnicodeDecodeError as error:
        raise ArgumentError(
            f"{name}: not UTF-8 text: invalid byte 0x{error.object[error.start]:02x} "
            f"at position {error.start}"
        ) from None
    text = text.replace("\r\n", "\n").replace("\r", "\n")
    if not text.strip():
        raise ArgumentError(f"{name}: the file is empty; expected UTF-8 text")
    return text


def read_texts(paths: Iterable[str | os.PathLike[str]]) -> str:
    """The texts of several files in the order given, each beginning on a line of its own."""
    texts = [read_text(path) for path in paths]
    return "".join(text if text.endswith("\n") else text + "\n" for text in texts[:-1]) + texts[-1]
