"""LBFGS: PyTorch's iterates, minima that are found, its line search, saving, refusals."""

import json
import math
from pathlib import Path

import numpy as np
import pytest

import rnnkit as rk
from rnnkit import losses, nn, optim
from rnnkit.errors import ArgumentError
from rnnkit.module import Parameter
from rnnkit.optim.line_search import C1, C2, Point, cubic_minimum, strong_wolfe

GOLDEN = np.load(Path(__file__).parents[1] / "golden" / "lbfgs.npz")
CASES = json.loads(str(GOLDEN["cases"]))
IDS = [str(case["options"]) for case in CASES]


def rosenbrock(x):
    return ((1 - x[:-1]) ** 2 + 100 * (x[1:] - x[:-1] ** 2) ** 2).sum()


def start(dtype="float64"):
    values = GOLDEN["start"].astype(dtype)
    return [Parameter(values[:2].copy()), Parameter(values[2:].copy())]


def closure_of(params, optimizer, loss=lambda params: rosenbrock(rk.cat(params))):
    def closure():
        optimizer.zero_grad()
        value = loss(params)
        value.backward()
        return value

    return closure


def place_of(params):
    return np.concatenate([param.data for param in params])


@pytest.mark.parametrize("number", range(len(CASES)), ids=IDS)
def test_every_step_is_pytorchs(number):
    params = start()
    optimizer = optim.LBFGS(params, **CASES[number]["options"])
    closure = closure_of(params, optimizer)
    # Rounding grows on the way to the minimum: iterates are many, and each follows from the last.
    for step, expected in enumerate(GOLDEN[f"{number}/places"]):
        loss = optimizer.step(closure)
        tolerance = 1e-10 if step == 0 else 1e-6
        np.testing.assert_allclose(place_of(params), expected, rtol=tolerance, atol=tolerance)
        expected_loss = GOLDEN[f"{number}/losses"][step]
        np.testing.assert_allclose(loss.item(), expected_loss, rtol=1e-4, atol=1e-9)
    state = optimizer.state[0]
    assert [state["n_iter"], state["func_evals"]] == GOLDEN[f"{number}/counts"].tolist()


@pytest.mark.parametrize("dtype", ["float32", "float64"])
@pytest.mark.parametrize("line_search_fn", [None, "strong_wolfe"])
def test_it_finds_the_minimum_of_rosenbrocks_valley(line_search_fn, dtype):
    params = [Parameter(np.array([-1.2, 1.0], dtype))]
    options = {"lr": 1.0 if line_search_fn else 0.1, "line_search_fn": line_search_fn}
    optimizer = optim.LBFGS(params, max_iter=400, **options)
    optimizer.step(closure_of(params, optimizer))
    assert params[0].dtype == dtype
    np.testing.assert_allclose(params[0].data, 1, atol=1e-3)


def test_a_quadratic_of_n_axes_takes_about_n_iterations():
    random = np.random.default_rng(0)
    matrix = random.normal(size=(6, 6))
    matrix = rk.tensor(matrix @ matrix.T + np.eye(6))
    param = Parameter(random.normal(size=6))
    optimizer = optim.LBFGS([param], max_iter=12, line_search_fn="strong_wolfe")

    def loss(params):
        return 0.5 * (params[0] * (matrix @ params[0])).sum()

    optimizer.step(closure_of([param], optimizer, loss))
    np.testing.assert_allclose(param.data, 0, atol=1e-3)


def test_it_trains_a_network():
    random = np.random.default_rng(0)
    x = random.normal(size=(7, 10, 3)).astype(np.float32)
    target = x.sum((0, 2), keepdims=True)[0] / 5
    rnn, head = nn.GRU(3, 4), nn.Linear(4, 1)
    params = [*rnn.parameters(), *head.parameters()]
    optimizer = optim.LBFGS(params, max_iter=30, line_search_fn="strong_wolfe")

    def loss(_):
        return losses.mse(head(rnn(x, return_sequences=False)[0]), target)

    closure = closure_of(params, optimizer, loss)
    first = optimizer.step(closure).item()
    assert loss(None).item() < 0.05 * first


