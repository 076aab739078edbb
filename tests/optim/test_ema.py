"""Averages of parameters: their values, what evaluation sees of them, saving, refusals."""

import json
import tracemalloc

import numpy as np
import pytest

from rnnkit import nn, optim
from rnnkit.errors import ArgumentError, ShapeError
from rnnkit.module import Parameter


def parameters(dtype="float64"):
    random = np.random.default_rng(0)
    return [Parameter(random.normal(size=shape).astype(dtype)) for shape in ((3, 4), (5,))]


def change(params, seed):
    random = np.random.default_rng(seed)
    for param in params:
        param.data += random.normal(size=param.shape).astype(param.dtype)


@pytest.mark.parametrize("dtype", ["float32", "float64"])
@pytest.mark.parametrize(
    ("decay", "warm_up"), [(0.9, True), (0.9, False), (0.0, False), (1.0, False)]
)
def test_the_average_by_its_equation(decay, warm_up, dtype):
    params = parameters(dtype)
    ema = optim.EMA(params, decay, warm_up=warm_up)
    expected = [param.data.astype(np.float64) for param in params]
    for t in range(1, 200):
        change(params, t)
        ema.update()
        d = min(decay, (1 + t) / (10 + t)) if warm_up else decay
        expected = [
            d * m + (1 - d) * param.data for m, param in zip(expected, params, strict=True)
        ]
    assert ema.updates == 199
    for average, wanted in zip(ema.averages, expected, strict=True):
        assert average.dtype == dtype
        np.testing.assert_allclose(average, wanted, rtol=1e-4 if dtype == "float32" else 1e-11)


def test_with_decay_0_the_average_is_the_last_value_whatever_it_was():
    param = Parameter(np.float32([1e8, np.inf, 1.0]))
    ema = optim.EMA([param], 0.0)
    param.data[:] = [1.0, 2.0, np.inf]
    ema.update()
    np.testing.assert_array_equal(ema.averages[0], [1.0, 2.0, np.inf])


def test_averages_of_what_is_not_finite_do_not_warn():
    param = Parameter(np.float32([np.inf, 3e38, 1.0]))
    ema = optim.EMA([param], 0.5)
    param.data[:] = [np.inf, -3e38, 2.0]
    ema.update()
    assert np.isnan(ema.averages[0][0])
    assert ema.averages[0][1] < 0


def test_averages_of_no_elements_go_through_json():
    ema = optim.EMA([Parameter(np.zeros((0, 3)))])
    ema.update()
    saved = json.loads(json.dumps(ema.state_dict(), default=lambda array: array.tolist()))
    fresh = optim.EMA([Parameter(np.zeros((0, 3)))])
    fresh.load_state_dict(saved)
    assert (fresh.updates, fresh.averages[0].shape) == (1, (0, 3))


def test_an_update_allocates_no_array():
    param = Parameter(np.zeros(100_000, np.float32))
    ema = optim.EMA([param])
    ema.update()
    average = ema.averages[0]
    tracemalloc.start()
    ema.update()
    _, peak = tracemalloc.get_traced_memory()
    tracemalloc.stop()
    assert peak < param.data.nbytes / 10
    assert ema.averages[0] is average


def test_applied_shows_the_averages_and_gives_the_values_back():
    model = nn.Linear(3, 2)
    ema = optim.EMA(model.parameters(), 0.5, warm_up=False)
    start = model.weight.numpy().copy()
    arrays = [param.data for param in model.parameters()]
    change(list(model.parameters()), 1)
    ema.update()
    last = model.weight.numpy().copy()
    with ema.applied():
        np.testing.assert_allclose(model.weight.numpy(), (start + last) / 2, rtol=1e-6)
        saved = ema.state_dict()
    np.testing.assert_array_equal(model.weight.numpy(), last)
    np.testing.assert_allclose(saved["averages"][0], (start + last) / 2, rtol=1e-6)
    assert all(a is param.data for a, param in zip(arrays, model.parameters(), strict=True))


