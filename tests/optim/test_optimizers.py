"""Optimisers: every step against PyTorch's, states that survive saving, and refusals."""

import copy
import json
import math
from pathlib import Path

import numpy as np
import pytest

import rnnkit as rk
from rnnkit import nn, optim
from rnnkit.errors import ArgumentError, BackendError, DTypeError, ShapeError
from rnnkit.module import Parameter

GOLDEN = np.load(Path(__file__).parents[1] / "golden" / "optim.npz")
CASES = json.loads(str(GOLDEN["cases"]))
IDS = [f"{case['class']}-{case['options']}" for case in CASES]
STEPS = len(GOLDEN["gradients0"])
NATIVE = [optim.SGD, optim.Adam, optim.AdamW, optim.RMSprop, optim.Adagrad]
CLASSES = [*NATIVE, optim.NAdam, optim.RAdam, optim.Adamax, optim.Adadelta]
FUSED = [n for n, case in enumerate(CASES) if getattr(optim, case["class"]) in NATIVE]


def start(dtype="float64"):
    return [Parameter(GOLDEN[f"start{k}"].astype(dtype)) for k in range(2)]


def last(op):
    """The path that the last such call took."""
    (decision,) = [each for each in rk.why() if each.op == op]
    return decision


def give_gradients(params, step):
    for k, param in enumerate(params):
        gradient = GOLDEN[f"gradients{k}"][step].astype(param.dtype)
        param.grad = rk.tensor(gradient)


def run(optimizer, params, steps):
    for step in steps:
        give_gradients(params, step)
        optimizer.step()


@pytest.mark.parametrize("dtype", ["float32", "float64"])
@pytest.mark.parametrize("number", range(len(CASES)), ids=IDS)
def test_every_step_is_pytorchs(number, dtype):
    case = CASES[number]
    params = start(dtype)
    optimizer = getattr(optim, case["class"])(params, **case["options"])
    # PyTorch's kernels fuse multiply and add, so single roundings differ and are carried along.
    tolerance = 8 * np.finfo(dtype).eps
    for step in range(STEPS):
        run(optimizer, params, [step])
        for k, param in enumerate(params):
            expected = GOLDEN[f"{number}/{dtype}/{k}"][step]
            np.testing.assert_allclose(param.data, expected, rtol=tolerance, atol=tolerance)


@pytest.mark.usefixtures("native")
@pytest.mark.parametrize("dtype", ["float32", "float64"])
@pytest.mark.parametrize("number", FUSED, ids=[IDS[number] for number in FUSED])
def test_both_paths_give_the_same_bits(number, dtype):
    case = CASES[number]
    results = []
    for path in ("python", "native"):
        params = start(dtype)
        optimizer = getattr(optim, case["class"])(params, **case["options"])
        with rk.backend(path):
            run(optimizer, params, range(STEPS))
        assert last(f"{case['class']} step").path == ("fused" if path == "native" else path)
        results.append(([param.data for param in params], optimizer.state_dict()))
    (arrays, saved), (others, twin) = results
    for array, other in zip(arrays, others, strict=True):
        np.testing.assert_array_equal(array, other)
    for index, state in saved["state"].items():
        assert state.keys() == twin["state"][index].keys()
        for name, value in state.items():
            np.testing.assert_array_equal(value, twin["state"][index][name])


@pytest.mark.usefixtures("native")
def test_paths_may_change_between_steps():
    params, others = start(), start()
    mixed, plain = optim.SGD(params, momentum=0.9), optim.SGD(others, momentum=0.9)
    for step in range(4):
        with rk.backend(("python", "native")[step % 2]):
            run(mixed, params, [step])
        run(plain, others, [step])
    np.testing.assert_array_equal(params[0].data, others[0].data)


