"""Clipping of gradients."""

import tracemalloc

import numpy as np
import pytest

import rnnkit as rk
from rnnkit import nn
from rnnkit.errors import ArgumentError, BackendError
from rnnkit.nn import Parameter
from rnnkit.nn.utils import clip_grad_norm_, clip_grad_value_


def last_clip():
    """The path that the last call took."""
    (decision,) = [each for each in rk.why() if each.op == "clip_grad_norm_"]
    return decision


def with_gradients(*gradients):
    params = []
    for gradient in gradients:
        array = np.array(gradient)
        params.append(Parameter(np.zeros(array.shape, array.dtype)))
        params[-1].grad = rk.tensor(array)
    return params


@pytest.mark.usefixtures("path")
@pytest.mark.parametrize(
    ("norm_type", "expected"), [(2.0, 13.0), (1.0, 19.0), (np.inf, 12.0), (3.0, 1819 ** (1 / 3))]
)
def test_the_norm_is_of_all_gradients_together(norm_type, expected):
    params = with_gradients([3.0, -4.0], [[-12.0]])
    assert clip_grad_norm_(params, 1.0, norm_type) == pytest.approx(expected, rel=1e-15)
    factor = 1 / (expected + 1e-6)
    np.testing.assert_allclose(params[0].grad.numpy(), np.array([3, -4]) * factor, rtol=1e-15)
    np.testing.assert_allclose(params[1].grad.numpy(), [[-12 * factor]], rtol=1e-15)


@pytest.mark.usefixtures("path")
@pytest.mark.parametrize("norm_type", [2.0, 1.0, 3.0])
@pytest.mark.parametrize("size", [1e200, 1e-200])
def test_powers_of_gradients_neither_overflow_nor_vanish(size, norm_type):
    params = with_gradients([3 * size, -4 * size], [0.0])
    expected = (3**norm_type + 4**norm_type) ** (1 / norm_type)
    norm = clip_grad_norm_(params, 1.0, norm_type, error_if_nonfinite=True)
    assert norm == pytest.approx(expected * size, rel=1e-14)
    after = np.array([3, -4]) * (1 / expected if size > 1 else size)
    np.testing.assert_allclose(params[0].grad.numpy(), after, rtol=1e-14)


@pytest.mark.parametrize(("norm_type", "expected"), [(1000.0, 4.0), (1e-3, np.inf)])
def test_norms_of_extreme_powers(norm_type, expected):
    params = with_gradients([3.0, -4.0, 2.0])
    assert clip_grad_norm_(params, np.inf, norm_type) == expected


@pytest.mark.usefixtures("path")
def test_small_gradients_are_left_to_the_bit():
    params = with_gradients([0.3, 0.4])
    before = params[0].grad.numpy().copy()
    assert clip_grad_norm_(params, 10.0) == 0.5
    np.testing.assert_array_equal(params[0].grad.numpy(), before)


@pytest.mark.usefixtures("path")
def test_clipping_is_in_place():
    params = with_gradients([30.0, 40.0])
    gradient = params[0].grad
    array = gradient.data
    assert clip_grad_norm_(iter(params), 1.0) == 50.0
    np.testing.assert_allclose(array, [0.6, 0.8], rtol=1e-6)
    clip_grad_value_(iter(params), 0.1)
    assert params[0].grad is gradient
    assert gradient.data is array
    np.testing.assert_array_equal(array, [0.1, 0.1])


@pytest.mark.usefixtures("path")
def test_gradients_of_one_graph_are_not_scaled_twice():
    a, b = Parameter(np.ones(3)), Parameter(np.ones(3))
    ((a + b) * 4.0).sum().backward()
    clip_grad_value_([a], 1.0)
    np.testing.assert_array_equal(b.grad.numpy(), [4, 4, 4])
    clip_grad_norm_([b], 0.0)
    np.testing.assert_array_equal(a.grad.numpy(), [1, 1, 1])


@pytest.mark.usefixtures("path")
def test_parameters_without_gradients_are_skipped():
    (param,) = with_gradients([3.0, 4.0])
    assert clip_grad_norm_([Parameter(np.zeros(2)), param], 1.0) == 5.0
    clip_grad_value_([Parameter(np.zeros(2))], 1.0)
    for norm_type in (2.0, 1.0, np.inf):
        assert clip_grad_norm_([Parameter(np.zeros(2))], 1.0, norm_type) == 0.0
        assert clip_grad_norm_([], 1.0, norm_type) == 0.0


@pytest.mark.usefixtures("path")
def test_a_single_tensor_and_an_empty_one():
    (param,) = with_gradients([3.0, 4.0])
    assert clip_grad_norm_(param, 10.0) == 5.0
    (empty,) = with_gradients(np.zeros((0, 3)))
    for norm_type in (2.0, 1.0, np.inf):
        assert clip_grad_norm_(empty, 10.0, norm_type) == 0.0


@pytest.mark.usefixtures("path")
@pytest.mark.parametrize("norm_type", [2.0, 1.0])
def test_the_norm_of_float32_is_summed_in_float64(norm_type):
    (param,) = with_gradients(np.full(100_000, 0.1, np.float32))
    value = float(np.float32(0.1))
    expected = (100_000 * value**norm_type) ** (1 / norm_type)
    assert clip_grad_norm_(param, 1e9, norm_type) == pytest.approx(expected, rel=1e-12)
    (large,) = with_gradients(np.full(4, 1e30, np.float32))
    assert clip_grad_norm_(large, 1e38) == pytest.approx(2e30)


@pytest.mark.usefixtures("path")
def test_no_large_temporary_is_made():
    (param,) = with_gradients(np.full(200_000, 3.0, np.float32))
    tracemalloc.start()
    clip_grad_norm_(param, 1.0)
    _, peak = tracemalloc.get_traced_memory()
    tracemalloc.stop()
    assert peak < param.data.nbytes / 2


