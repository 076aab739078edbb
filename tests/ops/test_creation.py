"""Tensors made from a shape."""

import numpy as np
import pytest

import rnnkit as rk
from rnnkit.errors import ArgumentError, DTypeError, ShapeError
from rnnkit.ops.noise import random_bits, set_dropout_kernel


@pytest.mark.parametrize(
    "make", [rk.zeros, rk.ones, rk.rand, rk.randn, lambda *s, **k: rk.full(s, 2.0, **k)]
)
def test_shapes_dtypes_and_leaves(make):
    x = make(2, 3, requires_grad=True)
    assert (x.shape, x.dtype, x.is_leaf, x.requires_grad) == ((2, 3), np.float32, True, True)
    assert make(2, dtype="float64").dtype == np.float64
    assert make().shape == ()
    assert isinstance(make().data, np.ndarray)
    with pytest.raises(DTypeError, match="float16"):
        make(2, dtype="float16")


def test_shapes_may_be_sequences():
    assert rk.zeros((2, 3)).shape == rk.zeros([2, 3]).shape == rk.zeros(2, np.int64(3)).shape
    with pytest.raises(DTypeError, match="zeros: shape: expected integers"):
        rk.zeros(2.0, 3)


@pytest.mark.parametrize("name", ["zeros", "ones", "rand", "randn"])
def test_negative_sizes_are_refused(name):
    message = rf"{name}: shape: expected sizes of 0 or more, got \(2, -1\)"
    with pytest.raises(ShapeError, match=message):
        getattr(rk, name)(2, -1)
    with pytest.raises(ShapeError, match="full: shape"):
        rk.full((-1,), 1.0)
    with pytest.raises(ShapeError, match="randint: shape"):
        rk.randint(0, 2, (-1,))


def test_a_range_needs_a_step():
    with pytest.raises(ArgumentError, match="arange: step: expected another number than 0, got 0"):
        rk.arange(0, 3, 0)


def test_a_range_is_finite():
    with pytest.raises(ArgumentError, match="arange: stop: expected a finite number, got inf"):
        rk.arange(np.inf)


def test_ranges_do_not_lose_their_step_to_rounding():
    found = rk.arange(1000.0, 2000.0, 0.1)
    assert (found.dtype, found.shape) == (np.float32, (10_000,))
    np.testing.assert_allclose(found.data, 1000 + np.arange(10_000) / 10, rtol=1e-7)
    found = rk.arange(1e6, 1e6 + 1, 0.01)
    np.testing.assert_allclose(found.data, 1e6 + np.arange(100) / 100, rtol=1e-7)
    found = rk.arange(1e6, 1e6 + 100, 1e-3, dtype="float64")
    np.testing.assert_allclose(found.data, 1e6 + np.arange(100_000) / 1000, rtol=1e-15)
    assert rk.arange(3.0, 1.0).shape == (0,)
    assert rk.arange(0, 2, 0.5, dtype="int64").tolist() == [0, 0, 1, 1]
    assert rk.arange(0, 3, dtype="float32").tolist() == [0.0, 1.0, 2.0]
    big = 2**60
    assert rk.arange(big, big + 3).tolist() == [big, big + 1, big + 2]


def test_random_integers_need_a_range():
    with pytest.raises(ArgumentError, match="randint: high: expected a number above low, 3, got 3"):
        rk.randint(3, 3, (2,))
    with pytest.raises(ArgumentError, match=r"randint: high: expected an integer, got 2\.5"):
        rk.randint(0, 2.5, (2,))


def test_values():
    assert rk.zeros(2).tolist() == [0.0, 0.0]
    assert rk.ones(2, dtype=bool).tolist() == [True, True]
    assert rk.full((2,), 7, dtype=np.int64).tolist() == [7, 7]
    assert rk.arange(3).tolist() == [0, 1, 2]
    assert rk.arange(3).dtype == np.int64
    assert rk.arange(1, 2, 0.25).tolist() == [1.0, 1.25, 1.5, 1.75]
    assert rk.arange(1.0).dtype == np.float32
    assert rk.arange(5, 1, -2, dtype="float64").tolist() == [5.0, 3.0]


def test_likes():
    x = rk.ones(2, 3, dtype="float64", requires_grad=True)
    for made in (rk.zeros_like(x), rk.ones_like(x), rk.full_like(x, 3), rk.randn_like(x)):
        assert (made.shape, made.dtype, made.requires_grad) == (x.shape, x.dtype, False)
    assert rk.rand_like(x, requires_grad=True).requires_grad


