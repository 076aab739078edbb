"""The forecast task: parts that share nothing, a backtest that is honest, forecasts in units."""

import dataclasses
import json
import os
import signal

import numpy as np
import pytest

import rnnkit as rk
from rnnkit.data import Table, mae, mase, rmse, seasonal_naive
from rnnkit.errors import ArgumentError
from rnnkit.train import RunError, RunFolder, Trainer
from rnnkit.train.models.forecaster import Forecaster
from rnnkit.train.tasks.forecast import ForecastSettings, ForecastTask, generated_series

SMALL = ForecastSettings(
    hidden=16, window=12, horizon=4, season=6, batch=16, epochs=60, validations=6, lr=0.02,
    dropout=0.0,
)  # fmt: skip


def waves(length=160, noise=0.05):
    t = np.arange(length)
    rng = np.random.default_rng(1)
    first = 50 + 0.1 * t + 3 * np.sin(t * np.pi / 3) + rng.normal(0, noise, length)
    second = np.cos(t * np.pi / 3) + rng.normal(0, noise, length)
    return np.stack([first, second], 1)


def write_csv(path, values, names=("sales", "heat")):
    rows = [",".join(["month", *names])]
    rows += [",".join([f"m{t}", *map(repr, row)]) for t, row in enumerate(values.tolist())]
    path.write_text("\n".join(rows) + "\n")
    return path


def train(folder, files, settings=SMALL):
    task = ForecastTask.prepare(files, settings)
    task.train(RunFolder.create(folder))
    return task


def test_the_model_is_as_written_and_has_the_right_gradient():
    rk.manual_seed(0)
    model = Forecaster(3, [2, 0], horizon=4, hidden=5, cell="lstm", layers=2)
    for parameter in model.parameters():
        parameter.data = parameter.data.astype(np.float64)
    x = np.random.default_rng(0).normal(size=(6, 2, 3))
    y = model(x)
    assert y.shape == (4, 2, 2)
    # What the series stands at is added again, and the layers do not see it.
    with rk.no_grad():
        model.head.weight.data[:, 5:] = 0.0
        low, high = model(x).data, model(x + np.array([10.0, -3.0, 7.0])).data
    assert np.allclose(high - low, [7.0, 10.0])
    assert rk.gradcheck(lambda window: model(window), [rk.tensor(x, requires_grad=True)])


def test_the_parts_share_no_target_and_scaling_knows_only_the_first():
    values = waves()
    spoiled = values.copy()
    settings = dataclasses.replace(SMALL, difference=1)
    task = ForecastTask(Table(("a", "b"), values), settings, source="waves")
    _begin, end = task.parts[0]
    assert task.parts == [(0, 112), (112, 136), (136, 160)]
    spoiled[end:] *= 1000
    other = ForecastTask(Table(("a", "b"), spoiled), settings, source="waves")
    assert task.columns.transform.record() == other.columns.transform.record()
    assert np.array_equal(task.columns.errors, other.columns.errors)
    for ours, theirs in zip(task.training.epoch(), other.training.epoch(), strict=True):
        assert np.array_equal(ours.inputs, theirs.inputs)
        assert np.array_equal(ours.targets, theirs.targets)
    targets = [
        {int(t) + h for t in windows.origins for h in range(4)}
        for windows in (task.training, task.validation, task.held_out)
    ]
    assert not targets[0] & targets[1]
    assert not targets[1] & targets[2]


@pytest.mark.parametrize("options", [{}, {"difference": 6}, {"log": True, "target": "sales"}])
def test_a_run_learns_forecasts_in_units_and_beats_the_naive_forecasts(tmp_path, options):
    values = waves()
    if options.get("log"):
        values[:, 1] += 5
    path = write_csv(tmp_path / "sales.csv", values)
    task = train(tmp_path / "run", [path], dataclasses.replace(SMALL, **options))
    lines = "\n".join(task.show(RunFolder(tmp_path / "run")))
    assert "backtest on the test part" in lines
    loaded = ForecastTask.load(tmp_path / "run")
    figures = loaded.evaluate()
    prefix = "" if "target" in options else "sales: "
    assert figures[f"{prefix}network mase"] < figures[f"{prefix}naive mase"] / 2
    # The true next values, without the noise.
    t = np.arange(160, 164)
    truth = 50 + 0.1 * t + 3 * np.sin(t * np.pi / 3)
    records = list(loaded.predict(path))
    assert [record["step"] for record in records] == [1, 2, 3, 4]
    assert ("heat" in records[0]) == ("target" not in options)
    assert np.abs([record["sales"] for record in records] - truth).max() < 1.0
    assert records == list(loaded.predict(values))
    json.dumps(records)


