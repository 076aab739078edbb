"""Clipping of gradients."""

import tracemalloc

import numpy as np
import pytest

import rnnkit as rk
from rnnkit.errors import ArgumentError
from rnnkit.nn import Parameter
from rnnkit.nn.utils import clip_grad_norm_, clip_grad_value_


def with_gradients(*gradients):
    params = []
    for gradient in gradients:
        array = np.array(gradient)
        params.append(Parameter(np.zeros(array.shape, array.dtype)))
        params[-1].grad = rk.tensor(array)
    return params


@pytest.mark.parametrize(
    ("norm_type", "expected"), [(2.0, 13.0), (1.0, 19.0), (np.inf, 12.0), (3.0, 1819 ** (1 / 3))]
)
def test_the_norm_is_of_all_gradients_together(norm_type, expected):
    params = with_gradients([3.0, -4.0], [[-12.0]])
    assert clip_grad_norm_(params, 1.0, norm_type) == pytest.approx(expected, rel=1e-15)
    factor = 1 / (expected + 1e-6)
    np.testing.assert_allclose(params[0].grad.numpy(), np.array([3, -4]) * factor, rtol=1e-15)
    np.testing.assert_allclose(params[1].grad.numpy(), [[-12 * factor]], rtol=1e-15)


def test_small_gradients_are_left_to_the_bit():
    params = with_gradients([0.3, 0.4])
    before = params[0].grad.numpy().copy()
    assert clip_grad_norm_(params, 10.0) == 0.5
    np.testing.assert_array_equal(params[0].grad.numpy(), before)


def test_clipping_is_in_place():
    params = with_gradients([30.0, 40.0])
    gradient = params[0].grad
    array = gradient.data
    clip_grad_norm_(iter(params), 1.0)
    clip_grad_value_(params, 0.1)
    assert params[0].grad is gradient
    assert gradient.data is array


def test_gradients_of_one_graph_are_not_scaled_twice():
    a, b = Parameter(np.ones(3)), Parameter(np.ones(3))
    ((a + b) * 4.0).sum().backward()
    clip_grad_value_([a], 1.0)
    np.testing.assert_array_equal(b.grad.numpy(), [4, 4, 4])
    clip_grad_norm_([b], 0.0)
    np.testing.assert_array_equal(a.grad.numpy(), [1, 1, 1])


def test_parameters_without_gradients_are_skipped():
    (param,) = with_gradients([3.0, 4.0])
    assert clip_grad_norm_([Parameter(np.zeros(2)), param], 1.0) == 5.0
    clip_grad_value_([Parameter(np.zeros(2))], 1.0)
    for norm_type in (2.0, 1.0, np.inf):
        assert clip_grad_norm_([Parameter(np.zeros(2))], 1.0, norm_type) == 0.0
        assert clip_grad_norm_([], 1.0, norm_type) == 0.0


def test_a_single_tensor_and_an_empty_one():
    (param,) = with_gradients([3.0, 4.0])
    assert clip_grad_norm_(param, 10.0) == 5.0
    (empty,) = with_gradients(np.zeros((0, 3)))
    for norm_type in (2.0, 1.0, np.inf):
        assert clip_grad_norm_(empty, 10.0, norm_type) == 0.0


@pytest.mark.parametrize("norm_type", [2.0, 1.0])
def test_the_norm_of_float32_is_summed_in_float64(norm_type):
    (param,) = with_gradients(np.full(100_000, 0.1, np.float32))
    value = float(np.float32(0.1))
    expected = (100_000 * value**norm_type) ** (1 / norm_type)
    assert clip_grad_norm_(param, 1e9, norm_type) == pytest.approx(expected, rel=1e-12)
    (large,) = with_gradients(np.full(4, 1e30, np.float32))
    assert clip_grad_norm_(large, 1e38) == pytest.approx(2e30)


def test_no_large_temporary_is_made():
    (param,) = with_gradients(np.full(200_000, 3.0, np.float32))
    tracemalloc.start()
    clip_grad_norm_(param, 1.0)
    _, peak = tracemalloc.get_traced_memory()
    tracemalloc.stop()
    assert peak < param.data.nbytes / 2


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


def test_refusals():
    params = with_gradients([1.0])
    for value in (-1.0, float("nan")):
        with pytest.raises(ArgumentError, match="max_norm: expected a number >= 0"):
            clip_grad_norm_(params, value)
        with pytest.raises(ArgumentError, match="clip_value: expected a number >= 0"):
            clip_grad_value_(params, value)
    with pytest.raises(ArgumentError, match="norm_type: expected a positive number"):
        clip_grad_norm_(params, 1.0, 0.0)