@pytest.mark.usefixtures("native")
def test_arrays_that_are_not_contiguous_take_the_python_path():
    rows = np.asfortranarray(GOLDEN["start0"])
    param, plain = Parameter(rows[:, ::2]), Parameter(np.ascontiguousarray(rows[:, ::2]))
    param.data = np.asfortranarray(param.data)
    optimizers = [optim.Adam([each]) for each in (param, plain)]
    for optimizer, each in zip(optimizers, (param, plain), strict=True):
        each.grad = rk.ones(3, 2, dtype="float64")
        with rk.backend("auto"):
            optimizer.step()
        if each is param:
            assert last("Adam step").path == "python"
            assert "not contiguous" in last("Adam step").reason
            with rk.backend("native"), pytest.raises(BackendError, match="not contiguous"):
                optimizer.step()
    np.testing.assert_array_equal(param.data, plain.data)
    assert [optimizer.state[0]["step"] for optimizer in optimizers] == [1, 1]


def test_parameters_of_both_dtypes_in_one_group():
    params = [*start("float32"), *start("float64")]
    optimizer = optim.AdamW(params, lr=0.1)
    twins = [start("float32"), start("float64")]
    alone = [optim.AdamW(twin, lr=0.1) for twin in twins]
    for step in range(3):
        give_gradients(params[:2], step)
        give_gradients(params[2:], step)
        optimizer.step()
        for twin, each in zip(alone, twins, strict=True):
            run(twin, each, [step])
    for param, twin in zip(params, [*twins[0], *twins[1]], strict=True):
        np.testing.assert_array_equal(param.data, twin.data)


def test_an_optimizer_with_an_update_of_its_own_does_not_run_its_bases_kernel():
    class Sign(optim.SGD):
        def _update(self, data, grad, state, group):
            data -= group["lr"] * np.sign(grad)

    params = start()
    optimizer = Sign(params, lr=0.5)
    give_gradients(params, 0)
    with rk.backend("auto"):
        optimizer.step()
    expected = GOLDEN["start0"] - 0.5 * np.sign(GOLDEN["gradients0"][0])
    np.testing.assert_array_equal(params[0].data, expected)
    assert "no kernel for Sign" in last("Sign step").reason


@pytest.mark.parametrize("number", range(len(CASES)), ids=IDS)
def test_a_saved_optimizer_continues_with_the_same_bits(number):
    case = CASES[number]
    kind = getattr(optim, case["class"])
    params = start()
    optimizer = kind(params, **case["options"])
    run(optimizer, params, range(4))
    saved = optimizer.state_dict()
    twins = [Parameter(param.data.copy()) for param in params]
    twin = kind(twins, lr=123.0)
    twin.load_state_dict(saved)
    run(optimizer, params, range(4, 10))
    run(twin, twins, range(4, 10))
    for param, other in zip(params, twins, strict=True):
        np.testing.assert_array_equal(param.data, other.data)


@pytest.mark.parametrize("kind", CLASSES)
def test_a_state_dict_is_json_but_for_its_arrays(kind):
    params = start()
    optimizer = kind(params, lr=0.01)
    run(optimizer, params, range(3))
    saved = optimizer.state_dict()
    text = json.dumps(saved, default=lambda array: array.tolist())
    twins = [Parameter(param.data.copy()) for param in params]
    twin = kind(twins)
    twin.load_state_dict(json.loads(text))
    run(optimizer, params, [3])
    run(twin, twins, [3])
    for param, other in zip(params, twins, strict=True):
        np.testing.assert_array_equal(param.data, other.data)


def test_a_state_dict_shares_nothing_with_the_optimizer():
    params = start()
    optimizer = optim.Adam(params)
    run(optimizer, params, range(2))
    saved = optimizer.state_dict()
    kept = saved["state"][0]["exp_avg"].copy()
    run(optimizer, params, [2])
    np.testing.assert_array_equal(saved["state"][0]["exp_avg"], kept)
    other = optim.Adam(start())
    other.load_state_dict(saved)
    saved["state"][0]["exp_avg"][...] = 0
    np.testing.assert_array_equal(other.state[0]["exp_avg"], kept)


