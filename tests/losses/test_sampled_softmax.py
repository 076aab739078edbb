"""The sampled softmax: its samplers, its expectation, its derivatives and what it costs."""

import tracemalloc

import numpy as np
import pytest

import rnnkit as rk
from rnnkit import losses
from rnnkit.errors import ArgumentError, DTypeError, ShapeError

V, H, N = 11, 4, 6


def problem(dtype="float64", requires_grad=True):
    random = np.random.default_rng(0)
    arrays = random.normal(size=(N, H)), random.normal(size=(V, H)), random.normal(size=V)
    x, weight, bias = (rk.tensor(a.astype(dtype), requires_grad=requires_grad) for a in arrays)
    return x, weight, bias, random.integers(0, V, N)


class Fixed:
    """Candidates that are told, from a distribution that is told."""

    def __init__(self, candidates, q):
        self.candidates, self.q, self.classes = np.array(candidates), np.array(q), len(q)

    def sample(self, count, rng):
        assert count == len(self.candidates)
        return self.candidates

    def log_probability(self, ids):
        return np.log(self.q[ids])


# -- samplers --------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "sampler",
    [
        losses.LogUniformSampler(1),
        losses.LogUniformSampler(7),
        losses.DistributionSampler([3.0, 0.0, 1.0, 5.0, 0.0]),
        losses.DistributionSampler([2]),
    ],
)
def test_samplers_draw_what_they_say(sampler):
    ids = np.arange(sampler.classes)
    with np.errstate(divide="ignore"):
        q = np.exp(sampler.log_probability(ids))
    np.testing.assert_allclose(q.sum(), 1)
    drawn = sampler.sample(100_000, np.random.default_rng(0))
    assert drawn.dtype == np.int64
    counts = np.bincount(drawn, minlength=sampler.classes)
    assert len(counts) == sampler.classes
    np.testing.assert_allclose(counts / len(drawn), q, atol=0.006)
    assert (counts[q == 0] == 0).all()


def test_the_log_uniform_sampler_follows_zipfs_law():
    sampler = losses.LogUniformSampler(10_000)
    q = np.exp(sampler.log_probability(np.arange(10_000)))
    assert q[0] == pytest.approx(np.log(2) / np.log(10_001))
    assert q[99] / q[999] == pytest.approx(1000 / 100, rel=0.01)
    top = type("Top", (), {"random": lambda self, n: np.full(n, np.nextafter(1, 0))})()
    for classes in (1, 3, 1000, 10**6, 2**40):
        assert losses.LogUniformSampler(classes).sample(1, top) <= classes - 1


def test_impossible_samplers():
    with pytest.raises(ArgumentError, match="classes: expected at least 1"):
        losses.LogUniformSampler(0)
    for weights in ([-1.0, 2.0], [0.0, 0.0], [np.nan, 1.0], [np.inf, 1.0]):
        with pytest.raises(ArgumentError, match="weights: expected numbers >= 0"):
            losses.DistributionSampler(weights)
    for weights in ([[1.0, 2.0]], []):
        with pytest.raises(ShapeError, match=r"weights: expected \(V,\)"):
            losses.DistributionSampler(weights)


# -- values ----------------------------------------------------------------------------------


@pytest.mark.parametrize("dtype", ["float32", "float64"])
@pytest.mark.parametrize("with_bias", [True, False])
def test_the_equation_by_hand(with_bias, dtype):
    x, weight, bias, target = problem(dtype)
    q = np.arange(1.0, V + 1) / (V * (V + 1) / 2)
    candidates = [0, 3, 3, int(target[0]), 9]
    found = losses.sampled_softmax_loss(
        x, weight, target, bias if with_bias else None, samples=5,
        sampler=Fixed(candidates, q), reduction="none",
    )
    scores = x.numpy().astype(np.float64) @ weight.numpy().T + with_bias * bias.numpy()
    for n in range(N):
        z = np.exp(scores[n, target[n]])
        z += sum(np.exp(scores[n, k]) / (5 * q[k]) for k in candidates if k != target[n])
        expected = -scores[n, target[n]] + np.log(z)
        tolerance = 1e-5 if dtype == "float32" else 1e-12
        assert found.numpy()[n] == pytest.approx(expected, rel=tolerance)
    assert found.dtype == dtype


@pytest.mark.parametrize(
    "sampler", [None, losses.DistributionSampler(np.random.default_rng(1).uniform(0.5, 2, V))]
)
def test_the_expectation_of_the_sum_is_the_softmaxs(sampler):
    """exp(loss) is Z' / exp(s_t), whose expectation is that of the full softmax."""
    x, weight, bias, target = problem(requires_grad=False)
    full = losses.cross_entropy(rk.linear(x, weight, bias), target, reduction="none").numpy()
    draws = [
        losses.sampled_softmax_loss(
            x, weight, target, bias, samples=20, sampler=sampler, reduction="none"
        ).numpy()
        for _ in range(2000)
    ]
    ratios = np.exp(np.array(draws) - full)
    errors = ratios.std(0) / np.sqrt(len(draws))
    assert (np.abs(ratios.mean(0) - 1) < 4.5 * errors + 1e-12).all()
    assert (errors < 0.02).all()


