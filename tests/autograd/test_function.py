"""Function: a backward pass written by hand enters the tape."""

import gc
import weakref

import numpy as np
import pytest

import rnnkit as rk
from rnnkit.errors import DTypeError, GraphError, MissingRuleError, ShapeError


class Scale(rk.Function):
    """factor * x + y; y may be left out."""

    @staticmethod
    def forward(ctx, x, y, *, factor):
        assert type(x) is np.ndarray
        ctx.factor = factor
        return x * factor if y is None else x * factor + y

    @staticmethod
    def backward(ctx, d_out):
        return d_out * ctx.factor, d_out


class SinCos(rk.Function):
    """Two float outputs and one of integers."""

    log: list = []  # noqa: RUF012

    @staticmethod
    def forward(ctx, x):
        ctx.cos = np.cos(x)
        return np.sin(x), ctx.cos, np.sign(x).astype(np.int64)

    @staticmethod
    def backward(ctx, d_sin, d_cos, d_sign):
        SinCos.log.append((d_sin is None, d_cos is None, d_sign is None))
        (x,) = ctx.inputs
        d_x = 0.0
        if d_sin is not None:
            d_x = d_sin * rk.cos(x)
        if d_cos is not None:
            d_x = d_x - d_cos * rk.sin(x)
        return d_x


def double(*values):
    return rk.tensor(values, dtype="float64", requires_grad=True)


def test_values_and_gradients():
    x, y = double(1.0, 2.0), double(3.0, 4.0)
    out = Scale.apply(x, y, factor=5.0)
    assert out.tolist() == [8.0, 14.0]
    assert out.grad_fn.name == "Scale"
    out.backward(rk.tensor(np.array([1.0, 10.0])))
    assert x.grad.tolist() == [5.0, 50.0]
    assert y.grad.tolist() == [1.0, 10.0]
    assert rk.gradcheck(lambda x, y: Scale.apply(x, y, factor=5.0), [x, y])


def test_none_passes_through():
    x = double(1.0)
    out = Scale.apply(x, None, factor=2.0)
    out.backward()
    assert (out.item(), x.grad.item()) == (2.0, 2.0)


def test_several_outputs():
    x = double(0.3, -0.4)
    sine, cosine, sign = SinCos.apply(x)
    assert not sign.requires_grad
    assert sign.tolist() == [1, -1]
    SinCos.log.clear()
    cosine.sum().backward()
    assert SinCos.log == [(True, False, True)]
    np.testing.assert_allclose(x.grad.data, -np.sin(x.data))
    assert sine.requires_grad
    assert rk.gradcheck(SinCos.apply, x)
    assert rk.gradgradcheck(SinCos.apply, x)


def test_outputs_that_need_no_gradient():
    seen = []

    class DoubleAndCount(rk.Function):
        @staticmethod
        def forward(ctx, x):
            ctx.constant_outputs = {1}
            return x * 2, np.full(1, x.size, x.dtype)

        @staticmethod
        def backward(ctx, d_y, d_count):
            seen.append(d_count)
            return d_y * 2.0

    x = double(1.0, 3.0)
    y, count = DoubleAndCount.apply(x)
    assert (y.requires_grad, count.requires_grad, count.grad_fn) == (True, False, None)
    (y * count).sum().backward()
    assert x.grad.tolist() == [4.0, 4.0]
    assert seen == [None]


def test_a_tuple_of_one_stays_a_tuple():
    class One(rk.Function):
        @staticmethod
        def forward(ctx, x):
            return (x * 2,)

        @staticmethod
        def backward(ctx, d_y):
            return (d_y * 2.0,)

    x = double(1.0)
    (y,) = One.apply(x)
    y.backward()
    assert x.grad.item() == 2.0


def recorder(seen):
    class Recorder(rk.Function):
        @staticmethod
        def forward(ctx, a, b, c):
            seen["forward"] = ctx.needs_input_grad
            return a + b

        @staticmethod
        def backward(ctx, d_y):
            seen["backward"] = ctx.needs_input_grad
            seen["retain"] = ctx.retain_graph
            seen["recording"] = rk.is_grad_enabled()
            return d_y, d_y, None

    return Recorder


def test_needs_input_grad():
    seen = {}
    op = recorder(seen)
    a, b, ids = double(1.0), double(2.0), rk.tensor([1])
    y = op.apply(a, b, ids)
    assert seen["forward"] == (True, True, False)
    rk.grad(y, b)
    assert seen == {
        "forward": (True, True, False),
        "backward": (False, True, False),
        "retain": False,
        "recording": False,
    }
    with rk.no_grad():
        assert not op.apply(a, b, None).requires_grad
    assert seen["forward"] == (False, False, False)
    op.apply(a.detach(), b.detach(), None)
    assert seen["forward"] == (False, False, False)


