"""Pairs of texts: a sentence and its translation, a question and its answer."""

from __future__ import annotations

import os
from typing import NamedTuple

from rnnkit.data.readers.text import read_text
from rnnkit.errors import ArgumentError


class Pairs(NamedTuple):
    """Lines that belong together: ``sources[i]`` and ``targets[i]``, none of them empty."""

    sources: list[str]
    targets: list[str]


def read_pairs(
    path: str | os.PathLike[str], targets: str | os.PathLike[str] | None = None
) -> Pairs:
    """The pairs of two files, line by line, or of one file with a tabulator between the two.

    In one file what follows a second tabulator is left out (Tatoeba's files name the authors
    there). Lines that are blank on both sides are left out; white space around a text is too.

    Raises ArgumentError, naming file and line, where one side of a pair is missing or the files
    have different numbers of lines; and as ``read_text`` does.
    """
    name = os.fspath(path)
    lines = _lines(name)
    if targets is None:
        pairs = [tuple(line.split("\t")[:2]) if line.strip() else ("", "") for line in lines]
        other = name
    else:
        other = os.fspath(targets)
        beside = _lines(other)
        if len(beside) != len(lines):
            raise ArgumentError(
                f"{other}: expected {len(lines)} lines, as many as in {name}, got {len(beside)}"
            )
        pairs = list(zip(lines, beside, strict=True))
    found = Pairs([], [])
    for number, pair in enumerate(pairs, 1):
        if len(pair) < 2:
            raise ArgumentError(f"{name}:{number}: no tabulator; expected source, tab, target")
        source, target = pair[0].strip(), pair[1].strip()
        if source and target:
            found.sources.append(source)
            found.targets.append(target)
        elif source or target:
            where = f"{other}:{number}" if source else f"{name}:{number}"
            raise ArgumentError(f"{where}: the {'target' if source else 'source'} is empty")
    return found


def _lines(name: str) -> list[str]:
    return read_text(name).rstrip("\n").split("\n")
