"""Settings, budgets and schedules."""

import math

import numpy as np
import pytest

from rnnkit.errors import ArgumentError
from rnnkit.module import Parameter
from rnnkit.optim import SGD
from rnnkit.train import Budget, TextSettings, make_schedule


def test_settings_survive_json_form():
    settings = TextSettings(cell="gru", layers=2, epochs=3)
    assert TextSettings.from_dict(settings.as_dict()) == settings
    assert settings.minutes is None
    assert TextSettings().minutes > 0


@pytest.mark.parametrize(
    ("name", "value"),
    [
        ("cell", "transformer"),
        ("schedule", ""),
        ("layers", 0),
        ("hidden", -1),
        ("hidden", 2.5),
        ("hidden", 1 << 40),
        ("batch", True),
        ("length", "64"),
        ("lr", 0.0),
        ("lr", math.nan),
        ("lr", math.inf),
        ("clip", -1.0),
        ("dropout", 1.0),
        ("dropout", -0.1),
        ("dropout", None),
        ("epochs", 0),
        ("epochs", 1e308),
        ("minutes", -1.0),
        ("minutes", 1e308),
        ("seed", -1),
        ("seed", 1 << 64),
        ("validations", 0),
        ("accumulate", 0),
        ("accumulate", 1.0),
        ("patience", 0),
        ("ema", 1.0),
        ("ema", math.nan),
        ("weight_decay", -0.1),
        ("weight_decay", math.inf),
    ],
)
def test_a_wrong_value_is_named(name, value):
    with pytest.raises(ArgumentError, match=f"^{name}: expected"):
        TextSettings(**{name: value})


def test_unknown_names_and_two_budgets_are_refused():
    with pytest.raises(ArgumentError, match="unknown names colour"):
        TextSettings.from_dict({"colour": 1})
    with pytest.raises(ArgumentError, match="not allowed together"):
        TextSettings(epochs=1, minutes=1)


def test_budget_by_steps_and_by_time():
    assert Budget(steps=10).used(5, 1e9) == 0.5
    assert Budget(steps=10).used(11, 0.0) == 1.0
    assert Budget(seconds=20.0).used(10**9, 5.0) == 0.25
    for wrong in (
        {}, {"steps": 1, "seconds": 1.0}, {"epochs": 1, "seconds": 1.0}, {"steps": 0},
        {"steps": 1.5}, {"seconds": -1.0}, {"epochs": math.inf}, {"seconds": math.nan},
    ):  # fmt: skip
        with pytest.raises(ArgumentError):
            Budget(**wrong)


def test_budget_by_epochs_becomes_one_in_steps():
    assert Budget(epochs=2.5).in_steps(7).steps == 18
    assert Budget(epochs=0.01).in_steps(7).steps == 1
    with pytest.raises(ArgumentError, match=r"epochs: 1e\+308 are more steps than can be counted"):
        Budget(epochs=1e308).in_steps(7)
    assert Budget(epochs=3).in_steps(10 / 4).used(4, 1e9) == 0.5
    by_time = Budget(seconds=1.0)
    assert by_time.in_steps(7) is by_time
    with pytest.raises(ArgumentError, match="in epochs"):
        Budget(epochs=1).used(1, 1.0)


def optimizer(learning_rate):
    return SGD([Parameter(np.zeros(1, np.float32))], lr=learning_rate)


def test_cosine_warms_up_and_anneals_to_almost_nothing():
    sgd = optimizer(2.0)
    schedule = make_schedule("cosine", sgd)
    rates = []
    for used in (0.0, 0.01, 0.02, 0.51, 1.0):
        schedule.before_step(used)
        rates.append(sgd.param_groups[0]["lr"])
    assert rates == pytest.approx([0.02, 1.0, 2.0, 1.01, 0.02])


def test_plateau_halves_after_two_validations_without_gain():
    sgd = optimizer(1.0)
    schedule = make_schedule("plateau", sgd)
    rates = []
    for bits in (3.0, 2.0, 2.0, 2.0, 1.5):
        schedule.before_step(0.5)
        schedule.after_validation(bits)
        rates.append(sgd.param_groups[0]["lr"])
    assert rates == [1.0, 1.0, 1.0, 0.5, 0.5]


@pytest.mark.parametrize("higher_is_better", [False, True])
def test_a_plateau_of_negative_values_is_one_too(higher_is_better):
    sgd = optimizer(1.0)
    schedule = make_schedule("plateau", sgd, higher_is_better)
    worse = -1e-4 if higher_is_better else 1e-4
    rates = []
    for place, value in enumerate((-5.0, -5.0 + worse, -5.0 + 2 * worse, -5.0 - worse)):
        schedule.after_validation(value)
        rates.append(sgd.param_groups[0]["lr"])
        assert schedule.state_dict()["best"] == (-5.0 - worse if place == 3 else -5.0)
    assert rates == [1.0, 1.0, 0.5, 0.5]


def test_constant_stays_and_others_are_unknown():
    sgd = optimizer(1.0)
    schedule = make_schedule("constant", sgd)
    schedule.before_step(0.9)
    schedule.after_validation(9.0)
    assert sgd.param_groups[0]["lr"] == 1.0
    with pytest.raises(ArgumentError, match="got 'linear'"):
        make_schedule("linear", sgd)


def test_a_function_of_the_share_used_is_a_schedule_and_is_one_after_a_resume():
    sgd = optimizer(2.0)
    schedule = make_schedule(lambda used: 1 - used, sgd)
    schedule.before_step(0.75)
    assert sgd.param_groups[0]["lr"] == 0.5
    again = make_schedule(lambda used: 1 - used, sgd)  # made when the rate is already lowered
    again.load_state_dict(schedule.state_dict())
    again.before_step(0.5)
    assert sgd.param_groups[0]["lr"] == 1.0
    with pytest.raises(ArgumentError, match="expected 1 rates, got 2"):
        again.load_state_dict({"rates": [1.0, 2.0]})


def test_another_function_of_the_share_used_is_no_schedule_to_go_on_with():
    state = make_schedule(lambda used: 1 - used, optimizer(2.0)).state_dict()
    for other in (lambda used: 1 - used * used, "cosine"):
        with pytest.raises(ArgumentError, match=r"schedule: of another function: .* there, .* her"):
            make_schedule(other, optimizer(2.0)).load_state_dict(state)


def test_plateau_can_wait_for_more_of_what_is_better_when_higher():
    sgd = optimizer(1.0)
    schedule = make_schedule("plateau", sgd, higher_is_better=True)
    for accuracy in (0.5, 0.6, 0.6, 0.5):
        schedule.after_validation(accuracy)
    assert sgd.param_groups[0]["lr"] == 0.5
