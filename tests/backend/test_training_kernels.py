"""The kernels of a training step beside the recurrent layers: Python's results on every instruction
set, the same bits for any number of threads, and refusals by name."""

from __future__ import annotations

import numpy as np
import pytest

import rnnkit as rk
from rnnkit import backend, nn
from rnnkit.errors import BackendError
from rnnkit.ops.noise import random_bits

native = pytest.importorskip("rnnkit.backend._native")

DTYPES = ("float32", "float64")
THREADS = (1, 2, 3)


@pytest.fixture(autouse=True)
def _restore_threads():
    before = rk.get_num_threads()
    yield
    rk.set_num_threads(before)


def numbers(*shape: int, dtype: str = "float64", seed: int = 0) -> np.ndarray:
    return np.random.default_rng(seed).normal(size=shape).astype(dtype)


# ---- the choice of the path


def reason_of(op: str) -> str:
    (decision,) = [each for each in rk.why() if each.op == op]
    return decision.reason


def test_one_record_for_each_kind_of_call():
    for _ in range(3):
        assert backend.kernels_for("some step") is backend.native()
    records = [each for each in rk.why() if each.op == "some step"]
    assert [each.path for each in records] == ["fused"]
    assert native.isa_in_use() in records[0].reason
    with rk.backend("python"):
        assert backend.kernels_for("some step") is None
    assert [each.path for each in rk.why() if each.op == "some step"] == ["python"]


def test_layers_stay_at_the_end_of_why():
    nn.GRU(3, 4)(rk.zeros(2, 1, 3))
    backend.kernels_for("some step")
    backend.kernels_for("another step")
    backend.kernels_for("some step")
    ops = [each.op for each in rk.why()]
    assert "GRU" in ops[-1]
    assert ops.index("another step") < ops.index("some step") < len(ops) - 1


def test_array_code_of_ops_sees_the_path_in_force():
    seen = []
    probe = rk.Primitive("probe", lambda x: seen.append(rk.get_backend()) or x, False)
    with rk.backend("python"):
        probe(rk.ones(1))
    assert seen == ["python"]


def test_what_a_kernel_cannot_take_goes_to_python_or_raises_where_native_is_forced():
    with rk.backend("auto"):
        assert backend.kernels_for("some step", "it is too odd") is None
        assert reason_of("some step") == "it is too odd"
    message = "some step: backend 'native' is in force but it is too odd"
    with rk.backend("native"), pytest.raises(BackendError, match=message):
        backend.kernels_for("some step", "it is too odd")
    with rk.backend("native"):
        assert backend.kernels_for("some step", "it is odder", required=False) is None
    assert reason_of("some step") == "it is odder"


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
def test_an_update_on_every_instruction_set_has_the_same_bits(every_isa, rule):
    results = []
    for _ in every_isa():
        arguments = update_arguments(rule, (1, 31, 1003))
        native.update(**arguments)
        results.append(all_bytes(arguments))
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


@pytest.mark.parametrize("rule", RULES)
def test_without_weight_decay_an_infinite_parameter_stays_so(isa, rule):
    arguments = update_arguments(rule, (37,))
    arguments["coefficients"] = [(0.0, *RULES[rule][1][1:])]
    arguments["params"][0][[3, 36]] = np.inf, -np.inf
    native.update(**arguments)
    np.testing.assert_array_equal(arguments["params"][0][[3, 36]], [np.inf, -np.inf])
    assert np.isfinite(arguments["states"]).all()


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


# ---- cross entropy


def rows_of_classes(rows: int, classes: int, dtype: str, smoothed: bool = False) -> dict:
    rng = np.random.default_rng(rows + classes)
    weights = np.abs(numbers(classes, dtype=dtype)) + 0.5
    target = rng.integers(0, classes, rows)
    kept = rng.random(rows) < 0.8
    rest = weights * np.asarray(0.2 / classes, dtype) if smoothed else None
    hit = weights[target] * np.asarray(0.8 if smoothed else 1.0, dtype) * kept
    spread = rest.sum() if rest is not None else 0.0
    return {
        "x": (numbers(rows, classes, seed=3) * 4).astype(dtype),
        "target": target, "kept": kept,
        "hit": hit.astype(dtype), "total": (hit + spread * kept).astype(dtype),
        "rest": rest, "spread": float(spread),
    }


