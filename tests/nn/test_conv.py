"""Windows over time: PyTorch's values and gradients, ragged rows, causality."""

import numpy as np
import pytest
from random_numbers import leaf

import rnnkit as rk
from rnnkit import nn
from rnnkit.errors import ArgumentError, DTypeError, ShapeError

T, N, C, O = 11, 4, 3, 5
LENGTHS = np.array([6, 11, 0, 2])
CONVS = {
    "plain": {"kernel_size": 3},
    "one step": {"kernel_size": 1},
    "strided": {"kernel_size": 3, "stride": 2},
    "padded": {"kernel_size": 3, "padding": 1},
    "far padding": {"kernel_size": 2, "padding": 4, "stride": 3},
    "dilated": {"kernel_size": 3, "dilation": 3, "padding": 2},
    "all": {"kernel_size": 4, "stride": 3, "padding": 2, "dilation": 2, "bias": False},
    "gaps": {"kernel_size": 2, "stride": 5},
}
CAUSAL = {
    "causal": {"kernel_size": 3, "causal": True},
    "causal, dilated": {"kernel_size": 3, "dilation": 2, "causal": True},
    "causal, strided": {"kernel_size": 2, "stride": 2, "causal": True},
}
POOLS = {"size 2": (2,), "size 3": (3,), "overlapping": (3, 1), "gaps": (2, 3), "size 1": (1,)}


def conv_of(kind):
    return nn.Conv1d(C, O, **{**CONVS, **CAUSAL}[kind], dtype="float64")


def windows():
    made = {kind: conv_of(kind) for kind in (*CONVS, *CAUSAL)}
    for kind, arguments in POOLS.items():
        made[f"max {kind}"] = nn.MaxPool1d(*arguments)
        made[f"avg {kind}"] = nn.AvgPool1d(*arguments)
    return made


EACH = pytest.mark.parametrize("kind", windows())


@pytest.mark.parametrize("kind", CONVS)
def test_convolutions_are_pytorchs(kind):
    torch = pytest.importorskip("torch")
    ours = conv_of(kind)
    theirs = torch.nn.Conv1d(C, O, **CONVS[kind], dtype=torch.float64)
    theirs.load_state_dict({k: torch.from_numpy(v) for k, v in ours.state_dict().items()})
    compare(torch, ours, theirs)


@pytest.mark.parametrize("kind", POOLS)
def test_pools_are_pytorchs(kind):
    torch = pytest.importorskip("torch")
    compare(torch, nn.MaxPool1d(*POOLS[kind]), torch.nn.MaxPool1d(*POOLS[kind]))
    compare(torch, nn.AvgPool1d(*POOLS[kind]), torch.nn.AvgPool1d(*POOLS[kind]))


def compare(torch, ours, theirs):
    x = leaf(T, N, C)
    their_x = torch.from_numpy(x.data.copy()).requires_grad_()
    y, expected = ours(x), theirs(their_x.permute(1, 2, 0)).permute(2, 0, 1)
    np.testing.assert_allclose(y.data, expected.detach().numpy(), rtol=1e-11, atol=1e-13)
    d_y = np.random.default_rng(1).standard_normal(y.shape)
    found = rk.grad(y, [x, *ours.parameters()], rk.tensor(d_y))
    wanted = torch.autograd.grad(
        expected, [their_x, *theirs.parameters()], torch.from_numpy(d_y)
    )
    for a, b in zip(found, wanted, strict=True):
        np.testing.assert_allclose(a.data, b.numpy(), rtol=1e-10, atol=1e-12)


@pytest.mark.parametrize("kind", [*CONVS, *CAUSAL])
def test_every_number_is_that_of_the_equation(kind):
    conv = conv_of(kind)
    x, weight = leaf(T, N, C), conv.weight.data
    k, d = conv.kernel_size, conv.dilation
    before = d * (k - 1) if conv.causal else conv.padding
    y = conv(x).data
    assert y.shape == (conv.output_lengths(T), N, O)
    for t in range(len(y)):
        expected = np.zeros((N, O)) if conv.bias is None else np.tile(conv.bias.data, (N, 1))
        for j in range(k):
            at = conv.stride * t + d * j - before
            if 0 <= at < T:
                expected = expected + x.data[at] @ weight[:, :, j].T
        np.testing.assert_allclose(y[t], expected, rtol=1e-11, atol=1e-13)
    # And there is no room for one window more.
    assert conv.stride * len(y) + d * (k - 1) - before >= T + conv.padding


@EACH
@pytest.mark.parametrize("lengths", [None, [7, 2, 0]])
def test_first_and_second_derivatives(kind, lengths):
    layer, x = windows()[kind], leaf(7, 3, C)
    inputs = [x, *layer.parameters()]
    if layer.output_lengths(7) > 3:  # every output is checked against every input
        x = rk.tensor(x.data[:5, :, :].copy(), requires_grad=True)
        inputs[0] = x
        lengths = None if lengths is None else [5, 2, 0]
    assert rk.gradcheck(lambda *_: layer(x, lengths), inputs)
    assert rk.gradgradcheck(lambda *_: layer(x, lengths) ** 2, [x])