def test_parameters_without_a_gradient_stay():
    params = [Parameter(np.array([-1.2, 1.0])), Parameter(np.ones(3))]
    optimizer = optim.LBFGS(params, line_search_fn="strong_wolfe")
    optimizer.step(closure_of(params, optimizer, lambda params: rosenbrock(params[0])))
    assert (params[0].data != [-1.2, 1.0]).all()
    np.testing.assert_array_equal(params[1].data, np.ones(3))


def test_it_stops_at_a_minimum_after_one_look():
    param = Parameter(np.ones(4))
    optimizer = optim.LBFGS([param])
    loss = optimizer.step(closure_of([param], optimizer, lambda params: rosenbrock(params[0])))
    assert loss.item() == 0
    assert optimizer.state[0]["func_evals"] == 1
    assert optimizer.state[0]["n_iter"] == 0


def test_max_eval_bounds_the_calls():
    params = start()
    optimizer = optim.LBFGS(params, lr=0.01, max_eval=7)
    optimizer.step(closure_of(params, optimizer))
    assert optimizer.state[0]["func_evals"] == 7
    for max_eval in (2, 3, 12):
        optimizer = optim.LBFGS(start(), max_eval=max_eval, line_search_fn="strong_wolfe")
        params = optimizer.param_groups[0]["params"]
        first = optimizer.step(closure_of(params, optimizer)).item()
        assert optimizer.state[0]["func_evals"] == max_eval
        assert rosenbrock(rk.cat(params)).item() < first
    assert optim.LBFGS(params, max_iter=8).param_groups[0]["max_eval"] == 10


def test_the_closure_is_called_with_gradients_recorded():
    params = start()
    optimizer = optim.LBFGS(params)
    with rk.no_grad():
        optimizer.step(closure_of(params, optimizer))
    assert (place_of(params) != GOLDEN["start"]).all()


@pytest.mark.parametrize("line_search_fn", [None, "strong_wolfe"])
def test_a_learning_rate_of_zero_changes_nothing(line_search_fn):
    params = start()
    optimizer = optim.LBFGS(params, lr=0.0, line_search_fn=line_search_fn)
    for _ in range(2):
        optimizer.step(closure_of(params, optimizer))
    np.testing.assert_array_equal(place_of(params), GOLDEN["start"])
    optimizer.param_groups[0]["lr"] = 1e-3
    optimizer.step(closure_of(params, optimizer))
    assert np.isfinite(place_of(params)).all()
    assert (place_of(params) != GOLDEN["start"]).all()


@pytest.mark.parametrize("value", [math.nan, math.inf])
def test_a_loss_that_is_not_finite_changes_nothing(value):
    params = start()
    optimizer = optim.LBFGS(params, line_search_fn="strong_wolfe")
    optimizer.step(closure_of(params, optimizer))
    before = place_of(params)
    loss = optimizer.step(
        closure_of(params, optimizer, lambda params: rosenbrock(rk.cat(params)) * value)
    )
    assert not math.isfinite(loss.item())
    np.testing.assert_array_equal(place_of(params), before)


def test_the_line_search_comes_back_from_where_the_loss_is_not_a_number():
    """log x has none below 0, where the first step of length lr leads."""
    param = Parameter(np.array([0.5]))
    optimizer = optim.LBFGS([param], lr=20.0, line_search_fn="strong_wolfe", max_iter=40)

    def loss(params):
        return (params[0] - 3 * params[0].log()).sum()

    optimizer.step(closure_of([param], optimizer, loss))
    np.testing.assert_allclose(param.data, 3, rtol=1e-4)


# -- the line search -------------------------------------------------------------------------

