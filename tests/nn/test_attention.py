"""Attention: values, derivatives, masks, PyTorch."""

import numpy as np
import pytest
from random_numbers import leaf

import rnnkit as rk
from rnnkit import nn
from rnnkit.errors import ArgumentError, DTypeError, ShapeError

T, S, N, Q, K, V, A = 3, 5, 4, 6, 7, 2, 8
LENGTHS = np.array([2, 5, 0, 1])
KINDS = {
    "additive": lambda dtype="float64": nn.AdditiveAttention(Q, K, A, dtype=dtype),
    "additive, no bias": lambda dtype="float64": nn.AdditiveAttention(Q, K, A, False, dtype=dtype),
    "general": lambda dtype="float64": nn.MultiplicativeAttention(Q, K, dtype=dtype),
    "dot": lambda dtype="float64": nn.MultiplicativeAttention(Q, Q, "dot", dtype=dtype),
    "scaled": lambda dtype="float64": nn.MultiplicativeAttention(Q, Q, "scaled", dtype=dtype),
}
EACH = pytest.mark.parametrize("kind", KINDS)


def arguments(attention):
    return leaf(T, N, Q), leaf(S, N, attention.key_size), leaf(S, N, V)


def scores_by_hand(attention, query, key):
    if isinstance(attention, nn.AdditiveAttention):
        summed = attention.weight_query.data @ query + attention.weight_key.data @ key
        if attention.bias is not None:
            summed = summed + attention.bias.data
        return attention.weight_score.data @ np.tanh(summed)
    if attention.score == "general":
        return query @ attention.weight.data @ key
    return query @ key / (np.sqrt(Q) if attention.score == "scaled" else 1)


@EACH
def test_every_number_is_that_of_the_equations(kind):
    attention = KINDS[kind]()
    query, keys, values = arguments(attention)
    context, weights = attention(query, keys, values, LENGTHS)
    assert context.shape == (T, N, V)
    assert weights.shape == (T, N, S)
    for t in range(T):
        for n, length in enumerate(LENGTHS):
            scores = [
                scores_by_hand(attention, query.data[t, n], keys.data[s, n]) for s in range(length)
            ]
            expected = np.zeros(S)
            expected[:length] = np.exp(scores) / np.exp(scores).sum()
            np.testing.assert_allclose(weights.data[t, n], expected, rtol=1e-12)
            np.testing.assert_allclose(
                context.data[t, n], expected @ values.data[:, n], rtol=1e-12, atol=1e-15
            )


@EACH
@pytest.mark.parametrize("lengths", [None, LENGTHS])
def test_first_and_second_derivatives(kind, lengths):
    attention = KINDS[kind]()
    query, keys, values = (x.data[:, :3].copy() for x in arguments(attention))
    inputs = [rk.tensor(x[:3], requires_grad=True) for x in (query[:2], keys, values)]
    lengths = None if lengths is None else [2, 3, 0]
    call = lambda *_: attention(*inputs, lengths)  # noqa: E731
    assert rk.gradcheck(call, [*inputs, *attention.parameters()])
    assert rk.gradgradcheck(lambda *_: call()[0], inputs)


@EACH
def test_keys_alone_and_one_query(kind):
    attention = KINDS[kind]()
    query, keys, _ = arguments(attention)
    context, weights = attention(query, keys, lengths=LENGTHS)
    same, _ = attention(query, keys, keys, LENGTHS)
    np.testing.assert_array_equal(context.data, same.data)
    one, one_weights = attention(query[1], keys, lengths=LENGTHS)
    assert one.shape == (N, attention.key_size)
    np.testing.assert_allclose(one.data, context.data[1], rtol=1e-12)
    np.testing.assert_allclose(one_weights.data, weights.data[1], rtol=1e-12)


@EACH
def test_a_memory_serves_many_queries(kind):
    attention = KINDS[kind]()
    query, keys, values = arguments(attention)
    expected = attention(query, keys, values, LENGTHS)
    memory = attention.memory(keys, values, LENGTHS)
    by_steps = [attention(each, memory) for each in query]
    for k in (0, 1):
        found = rk.stack([step[k] for step in by_steps])
        np.testing.assert_allclose(found.data, expected[k].data, rtol=1e-12)
        wanted = [query, keys, values] if k == 0 else [query, keys]
        weighing = leaf(*found.shape, seed=5)
        for a, b in zip(
            rk.grad((found * weighing).sum(), wanted, retain_graph=True),
            rk.grad((expected[k] * weighing).sum(), wanted, retain_graph=True),
            strict=True,
        ):
            np.testing.assert_allclose(a.data, b.data, rtol=1e-9, atol=1e-12)


