"""`linear_cross_entropy` is `cross_entropy` of `linear`, in less memory."""

from __future__ import annotations

import tracemalloc
from itertools import product

import numpy as np
import pytest

import rnnkit as rk
from rnnkit.errors import ArgumentError, DTypeError, ShapeError
from rnnkit.losses import cross_entropy, linear_cross_entropy

SHAPE, H, C = (5, 3), 7, 11
ROWS = 15
OPTIONS = [
    {"reduction": reduction, "label_smoothing": smoothing, "class_weight": weighted}
    for reduction, smoothing, weighted in product(
        ("mean", "sum", "none"), (0.0, 0.1), (False, True)
    )
]


def make(dtype="float64", bias=True, shape=SHAPE, hidden=H, classes=C, seed=0):
    rng = np.random.default_rng(seed)

    def leaf(*size):
        return rk.tensor(rng.standard_normal(size).astype(dtype), requires_grad=True)

    target = rng.integers(classes, size=shape)
    target[0, 1] = -100
    inputs = [leaf(*shape, hidden), leaf(classes, hidden), leaf(classes) if bias else None]
    return inputs, target


def options_of(option, dtype):
    option = dict(option)
    weighted = option.pop("class_weight")
    weights = np.random.default_rng(9).uniform(0.1, 2, C).astype(dtype) if weighted else None
    return option, weights


def both(inputs, target, option, weights, **chunks):
    x, w, b = inputs
    fused = linear_cross_entropy(x, w, target, b, class_weight=weights, **option, **chunks)
    plain = cross_entropy(rk.linear(x, w, b), target, weights, **option)
    return fused, plain


def gradients(loss, inputs):
    wanted = [t for t in inputs if t is not None]
    return [g.numpy() for g in rk.grad(loss, wanted, rk.ones(*loss.shape, dtype=loss.dtype) * 1.7)]


@pytest.mark.parametrize(
    ("backend", "dtype"), [("auto", "float32"), ("auto", "float64"), ("python", "float64")]
)
@pytest.mark.parametrize("chunk_rows", [1, 4, ROWS, None])
@pytest.mark.parametrize("option", OPTIONS, ids=str)
def test_equals_the_composition(option, chunk_rows, backend, dtype):
    inputs, target = make(dtype)
    option, weights = options_of(option, dtype)
    tolerance = 1e-5 if dtype == "float32" else 1e-12
    with rk.backend(backend):
        fused, plain = both(inputs, target, option, weights, chunk_rows=chunk_rows)
        np.testing.assert_allclose(fused.numpy(), plain.numpy(), rtol=tolerance, atol=tolerance)
        for a, b in zip(gradients(fused, inputs), gradients(plain, inputs), strict=True):
            np.testing.assert_allclose(a, b, rtol=tolerance, atol=tolerance)


@pytest.mark.parametrize("reduction", ["mean", "none"])
def test_large_native_products_too(reduction):
    """Sizes at which products and bias sums run natively, ends of panels included."""
    inputs, target = make("float32", shape=(60, 5), hidden=33, classes=205)
    fused, plain = both(inputs, target, {"reduction": reduction}, None, chunk_rows=128)
    np.testing.assert_allclose(fused.numpy(), plain.numpy(), rtol=1e-5, atol=1e-5)
    for a, b in zip(gradients(fused, inputs), gradients(plain, inputs), strict=True):
        np.testing.assert_allclose(a, b, rtol=1e-4, atol=1e-5)


@pytest.mark.parametrize("reduction", ["mean", "sum", "none"])
@pytest.mark.parametrize("bias", [True, False])
def test_derivatives(reduction, bias):
    inputs, target = make(bias=bias)
    leaves = [t for t in inputs if t is not None]

    def loss(x, w, b=None):
        return linear_cross_entropy(
            x, w, target, b, reduction=reduction, label_smoothing=0.1, chunk_rows=4
        )

    assert rk.gradcheck(loss, leaves)
    assert rk.gradgradcheck(loss, leaves)


@pytest.mark.parametrize("reduction", ["sum", "none"])
def test_only_what_is_wanted_is_made(reduction):
    (x, w, b), target = make()
    loss = linear_cross_entropy(x.detach(), w, target, b, reduction=reduction).sum()
    d_w, d_b = rk.grad(loss, [w, b])
    plain = cross_entropy(rk.linear(x.detach(), w, b), target, reduction=reduction).sum()
    for a, expected in zip((d_w, d_b), rk.grad(plain, [w, b]), strict=True):
        np.testing.assert_allclose(a.numpy(), expected.numpy(), rtol=1e-12, atol=1e-12)


