"""Words and labels to ids and back, and their records."""

import json
import random

import numpy as np
import pytest

from rnnkit.data import (
    LabelSet,
    Vocabulary,
    WordVocabulary,
    join_words,
    tokenize_words,
    vocabulary_from_record,
)
from rnnkit.errors import ArgumentError


@pytest.mark.parametrize(
    ("text", "tokens"),
    [
        ("Don't stop!", ["Don't", "stop", "!"]),
        ("l’homme, peut-être.", ["l’homme", ",", "peut-être", "."]),  # noqa: RUF001
        ("3.14 and 1,000,000.", ["3.14", "and", "1,000,000", "."]),
        ("a.b -- c-", ["a", ".", "b", "-", "-", "c", "-"]),
        ("'tis (so)", ["'", "tis", "(", "so", ")"]),
        ("snake_case x2", ["snake_case", "x2"]),
        ("हिन्दी में", ["हिन्दी", "में"]),
        ("cafe\u0301", ["cafe\u0301"]),
        ("葛\U000e0100城", ["葛\U000e0100城"]),  # a variant of the ideograph
        ("日本語。", ["日本語", "。"]),
        ("a\t\u00a0b", ["a", "b"]),
        ("🙂🙂", ["🙂", "🙂"]),
        ("", []),
    ],
)
def test_words_and_punctuation(text, tokens):
    assert tokenize_words(text) == tokens


def test_lower_case_and_line_ends_as_asked():
    assert tokenize_words("A B\n\nc", lower=True) == ["a", "b", "c"]
    assert tokenize_words("A B\n\nc", lines=True) == ["A", "B", "\n", "\n", "c"]


def test_joined_words_read_like_prose():
    for text in (
        'He said: "Don\'t (ever) go!", twice.',
        "What? No… 3.14 % [sic]; {x}",
        "one\ntwo, three\n\nfour",
        "¿Qué? «oui»",
    ):
        expected = text.replace(" %", "%")
        assert join_words(tokenize_words(text, lines=True)) == expected


def test_joined_words_are_cut_at_the_same_places_again():
    draw = random.Random(0)
    pieces = [*"a1.,'-\"() \n\u00e9\u0301#", "bc", "23"]
    for _ in range(2000):
        text = "".join(draw.choices(pieces, k=draw.randrange(12)))
        tokens = tokenize_words(text, lines=True)
        assert "".join(tokens) == text.replace(" ", "")
        assert tokenize_words(join_words(tokens), lines=True) == tokens, text


def test_the_most_frequent_words_come_first():
    vocabulary = WordVocabulary.of(["b a c a", ["c", "d", "a", "<unk>"]], specials=("end", "pad"))
    assert vocabulary.words == ("a", "c", "b", "d")
    assert (vocabulary.unknown, vocabulary.pad, vocabulary.start, vocabulary.end) == (0, 1, None, 2)
    assert len(vocabulary) == 7
    assert vocabulary.encode("a d x").tolist() == [3, 6, 0]
    assert vocabulary.encode(["a", "<unk>", "</s>"], end=True).tolist() == [3, 0, 2, 2]
    assert vocabulary.encode("").dtype == np.int64
    translated = WordVocabulary(["a"], specials=("pad", "start", "end"))
    around = translated.encode("a", start=True, end=True)
    assert translated.tokens(around) == ["<s>", "a", "</s>"]
    assert vocabulary.tokens([0, 1, 2, 3]) == ["<unk>", "<pad>", "</s>", "a"]
    assert vocabulary.decode(np.array([3, 0, 4, 2, 1, 1])) == "a <unk> c"
    assert "a" in vocabulary
    assert "x" not in vocabulary


def test_rare_words_are_left_out():
    texts = [f"{word} " * count for word, count in (("x", 5), ("y", 3), ("z", 3), ("w", 1))]
    assert WordVocabulary.of(texts, min_count=3).words == ("x", "y", "z")
    small = WordVocabulary.of(texts, max_size=4, specials=["pad"])
    assert small.words == ("x", "y")
    assert len(small) == 4
    assert WordVocabulary.of(texts, max_size=1).words == ()
    assert WordVocabulary.of(iter(texts), max_size=99).words == ("x", "y", "z", "w")


@pytest.mark.parametrize(
    "vocabulary",
    [
        Vocabulary("naïve 🙂\n"),
        WordVocabulary.of(["One two\n"], specials=("start", "end"), lower=True, lines=True),
        WordVocabulary([]),
    ],
    ids=repr,
)
def test_a_record_makes_the_same_vocabulary(vocabulary):
    again = vocabulary_from_record(json.loads(json.dumps(vocabulary.record())))
    assert type(again) is type(vocabulary)
    assert again.record() == vocabulary.record()
    text = "One\n two naïve"
    assert again.encode(text).tolist() == vocabulary.encode(text).tolist()
    assert len(again) == len(vocabulary)


