"""Learning-rate schedules: PyTorch's rates, resuming, and refusals."""

import json
from pathlib import Path

import numpy as np
import pytest

import rnnkit as rk
from rnnkit import optim
from rnnkit.errors import ArgumentError
from rnnkit.module import Parameter
from rnnkit.optim import lr_scheduler

GOLDEN = np.load(Path(__file__).parents[1] / "golden" / "lr_scheduler.npz")
CASES = json.loads(str(GOLDEN["cases"]))
IDS = [f"{number}-{case['class']}" for number, case in enumerate(CASES)]


def make_optimizer(**options):
    first, second = Parameter(np.zeros(1)), Parameter(np.zeros(1))
    return optim.SGD([{"params": [first]}, {"params": [second], "lr": 0.02}], lr=0.5, **options)


def make_schedule(optimizer, case):
    kind = getattr(lr_scheduler, case["class"])
    if "schedulers" in case:
        parts = [make_schedule(optimizer, part) for part in case["schedulers"]]
        return kind(optimizer, parts, case["milestones"])
    return kind(optimizer, **case["options"])


def with_a_third_group(optimizer, **options):
    schedule = lr_scheduler.ReduceLROnPlateau(optimizer, **options)
    optimizer.add_param_group({"params": [Parameter(np.zeros(1))]})
    return schedule


def rates_of(optimizer):
    return [group["lr"] for group in optimizer.param_groups]


def advance(schedule, case, epoch):
    if "metrics" in case:
        schedule.step(GOLDEN[case["metrics"]][epoch])
    else:
        schedule.step()


@pytest.mark.parametrize("number", range(len(CASES)), ids=IDS)
def test_rates_are_pytorchs(number):
    case, expected = CASES[number], GOLDEN[f"{number}/rates"]
    optimizer = make_optimizer()
    schedule = make_schedule(optimizer, case)
    rates = []
    for epoch in range(len(expected)):
        rates.append(rates_of(optimizer))
        assert schedule.get_last_lr() == rates[-1]
        advance(schedule, case, epoch)
    np.testing.assert_allclose(rates, expected, rtol=1e-11, atol=1e-17)
    assert len(set(map(tuple, rates))) > 1


@pytest.mark.parametrize("number", range(len(CASES)), ids=IDS)
def test_a_resumed_schedule_has_the_same_rates_to_the_bit(number):
    case = CASES[number]
    optimizer = make_optimizer()
    schedule = make_schedule(optimizer, case)
    for epoch in range(9):
        advance(schedule, case, epoch)
    saved = json.loads(json.dumps([optimizer.state_dict(), schedule.state_dict()]))
    resumed = make_optimizer()
    twin = make_schedule(resumed, case)
    resumed.load_state_dict(saved[0])
    twin.load_state_dict(saved[1])
    for epoch in range(9, 30):
        assert rates_of(resumed) == rates_of(optimizer)
        advance(schedule, case, epoch)
        advance(twin, case, epoch)


def test_one_cycle_has_momentum_go_the_other_way_and_stays_at_its_end():
    param = Parameter(np.zeros(1))
    for make, momentum in (
        (lambda: optim.SGD([param], momentum=0.5), lambda group: group["momentum"]),
        (lambda: optim.Adam([param], betas=(0.5, 0.99)), lambda group: group["betas"][0]),
    ):
        optimizer = make()
        schedule = lr_scheduler.OneCycleLR(optimizer, 1.0, total_steps=20, max_momentum=0.9)
        (group,) = optimizer.param_groups
        seen = []
        for _ in range(23):
            seen.append((group["lr"], momentum(group)))
            schedule.step()
        np.testing.assert_allclose(seen[0], (0.04, 0.9))
        np.testing.assert_allclose(seen[5], (1.0, 0.85))
        np.testing.assert_allclose(seen[19], (4e-6, 0.9))
        assert seen[19:] == seen[19:20] * 4
        assert group.get("betas", (0, 0.99))[1] == 0.99
    fixed = optim.SGD([param], momentum=0.5)
    lr_scheduler.OneCycleLR(fixed, 1.0, total_steps=20, cycle_momentum=False)
    assert fixed.param_groups[0]["momentum"] == 0.5


