"""Mixture densities: PyTorch's distributions, derivatives, extremes, drawing, refusals."""

import json
import math
from pathlib import Path

import numpy as np
import pytest

import rnnkit as rk
from rnnkit import losses
from rnnkit.errors import ArgumentError, DTypeError, ShapeError
from rnnkit.losses.mixture_density import FLOOR, GAP

GOLDEN = np.load(Path(__file__).parents[1] / "golden" / "mixtures.npz")
CASES = json.loads(str(GOLDEN["cases"]))
IDS = [f"{case['loss']}-{case['components']}-{case['axes']}" for case in CASES]
TOLERANCE = {"float32": 2e-5, "float64": 1e-11}


def case_of(number, dtype="float64"):
    """(loss of input and target with reduction "none" by default, input, target)."""
    case = CASES[number]
    raw, target = (
        rk.tensor(GOLDEN[f"{number}/{name}"].astype(dtype), requires_grad=True)
        for name in ("input", "target")
    )

    def loss(raw, target, lengths=None, reduction="none"):
        function = getattr(losses, case["loss"])
        return function(
            raw, target, lengths, components=case["components"], reduction=reduction
        )

    return loss, raw, target


@pytest.mark.parametrize("dtype", ["float32", "float64"])
@pytest.mark.parametrize("number", range(len(CASES)), ids=IDS)
def test_values_and_gradients_are_pytorchs(number, dtype):
    loss, raw, target = case_of(number, dtype)
    value = loss(raw, target)
    value.backward(rk.tensor(GOLDEN[f"{number}/d_losses"].astype(dtype)))
    assert value.dtype == dtype
    assert value.shape == GOLDEN[f"{number}/losses"].shape
    rtol = TOLERANCE[dtype]
    for found, name in ((value, "losses"), (raw.grad, "d_input"), (target.grad, "d_target")):
        expected = GOLDEN[f"{number}/{name}"]
        np.testing.assert_allclose(
            found.numpy(), expected, rtol=rtol, atol=rtol * max(1, np.abs(expected).max())
        )


@pytest.mark.parametrize("number", range(len(CASES)), ids=IDS)
def test_reductions(number):
    loss, raw, target = case_of(number)
    each = GOLDEN[f"{number}/losses"]
    np.testing.assert_allclose(loss(raw, target, reduction="sum").item(), each.sum())
    np.testing.assert_allclose(loss(raw, target, reduction="mean").item(), each.mean())


@pytest.mark.parametrize("reduction", ["mean", "none"])
@pytest.mark.parametrize("strokes", [True, False])
def test_first_and_second_derivatives_of_ragged_rows(strokes, reduction):
    random = np.random.default_rng(0)
    raw = rk.tensor(random.normal(size=(3, 2, 13 if strokes else 14)), requires_grad=True)
    target = rk.tensor(random.uniform(0.1, 0.9, size=(3, 2, 3)), requires_grad=True)

    def loss(raw, target):
        if strokes:
            return losses.handwriting_nll(raw, target, [3, 1], reduction=reduction)
        return losses.gaussian_mixture_nll(
            raw, target, [3, 1], components=2, reduction=reduction
        )

    assert rk.gradcheck(loss, [raw, target])
    assert rk.gradgradcheck(loss, [raw, target])


def test_one_component_by_hand():
    """Equations 24 and 25 of Graves 2013, as they are written there."""
    mu, sigma, rho, end = (0.3, -0.2), (0.7, 1.9), 0.6, 0.8
    x, y = 1.1, 0.4
    raw = [
        5.0, *mu, *[math.log(s - FLOOR) for s in sigma], math.atanh(rho / (1 - GAP)),
        math.log(end / (1 - end)),
    ]
    a, b = (x - mu[0]) / sigma[0], (y - mu[1]) / sigma[1]
    z = a * a + b * b - 2 * rho * a * b
    density = math.exp(-z / (2 * (1 - rho**2))) / (
        2 * math.pi * sigma[0] * sigma[1] * math.sqrt(1 - rho**2)
    )
    for ended in (0.0, 1.0):
        expected = -math.log(density) - math.log(end if ended else 1 - end)
        found = losses.handwriting_nll(np.array(raw), np.array([x, y, ended]))
        np.testing.assert_allclose(found.item(), expected, rtol=1e-13)


def test_densities_integrate_to_one():
    x = np.linspace(-12, 12, 481)
    grid = np.stack(np.meshgrid(x, x, indexing="ij"), -1)
    raw = np.array([0.3, -0.5, 1.0, 0.0, -2.0, 1.5, -0.3, 0.2, -0.5, 0.1, 1.5, -0.4, 9.9])
    target = np.concatenate([grid, np.ones((*grid.shape[:2], 1))], -1)
    nll = losses.handwriting_nll(
        np.broadcast_to(raw, (*grid.shape[:2], 13)), target, reduction="none"
    ).numpy()
    end = np.log1p(np.exp(-9.9))
    np.testing.assert_allclose(np.exp(-(nll - end)).sum() * (x[1] - x[0]) ** 2, 1, rtol=1e-6)


