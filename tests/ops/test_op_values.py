"""Values of the ops, against NumPy and against formulas in float64; extremes included."""

import math

import numpy as np
import pytest

import rnnkit as rk
from rnnkit.errors import ArgumentError, DTypeError, ShapeError

INF, NAN = np.inf, np.nan
X = np.random.default_rng(1).normal(size=(2, 3, 5))
Y = np.random.default_rng(2).normal(size=(3, 1)) + 3.0
MASK = X > 0


def sigmoid(x):
    return 1 / (1 + np.exp(-x))


def log_softmax(x, axis):
    return x - np.log(np.exp(x).sum(axis, keepdims=True))


VALUES = {
    "add": (lambda x, y: x + y, lambda x, y: x + y),
    "sub": (lambda x, y: x - y, lambda x, y: x - y),
    "mul": (lambda x, y: x * y, lambda x, y: x * y),
    "div": (lambda x, y: x / y, lambda x, y: x / y),
    "rsub": (lambda x, y: 2 - x, lambda x, y: 2 - x),
    "rdiv": (lambda x, y: 2 / y, lambda x, y: 2 / y),
    "pow": (lambda x, y: y**x, lambda x, y: y**x),
    "pow 2": (lambda x, y: x**2, lambda x, y: x**2),
    "pow 1": (lambda x, y: x**1, lambda x, y: x),
    "pow 0.5": (lambda x, y: y**0.5, lambda x, y: np.sqrt(y)),
    "pow 3": (lambda x, y: x.pow(3), lambda x, y: x**3),
    "rpow": (lambda x, y: 2**x, lambda x, y: 2**x),
    "neg": (lambda x, y: -x, lambda x, y: -x),
    "pos": (lambda x, y: +x, lambda x, y: x),
    "abs": (lambda x, y: abs(x), lambda x, y: np.abs(x)),
    "exp": (lambda x, y: x.exp(), lambda x, y: np.exp(x)),
    "expm1": (lambda x, y: x.expm1(), lambda x, y: np.expm1(x)),
    "log": (lambda x, y: y.log(), lambda x, y: np.log(y)),
    "log1p": (lambda x, y: y.log1p(), lambda x, y: np.log1p(y)),
    "sqrt": (lambda x, y: y.sqrt(), lambda x, y: np.sqrt(y)),
    "square": (lambda x, y: x.square(), lambda x, y: x * x),
    "sin": (lambda x, y: x.sin(), lambda x, y: np.sin(x)),
    "cos": (lambda x, y: x.cos(), lambda x, y: np.cos(x)),
    "tanh": (lambda x, y: x.tanh(), lambda x, y: np.tanh(x)),
    "sigmoid": (lambda x, y: x.sigmoid(), lambda x, y: sigmoid(x)),
    "relu": (lambda x, y: x.relu(), lambda x, y: np.where(x > 0, x, 0)),
    "softplus": (lambda x, y: x.softplus(), lambda x, y: np.log(1 + np.exp(x))),
    "softplus 2": (lambda x, y: x.softplus(2), lambda x, y: np.log(1 + np.exp(2 * x)) / 2),
    "sign": (lambda x, y: x.sign(), lambda x, y: np.sign(x)),
    "floor": (lambda x, y: x.floor(), lambda x, y: np.floor(x)),
    "maximum": (lambda x, y: x.maximum(0.5), lambda x, y: np.maximum(x, 0.5)),
    "minimum": (lambda x, y: x.minimum(y), lambda x, y: np.minimum(x, y)),
    "clip": (lambda x, y: x.clip(-0.5, 1), lambda x, y: np.clip(x, -0.5, 1)),
    "clip low": (lambda x, y: x.clip(min=0.25), lambda x, y: np.clip(x, 0.25, None)),
    "where": (lambda x, y: rk.where(x > 0, x, y), lambda x, y: np.where(x > 0, x, y)),
    "sum": (lambda x, y: x.sum(), lambda x, y: x.sum()),
    "sum axes": (lambda x, y: x.sum((0, -1)), lambda x, y: x.sum((0, 2))),
    "sum keep": (lambda x, y: x.sum(1, keepdims=True), lambda x, y: x.sum(1, keepdims=True)),
    "mean": (lambda x, y: x.mean(-1), lambda x, y: x.mean(-1)),
    "var": (lambda x, y: x.var(1), lambda x, y: x.var(1, ddof=1)),
    "var 0": (lambda x, y: x.var((0, 2), 0), lambda x, y: x.var((0, 2))),
    "std": (lambda x, y: x.std(-1, keepdims=True), lambda x, y: x.std(-1, ddof=1, keepdims=True)),
    "max": (lambda x, y: x.max((0, 1)), lambda x, y: x.max((0, 1))),
    "min": (lambda x, y: x.min(-2, keepdims=True), lambda x, y: x.min(1, keepdims=True)),
    "cumsum": (lambda x, y: x.cumsum(1), lambda x, y: x.cumsum(1)),
    "logsumexp": (lambda x, y: x.logsumexp(1), lambda x, y: np.log(np.exp(x).sum(1))),
    "softmax": (lambda x, y: x.softmax(), lambda x, y: np.exp(log_softmax(x, -1))),
    "log_softmax": (lambda x, y: x.log_softmax(1), lambda x, y: log_softmax(x, 1)),
    "reshape": (lambda x, y: x.reshape(5, -1), lambda x, y: x.reshape(5, -1)),
    "flatten": (lambda x, y: x.flatten(1), lambda x, y: x.reshape(2, 15)),
    "flatten all": (lambda x, y: x.flatten(), lambda x, y: x.ravel()),
    "transpose": (lambda x, y: x.transpose(0, -1), lambda x, y: x.swapaxes(0, 2)),
    "swapaxes": (lambda x, y: x.swapaxes(0, 1), lambda x, y: x.swapaxes(0, 1)),
    "permute": (lambda x, y: x.permute(1, 2, 0), lambda x, y: x.transpose(1, 2, 0)),
    "permute tuple": (lambda x, y: x.permute((2, 0, 1)), lambda x, y: x.transpose(2, 0, 1)),
    "T": (lambda x, y: x.T, lambda x, y: x.T),
    "unsqueeze": (lambda x, y: x.unsqueeze(-2), lambda x, y: x[:, :, None, :]),
    "squeeze": (lambda x, y: y.squeeze(), lambda x, y: y[:, 0]),
    "squeeze no-op": (lambda x, y: x.squeeze(1), lambda x, y: x),
    "expand": (lambda x, y: y.expand(2, -1, 4), lambda x, y: np.broadcast_to(y, (2, 3, 4))),
    "broadcast_to": (lambda x, y: y.broadcast_to((3, 2)), lambda x, y: np.repeat(y, 2, 1)),
    "flip": (lambda x, y: x.flip((0, -1)), lambda x, y: x[::-1, :, ::-1]),
    "cat": (lambda x, y: rk.cat([x, x], -2), lambda x, y: np.concatenate([x, x], 1)),
    "stack": (lambda x, y: rk.stack([x, -x], -1), lambda x, y: np.stack([x, -x], 3)),
    "sum_to": (lambda x, y: rk.sum_to(x, (3, 1)), lambda x, y: x.sum((0, 2))[:, None]),
    "matmul": (lambda x, y: y.T @ x, lambda x, y: np.einsum("bd,abc->adc", y, x)),
    "linear": (lambda x, y: rk.linear(x, x[0]), lambda x, y: np.einsum("abc,dc->abd", x, x[0])),
}


