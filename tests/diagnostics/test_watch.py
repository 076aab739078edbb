"""Warnings come where a gradient vanishes or explodes, and only there."""

import math
import warnings

import numpy as np
import pytest

import rnnkit as rk
from rnnkit import nn, optim
from rnnkit.diagnostics import GradientWarning
from rnnkit.errors import ArgumentError

T = 21


def line(a, dtype="float64", **more):
    """An RNN that multiplies its (positive) state by a."""
    net = nn.RNN(1, 4, nonlinearity="relu", dtype=dtype, **more)
    for name, parameter in net.named_parameters():
        parameter.data[...] = a * np.eye(4) if "weight_hh" in name else 0.3
    return net


def x_of(net, steps=T):
    return rk.tensor(np.ones((steps, 2, 1), net.weight_ih_l0.dtype))


@pytest.mark.parametrize(
    ("a", "verdict"),
    [(0.6, "vanishing"), (0.65, ""), (1.0, ""), (1.4, ""), (1.45, "exploding")],
)
def test_the_verdict_is_that_of_the_whole_sequence(a, verdict, path):
    """Thresholds of 1e-4 and 1e3 over 20 steps back: factors of 0.631 and 1.413."""
    net = line(a, bidirectional=True)
    with (
        rk.diagnostics.watch(net) as watch,
        warnings.catch_warnings(record=True) as caught,
    ):
        warnings.simplefilter("always")
        net(x_of(net))
    assert [seen.name for seen in watch.history] == ["l0", "l0_reverse"]
    for seen in watch.history:
        assert seen.verdict == verdict
        assert seen.factor == pytest.approx(a)
        assert seen.change == pytest.approx(a**20)
        assert (seen.run, seen.steps) == (1, T)
    assert len(caught) == (2 if verdict else 0)
    for name, warning in zip(("l0", "l0_reverse"), caught, strict=False):
        assert warning.category is GradientWarning
        assert str(warning.message).startswith(
            f"{name}, run 1: {verdict} gradient: dL/dh_t changes by a factor of {a} at each step"
        )


def test_thresholds(path):
    net = line(0.9)
    with rk.diagnostics.watch(net, vanishing=0.2), pytest.warns(GradientWarning, match="below 0.2"):
        net(x_of(net))
    net = line(1.1)
    with rk.diagnostics.watch(net, exploding=5), pytest.warns(GradientWarning, match="above 5"):
        net(x_of(net))


def test_a_gradient_that_is_not_finite_explodes(path):
    net = line(2.0, "float32")
    for name, parameter in net.named_parameters():
        if "weight_hh" not in name:
            parameter.data[...] = 1e-30  # the states stay in range
    with (
        rk.diagnostics.watch(net) as watch,
        pytest.warns(GradientWarning, match="exploding.*factor of inf"),
        np.errstate(all="ignore"),
    ):
        net(x_of(net, 200))
    assert watch.history[0].change == math.inf


def test_every_so_many_training_runs(path):
    net, other = line(0.9, num_layers=2), line(0.5)
    with rk.diagnostics.watch(net, every=3) as watch:
        for k in range(7):
            net(x_of(net))
            other(x_of(other))
            if k % 2:
                with rk.no_grad():
                    net(x_of(net))
    assert [(seen.name, seen.run) for seen in watch.history] == [
        (name, run) for run in (1, 4, 7) for name in ("l0", "l1")
    ]
    net(x_of(net))
    assert len(watch.history) == 6


def test_a_training_that_is_watched_keeps_its_bits(path):
    results = []
    for watched in (False, True):
        rk.manual_seed(2)
        net = nn.LSTM(2, 5, 2, dropout=0.3)
        optimizer = optim.Adam(net.parameters(), lr=0.1)
        watch = rk.diagnostics.watch(net, vanishing=0)
        for _ in range(3):
            x = rk.tensor(rk.generator().standard_normal((6, 3, 2)).astype("f"))
            if watched:
                with watch:
                    y, _ = net(x, lengths=[4, 6, 0])
            else:
                y, _ = net(x, lengths=[4, 6, 0])
            optimizer.zero_grad()
            (y * y).mean().backward()
            optimizer.step()
        results.append([parameter.numpy().tobytes() for parameter in net.parameters()])
        assert len(watch.history) == (6 if watched else 0)
    assert results[0] == results[1]


def test_gates_keep_a_gradient_that_a_simple_network_loses(path):
    """An LSTM with open forget gates against its own with closed ones."""
    net = nn.LSTM(1, 4, dtype="float64")
    x = rk.tensor(np.random.default_rng(0).standard_normal((60, 2, 1)))
    factors = []
    for bias in (6.0, -2.0):
        net.bias_ih_l0.data[4:8] = bias
        with rk.diagnostics.watch(net) as watch, warnings.catch_warnings():
            warnings.simplefilter("ignore")
            net(x)
        factors.append(watch.history[0].factor)
    assert factors[0] > 0.9 > 0.5 > factors[1]


def test_wrong_arguments():
    net = nn.RNN(2, 3)
    for more in ({"every": 0}, {"vanishing": 2}, {"vanishing": -1}, {"exploding": 0.5}):
        with pytest.raises(ArgumentError, match=next(iter(more))):
            rk.diagnostics.watch(net, **more)
    for more in ({"vanishing": 0, "exploding": 1}, {"vanishing": 1, "exploding": math.inf}):
        rk.diagnostics.watch(net, **more)
    with pytest.raises(ArgumentError, match="module"):
        rk.diagnostics.watch(None)
    with pytest.raises(ArgumentError, match="Linear has no recurrent layer"):
        rk.diagnostics.watch(nn.Linear(2, 3))