@EACH
def test_padding_never_leaks_and_rows_are_alone(kind):
    attention = KINDS[kind]()
    query, keys, values = arguments(attention)
    dirty = [rk.tensor(x.data.copy(), requires_grad=True) for x in (keys, values)]
    for n, length in enumerate(LENGTHS):
        for x in dirty:
            x.data[length:, n] = np.nan
    context, weights = attention(query, *dirty, LENGTHS)
    (context.sum() + (weights * weights).sum()).backward()
    for x in (query, *dirty, *attention.parameters()):
        if x.grad is not None:
            assert np.isfinite(x.grad.data).all()
    for n, length in enumerate(LENGTHS):
        assert not weights.data[:, n, length:].any()
        for x in dirty:
            assert not x.grad.data[length:, n].any()
        row = slice(n, n + 1)
        alone = attention(query[:, row], keys[:length, row], values[:length, row])
        np.testing.assert_allclose(context.data[:, row], alone[0].data, rtol=1e-12, atol=1e-15)
        np.testing.assert_allclose(weights.data[:, row, :length], alone[1].data, rtol=1e-12)
    assert not context.data[:, 2].any()


def test_full_lengths_are_no_lengths():
    attention = KINDS["general"]()
    query, keys, values = arguments(attention)
    for a, b in zip(
        attention(query, keys, values, [S] * N), attention(query, keys, values), strict=True
    ):
        np.testing.assert_array_equal(a.data, b.data)


@EACH
def test_empty_batches(kind):
    attention = KINDS[kind]()
    for t, s, n in ((0, S, N), (T, 0, N), (T, S, 0)):
        context, weights = attention(leaf(t, n, Q), leaf(s, n, attention.key_size))
        assert context.shape == (t, n, attention.key_size)
        assert weights.shape == (t, n, s)
        assert not context.data.any()


@EACH
def test_paths_and_precisions_agree(kind):
    rk.manual_seed(3)
    wide = KINDS[kind]()
    narrow = KINDS[kind]("float32")
    narrow.load_state_dict(wide.state_dict())
    inputs = arguments(wide)
    singles = [x.detach().astype(np.float32) for x in inputs]
    with rk.backend("python"):
        expected = wide(*inputs, LENGTHS)
    for found, tolerance in ((wide(*inputs, LENGTHS), 1e-12), (narrow(*singles, LENGTHS), 2e-5)):
        for a, b in zip(found, expected, strict=True):
            np.testing.assert_allclose(a.data, b.data, rtol=tolerance, atol=tolerance)
    assert found[0].dtype == np.float32


def test_scaled_attention_is_pytorchs():
    torch = pytest.importorskip("torch")
    attention = KINDS["scaled"]()
    inputs = arguments(attention)
    theirs = [torch.from_numpy(x.data).transpose(0, 1).requires_grad_() for x in inputs]
    mask = torch.arange(S)[None, None] < torch.tensor([2, 5, 3, 1])[:, None, None]
    expected = torch.nn.functional.scaled_dot_product_attention(*theirs, attn_mask=mask)
    context, _ = attention(*inputs, [2, 5, 3, 1])
    np.testing.assert_allclose(
        context.data, expected.detach().transpose(0, 1).numpy(), rtol=1e-10, atol=1e-13
    )
    compare_gradients(torch, context, inputs, expected.transpose(0, 1), theirs)