@pytest.mark.parametrize("dtype", ["float32", "float64"])
@pytest.mark.parametrize("name", VALUES)
def test_values(name, dtype):
    ours, reference = VALUES[name]
    y = ours(rk.tensor(X, dtype), rk.tensor(Y, dtype))
    expected = reference(X, Y)
    assert y.dtype == dtype
    assert y.shape == np.shape(expected)
    assert isinstance(y.data, np.ndarray)
    tolerance = 1e-5 if dtype == "float32" else 1e-12
    np.testing.assert_allclose(y.data, expected, rtol=tolerance, atol=tolerance)


@pytest.mark.parametrize("name", VALUES)
def test_values_in_functions_are_those_in_methods(name):
    """Every op that is a method is also a function of the package, and the same one."""
    method = name.split()[0]
    if hasattr(rk.Tensor, method) and method in rk.__all__:
        assert getattr(rk, method) is getattr(rk.Tensor, method)


def test_reshape_of_no_elements():
    for shape, wanted, expected in (
        ((0, 2, 3), (0, -1), (0, 6)), ((0, 2, 3), (0, -1, 2), (0, 3, 2)), ((2, 0), (-1, 0), (2, 0)),
        ((0, 4), (-1, 2, 2), (0, 2, 2)), ((3, 0, 4), (0, 6, -1), (0, 6, 2)),
    ):
        x = rk.ones(shape, requires_grad=True)
        y = x.reshape(wanted)
        assert y.shape == expected
        assert rk.grad(y.sum(), x)[0].shape == shape
    for shape, wanted in (((0, 2, 3), (0, -1, 4)), ((0, 0), (0, -1)), ((2, 3), (0, -1))):
        with pytest.raises(ShapeError):
            rk.ones(shape).reshape(wanted)