def test_the_backtest_is_what_one_gets_by_hand(tmp_path):
    values = waves(noise=0.5)
    path = write_csv(tmp_path / "sales.csv", values)
    settings = dataclasses.replace(SMALL, epochs=1)
    task = train(tmp_path / "run", [path], settings)
    loaded = ForecastTask.load(tmp_path / "run")
    origins = range(136, 157)
    own, seasonal, truth = [], [], []
    for t in origins:
        records = list(loaded.predict(values[:t]))
        own.append([[record["sales"], record["heat"]] for record in records])
        seasonal.append(seasonal_naive(values[:t], 4, 6))
        truth.append(values[t : t + 4])
    found = loaded.backtest()
    assert found.origins == len(origins)
    assert found.horizon == 4
    training = values[:112]
    for k, name in enumerate(("sales", "heat")):
        for rival, forecasts in (("network", own), ("seasonal naive (6)", seasonal)):
            forecast, came = np.array(forecasts)[..., k], np.array(truth)[..., k]
            scores = found.scores[name][rival]
            assert scores.rmse == pytest.approx(rmse(forecast, came), rel=1e-5)
            assert scores.mae == pytest.approx(mae(forecast, came), rel=1e-5)
            by_library = mase(forecast[..., None], came[..., None], training[:, [k]], 6)
            assert scores.mase == pytest.approx(by_library, rel=1e-5)
    assert list(found.scores["sales"]) == [
        "network", "naive", "drift", "seasonal naive (6)",
    ]  # fmt: skip
    # Another file, all of it: the moments from the first whole window on.
    later = write_csv(tmp_path / "later.csv", values[100:])
    assert loaded.backtest(later).origins == 60 - 12 - 4 + 1
    assert task.backtest(loaded.model).figures() == found.figures()


def test_a_network_that_loses_is_told_so(tmp_path):
    walk = np.cumsum(np.random.default_rng(0).normal(size=(150, 1)), 0)
    path = write_csv(tmp_path / "walk.csv", walk, ("price",))
    settings = dataclasses.replace(SMALL, season=None, epochs=1, lr=1e-6)
    folder = tmp_path / "my run"
    task = train(folder, [path], settings)
    *_, verdict, more = task.show(RunFolder(folder))
    assert "the network LOSES to " in verdict
    assert more.endswith(f"rnnkit predict '{folder}' INPUT")
    loaded = ForecastTask.load(folder)
    with pytest.warns(UserWarning, match="price: the network LOSES to (naive|drift)"):
        figures = loaded.evaluate()
    assert "seasonal" not in str(figures)
    with pytest.warns(UserWarning, match="price: the network LOSES to (naive|drift)"):
        whole = loaded.evaluate([path])
    assert whole == loaded.backtest(path).figures() != figures


def test_refits_train_on_what_is_known_by_then(tmp_path, monkeypatch):
    path = write_csv(tmp_path / "sales.csv", waves())
    task = train(tmp_path / "run", [path], dataclasses.replace(SMALL, epochs=2, refits=3))
    lengths = []
    original = ForecastTask.resume
    monkeypatch.setattr(
        ForecastTask, "resume",
        lambda self, *arguments: (lengths.append(len(self.series)), original(self, *arguments))[1],
    )  # fmt: skip
    found = task.backtest(ForecastTask.load(tmp_path / "run").model)
    assert lengths == [136, 143, 150]
    assert found.origins == 21