@EACH
def test_rows_of_several_lengths_are_as_if_alone(kind):
    layer, x = windows()[kind], leaf(T, N, C)
    dirty = rk.tensor(x.data.copy(), requires_grad=True)
    for n, length in enumerate(LENGTHS):
        dirty.data[length:, n] = np.nan
    y = layer(dirty, LENGTHS)
    steps = layer.output_lengths(LENGTHS)
    assert steps[1] == len(y) == layer.output_lengths(T)
    assert steps[2] == 0
    (y * y).sum().backward()
    for each in (dirty, *layer.parameters()):
        assert np.isfinite(each.grad.data).all()
    for n, length in enumerate(LENGTHS):
        assert not y.data[steps[n] :, n].any()
        assert not dirty.grad.data[length:, n].any()
        alone = layer(x[:length, n : n + 1])
        assert len(alone) == steps[n]
        np.testing.assert_allclose(y.data[: steps[n], n], alone.data[:, 0], rtol=1e-12, atol=1e-14)


@pytest.mark.parametrize("kind", CAUSAL)
def test_causal_convolutions_see_nothing_later(kind):
    conv, x = conv_of(kind), leaf(T, N, C)
    y = conv(x)
    assert len(y) == -(-T // conv.stride)
    for t in range(len(y)):
        (d_x,) = rk.grad(y[t].sum(), [x], retain_graph=True)
        seen = np.flatnonzero(d_x.data.any((1, 2)))
        assert seen.max() == conv.stride * t
        assert seen.min() >= conv.stride * t - conv.dilation * (conv.kernel_size - 1)


@EACH
def test_paths_agree_and_empty_batches_pass(kind):
    layer, x = windows()[kind], leaf(T, N, C)
    with rk.backend("python"):
        expected = layer(x, LENGTHS)
    np.testing.assert_allclose(layer(x, LENGTHS).data, expected.data, rtol=1e-12, atol=1e-14)
    channels = expected.shape[2]
    assert layer(leaf(T, 0, C)).shape == (len(expected), 0, channels)
    assert layer(leaf(0, N, C), [0] * N).shape == (0, N, channels)
    assert layer(leaf(0, N, C)).shape == (0, N, channels)


def test_output_lengths_of_numbers_and_arrays():
    conv = nn.Conv1d(1, 1, 3, stride=2, padding=1)
    assert conv.output_lengths(7) == 4
    assert type(conv.output_lengths(7)) is int
    np.testing.assert_array_equal(conv.output_lengths([0, 1, 2, 3]), [0, 1, 1, 2])
    assert nn.MaxPool1d(4).output_lengths(3) == 0
    with pytest.raises(DTypeError, match="lengths: expected integers"):
        conv.output_lengths(2.0)
    with pytest.raises(ArgumentError, match="lengths: expected 0 or more, got -1"):
        conv.output_lengths([3, -1])


def test_shapes_initialisation_and_reprs():
    conv = nn.Conv1d(20, 30, 5)
    assert conv.weight.shape == (30, 20, 5)
    assert conv.bias.shape == (30,)
    assert conv.weight.dtype == np.float32
    for parameter in conv.parameters():
        assert 0.09 < np.abs(parameter.data).max() <= 0.1
    assert repr(nn.Conv1d(3, 5, 2)) == "Conv1d(3, 5, kernel_size=2)"
    assert repr(nn.Conv1d(3, 5, 2, 2, bias=False, causal=True)) == (
        "Conv1d(3, 5, kernel_size=2, stride=2, causal=True, bias=False)"
    )
    assert repr(nn.MaxPool1d(3)) == "MaxPool1d(kernel_size=3, stride=3)"


@pytest.mark.parametrize(
    ("make", "message"),
    [
        (lambda: nn.Conv1d(0, 1, 1), "in_channels: expected at least 1"),
        (lambda: nn.Conv1d(1, 1, 1.5), "kernel_size: expected an int"),
        (lambda: nn.Conv1d(1, 1, 1, 0), "stride: expected at least 1"),
        (lambda: nn.Conv1d(1, 1, 1, padding=-1), "padding: expected an integer from 0 on, got -1"),
        (lambda: nn.Conv1d(1, 1, 3, padding=1, causal=True), "padding: expected 0 for a causal"),
        (lambda: nn.Conv1d(1, 1, 3, bias=1), "bias: expected a bool"),
        (lambda: nn.MaxPool1d(0), "kernel_size: expected at least 1"),
        (lambda: nn.AvgPool1d(2, 0), "stride: expected at least 1"),
    ],
)
def test_impossible_layers(make, message):
    with pytest.raises(ArgumentError, match=message):
        make()


def test_wrong_inputs():
    conv, pool = nn.Conv1d(3, 2, 2), nn.MaxPool1d(2)
    with pytest.raises(ShapeError, match="x: expected 3 features"):
        conv(rk.zeros(5, 2, 4))
    with pytest.raises(DTypeError, match="x: expected float32"):
        conv(np.zeros((5, 2, 3)))
    with pytest.raises(ShapeError, match=r"x: expected axes \(T, N, C\)"):
        pool(rk.zeros(5, 2))
    with pytest.raises(DTypeError, match="x: expected"):
        pool(np.zeros((5, 2, 3), int))
    for layer in (conv, pool):
        with pytest.raises(ArgumentError, match="lengths: expected from 0 to 5"):
            layer(rk.zeros(5, 2, 3), [1, 6])
