"""How many labels must be changed to make one sequence of another."""

from __future__ import annotations

from collections.abc import Hashable, Iterable, Sequence
from typing import Any, TypeAlias

import numpy as np

from rnnkit.autograd import Tensor
from rnnkit.checks import check_list
from rnnkit.errors import ArgumentError, ShapeError

Labels: TypeAlias = "Sequence[Hashable] | np.ndarray[Any, np.dtype[Any]] | Tensor"
"""A string, a list of words, an array of ids, ..."""


def edit_distance(a: Labels, b: Labels) -> int:
    """The least number of labels inserted, deleted or replaced that makes ``b`` of ``a``.

    V. I. Levenshtein, "Binary codes capable of correcting deletions, insertions, and reversals",
    Soviet Physics Doklady 10(8), 1966. Time grows with the product of the lengths, memory with the
    longer one.

    Args:
        a, b: strings (of characters), or sequences or one-dimensional arrays of anything hashable.

    Raises:
        ShapeError: an array has not one axis.
        ArgumentError: one is no sequence, or holds what cannot be hashed.
    """
    return _distance(a, b, ("a", "b"))


def _distance(a: Labels, b: Labels, names: tuple[str, str]) -> int:
    known: dict[Hashable, int] = {}
    x, y = _ids(names[0], a, known), _ids(names[1], b, known)
    if len(x) > len(y):
        x, y = y, x
    # What they share at their ends changes nothing.
    same = x == y[: len(x)]
    lead = len(x) if same.all() else int(same.argmin())
    x, y = x[lead:], y[lead:]
    same = x[::-1] == y[::-1][: len(x)]
    trail = len(x) if same.all() else int(same.argmin())
    x, y = x[: len(x) - trail], y[: len(y) - trail]
    # row[j] is the distance of the first i labels of x from the first j of y, less j. Inserting is
    # then no step, and a running minimum does it for all j at once.
    row = np.zeros(len(y) + 1, np.int64)
    for label in x:
        found = row + 1
        np.minimum(found[1:], row[:-1] - (y == label), out=found[1:])
        row = np.minimum.accumulate(found)
    return int(row[-1]) + len(y)


def label_error_rate(predictions: Iterable[Labels], references: Iterable[Labels]) -> float:
    """The edit distances of all pairs together, over the number of labels of all references.

    With characters it is the character error rate, with words the word error rate. It can be above
    1. Without any reference labels it is 0 if nothing was predicted either, else infinite.

    Args:
        predictions, references: as many of each, as `edit_distance` takes them.

    Raises:
        ArgumentError: there are not as many of both, or one of them is no sequence.
        ShapeError: an array has not one axis.
    """
    found, right = _several("predictions", predictions), _several("references", references)
    if len(found) != len(right):
        raise ArgumentError(
            f"predictions, references: expected as many of each, got {len(found)} and {len(right)}"
        )
    errors = sum(
        _distance(a, b, (f"predictions[{i}]", f"references[{i}]"))
        for i, (a, b) in enumerate(zip(found, right, strict=True))
    )
    labels = sum(len(b) for b in right)
    if labels:
        return errors / labels
    return float("inf") if errors else 0.0


def _several(name: str, rows: Iterable[Labels]) -> list[Labels]:
    # The letters of a text are sequences of one label each.
    return list(rows) if isinstance(rows, str) else check_list(name, rows, "several sequences")


def _ids(name: str, labels: Labels, known: dict[Hashable, int]) -> np.ndarray[Any, Any]:
    """Labels as the numbers that ``known`` has for them; it learns those it has not."""
    if isinstance(labels, Tensor | np.ndarray):
        if labels.ndim != 1:
            raise ShapeError(f"{name}: expected one axis, got shape {labels.shape}")
        labels = labels.tolist()
    try:
        ids = [known.setdefault(label, len(known)) for label in labels]
    except TypeError as error:
        raise ArgumentError(f"{name}: expected a sequence of labels: {error}") from None
    return np.array(ids, np.int64)