def losses_and_gradient(arrays: dict, dtype: str, threads: int = 1) -> dict[str, np.ndarray]:
    rows = arrays["target"].shape
    found = {name: np.full(rows, 9, dtype) for name in ("loss", "top", "others")}
    native.cross_entropy(dtype, threads, **arrays, **found)
    d_x = np.full_like(arrays["x"], 9)
    d_loss = numbers(*rows, dtype=dtype, seed=4)
    native.cross_entropy_gradient(
        dtype, threads, **arrays, top=found["top"], others=found["others"], d_loss=d_loss, d_x=d_x,
    )
    return {**found, "d_x": d_x}


def expected_losses_and_gradient(arrays: dict, dtype: str) -> tuple[np.ndarray, np.ndarray]:
    """By the plain formulas, in extended precision."""
    x = arrays["x"].astype(np.longdouble)
    rows = np.arange(len(x))
    d_loss = numbers(len(x), dtype=dtype, seed=4).astype(np.longdouble)
    e = np.exp(x - x.max(1, keepdims=True))
    p = e / e.sum(1, keepdims=True)
    q = np.zeros_like(x)
    if arrays["rest"] is not None:
        q += arrays["rest"]
    q[rows, arrays["target"]] += arrays["hit"]
    kept = arrays["kept"]
    loss = np.where(kept, -(q * np.log(p)).sum(1), 0)
    d_x = (q.sum(1, keepdims=True) * p - q) * (d_loss * kept)[:, None]
    return loss, d_x


@pytest.mark.parametrize("smoothed", [False, True])
@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize(
    ("rows", "classes"), [(1, 1), (3, 2), (5, 17), (7, 65), (2, 1023), (3, 10_007)]
)
def test_losses_and_gradients_of_rows(isa, rows, classes, dtype, smoothed):
    arrays = rows_of_classes(rows, classes, dtype, smoothed)
    found = losses_and_gradient(arrays, dtype)
    loss, d_x = expected_losses_and_gradient(arrays, dtype)
    eps = float(np.finfo(dtype).eps)
    np.testing.assert_allclose(found["loss"], loss, rtol=16 * eps, atol=4 * eps)
    np.testing.assert_allclose(found["d_x"], d_x, rtol=64 * eps, atol=16 * eps)


@pytest.mark.parametrize("dtype", DTYPES)
def test_losses_have_the_same_bits_for_any_threads_and_for_each_row_alone(isa, dtype):
    arrays = rows_of_classes(101, 1031, dtype, smoothed=True)
    results = [losses_and_gradient(arrays, dtype, threads) for threads in THREADS]
    for result in results[1:]:
        for name, array in result.items():
            np.testing.assert_array_equal(array, results[0][name])
    alone = {
        name: value[7:8].copy() if name in {"x", "target", "kept", "hit", "total"} else value
        for name, value in arrays.items()
    }
    one = losses_and_gradient(alone, dtype)
    np.testing.assert_array_equal(one["loss"], results[0]["loss"][7:8])
    np.testing.assert_array_equal(one["others"], results[0]["others"][7:8])