def test_refits_are_kept_for_evaluation(tmp_path, monkeypatch):
    path = write_csv(tmp_path / "sales.csv", waves())
    task = train(tmp_path / "run", [path], dataclasses.replace(SMALL, epochs=2, refits=3))
    folder = RunFolder(tmp_path / "run")
    loaded = ForecastTask.load(folder.path)
    with pytest.raises(RunError, match=r"refit 1 has not .*: rnnkit resume .*run$"):
        loaded.evaluate()
    lines = list(task.show(folder))
    assert lines[:3] == [
        f"refit {n} of 3: on the first {length} moments"
        for n, length in ((1, 136), (2, 143), (3, 150))
    ]
    assert [name for name in folder.files() if "refit" in name] == [
        "refit-1.safetensors", "refit-2.safetensors", "refit-3.safetensors",
    ]  # fmt: skip
    expected = task.backtest(loaded.model).figures()  # by models that are trained once more
    assert task.backtest(loaded.model, folder).figures() == expected
    monkeypatch.setattr(ForecastTask, "trainer", None)
    state = rk.rng.get_state()
    assert loaded.backtest().figures() == expected
    assert rk.rng.get_state() == state
    assert [line for line in task.show(folder) if line.startswith("refit")] == []
    (tmp_path / "run" / "refit-2.safetensors").write_bytes(b"damaged")
    with pytest.raises(RunError, match=r"refit-2\.safetensors: "):
        loaded.evaluate()
    assert loaded.backtest(path).origins > 0  # of another file, with the best model


def test_refits_that_were_cut_short_go_on(tmp_path, monkeypatch):
    path = write_csv(tmp_path / "sales.csv", waves())
    settings = dataclasses.replace(SMALL, epochs=8, refits=2)
    whole, cut = RunFolder(tmp_path / "whole"), RunFolder(tmp_path / "cut")
    list(train(whole.path, [path], settings).show(whole))
    task = train(cut.path, [path], settings)
    original = Trainer._step

    def step(self):
        original(self)
        if self._step_number == 20:
            os.kill(os.getpid(), signal.SIGINT)

    with monkeypatch.context() as patch:
        patch.setattr(Trainer, "_step", step)
        with pytest.raises(KeyboardInterrupt):
            list(task.refit(cut))
    assert "refit-1" in cut.files()
    assert list(ForecastTask.reopen(cut.load_settings()).refit(cut)) == [
        "refit 1 of 2: on the first 136 moments", "refit 2 of 2: on the first 147 moments",
    ]  # fmt: skip
    for name in ("model.safetensors", "refit-1.safetensors", "refit-2.safetensors"):
        assert (tmp_path / "cut" / name).read_bytes() == (tmp_path / "whole" / name).read_bytes()
    assert "refit-1" not in cut.files()


def test_columns_are_found_by_name_or_without_a_header_by_place(tmp_path):
    values = waves(40)
    path = write_csv(tmp_path / "sales.csv", waves())
    train(tmp_path / "run", [path], dataclasses.replace(SMALL, epochs=1))
    loaded = ForecastTask.load(tmp_path / "run")
    expected = list(loaded.predict(values))
    others = np.stack([values[:, 1], values[:, 0] * 2, values[:, 0]], 1)
    path = write_csv(tmp_path / "more.csv", others, ("heat", "rain", "sales"))
    assert list(loaded.predict(path)) == expected
    (tmp_path / "bare.csv").write_text("".join(f"{a!r},{b!r}\n" for a, b in values.tolist()))
    assert list(loaded.predict(tmp_path / "bare.csv")) == expected
    with pytest.raises(ArgumentError, match=r"more\.csv: expected one file of columns"):
        loaded.evaluate([path, path])
    with pytest.raises(ArgumentError, match=r"more\.csv: expected one file of columns"):
        ForecastTask.prepare([path, path], SMALL)


