"""Words as integer ids, and the tokenizer that finds them in a text."""

from __future__ import annotations

import functools
import itertools
import re
import unicodedata
from collections import Counter
from collections.abc import Iterable
from typing import Any

import numpy as np

from rnnkit.checks import check_bool, check_kind, check_list, check_size
from rnnkit.data.vocabulary import Vocabulary, check_ids, check_names, check_record
from rnnkit.errors import ArgumentError

UNKNOWN = "<unk>"
SPECIALS = {"pad": "<pad>", "start": "<s>", "end": "</s>"}

_NO_SPACE_BEFORE = frozenset(".,;:!?%)]}…»”")
_NO_SPACE_AFTER = frozenset("([{«“¿¡#")


def tokenize_words(text: str, *, lower: bool = False, lines: bool = False) -> list[str]:
    """The words and punctuation marks of ``text``, in their order.

    A word is a run of letters, digits, underscores and combining marks of any script, with
    single apostrophes, hyphens, periods or commas inside where they stand between two of its
    characters as in ``don't``, ``peut-être`` and ``3.14`` (a period or comma only between digits).
    Every other character that is no white space is a token of its own.

    Args:
        lower: whether to make capital letters small.
        lines: whether a line end is a token, ``"\\n"``, too; other white space never is.
    """
    check_kind("text", text, str)
    check_bool("lines", lines)
    text = text.lower() if check_bool("lower", lower) else text
    marked = not text.isascii() and not _combining_marks().isdisjoint(text)
    tokens = _token_pattern(marked).findall(text)
    return tokens if lines else [token for token in tokens if token != "\n"]


def join_words(tokens: Iterable[str]) -> str:
    """A text of ``tokens``, spaced as prose is: none before a full stop or after an open bracket.

    ``tokenize_words`` gives the same tokens again; the spaces need not be those of the first text.
    A straight double quote opens and closes in turn.
    """
    joiner = WordJoiner()
    listed = check_list("tokens", tokens, "several words")
    return "".join([joiner.add(token) for token in listed])


class WordJoiner:
    """`join_words` of a text that is made a token at a time."""

    def __init__(self) -> None:
        self._glued = True
        self._quoted = False

    def add(self, token: str) -> str:
        """``token``, after a space where one belongs."""
        closes = token == '"' and self._quoted
        spaced = not (self._glued or closes or token in _NO_SPACE_BEFORE or token == "\n")
        if token == '"':
            self._quoted = not self._quoted
        self._glued = (
            token in _NO_SPACE_AFTER or token == "\n" or (token == '"' and self._quoted)
        )
        return " " * spaced + token