@pytest.mark.parametrize("dtype", ["float32", "float64"])
@pytest.mark.parametrize("scale", [1e4, -1e4])
@pytest.mark.parametrize("strokes", [True, False])
def test_extreme_outputs_stay_finite(strokes, scale, dtype):
    random = np.random.default_rng(1)
    values = random.choice([-1.0, 0.0, 1.0], (50, 13 if strokes else 14)) * scale
    raw = rk.tensor(values.astype(dtype), requires_grad=True)
    target = rk.tensor(random.integers(0, 2, (50, 3)).astype(dtype), requires_grad=True)
    if strokes:
        value = losses.handwriting_nll(raw, target)
    else:
        value = losses.gaussian_mixture_nll(raw, target, components=2)
    value.backward()
    assert np.isfinite(value.item())
    assert np.isfinite(raw.grad.numpy()).all()
    assert np.isfinite(target.grad.numpy()).all()


@pytest.mark.parametrize("dtype", ["float32", "float64"])
def test_deviations_and_correlations_have_their_bounds(dtype):
    """A component that sits on a point and shrinks gains no more than the floor allows."""
    raw = np.array([0.0, 0.5, -0.5, -1e4, -1e4, 1e4, 1e4], dtype)
    found = losses.handwriting_nll(raw, np.array([0.5, -0.5, 1.0], dtype)).item()
    expected = math.log(2 * math.pi) + 2 * math.log(FLOOR) + 0.5 * math.log(GAP * (2 - GAP))
    assert found == pytest.approx(expected, rel=1e-6)
    off = losses.handwriting_nll(raw, np.array([0.5 + 3 * FLOOR, -0.5, 1.0], dtype)).item()
    rise = 0.25 * 9 * (1 / GAP + 1 / (2 - GAP))
    assert off - found == pytest.approx(rise, rel=2e-3 if dtype == "float32" else 1e-9)


def test_a_strong_correlation_does_not_cancel_in_float32():
    """Along the diagonal the density of a component with rho near 1 is as smooth as any."""
    raw = np.array([0.0, 0.0, 0.0, 0.0, 0.0, 20.0, 0.0])
    target = np.array([30.0, 30.0, 0.0])
    single, double = (
        losses.handwriting_nll(raw.astype(dtype), target.astype(dtype)).item()
        for dtype in ("float32", "float64")
    )
    assert single == pytest.approx(double, rel=1e-6)


@pytest.mark.parametrize("number", [0, 3])
@pytest.mark.parametrize("reduction", ["mean", "sum", "none"])
def test_what_stands_past_the_end_of_a_row_does_not_matter(number, reduction):
    loss, raw, target = case_of(number)
    lengths = np.array([5, 0, 2, 4])
    valid = np.arange(5)[:, None] < lengths
    for tensor in (raw, target):
        tensor.data[~valid] = np.nan
    value = loss(raw, target, lengths, reduction)
    value.sum().backward()
    each = np.where(valid, GOLDEN[f"{number}/losses"], 0)
    expected = {"mean": each.sum() / 11, "sum": each.sum(), "none": each}[reduction]
    np.testing.assert_allclose(value.numpy(), expected)
    for tensor in (raw, target):
        np.testing.assert_array_equal(tensor.grad.numpy()[~valid], 0)
        assert (tensor.grad.numpy()[valid] != 0).any(-1).all()


def test_the_mean_of_nothing_is_nan_with_a_gradient_of_zero():
    raw = rk.tensor(np.ones((2, 3, 7)), requires_grad=True)
    value = losses.handwriting_nll(raw, np.ones((2, 3, 3)), [0, 0, 0])
    value.backward()
    assert np.isnan(value.item())
    np.testing.assert_array_equal(raw.grad.numpy(), np.zeros((2, 3, 7)))


# -- drawing ---------------------------------------------------------------------------------

COUNT = 40_000


def repeated(row):
    return np.broadcast_to(np.asarray(row, np.float64), (COUNT, len(row)))


def test_drawn_strokes_have_the_moments_of_the_mixture():
    pi = np.array([0.3, 0.7])
    mu = np.array([[1.0, -2.0], [-1.0, 0.5]])
    sigma = np.array([[0.5, 1.5], [0.8, 0.3]])
    rho, end = np.array([0.9, -0.6]), 0.2
    raw = [
        *np.log(pi), *mu.ravel(), *np.log(sigma - FLOOR).ravel(), *np.arctanh(rho / (1 - GAP)),
        math.log(end / (1 - end)),
    ]
    drawn = losses.sample_handwriting(repeated(raw), np.random.default_rng(0))
    assert drawn.shape == (COUNT, 3)
    assert set(np.unique(drawn[:, 2])) == {0.0, 1.0}
    mean = pi @ mu
    covariance = -np.outer(mean, mean)
    for k in range(2):
        cross = rho[k] * sigma[k, 0] * sigma[k, 1]
        own = np.diag(sigma[k] ** 2) + cross * (1 - np.eye(2))
        covariance += pi[k] * (own + np.outer(mu[k], mu[k]))
    np.testing.assert_allclose(drawn[:, :2].mean(0), mean, atol=0.04)
    np.testing.assert_allclose(np.cov(drawn[:, :2].T), covariance, atol=0.05)
    assert drawn[:, 2].mean() == pytest.approx(end, abs=0.01)


