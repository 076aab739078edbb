"""A language model whose head shares the embedding's weights: one parameter, counted once."""

import copy

import numpy as np
import pytest

import rnnkit as rk
from rnnkit import nn, optim
from rnnkit.data import Window
from rnnkit.errors import ArgumentError
from rnnkit.losses import cross_entropy
from rnnkit.train import LanguageModel

T, N, V = 5, 3, 11
IDS = np.random.default_rng(0).integers(0, V, (T + 1, N))


def model_of(embedding=6, hidden=6, dtype="float64", **options):
    model = LanguageModel(V, embedding=embedding, hidden=hidden, tied=True, **options)
    return model.to(dtype)


def full_loss(model):
    scores, _ = model(IDS[:-1])
    return cross_entropy(scores, IDS[1:])


def chunked_loss(model):
    return model.loss(Window(0, True, IDS[:-1], IDS[1:])).value


@pytest.mark.parametrize("hidden", [6, 9])
def test_one_parameter_under_two_names(hidden):
    model = model_of(hidden=hidden)
    assert model.head.weight is model.embedding.weight
    assert model.head.weight.shape == (V, 6)
    names = [name for name, _ in model.named_parameters()]
    assert "embedding.weight" in names
    assert "head.weight" not in names
    assert ("projection.weight" in names) == (hidden != 6)
    untied = LanguageModel(V, embedding=6, hidden=hidden)
    saved = V * hidden - (6 * hidden if hidden != 6 else 0)
    count = sum(param.size for param in model.parameters())
    assert sum(param.size for param in untied.parameters()) - count == saved


def test_scores_start_as_those_of_a_linear_layer():
    model = model_of(embedding=64, hidden=64)
    bound = 64**-0.5
    assert np.abs(model.head.weight.data).max() <= bound
    assert np.abs(model.head.weight.data).max() > 0.9 * bound
    assert full_loss(model).item() == pytest.approx(np.log(V), rel=0.1)


@pytest.mark.parametrize("hidden", [6, 9])
@pytest.mark.parametrize("loss", [full_loss, chunked_loss])
def test_the_gradient_is_that_of_both_uses_together(loss, hidden):
    model = model_of(hidden=hidden)
    loss(model).backward()
    parts = []
    for own in ("embedding", "head"):
        twin = copy.deepcopy(model)
        twin.zero_grad()
        other = {"embedding": "head", "head": "embedding"}[own]
        held = nn.Parameter(twin.head.weight.data.copy(), requires_grad=False)
        getattr(twin, other).weight = held
        loss(twin).backward()
        parts.append(getattr(twin, own).weight.grad.numpy())
        assert np.abs(parts[-1]).max() > 1e-3
    np.testing.assert_allclose(
        model.head.weight.grad.numpy(), sum(parts), rtol=1e-10, atol=1e-13
    )


@pytest.mark.parametrize("loss", [full_loss, chunked_loss])
def test_derivatives_of_the_shared_parameter(loss):
    model = model_of(embedding=3, hidden=4)
    weight = model.head.weight

    def fn(values):
        for module in (model.embedding, model.head):
            module.__dict__["weight"] = values
        return loss(model)

    assert rk.gradcheck(fn, [weight])


def test_both_losses_agree():
    model = model_of(hidden=9)
    assert chunked_loss(model).item() == pytest.approx(full_loss(model).item(), rel=1e-12)


def test_clipping_and_optimizers_count_it_once():
    model = model_of()
    chunked_loss(model).backward()
    grads = {id(param): param.grad.numpy().copy() for param in model.parameters()}
    expected = np.sqrt(sum((grad**2).sum() for grad in grads.values()))
    norm = nn.utils.clip_grad_norm_(model.parameters(), 0.01)
    assert norm == pytest.approx(expected, rel=1e-12)
    before = model.head.weight.numpy().copy()
    gradient = model.head.weight.grad.numpy().copy()
    np.testing.assert_allclose(gradient, grads[id(model.head.weight)] * 0.01 / norm, rtol=1e-4)
    optim.SGD(model.parameters(), lr=0.5).step()
    np.testing.assert_allclose(model.head.weight.numpy(), before - 0.5 * gradient, rtol=1e-12)
    assert model.head.weight is model.embedding.weight


def test_saving_and_loading_keep_it_shared():
    model, other = model_of(), model_of()
    saved = model.state_dict()
    np.testing.assert_array_equal(saved["head.weight"], saved["embedding.weight"])
    other.load_state_dict(saved)
    assert other.head.weight is other.embedding.weight
    np.testing.assert_array_equal(other.head.weight.numpy(), model.head.weight.numpy())
    twin = copy.deepcopy(model)
    assert twin.head.weight is twin.embedding.weight
    assert twin.to("float32").head.weight.dtype == np.float32


def test_weights_of_a_model_that_is_not_tied_are_refused():
    saved = LanguageModel(V, embedding=6, hidden=6).state_dict()
    model = model_of()
    before = model.state_dict()
    with pytest.raises(ArgumentError, match=r"head\.weight: expected the values of embedding\.we"):
        model.load_state_dict(saved)
    for name, array in model.state_dict().items():
        np.testing.assert_array_equal(array, before[name])


@pytest.mark.parametrize("hidden", [16, 24])
def test_it_learns(hidden):
    model = LanguageModel(V, embedding=16, hidden=hidden, tied=True)
    optimizer = optim.Adam(model.parameters(), lr=0.02)
    first = chunked_loss(model).item()
    for _ in range(60):
        optimizer.zero_grad()
        loss = chunked_loss(model)
        loss.backward()
        optimizer.step()
    assert loss.item() < 0.3 * first