@pytest.mark.parametrize("share", [0.0, 0.25, 0.5, 1.0])
def test_one_cycle_turns_within_its_first_steps_or_its_last(share):
    """Of four steps the way up takes none, one, two or all: the first step is then its top, or
    the rise is over as it begins."""
    optimizer = optim.SGD([Parameter(np.zeros(1))], lr=1.0)
    schedule = lr_scheduler.OneCycleLR(
        optimizer, 1.0, 4, pct_start=share, anneal_strategy="linear", cycle_momentum=False
    )
    rates = []
    for _ in range(5):
        rates += rates_of(optimizer)
        schedule.step()
    begin, end = 0.04, 4e-6
    expected = {
        0.0: [1.0, (2 + end) / 3, (1 + 2 * end) / 3, end, end],
        0.25: [begin, (2 + end) / 3, (1 + 2 * end) / 3, end, end],
        0.5: [begin, 1.0, (1 + end) / 2, end, end],
        1.0: [begin, begin + 0.96 / 3, begin + 0.96 * 2 / 3, 1.0, end],
    }[share]
    np.testing.assert_allclose(rates, expected, rtol=1e-12, atol=1e-15)


def test_lambda_lr_for_all_groups_and_for_each():
    optimizer = make_optimizer()
    schedule = lr_scheduler.LambdaLR(optimizer, lambda epoch: 1 / (1 + epoch))
    schedule.step()
    schedule.step()
    np.testing.assert_allclose(rates_of(optimizer), [0.5 / 3, 0.02 / 3], rtol=1e-15)
    optimizer = make_optimizer()
    lr_scheduler.LambdaLR(optimizer, [lambda epoch: 2.0, lambda epoch: 3.0])
    assert rates_of(optimizer) == [1.0, 0.06]


def test_a_function_of_the_epoch_also_holds_for_a_group_added_later():
    for functions in (lambda epoch: 2.0**epoch, [lambda epoch: 2.0**epoch] * 2):
        optimizer = make_optimizer()
        schedule = lr_scheduler.LambdaLR(optimizer, functions)
        optimizer.add_param_group({"params": rk.zeros(1, requires_grad=True), "lr": 0.25})
        if callable(functions):
            schedule.step()
            assert rates_of(optimizer) == [1.0, 0.04, 0.5]
        else:
            with pytest.raises(ArgumentError, match="lr_lambda: expected 3 functions"):
                schedule.step()


@pytest.mark.parametrize("factor", [np.float32(0.1), np.array(0.1), rk.tensor(0.1), True])
def test_a_factor_of_any_kind_makes_a_rate_of_a_float(factor):
    optimizer = make_optimizer()
    lr_scheduler.LambdaLR(optimizer, lambda epoch: factor)
    assert rates_of(optimizer) == [0.5 * float(factor), 0.02 * float(factor)]
    assert {type(rate) for rate in rates_of(optimizer)} == {float}


@pytest.mark.parametrize("factor", [float("nan"), float("inf"), -0.5, "x", None])
def test_a_factor_that_makes_no_rate_is_refused_and_changes_nothing(factor):
    optimizer = make_optimizer()
    schedule = lr_scheduler.LambdaLR(optimizer, lambda epoch: factor if epoch == 2 else 0.5)
    schedule.step()
    with pytest.raises(ArgumentError, match=r"^lr_lambda\(2\): expected a number"):
        schedule.step()
    assert schedule.last_epoch == 1
    assert rates_of(optimizer) == [0.25, 0.01]


def test_a_rate_of_ones_own_schedule_that_makes_no_sense_is_refused():
    class Down(lr_scheduler.LRScheduler):
        def lr_at(self, epoch, initial_lr, group=0):
            return np.float32(1 - epoch)

    optimizer = make_optimizer()
    schedule = Down(optimizer)
    assert [type(rate) for rate in rates_of(optimizer)] == [float, float]
    schedule.step()
    with pytest.raises(ArgumentError, match=r"^Down: lr_at\(2\): expected a number >= 0"):
        schedule.step()
    assert rates_of(optimizer) == [0.0, 0.0]
    Down.lr_at = lambda self, epoch, initial_lr, group: np.inf
    with pytest.raises(ArgumentError, match=r"^Down: lr_at\(2\): expected a number >= 0 and < inf"):
        schedule.step()