def test_drawn_strokes_have_the_entropy_that_the_loss_says():
    """The mean loss of what is drawn is the entropy; another mixture gives more than it."""
    random = np.random.default_rng(3)
    raw, other = random.normal(size=(2, 19))
    target = losses.sample_handwriting(repeated(raw), random)
    again = losses.sample_handwriting(repeated(raw), random)
    own = losses.handwriting_nll(repeated(raw), target).item()
    assert losses.handwriting_nll(repeated(raw), again).item() == pytest.approx(own, abs=0.05)
    assert losses.handwriting_nll(repeated(other), target).item() > own + 0.2


def test_drawn_points_have_the_moments_of_the_mixture():
    pi, mu, sigma = np.array([0.25, 0.75]), np.array([-2.0, 1.0]), np.array([0.5, 1.5])
    raw = [*np.log(pi), *mu, *np.log(sigma - FLOOR)]
    drawn = losses.sample_gaussian_mixture(
        repeated(raw), np.random.default_rng(0), components=2
    )
    assert drawn.shape == (COUNT, 1)
    variance = pi @ (sigma**2 + mu**2) - (pi @ mu) ** 2
    assert drawn.mean() == pytest.approx(pi @ mu, abs=0.03)
    assert drawn.var() == pytest.approx(variance, rel=0.03)


def test_the_bias_makes_strokes_tidy():
    """Equations 61 and 62: smaller deviations, and the likelier component more often."""
    raw = [0.0, 0.5, 0.0, 0.0, 30.0, 30.0, *[0.0] * 6, 0.0]
    for bias in (0.0, 1.0, 3.0):
        drawn = losses.sample_handwriting(repeated(raw), np.random.default_rng(0), bias)
        of_second = drawn[drawn[:, 0] > 15]
        share = 1 / (1 + math.exp(-0.5 * (1 + bias)))
        assert len(of_second) / COUNT == pytest.approx(share, abs=0.01)
        np.testing.assert_allclose(of_second[:, :2].std(0), math.exp(-bias) + FLOOR, rtol=0.03)


def test_drawing_takes_the_librarys_generator_and_any_leading_shape():
    raw = np.random.default_rng(0).normal(size=(2, 3, 13)).astype(np.float32)
    rk.manual_seed(5)
    first = losses.sample_handwriting(raw)
    rk.manual_seed(5)
    np.testing.assert_array_equal(first, losses.sample_handwriting(rk.tensor(raw)))
    assert first.dtype == np.float32
    assert first.shape == (2, 3, 3)
    assert losses.sample_handwriting(raw[0, 0]).shape == (3,)
    assert losses.sample_gaussian_mixture(raw[..., :10], components=2).shape == (2, 3, 2)
    extreme = losses.sample_handwriting(np.full((4, 7), -1e4, np.float32))
    np.testing.assert_allclose(extreme[:, :2], -1e4, rtol=1e-6)


# -- refusals --------------------------------------------------------------------------------


def test_wrong_arguments():
    raw, target = np.zeros((2, 4, 13)), np.zeros((2, 4, 3))
    loss = losses.handwriting_nll
    with pytest.raises(ShapeError, match=r"input: expected \(\.\.\., 6 M \+ 1\), got shape"):
        loss(raw[..., :12], target)
    with pytest.raises(ShapeError, match=r"input: expected \(..., 19\) for 3 components, got"):
        loss(raw, target, components=3)
    with pytest.raises(ShapeError, match=r"target: expected shape \(2, 4, 3\)"):
        loss(raw, target[..., :2])
    with pytest.raises(DTypeError, match="target: expected float64 as input is, got float32"):
        loss(raw, target.astype(np.float32))
    with pytest.raises(DTypeError, match="input: expected float32 or float64"):
        loss(raw.astype(int), target)
    with pytest.raises(ArgumentError, match="reduction: expected"):
        loss(raw, target, reduction="average")
    with pytest.raises(ArgumentError, match="components: expected at least 1, got 0"):
        loss(raw, target, components=0)
    with pytest.raises(ArgumentError, match=r"lengths: expected from 0 to 2, .* got 3"):
        loss(raw, target, [1, 3, 0, 0])
    with pytest.raises(ShapeError, match=r"lengths: expected shape \(4,\)"):
        loss(raw, target, [1, 1])
    with pytest.raises(ShapeError, match=r"input: expected \(T, N, ...\) with lengths"):
        loss(raw[0, 0], target[0, 0], [1])
    with pytest.raises(ShapeError, match=r"input: expected \(..., 14\) for 2 components over 3 ax"):
        losses.gaussian_mixture_nll(raw, target, components=2)
    with pytest.raises(ShapeError, match=r"input: expected \(..., 2 \(1 \+ 2 D\)\) for 2 comp"):
        losses.sample_gaussian_mixture(raw, components=2)
    for bias in (-0.1, float("nan"), float("inf")):
        with pytest.raises(ArgumentError, match="bias: expected a number >= 0"):
            losses.sample_handwriting(raw, bias=bias)
