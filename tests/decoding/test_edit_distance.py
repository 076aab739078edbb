"""Edit distances against the textbook's table, and error rates over many pairs."""

from __future__ import annotations

from itertools import product

import numpy as np
import pytest

import rnnkit as rk
from rnnkit.decoding import edit_distance, label_error_rate
from rnnkit.errors import ArgumentError, ShapeError


def table(a, b):
    """Wagner and Fischer, cell by cell."""
    d = [[i + j if not i * j else 0 for j in range(len(b) + 1)] for i in range(len(a) + 1)]
    for i, j in product(range(1, len(a) + 1), range(1, len(b) + 1)):
        d[i][j] = min(
            d[i - 1][j] + 1, d[i][j - 1] + 1, d[i - 1][j - 1] + (a[i - 1] != b[j - 1])
        )
    return d[-1][-1]


@pytest.mark.parametrize(
    ("a", "b", "distance"),
    [
        ("kitten", "sitting", 3), ("", "", 0), ("", "abc", 3), ("abc", "", 3), ("abc", "abc", 0),
        ("abc", "abcabc", 3), ("aa", "aaa", 1), ("ab", "ba", 2), ("saturday", "sunday", 3),
        ("naïve", "naive", 1),
    ],
)
def test_known_distances(a, b, distance):
    assert edit_distance(a, b) == distance
    assert isinstance(edit_distance(a, b), int)


@pytest.mark.parametrize("symbols", [1, 2, 3, 10])
def test_distances_of_random_sequences(symbols):
    random = np.random.default_rng(symbols)
    for _ in range(150):
        a, b = (random.integers(0, symbols, random.integers(0, 12)) for _ in range(2))
        distance = edit_distance(a, b)
        assert distance == edit_distance(b, a) == table(a.tolist(), b.tolist())


def test_sequences_of_any_kind():
    assert edit_distance(["the", "cat"], ("the", "black", "cat")) == 1
    assert edit_distance(np.array([1, 2, 3], np.uint8), [1, 3]) == 1
    assert edit_distance(rk.tensor([1, 2]), np.array([2, 1])) == 2
    assert edit_distance("12", [1, 2]) == 2


def test_error_rates():
    assert label_error_rate(["cat", "dog"], ["cart", "dog"]) == 1 / 7
    assert label_error_rate([[1, 2], []], [np.array([1, 3]), [4]]) == 2 / 3
    assert label_error_rate(["abcd"], ["x"]) == 4
    assert label_error_rate(iter(["a"]), iter(["b"])) == 1
    assert label_error_rate([], []) == 0
    assert label_error_rate([""], [""]) == 0
    assert label_error_rate(["a"], [""]) == np.inf
    assert label_error_rate([rk.tensor([1, 2])], [rk.tensor([1, 1])]) == 0.5


def test_thousands_of_strings():
    random = np.random.default_rng(0)
    right = [random.integers(0, 30, 40) for _ in range(2000)]
    found = [np.where(random.random(40) < 0.1, 99, row) for row in right]
    wrong = sum(int((a != b).sum()) for a, b in zip(found, right, strict=True))
    assert label_error_rate(found, right) == wrong / 80_000


@pytest.mark.parametrize(
    ("call", "error", "message"),
    [
        (lambda: edit_distance(np.zeros((2, 2)), "a"), ShapeError, r"a: .* one axis, got shape \("),
        (lambda: edit_distance("a", rk.tensor(1)), ShapeError, "b: expected one axis"),
        (lambda: edit_distance("a", 3), ArgumentError, "b: expected a sequence of labels"),
        (lambda: edit_distance([[1]], "a"), ArgumentError, "a: expected a sequence of labels"),
        (lambda: label_error_rate(["a"], []), ArgumentError, "predictions, references: .* 1 and 0"),
        (lambda: label_error_rate([1], ["a"]), ArgumentError, r"predictions\[0\]: expected a seq"),
        (lambda: label_error_rate("ab", ["a", 1]), ArgumentError, r"references\[1\]: expected"),
    ],
)
def test_errors_name_the_argument(call, error, message):
    with pytest.raises(error, match=message):
        call()
