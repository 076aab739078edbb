"""The library's generator."""

import json

import numpy as np
import pytest

import rnnkit as rk
from rnnkit import rng
from rnnkit.errors import ArgumentError


def test_a_seed_fixes_what_follows():
    rk.manual_seed(7)
    first = rk.randn(5).data
    second = rk.randn(5).data
    rk.manual_seed(7)
    np.testing.assert_array_equal(rk.randn(5).data, first)
    np.testing.assert_array_equal(rk.randn(5).data, second)
    rk.manual_seed(8)
    assert not np.array_equal(rk.randn(5).data, first)


def test_a_generator_in_hand_sees_the_new_seed():
    held = rk.generator()
    assert rk.manual_seed(3) is held
    first = held.random()
    rk.manual_seed(3)
    assert held.random() == first


def test_state_survives_json():
    rk.manual_seed(1)
    rk.randn(3)
    state = json.loads(json.dumps(rng.get_state()))
    expected = rk.randn(4).data
    rk.manual_seed(99)
    rng.set_state(state)
    np.testing.assert_array_equal(rk.randn(4).data, expected)


def test_state_is_a_snapshot():
    state = rng.get_state()
    expected = rk.randn(2).data
    rng.set_state(state)
    np.testing.assert_array_equal(rk.randn(2).data, expected)


@pytest.mark.parametrize("seed", [-1, 1.5, "seed", None])
def test_wrong_seeds(seed):
    with pytest.raises(ArgumentError, match="seed"):
        rk.manual_seed(seed)


def test_numpy_integers_are_seeds():
    rk.manual_seed(np.int64(5))
    first = rk.rand(1).item()
    rk.manual_seed(5)
    assert rk.rand(1).item() == first


@pytest.mark.parametrize("state", [{}, {"bit_generator": "MT19937"}, None, 3])
def test_wrong_states(state):
    with pytest.raises(ArgumentError, match="state"):
        rng.set_state(state)


@pytest.mark.parametrize("wrong", [1.5, -1, 1 << 128, "1", None])
@pytest.mark.parametrize("name", ["state", "inc", "has_uint32", "uinteger"])
def test_a_state_with_a_wrong_number_changes_nothing(name, wrong):
    before = rng.get_state()
    state = rng.get_state()
    state["state"] = {"state": 3, "inc": 5}
    (state["state"] if name in state["state"] else state)[name] = wrong
    with pytest.raises(ArgumentError, match="state: expected a dict from get_state"):
        rng.set_state(state)
    assert rng.get_state() == before