@pytest.mark.usefixtures("native")
@pytest.mark.parametrize("dtype", ["float32", "float64"])
def test_both_paths_agree(dtype):
    found = []
    for name in ("python", "native"):
        rng = np.random.default_rng(0)
        sizes = ((3,), (), (70, 501), (0, 4), (20_001,))
        params = with_gradients(*[rng.normal(size=shape).astype(dtype) for shape in sizes])
        with rk.backend(name):
            norm = clip_grad_norm_(params, 1.0)
        assert last_clip().path == ("fused" if name == "native" else "python")
        found.append((norm, [param.grad.numpy() for param in params]))
    (norm, grads), (other, others) = found
    assert norm == pytest.approx(other, rel=1e-14)
    for grad, twin in zip(grads, others, strict=True):
        np.testing.assert_allclose(grad, twin, rtol=8 * np.finfo(dtype).eps)


@pytest.mark.usefixtures("native")
def test_both_dtypes_at_once_and_a_gradient_that_two_share():
    one, two = with_gradients(np.float32([3.0]), [4.0])
    three = Parameter(np.zeros(1, np.float32))
    three.grad = one.grad
    with rk.backend("native"):
        norm = clip_grad_norm_([one, two, three], 1.0)
    assert norm == pytest.approx(34**0.5, rel=1e-15)
    np.testing.assert_allclose(two.grad.numpy(), 4 / 34**0.5, rtol=1e-6)
    np.testing.assert_allclose(one.grad.numpy(), 3 / 34, rtol=1e-6)


@pytest.mark.usefixtures("native")
def test_what_the_kernel_cannot_take():
    (param,) = with_gradients(np.ones((4, 4)))
    with rk.backend("native"), pytest.raises(BackendError, match="norm_type 2 only"):
        clip_grad_norm_(param, 1.0, norm_type=1.0)
    param.grad.data = param.grad.data.T[::2]
    with rk.backend("native"), pytest.raises(BackendError, match="not contiguous"):
        clip_grad_norm_(param, 1.0)
    with rk.backend("auto"):
        clip_grad_norm_(param, 0.0)
    assert "not contiguous" in last_clip().reason
    np.testing.assert_array_equal(param.grad.numpy(), np.zeros((2, 4)))


@pytest.mark.usefixtures("path")
@pytest.mark.parametrize("bad", [np.nan, np.inf])
@pytest.mark.parametrize("norm_type", [2.0, np.inf])
def test_gradients_that_are_not_finite(bad, norm_type):
    params = with_gradients([1.0, bad], [2.0])
    with pytest.raises(ArgumentError, match="expected gradients with a finite norm, got"):
        clip_grad_norm_(params, 1.0, norm_type, error_if_nonfinite=True)
    np.testing.assert_array_equal(params[1].grad.numpy(), [2])
    norm = clip_grad_norm_(params, 1.0, norm_type)
    assert not np.isfinite(norm)
    np.testing.assert_array_equal(params[1].grad.numpy(), [np.nan if np.isnan(bad) else 0])


def test_values_are_clipped_on_both_sides_and_nan_stays():
    (param,) = with_gradients([-3.0, -0.5, 0.5, 3.0, np.nan, -np.inf])
    clip_grad_value_(param, 1.0)
    np.testing.assert_array_equal(param.grad.numpy(), [-1, -0.5, 0.5, 1, np.nan, -1])


def test_a_bound_beyond_float32_leaves_what_is_finite():
    (param,) = with_gradients(np.float32([-3e38, 2.0]))
    clip_grad_value_(param, 1e300)
    np.testing.assert_array_equal(param.grad.numpy(), np.float32([-3e38, 2.0]))


@pytest.mark.usefixtures("path")
def test_the_greatest_value_is_asked_for_by_name_too():
    params = with_gradients([3.0, -4.0])
    assert clip_grad_norm_(params, 2.0, "inf") == 4.0
    np.testing.assert_allclose(params[0].grad.numpy(), [1.5, -2.0], rtol=1e-6)


def test_refusals():
    params = with_gradients([1.0])
    for value in (-1.0, float("nan")):
        with pytest.raises(ArgumentError, match="max_norm: expected a number >= 0"):
            clip_grad_norm_(params, value)
        with pytest.raises(ArgumentError, match="clip_value: expected a number >= 0"):
            clip_grad_value_(params, value)
    with pytest.raises(ArgumentError, match="norm_type: expected a positive number"):
        clip_grad_norm_(params, 1.0, 0.0)
    with pytest.raises(ArgumentError, match="norm_type: expected a positive number or inf"):
        clip_grad_norm_(params, 1.0, "2")


def test_wrong_kinds_of_arguments_are_refused_by_name():
    parameters = [rk.Parameter(np.ones(2, np.float32))]
    for value in (None, "x", np.ones(2)):
        for clip, name in ((clip_grad_norm_, "max_norm"), (clip_grad_value_, "clip_value")):
            with pytest.raises(ArgumentError, match=rf"^{name}: expected a number >= 0"):
                clip(parameters, value)
        with pytest.raises(ArgumentError, match=r"^norm_type: expected a positive number or inf"):
            clip_grad_norm_(parameters, 1.0, value)
    for value in (None, "x", 3, nn.Linear(2, 2)):
        with pytest.raises(ArgumentError, match=r"^parameters: expected Tensors"):
            clip_grad_norm_(value, 1.0)
    with pytest.raises(ArgumentError, match=r"^parameters\[1\]: expected a Tensor, got str"):
        clip_grad_value_([*parameters, "x"], 1.0)
