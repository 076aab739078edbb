"""Characters as integer ids."""

from __future__ import annotations

from collections.abc import Iterable

import numpy as np

from rnnkit.errors import ArgumentError


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
        known = sorted(set(characters))
        if not known:
            raise ArgumentError("characters: expected at least one character, got none")
        for item in known:
            if not isinstance(item, str) or len(item) != 1:
                raise ArgumentError(f"characters: expected single characters, got {item!r}")
        self.characters = "".join(known)
        self._code_points = _code_points(self.characters)

    def __len__(self) -> int:
        """How many ids there are, the unknown one included."""
        return len(self.characters) + 1

    def __contains__(self, character: object) -> bool:
        return isinstance(character, str) and len(character) == 1 and character in self.characters

    def __repr__(self) -> str:
        return f"Vocabulary({len(self.characters)} characters)"

    def encode(self, text: str) -> np.ndarray:
        """The ids of ``text``: an int64 array (len(text),), 0 where a character is unknown."""
        points = _code_points(text)
        places = np.searchsorted(self._code_points, points)
        places = np.minimum(places, len(self._code_points) - 1)
        known = self._code_points[places] == points
        return np.where(known, places + 1, self.unknown).astype(np.int64)

    def decode(self, ids: Iterable[int]) -> str:
        """The text of ``ids``. Raises ArgumentError when an id is outside the vocabulary."""
        letters = "\N{REPLACEMENT CHARACTER}" + self.characters
        out = []
        for i in ids:
            if not 0 <= i < len(letters):
                raise ArgumentError(f"ids: expected ids from 0 to {len(letters) - 1}, got {i}")
            out.append(letters[i])
        return "".join(out)


def _code_points(text: str) -> np.ndarray:
    return np.frombuffer(text.encode("utf-32-le", "surrogatepass"), dtype="<u4")
