"""Matrix products: shapes, layouts, and the seam for another kernel."""

import numpy as np
import pytest

import rnnkit as rk
from rnnkit.errors import DTypeError, ShapeError

SHAPES = [
    ((3,), (3,)),
    ((3,), (3, 2)),
    ((2, 3), (3,)),
    ((2, 3), (3, 4)),
    ((5, 2, 3), (3,)),
    ((5, 2, 3), (3, 4)),
    ((3,), (5, 3, 4)),
    ((2, 3), (5, 3, 4)),
    ((5, 2, 3), (5, 3, 4)),
    ((6, 1, 2, 3), (5, 3, 4)),
    ((0, 3), (3, 4)),
    ((2, 0), (0, 4)),
    ((5, 0, 3), (3, 4)),
    ((0, 2, 3), (3, 0)),
    ((2, 2, 0), (0, 4)),
]


def random(shape, seed):
    return np.random.default_rng(seed).normal(size=shape)


@pytest.mark.parametrize(("left", "right"), SHAPES)
def test_shapes_are_numpys(left, right):
    a, b = random(left, 1), random(right, 2)
    x, y = rk.tensor(a, requires_grad=True), rk.tensor(b, requires_grad=True)
    product = x @ y
    assert product.shape == (a @ b).shape
    np.testing.assert_allclose(product.data, a @ b, rtol=1e-12, atol=1e-12)
    product.backward(rk.ones_like(product))
    assert x.grad.shape == left
    assert y.grad.shape == right


@pytest.mark.parametrize("order", ["C", "F", "strided", "read-only"])
def test_layouts(order):
    def arranged(array):
        if order == "F":
            return np.asfortranarray(array)
        if order == "strided":
            return np.repeat(array, 2, -1)[..., ::2]
        array.flags.writeable = order != "read-only"
        return array

    x, w = arranged(random((4, 2, 3), 1)), arranged(random((5, 3), 2))
    inputs = [rk.as_tensor(x).requires_grad_(), rk.as_tensor(w).requires_grad_()]
    y = rk.linear(*inputs)
    np.testing.assert_allclose(y.data, x @ w.T, rtol=1e-12)
    y.backward(rk.ones_like(y))
    np.testing.assert_allclose(inputs[0].grad.data, np.broadcast_to(w.sum(0), x.shape))
    np.testing.assert_allclose(inputs[1].grad.data, np.tile(x.sum((0, 1)), (5, 1)))
    np.testing.assert_allclose((inputs[0] @ inputs[1].T).data, x @ w.T, rtol=1e-12)


def test_linear_adds_the_bias_to_a_new_array():
    x, w, b = rk.ones(2, 3), rk.zeros(4, 3), rk.arange(4.0)
    assert rk.linear(x, w, b).tolist() == [[0.0, 1.0, 2.0, 3.0]] * 2
    assert w.data.sum() == 0.0
    assert rk.linear(rk.ones(3), w, b).shape == (4,)


@pytest.mark.parametrize(
    ("call", "error", "text"),
    [
        (lambda: rk.ones(2, 3) @ rk.ones(2, 3), ShapeError, r"\(2, 3\) @ \(2, 3\)"),
        (lambda: rk.ones(2, 3) @ rk.ones(2), ShapeError, r"inner sizes differ"),
        (lambda: rk.ones(2, 2, 3) @ rk.ones(3, 3, 2), ShapeError, "matmul"),
        (lambda: rk.ones(2) @ rk.tensor(1.0), ShapeError, "at least 1-d"),
        (lambda: rk.tensor(1.0) @ rk.ones(2), ShapeError, "at least 1-d"),
        (lambda: rk.linear(rk.ones(2, 3), rk.ones(4, 2)), ShapeError, r"x: expected \(..., 2\)"),
        (lambda: rk.linear(rk.ones(2, 3), rk.ones(3)), ShapeError, r"weight: expected \(O, I\)"),
        (lambda: rk.linear(rk.tensor(1.0), rk.ones(4, 2)), ShapeError, r"got \(\)"),
        (
            lambda: rk.linear(rk.ones(2, 3), rk.ones(4, 3), rk.ones(3)),
            ShapeError,
            r"bias: expected \(4,\), got \(3,\)",
        ),
        (lambda: rk.tensor([1]) @ rk.tensor([1]), DTypeError, "float32 or float64"),
    ],
)
def test_errors(call, error, text):
    with pytest.raises(error, match=text):
        call()


def test_every_product_goes_through_the_kernel():
    seen = []

    def kernel(a, b):
        assert a.ndim >= 2
        assert b.ndim >= 2
        seen.append((a.shape, b.shape))
        return np.matmul(a, b)

    x = rk.ones(4, 2, 3, requires_grad=True)
    w = rk.ones(5, 3, requires_grad=True)
    former = rk.set_matmul_kernel(kernel)
    try:
        rk.linear(x, w).sum().backward()
        x.detach()[0, 0] @ w.detach()[0]
    finally:
        assert rk.set_matmul_kernel(former) is kernel
    assert seen == [
        ((8, 3), (3, 5)),
        ((8, 5), (5, 3)),
        ((5, 8), (8, 3)),
        ((1, 3), (3, 1)),
    ]
    x.detach() @ w.detach().T
    assert len(seen) == 4