@pytest.mark.parametrize("kind", CLASSES)
def test_parameters_without_a_gradient_stay_and_do_not_count_steps(kind):
    params = start()
    optimizer = kind(params, lr=0.01)
    give_gradients(params, 0)
    params[1].grad = None
    optimizer.step()
    np.testing.assert_array_equal(params[1].data, GOLDEN["start1"])
    assert 1 not in optimizer.state_dict()["state"]

    late = start()
    fresh = kind(late, lr=0.01)
    run(fresh, late, [0])
    give_gradients(params, 0)
    optimizer.step()
    np.testing.assert_array_equal(params[1].data, late[1].data)


@pytest.mark.parametrize("kind", CLASSES)
def test_step_writes_into_the_parameters_array_and_reads_the_gradient_only(kind):
    params = start()
    arrays = [param.data for param in params]
    optimizer = kind(params, lr=0.1, weight_decay=0.1)
    give_gradients(params, 0)
    gradients = [param.grad.data.copy() for param in params]
    optimizer.step()
    for param, array, gradient in zip(params, arrays, gradients, strict=True):
        assert param.data is array
        np.testing.assert_array_equal(param.grad.data, gradient)


@pytest.mark.parametrize("kind", CLASSES)
def test_a_step_after_the_first_allocates_no_array(kind):
    import tracemalloc

    param = Parameter(np.zeros(100_000, np.float32))
    options = {"momentum": 0.9} if kind in (optim.SGD, optim.RMSprop) else {}
    optimizer = kind([param], lr=0.1, weight_decay=0.1, **options)
    param.grad = rk.tensor(np.ones(100_000, np.float32))
    optimizer.step()
    tracemalloc.start()
    optimizer.step()
    _, peak = tracemalloc.get_traced_memory()
    tracemalloc.stop()
    assert peak < param.data.nbytes / 4


def test_scratch_serves_parameters_of_any_order_of_size_and_0_d():
    shapes = [(2,), (5, 3), (), (0, 4), (3, 3)]
    together = [Parameter(np.ones(shape)) for shape in shapes]
    optimizer = optim.Adam(together, lr=0.1)
    for step in range(3):
        for param in together:
            param.grad = rk.tensor(np.full(param.shape, 1.0 + step))
        optimizer.step()
    alone = Parameter(np.ones(()))
    single = optim.Adam([alone], lr=0.1)
    for step in range(3):
        alone.grad = rk.tensor(np.full((), 1.0 + step))
        single.step()
    for param in together:
        np.testing.assert_array_equal(param.data, np.full(param.shape, alone.data))


def test_group_options_override_the_defaults():
    slow, fast = start()
    optimizer = optim.SGD([{"params": [slow]}, {"params": fast, "lr": 0.5}], lr=0.1)
    give_gradients([slow, fast], 0)
    optimizer.step()
    np.testing.assert_allclose(slow.data, GOLDEN["start0"] - 0.1 * GOLDEN["gradients0"][0])
    np.testing.assert_allclose(fast.data, GOLDEN["start1"] - 0.5 * GOLDEN["gradients1"][0])


def test_a_generator_of_parameters_is_taken():
    params = start()
    optimizer = optim.SGD((param for param in params), lr=0.1)
    assert optimizer.param_groups[0]["params"] == params


@pytest.mark.parametrize("set_to_none", [True, False])
def test_zero_grad(set_to_none):
    params = start()
    give_gradients(params[:1], 0)
    before = params[0].grad.data
    kept = before.copy()
    optim.SGD(params).zero_grad(set_to_none)
    if set_to_none:
        assert params[0].grad is None
    else:
        np.testing.assert_array_equal(params[0].grad.data, np.zeros((3, 4)))
        np.testing.assert_array_equal(before, kept)
    assert params[1].grad is None


def test_the_state_follows_a_change_of_dtype():
    params = start("float32")
    optimizer = optim.Adam(params)
    run(optimizer, params, [0])
    for param in params:
        param.grad = None
        param.data = param.data.astype(np.float64)
    run(optimizer, params, [1])
    assert optimizer.state[0]["exp_avg"].dtype == np.float64
    assert params[0].dtype == np.float64


