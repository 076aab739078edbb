"""BLEU against values worked out by hand and against sacreBLEU's (2.6.0, kept here)."""

import math

import pytest

from rnnkit.decoding import corpus_bleu, tokenize_13a
from rnnkit.errors import ArgumentError, DTypeError

TRANSLATIONS = [
    "The cat sat on the mat, didn't it?",
    "There are 1,000 dogs - and 3-4 cats.",
    'He said: "no" &amp; left.',
]
REFERENCES = [
    "The cat is sitting on the mat, isn't it?",
    "There are 1,000 dogs and 3-4 cats here.",
    'He said "no" &amp; went away.',
]
MORE = [
    "A cat sat on a mat, didn't it?",
    "1,000 dogs are there, and 3-4 cats.",
    '"No", he said and left.',
]


@pytest.mark.parametrize(
    ("text", "tokens"),
    [
        ("It's 3.5-4 km, i.e. \"far\".",
         ["It's", "3.5", "-", "4", "km", ",", "i", ".", "e", ".", '"', "far", '"', "."]),
        ("<a&quot;b>-c 1-2 x,y 1,5",
         ["<", "a", '"', "b", ">", "-c", "1", "-", "2", "x", ",", "y", "1,5"]),
        ("x,1 y.2 &gt;&lt;&amp;", ["x", ",", "1", "y", ".", "2", ">", "<", "&"]),
        ("wait... (no)", ["wait", ".", ".", ".", "(", "no", ")"]),
        ("broken-\nup <skipped>line\nhere", ["brokenup", "line", "here"]),
        ("«l'été» déjà", ["«l'été»", "déjà"]),
        ("", []),
    ],
)  # fmt: skip
def test_tokens(text, tokens):
    assert tokenize_13a(text) == tokens


def test_by_hand():
    # 5 words of 6 are right ("the" twice, as the reference has it twice), 3 pairs of 5,
    # 1 triple of 4, none of 3 quadruples: smoothed to half of a third.
    found = corpus_bleu(["the the cat sat the mat"], ["the cat sat on the mat there now"])
    assert found.precisions == pytest.approx((100 * 5 / 6, 60.0, 25.0, 100 / 6))
    assert (found.length, found.reference_length) == (6, 8)
    assert found.brevity_penalty == pytest.approx(math.exp(1 - 8 / 6))
    mean = (5 / 6 * 3 / 5 * 1 / 4 * 1 / 6) ** 0.25
    assert found.score == pytest.approx(100 * mean * math.exp(-1 / 3))


def test_smoothing_halves_again_for_each_order_without_a_match():
    found = corpus_bleu(["a b c d e"], ["e d c b a"])
    assert found.precisions == pytest.approx((100.0, 100 / 8, 100 / 12, 100 / 16))


@pytest.mark.parametrize(
    ("translations", "references", "score"),
    [
        (TRANSLATIONS, REFERENCES, 44.32132698286247),
        (TRANSLATIONS, list(zip(REFERENCES, MORE, strict=True)), 64.11664584353788),
        (["a b c", "x y"], ["a b d", "x z"], 0.0),  # no quadruples
        (["The Cat"], ["the cat sat on"], 0.0),  # nothing right
        (["", "a b c d"], ["a", "a b c d"], 100 * math.exp(-1 / 4)),
        ([""], ["a"], 0.0),
        (REFERENCES, REFERENCES, 100.0),
    ],
)
def test_as_sacrebleu_has_it(translations, references, score):
    assert corpus_bleu(translations, references).score == pytest.approx(score, rel=1e-12)


def test_lower():
    assert corpus_bleu(["A B C D"], ["a b c d"]).score == 0.0
    assert corpus_bleu(["A B C D"], ["a b c d"], lower=True).score == pytest.approx(100.0)


def test_no_score_is_above_100():
    assert corpus_bleu(["a b c d"], ["a b c d"]).score == 100.0


def test_of_references_equally_near_in_length_the_shorter_counts():
    found = corpus_bleu(["a b c"], [["a b c d", "a b"]])
    assert found.reference_length == 2
    assert corpus_bleu(["a b c"], [["a b c d", "a"]]).reference_length == 4


def test_what_does_not_belong_together_is_refused():
    with pytest.raises(ArgumentError, match="2 translations and 1 references"):
        corpus_bleu(["a", "b"], ["a"])
    with pytest.raises(ArgumentError, match="0 translations"):
        corpus_bleu([], [])
    with pytest.raises(ArgumentError, match=r"references\[1\]: expected one or more"):
        corpus_bleu(["a", "b"], ["a", []])


@pytest.mark.parametrize(
    ("translations", "references", "match"),
    [
        (None, ["a"], "^translations: expected texts, got NoneType"),
        ("a b", ["a", "b"], "^translations: expected texts, got str"),
        ([None], ["a"], r"^translations\[0\]: expected a text, got NoneType"),
        (["a"], None, "^references: expected one for each translation, got NoneType"),
        (["a"], "a", "^references: expected one for each translation, got str"),
        (["a"], [None], r"^references\[0\]: expected texts, got NoneType"),
        (["a"], [["a", 1]], r"^references\[0\]\[1\]: expected a text, got int"),
    ],
)
def test_what_is_no_text_is_refused(translations, references, match):
    with pytest.raises(DTypeError, match=match):
        corpus_bleu(translations, references)


def test_texts_may_come_one_by_one():
    expected = corpus_bleu(TRANSLATIONS, REFERENCES)
    assert corpus_bleu(iter(TRANSLATIONS), iter(REFERENCES)) == expected