CURVES = {
    "far": (lambda t: (t - 40) ** 2, lambda t: 2 * (t - 40)),
    "near": (lambda t: (t - 1e-3) ** 2, lambda t: 2 * (t - 1e-3)),
    "quartic": (lambda t: (t - 2) ** 4 - t, lambda t: 4 * (t - 2) ** 3 - 1),
    "waves": (
        lambda t: -t - 0.5 * math.sin(5 * t) + 0.01 * t**2,
        lambda t: -1 - 2.5 * math.cos(5 * t) + 0.02 * t,
    ),
    "wall": (
        lambda t: -math.sqrt(t + 1) if t < 3 else math.inf,
        lambda t: -0.5 / math.sqrt(t + 1) if t < 3 else math.nan,
    ),
    "kink": (lambda t: max(-t, 10 * t - 3.3), lambda t: -1 if t < 0.3 else 10),
}


def search(name, t, tolerance=1e-12, most=25):
    f, slope = CURVES[name]
    calls = []

    def evaluate(t):
        calls.append(t)
        return Point(t, f(t), slope(t), np.zeros(1))

    begin = evaluate(0.0)
    return begin, strong_wolfe(evaluate, begin, t, tolerance, most), calls


@pytest.mark.parametrize("t", [1e-4, 0.3, 1.0, 30.0])
@pytest.mark.parametrize("name", ["far", "near", "quartic"])
def test_both_conditions_hold(name, t):
    begin, point, calls = search(name, t)
    assert point.loss <= begin.loss + C1 * point.t * begin.slope
    assert abs(point.slope) <= -C2 * begin.slope
    assert len(calls) < 12
    assert point.t in calls


@pytest.mark.parametrize("name", ["waves", "wall"])
@pytest.mark.parametrize("t", [0.3, 1.0, 30.0])
def test_what_is_found_is_lower_whatever_the_curve(name, t):
    """Many minima, and a wall behind which there is no loss."""
    begin, point, calls = search(name, t)
    assert point.loss <= begin.loss + C1 * point.t * begin.slope
    assert point.t > 0
    assert len(calls) <= 26


@pytest.mark.parametrize(("tolerance", "most", "calls"), [(0.0, 5, 5), (0.3, 25, 7)])
def test_where_no_place_is_flat_the_best_is_taken_in_the_end(tolerance, most, calls):
    """When the calls are spent, or the bracket is narrow."""
    begin, point, tried = search("kink", 1.0, tolerance, most)
    assert len(tried) == calls + 1
    assert point.loss == min(CURVES["kink"][0](t) for t in tried) < begin.loss
    assert point.t in tried


def test_parameters_are_left_where_the_search_ended_not_where_it_looked_last():
    param = Parameter(np.zeros(1))
    optimizer = optim.LBFGS([param], max_iter=1, max_eval=8, line_search_fn="strong_wolfe")
    tried = []

    def kink(_):
        tried.append(param.data.item())
        return rk.maximum(-param, 10 * param - 3.3).sum()

    optimizer.step(closure_of([param], optimizer, kink))
    found = param.data.item()
    assert found in tried[:-1]
    assert found == optimizer.state[0]["t"]  # along a direction of 1
    assert max(-found, 10 * found - 3.3) < 0


@pytest.mark.parametrize("name", CURVES)
@pytest.mark.parametrize("most", [1, 2, 3, 5])
def test_no_more_calls_than_were_granted(name, most):
    spent = [len(search(name, t, 0.0, most)[2]) - 1 for t in (1e-4, 0.3, 30.0, 300.0)]
    assert max(spent) <= most
    assert min(spent) >= 1


def test_the_minimum_of_a_cubic():
    """t^3 - 3 t has its minimum at 1."""

    def point(t):
        return Point(t, t**3 - 3 * t, 3 * t * t - 3, np.zeros(1))

    for a, b in ((0.0, 3.0), (3.0, 0.0), (0.5, 1.2)):
        assert cubic_minimum(point(a), point(b), 0.0, 3.0) == pytest.approx(1)
    assert cubic_minimum(point(0.0), point(3.0), 1.5, 3.0) == 1.5
    bad = Point(3.0, math.nan, math.nan, np.zeros(1))
    assert cubic_minimum(point(0.0), bad, 0.0, 3.0) == 1.5
    flat = Point(1.0, 0.0, 0.0, np.zeros(1))
    assert cubic_minimum(flat._replace(t=0.0), flat, 0.0, 1.0) == 0.5