def test_a_forecast_needs_a_window_and_what_differences_take(tmp_path):
    path = write_csv(tmp_path / "sales.csv", waves())
    train(tmp_path / "run", [path], dataclasses.replace(SMALL, epochs=1, difference=6))
    loaded = ForecastTask.load(tmp_path / "run")
    assert len(list(loaded.predict(waves(18)))) == 4
    with pytest.raises(ArgumentError, match="series: expected 18 moments or more, got 17"):
        list(loaded.predict(waves(17)))


def test_a_run_resumes_on_the_same_series_only(tmp_path):
    path = write_csv(tmp_path / "sales.csv", waves())
    train(tmp_path / "run", [path], dataclasses.replace(SMALL, epochs=1))
    record = RunFolder(tmp_path / "run").load_settings()
    assert ForecastTask.reopen(record).record() == record
    write_csv(path, waves() + 1)
    with pytest.raises(RunError, match="has changed since the run began"):
        ForecastTask.load(tmp_path / "run").evaluate()


def test_without_a_file_there_is_a_generated_series():
    task = ForecastTask.prepare([], dataclasses.replace(SMALL, season=None))
    assert "generated series" in task.note
    assert task.columns.season == 12
    assert np.array_equal(task.table.values, generated_series().values)
    assert "480 moments" in task.summary()


def test_columns_by_number_and_name(tmp_path):
    path = write_csv(tmp_path / "sales.csv", waves(), ("7", "heat"))
    chosen = dataclasses.replace(SMALL, columns="2, 7", target="7")
    task = ForecastTask.prepare([path], chosen)
    assert task.table.names == ("heat", "7")
    assert task.columns.targets == [1]


def test_a_column_called_step_leaves_the_numbers_of_the_moments(tmp_path):
    path = write_csv(tmp_path / "sales.csv", waves(), ("step", "_step"))
    train(tmp_path / "run", [path], dataclasses.replace(SMALL, epochs=1))
    records = list(ForecastTask.load(tmp_path / "run").predict(path))
    assert [record.pop("__step") for record in records] == [1, 2, 3, 4]
    assert all(record.keys() == {"step", "_step"} for record in records)
    assert all(30 < record["step"] < 90 for record in records)


def test_a_pipe_is_read_once(tmp_path):
    path = write_csv(tmp_path / "sales.csv", waves())
    train(tmp_path / "run", [path], dataclasses.replace(SMALL, epochs=1))
    loaded = ForecastTask.load(tmp_path / "run")
    out, into = os.pipe()
    with os.fdopen(into, "wb") as file:
        file.write(path.read_bytes())
    try:
        assert list(loaded.predict(f"/dev/fd/{out}")) == list(loaded.predict(path))
    finally:
        os.close(out)


def test_decimal_commas(tmp_path):
    values = waves()
    path = write_csv(tmp_path / "sales.csv", values)
    path.write_text(path.read_text().replace(",", ";").replace(".", ","))
    settings = dataclasses.replace(SMALL, decimal=",", epochs=1)
    task = train(tmp_path / "run", [path], settings)
    assert np.array_equal(task.table.values, values)
    records = list(ForecastTask.load(tmp_path / "run").predict(path))
    assert len(records) == 4
    with pytest.raises(ArgumentError, match="with decimal=',' it is one"):
        ForecastTask.prepare([path], SMALL)


@pytest.mark.parametrize(
    ("names", "columns"), [(("a", "a"), None), (("a", "b"), "b, b"), (("a", "b"), "a, 1")]
)
def test_columns_of_one_name_are_refused_before_training(tmp_path, names, columns):
    path = write_csv(tmp_path / "sales.csv", waves(), names)
    with pytest.raises(ArgumentError, match=r"sales.csv: two columns that are read have the name"):
        ForecastTask.prepare([path], dataclasses.replace(SMALL, columns=columns))


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"columns": "cold"}, "sales.csv: no column 'cold'; the columns are month, sales, heat"),
        ({"target": "sales,0"}, "sales.csv: target: column 'sales' is named twice"),
        ({"target": "cold"}, "target: no column 'cold' is read; there are sales, heat"),
        ({"target": "2"}, "target: no column '2' is read; there are sales, heat"),
        ({"log": True}, "sales.csv: log: expected numbers above 0, got -"),
        ({"window": 200}, "sales.csv: part: moments 0 to 112 hold no target of 4"),
        ({"test": 0.9}, "sales.csv: length: 160 moments are too few for a validation part of "),
        ({"season": 112}, "sales.csv: season: expected less than the 112 moments of the training"),
        ({"difference": 112}, "sales.csv: difference: expected less than the 112 moments of the"),
    ],
)
def test_what_does_not_go_with_the_file_is_named(tmp_path, options, message):
    path = write_csv(tmp_path / "sales.csv", waves())
    with pytest.raises(ArgumentError, match="^" + str(tmp_path)) as error:
        ForecastTask.prepare([path], dataclasses.replace(SMALL, **options))
    assert message in str(error.value)


