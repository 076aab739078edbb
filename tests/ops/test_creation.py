"""Tensors made from a shape."""

import numpy as np
import pytest

import rnnkit as rk
from rnnkit.errors import ArgumentError, DTypeError


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
    with pytest.raises(DTypeError, match="zeros: expected integers"):
        rk.zeros(2.0, 3)


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


@pytest.mark.parametrize("p", [-0.1, 1.1, float("nan")])
def test_dropout_wants_a_probability(p):
    with pytest.raises(ArgumentError, match="p: expected a probability"):
        rk.dropout(rk.ones(1), p)