@pytest.mark.parametrize("kind", ["additive", "general"])
def test_learnt_attentions_agree_with_pytorch_twins(kind):
    torch = pytest.importorskip("torch")
    attention = KINDS[kind]()
    inputs = arguments(attention)
    lengths = [2, 5, 3, 1]
    theirs = [torch.from_numpy(x.data.copy()).requires_grad_() for x in inputs]
    twins = [torch.from_numpy(p.data.copy()).requires_grad_() for p in attention.parameters()]
    query, keys, values = theirs
    if kind == "additive":
        w, u, b, v = twins
        scores = torch.tanh((query @ w.T)[:, None] + (keys @ u.T)[None] + b) @ v  # (T, S, N)
    else:
        scores = torch.einsum("tnq,qk,snk->tsn", query, twins[0], keys)
    past = torch.arange(S)[:, None] >= torch.tensor(lengths)
    weights = scores.masked_fill(past, -torch.inf).softmax(1)
    expected = torch.einsum("tsn,snv->tnv", weights, values)
    context, found = attention(*inputs, lengths)
    np.testing.assert_allclose(found.data, weights.detach().permute(0, 2, 1).numpy(), rtol=1e-10)
    compare_gradients(
        torch, context, [*inputs, *attention.parameters()], expected, [*theirs, *twins]
    )


def compare_gradients(torch, y, inputs, expected, theirs):
    d_y = np.random.default_rng(1).standard_normal(y.shape)
    ours = rk.grad(y, inputs, rk.tensor(d_y))
    wanted = torch.autograd.grad(expected, theirs, torch.from_numpy(d_y))
    for a, b in zip(ours, wanted, strict=True):
        b = b.numpy() if b.shape == a.shape else b.transpose(0, 1).numpy()
        np.testing.assert_allclose(a.data, b, rtol=1e-9, atol=1e-12)


def test_parameters_and_reprs():
    additive, general = KINDS["additive"]("float32"), KINDS["general"]("float32")
    shapes = {name: p.shape for name, p in additive.named_parameters()}
    assert shapes == {
        "weight_query": (A, Q), "weight_key": (A, K), "bias": (A,), "weight_score": (A,)
    }  # fmt: skip
    assert {name: p.shape for name, p in general.named_parameters()} == {"weight": (Q, K)}
    assert not list(KINDS["dot"]().parameters())
    assert repr(additive) == "AdditiveAttention(6, 7, 8)"
    assert repr(general) == "MultiplicativeAttention(6, 7, score=general)"
    large = nn.AdditiveAttention(100, 25, 400)
    assert 0.098 < np.abs(large.weight_query.data).max() <= 0.1
    assert 0.195 < np.abs(large.weight_key.data).max() <= 0.2
    assert 0.04 < np.abs(large.weight_score.data).max() <= 0.05


@pytest.mark.parametrize(
    ("make", "message"),
    [
        (lambda: nn.AdditiveAttention(0, 3, 4), "query_size: expected at least 1"),
        (lambda: nn.AdditiveAttention(3, 3, 4, "float64"), "bias: expected a bool"),
        (lambda: nn.MultiplicativeAttention(3, 3, "cosine"), "score: expected 'general'"),
        (lambda: nn.MultiplicativeAttention(3, 4, "dot"), "key_size: expected 3, the query_size"),
    ],
)
def test_impossible_attentions(make, message):
    with pytest.raises(ArgumentError, match=message):
        make()


def test_wrong_inputs():
    attention = KINDS["general"]()
    query, keys, values = arguments(attention)
    with pytest.raises(ShapeError, match="query: expected 6 features"):
        attention(keys, keys)
    with pytest.raises(ShapeError, match="query: expected 4 rows as the keys have"):
        attention(query[:, :3], keys)
    with pytest.raises(ShapeError, match=r"keys: expected axes \(S, N, K\)"):
        attention(query, keys[0])
    with pytest.raises(ShapeError, match=r"values: expected \(5, 4, V\)"):
        attention(query, keys, values[1:])
    with pytest.raises(DTypeError, match="keys: expected float64"):
        attention(query, keys.astype("float32"))
    with pytest.raises(DTypeError, match="query: expected float64"):
        attention(query.astype("float32"), keys)
    with pytest.raises(DTypeError, match="keys: expected a float32 or float64"):
        KINDS["dot"]()(query, np.ones((S, N, Q), int))
    with pytest.raises(ArgumentError, match="lengths: expected from 0 to 5"):
        attention(query, keys, lengths=[6, 1, 1, 1])
    with pytest.raises(ArgumentError, match="a memory brings its own"):
        attention(query, attention.memory(keys), lengths=LENGTHS)