def test_arrays_and_numbers_are_taken_for_tensors():
    array = np.arange(6.0).reshape(1, 2, 3)
    for op in (
        rk.exp, rk.neg, rk.sum, rk.max, rk.argmax, rk.softmax, rk.relu, rk.flatten, rk.squeeze,
        rk.flip, rk.clone, rk.isnan, lambda x: rk.reshape(x, 6), lambda x: rk.permute(x, 2, 0, 1),
        lambda x: rk.transpose(x, 0, 1), lambda x: rk.unsqueeze(x, 0), lambda x: rk.cumsum(x, 1),
        lambda x: rk.split(x, 1)[0], lambda x: rk.chunk(x, 2, 1)[0], lambda x: rk.unbind(x, 1)[0],
        lambda x: rk.astype(x, "float32"), lambda x: rk.expand(x, 4, -1, -1),
        lambda x: rk.broadcast_to(x, (4, 2, 3)), lambda x: rk.gather(x, 2, [[[0]]]),
        lambda x: rk.cat([x, x]), lambda x: rk.stack([x]), lambda x: rk.where(x > 1, x, 0.0),
        lambda x: rk.linear(x, x[0]), lambda x: rk.layer_norm(x, 3), rk.dropout,
    ):  # fmt: skip
        assert type(op(array)) is rk.Tensor
    assert rk.exp(0.0).item() == 1.0
    assert rk.maximum(1.0, array).shape == (1, 2, 3)


COMPARISONS = {
    "<": (lambda a, b: a < b),
    "<=": (lambda a, b: a <= b),
    ">": (lambda a, b: a > b),
    ">=": (lambda a, b: a >= b),
    "==": (lambda a, b: a == b),
    "!=": (lambda a, b: a != b),
}


@pytest.mark.parametrize("sign", COMPARISONS)
def test_comparisons(sign):
    a, b = np.float32([1, 2, NAN, INF]), np.float32([2, 2, NAN, -INF])
    compare = COMPARISONS[sign]
    for y in (compare(rk.tensor(a), rk.tensor(b)), compare(rk.tensor(a), b)):
        assert y.dtype == bool
        np.testing.assert_array_equal(y.data, compare(a, b))
    np.testing.assert_array_equal(compare(2.0, rk.tensor(a)).data, compare(2.0, a))


def test_logic():
    a, b = rk.tensor([True, True, False]), rk.tensor([True, False, False])
    assert (a & b).tolist() == [True, False, False]
    assert (a | b).tolist() == [True, True, False]
    assert (a ^ b).tolist() == [False, True, False]
    assert (~a).tolist() == [False, False, True]
    assert (True & a).tolist() == a.tolist()
    assert rk.logical_not(rk.tensor([0.0, 2.0])).tolist() == [True, False]
    for wrong in (lambda: rk.ones(1) & a, lambda: a | 1, lambda: ~rk.ones(1)):
        with pytest.raises(TypeError, match="bool"):
            wrong()


def test_positions_and_truth():
    x = rk.tensor([[1.0, 5.0, 5.0], [0.0, -2.0, -2.0]])
    assert x.argmax().item() == 1
    assert x.argmin(-1).tolist() == [0, 1]
    assert x.argmax(1, keepdims=True).tolist() == [[1], [0]]
    assert (x > 0).all(-1).tolist() == [True, False]
    assert (x > 0).any().item() is True
    assert x.isnan().any().item() is False
    assert rk.isfinite(rk.tensor([1.0, INF, NAN])).tolist() == [True, False, False]


# ---- extremes: no warning, no overflow, NaN where there is NaN


@pytest.mark.parametrize("dtype", ["float32", "float64"])
def test_sigmoid_over_the_whole_range(dtype):
    x = np.array([-INF, -1e30, -80, -20, -1, 0, 1, 20, 80, 1e30, INF, NAN], dtype)
    y = rk.tensor(x).sigmoid().data
    expected = [0, 0, *[1 / (1 + math.exp(-v)) for v in x[2:9].tolist()], 1, 1, NAN]
    np.testing.assert_allclose(y, expected, rtol=4 * np.finfo(dtype).eps, atol=0)
    assert y[5] == 0.5


@pytest.mark.parametrize("dtype", ["float32", "float64"])
def test_softplus_over_the_whole_range(dtype):
    x = np.array([-INF, -1e30, -80, -20, -1, 0, 1, 20, 80, 1e30, INF, NAN], dtype)
    y = rk.tensor(x).softplus().data
    middle = [max(v, 0) + math.log1p(math.exp(-abs(v))) for v in x[2:9].tolist()]
    np.testing.assert_allclose(y, [0, 0, *middle, x[9], INF, NAN], rtol=1e-6)