def test_applied_gives_the_values_back_after_an_error_and_whatever_was_written():
    params = parameters()
    ema = optim.EMA(params)
    change(params, 1)
    before = [param.data.copy() for param in params]
    averages = [average.copy() for average in ema.averages]

    def spoil():
        params[0].data[...] = 7
        raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt), ema.applied():
        spoil()
    for param, values in zip(params, before, strict=True):
        np.testing.assert_array_equal(param.data, values)
    for average, values in zip(ema.averages, averages, strict=True):
        np.testing.assert_array_equal(average, values)
    ema.update()
    assert ema.updates == 1


def test_native_runs_see_the_averages():
    """Weights that a kernel keeps packed are noticed to have changed."""
    gru = nn.GRU(3, 8)
    x = np.random.default_rng(0).normal(size=(5, 2, 3)).astype(np.float32)
    ema = optim.EMA(gru.parameters(), 0.0, warm_up=False)
    ema.update()
    expected = gru(x)[0].numpy()
    change(list(gru.parameters()), 1)
    other = gru(x)[0].numpy()
    with ema.applied():
        np.testing.assert_array_equal(gru(x)[0].numpy(), expected)
    np.testing.assert_array_equal(gru(x)[0].numpy(), other)


def test_applied_within_applied_and_updates_there_are_refused():
    ema = optim.EMA(parameters())
    with ema.applied():
        with pytest.raises(ArgumentError, match="in the parameters already"), ema.applied():
            pass
        with pytest.raises(ArgumentError, match="outside of applied"):
            ema.update()
    with ema.applied():
        pass
    ema.update()


def test_frozen_parameters_are_refused_and_those_frozen_within_get_their_values_back():
    model = nn.Sequential(nn.Linear(3, 2), nn.Linear(2, 2))
    ema = optim.EMA(model.parameters())
    change(list(model.parameters()), 1)
    start = [param.tolist() for param in model.parameters()]
    model[1].freeze()
    with pytest.raises(ArgumentError, match=r"parameters\[2\]: it is read-only"), ema.applied():
        pass
    model.unfreeze()
    with ema.applied():
        model.freeze()
    assert [param.tolist() for param in model.parameters()] == start
    assert not model[0].weight.data.flags.writeable
    model.unfreeze()
    ema.update()
    with ema.applied():
        pass


@pytest.mark.parametrize("through_json", [True, False])
def test_saved_averages_continue_with_the_same_bits(through_json):
    params = parameters()
    ema = optim.EMA(params, 0.95)
    for seed in range(4):
        change(params, seed)
        ema.update()
    saved = ema.state_dict()
    if through_json:
        saved = json.loads(json.dumps(saved, default=lambda array: array.tolist()))
    twin = optim.EMA([Parameter(np.zeros(param.shape)) for param in params], 0.1, warm_up=False)
    twin.load_state_dict(saved)
    twin._parameters = params
    change(params, 9)
    ema.update()
    twin.update()
    assert repr(ema) == repr(twin) == "EMA(2 parameters, decay=0.95, warm_up=True, updates=5)"
    for average, other in zip(ema.averages, twin.averages, strict=True):
        np.testing.assert_array_equal(average, other)
        assert average is not other


def test_a_saved_state_shares_nothing():
    params = parameters()
    ema = optim.EMA(params)
    saved = ema.state_dict()
    kept = saved["averages"][0].copy()
    change(params, 0)
    ema.update()
    np.testing.assert_array_equal(saved["averages"][0], kept)
    ema.load_state_dict(saved)
    saved["averages"][0][...] = 0
    np.testing.assert_array_equal(ema.averages[0], kept)


