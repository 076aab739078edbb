"""Ragged batches: every item once an epoch, the same for a position, little padding."""

from itertools import islice

import numpy as np
import pytest

from rnnkit.data import RaggedBatches
from rnnkit.errors import ArgumentError, DTypeError, ShapeError


def some_sequences(count, seed=0, longest=40):
    """Sequence i begins with i, so that a batch tells which it has."""
    random = np.random.default_rng(seed)
    lengths = random.integers(1, longest + 1, count)
    sequences = [random.integers(1, 50, length) for length in lengths]
    for i, sequence in enumerate(sequences):
        sequence[0] = i
    return sequences


OPTIONS = [
    {"shuffle": shuffle, "bucket": bucket} for shuffle in (True, False) for bucket in (True, False)
]


@pytest.mark.parametrize("options", OPTIONS, ids=str)
@pytest.mark.parametrize(("count", "size", "pool"), [(1, 1, 1), (7, 8, 2), (64, 8, 3), (101, 7, 4)])
def test_every_sequence_comes_whole_and_once_an_epoch(count, size, pool, options):
    sequences = some_sequences(count)
    labels = np.arange(count) * 10
    batches = RaggedBatches(sequences, labels, batch_size=size, pool=pool, **options)
    assert batches.batches_per_epoch == -(-count // size)
    passes = [list(batches.epoch())]
    for epoch in range(3):
        start = epoch * batches.batches_per_epoch
        passes.append(list(islice(batches.batches(start), batches.batches_per_epoch)))
    for batch_list in passes:
        rows = np.concatenate([batch.rows for batch in batch_list])
        assert sorted(rows) == list(range(count))
        assert [batch.starts_epoch for batch in batch_list] == [True] + [False] * (
            batches.batches_per_epoch - 1
        )
        assert all(len(batch.rows) == size for batch in batch_list[:-1])
        for batch in batch_list:
            assert batch.inputs.shape == (batch.lengths.max(), len(batch.rows))
            assert batch.inputs.dtype == batch.lengths.dtype == np.int64
            assert np.array_equal(batch.targets, labels[batch.rows])
            assert batch.target_lengths is None
            for column, row in enumerate(batch.rows):
                length = batch.lengths[column]
                assert np.array_equal(batch.inputs[:length, column], sequences[row])
                assert not batch.inputs[length:, column].any()


def same(one, other):
    assert one.position == other.position
    assert one.starts_epoch == other.starts_epoch
    for field in ("inputs", "lengths", "targets", "rows"):
        assert np.array_equal(getattr(one, field), getattr(other, field)), field


@pytest.mark.parametrize("options", OPTIONS, ids=str)
def test_a_batch_depends_on_its_position_alone(options):
    sequences = some_sequences(50)

    def make(seed=3):
        return RaggedBatches(
            sequences, np.arange(50), batch_size=6, seed=seed, pool=3, **options
        )

    straight = list(islice(make().batches(), 40))
    np.random.seed(1)  # noqa: NPY002 (the global generator must play no part)
    again = make()
    for position in np.random.default_rng(5).permutation(40):
        same(again.batch(int(position)), straight[position])
    for one, other in zip(make().batches(17), straight[17:], strict=False):
        same(one, other)
    other_seed = [batch.rows.tolist() for batch in islice(make(4).batches(), 9)]
    first = [batch.rows.tolist() for batch in straight[:9]]
    second = [batch.rows.tolist() for batch in straight[9:18]]
    if options["shuffle"]:
        assert first != other_seed
        assert first != second
        assert sorted(map(sorted, first)) != sorted(map(sorted, second))  # other neighbours too
    else:
        assert first == other_seed == second


def test_buckets_save_padding_and_the_share_is_what_the_batches_hold():
    sequences = some_sequences(2000, longest=100)
    shares = {}
    for bucket in (True, False):
        batches = RaggedBatches(sequences, batch_size=16, bucket=bucket)
        for epoch in range(2):
            start = epoch * batches.batches_per_epoch
            found = list(islice(batches.batches(start), batches.batches_per_epoch))
            steps = sum(batch.inputs.size for batch in found)
            used = sum(int(batch.lengths.sum()) for batch in found)
            assert batches.padding_share(epoch) == pytest.approx(1 - used / steps)
        shares[bucket] = batches.padding_share()
    assert shares[True] < 0.12 < 0.4 < shares[False]
    assert f"{shares[False]:.1%} padding" in repr(batches)


def test_neighbours_in_length_change_and_stay_near():
    """Each length is off by up to a tenth when those of a pool are sorted."""
    lengths = np.arange(50, 210)
    batches = RaggedBatches([np.ones(n, int) for n in lengths], batch_size=8, pool=20)
    epochs = []
    for epoch in range(3):
        found = [batch.lengths for batch in islice(batches.batches(epoch * 20), 20)]
        epochs.append({tuple(sorted(each)) for each in found})
        for i, one in enumerate(found):
            for other in found[:i]:
                spread = min(one.max() / other.min(), other.max() / one.min())
                assert spread * 0.9 <= 1.1
    assert len(set.union(*epochs)) > 50  # hardly one comes again


def test_batches_of_like_length_are_not_in_the_order_of_length():
    batches = RaggedBatches(some_sequences(600), batch_size=10, pool=60)
    means = [batch.lengths.mean() for batch in islice(batches.batches(), 59)]
    assert abs(np.corrcoef(means, np.arange(59))[0, 1]) < 0.5
    assert np.std(means) > 8


def test_the_order_without_shuffling_is_that_of_length_or_of_the_data():
    sequences = some_sequences(23)
    lengths = np.array([len(sequence) for sequence in sequences])
    sorted_rows = np.concatenate([b.rows for b in RaggedBatches(sequences, batch_size=4).epoch()])
    assert np.array_equal(sorted_rows, np.argsort(lengths, kind="stable"))
    plain = RaggedBatches(sequences, batch_size=4, bucket=False)
    assert np.array_equal(np.concatenate([b.rows for b in plain.epoch()]), np.arange(23))


def test_features_with_a_target_for_each_step():
    random = np.random.default_rng(0)
    lengths = [3, 5, 1, 4]
    features = [random.normal(size=(length, 2)).astype(np.float32) for length in lengths]
    tags = [random.integers(0, 9, length) for length in lengths]
    batches = RaggedBatches(features, tags, batch_size=3, padding=-1.5, bucket=False)
    for batch in batches.epoch():
        assert batch.inputs.dtype == np.float32
        assert batch.targets.dtype == np.int64
        assert np.array_equal(batch.target_lengths, batch.lengths)
        for column, row in enumerate(batch.rows):
            length = lengths[row]
            assert np.array_equal(batch.inputs[:length, column], features[row])
            assert (batch.inputs[length:, column] == -1.5).all()
            assert np.array_equal(batch.targets[:length, column], tags[row])
            assert (batch.targets[length:, column] == -100).all()
    values = RaggedBatches(features, [f * 2 for f in features], batch_size=4).batch(0)
    assert values.targets.shape == values.inputs.shape
    assert not values.targets[1:, list(values.rows).index(2)].any()


def test_targets_that_are_sequences_of_their_own():
    sources = [[1, 2, 3], [4], [5, 6]]
    targets = [[7], [], [8, 9, 10, 11]]
    batch = RaggedBatches(sources, targets, batch_size=3, aligned=False, bucket=False).batch(0)
    column = {int(row): place for place, row in enumerate(batch.rows)}
    assert batch.targets.dtype == np.int64
    assert batch.targets.shape == (4, 3)
    assert batch.targets[:, column[0]].tolist() == [7, 0, 0, 0]
    assert batch.targets[:, column[1]].tolist() == [0, 0, 0, 0]
    assert batch.targets[:, column[2]].tolist() == [8, 9, 10, 11]
    assert batch.target_lengths[[column[0], column[1], column[2]]].tolist() == [1, 0, 4]
    other = RaggedBatches(sources, targets, batch_size=3, aligned=False, target_padding=-1)
    assert other.batch(0).targets.min() == -1
    unsigned = [np.array(target, np.uint64) for target in targets]
    other = RaggedBatches(sources, unsigned, batch_size=3, aligned=False, bucket=False)
    assert np.array_equal(other.batch(0).targets, batch.targets)


def test_ids_of_any_integers_are_int64():
    sequences = [np.array([1, 2], np.uint64), np.array([3], np.int64), np.array([4], np.uint8)]
    batch = RaggedBatches(sequences, sequences, batch_size=3, bucket=False, shuffle=False).batch(0)
    assert batch.inputs.dtype == batch.targets.dtype == np.int64
    assert batch.inputs.tolist() == [[1, 3, 4], [2, 0, 0]]


def test_ids_that_int64_does_not_hold_are_refused():
    ids, large = np.array([1, 2]), np.array([0, 2**64 - 100], np.uint64)  # not IGNORED
    with pytest.raises(ArgumentError, match=r"sequences\[1\]: expected integers that int64 holds"):
        RaggedBatches([ids, large], batch_size=1)
    for targets, name in (([ids, large], r"targets\[1\]"), (large, "targets")):
        with pytest.raises(ArgumentError, match=f"{name}: expected integers that int64 holds"):
            RaggedBatches([ids, ids], targets, batch_size=1)


def test_one_vector_for_each_sequence():
    targets = np.random.default_rng(0).normal(size=(5, 3))
    batch = RaggedBatches(some_sequences(5), targets, batch_size=5).batch(0)
    assert np.array_equal(batch.targets, targets[batch.rows])
    assert batch.target_lengths is None
    numbers = RaggedBatches(some_sequences(5), [1, 0, 1, 0, 1], batch_size=2).batch(0)
    assert numbers.targets.shape == (2,)


@pytest.mark.parametrize(
    ("arguments", "error", "message"),
    [
        ({"sequences": []}, ArgumentError, "at least one"),
        ({"sequences": [[1], []]}, ArgumentError, r"sequences\[1\]: no steps"),
        ({"sequences": [1, 2]}, ShapeError, r"sequences\[0\]"),
        ({"sequences": [[[1, 2]], [[1, 2, 3]]]}, ShapeError, r"sequences\[1\]"),
        ({"sequences": [[[1, 2], [3]]]}, ShapeError, "differ in shape"),
        ({"sequences": [[1], [1.5]]}, DTypeError, "all integers or all floating"),
        ({"sequences": ["ab", "c"]}, ShapeError, r"sequences\[0\]"),
        ({"sequences": [["ab"], ["c"]]}, DTypeError, "<U"),
        ({"targets": [1]}, ArgumentError, "expected 2, one for each"),
        ({"targets": ["a", "b"]}, DTypeError, "targets"),
        ({"targets": [1, [2]]}, ShapeError, "targets: expected all alike"),
        ({"targets": [[1, [2]], [1]]}, ShapeError, r"targets\[0\]: its steps differ"),
        ({"padding": -1.5}, ArgumentError, "^padding: expected an integer, .* got -1.5"),
        ({"padding": 1e19}, ArgumentError, "^padding: expected an integer"),
        ({"padding": float("nan")}, ArgumentError, "^padding: expected an integer"),
        (
            {"sequences": [np.ones(2, np.float32)], "padding": 1e39},
            ArgumentError,
            r"^padding: expected what float32 holds, got 1e\+39",
        ),
        (
            {"sequences": [[0.5, 1.0]], "padding": 10**400},
            ArgumentError,
            "^padding: expected what float64 holds, got 1000",
        ),
        ({"targets": np.array(1)}, ArgumentError, "^targets: expected one for each sequence"),
        (
            {"targets": [[1, 2], [3]], "target_padding": 0.5},
            ArgumentError,
            "^target_padding: expected an integer",
        ),
        ({"targets": [[1], [1]]}, ArgumentError, r"targets\[0\]: expected 2 .*aligned=False"),
        ({"batch_size": 0}, ArgumentError, "batch_size"),
        ({"pool": 0}, ArgumentError, "pool"),
        ({"seed": -1}, ArgumentError, "seed"),
        ({"seed": 1.5}, ArgumentError, "seed"),
        ({"shuffle": "no"}, ArgumentError, "shuffle: expected a bool, got 'no'"),
        ({"bucket": 0}, ArgumentError, "bucket: expected a bool, got 0"),
        ({"aligned": None}, ArgumentError, "aligned: expected a bool, got None"),
    ],
)
def test_nonsense_is_refused(arguments, error, message):
    with pytest.raises(error, match=message):
        RaggedBatches(**{"sequences": [[1, 2], [3]], "batch_size": 2} | arguments)
    with pytest.raises(ArgumentError, match="position"):
        RaggedBatches([[1]], batch_size=1).batch(-1)
    with pytest.raises(ArgumentError, match="epoch: expected an integer from 0 on, got -1"):
        RaggedBatches([[1]], batch_size=1).padding_share(-1)