@pytest.mark.parametrize(
    "record",
    [
        None,
        [],
        {},
        {"kind": "labels", "names": ["a"]},
        {"kind": "characters"},
        {"kind": "characters", "characters": "ba"},
        {"kind": "characters", "characters": "aa"},
        {"kind": "characters", "characters": ["a"]},
        {"kind": "characters", "characters": ""},
        {"kind": "words", "words": ["a"], "specials": []},
        {"kind": "words", "words": "ab", "specials": [], "lower": True, "lines": False},
        {"kind": "words", "words": ["a", 1], "specials": [], "lower": True, "lines": False},
        {"kind": "words", "words": ["a", "a"], "specials": [], "lower": True, "lines": False},
        {"kind": "words", "words": [""], "specials": [], "lower": True, "lines": False},
        {"kind": "words", "words": ["<pad>"], "specials": [], "lower": True, "lines": False},
        {"kind": "words", "words": [], "specials": ["bos"], "lower": True, "lines": False},
        {"kind": "words", "words": [], "specials": [], "lower": 1, "lines": False},
    ],
    ids=str,
)
def test_damaged_records_are_refused(record):
    with pytest.raises(ArgumentError):
        vocabulary_from_record(record)


def test_nonsense_is_refused():
    with pytest.raises(ArgumentError, match="text: expected a text or a list of texts"):
        WordVocabulary(["1"]).encode([1, 2])
    vocabulary = WordVocabulary(["a"])
    with pytest.raises(ArgumentError, match="no such symbol"):
        vocabulary.encode("a", start=True)
    for wrong in (2, -1, 0.5):
        with pytest.raises(ArgumentError, match="ids: expected an integer from 0 to 1"):
            vocabulary.decode([wrong])
    with pytest.raises(ArgumentError, match="got one text"):
        WordVocabulary.of("a b c")
    for wrong in (0, float("nan"), "2"):
        with pytest.raises(ArgumentError, match=r"min_count: expected (an int|at least 1), got"):
            WordVocabulary.of([], min_count=wrong)
    with pytest.raises(ArgumentError, match=r"max_size: expected an int, got 2\.5"):
        WordVocabulary.of([], max_size=2.5)
    with pytest.raises(ArgumentError, match="max_size"):
        WordVocabulary.of([], max_size=2, specials=["pad", "end"])
    with pytest.raises(ArgumentError, match="specials"):
        WordVocabulary([], specials=["pad", "pad"])


def test_labels_keep_their_order():
    labels = LabelSet.of(["N", "EI", "IE", "N"])
    assert labels.names == ("EI", "IE", "N")
    assert labels.encode(["N", "EI"]).tolist() == [2, 0]
    assert labels.decode(np.array([1, 2])) == ["IE", "N"]
    assert "N" in labels
    assert LabelSet.of(["10", "9", "-1"]).names == ("-1", "9", "10")
    assert LabelSet.of(["10", "9", "x"]).names == ("10", "9", "x")
    for name in ("\u00b2", "9" * 5000):  # digits that int() refuses
        assert LabelSet.of(["1", name]).names == ("1", name)
    again = LabelSet.from_record(json.loads(json.dumps(labels.record())))
    assert again.names == labels.names
    assert len(again) == 3


def test_labels_outside_the_set_are_refused():
    labels = LabelSet(["a", "b"])
    with pytest.raises(ArgumentError, match=r"labels\[1\]: expected one of a, b, got 'c'"):
        labels.encode(["a", "c"])
    with pytest.raises(ArgumentError, match="list of labels"):
        labels.encode("ab")
    with pytest.raises(ArgumentError, match=r"labels\[0\]: expected one of a, b, got \['a'\]"):
        labels.encode([["a"]])
    with pytest.raises(ArgumentError, match="names: expected texts, got 1"):
        LabelSet.of([1, "a"])
    with pytest.raises(ArgumentError, match="list of labels"):
        LabelSet.of("ab")
    with pytest.raises(ArgumentError, match="ids: expected an integer from 0 to 1"):
        labels.decode([2])
    for names in ([], ["a", "a"], [1]):
        with pytest.raises(ArgumentError, match="names"):
            LabelSet(names)
    for record in (None, {"kind": "words"}, {"kind": "labels", "names": "ab"}):
        with pytest.raises(ArgumentError, match="record"):
            LabelSet.from_record(record)
