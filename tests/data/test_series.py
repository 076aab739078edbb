"""Series: scaling and back, windows without leaks, backtests, baselines and measures."""

import json
from itertools import islice

import numpy as np
import pytest

from rnnkit.data import (
    Scaler,
    SeriesTransform,
    SeriesWindows,
    drift,
    mae,
    mase,
    naive,
    naive_error,
    rmse,
    rolling_origins,
    seasonal_naive,
    split_series,
)
from rnnkit.errors import ArgumentError, DTypeError, ShapeError


def some_series(length=60, channels=3, seed=0):
    random = np.random.default_rng(seed)
    return random.normal(size=(length, channels)).cumsum(0) * [1.0, 1e-3, 1e6][:channels] + 5


@pytest.mark.parametrize("kind", ["standard", "minmax", "none"])
def test_scaling_is_learnt_from_the_training_part_and_inverted(kind):
    series = some_series()
    scaler = Scaler.fit(series[:40], kind)
    scaled = scaler.transform(series)
    if kind == "standard":
        assert np.allclose(scaled[:40].mean(0), 0, atol=1e-9)
        assert np.allclose(scaled[:40].std(0), 1)
    elif kind == "minmax":
        assert np.allclose(scaled[:40].min(0), 0)
        assert np.allclose(scaled[:40].max(0), 1)
    else:
        assert np.array_equal(scaled, series)
    assert np.allclose(scaler.inverse(scaled), series, rtol=1e-13, atol=1e-9)
    back = scaler.inverse(scaled)
    assert np.array_equal(scaler.inverse(scaled[:, [2, 0]], [2, 0]), back[:, [2, 0]])
    assert np.array_equal(scaler.transform(series[:, [1]], [1]), scaled[:, [1]])
    again = Scaler.from_record(json.loads(json.dumps(scaler.record())))
    assert np.array_equal(again.transform(series), scaled)


@pytest.mark.parametrize("kind", ["standard", "minmax"])
def test_a_constant_channel_is_only_shifted(kind):
    for value in (0.0, 0.1, -1e9):
        scaler = Scaler.fit(np.full((7, 1), value), kind)
        assert scaler.scale == 1
        assert scaler.transform([[value + 2]]) == pytest.approx(2, abs=1e-6)


@pytest.mark.parametrize("lag", [0, 1, 12])
def test_differences_are_inverted_from_any_origin(lag):
    series = some_series()
    transform = SeriesTransform.fit(series[:40], lag=lag)
    seen = transform.transform(series)
    assert seen.shape == (60 - lag, 3)
    assert np.allclose(seen[: 40 - lag].mean(0), 0, atol=1e-9)
    for origin in (lag, 40, 59):
        truth = series[origin : origin + 15]
        outputs = seen[origin - lag : origin - lag + 15]
        back = transform.inverse(outputs, series[:origin])
        assert np.allclose(back, truth, rtol=1e-11)
        some = transform.inverse(outputs[:, [2]], series[:origin, [2]], [2])
        assert np.array_equal(some, back[:, [2]])
    again = SeriesTransform.from_record(json.loads(json.dumps(transform.record())))
    assert again.lag == lag
    assert np.array_equal(again.transform(series), seen)


@pytest.mark.parametrize("lag", [0, 1, 4])
@pytest.mark.parametrize(("window", "horizon", "stride"), [(1, 1, 1), (5, 3, 1), (7, 2, 3)])
def test_windows_are_what_came_before_and_after(window, horizon, stride, lag):
    series = np.stack([np.arange(50.0), np.arange(50.0) ** 2], 1)
    transform = SeriesTransform(Scaler([1, 2], [2, 4]), lag)
    windows = SeriesWindows(
        series, window=window, horizon=horizon, batch_size=6, transform=transform, stride=stride,
        channels=[1], dtype=np.float64, seed=2,
    )  # fmt: skip
    seen = np.full((50, 2), np.nan)
    seen[lag:] = transform.transform(series)
    assert windows.origins[0] == window + lag
    assert 50 - horizon - stride < windows.origins[-1] <= 50 - horizon
    passes = [windows.epoch(), islice(windows.batches(windows.batches_per_epoch), len(windows))]
    for batches in passes:
        batches = list(islice(batches, windows.batches_per_epoch))
        rows = np.concatenate([batch.rows for batch in batches])
        assert sorted(rows) == list(range(len(windows)))
        for batch in batches:
            assert batch.inputs.shape == (window, len(batch.rows), 2)
            assert batch.targets.shape == (horizon, len(batch.rows), 1)
            assert (batch.lengths == window).all()
            assert (batch.target_lengths == horizon).all()
            for column, row in enumerate(batch.rows):
                t = windows.origins[row]
                assert np.array_equal(batch.inputs[:, column], seen[t - window : t])
                assert np.array_equal(batch.targets[:, column], seen[t : t + horizon, 1:])
            truth = windows.truth(batch.rows)
            assert np.array_equal(truth[0, :, 0], series[windows.origins[batch.rows], 1])
            assert np.allclose(windows.forecasts(batch.targets, batch.rows), truth, rtol=1e-12)


