"""Pooling over the valid steps of ragged batches."""

import numpy as np
import pytest
from random_numbers import leaf

import rnnkit as rk
from rnnkit import nn
from rnnkit.errors import ArgumentError, DTypeError, ShapeError

T, N, H = 5, 4, 6
LENGTHS = np.array([2, 5, 0, 1])
POOLS = {
    "last": lambda: nn.LastPool(),
    "last, bidirectional": lambda: nn.LastPool(bidirectional=True),
    "mean": lambda: nn.MeanPool(),
    "max": lambda: nn.MaxPool(),
    "attention": lambda: nn.AttentionPool(H, 3, dtype="float64"),
}
EACH = pytest.mark.parametrize("kind", POOLS)


def by_hand(pool, row):
    """(L, H) -> (H,)"""
    if not len(row):
        return np.zeros(H)
    if isinstance(pool, nn.LastPool):
        half = H // 2 if pool.bidirectional else H
        return np.concatenate([row[-1, :half], row[0, half:]])
    if isinstance(pool, nn.MeanPool):
        return row.mean(0)
    if isinstance(pool, nn.MaxPool):
        return row.max(0)
    scores = np.tanh(row @ pool.weight.data.T + pool.bias.data) @ pool.weight_score.data
    return np.exp(scores) / np.exp(scores).sum() @ row


@EACH
@pytest.mark.parametrize("lengths", [None, LENGTHS])
@pytest.mark.parametrize("path", ["python", "auto"])
def test_each_row_is_pooled_as_if_alone(kind, lengths, path):
    pool, x = POOLS[kind](), leaf(T, N, H)
    with rk.backend(path):
        y = pool(x, lengths)
    assert y.shape == (N, H)
    for n, length in enumerate([T] * N if lengths is None else lengths):
        expected = by_hand(pool, x.data[:length, n])
        np.testing.assert_allclose(y.data[n], expected, rtol=1e-12, atol=1e-15)


@EACH
@pytest.mark.parametrize("lengths", [None, [1, 3, 0]])
def test_first_and_second_derivatives(kind, lengths):
    pool, x = POOLS[kind](), leaf(3, 3, H)
    inputs = [x, *pool.parameters()]
    assert rk.gradcheck(lambda *_: pool(x, lengths), inputs)
    assert rk.gradgradcheck(lambda *_: pool(x, lengths), inputs)


@EACH
def test_padding_never_leaks(kind):
    pool, x = POOLS[kind](), leaf(T, N, H)
    expected = pool(x, LENGTHS)
    for n, length in enumerate(LENGTHS):
        x.data[length:, n] = np.nan
    y = pool(x, LENGTHS)
    np.testing.assert_array_equal(y.data, expected.data)
    (y * y).sum().backward()
    for each in (x, *pool.parameters()):
        assert np.isfinite(each.grad.data).all()
    for n, length in enumerate(LENGTHS):
        assert not x.grad.data[length:, n].any()
    assert not y.data[2].any()


@EACH
def test_what_is_not_there(kind):
    pool = POOLS[kind]()
    for t, n in ((0, N), (T, 0)):
        x = leaf(t, n, H)
        y = pool(x, [0] * n)
        np.testing.assert_array_equal(y.data, np.zeros((n, H)))
        y.sum().backward()
        assert x.grad.shape == (t, n, H)
    np.testing.assert_array_equal(pool(leaf(0, N, H)).data, np.zeros((N, H)))


@pytest.mark.parametrize("bidirectional", [False, True])
@pytest.mark.parametrize("lengths", [None, LENGTHS])
def test_last_is_what_recurrent_modules_call_last(bidirectional, lengths):
    gru = nn.GRU(3, H, bidirectional=bidirectional, dtype="float64")
    x = leaf(T, N, 3)
    y, _ = gru(x, lengths=lengths)
    expected, _ = gru(x, lengths=lengths, return_sequences=False)
    np.testing.assert_array_equal(nn.LastPool(bidirectional)(y, lengths).data, expected.data)


def test_weights_of_the_attention():
    pool, x = POOLS["attention"](), leaf(T, N, H)
    weights = pool.weights(x, LENGTHS)
    assert weights.shape == (T, N)
    np.testing.assert_allclose(weights.data.sum(0), LENGTHS > 0, rtol=1e-12)
    np.testing.assert_array_equal(weights.data > 0, np.arange(T)[:, None] < LENGTHS)
    pooled = (weights.data[:, :, None] * x.data).sum(0)
    np.testing.assert_allclose(pool(x, LENGTHS).data, pooled, rtol=1e-12, atol=1e-15)


def test_pytorch_agrees():
    torch = pytest.importorskip("torch")
    x = leaf(T, N, H)
    theirs = torch.from_numpy(x.data.copy()).requires_grad_()
    lengths = torch.tensor([2, 5, 3, 1])
    valid = (torch.arange(T)[:, None] < lengths)[..., None]
    pool = POOLS["attention"]()
    w, b, v = (torch.from_numpy(p.data) for p in pool.parameters())
    scores = (torch.tanh(theirs @ w.T + b) @ v).masked_fill(~valid[..., 0], -torch.inf)
    expected = {
        "mean": (theirs * valid).sum(0) / lengths[:, None],
        "max": theirs.masked_fill(~valid, -torch.inf).amax(0),
        "last": theirs[lengths - 1, torch.arange(N)],
        "attention": (scores.softmax(0)[..., None] * theirs).sum(0),
    }
    d_y = np.random.default_rng(1).standard_normal((N, H))
    for kind, their_y in expected.items():
        y = (pool if kind == "attention" else POOLS[kind]())(x, lengths.numpy())
        np.testing.assert_allclose(y.data, their_y.detach().numpy(), rtol=1e-11)
        (d_x,) = rk.grad(y, [x], rk.tensor(d_y))
        (their_d_x,) = torch.autograd.grad(their_y, theirs, torch.from_numpy(d_y))
        np.testing.assert_allclose(d_x.data, their_d_x.numpy(), rtol=1e-9, atol=1e-13)


def test_reprs_and_refusals():
    assert repr(nn.LastPool(True)) == "LastPool(bidirectional=True)"
    assert repr(nn.MeanPool()) == "MeanPool()"
    assert repr(nn.AttentionPool(3, 4)) == "AttentionPool(3, 4)"
    with pytest.raises(ArgumentError, match="attention_size: expected at least 1"):
        nn.AttentionPool(3, 0)
    with pytest.raises(ArgumentError, match="bidirectional: expected a bool"):
        nn.LastPool(3)
    with pytest.raises(ShapeError, match="even number of features"):
        nn.LastPool(True)(rk.zeros(2, 3, 5))
    for kind, make in POOLS.items():
        pool = make()
        with pytest.raises(ShapeError, match=r"x: expected axes \(T, N, H\)"):
            pool(np.zeros((T, H)))
        with pytest.raises(DTypeError, match="x: expected"):
            pool(np.zeros((T, N, H), int))
        with pytest.raises(ArgumentError, match="lengths: expected from 0 to 5"):
            pool(np.zeros((T, N, H)), [6, 0, 0, 0])
        with pytest.raises(ShapeError, match="lengths: expected shape"):
            pool(np.zeros((T, N, H)), [1, 2])
        assert kind