# -- saving ----------------------------------------------------------------------------------


@pytest.mark.parametrize("through_json", [True, False])
@pytest.mark.parametrize("steps", [0, 1, 3])
@pytest.mark.parametrize("options", [{}, {"line_search_fn": "strong_wolfe", "history_size": 4}])
def test_a_saved_optimizer_continues_with_the_same_bits(options, steps, through_json):
    params = start()
    optimizer = optim.LBFGS(params, lr=0.3, max_iter=3, **options)
    closure = closure_of(params, optimizer)
    for _ in range(steps):
        optimizer.step(closure)
    saved = optimizer.state_dict()
    if through_json:
        saved = json.loads(json.dumps(saved, default=lambda array: array.tolist()))
    twins = [Parameter(param.data.copy()) for param in params]
    twin = optim.LBFGS(twins)
    twin.load_state_dict(saved)
    for _ in range(3):
        optimizer.step(closure)
        twin.step(closure_of(twins, twin))
    np.testing.assert_array_equal(place_of(params), place_of(twins))
    assert twin.state[0]["func_evals"] == optimizer.state[0]["func_evals"]


def test_a_saved_state_shares_nothing_and_may_have_no_pair_yet():
    params = start()
    optimizer = optim.LBFGS(params, max_iter=1)
    optimizer.step(closure_of(params, optimizer))
    saved = json.loads(json.dumps(optimizer.state_dict(), default=lambda array: array.tolist()))
    assert saved["state"]["0"]["old_dirs"] == []
    twin = optim.LBFGS(start())
    twin.load_state_dict(saved)
    assert twin.state[0]["old_dirs"].shape == (0, 5)
    kept = optimizer.state_dict()
    copy = kept["state"][0]["d"].copy()
    optimizer.step(closure_of(params, optimizer))
    np.testing.assert_array_equal(kept["state"][0]["d"], copy)


def test_a_shorter_history_keeps_the_newest_pairs():
    params = start()
    optimizer = optim.LBFGS(params, max_iter=6, lr=0.1)
    closure = closure_of(params, optimizer)
    optimizer.step(closure)
    newest = optimizer.state[0]["old_stps"][-1].copy()
    optimizer.param_groups[0]["history_size"] = 2
    optimizer.param_groups[0]["max_iter"] = 1
    optimizer.step(closure)
    assert optimizer.state[0]["old_stps"].shape == (2, 5)
    np.testing.assert_array_equal(optimizer.state[0]["old_stps"][0], newest)


def test_the_state_follows_a_change_of_dtype():
    params = start("float32")
    optimizer = optim.LBFGS(params, max_iter=4)
    optimizer.step(closure_of(params, optimizer))
    for param in params:
        param.grad = None
        param.data = param.data.astype(np.float64)
    optimizer.step(closure_of(params, optimizer))
    assert optimizer.state[0]["old_dirs"].dtype == np.float64
    assert params[0].dtype == np.float64


