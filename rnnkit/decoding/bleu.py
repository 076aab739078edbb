"""BLEU: how many of a translation's words, pairs, triples and quadruples stand in a reference.

Papineni, Roukos, Ward and Zhu, "BLEU: a method for automatic evaluation of machine translation",
ACL 2002. Figures can be compared only when tokens and smoothing are the same (Post, "A call for
clarity in reporting BLEU scores", WMT 2018, arXiv 1804.08771). These are sacreBLEU's, by its
signature ``nrefs:1|case:mixed|eff:no|tok:13a|smooth:exp``.
"""

from __future__ import annotations

import math
import re
import string
from collections import Counter
from collections.abc import Iterable, Sequence
from typing import NamedTuple

from rnnkit.checks import check_bool
from rnnkit.errors import ArgumentError, DTypeError

ORDER = 4

_ENTITIES = (("&quot;", '"'), ("&amp;", "&"), ("&lt;", "<"), ("&gt;", ">"))
# All of ASCII's but the apostrophe, and those whose meaning depends on the digits beside them.
_ALONE = re.escape("".join(mark for mark in string.punctuation if mark not in "',-."))
_RULES = (
    (re.compile(rf"([{_ALONE}])"), r" \1 "),
    (re.compile(r"([^0-9])([.,])"), r"\1 \2 "),
    (re.compile(r"([.,])([^0-9])"), r" \1 \2"),
    (re.compile(r"([0-9])(-)"), r"\1 \2 "),
)


class Bleu(NamedTuple):
    """How well a corpus was translated.

    Attributes:
        score: from 0 to 100.
        precisions: of one to four words, from 0 to 100, smoothed where nothing was right.
        brevity_penalty: from 0 to 1; 1 for translations no shorter than the references.
        length: tokens of the translations.
        reference_length: tokens of the references, of several the one nearest in length.
    """

    score: float
    precisions: tuple[float, ...]
    brevity_penalty: float
    length: int
    reference_length: int


def corpus_bleu(
    translations: Iterable[str],
    references: Iterable[str | Sequence[str]],
    *,
    lower: bool = False,
) -> Bleu:
    """The BLEU of whole texts, not of their tokens, which are made here.

    The n-grams of all translations are counted together. Where not one of an order is right, its
    precision is 1 / (2 ** k total) for the k-th such order (sacreBLEU's "exp"); where there is
    nothing right at all, or no n-gram of an order, the score is 0.

    Args:
        translations: one text for each sentence.
        references: for each of them a text, or several that are all right.
        lower: whether capital letters count as small ones.

    Raises:
        ArgumentError: no texts, other numbers of both, or a translation without a reference.
        DTypeError: something else than texts.
    """
    check_bool("lower", lower)
    pairs = _pairs(translations, references)
    right, total = [0] * ORDER, [0] * ORDER
    length = reference_length = 0
    for translation, texts in pairs:
        tokens = _tokens(translation, lower)
        known = [_tokens(text, lower) for text in texts]
        length += len(tokens)
        reference_length += min(
            map(len, known), key=lambda size: (abs(size - len(tokens)), size)
        )
        most: Counter[tuple[str, ...]] = Counter()
        for reference in known:
            most |= _ngrams(reference)
        for ngram, count in _ngrams(tokens).items():
            total[len(ngram) - 1] += count
            right[len(ngram) - 1] += min(count, most[ngram])
    precisions = _precisions(right, total)
    penalty = 1.0
    if length < reference_length:
        penalty = math.exp(1 - reference_length / length) if length else 0.0
    score = 0.0
    if all(precisions):
        mean = math.exp(sum(map(math.log, precisions)) / ORDER)
        score = penalty * min(mean, 100.0)  # rounding may go beyond
    return Bleu(score, precisions, penalty, length, reference_length)


def tokenize_13a(text: str) -> list[str]:
    """The tokens of ``text`` by the rules of NIST's mteval-v13a, as sacreBLEU has them.

    Punctuation is cut off but for apostrophes, for hyphens that no digit stands before, and for
    periods and commas between digits. Raises DTypeError for something else than a text.
    """
    if not isinstance(text, str):
        raise DTypeError(f"text: expected a text, got {type(text).__name__}")
    text = text.replace("<skipped>", "").replace("-\n", "").replace("\n", " ")
    for entity, character in _ENTITIES:
        text = text.replace(entity, character)
    text = f" {text} "
    for pattern, replacement in _RULES:
        text = pattern.sub(replacement, text)
    return text.split()


def _tokens(text: str, lower: bool) -> list[str]:
    return tokenize_13a((text.lower() if lower else text).rstrip())


def _ngrams(tokens: list[str]) -> Counter[tuple[str, ...]]:
    return Counter(
        tuple(tokens[begin : begin + n])
        for n in range(1, ORDER + 1)
        for begin in range(len(tokens) - n + 1)
    )


def _precisions(right: list[int], total: list[int]) -> tuple[float, ...]:
    found = [0.0] * ORDER
    if not any(right):
        return tuple(found)
    halved = 1.0
    for place, (hits, count) in enumerate(zip(right, total, strict=True)):
        if not count:
            break
        if not hits:
            halved *= 2
        found[place] = 100.0 * hits / count if hits else 100.0 / (halved * count)
    return tuple(found)


def _pairs(
    translations: Iterable[str], references: Iterable[str | Sequence[str]]
) -> list[tuple[str, list[str]]]:
    found = _texts("translations", translations)
    if isinstance(references, str) or not isinstance(references, Iterable):
        raise DTypeError(
            f"references: expected one for each translation, got {type(references).__name__}"
        )
    several = [
        [each] if isinstance(each, str) else _texts(f"references[{place}]", each)
        for place, each in enumerate(references)
    ]
    if not found or len(found) != len(several):
        raise ArgumentError(
            f"references: expected one for each translation, got {len(found)} translations "
            f"and {len(several)} references"
        )
    for place, texts in enumerate(several):
        if not texts:
            raise ArgumentError(f"references[{place}]: expected one or more, got none")
    return list(zip(found, several, strict=True))


def _texts(name: str, value: Iterable[str]) -> list[str]:
    if isinstance(value, str) or not isinstance(value, Iterable):
        raise DTypeError(f"{name}: expected texts, got {type(value).__name__}")
    texts = list(value)
    for place, text in enumerate(texts):
        if not isinstance(text, str):
            raise DTypeError(f"{name}[{place}]: expected a text, got {type(text).__name__}")
    return texts
