"""Continuous batches: contiguous streams, full use of the text, any starting point."""

import numpy as np
import pytest

from rnnkit.data import ContinuousBatches
from rnnkit.errors import ArgumentError

SIZES = [(100, 3, 7), (50, 4, 12), (49, 4, 12), (52, 4, 100), (9, 8, 1), (1000, 1, 64), (2, 1, 5)]


@pytest.mark.parametrize(("count", "streams", "length"), SIZES)
def test_streams_are_contiguous_stretches_with_targets_one_later(count, streams, length):
    batches = ContinuousBatches(np.arange(count), streams, length)
    windows = list(batches.epoch())
    inputs = np.concatenate([window.inputs for window in windows])
    targets = np.concatenate([window.targets for window in windows])
    assert np.array_equal(targets, inputs + 1)
    assert (np.diff(inputs, axis=0) == 1).all()
    # The end of a stream meets the beginning of the next: nothing is left out in between.
    assert np.array_equal(targets[-1, :-1], inputs[0, 1:])
    assert inputs[0, 0] == 0
    assert count - 1 - targets[-1, -1] < streams


@pytest.mark.parametrize(("count", "streams", "length"), SIZES)
def test_windows_are_of_nearly_equal_length(count, streams, length):
    batches = ContinuousBatches(np.arange(count), streams, length)
    lengths = [len(window.inputs) for window in batches.epoch()]
    assert max(lengths) <= length
    assert max(lengths) - min(lengths) <= 1
    assert min(lengths) >= 1
    assert [window.starts_epoch for window in batches.epoch()].count(True) == 1
    assert next(batches.epoch()).starts_epoch


def test_every_character_is_used_after_some_epochs():
    batches = ContinuousBatches(np.arange(31), streams=8, length=5)
    seen = set()
    for position in range(8 * batches.batches_per_epoch):
        window = batches.batch(position)
        assert np.array_equal(window.targets, window.inputs + 1)
        seen.update(window.inputs.ravel().tolist(), window.targets.ravel().tolist())
    assert seen == set(range(31))


def test_iteration_restarts_anywhere_with_the_same_windows():
    batches = ContinuousBatches(np.random.default_rng(0).integers(0, 50, 400), 4, 16)
    straight = [window for window, _ in zip(batches.batches(), range(40), strict=False)]
    resumed = [window for window, _ in zip(batches.batches(start=17), range(23), strict=False)]
    for one, other in zip(straight[17:], resumed, strict=True):
        assert one.position == other.position
        assert one.starts_epoch == other.starts_epoch
        assert np.array_equal(one.inputs, other.inputs)
        assert np.array_equal(one.targets, other.targets)


def test_windows_are_plain_contiguous_integers():
    window = ContinuousBatches(np.arange(100, dtype=np.int32), 4, 10).batch(0)
    for array in (window.inputs, window.targets):
        assert array.dtype == np.int64
        assert array.shape[1] == 4
        assert array.flags.c_contiguous


def test_nonsense_is_refused():
    with pytest.raises(ArgumentError, match="at least 6 characters"):
        ContinuousBatches(np.arange(5), 5, 3)
    with pytest.raises(ArgumentError, match="streams"):
        ContinuousBatches(np.arange(5), 0, 3)
    with pytest.raises(ArgumentError, match="length"):
        ContinuousBatches(np.arange(5), 1, 0)
    with pytest.raises(ArgumentError, match="1-D integer"):
        ContinuousBatches(np.zeros(5), 1, 1)
    with pytest.raises(ArgumentError, match="1-D integer array, got 2-D of int64"):
        ContinuousBatches(np.zeros((5, 1), np.int64), 1, 1)
    with pytest.raises(ArgumentError, match="1-D integer array, got list"):
        ContinuousBatches(list(range(5)), 1, 1)
    with pytest.raises(ArgumentError, match="position"):
        ContinuousBatches(np.arange(5), 1, 1).batch(-1)