@pytest.mark.parametrize("gamma", [1e200, 10**200, float("inf")])
@pytest.mark.parametrize(
    "make",
    [
        lr_scheduler.ExponentialLR,
        lambda o, gamma: lr_scheduler.StepLR(o, 1, gamma),
        lambda o, gamma: lr_scheduler.MultiStepLR(o, [1, 2, 3], gamma),
    ],
)
def test_rates_beyond_floats_name_gamma_and_change_nothing(make, gamma):
    optimizer = make_optimizer()
    schedule = make(optimizer, gamma)
    if gamma < float("inf"):
        schedule.step()
    epoch, before = schedule.last_epoch, rates_of(optimizer)
    with pytest.raises(ArgumentError, match=r"^gamma: expected one whose power [12] is in the ran"):
        schedule.step()
    assert (schedule.last_epoch, rates_of(optimizer)) == (epoch, before)


def test_a_list_of_functions_within_a_sequence_has_one_for_each_group():
    optimizer = make_optimizer()
    first = lr_scheduler.LambdaLR(optimizer, [lambda epoch: 0.5] * 2)
    schedule = lr_scheduler.SequentialLR(optimizer, [first], [])
    optimizer.add_param_group({"params": [Parameter(np.zeros(1))]})
    with pytest.raises(ArgumentError, match=r"^lr_lambda: expected 3 functions"):
        schedule.step()


@pytest.mark.parametrize("kind", [optim.Adam, optim.SGD])
def test_one_cycle_has_momentum_move_in_its_turn_of_a_sequence(kind):
    def momenta(make, epochs):
        optimizer = kind([{"params": [Parameter(np.zeros(1))]}, {"params": [rk.zeros(1)]}], lr=0.1)
        schedule = make(optimizer)
        found = []
        for _ in range(epochs):
            found.append(
                [group.get("momentum", group.get("betas")) for group in optimizer.param_groups]
            )
            schedule.step()
        return found

    def cycle(optimizer):
        return lr_scheduler.OneCycleLR(optimizer, 0.2, 8, base_momentum=[0.8, 0.5])

    def sequence(optimizer):
        parts = [lr_scheduler.LinearLR(optimizer, 0.5, total_iters=3), cycle(optimizer)]
        return lr_scheduler.SequentialLR(
            optimizer, [*parts, lr_scheduler.ExponentialLR(optimizer, 0.9)], [3, 8]
        )

    alone = momenta(cycle, 5)
    assert alone[1] != alone[2] != alone[4]
    assert momenta(sequence, 10) == [alone[0]] * 3 + alone + [alone[4]] * 2


def test_one_cycle_leaves_a_momentum_that_its_optimizer_can_run_with():
    adam = optim.Adam([Parameter(np.zeros(1))])
    with pytest.raises(ArgumentError, match=r"^max_momentum: expected a number >= 0 and < 1"):
        lr_scheduler.OneCycleLR(adam, 0.1, 9, max_momentum=1.0)
    sgd = make_optimizer(momentum=0.5)
    lr_scheduler.OneCycleLR(sgd, 0.1, 9, max_momentum=1.0)
    assert sgd.param_groups[1]["momentum"] == 1.0


def test_a_function_of_the_epoch_may_be_an_object_that_counts_as_false():
    class Table(dict):
        def __call__(self, epoch):
            return self.get(epoch, 0.5)

    optimizer = make_optimizer()
    schedule = lr_scheduler.LambdaLR(optimizer, Table())
    assert rates_of(optimizer) == [0.25, 0.01]
    assert schedule.lr_lambdas == [{}, {}]
    functions = [Table(), Table()]
    each = lr_scheduler.LambdaLR(optimizer, functions).lr_lambdas
    assert all(found is given for found, given in zip(each, functions, strict=True))


