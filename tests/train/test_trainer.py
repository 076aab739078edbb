"""The trainer with models and data of every kind: objectives, accumulation, averages, endings."""

import csv
import json
import math
import signal

import numpy as np
import pytest
from regressions import Ragged, Regression, Whole
from runs_to_resume import Classifier, Shuffled

import rnnkit as rk
from rnnkit import nn
from rnnkit.errors import ArgumentError
from rnnkit.optim import EMA, LBFGS, SGD, AdamW
from rnnkit.optim.lr_scheduler import StepLR
from rnnkit.train import (
    Budget,
    CsvLog,
    JsonLinesLog,
    KeepBest,
    Loss,
    Measure,
    Observer,
    RunFolder,
    Trainer,
    TrainingError,
    evaluate,
)
from rnnkit.train.backtest import forecast_with
from rnnkit.train.interrupt import InterruptFlag
from rnnkit.train.speed import Speed


class Recorder(Observer):
    def __init__(self):
        self.steps, self.validations, self.outcome = [], [], None

    def on_step(self, step):
        self.steps.append(step)

    def on_validation(self, validation):
        self.validations.append(validation)

    def on_finish(self, outcome):
        self.outcome = outcome


def test_accumulated_gradients_are_those_of_all_items_in_one_batch():
    weights, steps = [], []
    for batches, accumulate in ((Ragged(), 4), (Whole(), 1)):
        model, recorder = Regression(), Recorder()
        Trainer(
            model, SGD(model.parameters(), lr=0.1), batches, budget=Budget(steps=3),
            accumulate=accumulate, clip=2.0, observers=[recorder],
        ).fit()  # fmt: skip
        weights.append(model.weight.data)
        steps.append(recorder.steps)
    assert weights[0] == pytest.approx(weights[1], rel=1e-12)
    for one, other in zip(*steps, strict=True):
        assert one.loss == pytest.approx(other.loss, rel=1e-12)
        assert one.gradient_norm == pytest.approx(other.gradient_norm, rel=1e-12)
        assert one.metrics == pytest.approx(other.metrics, rel=1e-12)
        assert (one.items, one.epoch) == (other.items, other.epoch) == (9, one.step)
    assert steps[0][0].gradient_norm > 2.0  # clipped, and clipped alike


class Encoded(Regression):
    """y = w B x, of which an optimiser may have only w."""

    def __init__(self, batches):
        super().__init__()
        self.body = nn.Linear(2, 2, bias=False, dtype=np.float64)
        self.body.weight.data[...] = [[1.0, 0.5], [-0.5, 2.0]]
        self.batches = batches  # of a step

    def loss(self, batch, state=None):
        if not batch.position % self.batches:
            assert all(parameter.grad is None for parameter in self.parameters())
        inputs = self.body(rk.tensor(batch.inputs))
        return super().loss(batch._replace(inputs=inputs))


@pytest.mark.parametrize("accumulate", [1, 2])
def test_gradients_of_what_is_not_trained_are_not_in_the_norm_and_do_not_add_up(accumulate):
    norms, grads = [], []
    for frozen in (False, True):
        model, recorder = Encoded(accumulate), Recorder()
        model.body.requires_grad_(not frozen)
        Trainer(
            model, SGD([model.weight], lr=0.1), Few(), budget=Budget(steps=4), clip=0.5,
            accumulate=accumulate, observers=[recorder],
        ).fit()  # fmt: skip
        norms.append([step.gradient_norm for step in recorder.steps])
        grads.append(model.weight.grad.data.tolist())
    assert norms[0] == norms[1]
    assert grads[0] == grads[1]


def test_accumulation_and_clipping_reach_what_is_not_the_models():
    found = []
    for batches, accumulate in ((Ragged(), 4), (Whole(), 1)):
        model, shift = Regression(), rk.Parameter(np.zeros(1))

        def objective(batch, state, model=model, shift=shift):
            error = batch.inputs @ model.weight + shift - rk.tensor(batch.targets)
            count = len(batch.targets)
            return Loss((error * error).mean() if count else shift.sum(), count)

        Trainer(
            model, SGD([model.weight, shift], lr=0.1), batches, budget=Budget(steps=3),
            objective=objective, accumulate=accumulate, clip=2.0,
        ).fit()  # fmt: skip
        found.append([*model.weight.data, *shift.data])
    assert found[0] == pytest.approx(found[1], rel=1e-12)

    def steep(batch, state):
        return Loss((shift * 1e200 * 1e200).sum(), 1)

    shift.data[...] = 0.0
    trainer = Trainer(
        model, SGD([model.weight, shift], lr=0.1), Whole(), budget=Budget(steps=1), objective=steep
    )
    message = r"^step 1: the gradient of parameter 1 of the optimizer overflowed"
    with np.errstate(all="ignore"), pytest.raises(TrainingError, match=message):
        trainer.fit()


