"""Parts of the data to train on, to validate with and to test with."""

from __future__ import annotations

from collections.abc import Callable, Hashable, Iterable
from typing import Any, NamedTuple, TypeVar

import numpy as np

from rnnkit.checks import check_fits, check_integer, check_number, check_size
from rnnkit.errors import ArgumentError

S = TypeVar("S", str, np.ndarray, list)


class Parts(NamedTuple):
    """Places of items in the data set, int64 and sorted: every item is in exactly one of both.

    Attributes:
        training: those to learn from.
        held_out: the others.
    """

    training: np.ndarray
    held_out: np.ndarray


def split_by_position(text: S, validation: float = 0.1) -> tuple[S, S]:
    """Cut ``text``, a text or an array of ids, in two: its last ``validation`` share is held out.

    A cut by position, unlike a random one, leaves no sentence with one half on each side of it.

    Raises ArgumentError when ``validation`` is not between 0 and 1 or a part would be empty.
    """
    _check_share("validation", validation)
    cut = len(text) - round(len(text) * validation)
    if not 0 < cut < len(text):
        unit = "characters" if isinstance(text, str) else "items"
        raise ArgumentError(
            f"text: {len(text)} {unit} cannot be cut into a training part and a "
            f"validation part of {validation:.0%}"
        )
    return text[:cut], text[cut:]


def split_at_random(
    count: int,
    held_out: float = 0.1,
    *,
    seed: int = 0,
    groups: Iterable[Hashable] | None = None,
) -> Parts:
    """Deal the items 0 to count - 1 to two parts at random, decided by ``seed`` alone.

    ``groups``: one mark for each item; those with the same mark stay together, so that the held
    out share is met as nearly as whole groups, taken in random order, allow.

    Raises ArgumentError when ``held_out`` is not between 0 and 1, ``count`` is no positive integer
    or there is only one item or group.
    """
    _check_share("held_out", held_out)
    count = check_size("count", count)
    number = _group_numbers("groups", groups, count)
    sizes = np.bincount(number)
    seed = check_integer("seed", seed, 0)
    order = np.random.Generator(np.random.PCG64(seed)).permutation(len(sizes))
    taken = np.cumsum(sizes[order])
    # Not all of them: something is left to learn from.
    last = int(np.abs(taken[:-1] - count * held_out).argmin()) if len(taken) > 1 else 0
    held = np.zeros(len(sizes), bool)
    held[order[: last + 1]] = True
    parts = Parts(np.flatnonzero(~held[number]), np.flatnonzero(held[number]))
    if not len(parts.training):
        unit = "items" if groups is None else "items in these groups"
        raise ArgumentError(
            f"count: {count} {unit} cannot be dealt to a part of {held_out:.0%} and the rest"
        )
    return parts


def k_folds(
    k: int,
    count: int,
    *,
    labels: Iterable[Hashable] | None = None,
    groups: Iterable[Hashable] | None = None,
    seed: int = 0,
) -> list[Parts]:
    """Deal the items 0 to count - 1 to k folds at random; each is held out once.

    Args:
        labels: one for each item: every fold gets of each label the same number to within one
            (as nearly as groups allow).
        groups: one mark for each item: those with the same mark are kept in one fold, as copies
            and items of one person must be (``group_duplicates`` marks copies).
        seed: decides the folds.

    Returns:
        k parts; their ``held_out`` hold every item exactly once.

    Raises:
        ArgumentError: k below 2 or above the number of items or groups; a count that is no positive
            integer; other counts of labels or groups than items.
    """
    count = check_size("count", count)
    number = _group_numbers("groups", groups, count)
    kinds = np.zeros_like(number)
    if labels is not None:
        kinds = _group_numbers("labels", labels, count)
    group_count = int(number.max()) + 1
    if not 2 <= check_size("k", k) <= group_count:
        raise ArgumentError(f"k: expected 2 to {group_count}, the items or groups, got {k}")
    # Per group: how many items of each label. Large groups first: small ones even them out.
    contents = np.zeros((group_count, int(kinds.max()) + 1), np.int64)
    np.add.at(contents, (number, kinds), 1)
    random = np.random.Generator(np.random.PCG64(check_integer("seed", seed, 0)))
    order = random.permutation(group_count)
    order = order[np.argsort(-contents[order].sum(1), kind="stable")]
    holds = np.zeros((k, contents.shape[1]), np.int64)
    fold_of = np.empty(group_count, np.int64)
    for group in order:
        # The fold that has least of what the group holds; among such the smallest.
        crowded = holds @ contents[group]
        fold_of[group] = np.lexsort((holds.sum(1), crowded))[0]
        holds[fold_of[group]] += contents[group]
    folds = fold_of[number]
    return [Parts(np.flatnonzero(folds != f), np.flatnonzero(folds == f)) for f in range(k)]


def group_duplicates(items: Iterable[Any]) -> np.ndarray:
    """A mark for each item, int64 (R,): the same for items that are equal.

    Items are texts or other hashable values, lists of such, or arrays. Raises ArgumentError for
    what is none of these.
    """
    return _numbers("items", items, _mark)


def _mark(item: Any) -> Hashable:
    if isinstance(item, np.ndarray):
        if item.dtype.kind in "OSU":  # whose bytes are addresses, or as many as the longest has
            return (item.shape, _mark(item.tolist()))
        item = item + 0  # -0.0 is 0.0
        return (item.shape, item.dtype.str, item.tobytes())
    return tuple(map(_mark, item)) if isinstance(item, list | tuple) else item


def _group_numbers(name: str, groups: Iterable[Hashable] | None, count: int) -> np.ndarray:
    check_fits("count", count, 8)
    if groups is None:
        return np.arange(count)
    numbers = _numbers(name, groups)
    if len(numbers) != count:
        raise ArgumentError(f"{name}: expected {count}, one an item, got {len(numbers)}")
    return numbers


def _numbers(
    name: str, marks: Iterable[Any], hashable: Callable[[Any], Hashable] = lambda mark: mark
) -> np.ndarray:
    known: dict[Hashable, int] = {}
    try:
        numbers = [known.setdefault(hashable(mark), len(known)) for mark in marks]
    except TypeError as error:
        raise ArgumentError(f"{name}: expected several hashable values: {error}") from None
    return np.array(numbers, np.int64)


def _check_share(name: str, share: float) -> None:
    check_number(name, share, high=1.0, above_low=True, below_high=True)
