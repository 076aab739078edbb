"""Frames of keys, and losses of ragged rows: their values, and what they never read."""

import numpy as np
import pytest

import rnnkit as rk
from rnnkit import losses
from rnnkit.errors import ArgumentError, DTypeError, ShapeError

LENGTHS = np.array([4, 0, 2])
VALID = np.arange(4)[:, None] < LENGTHS


def rolls(dtype="float64"):
    random = np.random.default_rng(0)
    logits = random.normal(0, 2, (4, 3, 5)).astype(dtype)
    return logits, (random.random((4, 3, 5)) < 0.4).astype(dtype)


def by_hand(logits, target):
    p = 1 / (1 + np.exp(-logits.astype(np.float64)))
    return -(target * np.log(p) + (1 - target) * np.log(1 - p)).sum(-1)


@pytest.mark.parametrize("dtype", ["float32", "float64"])
@pytest.mark.parametrize("lengths", [None, LENGTHS, LENGTHS.tolist(), rk.tensor(LENGTHS)])
@pytest.mark.parametrize("reduction", ["mean", "sum", "none"])
def test_frame_nll_by_hand(reduction, lengths, dtype):
    logits, target = rolls(dtype)
    each = by_hand(logits, target)
    if lengths is not None:
        each = np.where(VALID, each, 0)
    frames = 12 if lengths is None else 6
    expected = {"mean": each.sum() / frames, "sum": each.sum(), "none": each}[reduction]
    found = losses.frame_nll(logits, target, lengths, reduction=reduction)
    assert found.dtype == dtype
    np.testing.assert_allclose(found.numpy(), expected, rtol=3e-6 if dtype == "float32" else 1e-13)


def test_frame_nll_takes_any_leading_shape():
    logits, target = rolls()
    whole = losses.frame_nll(logits, target, reduction="none").numpy()
    np.testing.assert_array_equal(
        losses.frame_nll(logits[1, 2], target[1, 2], reduction="none").numpy(), whole[1, 2]
    )
    deep = losses.frame_nll(logits[None], target[None], reduction="none")
    np.testing.assert_array_equal(deep.numpy(), whole[None])


@pytest.mark.parametrize("reduction", ["mean", "sum", "none"])
def test_first_and_second_derivatives(reduction):
    logits, target = (rk.tensor(array, requires_grad=True) for array in rolls())
    target.data[...] = target.data * 0.6 + 0.2

    def loss(logits, target):
        return losses.frame_nll(logits, target, LENGTHS, reduction=reduction)

    assert rk.gradcheck(loss, [logits, target])
    assert rk.gradgradcheck(loss, [logits, target])


@pytest.mark.parametrize("garbage", [np.nan, np.inf])
@pytest.mark.parametrize("reduction", ["mean", "sum", "none"])
def test_padding_is_never_read(reduction, garbage):
    logits, target = rolls()
    clean = rk.tensor(logits, requires_grad=True)
    expected = losses.frame_nll(clean, target, LENGTHS, reduction=reduction)
    expected.sum().backward()
    dirty = rk.tensor(np.where(VALID[..., None], logits, garbage), requires_grad=True)
    found = losses.frame_nll(
        dirty, np.where(VALID[..., None], target, garbage), LENGTHS, reduction=reduction
    )
    found.sum().backward()
    np.testing.assert_array_equal(found.numpy(), expected.numpy())
    np.testing.assert_array_equal(dirty.grad.numpy(), clean.grad.numpy())
    np.testing.assert_array_equal(dirty.grad.numpy()[~VALID], 0)


@pytest.mark.parametrize("dtype", ["float32", "float64"])
def test_extreme_logits(dtype):
    logits = rk.tensor(np.array([[1e4, -1e4, 1e4, -1e4]], dtype), requires_grad=True)
    value = losses.frame_nll(logits, np.array([[1, 0, 0, 1]], dtype))
    value.backward()
    assert value.item() == 2e4
    np.testing.assert_array_equal(logits.grad.numpy(), [[0, 0, 1, -1]])


def test_the_mean_of_no_frames_is_nan_with_a_gradient_of_zero():
    logits, target = rolls()
    x = rk.tensor(logits, requires_grad=True)
    value = losses.frame_nll(x, target, [0, 0, 0])
    value.backward()
    assert np.isnan(value.item())
    np.testing.assert_array_equal(x.grad.numpy(), 0 * logits)
    none = losses.frame_nll(x, target, [0, 0, 0], reduction="none")
    np.testing.assert_array_equal(none.numpy(), np.zeros((4, 3)))