def test_a_deep_copy_goes_its_own_way():
    params = start()
    optimizer = optim.Adam(params)
    run(optimizer, params, [0])
    twin, twins = copy.deepcopy((optimizer, params))
    before = params[0].data.copy()
    run(twin, twins, [1])
    np.testing.assert_array_equal(params[0].data, before)
    run(optimizer, params, [1])
    np.testing.assert_array_equal(params[0].data, twins[0].data)


def test_steady_gradients_keep_centered_rmsprop_finite():
    param = Parameter(np.ones(64, np.float32))
    optimizer = optim.RMSprop([param], centered=True, alpha=0.5)
    for _ in range(100):
        param.grad = rk.tensor(np.linspace(0.1, 7, 64).astype(np.float32))
        optimizer.step()
    assert np.isfinite(param.data).all()


def test_non_finite_gradients_go_through_without_a_warning():
    param = Parameter(np.ones(3))
    optimizer = optim.Adam([param])
    param.grad = rk.tensor(np.array([1.0, np.inf, np.nan]))
    optimizer.step()
    assert np.isfinite(param.data[0])
    assert np.isnan(param.data[1:]).all()


@pytest.mark.parametrize("wrong", ["half", -0.5, float("nan"), None, 10**400])
def test_numbers_of_a_state_are_checked(wrong):
    params = start()
    optimizer = optim.NAdam(params)
    run(optimizer, params, range(2))
    saved = optimizer.state_dict()
    expected = 0.9**2 * (1 - 0.5 * 0.96**0.004) * (1 - 0.5 * 0.96**0.008)
    assert saved["state"][0]["mu_product"] == pytest.approx(expected, rel=1e-14)
    saved["state"][1]["mu_product"] = wrong
    with pytest.raises(ArgumentError, match="state 1: mu_product: expected a number"):
        optimizer.load_state_dict(saved)


@pytest.mark.usefixtures("native")
def test_an_optimizer_without_a_kernel_says_so():
    params = start()
    optimizer = optim.NAdam(params)
    give_gradients(params, 0)
    with rk.backend("native"), pytest.raises(BackendError, match="no kernel for NAdam"):
        optimizer.step()
    with rk.backend("auto"):
        optimizer.step()
    assert last("NAdam step").path == "python"


# -- refusals --------------------------------------------------------------------------------


@pytest.mark.parametrize("kind", CLASSES)
@pytest.mark.parametrize("value", [-0.1, float("nan"), "fast", None])
def test_impossible_learning_rates(kind, value):
    with pytest.raises(ArgumentError, match=r"lr: expected a number >= 0 and < inf, got"):
        kind(start(), lr=value)


@pytest.mark.parametrize("kind", [*CLASSES, optim.LBFGS])
def test_no_number_among_the_options_is_infinite(kind):
    """It would make NaN of the parameters, or nothing at all, without a word."""
    for name, value in kind(start()).defaults.items():
        options = {"betas": (math.inf, 0.5)} if name == "betas" else {name: math.inf}
        if name == "betas" or type(value) is float:
            with pytest.raises(ArgumentError, match=rf"^{name}(\[0\])?: expected a .*got inf"):
                kind(start(), **options)


@pytest.mark.parametrize(
    ("kind", "options", "message"),
    [
        (optim.SGD, {"momentum": -1}, "momentum: expected"),
        (optim.SGD, {"nesterov": True}, "nesterov: expected momentum > 0"),
        (optim.SGD, {"nesterov": True, "momentum": 0.9, "dampening": 0.1}, "dampening 0.1"),
        (optim.SGD, {"nesterov": "no", "momentum": 0.9}, "nesterov: expected a bool, got 'no'"),
        (optim.SGD, {"momentum": 0.9, "dampening": "0.1"}, "dampening: expected a finite number"),
        (optim.RMSprop, {"centered": "no"}, "centered: expected a bool, got 'no'"),
        (optim.Adam, {"betas": (1.0, 0.9)}, r"betas\[0\]: expected a number >= 0 and < 1, got 1.0"),
        (optim.Adam, {"betas": (0.9, -0.1)}, r"betas\[1\]: expected"),
        (optim.Adam, {"betas": 0.9}, "betas: expected a pair"),
        (optim.AdamW, {"eps": -1e-8}, "eps: expected"),
        (optim.RMSprop, {"alpha": -0.5}, "alpha: expected"),
        (optim.NAdam, {"momentum_decay": -1}, "momentum_decay: expected a number >= 0"),
        (optim.NAdam, {"decoupled_weight_decay": 1}, "decoupled_weight_decay: expected a bool"),
        (optim.RAdam, {"decoupled_weight_decay": 1}, "decoupled_weight_decay: expected a bool"),
        (optim.RAdam, {"betas": (0.9, 1.0)}, r"betas\[1\]: expected"),
        (optim.Adamax, {"eps": -1e-8}, "eps: expected"),
        (optim.Adadelta, {"rho": 1.5}, "rho: expected a number >= 0 and <= 1, got 1.5"),
        (optim.Adagrad, {"initial_accumulator_value": -1}, "initial_accumulator_value: expected"),
    ],
)
def test_impossible_options(kind, options, message):
    with pytest.raises(ArgumentError, match=message):
        kind(start(), **options)