@pytest.mark.parametrize(
    ("shape", "axis"),
    [
        ((200_000, 3), 0), ((3, 200_000), 0), ((4, 50_001, 3), 1), ((4, 50_001, 3), (0, 1)),
        ((3, 400, 300), (1, 2)), ((513, 7), 0), ((300, 7, 300, 2), (0, 2)), ((200_000, 3), None),
    ],
)  # fmt: skip
@pytest.mark.parametrize("layout", ["C", "F", "every other", "backwards"])
def test_sums_of_many_float32_are_accurate_along_any_axis(shape, axis, layout):
    x = np.random.default_rng(3).normal(1000.0, size=shape).astype(np.float32)
    views = {"F": np.asfortranarray(x), "every other": x[..., ::2], "backwards": x[::-1]}
    x = views.get(layout, x)
    found, exact = rk.as_tensor(x), x.astype(np.float64)
    assert found.data.strides == x.strides
    for keepdims in (False, True):
        expected = exact.sum(axis, keepdims=keepdims)
        np.testing.assert_allclose(found.sum(axis, keepdims).data, expected, rtol=1e-6)
    np.testing.assert_allclose(found.mean(axis).data, exact.mean(axis), rtol=1e-6)
    np.testing.assert_allclose(found.var(axis).data, exact.var(axis, ddof=1), rtol=1e-4, atol=1e-6)


@pytest.mark.parametrize("axis", [0, 1])
def test_running_sums_of_many_float32_are_accurate(axis):
    x = np.random.default_rng(5).uniform(size=(50_000, 2)).astype(np.float32)
    x = rk.as_tensor(x if axis == 0 else x.T)
    expected = np.cumsum(x.data, axis, np.float64)
    np.testing.assert_allclose(x.cumsum(axis).data, expected, rtol=1e-7)
    x = np.full(4, 2.0**24, np.float32)
    x[1:] = 1.0
    assert rk.as_tensor(x).cumsum(0).tolist() == [2.0**24, 2.0**24, 2.0**24 + 2, 2.0**24 + 4]


@pytest.mark.parametrize("layout", ["C", "F"])
def test_normalisation_over_many_float32_is_accurate_however_they_lie(layout):
    x = np.random.default_rng(6).normal(100.0, size=(3, 50_000)).astype(np.float32)
    x = np.asarray(x, order=layout)
    exact = x.astype(np.float64)
    z = (exact - exact.mean(1, keepdims=True)) / np.sqrt(exact.var(1, keepdims=True) + 1e-5)
    np.testing.assert_allclose(rk.layer_norm(rk.as_tensor(x), 50_000).data, z, atol=1e-4)
    expected = log_softmax(exact - 100.0, 1)
    np.testing.assert_allclose(rk.as_tensor(x).log_softmax(1).data, expected, rtol=4e-7)
    np.testing.assert_allclose(rk.as_tensor(x).softmax(1).data, np.exp(expected), rtol=2e-6)


def test_an_axis_of_size_1_does_not_pass_for_the_densest():
    x = np.random.default_rng(0).random((100_003, 1), np.float32)
    # One axis in memory, which NumPy adds in pairs: not to be cut into blocks first.
    np.testing.assert_array_equal(rk.as_tensor(x).sum(0).data, np.add.reduce(x, axis=0))


def test_sums_of_many_repeats_of_the_same_memory():
    x = rk.broadcast_to(rk.tensor([0.1, 0.2]), (100_000, 2))
    np.testing.assert_allclose(x.sum(0).data, [1e4, 2e4], rtol=1e-5)
    np.testing.assert_allclose(rk.tensor(0.1).expand(100_000, 3).sum(0).data, 1e4, rtol=1e-5)
    assert rk.zeros(1000, 0).sum(0).shape == (0,)


def test_the_gradient_of_a_bias_of_many_rows_is_accurate():
    d_y = np.random.default_rng(4).uniform(size=(1000, 300, 4)).astype(np.float32)
    bias = rk.zeros(4, requires_grad=True)
    rk.linear(rk.zeros(1000, 300, 2), rk.zeros(4, 2), bias).backward(d_y)
    expected = d_y.sum((0, 1), dtype=np.float64)
    np.testing.assert_allclose(bias.grad.data, expected, rtol=1e-6)
    column = rk.zeros(300, 1, requires_grad=True)
    (column + rk.zeros(1000, 300, 4)).backward(d_y)
    expected = d_y.sum((0, 2), dtype=np.float64)[:, None]
    np.testing.assert_allclose(column.grad.data, expected, rtol=1e-6)