def test_evaluation_is_over_items_not_batches():
    model = Regression()
    trainer = Trainer(
        model, SGD(model.parameters(), lr=0.1), Ragged(), Ragged(), budget=Budget(steps=1)
    )
    whole = Whole().batch(0)
    error = whole.inputs @ [0.5, -1.0] - whole.targets
    found = trainer.evaluate(Ragged())
    assert found == pytest.approx({"loss": (error**2).mean(), "error": np.abs(error).mean()})
    model.eval()
    trainer.evaluate(Ragged())
    assert not model.training


def test_evaluation_and_forecasts_leave_the_mode_of_each_module():
    model = Regression()
    model.child, model.other = rk.nn.Dropout(0.5).eval(), rk.nn.Dropout(0.5)
    modes = []

    def objective(batch, state):
        modes.append({module.training for module in model.modules()})
        return Regression.loss(model, batch, state)

    evaluate(model, Ragged(), objective)
    assert modes[0] == {False}
    assert [module.training for module in model.modules()] == [True, False, True]
    model.forward = lambda inputs: model.other(rk.tensor(inputs))
    ones = np.ones((3, 4), np.float32)
    np.testing.assert_array_equal(forecast_with(model)(ones), ones)
    assert [module.training for module in model.modules()] == [True, False, True]


def test_a_run_trains_a_model_that_was_in_evaluation_mode():
    model, modes = Regression().eval(), []

    def objective(batch, state):
        modes.append(model.training)
        return model.loss(batch)

    Trainer(
        model, SGD(model.parameters(), lr=0.1), Whole(), Whole(), objective=objective,
        budget=Budget(steps=4), validations=2,
    ).fit()  # fmt: skip
    assert modes == [True, True, False, True, True, False]


def test_a_step_or_an_evaluation_without_items_is_an_error():
    class Empty(Ragged):
        SIZES = (0,)
        batches_per_epoch = 1

    model = Regression()
    trainer = Trainer(model, SGD(model.parameters(), lr=0.1), Empty(), budget=Budget(steps=1))
    with pytest.raises(TrainingError, match="step 1: there is no item"):
        trainer.fit()
    with pytest.raises(ArgumentError, match="no item to evaluate"):
        trainer.evaluate(Empty())


def test_a_metric_decides_what_is_best_and_shown(tmp_path):
    model, recorder = Classifier(nn.GRU), Recorder()
    measure = Measure("right", unit="%", scale=100.0, digits=1, higher_is_better=True)
    trainer = Trainer(
        model, AdamW(model.parameters(), lr=0.05), Shuffled(40, 1), Shuffled(20, 2),
        budget=Budget(epochs=3), measure=measure, validations=6, observers=[recorder],
    )  # fmt: skip
    outcome = trainer.fit()
    shares = [v.metrics["right"] for v in recorder.validations]
    assert [v.value for v in recorder.validations] == shares
    assert outcome.best_value == max(shares)
    assert [v.is_best for v in recorder.validations] == [
        share > max(shares[:k], default=-1.0) for k, share in enumerate(shares)
    ]
    assert all(0 <= v.training_value <= 1 for v in recorder.validations)
    assert (measure.show(0.98765), measure.label) == ("98.8", "%")
    assert Measure().label == "loss"
    assert outcome.steps == 3 * trainer.training.batches_per_epoch
    with pytest.raises(ArgumentError, match="measure: 'wrong' is not one of loss, right"):
        Trainer(
            model, AdamW(model.parameters()), Shuffled(4, 1), Shuffled(4, 2),
            budget=Budget(steps=1), measure=Measure("wrong"),
        ).fit()  # fmt: skip