def test_random_numbers():
    uniform, normal = rk.rand(4000).data, rk.randn(4000, dtype="float64").data
    assert 0 <= uniform.min() < 0.01
    assert 0.99 < uniform.max() < 1
    assert abs(normal.mean()) < 0.1
    assert abs(normal.std() - 1) < 0.1
    drawn = rk.randint(-1, 3, (500,))
    assert drawn.dtype == np.int64
    assert set(drawn.tolist()) == {-1, 0, 1, 2}
    with pytest.raises(DTypeError, match="randn: dtype: expected float32 or float64, got int64"):
        rk.randn(2, dtype=np.int64)


# ---- dropout


def test_dropout_zeroes_and_scales():
    x = rk.ones(200, 100, requires_grad=True)
    y = rk.dropout(x, 0.25)
    dropped = y.data == 0
    assert abs(dropped.mean() - 0.25) < 0.02
    np.testing.assert_allclose(y.data[~dropped], 4 / 3, rtol=1e-6)
    y.sum().backward()
    np.testing.assert_array_equal(x.grad.data, y.data)


def test_dropout_outside_training_is_the_identity():
    x = rk.ones(3)
    assert rk.dropout(x, 0.5, training=False) is x
    assert rk.dropout(x, 0.0) is x
    assert rk.dropout(x, 1.0).tolist() == [0.0] * 3


def test_dropout_draws_from_the_library_generator():
    rk.manual_seed(5)
    first = rk.dropout(rk.ones(50), 0.5)
    rk.manual_seed(5)
    again = rk.dropout(rk.ones(50, dtype="float64"), 0.5)
    assert again.dtype == np.float64
    np.testing.assert_array_equal(first.data, again.data)
    assert rk.dropout(rk.ones(50), 0.5).tolist() != first.tolist()


def test_dropout_differentiates_twice_through_one_mask():
    x = rk.tensor(np.linspace(1, 2, 20), requires_grad=True)

    def fn(x):
        rk.manual_seed(0)
        return rk.dropout(x * x, 0.5)

    assert rk.gradcheck(fn, x)
    assert rk.gradgradcheck(fn, x)


def test_random_bits_are_splitmix64():
    """The first words for one seed, as published with the generator's reference code."""
    words = [
        6457827717110365317, 3203168211198807973, 9817491932198370423, 4593380528125082431,
    ]
    halves = [half for word in words for half in (word % 2**32, word >> 32)]
    assert random_bits(1234567, 8).tolist() == halves
    assert random_bits(1234567, 5).tolist() == halves[:5]
    assert random_bits(0, 0).shape == (0,)
    assert random_bits(2**64 - 1, 3).dtype == np.uint32


@pytest.mark.parametrize("p", [0.01, 0.5, 0.9])
def test_dropped_elements_are_as_many_as_said_and_show_no_pattern(p):
    n = 1 << 20
    x = rk.ones(n)
    dropped = (rk.dropout(x, p).data == 0).astype(np.float64)
    deviation = (p * (1 - p) / n) ** 0.5
    assert abs(dropped.mean() - p) < 5 * deviation
    for lag in (1, 2, 3, 4, 8, 16, 64, 1000):
        together = (dropped[lag:] * dropped[:-lag]).mean()
        assert abs(together - p * p) < 6 * deviation
    again = rk.dropout(x, p).data == 0
    assert abs((dropped * again).mean() - p * p) < 6 * deviation


@pytest.mark.parametrize("path", ["python", "auto"])
def test_nan_and_infinity_show_even_where_they_are_dropped(path):
    x = rk.full((100,), np.inf)
    with rk.backend(path):
        y = rk.dropout(x, 0.5).data
    assert np.isnan(y).any()
    assert np.isinf(y).any()
    assert not np.isfinite(y).any()


def test_a_dropout_kernel_can_be_put_in_place_of_numpy():
    calls = []
    former = set_dropout_kernel(lambda *arguments: calls.append(arguments))
    try:
        rk.manual_seed(3)
        y = rk.dropout(rk.ones(2, 3), 0.25)
        assert set_dropout_kernel(None) is not former
        rk.manual_seed(3)
        np.testing.assert_array_equal(rk.dropout(rk.ones(2, 3), 0.25).data, y.data)
    finally:
        set_dropout_kernel(former)
    ((x, seed, threshold, scale),) = calls
    assert x.shape == (2, 3)
    assert 0 <= seed < 2**64
    assert (threshold, scale) == (2**30, 4 / 3)


@pytest.mark.parametrize("p", [-0.1, 1.1, float("nan")])
def test_dropout_wants_a_probability(p):
    with pytest.raises(ArgumentError, match="p: expected a number >= 0 and <= 1"):
        rk.dropout(rk.ones(1), p)
