"""Initialisation of recurrent modules: values of every layer, direction and gate, and refusals."""

import numpy as np
import pytest

import rnnkit as rk
from rnnkit import nn
from rnnkit.errors import ArgumentError
from rnnkit.nn import Parameter, init

SUFFIXES = ["_l0", "_l0_reverse", "_l1", "_l1_reverse"]
GATES = {"rnn": 1, "gru": 3, "lstm": 4}


def make(kind, hidden=6, **options):
    kinds = {"rnn": nn.RNN, "gru": nn.GRU, "lstm": nn.LSTM}
    options = {"num_layers": 2, "bidirectional": True, "dtype": "float64", **options}
    return kinds[kind](3, hidden, **options)


def gate(module, name, number):
    """The part of a parameter that belongs to a gate."""
    return np.split(getattr(module, name).data, GATES[type(module).__name__.lower()])[number]


def changed(module, before):
    return {name for name, value in module.state_dict().items() if (value != before[name]).any()}


@pytest.mark.parametrize("kind", GATES)
def test_recurrent_orthogonal_is_so_gate_by_gate(kind):
    module = make(kind)
    before = module.state_dict()
    assert init.recurrent_orthogonal_(module, gain=1.5) is module
    assert changed(module, before) == {f"weight_hh{suffix}" for suffix in SUFFIXES}
    blocks = [
        gate(module, f"weight_hh{suffix}", k) for suffix in SUFFIXES for k in range(GATES[kind])
    ]
    for block in blocks:
        np.testing.assert_allclose(block.T @ block, 1.5**2 * np.eye(6), atol=1e-13)
    assert len({block[0, 0] for block in blocks}) == len(blocks)


def test_gate_by_gate_fills_each_block():
    weight = Parameter(np.full((8, 2), np.nan))
    assert init.gate_by_gate_(weight, 4, init.eye_) is weight
    np.testing.assert_array_equal(weight.data, np.tile(np.eye(2), (4, 1)))
    # A column of a wider array and a transposed one: still the parameter's own memory.
    weight.data = np.full((2, 8), np.nan).T
    init.gate_by_gate_(weight, 2, init.constant_, val=3.0)
    np.testing.assert_array_equal(weight.data, 3.0)
    for gates in (3, 0):
        with pytest.raises(ArgumentError, match=rf"gates: expected .* got {gates}"):
            init.gate_by_gate_(weight, gates, init.eye_)


def test_an_irnn_starts_by_adding_up_its_input():
    module = make("rnn", nonlinearity="relu", bidirectional=False, num_layers=1, hidden=300)
    assert init.irnn_(module) is module
    np.testing.assert_array_equal(module.weight_hh_l0.data, np.eye(300))
    assert not module.bias_ih_l0.data.any()
    assert not module.bias_hh_l0.data.any()
    np.testing.assert_allclose(module.weight_ih_l0.data.std(), 0.001, rtol=0.1)
    x = np.random.default_rng(0).uniform(0, 1, (9, 2, 3))
    init.constant_(module.weight_ih_l0, 1.0)
    y, _ = module(x)
    np.testing.assert_allclose(y.data[..., 0], x.sum(2).cumsum(0))

    both = make("rnn", nonlinearity="relu", bias=False)
    init.irnn_(both, gain=0.01, std=0.5)
    for suffix in SUFFIXES:
        np.testing.assert_array_equal(getattr(both, f"weight_hh{suffix}").data, 0.01 * np.eye(6))
        assert 0.2 < getattr(both, f"weight_ih{suffix}").data.std() < 0.9


@pytest.mark.parametrize(("kind", "forget", "admit"), [("lstm", 1, 0), ("gru", 1, None)])
def test_chrono(kind, forget, admit):
    module = make(kind, hidden=400)
    before = module.state_dict()
    assert init.chrono_(module, 50) is module
    names = {f"{bias}{suffix}" for suffix in SUFFIXES for bias in ("bias_ih", "bias_hh")}
    assert changed(module, before) == names
    drawn = []
    for suffix in SUFFIXES:
        keep = gate(module, f"bias_ih{suffix}", forget)
        drawn.append(keep)
        # exp of the bias is uniform: its mean, its deviation and its ends say so.
        times = np.exp(keep)
        assert 1 <= times.min() < 2
        assert 48 < times.max() <= 49
        np.testing.assert_allclose(times.mean(), 25, rtol=0.1)
        np.testing.assert_allclose(times.std(), 48 / np.sqrt(12), rtol=0.1)
        if admit is not None:
            np.testing.assert_array_equal(gate(module, f"bias_ih{suffix}", admit), -keep)
        for number in range(GATES[kind]):
            own = gate(module, f"bias_hh{suffix}", number)
            if number in (forget, admit):
                assert not own.any()
            else:
                for bias in ("bias_ih", "bias_hh"):
                    np.testing.assert_array_equal(
                        gate(module, bias + suffix, number),
                        np.split(before[bias + suffix], GATES[kind])[number],
                    )
    assert not np.array_equal(drawn[0], drawn[1])
    assert not np.array_equal(drawn[0], drawn[2])