@pytest.mark.parametrize("reduction", ["mean", "none"])
def test_a_retained_graph_gives_the_same_again(reduction):
    inputs, target = make()
    loss = linear_cross_entropy(*inputs[:2], target, inputs[2], reduction=reduction).sum()
    first = rk.grad(loss, inputs, retain_graph=True)
    kept = [g.numpy().copy() for g in first]
    for gradient in first:
        gradient.data[...] = 0  # a caller may do as it likes with its gradients
    for a, b in zip(rk.grad(loss, inputs), kept, strict=True):
        np.testing.assert_array_equal(a.numpy(), b)


def test_ignored_rows_count_for_nothing_even_with_nan():
    (x, w, b), target = make()
    x.data[0, 1] = np.nan
    loss = linear_cross_entropy(x, w, target, b, reduction="sum", chunk_rows=4)
    assert np.isfinite(loss.item())
    d_x, _, d_b = rk.grad(loss, [x, w, b])
    assert not d_x.numpy()[0, 1].any()
    assert np.isfinite(d_b.numpy()).all()


def test_nothing_to_count():
    (x, w, b), _ = make()
    target = np.full(SHAPE, -100)
    loss = linear_cross_entropy(x, w, target, b)
    assert np.isnan(loss.item())
    for gradient in rk.grad(loss, [x, w, b]):
        assert not gradient.numpy().any()
    empty = linear_cross_entropy(rk.zeros(0, H, dtype="float64"), w, np.zeros(0, int), b)
    assert np.isnan(empty.item())


def test_under_no_grad_nothing_is_recorded():
    inputs, target = make()
    with rk.no_grad():
        assert linear_cross_entropy(*inputs[:2], target, inputs[2]).grad_fn is None


def test_the_path_can_be_asked():
    inputs, target = make()
    with rk.backend("python"):
        linear_cross_entropy(*inputs[:2], target, inputs[2])
        (decision,) = [d for d in rk.why() if d.op == "linear_cross_entropy"]
    assert decision.path == "python"


@pytest.mark.parametrize("reduction", ["mean", "none"])
def test_memory_is_that_of_a_chunk(reduction):
    rows, hidden, classes, chunk = 600, 8, 5000, 50
    inputs, target = make("float32", shape=(rows // 2, 2), hidden=hidden, classes=classes)

    x, w, b = inputs
    tracemalloc.start()
    try:
        loss = linear_cross_entropy(x, w, target, b, reduction=reduction, chunk_rows=chunk)
        rk.grad(loss.sum(), inputs)
        peak = tracemalloc.get_traced_memory()[1]
    finally:
        tracemalloc.stop()
    # The logits and gradients of two chunks, workspaces, and a few arrays as large as the weights.
    assert peak < 6 * 4 * chunk * classes + 4 * 4 * classes * hidden + 200_000
    assert peak < rows * classes * 4 / 2


@pytest.mark.parametrize(
    ("change", "error", "message"),
    [
        ({"weight": np.zeros((C, H + 1))}, ShapeError, "input, weight: expected"),
        ({"weight": np.zeros(H)}, ShapeError, "input, weight: expected"),
        ({"weight": np.zeros((0, H))}, ShapeError, "input, weight: expected"),
        ({"weight": np.zeros((C, H), np.float32)}, DTypeError, "weight: expected float64"),
        ({"bias": np.zeros(C + 1)}, ShapeError, "bias: expected shape"),
        ({"bias": np.zeros(C, np.float32)}, DTypeError, "bias: expected float64"),
        ({"target": np.zeros((5, 2), int)}, ShapeError, "target: expected shape"),
        ({"target": np.zeros(SHAPE)}, DTypeError, "target: expected integer"),
        ({"target": np.full(SHAPE, C)}, ArgumentError, "target: expected ids in"),
        ({"class_weight": np.ones(C + 1)}, ShapeError, "class_weight: expected shape"),
        ({"reduction": "median"}, ArgumentError, "reduction: expected"),
        ({"label_smoothing": 1.5}, ArgumentError, "label_smoothing: expected"),
        ({"chunk_rows": 0}, ArgumentError, "chunk_rows: expected at least 1"),
        ({"input": np.zeros((5, 3, H), int)}, DTypeError, "input: expected float32 or float64"),
    ],
)
def test_errors_name_the_argument(change, error, message):
    arguments = {
        "input": np.zeros((*SHAPE, H)), "weight": np.zeros((C, H)), "bias": np.zeros(C),
        "target": np.zeros(SHAPE, int),
    }
    with pytest.raises(error, match=message):
        linear_cross_entropy(**{**arguments, **change})
