"""JSON and JSON Lines files."""

from __future__ import annotations

import json
import math
import os
from typing import Any, NoReturn

from rnnkit.data.readers.text import read_text
from rnnkit.errors import ArgumentError


def read_json_lines(path: str | os.PathLike[str]) -> list[dict[str, Any]]:
    """The objects of a JSON Lines file: one on each line, blank lines left out.

    Raises ArgumentError, naming file and line, where a line is no JSON object, repeats a name or
    holds NaN, infinity or half a character (a surrogate alone); and as ``read_text`` does.
    """
    return [fields for _, fields in numbered_objects(path)]


def numbered_objects(path: str | os.PathLike[str]) -> list[tuple[str, dict[str, Any]]]:
    """The same with, before each object, ``file:line`` for messages about it."""
    found = []
    for number, line in enumerate(read_text(path).split("\n"), 1):
        if line.strip():
            where = f"{os.fspath(path)}:{number}"
            fields = parse_json(line, where)
            if not isinstance(fields, dict):
                raise ArgumentError(f"{where}: expected a JSON object, got {line[:40]!r}")
            found.append((where, fields))
    return found


def read_json(path: str | os.PathLike[str]) -> Any:
    """The value of a JSON file; errors as of ``read_json_lines``."""
    return parse_json(read_text(path), os.fspath(path))


def parse_json(text: str, where: str) -> Any:
    """The value of a text; ArgumentError says ``where`` it was."""
    try:
        value = json.loads(
            text, parse_constant=_refuse, parse_float=_finite, object_pairs_hook=_distinct
        )
        if "\\u" in text:
            _refuse_halves(value)
        return value
    except RecursionError:
        raise ArgumentError(f"{where}: not JSON: nested too deeply") from None
    except ValueError as error:
        raise ArgumentError(f"{where}: not JSON: {error}") from None


def _refuse_halves(value: Any) -> None:
    """An escape can be half of a character, which no file that is written later could hold."""
    try:
        json.dumps(value, ensure_ascii=False).encode()
    except UnicodeEncodeError as error:
        half = ord(error.object[error.start])
        raise ValueError(f"\\u{half:04x} alone is half a character") from None


def _refuse(constant: str) -> NoReturn:
    raise ValueError(f"{constant} is no JSON number")


def _finite(digits: str) -> float:
    value = float(digits)
    if math.isinf(value):
        raise ValueError(f"{digits[:40]} is too large for a number")
    return value


def _distinct(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    fields = dict(pairs)
    if len(fields) != len(pairs):
        raise ValueError("a name stands twice in an object")
    return fields