def test_what_is_not_a_list_of_parameters():
    with pytest.raises(TypeError, match="got a single Tensor"):
        optim.SGD(start()[0])
    for module in (nn.Linear(2, 2), nn.Sequential(nn.Linear(2, 2))):
        with pytest.raises(TypeError, match=r"such as module.parameters\(\), got the module: "):
            optim.SGD(module)
    with pytest.raises(ArgumentError, match="at least one parameter"):
        optim.SGD([])
    with pytest.raises(TypeError, match=r"params\[1\]: expected a Tensor, got ndarray"):
        optim.SGD([start()[0], np.zeros(3)])
    param = start()[0]
    with pytest.raises(ArgumentError, match=r"params\[1\] is given to the optimizer twice"):
        optim.SGD([param, param])
    with pytest.raises(ArgumentError, match="twice"):
        optim.SGD([{"params": [param]}, {"params": [param]}])
    with pytest.raises(ArgumentError, match="expected a leaf"):
        optim.SGD([param * 2])
    with pytest.raises(ArgumentError, match="expected float32 or float64, got int64"):
        optim.SGD([rk.tensor(np.arange(3))])
    with pytest.raises(ArgumentError, match="unknown option 'momentun'; expected lr, momentum"):
        optim.SGD([{"params": [param], "momentun": 0.9}])
    with pytest.raises(TypeError, match="the key 'params'"):
        optim.SGD([{"lr": 0.1}])


def test_numbers_of_numpy_become_plain_ones():
    params = start()
    betas = np.float32(0.25), np.float64(0.5)
    optimizer = optim.Adam(params, lr=np.float32(0.5), betas=betas)
    optimizer.add_param_group({"params": start()[0], "lr": np.int64(1)})
    for group in optimizer.param_groups:
        assert type(group["lr"]) in (int, float)
    saved = json.loads(json.dumps(optimizer.state_dict()))
    assert saved["param_groups"][0]["betas"] == [0.25, 0.5]
    saved["param_groups"][1]["lr"] = np.float32(0.25)
    optimizer.load_state_dict(saved)
    assert type(optimizer.param_groups[1]["lr"]) is float


@pytest.mark.parametrize("lr", [rk.tensor(0.5), np.array([0.5]), np.array(0.5)])
def test_options_that_could_change_from_outside_are_refused(lr):
    with pytest.raises(ArgumentError, match="lr: expected a plain value, got"):
        optim.SGD(start(), lr=lr)
    optimizer = optim.SGD(start(), lr=0.25)
    saved = optimizer.state_dict()
    saved["param_groups"][0]["lr"] = lr
    with pytest.raises(ArgumentError, match="lr: expected a plain value, got"):
        optimizer.load_state_dict(saved)
    assert optimizer.param_groups[0]["lr"] == 0.25


def test_a_closure_is_called_with_gradients_recorded():
    param = rk.ones(2, requires_grad=True)
    optimizer = optim.SGD([param], lr=0.5)

    def closure():
        optimizer.zero_grad()
        loss = (param * param).sum()
        loss.backward()
        return loss

    with rk.no_grad():
        assert optimizer.step(closure).item() == 2.0
    assert param.tolist() == [0.0, 0.0]


