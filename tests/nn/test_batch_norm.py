"""BatchNorm1d: statistics by hand, running ones, ragged batches, derivatives, PyTorch."""

import numpy as np
import pytest

import rnnkit as rk
from rnnkit import nn
from rnnkit.errors import ArgumentError, DTypeError, ShapeError

T, N, C = 3, 4, 2
LENGTHS = np.array([2, 3, 0, 1])
VALID = np.arange(T)[:, None] < LENGTHS
STATE = ["weight", "bias", "running_mean", "running_var", "num_batches_tracked"]


def randn(*shape, seed=0):
    return np.random.default_rng([seed, *shape]).normal(1.5, 2.0, shape)


def made(**options):
    """One whose parameters and running statistics are neither 0 nor 1."""
    norm = nn.BatchNorm1d(C, dtype="float64", **options)
    for name, tensor in [*norm.named_parameters(), *norm.named_buffers()]:
        if tensor.dtype == np.float64:
            tensor.data[:] = np.abs(randn(C, seed=len(name)))
    return norm


def by_hand(norm, rows, mean=None, variance=None):
    if mean is None:
        mean, variance = rows.mean(0), rows.var(0)
    y = (rows - mean) / np.sqrt(variance + norm.eps)
    return y if norm.weight is None else y * norm.weight.data + norm.bias.data


@pytest.mark.parametrize("options", [{}, {"affine": False}, {"eps": 0.5}])
@pytest.mark.parametrize("shape", [(5, C), (T, N, C)])
def test_training_takes_the_statistics_of_the_batch_and_moves_the_running_ones(shape, options):
    norm, x = made(**options), randn(*shape)
    before = norm.state_dict()
    rows = x.reshape(-1, C)
    y = norm(rk.tensor(x))
    np.testing.assert_allclose(y.data, by_hand(norm, rows).reshape(shape), rtol=1e-12)
    for name, statistic in (("running_mean", rows.mean(0)), ("running_var", rows.var(0, ddof=1))):
        expected = 0.9 * before[name] + 0.1 * statistic
        np.testing.assert_allclose(getattr(norm, name).data, expected, rtol=1e-12)
    assert norm.num_batches_tracked.item() == 1


@pytest.mark.parametrize("shape", [(1, C), (T, N, C), (0, N, C)])
def test_evaluation_takes_the_running_statistics_and_leaves_them(shape):
    norm, x = made().eval(), randn(*shape)
    before = norm.state_dict()
    expected = by_hand(norm, x, before["running_mean"], before["running_var"])
    np.testing.assert_allclose(norm(rk.tensor(x)).data, expected, rtol=1e-12)
    for name, values in norm.state_dict().items():
        np.testing.assert_array_equal(values, before[name])


@pytest.mark.parametrize("training", [True, False])
def test_padding_is_in_no_statistic_and_in_no_gradient(training):
    norm, twin = made().train(training), made().train(training)
    array = randn(T, N, C)
    array[~VALID] = np.nan
    x = rk.tensor(array, requires_grad=True)
    steps = rk.tensor(array[VALID], requires_grad=True)
    y, expected = norm(x, LENGTHS), twin(steps)
    np.testing.assert_array_equal(y.data[VALID], expected.data)
    assert not y.data[~VALID].any()
    (y * y).sum().backward()
    (expected * expected).sum().backward()
    np.testing.assert_array_equal(x.grad.data[VALID], steps.grad.data)
    assert not x.grad.data[~VALID].any()
    for name, values in twin.state_dict().items():
        np.testing.assert_array_equal(norm.state_dict()[name], values)
    np.testing.assert_allclose(norm.weight.grad.data, twin.weight.grad.data)


@pytest.mark.parametrize("lengths", [None, LENGTHS])
@pytest.mark.parametrize("training", [True, False])
def test_derivatives(training, lengths):
    norm = made(momentum=0.0).train(training)
    x = rk.tensor(randn(T, N, C), requires_grad=True)
    inputs = [x, norm.weight, norm.bias]
    assert rk.gradcheck(lambda x, *_: norm(x, lengths), inputs)
    assert rk.gradgradcheck(lambda x, *_: norm(x, lengths), inputs)


def test_without_momentum_the_running_statistics_are_means_over_the_batches():
    norm, batches = nn.BatchNorm1d(C, momentum=None, dtype="float64"), randn(3, 5, C)
    for x in batches:
        norm(x)
    np.testing.assert_allclose(norm.running_mean.data, batches.mean((0, 1)), rtol=1e-12)
    expected = batches.var(1, ddof=1).mean(0)
    np.testing.assert_allclose(norm.running_var.data, expected, rtol=1e-12)
    norm.reset_running_stats()
    assert [each.tolist() for each in norm.buffers()] == [[0, 0], [1, 1], 0]


