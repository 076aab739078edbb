"""What an objective and a schedule may say of a batch, and what is refused."""

import csv
import json
import math

import numpy as np
import pytest
from regressions import Ragged, Regression, Shuffles, Whole

import rnnkit as rk
from rnnkit import losses, nn
from rnnkit.errors import ArgumentError, DTypeError, RnnkitError
from rnnkit.optim import SGD
from rnnkit.train import Budget, Checkpoints, CsvLog, JsonLinesLog, Loss, Measure, Trainer, evaluate


@pytest.mark.parametrize(
    ("returned", "message"),
    [
        (rk.tensor(1.0), r"expected it to return a Loss\(value, count\), got Tensor"),
        (None, ".* got NoneType"),
        (Loss(0.5, 3), "value: expected a Tensor, the mean loss, got float"),
    ],
)
def test_an_objective_that_returns_something_else_is_told(returned, message):
    model = Regression()
    trainer = Trainer(
        model, SGD(model.parameters(), lr=0.1), Shuffles(), budget=Budget(steps=1),
        objective=lambda batch, state: returned,
    )  # fmt: skip
    for run in (trainer.fit, lambda: trainer.evaluate(Shuffles())):
        with pytest.raises(DTypeError, match=f"^objective: {message}"):
            run()
    with pytest.raises(ArgumentError, match="objective: expected one, as Linear has no method"):
        evaluate(nn.Linear(2, 1), Shuffles())


@pytest.mark.parametrize(
    ("changed", "message"),
    [
        ({"value": rk.ones(3)}, r"value: expected one number, the mean loss, got shape \(3,\)"),
        ({"count": -3}, "count: expected a number >= 0 and < inf, got -3"),
        ({"count": 2.5}, "count: expected a whole number, got 2.5"),
        ({"count": None}, "count: expected a number >= 0 and < inf, got None"),
        ({"metrics": None}, "metrics: expected numbers by name, got None"),
        ({"metrics": {"loss": 1.0}}, "metrics: expected names other than 'loss', got 'loss'"),
        ({"metrics": {1: 1.0}}, "metrics: expected names other than 'loss', got 1"),
        ({"metrics": {"right": "3"}}, "metrics: right: expected a number, got '3'"),
        ({"metrics": {"right": None}}, "metrics: right: expected a number, got None"),
    ],
)
def test_what_an_objective_says_of_a_batch_is_checked(changed, message):
    model = Regression()
    objective = lambda batch, state: Loss(model.weight.sum(), 3)._replace(**changed)  # noqa: E731
    for run in (
        Trainer(
            model, SGD(model.parameters(), lr=0.1), Shuffles(), budget=Budget(steps=1),
            objective=objective,
        ).fit,
        lambda: evaluate(model, Shuffles(), objective),
    ):  # fmt: skip
        with pytest.raises(RnnkitError, match=f"^objective: {message}"):
            run()


@pytest.mark.parametrize("kind", [np.int64, np.float32, np.array, rk.tensor])
def test_counts_metrics_and_factors_may_be_numpys(tmp_path, kind):
    lines = []
    for name, of in (("plain", float), ("other", kind)):
        model = Regression()

        def objective(batch, state, model=model, of=of):
            loss = model.loss(batch)
            count = int(loss.count) if of is float else of(loss.count)
            return loss._replace(count=count, metrics={"items": of(loss.count)})

        Trainer(
            model, SGD(model.parameters(), lr=0.1), Ragged(), Whole(), objective=objective,
            budget=Budget(steps=kind(4) if kind is np.float32 else 4), validations=2, accumulate=2,
            schedule=lambda used, of=of: of(1), observers=[JsonLinesLog(tmp_path / name)],
            checkpoints=Checkpoints(tmp_path / f"{name} saved"), measure=Measure("items"),
        ).fit()  # fmt: skip
        records = [json.loads(line) for line in (tmp_path / name).read_text().splitlines()]
        timed = ("seconds", "items_per_second")
        lines.append([{k: v for k, v in each.items() if k not in timed} for each in records])
    assert lines[0] == lines[1]
    assert lines[0][0]["metrics"] == {"items": 1.0}
    assert lines[0][0]["learning_rate"] == 0.1


def test_a_metric_takes_no_column_of_another_value(tmp_path):
    model = Regression()

    def objective(batch, state):
        loss = model.loss(batch)
        names = {"epoch": 0.125, "event": 0.25, "right": 0.75}
        return loss._replace(metrics={name: loss.count * each for name, each in names.items()})

    Trainer(
        model, SGD(model.parameters(), lr=0.1), Shuffles(), Whole(), objective=objective,
        budget=Budget(steps=2), validations=1, observers=[CsvLog(tmp_path / "log.csv")],
    ).fit()  # fmt: skip
    with open(tmp_path / "log.csv", newline="") as file:
        rows = list(csv.DictReader(file))
    assert [row["event"] for row in rows] == ["train", "train", "validation"]
    assert [row["epoch"] for row in rows] == ["0.5", "1.0", "1.0"]
    assert {row["metric epoch"] for row in rows} == {"0.125"}
    assert {row["metric event"] for row in rows} == {"0.25"}
    assert rows[-1]["training epoch"] == "0.125"
    assert rows[-1]["training right"] == rows[0]["right"] == "0.75"


@pytest.mark.parametrize("factor", [math.nan, math.inf, -1, None, "x"])
def test_a_schedule_that_gives_no_factor_is_told(factor):
    model = Regression()
    trainer = Trainer(
        model, SGD(model.parameters(), lr=0.1), Whole(), budget=Budget(steps=4),
        schedule=lambda used: factor if used == 0.5 else 1.0,
    )  # fmt: skip
    with pytest.raises(ArgumentError, match=r"^schedule\(0.5\): expected a number"):
        trainer.fit()


def test_an_objective_may_stand_beside_the_model():
    layer = nn.Linear(2, 1)
    seen = []

    def objective(batch, state):
        seen.append(state)
        y = layer(batch.inputs.astype(np.float32))[:, 0]
        value = losses.mse_loss(y, rk.tensor(batch.targets.astype(np.float32)))
        return Loss(value, len(batch.targets), (y, {"n": y}))

    Trainer(
        layer, SGD(layer.parameters(), lr=0.1), Shuffles(), objective=objective,
        budget=Budget(steps=4),
    ).fit()  # fmt: skip
    assert [state is None for state in seen] == [True, False, True, False]
    assert not seen[1][0].requires_grad
    assert not seen[1][1]["n"].requires_grad
    with pytest.raises(ArgumentError, match="objective: expected one, as Linear has no method"):
        Trainer(layer, SGD(layer.parameters()), Shuffles(), budget=Budget(steps=1))


def test_a_measure_shows_numbers_in_its_unit_and_takes_no_tie_for_a_gain():
    plain, right = Measure("right"), Measure("right", "%", 100.0, 1, higher_is_better=True)
    assert (plain.label, right.label) == ("right", "%")
    assert (plain.show(0.25), right.show(0.25)) == ("0.2500", "25.0")
    for measure, better in ((plain, 0.5), (right, 1.5)):
        assert measure.is_better(better, 1.0)
        assert not measure.is_better(1.0, 1.0)
        assert not measure.is_better(1.0, better)


def test_what_cannot_be_called_is_no_objective():
    with pytest.raises(ArgumentError, match=r"^objective: expected a function, got 3"):
        evaluate(Regression(), Whole(), 3)