def test_loading_lists_everything_that_does_not_fit_and_changes_nothing():
    params = start()
    optimizer = optim.LBFGS(params, max_iter=4)
    optimizer.step(closure_of(params, optimizer))
    before = optimizer.state[0]["d"]
    saved = optimizer.state_dict()
    saved["state"][0]["old_dirs"] = np.zeros((3, 4))
    saved["state"][0]["n_iter"] = math.inf
    saved["state"][0]["func_evals"] = 10**400
    saved["state"][0]["t"] = "far"
    saved["state"][0]["H_diag"] = None
    saved["state"][0]["d"] = [[1.0], [1.0, 2.0]]
    saved["state"][1] = {}
    with pytest.raises(ArgumentError) as caught:
        optimizer.load_state_dict(saved)
    assert "state 0: old_dirs: expected a real array of shape (3, 5)" in str(caught.value)
    assert "state 0: n_iter: expected an integer of 0 or more, got inf" in str(caught.value)
    assert "state 0: func_evals: expected an integer of 0 or more, got 1000" in str(caught.value)
    assert "state 0: t: expected a number > -inf and < inf, got 'far'" in str(caught.value)
    assert "state 0: H_diag: expected a number > -inf and < inf, got None" in str(caught.value)
    assert "state 0: d: expected a rectangular array of numbers" in str(caught.value)
    assert "state 1: expected all of it in state 0" in str(caught.value)
    saved = optimizer.state_dict()
    for wrong, said in (("no", r"real array of shape \(1,\)"), ([[1], [1, 2]], "rectangular")):
        saved["state"][0]["ro"] = wrong
        with pytest.raises(ArgumentError, match=rf"state 0: ro: expected a {said}"):
            optimizer.load_state_dict(saved)
    saved = optimizer.state_dict()
    del saved["state"][0]["t"]
    saved["state"][0]["speed"] = 1
    with pytest.raises(ArgumentError, match=r"missing t(?s:.*)unexpected speed"):
        optimizer.load_state_dict(saved)
    assert optimizer.state[0]["d"] is before


# -- refusals --------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"lr": -1.0}, "lr: expected a number >= 0"),
        ({"max_iter": 0}, "max_iter: expected at least 1"),
        ({"max_eval": 2.5}, "max_eval: expected an int"),
        ({"history_size": 0}, "history_size: expected at least 1"),
        ({"tolerance_grad": -1e-3}, "tolerance_grad: expected"),
        ({"tolerance_change": math.nan}, "tolerance_change: expected"),
        ({"line_search_fn": "armijo"}, "line_search_fn: expected None or 'strong_wolfe', got 'ar"),
    ],
)
def test_impossible_options(options, message):
    with pytest.raises(ArgumentError, match=message):
        optim.LBFGS(start(), **options)


def test_one_group_of_one_dtype_and_a_closure():
    params = start()
    with pytest.raises(ArgumentError, match="params: LBFGS has one group"):
        optim.LBFGS([{"params": [param]} for param in params])
    optimizer = optim.LBFGS(params)
    with pytest.raises(ArgumentError, match="closure: expected a function"):
        optimizer.step()
    with pytest.raises(ArgumentError, match="closure: expected it to return the loss, got None"):
        optimizer.step(lambda: None)
    mixed = optim.LBFGS([params[0], start("float32")[1]])
    with pytest.raises(ArgumentError, match=r"params: expected parameters of one dtype, got \['fl"):
        mixed.step(closure_of(params[:1], mixed, lambda params: rosenbrock(params[0])))


def test_the_other_optimizers_take_a_closure_too():
    params, twins = start(), start()
    optimizer, twin = optim.SGD(params, lr=1e-3), optim.SGD(twins, lr=1e-3)
    loss = optimizer.step(closure_of(params, optimizer))
    assert loss.item() == closure_of(twins, twin)().item()
    assert twin.step() is None
    np.testing.assert_array_equal(place_of(params), place_of(twins))


def test_pytorch_live():
    torch = pytest.importorskip("torch")
    random = np.random.default_rng(2)
    matrix, place = random.normal(size=(9, 7)), random.normal(size=7)
    ours = Parameter(place.copy())
    theirs = torch.tensor(place, requires_grad=True)
    options = {"line_search_fn": "strong_wolfe", "max_iter": 5, "history_size": 3}
    options["max_eval"] = 100  # where it ends a search PyTorch may go back to a worse point
    mine = optim.LBFGS([ours], **options)
    peer = torch.optim.LBFGS([theirs], **options)

    def closure(x, a, optimizer):
        def call():
            optimizer.zero_grad()
            loss = ((a @ x) ** 2).sum() + (x**4).sum()
            loss.backward()
            return loss

        return call

    for _ in range(4):
        mine.step(closure(ours, rk.tensor(matrix), mine))
        peer.step(closure(theirs, torch.tensor(matrix), peer))
        np.testing.assert_allclose(ours.data, theirs.detach().numpy(), atol=1e-8)