def test_last_epoch_resumes_from_the_initial_rates():
    optimizer = make_optimizer()
    schedule = lr_scheduler.ExponentialLR(optimizer, 0.5)
    for _ in range(3):
        schedule.step()
    expected = rates_of(optimizer)
    resumed = make_optimizer()
    resumed.load_state_dict(optimizer.state_dict())
    again = lr_scheduler.ExponentialLR(resumed, 0.5, last_epoch=2)
    assert again.last_epoch == 3
    assert rates_of(resumed) == expected
    with pytest.raises(ArgumentError, match="last_epoch: expected -1"):
        lr_scheduler.ExponentialLR(make_optimizer(), 0.5, last_epoch=2)


def test_a_group_added_later_is_scheduled_from_its_own_rate():
    optimizer = make_optimizer()
    schedule = lr_scheduler.StepLR(optimizer, 1, gamma=0.5)
    optimizer.add_param_group({"params": [Parameter(np.zeros(1))], "lr": 0.8})
    schedule.step()
    assert rates_of(optimizer) == [0.25, 0.01, 0.4]


def test_plateau_takes_a_tensor_and_a_nan_is_no_improvement():
    optimizer = make_optimizer()
    schedule = lr_scheduler.ReduceLROnPlateau(optimizer, patience=0, factor=0.5)
    schedule.step(rk.tensor(2.0))
    schedule.step(float("nan"))
    assert schedule.best == 2.0
    assert rates_of(optimizer) == [0.25, 0.01]


@pytest.mark.parametrize("mode", ["min", "max"])
@pytest.mark.parametrize("threshold_mode", ["rel", "abs"])
def test_a_plateau_without_a_threshold_counts_what_is_as_good_as_before(mode, threshold_mode):
    optimizer = make_optimizer()
    schedule = lr_scheduler.ReduceLROnPlateau(
        optimizer, mode, 0.5, patience=0, threshold=0.0, threshold_mode=threshold_mode
    )
    for metric in (2.0, 2.0, 1.0 if mode == "min" else 3.0):
        schedule.step(metric)
    assert rates_of(optimizer) == [0.25, 0.01]


def test_plateau_leaves_what_would_hardly_change():
    optimizer = make_optimizer()  # rates of 0.5 and 0.02
    schedule = lr_scheduler.ReduceLROnPlateau(optimizer, patience=0, factor=0.5, eps=0.015)
    for _ in range(2):
        schedule.step(1.0)
    assert rates_of(optimizer) == [0.25, 0.02]