def test_with_many_candidates_loss_and_gradients_are_the_full_ones():
    x, weight, bias, target = problem()
    full = losses.linear_cross_entropy(x, weight, target, bias)
    full.backward()
    expected = [tensor.grad.numpy() for tensor in (x, weight, bias)]
    for tensor in (x, weight, bias):
        tensor.grad = None
    value = losses.sampled_softmax_loss(x, weight, target, bias, samples=400_000)
    value.backward()
    assert value.item() == pytest.approx(full.item(), rel=3e-3)
    for tensor, gradient in zip((x, weight, bias), expected, strict=True):
        np.testing.assert_allclose(tensor.grad.numpy(), gradient, atol=5e-3)


@pytest.mark.parametrize("reduction", ["mean", "sum", "none"])
def test_first_and_second_derivatives(reduction):
    x, weight, bias, target = problem()
    q = np.full(V, 1 / V)

    def loss(x, weight, bias):
        return losses.sampled_softmax_loss(
            x, weight, target, bias, samples=4,
            sampler=Fixed([2, 5, 5, int(target[1])], q), reduction=reduction,
        )

    assert rk.gradcheck(loss, [x, weight, bias])
    assert rk.gradgradcheck(loss, [x, weight, bias])


def test_only_rows_that_take_part_get_gradients():
    x, weight, bias, _ = problem()
    losses.sampled_softmax_loss(
        x, weight, np.array([1, 1, 4, 1, 4, 1]), bias, samples=2,
        sampler=Fixed([7, 4], np.full(V, 1 / V)),
    ).backward()
    touched = np.zeros(V, bool)
    touched[[1, 4, 7]] = True
    np.testing.assert_array_equal((weight.grad.numpy() != 0).any(1), touched)
    np.testing.assert_array_equal(bias.grad.numpy() != 0, touched)


def test_nothing_but_accidental_hits_costs_nothing():
    x, weight, bias, _ = problem()
    value = losses.sampled_softmax_loss(
        x, weight, np.full(N, 3), bias, samples=2, sampler=Fixed([3, 3], np.full(V, 1 / V))
    )
    value.backward()
    assert value.item() == 0
    np.testing.assert_array_equal(x.grad.numpy(), np.zeros((N, H)))


@pytest.mark.parametrize("dtype", ["float32", "float64"])
def test_extreme_scores_stay_finite(dtype):
    x, weight, _, target = problem(dtype)
    big = rk.tensor(x.numpy() * 1e4, requires_grad=True)
    value = losses.sampled_softmax_loss(big, weight, target, samples=3)
    value.backward()
    assert np.isfinite(value.item())
    assert np.isfinite(big.grad.numpy()).all()


def test_a_seed_fixes_the_candidates_and_any_leading_shape_is_taken():
    x, weight, bias, target = problem()
    values = []
    for _ in range(2):
        rk.manual_seed(3)
        values.append(losses.sampled_softmax_loss(x, weight, target, bias, samples=5).item())
    other = losses.sampled_softmax_loss(x, weight, target, bias, samples=5).item()
    assert values[0] == values[1] != other
    deep = losses.sampled_softmax_loss(
        x.reshape(2, 3, H), weight, target.reshape(2, 3), bias, samples=5, reduction="none",
        rng=np.random.default_rng(0),
    )
    flat = losses.sampled_softmax_loss(
        x, weight, target, bias, samples=5, reduction="none", rng=np.random.default_rng(0)
    )
    np.testing.assert_array_equal(deep.numpy(), flat.numpy().reshape(2, 3))


def test_the_loss_allocates_nothing_of_the_size_of_the_vocabulary():
    classes = 200_000
    weight = rk.tensor(np.zeros((classes, 8), np.float32), requires_grad=True)
    bias = rk.tensor(np.zeros(classes, np.float32), requires_grad=True)
    x, target = rk.ones(10, 8), np.arange(10) * 1000
    losses.sampled_softmax_loss(x, weight, target, bias, samples=50)
    tracemalloc.start()
    value = losses.sampled_softmax_loss(x, weight, target, bias, samples=50)
    _, peak = tracemalloc.get_traced_memory()
    tracemalloc.stop()
    assert peak < 100_000
    assert value.requires_grad


def test_wrong_arguments():
    x, weight, bias, target = problem()
    loss = losses.sampled_softmax_loss
    with pytest.raises(ArgumentError, match="samples: expected at least 1, got 0"):
        loss(x, weight, target, samples=0)
    with pytest.raises(ArgumentError, match="sampler: expected one of 11 classes, got one of 12"):
        loss(x, weight, target, samples=2, sampler=losses.LogUniformSampler(12))
    with pytest.raises(ArgumentError, match=r"target: expected ids in \[0, 11\), got 11 at index"):
        loss(x, weight, [0, 11, 0, 0, 0, 0], samples=2)
    with pytest.raises(ArgumentError, match="got -100"):
        loss(x, weight, [-100] * N, samples=2)
    with pytest.raises(ShapeError, match=r"input, weight: expected \(..., H\) and \(V, H\)"):
        loss(x, weight[:, :3], target, samples=2)
    with pytest.raises(ShapeError, match=r"bias: expected shape \(11,\)"):
        loss(x, weight, target, bias[:5], samples=2)
    with pytest.raises(ShapeError, match=r"target: expected shape \(6,\)"):
        loss(x, weight, target[:5], samples=2)
    with pytest.raises(DTypeError, match="weight: expected float64 as input is"):
        loss(x, weight.astype(np.float32), target, samples=2)
    with pytest.raises(DTypeError, match="target: expected integer class ids"):
        loss(x, weight, target * 1.0, samples=2)
    with pytest.raises(ArgumentError, match="reduction: expected"):
        loss(x, weight, target, samples=2, reduction="all")