@pytest.mark.usefixtures("path")
@pytest.mark.parametrize("kind", [*NATIVE, optim.LBFGS])
def test_a_step_of_frozen_parameters_is_refused_and_changes_nothing(kind):
    first, second = rk.nn.Linear(3, 2), rk.nn.Linear(2, 1)
    groups = [{"params": list(each.parameters())} for each in (first, second)]
    one_group = [*first.parameters(), *second.parameters()]
    optimizer = kind(one_group if kind is optim.LBFGS else groups)
    second.freeze()

    def closure():
        optimizer.zero_grad()
        loss = second(first(rk.ones(4, 3))).sum()
        loss.backward()
        return loss

    before = copy.deepcopy(one_group)
    with pytest.raises(ArgumentError, match=r"params\[2\]: it is read-only"):
        optimizer.step(closure)
    assert optimizer.state_dict()["state"] == {}
    for param, values in zip(one_group, before, strict=True):
        assert param.tolist() == values.tolist()
    second.unfreeze()
    optimizer.step(closure)


@pytest.mark.usefixtures("path")
@pytest.mark.parametrize(
    ("array", "error"),
    [(np.zeros((2, 3), np.float32), ShapeError), (np.zeros(3), DTypeError)],
)
def test_a_gradient_of_what_the_parameter_was_is_refused(array, error):
    parameters = Parameter(np.ones(2, np.float32)), Parameter(np.zeros(3, np.float32))
    for each in parameters:
        each.grad = rk.tensor(np.ones(each.shape, np.float32))
    parameters[1].data = array
    with pytest.raises(error, match=r"params\[1\]\.grad: expected"):
        optim.SGD(parameters, lr=0.1).step()
    np.testing.assert_array_equal(parameters[0].data, 1)


def test_the_state_of_no_numbers_goes_through_json():
    parameter = Parameter(np.zeros((0, 2)))
    optimizer = optim.Adam([parameter])
    parameter.grad = rk.tensor(np.zeros((0, 2)))
    optimizer.step()
    text = json.dumps(optimizer.state_dict(), default=lambda array: array.tolist())
    other = optim.Adam([parameter])
    other.load_state_dict(json.loads(text))
    assert other.state[0]["exp_avg"].shape == (0, 2)


def test_loading_lists_everything_that_does_not_fit_and_changes_nothing():
    params = start()
    optimizer = optim.Adam(params, lr=0.1)
    run(optimizer, params, range(2))
    saved = optimizer.state_dict()
    del saved["state"][0]["exp_avg"]
    saved["state"][0]["velocity"] = np.zeros(3)
    saved["state"][1]["exp_avg_sq"] = np.zeros((5, 1))
    saved["state"][0]["step"] = 1.5
    saved["state"][1]["step"] = -1
    saved["state"][1]["exp_avg"] = [[1.0], [1.0, 2.0]]
    saved["state"][2] = {}
    saved["param_groups"][0]["lr"] = 0.7
    with pytest.raises(ArgumentError) as caught:
        optimizer.load_state_dict(saved)
    message = str(caught.value)
    assert "state 0: missing exp_avg" in message
    assert "state 0: unexpected velocity" in message
    assert "state 0: step: expected an integer of 0 or more, got 1.5" in message
    assert "state 1: exp_avg_sq: expected a real array of shape (5,), got float64 (5, 1)" in message
    assert "state 1: step: expected an integer of 0 or more, got -1" in message
    assert "state 1: exp_avg: expected a rectangular array of numbers" in message
    assert "state 2: there are 2 parameters" in message
    assert optimizer.param_groups[0]["lr"] == 0.1
    assert optimizer.state[0]["step"] == 2


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (lambda s: None, "state_dict: expected the keys"),
        (lambda s: {**s, "param_groups": None}, "param_groups: expected a list of dicts"),
        (lambda s: {**s, "param_groups": [None]}, "param_groups: expected a list of dicts"),
        (
            lambda s: {**s, "param_groups": [{**s["param_groups"][0], "params": 2}]},
            "param_groups: expected a list of dicts",
        ),
        (lambda s: {**s, "state": [1]}, "state: expected a dict by index"),
        (lambda s: {**s, "state": {"x": {}}}, "state: expected each index from 0 on once, got 'x'"),
        (lambda s: {**s, "state": {0: s["state"][0], "0": s["state"][1]}}, "once, got '0'"),
        (lambda s: {**s, "state": {0: None}}, "state 0: expected a dict, got None"),
    ],
)
@pytest.mark.parametrize("kind", [optim.Adam, optim.LBFGS])
def test_what_is_no_state_dict_is_refused_by_its_place(kind, change, message):
    params = start()
    optimizer = kind(params, lr=0.1)
    for param in params:
        param.grad = rk.tensor(np.ones(param.shape))
    optimizer.step(lambda: 1.0)
    before = optimizer.state_dict()
    wrong = change({**before, "state": {0: before["state"][0], 1: before["state"].get(1, {})}})
    with pytest.raises(ArgumentError, match=message):
        optimizer.load_state_dict(wrong)
    assert repr(optimizer.state_dict()) == repr(before)