def test_patience_ends_a_run_that_gains_nothing():
    model, recorder = Regression(weights=(1.0, 2.0)), Recorder()
    outcome = Trainer(
        model, SGD(model.parameters(), lr=0.1), Whole(), Whole(), budget=Budget(steps=100),
        validations=50, patience=3, observers=[recorder],
    ).fit()  # fmt: skip
    # It begins with the solution: after the first validation there is nothing to gain.
    assert outcome.stopped_early
    assert not outcome.interrupted
    assert outcome.steps == 8
    assert outcome.best_step == 2
    assert len(recorder.validations) == 4


@pytest.mark.parametrize("higher_is_better", [False, True])
def test_a_target_ends_a_run_that_reaches_it(higher_is_better):
    class Values(Regression):
        """Its validations have losses of 5, 4, 3, ..."""

        left = 5.0

        def loss(self, batch, state=None):
            found = super().loss(batch, state)
            if self.training:
                return found
            value = self.left if not higher_is_better else -self.left
            self.left -= 1.0
            return found._replace(metrics={"value": value * found.count})

    for target, steps in ((3.0, 3), (3.5, 3), (-100.0, 9)):
        model = Values()
        outcome = Trainer(
            model, SGD(model.parameters(), lr=0.1), Whole(), Whole(), budget=Budget(steps=9),
            validations=9, target=-target if higher_is_better else target,
            measure=Measure("value", higher_is_better=higher_is_better),
        ).fit()  # fmt: skip
        assert (outcome.steps, outcome.stopped_early) == (steps, steps < 9)


def test_a_metric_that_is_nan_is_no_gain_and_no_target():
    class Undefined(Regression):
        """Its validations have the values NaN, 2, NaN, 1, 3."""

        def __init__(self):
            super().__init__()
            self.values = iter([math.nan, 2.0, math.nan, 1.0, 3.0])

        def loss(self, batch, state=None):
            found = super().loss(batch, state)
            value = 0.0 if self.training else next(self.values)
            return found._replace(metrics={"value": value * found.count})

    for target, steps, best in ((None, 5, (5, 3.0)), (2.0, 2, (2, 2.0))):
        model, recorder = Undefined(), Recorder()
        outcome = Trainer(
            model, SGD(model.parameters(), lr=0.1), Whole(), Whole(), budget=Budget(steps=5),
            validations=5, target=target, measure=Measure("value", higher_is_better=True),
            observers=[recorder],
        ).fit()  # fmt: skip
        assert (outcome.steps, outcome.best_step, outcome.best_value) == (steps, *best)
        gains = [False, True, False, False, True]
        assert [validation.is_best for validation in recorder.validations] == gains[:steps]


# -- optimisers that need a closure ------------------------------------------------------------


class Noisy(Regression):
    """With dropout, a state that counts, and a note of what each loss was made of."""

    def __init__(self):
        super().__init__()
        self.calls = []

    def loss(self, batch, state=None):
        mask = rk.rng.generator().random(len(batch.targets)) < 0.7
        state = rk.tensor(np.zeros(())) if state is None else state
        self.calls.append((batch.position, float(state.data), mask.tolist()))
        error = (batch.inputs @ self.weight - rk.tensor(batch.targets)) * mask
        return Loss((error * error).mean(), len(batch.targets), state + 1)


class Few(Ragged):
    SIZES = (4, 3, 5, 6)


def test_a_closure_makes_the_same_loss_at_every_call():
    rk.manual_seed(3)
    model, recorder = Noisy(), Recorder()
    optimizer = LBFGS(model.parameters(), max_iter=4, line_search_fn="strong_wolfe")
    Trainer(
        model, optimizer, Few(), budget=Budget(steps=2), accumulate=2, clip=None,
        observers=[recorder],
    ).fit()  # fmt: skip
    evaluations = [model.calls[first : first + 2] for first in range(0, len(model.calls), 2)]
    assert len(evaluations) == optimizer.state[0]["func_evals"] > 6
    different = [evaluation for evaluation in evaluations if evaluation != evaluations[0]]
    assert all(evaluation == different[0] for evaluation in different)
    (one, other), (third, fourth) = evaluations[0], different[0]
    assert [each[:2] for each in (one, other, third, fourth)] == [(0, 0), (1, 1), (2, 2), (3, 3)]
    assert [step.items for step in recorder.steps] == [7, 11]
    # The generator goes on as if each batch had been seen once.
    after = rk.rng.generator().random()
    random = rk.manual_seed(3)
    assert [random.random(len(each[2])).shape for each in (one, other, third, fourth)]
    assert random.random() == after


