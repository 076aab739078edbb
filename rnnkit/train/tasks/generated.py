"""Small data sets with a known rule, for tasks that were given no files."""

from __future__ import annotations

import numpy as np

from rnnkit.data import Labelled

# The grammar of Reber 1967, "Implicit learning of artificial grammars": from each state the
# symbols that may come, and the state that each leads to; None ends the string. Of two symbols the
# first is the one that keeps the string going, where they differ in that.
_REBER: tuple[dict[str, int | None], ...] = (
    {"B": 1},
    {"T": 2, "P": 3},
    {"S": 2, "X": 4},
    {"T": 3, "V": 5},
    {"X": 3, "S": 6},
    {"P": 4, "V": 6},
    {"E": None},
)
_LETTERS = "BEPSTVX"
_LONGEST_REBER = 40
_AGAIN = 0.7  # how likely the first is; with even chances most strings are the same few short ones

_OPEN, _CLOSE, _OTHERS = "([{", ")]}", "abc"
_DEEPEST = 5


def reber_strings(count: int = 3000, seed: int = 0) -> Labelled:
    """Strings of the Reber grammar, "grammatical", and such with a wrong letter, "corrupted".

    Every other string has one letter, any but the first, replaced by another so that the grammar
    no longer makes it. None is made twice from the same string: the few short ones would else be
    most of what there is.
    """
    random = np.random.Generator(np.random.PCG64(seed))
    texts: list[str] = []
    labels: list[str] = []
    used: set[str] = set()
    while len(texts) < count:
        text, good = _reber_string(random), len(texts) % 2 == 0
        if text in used:
            continue
        used.add(text)
        while not good:
            place = int(random.integers(1, len(text)))
            other = text[:place] + _LETTERS[random.integers(len(_LETTERS))] + text[place + 1 :]
            if not is_reber(other):
                text, good = other, True
        labels.append("corrupted" if len(texts) % 2 else "grammatical")
        texts.append(text)
    return Labelled("text", texts, labels, False)


def is_reber(text: str) -> bool:
    """Whether the grammar makes ``text``."""
    state: int | None = 0
    for letter in text:
        if state is None or letter not in _REBER[state]:
            return False
        state = _REBER[state][letter]
    return state is None


def bracket_depths(count: int = 1500, seed: int = 0) -> Labelled:
    """Balanced brackets of three kinds among letters, 10 to 60 characters; the label of each
    character is how many brackets are open around it, a bracket's own pair included, 0 to 5."""
    random = np.random.Generator(np.random.PCG64(seed))
    texts: list[str] = []
    labels: list[list[str]] = []
    for _ in range(count):
        left = int(random.integers(10, 61))
        letters: list[str] = []
        depths: list[str] = []
        kinds: list[int] = []
        while left:
            kind = int(random.integers(3))
            choice = random.random()
            if kinds and (left <= len(kinds) or choice < 0.3):
                depths.append(str(len(kinds)))
                letters.append(_CLOSE[kinds.pop()])
            elif choice < 0.65 and len(kinds) < _DEEPEST and left >= len(kinds) + 2:
                kinds.append(kind)
                letters.append(_OPEN[kind])
                depths.append(str(len(kinds)))
            else:
                letters.append(_OTHERS[kind])
                depths.append(str(len(kinds)))
            left -= 1
        texts.append("".join(letters))
        labels.append(depths)
    return Labelled("text", texts, labels, True)


def _reber_string(random: np.random.Generator) -> str:
    while True:
        letters: list[str] = []
        state: int | None = 0
        while state is not None:
            letter, *other = _REBER[state]
            if other and random.random() >= _AGAIN:
                (letter,) = other
            letters.append(letter)
            state = _REBER[state][letter]
        if len(letters) <= _LONGEST_REBER:
            return "".join(letters)