@pytest.mark.parametrize("dtype", ["float32", "float64"])
@pytest.mark.parametrize("shift", [0.0, 1e4, -1e4])
def test_softmax_family_is_shift_invariant(shift, dtype):
    x = rk.tensor(np.array([[0.0, 1.0, 3.0]]) + shift, dtype)
    expected = np.exp([0.0, 1, 3]) / np.exp([0.0, 1, 3]).sum()
    np.testing.assert_allclose(x.softmax().data[0], expected, rtol=1e-5)
    np.testing.assert_allclose(x.log_softmax().data[0], np.log(expected), rtol=1e-5)
    lse = np.log(np.exp([0.0, 1, 3]).sum()) + shift
    np.testing.assert_allclose(x.logsumexp(-1).data, [lse], rtol=1e-6)


def test_log_softmax_keeps_what_softmax_underflows():
    x = rk.tensor([0.0, 1000.0])
    assert x.softmax(0).tolist() == [0.0, 1.0]
    assert x.log_softmax(0).tolist() == [-1000.0, 0.0]


def test_logsumexp_of_infinities_and_nothing():
    x = rk.tensor([[-INF, -INF], [INF, 0.0], [-INF, 2.0], [NAN, 0.0]], requires_grad=True)
    y = x.logsumexp(1)
    np.testing.assert_array_equal(y.data, [-INF, INF, 2.0, NAN])
    y[rk.tensor([0, 2])].sum().backward()
    np.testing.assert_array_equal(x.grad.data[[0, 2]], [[0, 0], [0, 1]])
    # What the logarithm of the sum does not know of its elements, their gradients do not either.
    (d_x,) = rk.grad(x.logsumexp(1)[rk.tensor([1, 3])].sum(), x)
    np.testing.assert_array_equal(d_x.data[[1, 3]], [[NAN, 0], [NAN, NAN]])
    np.testing.assert_array_equal(rk.zeros(2, 0).logsumexp(1).data, [-INF, -INF])


UNARY = ("abs", "cos", "exp", "expm1", "floor", "log", "log1p", "neg", "relu", "sigmoid")
UNARY += ("sign", "sin", "softplus", "sqrt", "square", "tanh", "isnan", "isfinite")
UNARY += ("logical_not", "clone")
FOLDS = ("sum", "mean", "var", "std", "max", "min", "argmax", "argmin", "all", "any", "logsumexp")
ALONG = ("softmax", "log_softmax", "cumsum", "cumprod", "flip", *FOLDS)


@pytest.mark.parametrize("name", [*UNARY, *ALONG])
def test_no_warning_and_nan_stays_nan(name):
    """pytest turns warnings into errors; backward passes run as well."""
    values = [[NAN, INF, -INF, 0.0], [-0.0, 3e38, -3e38, 1e-45], [-1.0, 1.0, -100.0, 100.0]]
    x = rk.tensor(values, requires_grad=True)
    y = getattr(rk, name)(x, 1) if name in ALONG else getattr(rk, name)(x)
    if y.requires_grad:
        assert np.isnan(y.data[0]).any()
        y.backward(rk.full_like(y, INF))


@pytest.mark.parametrize("op", [rk.add, rk.sub, rk.mul, rk.div, rk.pow, rk.maximum, rk.minimum])
def test_pairs_of_extremes_give_numpys_values_without_a_warning(op):
    values = np.float32([NAN, INF, -INF, 0.0, -0.0, 3e38, -3e38, 1e-45, 1.0, -2.0])
    a = rk.tensor(values[:, None], requires_grad=True)
    b = rk.tensor(values, requires_grad=True)
    y = op(a, b)
    names = {"sub": "subtract", "mul": "multiply", "div": "divide", "pow": "power"}
    with np.errstate(all="ignore"):
        expected = getattr(np, names.get(op.__name__, op.__name__))(values[:, None], values)
    np.testing.assert_array_equal(y.data, expected)
    y.sum().backward()


def test_products_of_extremes_do_not_warn():
    x = rk.tensor([[INF, 0.0], [NAN, -INF], [3e38, 3e38]], requires_grad=True)
    w = rk.tensor([[0.0, 1.0], [INF, 1.0], [-3e38, 3e38]], requires_grad=True)
    (x @ w.T).sum().backward()
    rk.linear(x, w, rk.tensor([INF, -INF, 0.0])).sum().backward()
    rk.layer_norm(x, 2).sum().backward()


def test_maximum_and_clip_propagate_nan():
    x = rk.tensor([NAN, 1.0])
    assert np.isnan(rk.maximum(x, 0.0).data[0])
    assert np.isnan(rk.minimum(x, 0.0).data[0])
    assert np.isnan(x.clip(-1, 1).data[0])
    assert np.isnan(x.clip(rk.tensor([-1.0]), rk.tensor([2.0])).data[0])
    np.testing.assert_array_equal(x.clip(rk.tensor([0.0, NAN])).data, [NAN, NAN])
    assert np.isnan(x.relu().data[0])
    assert np.isnan(x.max().data)