@pytest.mark.parametrize(
    ("make", "message"),
    [
        (lambda o: lr_scheduler.StepLR(o, 0), "step_size: expected a number >= 1, got 0"),
        (lambda o: lr_scheduler.CosineAnnealingLR(o, 0), "T_max: expected"),
        (lambda o: lr_scheduler.CosineAnnealingWarmRestarts(o, 0), "T_0: expected"),
        (lambda o: lr_scheduler.CosineAnnealingWarmRestarts(o, 2, 0.5), "T_mult: expected"),
        (lambda o: lr_scheduler.OneCycleLR(o, 0.1), "total_steps: expected an integer, or epochs"),
        (lambda o: lr_scheduler.OneCycleLR(o, [0.1], 9), "max_lr: expected 2, one per param group"),
        (lambda o: lr_scheduler.OneCycleLR(o, np.inf, 9), "max_lr: expected a number >= 0 and < i"),
        (lambda o: lr_scheduler.OneCycleLR(o, 1, 9, pct_start=1.5), "pct_start: expected"),
        (lambda o: lr_scheduler.OneCycleLR(o, 1, 9, div_factor=0.5), "^div_factor: expected"),
        (lambda o: lr_scheduler.OneCycleLR(o, 1, 9, final_div_factor=0), "final_div_factor: exp"),
        (lambda o: lr_scheduler.OneCycleLR(o, 1, 9, anneal_strategy="x"), "anneal_strategy: exp"),
        (
            lambda o: lr_scheduler.OneCycleLR(optim.Adagrad([rk.zeros(1)]), 0.1, 9),
            "cycle_momentum: expected False for Adagrad",
        ),
        (lambda o: lr_scheduler.LinearLR(o, 0.0), "start_factor: expected a number > 0"),
        (lambda o: lr_scheduler.LinearLR(o, 1.5), "start_factor: expected"),
        (lambda o: lr_scheduler.LinearLR(o, total_iters=0), "total_iters: expected"),
        (lambda o: lr_scheduler.LambdaLR(o, [abs]), "lr_lambda: expected 2 functions"),
        (lambda o: lr_scheduler.ReduceLROnPlateau(o, "down"), "mode: expected 'min' or 'max'"),
        (lambda o: lr_scheduler.ReduceLROnPlateau(o, factor=1.0), "factor: expected"),
        (lambda o: lr_scheduler.ReduceLROnPlateau(o, min_lr=[0.1]), "min_lr: expected 2"),
        (lambda o: with_a_third_group(o, min_lr=[0.1, 0.1]).step(1.0), "min_lr: expected 3"),
        (lambda o: lr_scheduler.ReduceLROnPlateau(o, threshold_mode="x"), "threshold_mode: "),
        (lambda o: lr_scheduler.ReduceLROnPlateau(o, threshold=-1), "threshold: expected"),
        (lambda o: lr_scheduler.ReduceLROnPlateau(o, eps=float("nan")), "eps: expected a number"),
        (lambda o: lr_scheduler.ReduceLROnPlateau(o, min_lr=[0.1, "x"]), "min_lr: expected a num"),
        (lambda o: lr_scheduler.StepLR(o, 2, gamma=-0.5), "gamma: expected a number >= 0"),
        (lambda o: lr_scheduler.MultiStepLR(o, [2], gamma="x"), "gamma: expected a number"),
        (lambda o: lr_scheduler.ExponentialLR(o, float("nan")), "gamma: expected a number"),
        (lambda o: lr_scheduler.CosineAnnealingLR(o, 2, -1e-3), "eta_min: expected a number"),
        (lambda o: lr_scheduler.CosineAnnealingWarmRestarts(o, 2, 1, "x"), "eta_min: expected a n"),
        (lambda o: lr_scheduler.SequentialLR(o, [], []), "milestones: expected one between"),
        (
            lambda o: lr_scheduler.SequentialLR(o, [lr_scheduler.StepLR(o, 1)] * 3, [4, 4]),
            "milestones: expected them positive and rising",
        ),
        (
            lambda o: lr_scheduler.SequentialLR(o, [lr_scheduler.StepLR(make_optimizer(), 1)], []),
            r"schedulers\[0\]: expected the same optimizer",
        ),
    ],
)
def test_impossible_options(make, message):
    with pytest.raises(ArgumentError, match=message):
        make(make_optimizer())


def test_wrong_types():
    with pytest.raises(TypeError, match="expected an Optimizer, got float"):
        lr_scheduler.StepLR(0.1, 3)
    optimizer = make_optimizer()
    plateau = lr_scheduler.ReduceLROnPlateau(optimizer)
    with pytest.raises(TypeError, match="function of the epoch, got ReduceLROnPlateau"):
        lr_scheduler.SequentialLR(optimizer, [plateau], [])


def test_loading_the_state_of_another_schedule():
    optimizer = make_optimizer()
    plateau = lr_scheduler.ReduceLROnPlateau(optimizer)
    with pytest.raises(ArgumentError, match=r"StepLR: expected a state_dict with \['last_epoch'\]"):
        lr_scheduler.StepLR(optimizer, 1).load_state_dict(plateau.state_dict())
    for name, value in (("cooldown_counter", "x"), ("num_bad_epochs", 1.5), ("best", None)):
        before = plateau.state_dict()
        with pytest.raises(ArgumentError, match=rf"ReduceLROnPlateau: {name}: expected an? "):
            plateau.load_state_dict({**before, "last_epoch": 7, name: value})
        assert plateau.state_dict() == before