def test_loading_refuses_other_groups_and_the_state_of_another_optimizer():
    params = start()
    optimizer = optim.Adam(params)
    with pytest.raises(ArgumentError, match="expected 1 param groups, got 2"):
        optimizer.load_state_dict(
            optim.Adam([{"params": [param]} for param in start()]).state_dict()
        )
    with pytest.raises(ArgumentError, match="group 0: expected 2 parameters, got 1"):
        optimizer.load_state_dict(optim.Adam(start()[:1]).state_dict())
    with pytest.raises(ArgumentError, match=r"missing betas(?s:.*)unexpected momentum"):
        optimizer.load_state_dict(optim.SGD(start()).state_dict())
    with pytest.raises(ArgumentError, match=r"expected the keys 'state' and .*, got \['lr'\]"):
        optimizer.load_state_dict({"lr": 0.1})
    saved = optimizer.state_dict()
    saved["param_groups"][0]["lr"] = -1
    with pytest.raises(ArgumentError, match="lr: expected"):
        optimizer.load_state_dict(saved)


def test_repr_shows_the_groups():
    text = repr(optim.SGD(start(), lr=0.25))
    assert "SGD(" in text
    assert "group 0: 2 parameters, lr=0.25, momentum=0.0" in text


@pytest.mark.parametrize("params", [None, 3, "x"])
def test_what_holds_no_parameters_is_refused_by_name(params):
    with pytest.raises(TypeError, match=r"^params: expected an iterable of Tensors"):
        optim.SGD(params, lr=0.1)


@pytest.mark.parametrize("value", [None, "x", 2.5])
def test_a_number_of_iterations_of_another_kind_is_refused_by_name(value):
    with pytest.raises(ArgumentError, match=r"^max_iter: expected an int"):
        optim.LBFGS([rk.Parameter([1.0])], max_iter=value)


@pytest.mark.parametrize("params", [None, 3, "x"])
def test_a_group_that_holds_no_parameters_is_refused_by_name(params):
    with pytest.raises(ArgumentError, match=r"^params: expected a Tensor or several, got"):
        optim.SGD([{"params": params}])


@pytest.mark.parametrize("cls", CLASSES)
@pytest.mark.parametrize("shape", [(3,), (2, 1)])
def test_a_parameter_of_another_shape_than_its_state_is_refused(cls, shape):
    param = Parameter([1.0, 2.0])
    optimizer = cls([param], **({"momentum": 0.9} if cls is optim.SGD else {}))
    param.grad = rk.ones(2)
    optimizer.step()
    before = copy.deepcopy(optimizer.state)
    param.data, param.grad = np.ones(shape, np.float32), None
    param.grad = rk.ones(shape)
    with pytest.raises(ShapeError, match=r"^params\[0\]: expected shape \(2,\), as its \w+ has"):
        optimizer.step()
    np.testing.assert_array_equal(param.data, np.ones(shape))
    np.testing.assert_equal(optimizer.state, before)
