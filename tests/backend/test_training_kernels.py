"""The kernels of a training step beside the recurrent layers: Python's results on every instruction
set, the same bits for any number of threads, and refusals by name."""

from __future__ import annotations

import numpy as np
import pytest

import rnnkit as rk
from rnnkit import backend
from rnnkit.errors import BackendError

native = pytest.importorskip("rnnkit.backend._native")

DTYPES = ("float32", "float64")
THREADS = (1, 2, 3)


@pytest.fixture(params=native.isa_supported())
def isa(request):
    before = native.isa_in_use()
    native.choose_isa(request.param)
    yield request.param
    native.choose_isa(before)


@pytest.fixture(autouse=True)
def _restore_threads():
    before = rk.get_num_threads()
    yield
    rk.set_num_threads(before)


def numbers(*shape: int, dtype: str = "float64", seed: int = 0) -> np.ndarray:
    return np.random.default_rng(seed).normal(size=shape).astype(dtype)


# ---- the choice of the path


def test_one_record_for_each_kind_of_call():
    for _ in range(3):
        assert backend.kernels_for("some step") is backend.native()
    records = [each for each in rk.why() if each.op == "some step"]
    assert [each.path for each in records] == ["fused"]
    assert native.isa_in_use() in records[0].reason
    with rk.backend("python"):
        assert backend.kernels_for("some step") is None
    assert rk.why(1)[0].op == "some step"
    assert rk.why(1)[0].path == "python"
    assert sum(each.op == "some step" for each in rk.why()) == 1


def test_what_a_kernel_cannot_take_goes_to_python_or_raises_where_native_is_forced():
    with rk.backend("auto"):
        assert backend.kernels_for("some step", "it is too odd") is None
        assert rk.why(1)[0].reason == "it is too odd"
    message = "some step: backend 'native' is in force but it is too odd"
    with rk.backend("native"), pytest.raises(BackendError, match=message):
        backend.kernels_for("some step", "it is too odd")


# ---- optimisers

# name -> (number of states, coefficients)
RULES = {
    "sgd": (1, (0.1, 0.9, 0.7, 0.9, 0.01)),
    "adam": (2, (0.1, 0.999, 0.1, 0.99, 3.0, 1e-8, 0.01)),
    "rmsprop": (3, (0.1, 0.9, 1e-8, 0.5, 0.01)),
    "adagrad": (1, (0.1, 1e-10, 0.01)),
}


def update_arguments(rule: str, sizes: tuple[int, ...], dtype: str = "float32") -> dict:
    n_states, coefficients = RULES[rule]
    return {
        "rule": rule,
        "dtype": dtype,
        "n_threads": 1,
        "params": [numbers(n, dtype=dtype, seed=n) for n in sizes],
        "grads": [numbers(n, dtype=dtype, seed=n + 1) for n in sizes],
        "states": [
            tuple(np.abs(numbers(n, dtype=dtype, seed=n + i)) for i in range(2, 2 + n_states))
            for n in sizes
        ],
        "coefficients": [coefficients for _ in sizes],
    }


def all_bytes(arguments: dict) -> list[bytes]:
    states = [array for arrays in arguments["states"] for array in arrays]
    return [array.tobytes() for array in (*arguments["params"], *states)]


@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize("rule", RULES)
def test_an_update_has_the_same_bits_for_any_threads_and_for_each_parameter_alone(isa, rule, dtype):
    sizes = (1, 0, 70_001, 17, 130_003, 3)
    results = []
    for threads in THREADS:
        arguments = {**update_arguments(rule, sizes, dtype), "n_threads": threads}
        native.update(**arguments)
        results.append(all_bytes(arguments))
    alone = update_arguments(rule, sizes, dtype)
    for k in range(len(sizes)):
        lists = ("params", "grads", "states", "coefficients")
        native.update(**{**alone, **{name: [alone[name][k]] for name in lists}})
    results.append(all_bytes(alone))
    assert all(result == results[0] for result in results)
    assert results[0] != all_bytes(update_arguments(rule, sizes, dtype))