def test_without_running_statistics_both_modes_take_the_batchs():
    norm, x = made(track_running_stats=False).eval(), randn(5, C)
    assert list(norm.state_dict()) == STATE[:2]
    np.testing.assert_allclose(norm(x).data, by_hand(norm, x), rtol=1e-12)
    plain = nn.BatchNorm1d(C, affine=False, track_running_stats=False)
    assert not plain.state_dict()
    assert plain(x.astype("float32")).dtype == np.float32


def test_the_state_is_pytorchs_and_follows_the_model():
    norm = nn.BatchNorm1d(C)
    assert list(norm.state_dict()) == STATE
    assert norm.state_dict()["num_batches_tracked"].dtype == np.int64
    state = {**made().state_dict(), "num_batches_tracked": np.array(7)}
    norm.load_state_dict(state)
    x = randn(5, C)
    expected = by_hand(norm, x, state["running_mean"], state["running_var"])
    y = norm.eval()(x.astype("float32"))
    assert y.dtype == np.float32
    np.testing.assert_allclose(y.data, expected, rtol=1e-5, atol=1e-6)
    assert norm.double()(x).dtype == np.float64
    assert repr(norm) == (
        "BatchNorm1d(2, eps=1e-05, momentum=0.1, affine=True, track_running_stats=True)"
    )


def test_what_is_not_finite_goes_through_without_a_warning():
    norm = nn.BatchNorm1d(C)
    y = norm(rk.tensor([[np.inf, 1.0], [3e38, -1.0], [-3e38, 0.0]]))
    assert np.isnan(y.data[0, 0])
    assert not np.isfinite(norm.running_var.data[0])
    np.testing.assert_allclose(norm.running_var.data[1], 0.9 + 0.1)


def test_refusals():
    norm = nn.BatchNorm1d(C)
    x = rk.ones(T, N, C)
    with pytest.raises(ShapeError, match=r"x: expected two rows or more .* got 1"):
        norm(x[0, :1])
    with pytest.raises(ShapeError, match=r"x: expected two rows or more .* got 1"):
        norm(x, [0, 1, 0, 0])
    with pytest.raises(ShapeError, match=r"x: expected 2 features in the last axis, got shape"):
        norm(x.permute(0, 2, 1))
    with pytest.raises(ShapeError, match=r"x: expected axes \(N, C\) or \(T, N, C\), got shape"):
        norm(x[0, 0])
    with pytest.raises(ShapeError, match=r"x: expected axes \(T, N, C\), got shape \(4, 2\)"):
        norm(x[0], LENGTHS)
    with pytest.raises(DTypeError, match="x: expected float32 as the parameters are"):
        norm(x.double())
    with pytest.raises(ArgumentError, match="lengths"):
        norm(x, [4, 0, 0, 0])
    for options, message in (
        ({"num_features": 0}, "num_features: expected at least 1"),
        ({"eps": -1}, "eps: expected"),
        ({"momentum": 1.5}, "momentum: expected a number >= 0 and <= 1, got 1.5"),
        ({"affine": 1}, "affine: expected a bool"),
        ({"track_running_stats": None}, "track_running_stats: expected a bool"),
    ):
        with pytest.raises(ArgumentError, match=message):
            nn.BatchNorm1d(**{"num_features": C, **options})
    before = norm.freeze().state_dict()
    with pytest.raises(ArgumentError, match="running_mean: it is read-only"):
        norm(x)
    assert norm.num_batches_tracked.item() == before["num_batches_tracked"] == 0
    norm.eval()(x)


@pytest.mark.parametrize("sequences", [True, False])
def test_training_and_evaluation_are_pytorchs(sequences):
    torch = pytest.importorskip("torch")
    ours = made(momentum=0.3)
    theirs = torch.nn.BatchNorm1d(C, momentum=0.3).double()
    theirs.load_state_dict({k: torch.from_numpy(v) for k, v in ours.state_dict().items()})
    for training in (True, True, False):
        array = randn(T, N, C, seed=training) if sequences else randn(5, C, seed=training)
        x = rk.tensor(array, requires_grad=True)
        z = torch.tensor(array, requires_grad=True)
        y = ours.train(training)(x)
        seen = theirs.train(training)(z.permute(1, 2, 0) if sequences else z)
        expected = seen.permute(2, 0, 1) if sequences else seen
        np.testing.assert_allclose(y.data, expected.detach().numpy(), rtol=1e-10)
        (y * y * y).sum().backward()
        (expected**3).sum().backward()
        np.testing.assert_allclose(x.grad.data, z.grad.numpy(), rtol=1e-8, atol=1e-9)
        for name, values in theirs.state_dict().items():
            np.testing.assert_allclose(ours.state_dict()[name], values.numpy(), rtol=1e-12)
