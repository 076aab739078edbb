"""Random splits and folds: everything once, balanced, copies together."""

import numpy as np
import pytest

from rnnkit.data import group_duplicates, k_folds, split_at_random, split_by_position
from rnnkit.errors import ArgumentError

SHARES = [(10, 0.1), (100, 0.25), (7, 0.5), (2, 0.5), (99, 0.33)]


@pytest.mark.parametrize(("count", "share"), SHARES)
def test_a_random_split_deals_every_item_once(count, share):
    parts = split_at_random(count, share, seed=1)
    assert sorted([*parts.training, *parts.held_out]) == list(range(count))
    assert abs(len(parts.held_out) - count * share) <= 0.5
    again = split_at_random(count, share, seed=1)
    assert np.array_equal(parts.held_out, again.held_out)
    assert (np.diff(parts.training) > 0).all()


def test_other_seeds_deal_otherwise_and_anything_may_be_held_out():
    held = [tuple(split_at_random(20, 0.2, seed=seed).held_out) for seed in range(40)]
    assert len(set(held)) > 30
    assert set().union(*held) == set(range(20))


def test_something_is_left_to_learn_from_whatever_the_share():
    assert len(split_at_random(10, 0.99).held_out) == 9
    for seed in range(4):
        parts = split_at_random(10, 0.9, groups=[0] * 5 + [1] * 5, seed=seed)
        assert len(parts.training) == len(parts.held_out) == 5


def test_groups_stay_together():
    groups = np.random.default_rng(0).integers(0, 12, 100)
    parts = split_at_random(100, 0.3, groups=groups)
    assert not set(groups[parts.training]) & set(groups[parts.held_out])
    assert 20 <= len(parts.held_out) <= 40
    with pytest.raises(ArgumentError, match="cannot be dealt"):
        split_at_random(10, 0.5, groups=["a"] * 10)
    with pytest.raises(ArgumentError, match="expected 10, one an item, got 9"):
        split_at_random(10, 0.5, groups=["a"] * 9)


@pytest.mark.parametrize("k", [2, 3, 10])
def test_folds_hold_out_every_item_once_and_as_many_of_each_label(k):
    labels = np.random.default_rng(1).choice(list("abc"), 203, p=[0.5, 0.3, 0.2])
    folds = k_folds(k, 203, labels=labels, seed=4)
    assert len(folds) == k
    assert sorted(np.concatenate([fold.held_out for fold in folds])) == list(range(203))
    for fold in folds:
        assert sorted([*fold.training, *fold.held_out]) == list(range(203))
        for label in "abc":
            fair = (labels == label).sum() / k
            assert abs((labels[fold.held_out] == label).sum() - fair) < 1
    sizes = [len(fold.held_out) for fold in folds]
    assert max(sizes) - min(sizes) <= 3
    again = k_folds(k, 203, labels=labels, seed=4)
    assert all(np.array_equal(a.held_out, b.held_out) for a, b in zip(folds, again, strict=True))
    other = k_folds(k, 203, labels=labels, seed=5)
    assert not np.array_equal(folds[0].held_out, other[0].held_out)


def test_plain_folds_are_of_equal_size():
    assert [len(fold.held_out) for fold in k_folds(4, 10)] == [3, 3, 2, 2]
    assert [len(fold.held_out) for fold in k_folds(5, 5)] == [1] * 5


def test_copies_are_kept_in_one_fold():
    random = np.random.default_rng(2)
    texts = ["".join(random.choice(list("ACGT"), 4)) for _ in range(400)]
    labels = [text[0] for text in texts]
    groups = group_duplicates(texts)
    assert groups.max() + 1 == len(set(texts)) < 400
    folds = k_folds(10, 400, labels=labels, groups=groups)
    assert sorted(np.concatenate([fold.held_out for fold in folds])) == list(range(400))
    for fold in folds:
        kept = {texts[i] for i in fold.training}
        assert not kept & {texts[i] for i in fold.held_out}
        assert 32 <= len(fold.held_out) <= 48
        for label in "ACGT":
            here = sum(labels[i] == label for i in fold.held_out)
            assert abs(here - labels.count(label) / 10) <= 4


def test_equal_items_of_any_kind_share_a_mark():
    arrays = [np.array([1, 2]), np.array([1, 2]), np.array([1.0, 2.0]), np.array([[1, 2]])]
    assert group_duplicates(arrays).tolist() == [0, 0, 1, 2]
    assert group_duplicates([["a", "b"], ["a"], ["a", "b"], "ab"]).tolist() == [0, 1, 0, 2]
    texts = [np.array(["a", "b"]), np.array(["a", "b"], "U9"), np.array(["a", "c"])]
    assert group_duplicates(texts).tolist() == [0, 0, 1]
    objects = [np.array([word, None], object) for word in ("ab", "".join(["a", "b"]), "ac")]
    assert group_duplicates(objects).tolist() == [0, 0, 1]
    zeros = [np.array([[0.0, 1.0]]), np.array([[-0.0, 1.0]]), np.array([[0.0, -1.0]])]
    assert group_duplicates(zeros).tolist() == [0, 0, 1]
    assert group_duplicates([]).shape == (0,)


def test_arrays_are_split_by_position_without_a_copy():
    ids = np.arange(10, dtype=np.uint16)
    training, validation = split_by_position(ids, 0.2)
    assert training.tolist() == list(range(8))
    assert validation.tolist() == [8, 9]
    assert np.shares_memory(training, ids)


@pytest.mark.parametrize(
    "call",
    [
        lambda: split_at_random(10, 0.0),
        lambda: split_at_random(10, 1.0),
        lambda: split_at_random(1, 0.5),
        lambda: split_at_random(0, 0.5),
        lambda: split_at_random(10, 0.5, seed=-1),
        lambda: k_folds(1, 10),
        lambda: k_folds(11, 10),
        lambda: k_folds(2, 0),
        lambda: k_folds(2, 10.0),
        lambda: k_folds(2.5, 10),
        lambda: split_at_random(10.0, 0.5),
        lambda: k_folds(2, 10, labels=[1] * 9),
        lambda: k_folds(3, 4, groups=[0, 0, 1, 1]),
        lambda: split_by_position(np.arange(1), 0.5),
    ],
)
def test_nonsense_is_refused(call):
    with pytest.raises(ArgumentError):
        call()


def test_a_share_is_refused_by_the_name_of_its_argument():
    with pytest.raises(ArgumentError, match=r"^held_out: expected a number > 0 and < 1"):
        split_at_random(10, 1.0)
    with pytest.raises(ArgumentError, match=r"^validation: expected a number > 0 and < 1"):
        split_by_position("text", 0.0)