@pytest.mark.parametrize("lag", [0, 1, 5])
def test_the_forecast_beyond_the_end(lag):
    series = some_series(40)
    transform = SeriesTransform.fit(series[:30], lag=lag)
    known = SeriesWindows(
        series[:36], window=6, horizon=4, batch_size=4, transform=transform, channels=[2, 0],
        part=(20, 36), dtype=np.float64,
    )  # fmt: skip
    whole = SeriesWindows(
        series, window=6, horizon=4, batch_size=4, transform=transform, channels=[2, 0],
        part=(36, 40), dtype=np.float64,
    )  # fmt: skip
    batch = whole.batch(0)
    assert np.array_equal(known.latest(), batch.inputs)
    assert np.allclose(known.forecasts(batch.targets)[:, 0], series[36:, [2, 0]], rtol=1e-11)
    with pytest.raises(ShapeError, match=r"outputs: expected \(4, 1, 2\)"):
        known.forecasts(np.zeros((4, 2, 2)))


def test_parts_share_no_target_and_training_sees_nothing_of_the_rest():
    series = some_series(100, 2)
    changed = series.copy()
    parts = split_series(100, 0.2, 0.1)
    assert parts == [(0, 70), (70, 90), (90, 100)]
    changed[70:] = 1e9

    def make(values, part):
        transform = SeriesTransform.fit(values[slice(*parts[0])], lag=1)
        return SeriesWindows(
            values, window=8, horizon=4, batch_size=5, transform=transform, part=part
        )

    one, other = make(series, parts[0]), make(changed, parts[0])
    for batch, same in zip(one.epoch(), other.epoch(), strict=True):
        assert np.array_equal(batch.inputs, same.inputs)
        assert np.array_equal(batch.targets, same.targets)
    targets = [
        {t + h for t in make(series, part).origins for h in range(4)} for part in parts
    ]
    assert targets == [set(range(9, 70)), set(range(70, 90)), set(range(90, 100))]
    assert split_series(10, 0.3) == [(0, 7), (7, 10)]


def test_windows_are_a_function_of_position():
    def make(**options):
        return SeriesWindows(some_series(), window=4, batch_size=8, **options)

    straight = list(islice(make().batches(), 20))
    fresh = make()
    for position in np.random.default_rng(1).permutation(20):
        batch = fresh.batch(int(position))
        assert np.array_equal(batch.rows, straight[position].rows)
        assert np.array_equal(batch.inputs, straight[position].inputs)
        assert batch.starts_epoch == (position % fresh.batches_per_epoch == 0)
        assert batch.inputs.dtype == batch.targets.dtype == np.float32
    n = fresh.batches_per_epoch
    assert n == 7
    assert not np.array_equal(straight[0].rows, straight[n].rows)
    assert not np.array_equal(straight[0].rows, make(seed=1).batch(0).rows)
    assert make(shuffle=False).batch(n + 1).rows.tolist() == list(range(8, 16))


def test_rolling_origins_cover_the_end_once():
    assert rolling_origins(20, 12, 3) == [((0, 12), (12, 15)), ((0, 15), (15, 18))]
    origins = rolling_origins(20, 12, 3, step=1)
    assert [test for _, test in origins] == [(t, t + 3) for t in range(12, 18)]
    assert all(training == (0, test[0]) for training, test in origins)
    # What is limited is the number of forecasts, not of moments.
    assert len(rolling_origins(30_000_000, 29_999_990, 1)) == 10
    assert len(rolling_origins(30_000_001, 1, 1, step=10_000_000)) == 3
    assert len(rolling_origins(30_000_002, 1, 1, step=10_000_000)) == 4
    for arguments in ((5, 4, 2), (5, 0, 1), (5, 1, 0), (5, 1, 1, 0)):
        with pytest.raises(ArgumentError):
            rolling_origins(*arguments)