def test_lbfgs_takes_the_steps_that_a_loop_by_hand_takes():
    model, twin, recorder = Regression(), Regression(), Recorder()
    options = {"lr": 0.1, "max_iter": 3}
    Trainer(
        model, LBFGS(model.parameters(), **options), Ragged(), budget=Budget(steps=2),
        accumulate=4, clip=None, observers=[recorder],
    ).fit()  # fmt: skip
    optimizer, batch, found = LBFGS(twin.parameters(), **options), Whole().batch(0), []

    def closure():
        optimizer.zero_grad()
        loss = twin.loss(batch).value
        loss.backward()
        return loss

    for _ in range(2):
        found.append(optimizer.step(closure).item())
    assert model.weight.data == pytest.approx(twin.weight.data, rel=1e-10)
    assert [step.loss for step in recorder.steps] == pytest.approx(found, rel=1e-10)
    assert all(step.gradient_norm > 0 for step in recorder.steps)


class Logarithm(rk.Module):
    """x - 3 log x, least at 3 and not a number below 0."""

    def __init__(self, x):
        super().__init__()
        self.x = rk.Parameter(np.array([x]))

    def loss(self, batch, state=None):
        return Loss((self.x - 3 * self.x.log()).sum(), 1)


def test_a_search_comes_back_from_where_the_loss_is_not_finite():
    model = Logarithm(0.5)
    optimizer = LBFGS(model.parameters(), lr=20.0, max_iter=40, line_search_fn="strong_wolfe")
    with np.errstate(all="ignore"):
        Trainer(model, optimizer, Whole(), budget=Budget(steps=1), clip=None).fit()
    assert model.x.data == pytest.approx([3.0], rel=1e-4)


def test_a_search_that_begins_where_the_loss_is_not_finite_is_an_error():
    model = Logarithm(np.nan)
    trainer = Trainer(
        model, LBFGS(model.parameters()), Whole(), budget=Budget(steps=1), clip=None
    )
    with pytest.raises(TrainingError, match=r"^step 1: the training loss became nan .*x is not"):
        trainer.fit()


def test_gradients_for_a_closure_are_not_clipped():
    model = Regression()
    with pytest.raises(ArgumentError, match=r"clip: expected None with LBFGS, .* got 1\.0"):
        Trainer(model, LBFGS(model.parameters()), Whole(), budget=Budget(steps=1))


def test_without_validation_there_is_only_training():
    model = Regression()
    outcome = Trainer(
        model, SGD(model.parameters(), lr=0.3), Whole(), budget=Budget(steps=99), clip=None
    ).fit()
    assert model.weight.data == pytest.approx([1.0, 2.0], abs=0.1)
    assert outcome.best_step == 0
    assert math.isnan(outcome.best_value)
    for options in ({"patience": 1}, {"target": 0.0}, {"schedule": "plateau"}):
        with pytest.raises(ArgumentError, match=f"{next(iter(options))}: needs a validation"):
            Trainer(model, SGD(model.parameters()), Whole(), budget=Budget(steps=1), **options)


def test_validation_sees_the_averaged_weights_and_training_its_own():
    model = Regression()
    ema = EMA(model.parameters(), decay=0.5, warm_up=False)
    seen = []

    class See(Observer):
        def on_step(self, step):
            seen.append(model.weight.data.copy())

        def on_validation(self, validation):
            seen.append(("averaged", model.weight.data.copy(), validation.loss))

    Trainer(
        model, SGD(model.parameters(), lr=0.1), Whole(), Whole(), budget=Budget(steps=2),
        ema=ema, validations=2, observers=[See()],
    ).fit()  # fmt: skip
    first, (_, average, loss), second, _ = seen
    assert average == pytest.approx((np.array([0.5, -1.0]) + first) / 2)
    error = Whole().batch(0).inputs @ average - Whole().batch(0).targets
    assert loss == pytest.approx((error**2).mean())
    assert np.array_equal(model.weight.data, second)


