"""Characters as integer ids, and what all vocabularies have in common."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import Any, Protocol

import numpy as np

from rnnkit.checks import check_integer, check_list
from rnnkit.errors import ArgumentError


class Codec(Protocol):
    """Text, or labels, as ids and back: what a task needs of a vocabulary of any kind."""

    def __len__(self) -> int:
        """How many ids there are: they go from 0 to len - 1."""

    def encode(self, text: str, /) -> np.ndarray:
        """The ids of ``text``, int64 (L,)."""

    def decode(self, ids: Iterable[int], /) -> str:
        """The text of ``ids``."""

    def record(self) -> dict[str, Any]:
        """All that makes it, as JSON can hold it, under a ``kind`` that tells which class."""


class Vocabulary:
    """A fixed set of characters with the ids 1, 2, ... in code point order.

    Id 0 (``Vocabulary.unknown``) stands for every character outside the set: validation text and
    prompts may hold characters that the training part never showed. It decodes to U+FFFD.
    """

    unknown = 0

    def __init__(self, characters: Iterable[str]) -> None:
        """``characters``: the characters to know, in any order, repeats allowed.

        Raises ArgumentError when there is none or an item is not a single character.
        """
        known: Iterable[str] = characters
        if not isinstance(characters, str):
            known = check_list("characters", characters, "a text or single characters")
            for item in known:
                if not isinstance(item, str) or len(item) != 1:
                    raise ArgumentError(f"characters: expected single characters, got {item!r}")
        self.characters = "".join(sorted(set(known)))
        if not self.characters:
            raise ArgumentError("characters: expected at least one character, got none")
        self._code_points = _code_points(self.characters)

    def __len__(self) -> int:
        """How many ids there are, the unknown one included."""
        return len(self.characters) + 1

    def __contains__(self, character: object) -> bool:
        return isinstance(character, str) and len(character) == 1 and character in self.characters

    def __repr__(self) -> str:
        return f"Vocabulary({len(self.characters)} characters)"

    def record(self) -> dict[str, Any]:
        """What ``from_record`` makes the same vocabulary of; JSON can hold it."""
        return {"kind": "characters", "characters": self.characters}

    @classmethod
    def from_record(cls, record: Any) -> Vocabulary:
        """The vocabulary of a record. Raises ArgumentError when it is not one of ``record()``."""
        characters = check_record(record, "characters").get("characters")
        if not isinstance(characters, str) or "".join(sorted(set(characters))) != characters:
            raise ArgumentError("record: expected 'characters' to be a sorted text without repeats")
        return cls(characters)

    def encode(self, text: str) -> np.ndarray:
        """The ids of ``text``: an int64 array (len(text),), 0 where a character is unknown.

        Raises ArgumentError when it is no text.
        """
        if not isinstance(text, str):
            raise ArgumentError(f"text: expected a text, got {type(text).__name__}")
        points = _code_points(text)
        places = np.searchsorted(self._code_points, points)
        places = np.minimum(places, len(self._code_points) - 1)
        known = self._code_points[places] == points
        return np.where(known, places + 1, self.unknown).astype(np.int64)

    def decode(self, ids: Iterable[int]) -> str:
        """The text of ``ids``. Raises ArgumentError when an id is outside the vocabulary."""
        letters = "\N{REPLACEMENT CHARACTER}" + self.characters
        return "".join([letters[i] for i in check_ids(ids, len(letters))])


def check_ids(ids: Iterable[int], count: int) -> list[int]:
    """``ids`` as a list. Raises ArgumentError unless all are integers from 0 to count - 1."""
    given = check_list("ids", ids, f"ids from 0 to {count - 1}")
    return [check_integer("ids", i, 0, count - 1) for i in given]


def check_record(record: Any, kind: str) -> Mapping[str, Any]:
    """``record`` as it was given. Raises ArgumentError unless it is a mapping of that kind."""
    if not isinstance(record, Mapping) or record.get("kind") != kind:
        found = record.get("kind") if isinstance(record, Mapping) else type(record).__name__
        raise ArgumentError(f"record: expected an object of kind {kind!r}, got {found!r}")
    return record


def check_names(record: Mapping[str, Any], field: str) -> list[str]:
    """A field of a record that is a list of different texts, else ArgumentError."""
    names = record.get(field)
    if not isinstance(names, list) or not all(isinstance(name, str) for name in names):
        raise ArgumentError(f"record: expected {field!r} to be a list of texts")
    if len(set(names)) != len(names):
        raise ArgumentError(f"record: expected {field!r} without repeats")
    return names


def _code_points(text: str) -> np.ndarray:
    return np.frombuffer(text.encode("utf-32-le", "surrogatepass"), dtype="<u4")