class WordVocabulary:
    """A fixed list of words with ids; all others share id 0.

    Id 0 (``unknown``) stands for every word outside the list and decodes to ``<unk>``. Then come
    the special symbols asked for, whose ids are the attributes ``pad``, ``start`` and ``end``
    (None where absent), then the words.
    """

    unknown = 0

    def __init__(
        self,
        words: Iterable[str],
        *,
        specials: Iterable[str] = (),
        lower: bool = False,
        lines: bool = False,
    ) -> None:
        """``words``: in the order of their ids; ``specials``: names out of pad, start and end;
        ``lower`` and ``lines``: how ``encode`` cuts a text into words, as ``tokenize_words`` does.

        Raises ArgumentError for a word that is repeated, empty or the name of a special symbol,
        and for specials that there are none of.
        """
        asked = check_list("specials", specials, "some of pad, start, end")
        for name in asked:
            if not isinstance(name, str) or name not in SPECIALS or asked.count(name) > 1:
                raise ArgumentError(
                    f"specials: expected each of pad, start, end at most once, got {name!r}"
                )
        self.specials = tuple(name for name in SPECIALS if name in asked)
        self.words = tuple(check_list("words", words, "several words"))
        self.lower = check_bool("lower", lower)
        self.lines = check_bool("lines", lines)
        reserved = {UNKNOWN, *SPECIALS.values()}
        for word in self.words:
            if not isinstance(word, str) or not word or word in reserved:
                raise ArgumentError(f"words: expected words, none of them special, got {word!r}")
        self._tokens = (UNKNOWN, *(SPECIALS[name] for name in self.specials), *self.words)
        self._ids = {token: i for i, token in enumerate(self._tokens)}
        if len(self._ids) != len(self._tokens):
            raise ArgumentError("words: expected each word once")
        self.pad = self._ids[SPECIALS["pad"]] if "pad" in asked else None
        self.start = self._ids[SPECIALS["start"]] if "start" in asked else None
        self.end = self._ids[SPECIALS["end"]] if "end" in asked else None

    @classmethod
    def of(
        cls,
        texts: Iterable[str | Iterable[str]],
        *,
        min_count: int = 1,
        max_size: int | None = None,
        specials: Iterable[str] = (),
        lower: bool = False,
        lines: bool = False,
    ) -> WordVocabulary:
        """The words of ``texts`` (texts, or lists of tokens), the most frequent first.

        Words of equal count stand in the order of code points, so that the ids depend on the
        counts alone. ``texts`` may be a generator over a file of any size.

        Args:
            min_count: words seen less often are left out.
            max_size: the most ids there may be, the unknown one and the specials included.
        """
        if isinstance(texts, str):
            raise ArgumentError("texts: expected a list of texts, got one text")
        min_count = check_size("min_count", min_count)
        asked = tuple(specials)
        if max_size is not None and check_size("max_size", max_size) < 1 + len(asked):
            raise ArgumentError(
                f"max_size: expected at least {1 + len(asked)}, the unknown word and the "
                f"specials, got {max_size}"
            )
        counts: Counter[str] = Counter()
        for text in texts:
            counts.update(_tokens_of(text, lower, lines))
        for name in (UNKNOWN, *SPECIALS.values()):
            counts.pop(name, None)
        kept = [word for word, count in counts.items() if count >= min_count]
        kept.sort(key=lambda word: (-counts[word], word))
        if max_size is not None:
            del kept[max_size - 1 - len(asked) :]
        return cls(kept, specials=asked, lower=lower, lines=lines)

    def __len__(self) -> int:
        """How many ids there are, the unknown one and the specials included."""
        return len(self._tokens)

    def __contains__(self, word: object) -> bool:
        return word in self._ids

    def __repr__(self) -> str:
        specials = f", with {', '.join(self.specials)}" if self.specials else ""
        return f"WordVocabulary({len(self.words)} words{specials})"

    def encode(
        self, text: str | Iterable[str], *, start: bool = False, end: bool = False
    ) -> np.ndarray:
        """The ids of a text, or of a list of tokens taken as they are: int64 (L,).

        ``start`` and ``end`` put those symbols around it. Raises ArgumentError when the vocabulary
        has them not, and for a token that is no text.
        """
        if not isinstance(text, str):
            text = check_list("text", text, "a text or its tokens")
        for name, wanted in (("start", start), ("end", end)):
            if check_bool(name, wanted) and name not in self.specials:
                raise ArgumentError(f"{name}: this vocabulary has no such symbol")
        tokens = list(_tokens_of(text, self.lower, self.lines))
        if not all(isinstance(token, str) for token in tokens):  # else all of them unknown
            raise ArgumentError("text: expected a text or a list of texts, the tokens")
        ids = [self._ids.get(token, self.unknown) for token in tokens]
        before = [self._ids[SPECIALS["start"]]] if start else []
        after = [self._ids[SPECIALS["end"]]] if end else []
        return np.array(before + ids + after, np.int64)

    def tokens(self, ids: Iterable[int]) -> list[str]:
        """The token of each id, special symbols by their names (``<unk>``, ``<pad>``, ``<s>``,
        ``</s>``). Raises ArgumentError when an id is outside the vocabulary."""
        return [self._tokens[i] for i in check_ids(ids, len(self))]

    def decode(self, ids: Iterable[int]) -> str:
        """The text of ``ids`` as ``join_words`` spaces it, without pad, start and end symbols.

        Raises ArgumentError when an id is outside the vocabulary.
        """
        silent = {self.pad, self.start, self.end}
        return join_words(self._tokens[i] for i in check_ids(ids, len(self)) if i not in silent)

    def record(self) -> dict[str, Any]:
        """What ``from_record`` makes the same vocabulary of; JSON can hold it."""
        return {
            "kind": "words",
            "words": list(self.words),
            "specials": list(self.specials),
            "lower": self.lower,
            "lines": self.lines,
        }

    @classmethod
    def from_record(cls, record: Any) -> WordVocabulary:
        """The vocabulary of a record. Raises ArgumentError when it is not one of ``record()``."""
        fields = check_record(record, "words")
        lower, lines = fields.get("lower"), fields.get("lines")
        if not isinstance(lower, bool) or not isinstance(lines, bool):
            raise ArgumentError("record: expected 'lower' and 'lines' to be true or false")
        specials = check_names(fields, "specials")
        return cls(check_names(fields, "words"), specials=specials, lower=lower, lines=lines)


def vocabulary_from_record(record: Any) -> Vocabulary | WordVocabulary:
    """The vocabulary, of characters or words, whose ``record()`` this is.

    Raises ArgumentError when it is that of neither.
    """
    kind = record.get("kind") if isinstance(record, dict) else None
    return (WordVocabulary if kind == "words" else Vocabulary).from_record(record)


def _tokens_of(text: str | Iterable[str], lower: bool, lines: bool) -> Iterable[str]:
    return tokenize_words(text, lower=lower, lines=lines) if isinstance(text, str) else text


@functools.cache
def _token_pattern(marked: bool) -> re.Pattern[str]:
    # \w leaves out combining marks, without which the words of many scripts fall apart. The set
    # that has them is slow to match, so texts without any do without it.
    letter = rf"[\w{''.join(sorted(_combining_marks()))}]" if marked else r"\w"
    return re.compile(rf"{letter}+(?:(?:['\u2019\-]|(?<=\d)[.,](?=\d)){letter}+)*|\n|[^\s]")


@functools.cache
def _combining_marks() -> frozenset[str]:
    return frozenset(
        chr(point)
        # Beyond these are ideographs, private characters and nothing.
        for point in itertools.chain(range(0x20000), range(0xE0000, 0xE1000))
        if unicodedata.category(chr(point)).startswith("M")
    )