@pytest.mark.parametrize("part", ["training", "validation"])
@pytest.mark.parametrize("batches_per_epoch", [0, -1, 0.5])
def test_an_epoch_has_a_batch_or_more(part, batches_per_epoch):
    model, parts = Regression(), {"training": Whole(), "validation": Whole()}
    parts[part].batches_per_epoch = batches_per_epoch
    with pytest.raises(ArgumentError, match=rf"^{part}\.batches_per_epoch: expected a"):
        Trainer(model, SGD(model.parameters()), **parts, budget=Budget(steps=1))


def test_a_new_run_takes_the_place_of_a_better_model_that_was_there(tmp_path):
    model, folder = Regression(), RunFolder(tmp_path)
    folder.save_best({"weight": np.zeros(2)}, 100, 0.0)
    outcome = Trainer(
        model, SGD(model.parameters(), lr=0.1), Whole(), Whole(), budget=Budget(steps=3),
        observers=[KeepBest(model, folder)],
    ).fit()  # fmt: skip
    assert folder.model_quality() == (outcome.best_step, outcome.best_value)
    assert np.array_equal(folder.load_model()["weight"], model.weight.data)


def test_a_log_goes_on_when_an_interrupted_run_does(tmp_path):
    class Interrupt(Observer):
        def on_step(self, step):
            if step.step == 3:
                signal.raise_signal(signal.SIGINT)

    model, path = Regression(), tmp_path / "log"
    trainer = Trainer(
        model, SGD(model.parameters(), lr=0.1), Whole(), budget=Budget(steps=5),
        observers=[JsonLinesLog(path), Interrupt()],
    )  # fmt: skip
    assert trainer.fit().interrupted
    assert not trainer.fit().interrupted
    records = [json.loads(line) for line in path.read_text().splitlines()]
    assert [each.get("step", each["event"]) for each in records] == [
        1, 2, 3, "finish", 4, 5, "finish"
    ]  # fmt: skip


@pytest.mark.parametrize(
    ("spoil", "message"),
    [
        (lambda m, b: m.weight.data.__setitem__(1, np.inf), r"weight is not finite"),
        (lambda m, b: b.inputs[0].__setitem__((0, 1), np.nan), "the inputs of the batch are not"),
        (lambda m, b: b.targets[0].__setitem__(0, np.inf), "the targets of the batch are not"),
        (lambda m, b: b.targets[0].__setitem__(0, 1e200), "all parameters are finite"),
    ],
)
def test_a_loss_that_is_not_finite_names_where_it_came_from(spoil, message):
    model, batches = Regression(), Ragged()
    spoil(model, batches)
    trainer = Trainer(model, SGD(model.parameters(), lr=0.1), batches, budget=Budget(steps=1))
    expected = rf"^step 1: the training loss became (inf|nan) .*{message}"
    with np.errstate(all="ignore"), pytest.raises(TrainingError, match=expected):
        trainer.fit()


def test_inputs_by_name_that_are_not_finite_are_found():
    model, batches = Regression(), Ragged()
    batches.inputs = [{"left": x, "right": np.full(3, np.nan)} for x in batches.inputs]
    trainer = Trainer(
        model, SGD(model.parameters(), lr=0.1), batches, budget=Budget(steps=1),
        objective=lambda batch, _: Loss(model.weight.sum() * batch.inputs["right"].sum(), 1),
    )  # fmt: skip
    with pytest.raises(TrainingError, match="the inputs of the batch are not finite"):
        trainer.fit()


def test_a_validation_that_is_not_finite_stops_with_the_step():
    model, bad = Regression(), Whole()
    bad.targets[0][0] = np.nan
    trainer = Trainer(
        model, SGD(model.parameters(), lr=0.1), Whole(), bad, budget=Budget(steps=4), validations=2
    )
    expected = r"^step 2: the validation loss became nan .*the targets of the batch are not finite"
    with pytest.raises(TrainingError, match=expected):
        trainer.fit()