@pytest.mark.parametrize("op", [rk.maximum, rk.minimum])
def test_gradients_do_not_vanish_at_the_nan_that_wins(op):
    a = rk.tensor([NAN, 1.0, NAN, 1.0], requires_grad=True)
    b = rk.tensor([1.0, NAN, NAN, 2.0], requires_grad=True)
    op(a, b).backward(rk.tensor([3.0, 4.0, 5.0, 6.0]))
    a_wins = op is rk.minimum
    assert a.grad.tolist() == [3.0, 4.0, 5.0, 6.0 * a_wins]
    assert b.grad.tolist() == [3.0, 4.0, 5.0, 6.0 * (not a_wins)]


@pytest.mark.parametrize(
    "op",
    [
        rk.relu, lambda x: x.clip(-1, 1), lambda x: x.clip(rk.tensor([-1.0]), 1),
        lambda x: x.clip(min=-1), lambda x: x.clip(max=rk.tensor([1.0])),
    ],
)  # fmt: skip
def test_gradients_do_not_vanish_at_nan(op):
    x = rk.tensor([NAN, 0.5], requires_grad=True)
    op(x).backward(rk.tensor([3.0, 4.0]))
    assert x.grad.tolist() == [3.0, 4.0]


def test_clip_of_integers():
    x = rk.tensor([-3, 2, 300], dtype="int32")
    for low in (0, np.int64(0), rk.tensor([0], dtype="int32")):
        y = x.clip(low, 255)
        assert (y.dtype, y.tolist()) == ("int32", [0, 2, 255])
    assert x.clip(max=10**12).tolist() == x.tolist()
    assert x.clip(min=1.5).data.dtype == "float32"


@pytest.mark.parametrize("bound", [np.array("3"), np.str_("3"), np.array(1j), np.complex64(1j)])
def test_bounds_of_clip_that_are_no_real_numbers_are_refused(bound):
    for side in ("min", "max"):
        with pytest.raises(DTypeError, match="clip: expected a real number"):
            rk.tensor([1.0, 5.0]).clip(**{side: bound})


@pytest.mark.parametrize("eps", [-1, NAN, None, "x", True])
def test_an_eps_that_would_give_nan_is_refused(eps):
    with pytest.raises(ArgumentError, match="layer_norm: eps: expected a number >= 0, got"):
        rk.layer_norm(rk.tensor([1.0, 2.0]), 2, eps=eps)


def test_a_beta_of_softplus_that_is_no_positive_number_is_refused():
    for beta in (0, -1.0, NAN, "x", True):
        with pytest.raises(ArgumentError, match="softplus: beta: expected a number > 0, got"):
            rk.softplus(rk.tensor([1.0]), beta)


# ---- kinks and ties: documented choices


@pytest.mark.parametrize(
    ("fn", "at", "slope"),
    [
        (rk.relu, 0.0, 0.0),
        (rk.abs, 0.0, 0.0),
        (lambda x: rk.maximum(x, 1.0), 1.0, 0.5),
        (lambda x: rk.minimum(1.0, x), 1.0, 0.5),
        (lambda x: x.clip(-1.0, 1.0), 1.0, 1.0),
        (lambda x: x.clip(-1.0, 1.0), -1.0, 1.0),
        (lambda x: x.clip(-1.0, 1.0), 1.5, 0.0),
        (lambda x: x.clip(np.float32(-1.0), np.array(1.0)), 1.0, 1.0),
        (lambda x: x.clip(rk.tensor([-1.0]), rk.tensor([1.0])), 1.0, 1.0),
        (lambda x: x.clip(rk.tensor([-1.0]), 1.0), -1.0, 1.0),
        (lambda x: x.clip(np.array([-1.0], np.float32)), -1.5, 0.0),
        (lambda x: rk.tensor([1.0]).clip(max=x), 1.0, 0.0),
        (lambda x: rk.tensor([1.0]).clip(max=x), 0.5, 1.0),
        (lambda x: rk.cat([x, rk.ones(2)]).std(), 1.0, 0.0),
        (lambda x: x**2, 0.0, 0.0),
        (lambda x: x**1.0, 0.0, 1.0),
        (lambda x: x**0.0, 0.0, 0.0),
        (lambda x: rk.pow(0.0, x), 2.0, 0.0),
        (lambda x: rk.pow(0.0, x), -1.0, -INF),
    ],
)
def test_derivative_at_special_points(fn, at, slope):
    x = rk.tensor([at], requires_grad=True)
    fn(x).backward()
    assert x.grad.item() == slope