def test_baselines():
    history = np.array([[1, 10], [2, 20], [3, 30]])
    assert naive(history, 2).tolist() == [[3, 30], [3, 30]]
    assert seasonal_naive(history, 5, 2)[:, 0].tolist() == [2, 3, 2, 3, 2]
    assert seasonal_naive(history, 1, 3).tolist() == [[1, 10]]
    for wrong in ((history, 2, 4), (history, 0, 1), (history, 1, 0)):
        with pytest.raises(ArgumentError):
            seasonal_naive(*wrong)


def test_measures_by_hand():
    truth, forecast = np.array([[1.0], [2.0], [4.0]]), np.array([[2.0], [2.0], [1.0]])
    assert mae(forecast, truth) == pytest.approx(4 / 3)
    assert rmse(forecast, truth) == pytest.approx(np.sqrt(10 / 3))
    training = np.array([[0.0], [2.0], [1.0], [5.0]])
    assert mase(forecast, truth, training) == pytest.approx((4 / 3) / (7 / 3))
    assert mase(forecast, truth, training, season=2) == pytest.approx((4 / 3) / 2)
    both = [np.concatenate([x, 100 * x], 1) for x in (forecast, truth, training)]
    assert mase(*both) == pytest.approx((4 / 3) / (7 / 3))
    # The naive forecast of the training part itself has error 1 by definition.
    assert mase(training[:-1], training[1:], training) == pytest.approx(1.0)
    with pytest.raises(ShapeError):
        mae([1.0], [1.0, 2.0])
    with pytest.raises(ShapeError):
        rmse([], [])
    with pytest.raises(ShapeError):
        mase(forecast, truth, np.zeros((5, 2)))
    with pytest.raises(ArgumentError, match="never changes"):
        mase(forecast, truth, np.zeros((5, 1)))
    with pytest.raises(ArgumentError, match="training: expected finite numbers"):
        mase(forecast, truth, np.array([[1.0], [np.nan], [3.0]]))
    with pytest.raises(ShapeError, match=r"training: expected \(L, C\), got \(4,\)"):
        naive_error(training[:, 0])
    assert naive_error([[0.0, 1.0], [0.25, 3.0], [0.0, 3.0]]).tolist() == [0.25, 1.0]
    with pytest.raises(ArgumentError, match="more than 4"):
        mase(forecast, truth, training, season=4)


@pytest.mark.parametrize(
    ("change", "error", "message"),
    [
        ({"series": np.zeros(5)}, ShapeError, r"series: expected numbers \(L, C\)"),
        ({"series": np.zeros((0, 2))}, ArgumentError, "at least one"),
        ({"series": np.array([["a"]])}, ShapeError, "numbers"),
        ({"series": np.array([[1.0], [np.nan]])}, ArgumentError, "moment 1, channel 0: nan"),
        ({"series": np.full((10, 2), 1e39)}, ArgumentError, "series: .* that float32 holds"),
        ({"window": 0}, ArgumentError, "window"),
        ({"horizon": 0}, ArgumentError, "horizon"),
        ({"batch_size": 0}, ArgumentError, "batch_size"),
        ({"stride": 0}, ArgumentError, "stride"),
        ({"window": 10}, ArgumentError, "part: moments 0 to 10 hold no target"),
        ({"part": (5, 11)}, ArgumentError, "part: expected"),
        ({"part": (5, 5)}, ArgumentError, "part: expected"),
        ({"channels": [2]}, ArgumentError, "channels: expected an integer from 0 to 1"),
        ({"channels": []}, ArgumentError, "channels"),
        ({"seed": -1}, ArgumentError, "seed"),
        ({"dtype": "int64"}, DTypeError, "dtype: expected float32 or float64, got int64"),
        ({"transform": SeriesTransform(Scaler([0], [1]))}, ShapeError, "expected 2 channels"),
    ],
)
def test_windows_of_nonsense_are_refused(change, error, message):
    arguments = {"series": np.zeros((10, 2)), "window": 3, "batch_size": 2} | change
    with pytest.raises(error, match=message):
        SeriesWindows(arguments.pop("series"), **arguments)