def test_a_leaf_unfrozen_after_forward_is_not_asked_for():
    """Forward prepared nothing for it."""
    seen = {}
    a, b = double(1.0), double(2.0).requires_grad_(False)
    y = recorder(seen).apply(a, b, None)
    b.requires_grad_()
    y.backward()
    assert seen["backward"] == (True, False, False)
    assert b.grad is None


@pytest.mark.parametrize("create_graph", [False, True])
def test_backward_knows_whether_it_is_recorded_and_retained(create_graph):
    seen = {}
    a, b = double(1.0), double(2.0)
    y = recorder(seen).apply(a, b, None)
    y.backward(retain_graph=True, create_graph=create_graph)
    assert (seen["retain"], seen["recording"]) == (True, create_graph)
    y.backward(create_graph=create_graph)
    assert seen["retain"] is create_graph


def test_context_is_freed_after_backward():
    class Keep(rk.Function):
        @staticmethod
        def forward(ctx, x):
            ctx.kept = x * 2
            kept.append(weakref.ref(ctx.kept))
            return x * 3

        @staticmethod
        def backward(ctx, d_y):
            return d_y * rk.as_tensor(ctx.kept)

    kept = []
    gc.disable()
    try:
        y = Keep.apply(double(1.0))
        y.backward(retain_graph=True)
        assert kept[0]() is not None
        y.backward()
        assert kept[0]() is None
        with pytest.raises(GraphError, match="Keep"):
            y.backward()
    finally:
        gc.enable()


def returning(value):
    class Returning(rk.Function):
        @staticmethod
        def forward(ctx, x):
            return x * 1

        @staticmethod
        def backward(ctx, d_y):
            return value

    return Returning.apply(double(1.0, 2.0)).sum()


@pytest.mark.parametrize(
    ("value", "error", "text"),
    [
        ((None, None), GraphError, "expected 1 gradients, one per input, got 2"),
        (np.ones(2), DTypeError, "gradient 0: expected a Tensor, got ndarray"),
        (rk.ones(3, dtype="float64"), ShapeError, r"gradient 0: expected shape \(2,\)"),
        (rk.ones(2), DTypeError, "gradient 0: expected dtype float64, got float32"),
    ],
)
def test_wrong_gradients_are_named(value, error, text):
    with pytest.raises(error, match=f"Returning.backward.*{text}"):
        returning(value).backward()


def test_a_gradient_of_none_is_zero():
    returning(None).backward()


def test_wrong_inputs_and_outputs_are_named():
    message = "Scale: input 0: expected a Tensor or None, got ndarray; what is no tensor goes by"
    with pytest.raises(DTypeError, match=message):
        Scale.apply(np.ones(2), None, factor=1.0)

    class Wrong(rk.Function):
        @staticmethod
        def forward(ctx, x):
            return x.tolist()

    with pytest.raises(DTypeError, match=r"Wrong\.forward: expected arrays, got list"):
        Wrong.apply(double(1.0))


@pytest.mark.parametrize("several", [False, True])
def test_results_in_the_other_byte_order_are_turned_round(several):
    class Swapped(rk.Function):
        @staticmethod
        def forward(ctx, x):
            y = x.astype(x.dtype.newbyteorder())
            return (y, y) if several else y

        @staticmethod
        def backward(ctx, *d_ys):
            return d_ys[0]

    x = double(1.0, 2.0)
    y = Swapped.apply(x)
    y = y[1] + y[0] if several else y
    assert (y.dtype.isnative, y.tolist()) == (True, [2.0, 4.0] if several else [1.0, 2.0])
    y.sum().backward()
    assert x.grad.tolist() == [1.0, 1.0]


def test_a_function_without_backward_is_named():
    class Forward(rk.Function):
        @staticmethod
        def forward(ctx, x):
            return x * 1

    with pytest.raises(MissingRuleError, match="Forward"):
        Forward.apply(double(1.0)).backward()


def test_forward_may_return_a_numpy_scalar():
    class Total(rk.Function):
        @staticmethod
        def forward(ctx, x):
            ctx.n = len(x)
            return x.sum()

        @staticmethod
        def backward(ctx, d_y):
            return d_y.expand(ctx.n)

    x = double(1.0, 2.0)
    Total.apply(x).backward()
    assert x.grad.tolist() == [1.0, 1.0]