def test_the_gradient_of_std_is_defined_row_by_row():
    values = np.float32([[2.0, 2.0, 2.0], [1.0, NAN, 2.0], [1.0, 2.0, 4.0]])
    x = rk.tensor(values, requires_grad=True)
    y = x.std(1)
    np.testing.assert_allclose(y.data, values.std(1, ddof=1), rtol=1e-6)
    (d_x,) = rk.grad(y.sum(), x, create_graph=True)
    varied = values[2]
    expected = (varied - varied.mean()) / (2 * varied.std(ddof=1))
    np.testing.assert_allclose(d_x.data[1:], [[NAN] * 3, expected], rtol=1e-5)
    (d_d_x,) = rk.grad(d_x[0].sum() + (d_x[2] * d_x[2]).sum(), x)
    np.testing.assert_array_equal([d_x.data[0], d_d_x.data[0]], 0)
    assert np.isfinite(d_d_x.data[2]).all()
    assert np.abs(d_d_x.data[2]).max() > 0


def test_equal_extremes_share_the_gradient():
    x = rk.tensor([[3.0, 3.0, 1.0], [0.0, 2.0, 2.0]], requires_grad=True)
    x.max(1).sum().backward()
    assert x.grad.tolist() == [[0.5, 0.5, 0.0], [0.0, 0.5, 0.5]]


# ---- no elements


def test_reductions_of_nothing():
    x = rk.zeros(3, 0)
    assert x.sum(1).tolist() == [0.0] * 3
    assert np.isnan(x.mean(1).data).all()
    assert np.isnan(rk.zeros(1).var().item())
    assert x.softmax().shape == (3, 0)
    assert x.log_softmax(1).shape == (3, 0)
    assert x.max(0).shape == (0,)
    for name in ("max", "min", "argmax", "argmin"):
        with pytest.raises(ShapeError, match=rf"{name}: no elements.*\(3, 0\)"):
            getattr(x, name)(1)


# ---- integers


def test_integers_and_bools():
    ids = rk.tensor([1, 2, 3])
    assert (ids + 1).dtype == np.int64
    assert (ids * ids).tolist() == [1, 4, 9]
    assert ids.sum().item() == 6
    assert ids.max().item() == 3
    assert (ids > 1).sum().item() == 2
    assert (ids > 1).sum().dtype == np.int64
    assert (-ids).tolist() == [-1, -2, -3]


@pytest.mark.parametrize(
    "op",
    [
        rk.exp, rk.log, rk.sqrt, rk.tanh, rk.sigmoid, rk.relu, rk.softplus, rk.sin, rk.cos,
        rk.expm1, rk.log1p, rk.mean, rk.var, rk.std, rk.logsumexp, rk.softmax, rk.log_softmax,
        lambda x: rk.div(x, x), lambda x: rk.matmul(x, x), lambda x: rk.linear(x, x),
        lambda x: rk.layer_norm(x, 2), lambda x: rk.dropout(x),
        lambda x: rk.embedding(rk.tensor([0]), x),
    ],
)  # fmt: skip
def test_integers_where_reals_are_needed(op):
    with pytest.raises(DTypeError, match="expected a float32 or float64 tensor, got int64"):
        op(rk.tensor([[1, 2], [3, 4]]))