@pytest.mark.parametrize("classes", [1, 5, 40, 1200])
@pytest.mark.parametrize("bad", [np.nan, np.inf])
def test_bad_logits_spoil_their_own_row_only(isa, classes, bad):
    arrays = rows_of_classes(4, classes, "float32")
    arrays["kept"][:] = [True, True, False, True]
    arrays["hit"][:] = arrays["total"][:] = arrays["kept"]
    clean = losses_and_gradient(arrays, "float32")
    arrays["x"][1:3, classes // 2] = bad
    arrays["target"][1] = classes // 2
    found = losses_and_gradient(arrays, "float32")
    assert np.isnan(found["loss"][1])
    assert np.isnan(found["d_x"][1, classes // 2])
    if np.isnan(bad):
        assert np.isnan(found["d_x"][1]).all()
    for n in (0, 2, 3):
        assert found["loss"][n] == clean["loss"][n]
        np.testing.assert_array_equal(found["d_x"][n], clean["d_x"][n])


def test_rows_of_all_minus_infinity_are_nan_and_equal_largest_logits_share(isa):
    arrays = rows_of_classes(3, 50, "float64")
    arrays["kept"][:] = True
    arrays["hit"] = arrays["total"] = np.ones(3)
    arrays["x"][0] = -np.inf
    arrays["x"][1] = 7.0
    arrays["x"][2] = np.nan
    found = losses_and_gradient(arrays, "float64")
    assert np.isnan(found["loss"][[0, 2]]).all()
    np.testing.assert_allclose(found["loss"][1], np.log(50), rtol=1e-15)
    np.testing.assert_array_equal(found["others"][1], 49)


@pytest.mark.parametrize(
    ("name", "value", "error", "message"),
    [
        ("x", np.zeros((3, 4), np.float32), ValueError, "x: expected 8 elements, got 12"),
        ("x", np.zeros((2, 8), np.float32)[:, ::2], ValueError, "x: .*contiguous"),
        ("x", np.zeros((2, 4)), TypeError, "x: expected float32"),
        ("x", np.zeros((2, 0), np.float32), ValueError, "x: expected at least one class"),
        ("target", np.array([0, 4]), ValueError, r"target: expected ids in \[0, 4\), got 4"),
        ("target", np.array([-1, 0]), ValueError, r"target: expected ids in \[0, 4\), got -1"),
        ("target", np.array([0, 1], np.int32), TypeError, "target: expected int64"),
        ("kept", np.ones(2, np.uint8), TypeError, "kept: expected bool"),
        ("kept", np.ones(3, bool), ValueError, "kept: expected 2 elements"),
        ("hit", np.ones(3, np.float32), ValueError, "hit: expected 2 elements"),
        ("total", np.ones(1, np.float32), ValueError, "total: expected 2 elements"),
        ("rest", np.ones(2, np.float32), ValueError, "rest: expected 4 elements"),
        ("loss", np.ones(3, np.float32), ValueError, "loss: expected 2 elements"),
        ("top", np.ones(2), TypeError, "top: expected float32"),
        ("others", np.ones(3, np.float32), ValueError, "others: expected 2 elements"),
        ("d_loss", np.ones(3, np.float32), ValueError, "d_loss: expected 2 elements"),
        ("d_x", np.ones((2, 3), np.float32), ValueError, "d_x: expected 8 elements"),
        ("d_x", np.broadcast_to(np.float32(0), (2, 4)), ValueError, "d_x: "),
    ],
)
def test_rows_of_classes_that_are_refused(name, value, error, message):
    zeros = {each: np.zeros(2, np.float32) for each in ("loss", "top", "others", "d_loss")}
    arrays = rows_of_classes(2, 4, "float32", smoothed=True)
    given = {**arrays, **zeros, "d_x": np.zeros((2, 4), np.float32), name: value}
    if name.startswith("d_"):
        call, others = native.cross_entropy_gradient, ("loss",)
    else:
        call, others = native.cross_entropy, ("d_loss", "d_x")
    for other in others:
        del given[other]
    with pytest.raises(error, match=message):
        call("float32", 1, **given)


# ---- several arrays as one vector


def several(dtype: str) -> list[np.ndarray]:
    return [numbers(n, dtype=dtype, seed=n) for n in (5, 0, 100_003, 1, 16_384, 32_769, 70)]


@pytest.mark.parametrize("dtype", DTYPES)
def test_the_squared_norm_has_the_same_bits_for_any_threads(isa, dtype):
    arrays = several(dtype)
    results = {native.squared_norm(dtype, threads, arrays) for threads in THREADS}
    exact = sum((array.astype(np.longdouble) ** 2).sum() for array in arrays)
    assert len(results) == 1
    assert results.pop() == pytest.approx(float(exact), rel=1e-14)
    assert native.squared_norm(dtype, 1, []) == 0.0
    assert native.squared_norm(dtype, 3, [np.zeros((0, 3), dtype)]) == 0.0


@pytest.mark.parametrize("bad", [np.nan, np.inf, -np.inf])
@pytest.mark.parametrize("place", [0, 16_384, 100_002])
def test_what_is_not_finite_shows_in_the_norm(isa, bad, place):
    arrays = several("float32")
    arrays[2][place] = bad
    np.testing.assert_equal(native.squared_norm("float32", 2, arrays), abs(bad))


@pytest.mark.parametrize("threads", THREADS)
@pytest.mark.parametrize("dtype", DTYPES)
def test_scaling_is_numpys(isa, dtype, threads):
    arrays = several(dtype)
    arrays[0][1:3] = np.nan, np.inf
    expected = [array * np.asarray(0.3, dtype) for array in arrays]
    native.scale(dtype, threads, arrays, 0.3)
    for array, other in zip(arrays, expected, strict=True):
        np.testing.assert_array_equal(array, other)


def test_arrays_that_are_one_are_scaled_one_after_the_other():
    array = np.ones(300_000, np.float32)
    native.scale("float32", 3, [array, array], 0.5)
    np.testing.assert_array_equal(array, np.full(300_000, 0.25, np.float32))


def test_arrays_that_are_refused():
    good = np.zeros(3, np.float32)
    for bad, error, message in (
        (np.zeros(3), TypeError, r"arrays\[1\]: expected float32"),
        (np.zeros(6, np.float32)[::2], ValueError, r"arrays\[1\]: .*contiguous"),
        ([1.0], TypeError, r"arrays\[1\]: "),
        (memoryview(bytearray(13))[1:].cast("f"), ValueError, r"arrays\[1\]: not aligned"),
    ):
        with pytest.raises(error, match=message):
            native.squared_norm("float32", 1, [good, bad])
        with pytest.raises(error, match=message):
            native.scale("float32", 1, [good, bad], 2.0)
    good.flags.writeable = False
    assert native.squared_norm("float32", 1, [good]) == 0
    with pytest.raises(ValueError, match=r"arrays\[0\]: .*read-only"):
        native.scale("float32", 1, [good], 2.0)


# ---- rows of a table


@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize("width", [1, 5, 16, 70, 650])
def test_rows_are_numpys_for_any_threads(isa, width, dtype):
    table = numbers(50, width, dtype=dtype)
    ids = np.random.default_rng(1).integers(0, 50, 701)
    values = numbers(701, width, dtype=dtype, seed=2)
    expected = table.copy()
    np.add.at(expected, ids, values)
    for threads in THREADS:
        rows = np.empty((701, width), dtype)
        native.take_rows(dtype, threads, table, ids, rows)
        np.testing.assert_array_equal(rows, table[ids])
        total = table.copy()
        native.add_rows(dtype, threads, total, ids, values)
        np.testing.assert_array_equal(total, expected)


def test_no_rows_at_all(isa):
    table = numbers(3, 4, dtype="float32")
    before = table.copy()
    nothing = np.zeros((0, 4), np.float32)
    for call in (native.take_rows, native.add_rows):
        call("float32", 2, table, np.zeros(0, np.int64), nothing)
        call("float32", 2, np.zeros((3, 0), np.float32), np.array([0, 2]), np.zeros((2, 0), "f4"))
    np.testing.assert_array_equal(table, before)


@pytest.mark.parametrize("call", [native.take_rows, native.add_rows])
@pytest.mark.parametrize(
    ("change", "error", "message"),
    [
        ({"ids": np.array([0, 3])}, IndexError, r"ids: expected values in \[0, 3\), got 3"),
        ({"ids": np.array([-1, 0])}, IndexError, r"ids: expected values in \[0, 3\), got -1"),
        ({"ids": np.array([0, 1], np.int32)}, TypeError, "ids: expected int64"),
        ({"ids": np.array([0, 1, 2])}, ValueError, "rows: expected 12 elements, got 8"),
        ({"table": np.zeros((3, 4))}, TypeError, "table: expected float32"),
        ({"table": np.zeros(12, np.float32)}, ValueError, "table: expected 2 axes, got 1"),
        ({"table": np.zeros((4, 3), np.float32).T}, ValueError, "table: .*contiguous"),
        ({"rows": np.zeros((2, 8), np.float32)[:, ::2]}, ValueError, "rows: .*contiguous"),
        ({"rows": np.zeros((2, 4))}, TypeError, "rows: expected float32"),
    ],
)
def test_rows_that_are_refused(call, change, error, message):
    arguments = {
        "table": np.zeros((3, 4), np.float32),
        "ids": np.array([0, 2]),
        "rows": np.zeros((2, 4), np.float32),
        **change,
    }
    with pytest.raises(error, match=message):
        call("float32", 1, **arguments)


def test_what_rows_write_must_be_writable():
    table, rows = np.zeros((3, 4), np.float32), np.zeros((2, 4), np.float32)
    ids = np.array([0, 2])
    for array, call, other in (
        (table, native.add_rows, native.take_rows), (rows, native.take_rows, native.add_rows),
    ):
        array.flags.writeable = False
        other("float32", 1, table, ids, rows)
        with pytest.raises(ValueError, match="read-only"):
            call("float32", 1, table, ids, rows)
        array.flags.writeable = True


# ---- dropout


@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize("size", [0, 1, 2, 3, 15, 16, 17, 31, 255, 257, 100_003])
def test_dropout_has_the_bits_of_numpys_for_any_threads(isa, size, dtype):
    x = numbers(size, dtype=dtype)
    for seed, p in ((0, 0.5), (2**64 - 1, 0.1), (0x0123456789ABCDEF, 0.9)):
        threshold, scale = round(p * 2**32), 1 / (1 - p)
        mask = np.where(random_bits(seed, size) >= threshold, np.asarray(scale, dtype), 0)
        expected = x * mask.astype(dtype)
        for threads in THREADS:
            y = np.full_like(x, 7)
            native.dropout(dtype, threads, x, y, seed, threshold, scale)
            np.testing.assert_array_equal(y, expected)
        y = x.copy()
        native.dropout(dtype, 2, y, y, seed, threshold, scale)
        np.testing.assert_array_equal(y, expected)


@pytest.mark.parametrize("dtype", DTYPES)
def test_a_seed_drops_the_same_on_both_paths(dtype):
    found = []
    for path in ("python", "native"):
        rk.manual_seed(11)
        x = rk.ones(9, 77, dtype=dtype, requires_grad=True)
        with rk.backend(path):
            y = rk.dropout(x, 0.3)
            (y * y).sum().backward()
        assert reason_of("dropout").startswith("native" if path == "native" else "backend")
        found.append((y.data, x.grad.data, rk.rand(3).data))
    for array, other in zip(*found, strict=True):
        np.testing.assert_array_equal(array, other)


def test_dropout_takes_arrays_that_are_not_contiguous():
    x = numbers(6, 8).T[::2]
    found = []
    for path in ("python", "native"):
        rk.manual_seed(2)
        with rk.backend(path):
            found.append(rk.dropout(rk.as_tensor(x), 0.5).data)
    np.testing.assert_array_equal(*found)


def test_dropout_refuses():
    x = np.zeros(4, np.float32)
    with pytest.raises(ValueError, match="y: expected 4 elements, got 3"):
        native.dropout("float32", 1, x, x[:3], 0, 0, 1.0)
    with pytest.raises(TypeError, match="x: expected float64"):
        native.dropout("float64", 1, x, x, 0, 0, 1.0)
    for seed, threshold in ((2**64, 0), (-1, 0), (0, 2**32)):
        with pytest.raises(OverflowError):
            native.dropout("float32", 1, x, x, seed, threshold, 1.0)
