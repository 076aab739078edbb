"""The library's generator."""

import copy
import json
import pickle
from concurrent.futures import ThreadPoolExecutor

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


def test_drawing_apart_takes_nothing_from_the_library():
    held, method = rk.generator(), rk.generator().standard_normal
    rk.manual_seed(5)
    rk.rand(3)
    before = rng.get_state()
    expected = [rk.randn(2).numpy(), held.random(), method(3), held.bit_generator.random_raw()]
    after = rng.get_state()
    rng.set_state(before)
    with rng.drawing_apart():
        assert rk.generator() is held
        found = [rk.randn(2).numpy(), held.random(), method(3), held.bit_generator.random_raw()]
        assert rng.get_state() == after
    assert rng.get_state() == before
    for each, other in zip(found, expected, strict=True):
        np.testing.assert_array_equal(each, other)


def test_drawing_apart_nests_seeds_and_ends_with_an_error():
    rk.manual_seed(5)
    before = rng.get_state()
    rk.manual_seed(1)
    first = rk.rand(2).numpy()
    rng.set_state(before)

    def fail():
        with rng.drawing_apart():
            outer = rk.manual_seed(1)
            with rng.drawing_apart(before):
                assert rng.get_state() == before
                rk.generator().shuffle([1, 2, 3])
            np.testing.assert_array_equal(outer.random(2, np.float32), first)
            raise ZeroDivisionError

    with pytest.raises(ZeroDivisionError):
        fail()
    assert rng.get_state() == before
    with pytest.raises(ArgumentError, match="state"), rng.drawing_apart({}):
        pass
    assert rng.get_state() == before


def test_drawing_apart_is_of_one_thread():
    rk.manual_seed(5)
    expected = rk.rand(4).numpy()
    rk.manual_seed(5)
    with ThreadPoolExecutor(1) as other, rng.drawing_apart():
        rk.rand(100)
        found = other.submit(lambda: rk.rand(2).numpy()).result()
        rk.manual_seed(9)
    np.testing.assert_array_equal([*found, *rk.rand(2).numpy()], expected)


def test_what_is_spawned_goes_by_the_seed():
    rk.manual_seed(5)
    before = rng.get_state()
    first, second = [each.random() for each in rk.generator().spawn(2)]
    third = rk.generator().spawn(1)[0].random()
    assert len({first, second, third}) == 3
    rng.set_state(before)
    with rng.drawing_apart():
        assert [each.random() for each in rk.generator().spawn(2)] == [first, second]
    assert [each.random() for each in rk.generator().spawn(2)] == [first, second]


def test_the_generator_is_one_of_numpy():
    held = rk.generator()
    assert isinstance(held, np.random.Generator)
    assert np.random.default_rng(held) is held
    for copied in (copy.deepcopy(held), pickle.loads(pickle.dumps(held))):
        assert copied.bit_generator.state == rng.get_state()
        expected = rng.get_state()
        copied.random()
        assert rng.get_state() == expected
    assert str(held) == "LibraryGenerator(PCG64)"
    assert held.normal.__doc__ == np.random.Generator.normal.__doc__


def test_a_child_draws_though_a_thread_of_its_parent_was_drawing(in_child):
    rk.manual_seed(4)
    expected = rk.rand(3).data
    rk.manual_seed(4)
    with rk.generator().bit_generator.lock:  # as while another thread draws
        in_child(lambda: np.testing.assert_array_equal(rk.rand(3).data, expected))
    np.testing.assert_array_equal(rk.rand(3).data, expected)