@pytest.mark.parametrize(
    ("call", "error", "text"),
    [
        (lambda: rk.softplus(rk.ones(1), beta=0), ArgumentError, "beta: expected .* > 0, got 0"),
        (lambda: rk.clip(rk.ones(1)), ArgumentError, "min or max"),
        (lambda: rk.tensor([2]) ** -1, ArgumentError, "negative powers"),
        (lambda: rk.where(rk.ones(1), 1.0, 2.0), DTypeError, "condition: expected bools"),
        (lambda: rk.ones(2).sum(1), ShapeError, "sum: axis 1 is out of range for 1 axes"),
        (lambda: rk.ones(2).sum((0, -1)), ArgumentError, "sum: axis.*twice"),
        (lambda: rk.ones(2).sum("x"), DTypeError, "sum: axis: expected an integer"),
        (lambda: rk.ones(2).sum(1.0), DTypeError, "sum: axis: expected an integer, got 1.0"),
        (lambda: rk.ones(2, 3).argmax((0, 1)), DTypeError, r"argmax: axis.*integer, got \(0, 1\)"),
        (lambda: rk.ones(2, 3).argmin(()), DTypeError, r"argmin: axis: .*integer, got \(\)"),
        (lambda: rk.ones(2).reshape(3), ShapeError, "reshape"),
        (lambda: rk.ones(2).reshape(1.5), DTypeError, "reshape: shape: expected integers"),
        (lambda: rk.ones(2, 3).permute(0), ArgumentError, "expected 2 axes, got 1"),
        (lambda: rk.ones(2, 3).flatten(1, 0), ArgumentError, "start_axis 1"),
        (lambda: rk.ones(2).expand(-1, 2), ShapeError, "-1 for a new"),
        (lambda: rk.ones(2).broadcast_to((3,)), ShapeError, "broadcast_to"),
        (lambda: rk.cat([]), ArgumentError, "cat: expected at least one tensor"),
        (lambda: rk.cat([rk.ones(2, 3), rk.ones(3, 2)]), ShapeError, "cat"),
        (lambda: rk.stack([rk.ones(2), rk.ones(3)]), ShapeError, "stack"),
        (lambda: rk.ones(5).split(0), ArgumentError, "size: expected an integer from 1 on, got 0"),
        (lambda: rk.ones(5).split([2, 2]), ArgumentError, r"add up to 5, got \(2, 2\)"),
        (lambda: rk.ones(5).split([-1, 6]), ArgumentError, "add up to 5"),
        (lambda: rk.ones(5).chunk(0), ArgumentError, "chunks.*got 0"),
        (lambda: rk.ones(5).chunk(2.5), ArgumentError, "chunks.*got 2.5"),
        (lambda: rk.ones(5).chunk(True), ArgumentError, "chunks: expected an integer from 1 on"),
        (lambda: rk.ones(5).topk("1"), ArgumentError, "k: expected an integer from 0 to 5"),
        (lambda: rk.one_hot([0], True), ArgumentError, "num_classes: .* integer from 0 on, got T"),
        (lambda: rk.randint(False, 3, (2,)), ArgumentError, "randint: low: expected an integer, g"),
        (lambda: rk.layer_norm(rk.ones(2, 3), 2), ShapeError, r"last axes \(2,\).*\(2, 3\)"),
        (
            lambda: rk.layer_norm(rk.ones(2, 3), 3, rk.ones(2)),
            ShapeError,
            r"weight: expected \(3,\), got \(2,\)",
        ),
    ],
)
def test_errors_say_what_was_expected(call, error, text):
    with pytest.raises(error, match=text):
        call()


# ---- pieces


def test_splits_are_pytorchs():
    x = rk.arange(7)
    assert [p.size for p in x.split(3)] == [3, 3, 1]
    assert [p.size for p in x.split([0, 7])] == [0, 7]
    assert [p.size for p in x.chunk(3)] == [3, 3, 1]
    assert [p.size for p in x.chunk(4)] == [2, 2, 2, 1]
    assert [p.size for p in rk.arange(5).chunk(4)] == [2, 2, 1]
    assert [p.size for p in rk.zeros(0).split(2)] == [0]
    assert [p.size for p in rk.zeros(0).chunk(2)] == [0]
    assert rk.zeros(2, 0).unbind(1) == ()


def test_views_share_memory_and_copies_do_not():
    x = rk.ones(4, 6)
    views = [x[1], x[:, 2:4], x.T, x.reshape(24), x.unbind(1)[3], x.chunk(2)[1], x.flip(0)]
    assert all(np.shares_memory(view.data, x.data) for view in views)
    copies = [x[[1]], x.clone(), x[x > 0], x.astype("float64"), rk.cat([x])]
    assert not any(np.shares_memory(made.data, x.data) for made in copies)


def test_ops_that_change_nothing_give_the_tensor_itself():
    x = rk.ones(2, 3)
    assert x.reshape(2, 3) is x
    assert x.astype("float32") is x
    assert x.broadcast_to((2, 3)) is x
    assert x.squeeze() is x


# ---- layer_norm


@pytest.mark.parametrize("axes", [1, 2])
def test_layer_norm(axes):
    shape = X.shape[-axes:]
    rng = np.random.default_rng(3)
    weight, bias = rng.normal(size=shape), rng.normal(size=shape)
    over = tuple(range(-axes, 0))
    z = (X - X.mean(over, keepdims=True)) / np.sqrt(X.var(over, keepdims=True) + 1e-5)
    x = rk.tensor(X)
    np.testing.assert_allclose(rk.layer_norm(x, shape).data, z, rtol=1e-12)
    y = rk.layer_norm(x, shape, rk.tensor(weight), rk.tensor(bias))
    np.testing.assert_allclose(y.data, z * weight + bias, rtol=1e-12, atol=1e-12)
    y = rk.layer_norm(x, shape, bias=rk.tensor(bias))
    np.testing.assert_allclose(y.data, z + bias, rtol=1e-12, atol=1e-12)


def test_layer_norm_of_a_constant_is_zero():
    y = rk.layer_norm(rk.full((2, 8), 1e4), 8)
    assert y.tolist() == [[0.0] * 8] * 2