def test_wrong_frames():
    logits, target = rolls()
    with pytest.raises(ShapeError, match=r"target: expected shape \(4, 3, 5\) \(as input\)"):
        losses.frame_nll(logits, target[..., :4])
    with pytest.raises(ShapeError, match=r"input: expected \(..., K\)"):
        losses.frame_nll(1.0, 1.0)
    with pytest.raises(DTypeError, match="target: expected float64"):
        losses.frame_nll(logits, target.astype(np.float32))
    with pytest.raises(ArgumentError, match="lengths: expected from 0 to 4"):
        losses.frame_nll(logits, target, [5, 0, 0])
    with pytest.raises(ArgumentError, match="reduction: expected"):
        losses.frame_nll(logits, target, reduction="frames")


# -- any loss, of ragged rows ----------------------------------------------------------------


def test_valid_steps_are_those_that_rows_have():
    x = np.arange(24).reshape(4, 3, 2)
    found = losses.valid_steps(x, LENGTHS)
    np.testing.assert_array_equal(found.numpy(), x[VALID])
    assert losses.valid_steps(x[..., 0], LENGTHS).shape == (6,)
    assert losses.valid_steps(x, [0, 0, 0]).shape == (0, 2)
    flags = losses.valid_steps(VALID, LENGTHS)
    assert flags.dtype == np.bool_
    assert flags.numpy().all()


@pytest.mark.parametrize("loss", [losses.mse, losses.l1, losses.smooth_l1, losses.bce_with_logits])
def test_elementwise_losses_of_valid_steps(loss):
    x, target = rolls()
    dirty = rk.tensor(np.where(VALID[..., None], x, np.nan), requires_grad=True)
    value = loss(losses.valid_steps(dirty, LENGTHS), losses.valid_steps(target, LENGTHS))
    value.backward()
    clean = rk.tensor(x, requires_grad=True)
    each = loss(clean, target, reduction="none")
    expected = rk.where(VALID[..., None], each, 0.0).sum() / 30
    expected.backward()
    np.testing.assert_allclose(value.item(), expected.item(), rtol=1e-14)
    np.testing.assert_allclose(dirty.grad.numpy(), clean.grad.numpy(), rtol=1e-14)
    np.testing.assert_array_equal(dirty.grad.numpy()[~VALID], 0)


def test_class_losses_of_valid_steps():
    scores, _ = rolls()
    x = rk.tensor(np.where(VALID[..., None], scores, np.nan), requires_grad=True)
    ids = np.where(VALID, np.arange(12).reshape(4, 3) % 5, -1)  # -1 is no class
    value = losses.cross_entropy(losses.valid_steps(x, LENGTHS), losses.valid_steps(ids, LENGTHS))
    ignoring = losses.cross_entropy(scores, np.where(VALID, ids, -100))
    np.testing.assert_allclose(value.item(), ignoring.item(), rtol=1e-14)
    value.backward()
    np.testing.assert_array_equal(x.grad.numpy()[~VALID], 0)
    assert np.isfinite(x.grad.numpy()).all()


def test_derivatives_of_valid_steps():
    x = rk.tensor(rolls()[0], requires_grad=True)
    assert rk.gradcheck(lambda x: losses.valid_steps(x, LENGTHS).square(), [x])
    assert rk.gradgradcheck(lambda x: losses.valid_steps(x, LENGTHS).square(), [x])


def test_wrong_lengths():
    x = np.zeros((4, 3, 2))
    with pytest.raises(ShapeError, match=r"x: expected \(T, N, ...\) with lengths, got shape \(4,"):
        losses.valid_steps(x[:, 0, 0], [1])
    with pytest.raises(ShapeError, match=r"lengths: expected shape \(3,\)"):
        losses.valid_steps(x, [1, 2])
    with pytest.raises(DTypeError, match="lengths: expected integers"):
        losses.valid_steps(x, [1.0, 2.0, 3.0])
    with pytest.raises(ArgumentError, match="lengths: expected from 0 to 4"):
        losses.valid_steps(x, [1, 2, -1])


def test_losses_of_rows_want_steps_rows_and_features():
    flat, two = np.zeros((4, 3)), np.zeros((4, 2))  # (T, features): no rows for the lengths
    for loss in (
        lambda: losses.frame_nll(flat, flat, [1, 2, 3]),
        lambda: losses.gaussian_mixture_nll(np.zeros((4, 5)), two, [1] * 5, components=1),
        lambda: losses.handwriting_nll(np.zeros((4, 7)), flat, [1] * 7),
    ):
        with pytest.raises(ShapeError, match=r"input: expected \(T, N, ...\) with lengths, feat"):
            loss()
    frames = np.zeros((4, 3, 2))
    with pytest.raises(ArgumentError, match="lengths: expected from 0 to 4, the steps of input"):
        losses.frame_nll(frames, frames, [1, 2, 5])