def test_a_zero_has_no_logarithm():
    table = Table(("a", "b"), waves() ** 2 + 0.01)
    settings = dataclasses.replace(SMALL, log=True)
    ForecastTask(table, settings, source="waves")
    table.values[7, 1] = 0.0
    with pytest.raises(ArgumentError, match="above 0, got 0 in column 'b', row 7 of the numbers"):
        ForecastTask(table, settings, source="waves")


def test_a_column_that_never_changes_is_read_but_not_forecast(tmp_path):
    values = waves()
    values[:120, 1] = 5.0
    path = write_csv(tmp_path / "sales.csv", values)
    settings = dataclasses.replace(SMALL, season=None)
    message = "sales.csv: target: column 'heat' never changes in the training part"
    with pytest.raises(ArgumentError, match=message):
        ForecastTask.prepare([path], settings)
    with pytest.raises(ArgumentError, match="'heat' never changes from season to season in"):
        ForecastTask.prepare([path], SMALL)
    ForecastTask.prepare([path], dataclasses.replace(settings, target="sales"))


@pytest.mark.parametrize(
    "options",
    [
        {"cell": "gated"}, {"scaling": "log"}, {"horizon": 0}, {"difference": -1}, {"log": 1},
        {"columns": " ,"}, {"missing": "drop"}, {"decimal": ";"},
        {"test": 1.0}, {"validation": 0.0}, {"refits": 1001},
    ],
)  # fmt: skip
def test_settings_are_checked(options):
    with pytest.raises(ArgumentError, match=f"^{next(iter(options))}: expected"):
        dataclasses.replace(SMALL, **options)


def test_damaged_runs_are_refused(tmp_path):
    path = write_csv(tmp_path / "sales.csv", waves())
    train(tmp_path / "run", [path], dataclasses.replace(SMALL, epochs=1))
    folder = RunFolder(tmp_path / "run")
    record = folder.load_settings()
    for place, value, message in (
        (("details", "targets"), [0, 2], "targets: expected some of 2 columns"),
        (("details", "errors"), [1.0], "do not go together"),
        (("details", "columns"), ["a", "b", "c"], "do not go together"),
        (("details", "targets"), [float("inf")], "settings.json: damaged: "),
        (("details", "transform"), {}, "damaged"),
        (("settings", "hidden"), 60000, "its shapes do not fit"),
        (("settings", "layers"), 3, "its shapes do not fit"),
    ):
        changed = json.loads(json.dumps(record))
        changed[place[0]][place[1]] = value
        folder.save_settings(changed)
        with pytest.raises(RunError, match=message):
            ForecastTask.load(folder.path)
    folder.save_settings(record)
    with pytest.raises(ArgumentError, match="series: expected 12 moments or more, got 11"):
        list(ForecastTask.load(folder.path).predict(waves(11)))
    with pytest.raises(ArgumentError, match="series: expected 2 columns, got 1"):
        list(ForecastTask.load(folder.path).predict(waves(20)[:, :1]))
    with pytest.raises(ArgumentError, match="series: not finite or too large"):
        list(ForecastTask.load(folder.path).predict(waves(20) * 1e300))
    with pytest.raises(ArgumentError, match="inputs: expected a CSV file or an array, got lines"):
        list(ForecastTask.load(folder.path).predict(iter(["1,2"])))
