"""Methods that go by PyTorch's other names, and the ops that ported code needs beside them."""

import numpy as np
import pytest

import rnnkit as rk
from rnnkit.errors import ArgumentError, DTypeError, ShapeError

X = np.random.default_rng(1).normal(size=(2, 3, 4))
Y = np.random.default_rng(2).normal(size=(2, 4, 3))
MASK = X > 0.3

CASES = {
    "add": (lambda x: x.add(2), X + 2),
    "amax": (lambda x: x.amax(1), X.max(1)),
    "argsort": (lambda x: x.argsort(1), np.argsort(X, 1)),
    "argsort descending": (lambda x: x.argsort(0, descending=True), np.argsort(-X, 0)),
    "amin": (lambda x: x.amin((0, 2), keepdims=True), X.min((0, 2), keepdims=True)),
    "bmm": (lambda x: x.bmm(rk.tensor(Y)), X @ Y),
    "bool": (lambda x: (x > 0).double().bool(), X > 0),
    "clamp": (lambda x: x.clamp(min=-0.1, max=0.2), X.clip(-0.1, 0.2)),
    "contiguous": (lambda x: x.permute(2, 0, 1).contiguous(), X.transpose(2, 0, 1)),
    "cpu": (lambda x: x.cpu(), X),
    "cumprod": (lambda x: x.cumprod(1), np.cumprod(X, 1)),
    "div": (lambda x: x.div(3), X / 3),
    "eq": (lambda x: x.eq(x), X == X),
    "expand_as": (lambda x: x[:, :1].expand_as(x), np.broadcast_to(X[:, :1], X.shape)),
    "float": (lambda x: x.float(), X.astype("float32")),
    "ge": (lambda x: x.ge(0.3), X >= 0.3),
    "gt": (lambda x: x.gt(0.3), MASK),
    "int": (lambda x: x.int(), X.astype("int32")),
    "le": (lambda x: x.le(0.3), X <= 0.3),
    "logical_not": (lambda x: x.gt(0.3).logical_not(), ~MASK),
    "long": (lambda x: (x * 9).long(), (X * 9).astype("int64")),
    "lt": (lambda x: x.lt(0.3), X < 0.3),
    "masked_fill": (lambda x: x.masked_fill(x > 0.3, -np.inf), np.where(MASK, -np.inf, X)),
    "mm": (lambda x: x[0].mm(x[1].t()), X[0] @ X[1].T),
    "mul": (lambda x: x.mul(x), X * X),
    "ne": (lambda x: x.ne(x), X != X),
    "neg": (lambda x: x.neg(), -X),
    "new_ones": (lambda x: x.new_ones(2, 3), np.ones((2, 3))),
    "new_zeros": (lambda x: x.new_zeros((2, 3)), np.zeros((2, 3))),
    "norm": (lambda x: x.norm(), np.linalg.norm(X)),
    "norm 1": (lambda x: x.norm(1, axis=-1), np.abs(X).sum(-1)),
    "norm inf": (lambda x: x.norm(np.inf, 1, keepdims=True), np.abs(X).max(1, keepdims=True)),
    "outer": (lambda x: x[0, 0].outer(x[1, :, 2]), np.outer(X[0, 0], X[1, :, 2])),
    "repeat": (lambda x: x.repeat(2, 1, 3), np.tile(X, (2, 1, 3))),
    "repeat, a new axis": (lambda x: x.repeat((2, 1, 0, 3)), np.tile(X, (2, 1, 0, 3))),
    "sort": (lambda x: x.sort().values, np.sort(X)),
    "sort descending": (lambda x: x.sort(1, descending=True)[0], -np.sort(-X, 1)),
    "sort indices": (lambda x: x.sort(0, stable=True).indices, np.argsort(X, 0)),
    "sub": (lambda x: x.sub(x * 3), X - X * 3),
    "to": (lambda x: x.to("float32"), X.astype("float32")),
    "topk": (lambda x: x.topk(2, 1).values, -np.sort(-X, 1)[:, :2]),
    "topk smallest": (lambda x: x.topk(3, largest=False)[0], np.sort(X, -1)[..., :3]),
    "topk indices": (lambda x: x.topk(2)[1], np.argsort(-X, -1)[..., :2]),
    "type_as": (lambda x: (x > 0.3).type_as(x), MASK.astype("float64")),
    "view": (lambda x: x.view(-1, 4), X.reshape(-1, 4)),
    "view_as": (lambda x: x.view_as(rk.zeros(6, 4)), X.reshape(6, 4)),
}


@pytest.mark.parametrize("name", CASES)
def test_values(name):
    ours, expected = CASES[name]
    y = ours(rk.tensor(X))
    assert y.dtype == expected.dtype
    np.testing.assert_allclose(y.numpy(), expected, rtol=1e-13)