def test_the_averages_follow_a_change_of_dtype():
    model = nn.Linear(3, 2)
    ema = optim.EMA(model.parameters())
    model.to("float64")
    with ema.applied():
        assert model.weight.dtype == np.float64
    ema.update()
    assert ema.averages[0].dtype == np.float64


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (lambda s: None, "state_dict: expected a dict"),
        (lambda s: {**s, "averages": None}, "averages: expected a dict by index"),
        (lambda s: {**s, "averages": {"x": s["averages"][0]}}, "from 0 on once, got 'x'"),
        (lambda s: {**s, "warm_up": "no"}, "warm_up: expected a bool"),
        *[
            (lambda s, name=name: {k: v for k, v in s.items() if k != name}, f"missing {name}$")
            for name in ("decay", "warm_up", "updates")
        ],
    ],
)
def test_what_is_no_state_dict_is_refused_by_its_place(change, message):
    ema = optim.EMA(parameters())
    before = ema.state_dict()
    with pytest.raises(ArgumentError, match=message):
        ema.load_state_dict(change(ema.state_dict()))
    assert repr(ema.state_dict()) == repr(before)


def test_loading_lists_everything_that_does_not_fit_and_changes_nothing():
    ema = optim.EMA(parameters())
    saved = ema.state_dict()
    saved["averages"] = {0: np.zeros((4, 3)), 5: np.zeros(2)}
    saved["updates"] = 9
    saved["speed"] = 1
    with pytest.raises(ArgumentError) as caught:
        ema.load_state_dict(saved)
    message = str(caught.value)
    assert "averages 0: expected a real array of shape (3, 4), got float64 (4, 3)" in message
    assert "averages 1: expected a real array of shape (5,), got none" in message
    assert "averages 5: there are 2 parameters" in message
    assert "unexpected speed" in message
    assert ema.updates == 0
    with pytest.raises(ArgumentError, match=r"missing decay(?s:.*)missing averages"):
        ema.load_state_dict({"updates": 3})
    saved = ema.state_dict() | {"decay": 2.0, "updates": 7}
    with pytest.raises(ArgumentError, match="decay: expected a number >= 0 and <= 1"):
        ema.load_state_dict(saved)
    assert ema.updates == 0
    for updates in (1.5, float("inf"), float("nan"), -1, None):
        with pytest.raises(ArgumentError, match="updates: expected an integer of 0 or more, got"):
            ema.load_state_dict(ema.state_dict() | {"decay": 0.5, "updates": updates})
    assert (ema.decay, ema.updates) == (0.999, 0)


def test_a_parameter_of_another_shape_is_refused_before_anything_is_changed():
    first, second = parameters()[:2]
    ema = optim.EMA([first, second], 0.5, warm_up=False)
    kept, before = second.data.copy(), ema.averages[0].copy()
    first.data += 1
    second.data = second.data[..., :1]
    message = r"^parameters\[1\]: expected shape .* as its average has, got"
    with pytest.raises(ShapeError, match=message):
        ema.update()
    with pytest.raises(ShapeError, match=message), ema.applied():
        pass
    assert ema.updates == 0
    np.testing.assert_array_equal(ema.averages[0], before)
    np.testing.assert_array_equal(first.data, before + 1)
    second.data = kept
    ema.update()
    np.testing.assert_array_equal(ema.averages[0], before + 0.5)


def test_wrong_arguments():
    param = parameters()[0]
    for decay in (-0.1, 1.1, float("nan"), None):
        with pytest.raises(ArgumentError, match="decay: expected a number >= 0 and <= 1"):
            optim.EMA([param], decay)
    with pytest.raises(ArgumentError, match="parameters: expected at least one"):
        optim.EMA([])
    with pytest.raises(ArgumentError, match=r"parameters\[1\] is given twice"):
        optim.EMA([param, param])
    with pytest.raises(ArgumentError, match=r"parameters\[0\]: expected a leaf"):
        optim.EMA([param * 2])
    with pytest.raises(TypeError, match=r"parameters\[0\]: expected a Tensor, got ndarray"):
        optim.EMA([np.zeros(3)])
    with pytest.raises(TypeError, match="got a single Tensor"):
        optim.EMA(param)