@pytest.mark.parametrize("kind", ["lstm", "gru"])
def test_chrono_makes_a_silent_network_remember_as_long_as_it_says(kind):
    """With nothing but biases, a state decays by sigmoid(b) a step: in 1 + exp(b) steps to 1/e."""
    module = make(kind, hidden=5, bidirectional=False, num_layers=1)
    for parameter in module.parameters():
        init.zeros_(parameter)
    init.chrono_(module, 200)
    bias = gate(module, "bias_ih_l0", 1)
    state = rk.full((1, 1, 5), 0.5, dtype="float64")
    given = (state, state) if kind == "lstm" else state
    _, after = module(np.zeros((1, 1, 3)), given)
    kept = (after[1] if kind == "lstm" else after).data[0, 0] / 0.5
    np.testing.assert_allclose(1 / (1 - kept), 1 + np.exp(bias))


@pytest.mark.parametrize("kind", ["lstm", "gru"])
def test_forget_bias(kind):
    module = make(kind)
    before = module.state_dict()
    assert init.forget_bias_(module, 2.5) is module
    for suffix in SUFFIXES:
        assert (gate(module, f"bias_ih{suffix}", 1) == 2.5).all()
        assert not gate(module, f"bias_hh{suffix}", 1).any()
        for name in (f"bias_ih{suffix}", f"bias_hh{suffix}"):
            old, new = (np.split(v, GATES[kind]) for v in (before[name], module.state_dict()[name]))
            for number in {0, 2, GATES[kind] - 1}:
                np.testing.assert_array_equal(old[number], new[number])
    assert init.forget_bias_(nn.LSTMCell(3, 2)).bias_ih.data[2:4].tolist() == [1, 1]


def test_inside_a_model_and_inside_a_cell():
    class Outer(rk.Cell):
        def __init__(self, input_size):
            super().__init__(input_size, 4)
            self.inner = nn.GRUCell(input_size, 4)

        def step(self, x, state):
            return self.inner.step(x, state)

    model = nn.Sequential(nn.Recurrent(Outer(3), num_layers=2), nn.Linear(4, 2))
    init.forget_bias_(model, 7.0)
    for layer in (0, 1):
        assert (getattr(model[0], f"inner_bias_ih_l{layer}").data[4:8] == 7).all()


def test_the_seed_fixes_the_numbers():
    drawn = []
    for _ in range(2):
        module = make("lstm")
        rk.manual_seed(4)
        init.chrono_(init.recurrent_orthogonal_(module), 30)
        drawn.append(module.state_dict())
    for name in (f"{each}{suffix}" for suffix in SUFFIXES for each in ("weight_hh",)):
        np.testing.assert_array_equal(drawn[0][name], drawn[1][name])
    np.testing.assert_array_equal(drawn[0]["bias_ih_l1"][:12], drawn[1]["bias_ih_l1"][:12])


def test_refusals_change_nothing():
    class Plain(rk.Cell):
        def step(self, x, state):
            return state[0], state

    mixed = nn.Sequential(nn.LSTM(3, 4), nn.RNN(4, 2))
    before = mixed.state_dict()
    for call, message in [
        (lambda: init.chrono_(mixed, 9), r"cells with a forget gate, got RNNCell\(4, 2\)"),
        (lambda: init.forget_bias_(mixed), "cells with a forget gate"),
        (lambda: init.chrono_(nn.LSTM(3, 4, bias=False), 9), "expected cells with biases"),
        (lambda: init.chrono_(mixed[0], 1.5), "t_max: expected a number >= 2 .*, got 1.5"),
        (lambda: init.chrono_(mixed[0], float("nan")), "t_max"),
        (lambda: init.irnn_(nn.RNN(3, 4)), r"nonlinearity='relu', got RNNCell\(3, 4\)"),
        (lambda: init.irnn_(mixed), r"got LSTMCell\(3, 4\)"),
        (lambda: init.recurrent_orthogonal_(nn.Linear(3, 4)), "module: .* got Linear"),
        (lambda: init.forget_bias_(nn.Recurrent(Plain(3, 4))), "module: .* got Recurrent"),
        (lambda: init.forget_bias_(mixed[0].bias_ih_l0), "module: .* got Parameter"),
    ]:
        with pytest.raises(ArgumentError, match=message):
            call()
    assert not changed(mixed, before)


@pytest.mark.parametrize(
    "call",
    [
        lambda model: init.chrono_(model, 9),
        init.forget_bias_,
        init.recurrent_orthogonal_,
    ],
)
def test_a_frozen_part_leaves_all_as_it_is(call):
    model = nn.Sequential(nn.LSTM(3, 4), nn.GRU(4, 2).freeze())
    before = model.state_dict()
    with pytest.raises(ArgumentError, match=r"1\.(bias_ih|weight_hh)_l0: .*unfreeze"):
        call(model)
    assert not changed(model, before)