def test_sizes():
    x = rk.tensor(X)
    assert (x.dim(), x.numel()) == (3, 24)
    assert rk.zeros(()).numel() == 1


def test_derivatives():
    def through(x):
        filled = x.masked_fill(MASK, 0.5)
        return filled.repeat(2, 1, 2), x.topk(2, 1).values

    x = rk.tensor(X, requires_grad=True)
    assert rk.gradcheck(through, [x])
    assert rk.gradgradcheck(lambda x: x.norm(axis=1), [x])


def test_the_norm_of_zeros_has_a_derivative_of_zero():
    x = rk.tensor(np.array([[0.0, 0.0], [3.0, 4.0]]), requires_grad=True)
    x.norm(axis=1).sum().backward()
    np.testing.assert_allclose(x.grad.numpy(), [[0, 0], [0.6, 0.8]])


@pytest.mark.parametrize("size", [1e30, 1e-30])
def test_norms_and_deviations_whose_squares_are_beyond_float32(size):
    x = rk.tensor(np.float32([[3, 4, 0], [0, 0, 0], [-2, 1, 2]]) * np.float32(size))
    x.requires_grad = True
    np.testing.assert_allclose(x.norm(axis=1).data, np.array([5, 0, 3]) * size, rtol=1e-6)
    (d_x,) = rk.grad(x.norm(axis=1, keepdims=True).sum(), x)
    np.testing.assert_allclose(
        d_x.data, [[0.6, 0.8, 0], [0, 0, 0], [-2 / 3, 1 / 3, 2 / 3]], rtol=1e-6
    )
    expected = np.float64(x.data).std(1, ddof=1)
    np.testing.assert_allclose(x.std(1).data, expected, rtol=1e-6)
    (d_x,) = rk.grad(x.std(1).sum(), x)
    deviation = np.float64(x.data) - np.float64(x.data).mean(1, keepdims=True)
    slopes = deviation / (2 * np.where(expected == 0, 1, expected)[:, None])
    np.testing.assert_allclose(d_x.data, slopes, rtol=1e-5)


def test_norms_of_what_is_not_finite():
    x = rk.tensor(np.float32([[np.inf, 1], [np.nan, 1], [np.nan, -np.inf], [1e30, 0]]))
    np.testing.assert_array_equal(x.norm(axis=1).data, np.float32([np.inf, np.nan, np.nan, 1e30]))


def test_of_equal_elements_the_first_comes_first_and_nan_before_all():
    x = rk.tensor(np.array([1.0, 3.0, np.nan, 3.0, 1.0]))
    assert x.topk(4).indices.tolist() == [2, 1, 3, 0]
    assert x.topk(3, largest=False).indices.tolist() == [0, 4, 1]
    assert x.topk(0).values.shape == (0,)
    assert x.argsort().tolist() == [0, 4, 1, 3, 2]
    assert x.sort(descending=True).indices.tolist() == [2, 1, 3, 0, 4]


def test_refusals():
    x = rk.tensor(X)
    with pytest.raises(ArgumentError, match=r"topk: k: expected an integer from 0 to 4, got 5"):
        x.topk(5)
    with pytest.raises(ShapeError, match=r"sort: axis 3 is out of range for 3 axes"):
        x.sort(3)
    with pytest.raises(ShapeError, match=r"outer: expected 1-d operands, got \(2, 3, 4\), \(2,\)"):
        rk.outer(x, rk.zeros(2, dtype="float64"))
    with pytest.raises(ShapeError, match=r"repeat: expected 3 or more numbers of 0 or more"):
        x.repeat(2, 2)
    with pytest.raises(DTypeError, match="condition: expected bools"):
        x.masked_fill(np.ones(4, int), 0.0)
    with pytest.raises(ShapeError, match=r"masked_fill: mask of shape \(5, 2, 3, 4\)"):
        x.masked_fill(np.ones((5, 2, 3, 4), bool), 0.0)
    with pytest.raises(ShapeError, match="masked_fill: value: expected a number"):
        x.masked_fill(MASK, X)
    with pytest.raises(ShapeError, match=r"t: expected at most 2 axes, got shape \(2, 3, 4\)"):
        x.t()
    with pytest.raises(ArgumentError, match="norm: p: expected 1, 2 or infinity, got 3"):
        x.norm(3)


def test_assigning_to_elements_says_what_to_do_instead():
    x = rk.tensor(X)
    with pytest.raises(TypeError, match=r"not changed in place: collect .* write into \.data"):
        x[0] = 1.0
    np.testing.assert_array_equal(x.numpy(), X)