@pytest.mark.parametrize("rule", RULES)
def test_an_update_on_every_instruction_set_has_the_same_bits(rule):
    results = []
    before = native.isa_in_use()
    try:
        for name in native.isa_supported():
            native.choose_isa(name)
            arguments = update_arguments(rule, (1, 31, 1003))
            native.update(**arguments)
            results.append(all_bytes(arguments))
    finally:
        native.choose_isa(before)
    assert all(result == results[0] for result in results)


@pytest.mark.parametrize("bad", [np.nan, np.inf, -np.inf])
@pytest.mark.parametrize("rule", RULES)
def test_a_bad_gradient_spoils_its_own_element_only(isa, rule, bad):
    arguments = update_arguments(rule, (37,))
    arguments["grads"][0][[3, 36]] = bad
    native.update(**arguments)
    clean = update_arguments(rule, (37,))
    native.update(**clean)
    p, expected = arguments["params"][0], clean["params"][0]
    others = np.delete(np.arange(37), [3, 36])
    np.testing.assert_array_equal(p[others], expected[others])
    assert not np.isin(p[[3, 36]], expected[[3, 36]]).any()
    if np.isnan(bad):
        assert np.isnan(p[[3, 36]]).all()


def test_parameters_that_overlap_are_updated_one_after_the_other():
    memory = np.zeros(200_000, np.float32)
    arguments = {**update_arguments("sgd", (100_000, 100_000)), "n_threads": 3}
    arguments["params"] = [memory[50_000:150_000], memory[:100_000]]
    arguments["grads"] = [np.ones(100_000, np.float32)] * 2
    arguments["states"] = [(None,)] * 2
    arguments["coefficients"] = [(0.0, 0.0, 1.0, 0.0, 1.0)] * 2
    native.update(**arguments)
    expected = np.repeat(np.float32([-1, -2, -1, 0]), 50_000)
    np.testing.assert_array_equal(memory, expected)


def wrong_updates():
    """What is changed in good arguments, the error and its message."""

    def put(name, value, k=1):
        def change(arguments):
            arguments[name][k] = value

        return change

    def read_only(arguments):
        arguments["params"][1].flags.writeable = False

    def too_few(arguments):
        arguments["grads"].pop()

    f4 = np.float32
    state = np.zeros(5, f4)
    return [
        (put("params", np.zeros(5)), TypeError, r"params\[1\]: expected float32, got format b'd'"),
        (put("params", np.zeros(10, f4)[::2]), ValueError, r"params\[1\]: .*contiguous"),
        (read_only, ValueError, r"params\[1\]: .*read-only"),
        (put("params", [1.0, 2.0]), TypeError, r"params\[1\]: "),
        (put("params", np.zeros(6, np.uint8)[1:5].view(f4)), (TypeError, ValueError), "params"),
        (put("grads", np.zeros(4, f4)), ValueError, r"grads\[1\]: expected 5 elements, got 4"),
        (put("grads", np.zeros(5, np.int32)), TypeError, r"grads\[1\]: expected float32"),
        (put("states", (state,)), ValueError, r"states\[1\]: expected 2 arrays or None, got 1"),
        (put("states", (state, None)), ValueError, r"states\[1\]\[1\]: missing"),
        (put("states", (state, state[:3])), ValueError, r"states\[1\]\[1\]: expected 5 elements"),
        (put("coefficients", (1.0,)), ValueError, r"coefficients\[1\]: expected 7 numbers, got 1"),
        (put("coefficients", ("x",) * 7), TypeError, "must be real number"),
        (too_few, ValueError, "expected 2 each as params, got 1, 2 and 2"),
    ]


@pytest.mark.parametrize(("change", "error", "message"), wrong_updates())
def test_updates_that_are_refused_change_nothing(change, error, message):
    arguments = update_arguments("adam", (3, 5))
    before = all_bytes(arguments)[0]
    change(arguments)
    with pytest.raises(error, match=message):
        native.update(**arguments)
    assert arguments["params"][0].tobytes() == before


def test_unknown_rules_and_dtypes():
    arguments = update_arguments("adam", (3,))
    with pytest.raises(KeyError, match="no optimiser named 'lion'"):
        native.update(**{**arguments, "rule": "lion"})
    with pytest.raises(TypeError, match="float32 or float64"):
        native.update(**{**arguments, "dtype": "int8"})