@pytest.mark.parametrize(
    "wrong",
    [
        {"accumulate": 0},
        {"accumulate": 2.5},
        {"validations": 0},
        {"patience": 0},
        {"patience": True},
        {"target": math.nan},
        {"clip": 0.0},
        {"clip": math.nan},
        {"budget": 5},
        {"schedule": "linear"},
        {"schedule": StepLR(SGD([rk.Parameter(np.zeros(1))], lr=1.0), 1)},
        {"settings": {"sizes": [1, 2]}},
        {"observers": 3},
    ],
)
def test_arguments_out_of_range_are_named(wrong):
    model = Regression()
    options = {"budget": Budget(steps=1), **wrong}
    with pytest.raises(ArgumentError, match=f"^{next(iter(wrong))}: expected"):
        Trainer(model, SGD(model.parameters()), Whole(), Whole(), **options)


def test_what_is_no_observer_is_told_by_its_place():
    model = Regression()
    with pytest.raises(ArgumentError, match=r"^observers\[1\]: expected an Observer, got 3"):
        Trainer(
            model, SGD(model.parameters()), Whole(), budget=Budget(steps=1),
            observers=[Recorder(), 3],
        )  # fmt: skip


def test_logs_hold_losses_metrics_and_validations(tmp_path):
    model, recorder = Classifier(nn.RNN), Recorder()
    Trainer(
        model, AdamW(model.parameters()), Shuffled(9, 1), Shuffled(6, 2),
        budget=Budget(steps=400), validations=2,
        observers=[recorder, JsonLinesLog(tmp_path / "a"), CsvLog(tmp_path / "b")],
    ).fit()  # fmt: skip
    records = [json.loads(line) for line in (tmp_path / "a").read_text().splitlines()]
    trained = [record for record in records if record["event"] == "train"]
    assert 190 <= len(trained) <= 202
    # A record is the mean over the items since the one before.
    first, second = (record["step"] for record in trained[1:3])
    between = recorder.steps[first:second]
    assert len(between) >= 2
    items = sum(step.items for step in between)
    assert trained[2]["loss"] == pytest.approx(
        sum(step.loss * step.items for step in between) / items, rel=1e-5
    )
    assert trained[2]["metrics"]["right"] == pytest.approx(
        sum(step.metrics["right"] * step.items for step in between) / items, rel=1e-5
    )
    validated = [record for record in records if record["event"] == "validation"]
    assert [v["metrics"]["right"] for v in validated] == pytest.approx(
        [v.metrics["right"] for v in recorder.validations], rel=1e-5
    )
    assert records[-1]["event"] == "finish"
    with open(tmp_path / "b", newline="") as file:
        rows = list(csv.DictReader(file))
    assert len(rows) == len(records) - 1
    for row, record in zip(rows, records, strict=False):
        assert float(row["loss"]) == record["loss"]
        assert float(row["right"]) == record["metrics"]["right"]
        known = record.get("training_metrics")
        assert row["training right"] == (str(known["right"]) if known else "")
    with pytest.raises(FileExistsError):
        Trainer(
            model, AdamW(model.parameters()), Shuffled(9, 1), budget=Budget(steps=1),
            observers=[JsonLinesLog(tmp_path / "a")],
        ).fit()  # fmt: skip


def test_ctrl_c_is_as_it_was_after_the_block_whatever_ended_it():
    before = signal.getsignal(signal.SIGINT)
    with InterruptFlag() as flag:
        signal.raise_signal(signal.SIGINT)
        assert flag.requested
        with pytest.raises(KeyboardInterrupt):
            signal.raise_signal(signal.SIGINT)
    assert signal.getsignal(signal.SIGINT) is before
    with pytest.raises(KeyError), InterruptFlag():
        raise KeyError
    assert signal.getsignal(signal.SIGINT) is before


def test_the_speed_of_the_run_and_of_the_last_seconds():
    """The newest step weighs 1 - exp(-seconds / 3), what was before it the rest."""
    speed = Speed()
    assert (speed.overall, speed.recent) == (0.0, 0.0)
    speed.add(40, 2.0)
    assert (speed.overall, speed.recent) == (20.0, 20.0)
    speed.add(50, 1.0)
    kept = math.exp(-1 / 3)
    assert speed.recent == pytest.approx(kept * 20 + (1 - kept) * 50)
    twin = Speed()
    twin.load_state_dict(json.loads(json.dumps(speed.state_dict())))
    assert (twin.overall, twin.recent) == (30.0, 0.0)
    twin.add(30, 1.0)
    assert (twin.overall, twin.recent) == (30.0, 30.0)