def test_transforms_of_nonsense_are_refused():
    large = np.array([[1.0, 1e300], [2.0, -1e300], [4.0, 1e300]])
    with pytest.raises(ArgumentError, match="training: channel 1: too large to scale"):
        Scaler.fit(large)
    assert Scaler.fit(large, "minmax").scale[1] == 2e300
    with pytest.raises(ArgumentError, match="kind: expected one of standard, minmax, none"):
        Scaler.fit(np.zeros((3, 1)), "robust")
    with pytest.raises(ArgumentError, match="lag: expected less than"):
        SeriesTransform.fit(np.zeros((3, 1)), lag=3)
    with pytest.raises(ArgumentError, match="lag: expected an integer from 0 on"):
        SeriesTransform.fit(np.zeros((3, 1)), lag=-1)
    scaler = Scaler.fit(np.arange(6.0).reshape(3, 2))
    for call in (scaler.transform, scaler.inverse):
        for shape in ((4, 1), (3,), ()):  # one channel would pass for both
            with pytest.raises(ShapeError, match=r"values: expected \(..., 2\), got shape"):
                call(np.zeros(shape))
        with pytest.raises(ShapeError, match=r"values: expected \(..., 1\)"):
            call(np.zeros((4, 2)), channels=[1])
        with pytest.raises(ArgumentError, match="channels: expected an integer from -2 to 1"):
            call(np.zeros((4, 1)), channels=[2])
    transform = SeriesTransform.fit(some_series(), lag=2)
    for history in (None, 5, np.zeros((1, 3))):
        with pytest.raises(ArgumentError, match="history: expected the last 2"):
            transform.inverse(np.zeros((4, 3)), history)
    with pytest.raises(ShapeError, match=r"series: expected \(L, C\), got \(\)"):
        transform.transform(5.0)
    with pytest.raises(ShapeError, match="history"):
        transform.inverse(np.zeros((4, 3)), np.zeros((2, 2)))
    assert SeriesTransform.fit(some_series()).lag == 0
    with pytest.raises(ArgumentError, match="scaler: expected a Scaler, got 3"):
        SeriesTransform(3)
    windows = SeriesWindows(some_series(), window=3, batch_size=2)
    with pytest.raises(DTypeError, match="rows: expected integers, got float64"):
        windows.truth([0.0, 1.0])
    with pytest.raises(ShapeError, match=r"outputs: expected \(1, 2, 3\)"):
        windows.forecasts(np.zeros((2, 2, 3)), [0, 1])
    for shares in ((0, 0), (1.0, 0), (0.5, 0.6), (0.001, 0)):
        with pytest.raises(ArgumentError):
            split_series(10, *shares)
    with pytest.raises(ArgumentError, match=r"length: expected an int, got 10\.5"):
        split_series(10.5, 0.2)
    good = transform.record()
    for damaged in (
        None,
        {"kind": "words"},
        good | {"lag": -1},
        good | {"lag": "1"},
        good | {"scaler": None},
        good | {"scaler": good["scaler"] | {"scale": [1, 0, 1]}},
        good | {"scaler": good["scaler"] | {"scale": [1, 1]}},
        good | {"scaler": good["scaler"] | {"shift": [1, "2", 1]}},
        good | {"scaler": good["scaler"] | {"shift": [1, 10**400, 1]}},
        good | {"scaler": good["scaler"] | {"shift": [1, float("nan"), 1]}},
    ):
        with pytest.raises(ArgumentError):
            SeriesTransform.from_record(damaged)


def test_drift_goes_on_with_the_line_through_the_ends():
    history = np.array([[1.0, 5.0], [9.0, 5.0], [2.0, 5.0]])
    assert np.allclose(drift(history, 3), [[2.5, 5.0], [3.0, 5.0], [3.5, 5.0]])
    assert np.allclose(drift([1, 3], 2), [5, 7])
    with pytest.raises(ArgumentError, match="history: expected 2 moments or more"):
        drift([1.0], 2)
    with pytest.raises(ArgumentError, match="horizon"):
        drift([1.0, 2.0], 0)
