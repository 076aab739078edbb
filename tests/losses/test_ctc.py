"""CTC: all alignments counted one by one, PyTorch's values, derivatives, rows apart, refusals."""

from __future__ import annotations

import json
import tracemalloc
from itertools import product
from pathlib import Path

import numpy as np
import pytest

import rnnkit as rk
from rnnkit import losses
from rnnkit.errors import ArgumentError, DTypeError, ShapeError

GOLDEN = np.load(Path(__file__).parents[1] / "golden" / "ctc.npz")
CASES = json.loads(str(GOLDEN["cases"]))


def log_probs(*shape, seed=0, dtype="float64", scale=1.0):
    scores = np.random.default_rng(seed).normal(size=shape) * scale
    return rk.tensor(scores).log_softmax(-1).numpy().astype(dtype)


def leaf(values):
    return rk.tensor(values, requires_grad=True)


def shows(alignment, blank):
    """The labels that an alignment shows."""
    before = (None, *alignment)
    return tuple(k for k, last in zip(alignment, before, strict=False) if k not in (last, blank))


def counted(x, target, blank=0):
    """Loss and its derivative for one row (T, C), from every alignment there is."""
    T, C = x.shape
    total, shown = 0.0, np.zeros((T, C))
    for alignment in product(range(C), repeat=T):
        if shows(alignment, blank) == tuple(target):
            probability = np.exp(sum(x[t, k] for t, k in enumerate(alignment)))
            total += probability
            shown[np.arange(T), list(alignment)] += probability
    return (-np.log(total), -shown / total) if total else (np.inf, None)


@pytest.mark.usefixtures("path")
@pytest.mark.parametrize(("dtype", "blank"), [("float32", 2), ("float64", 0)])
@pytest.mark.parametrize(
    "target",
    [(), (0,), (2,), (0, 1), (1, 1), (1, 1, 1), (0, 1, 0), (1, 0, 0, 1)],
    ids=str,
)
@pytest.mark.parametrize("T", [0, 1, 3, 6])
def test_every_alignment_counts(T, target, blank, dtype):
    labels = [k for k in range(4) if k != blank]
    target = [labels[k] for k in target]
    x = leaf(log_probs(T, 1, 4, seed=T + len(target), dtype=dtype))
    options = {"blank": blank, "reduction": "none"}
    value = losses.ctc_loss(x, [target], [T], [len(target)], **options)
    expected, d_x = counted(x.numpy()[:, 0].astype("float64"), target, blank)
    tolerance = 2e-6 if dtype == "float32" else 1e-13
    assert value.dtype == dtype
    np.testing.assert_allclose(value.numpy(), [expected], rtol=tolerance, atol=tolerance)
    value.sum().backward()
    if d_x is None:
        assert np.isnan(x.grad.numpy()).all()
    else:
        np.testing.assert_allclose(x.grad.numpy()[:, 0], d_x, rtol=tolerance, atol=tolerance)


@pytest.mark.usefixtures("path")
def test_log_probs_need_not_be_normalised_and_may_be_log_zero():
    x = np.random.default_rng(3).normal(size=(5, 1, 3)) + 4.0
    x[[0, 2, 3], 0, [0, 1, 2]] = -np.inf
    for target in ([1, 2], [1, 1], [2], []):
        given = leaf(x)
        value = losses.ctc_loss(given, [target], [5], [len(target)], reduction="sum")
        expected, d_x = counted(x[:, 0], target)
        np.testing.assert_allclose(value.item(), expected, rtol=1e-13)
        if d_x is not None:
            value.backward()
            np.testing.assert_allclose(given.grad.numpy()[:, 0], d_x, rtol=1e-12, atol=1e-13)


# -- PyTorch ---------------------------------------------------------------------------------


def options_of(case):
    return {name: case[name] for name in ("blank", "reduction", "zero_infinity") if name in case}


@pytest.mark.usefixtures("path")
@pytest.mark.parametrize("dtype", ["float32", "float64"])
@pytest.mark.parametrize("number", range(len(CASES)), ids=lambda n: f"{n}-{CASES[n]['shape']}")
def test_values_and_gradients_are_pytorchs(number, dtype):
    case = CASES[number]
    logits = leaf(GOLDEN[f"{number}/logits"].astype(dtype))
    value = losses.ctc_loss(
        logits.log_softmax(-1), GOLDEN[f"{number}/targets"], case["frames"], case["labels"],
        **options_of(case),
    )
    value.backward(rk.tensor(GOLDEN[f"{number}/d_value"].astype(dtype)))
    tolerance = 5e-6 if dtype == "float32" else 1e-12
    assert value.shape == GOLDEN[f"{number}/value"].shape
    np.testing.assert_allclose(value.numpy(), GOLDEN[f"{number}/value"], rtol=tolerance)
    np.testing.assert_allclose(
        logits.grad.numpy(), GOLDEN[f"{number}/d_logits"], rtol=tolerance, atol=tolerance
    )


@pytest.mark.usefixtures("path")
def test_pytorch_live():
    torch = pytest.importorskip("torch")
    random = np.random.default_rng(5)
    for _ in range(20):
        T, N, C = random.integers(1, 30), random.integers(1, 6), random.integers(2, 9)
        scores = random.normal(size=(T, N, C)) * 3
        blank = int(random.integers(C))
        targets = random.choice([k for k in range(C) if k != blank], (N, 12))
        frames, counts = random.integers(0, T + 1, N), random.integers(0, 13, N)
        ours, theirs = leaf(scores), torch.tensor(scores, requires_grad=True)
        value = losses.ctc_loss(
            ours.log_softmax(-1), targets, frames, counts, blank, zero_infinity=True
        )
        value.backward()
        expected = torch.nn.functional.ctc_loss(
            theirs.log_softmax(-1), torch.tensor(targets), torch.tensor(frames),
            torch.tensor(counts), blank, zero_infinity=True,
        )
        expected.backward()
        np.testing.assert_allclose(value.item(), expected.item(), rtol=1e-12)
        np.testing.assert_allclose(ours.grad.numpy(), theirs.grad.numpy(), atol=1e-12)


# -- derivatives -----------------------------------------------------------------------------

T, N, C = 7, 5, 4
TARGETS = np.array([[1, 2, 3], [2, 2, 9], [3, 1, 3], [9, 9, 9], [1, 9, 9]])
COUNTS, FRAMES = np.array([3, 2, 3, 0, 1]), np.array([7, 6, 3, 4, 1])


@pytest.mark.usefixtures("path")
@pytest.mark.parametrize("reduction", ["mean", "sum", "none"])
def test_first_and_second_derivatives(reduction):
    def loss(x):
        return losses.ctc_loss(x, TARGETS, FRAMES, COUNTS, reduction=reduction)

    def loss_of_few(x):
        targets = [[1, 2], [2, 2], [0, 0]]
        return losses.ctc_loss(x, targets, [4, 3, 2], [2, 2, 0], reduction=reduction)

    x = leaf(log_probs(4, 3, 3))
    assert rk.gradcheck(loss, [leaf(log_probs(T, N, C))])
    assert rk.gradgradcheck(loss_of_few, [x])
    if reduction == "mean":
        assert rk.gradgradcheck(lambda scores: loss_of_few(scores.log_softmax(-1)), [x])


@pytest.mark.usefixtures("path")
def test_the_gradient_is_the_same_where_it_is_recorded():
    """With an infeasible row, a row of NaN, and NaN behind each row's end."""
    values = log_probs(T, N, C)
    values[np.arange(T)[:, None] >= FRAMES] = np.nan
    values[2, 3] = np.nan
    frames = [7, 2, 3, 4, 1]
    gradients = []
    for create_graph in (False, True):
        x = leaf(values)
        loss = losses.ctc_loss(x, TARGETS, frames, COUNTS, reduction="none")
        (d_x,) = rk.grad(loss, [x], rk.arange(5, dtype="float64"), create_graph=create_graph)
        gradients.append(d_x.numpy())
    np.testing.assert_allclose(*gradients, rtol=1e-12, atol=1e-14)
    finite = np.isfinite(gradients[0]).all(axis=(0, 2))
    np.testing.assert_array_equal(finite, [True, False, True, False, True])
    assert not gradients[0][:, 0].any()  # its loss has no gradient


@pytest.mark.usefixtures("path")
@pytest.mark.parametrize("shape", [(0, 2, 3), (0, 3)])
def test_the_gradient_of_no_frames_can_be_recorded(shape):
    x = leaf(np.zeros(shape))
    lengths = [0] * (len(shape) - 1) if len(shape) == 3 else 0
    targets = np.zeros((*shape[1:-1], 0), np.int64)
    loss = losses.ctc_loss(x, targets, lengths, lengths)
    assert loss.item() == 0
    (d_x,) = rk.grad(loss, [x], create_graph=True)
    assert d_x.shape == shape
    assert rk.grad(d_x.sum(), [x])[0].shape == shape


@pytest.mark.usefixtures("path")
def test_a_retained_graph_gives_the_same_again():
    x = leaf(log_probs(T, N, C))
    loss = losses.ctc_loss(x, TARGETS, FRAMES, COUNTS)
    (first,) = rk.grad(loss, [x], retain_graph=True)
    kept = first.numpy().copy()
    first.data[...] = 0
    np.testing.assert_array_equal(rk.grad(loss, [x])[0].numpy(), kept)


@pytest.mark.usefixtures("path")
@pytest.mark.parametrize(("trained", "tolerance"), [(False, 1e-3), (True, 2e-6)])
def test_long_rows_keep_their_digits(trained, tolerance):
    """With nothing taken off, the numbers of both recursions would go down to several thousand, and
    gradients be wrong in the second digit."""
    frames, labels = 2500, 400
    scores = np.random.default_rng(0).normal(size=(frames, 1, 30)) * (1 if trained else 3)
    target = np.random.default_rng(1).integers(1, 30, labels)
    if trained:
        places = np.linspace(2, frames - 4, labels).astype(int)
        scores[places, 0, target] += 6
        scores[places + 2, 0, 0] += 5
    values = rk.tensor(scores).log_softmax(-1).numpy()
    found = []
    for dtype in ("float64", "float32"):
        x = leaf(values.astype(dtype))
        loss = losses.ctc_loss(x, [target], [frames], [labels], reduction="sum")
        loss.backward()
        found.append((loss.item(), x.grad.numpy()))
    (loss, d_x), (rounded, d_rounded) = found
    assert rounded == pytest.approx(loss, rel=2e-7 if trained else 1e-6)
    np.testing.assert_allclose(d_rounded, d_x, atol=tolerance)
    np.testing.assert_allclose(d_rounded.sum(axis=2), -1, rtol=1e-6)


@pytest.mark.usefixtures("path")
@pytest.mark.parametrize("dtype", ["float32", "float64"])
def test_a_loss_far_below_the_rounding_of_one_is_right(dtype):
    """A network that is all but sure: what is left must not be lost beside 1."""
    left = np.exp(-20.0)
    x = np.full((3, 1, 3), np.log(left / 2))
    x[[0, 1, 2], 0, [1, 0, 2]] = np.log1p(-left)
    loss = losses.ctc_loss(x.astype(dtype), [[1, 2]], [3], [2], reduction="sum")
    expected, _ = counted(x[:, 0].astype(np.longdouble), [1, 2])
    assert loss.item() == pytest.approx(float(expected), rel=1e-5, abs=0)


# -- rows ------------------------------------------------------------------------------------


def bits(x, targets, frames, counts, rows, dtype="float32"):
    given = leaf(x[:, rows].astype(dtype))
    loss = losses.ctc_loss(given, targets[rows], frames[rows], counts[rows], reduction="none")
    loss.sum().backward()
    return loss.numpy(), given.grad.numpy()


@pytest.mark.usefixtures("native")
@pytest.mark.parametrize("dtype", ["float32", "float64"])
def test_the_bits_of_a_row_depend_neither_on_others_nor_on_padding_or_threads(dtype):
    random = np.random.default_rng(2)
    x = log_probs(90, 9, 20, scale=2.0)
    frames, counts = random.integers(0, 91, 9), random.integers(0, 31, 9)
    frames[0], counts[0] = 90, 30
    targets = random.integers(1, 20, (9, 40))
    before = rk.get_num_threads()
    try:
        rk.set_num_threads(3)
        together = bits(x, targets, frames, counts, np.arange(9), dtype)
        rk.set_num_threads(1)
        alone = bits(x, targets, frames, counts, np.arange(9), dtype)
    finally:
        rk.set_num_threads(before)
    for a, b in zip(together, alone, strict=True):
        np.testing.assert_array_equal(a, b)
    for n in range(9):
        short = x[: frames[n], n : n + 1].astype(dtype)
        given = leaf(short)
        row = targets[n : n + 1, : counts[n]]
        loss = losses.ctc_loss(given, row, frames[n : n + 1], counts[n : n + 1], reduction="none")
        loss.sum().backward()
        np.testing.assert_array_equal(loss.numpy(), together[0][n : n + 1])
        np.testing.assert_array_equal(given.grad.numpy()[:, 0], together[1][: frames[n], n])
        assert not together[1][frames[n] :, n].any()


@pytest.mark.usefixtures("path")
def test_padding_is_never_read():
    x = log_probs(T, N, C)
    clean = leaf(x)
    expected = losses.ctc_loss(clean, np.where(TARGETS == 9, 1, TARGETS), FRAMES, COUNTS)
    expected.backward()
    x[np.arange(T)[:, None] >= FRAMES] = np.nan
    spoiled = leaf(x)
    targets = np.where(TARGETS == 9, np.iinfo(np.int64).min, TARGETS)
    value = losses.ctc_loss(spoiled, targets, FRAMES, COUNTS)
    value.backward()
    assert value.item() == expected.item()
    np.testing.assert_array_equal(spoiled.grad.numpy(), clean.grad.numpy())


@pytest.mark.usefixtures("path")
@pytest.mark.parametrize("bad", [np.nan, np.inf])
def test_what_is_no_log_probability_spoils_its_own_row_only(bad):
    x = log_probs(T, N, C)
    x[3, 1, 2] = bad  # a label of its row
    x[3, 0, 0] = bad  # blank
    x[3, 3, 1] = bad  # neither
    given = leaf(x)
    loss = losses.ctc_loss(given, TARGETS, FRAMES, COUNTS, reduction="none")
    np.testing.assert_array_equal(np.isnan(loss.numpy()), [True, True, False, False, False])
    loss.sum().backward()
    spoiled = np.isnan(given.grad.numpy())
    of_rows = (np.arange(T)[:, None] < FRAMES) & np.array([True, True, False, False, False])
    np.testing.assert_array_equal(spoiled, np.repeat(of_rows[:, :, None], C, axis=2))
    # Even a blank for which a row has no room.
    x = log_probs(1, 1, C)
    x[0, 0, 0] = bad
    assert np.isnan(losses.ctc_loss(x, [[1]], [1], [1]).item())


@pytest.mark.usefixtures("path")
@pytest.mark.parametrize("frame", [0, 1, 2])
def test_a_frame_that_shows_neither_blank_nor_label(frame):
    x = log_probs(3, 2, C)
    x[frame, 0, :2] = -np.inf
    given = leaf(x)
    loss = losses.ctc_loss(given, [[1], [1]], [3, 3], [1, 1], reduction="none")
    np.testing.assert_array_equal(loss.numpy() == np.inf, [True, False])
    loss.sum().backward()
    np.testing.assert_array_equal(np.isnan(given.grad.numpy()).all((0, 2)), [True, False])


@pytest.mark.usefixtures("path")
def test_rows_that_cannot_show_their_labels():
    x = log_probs(T, 4, C)
    x[:4, 2, 2] = -np.inf
    targets, counts = [[1, 1, 2], [1, 2, 3], [2, 1, 0], [1, 2, 3]], [3, 3, 2, 3]
    frames = [3, 2, 4, 7]
    given = leaf(x)
    loss = losses.ctc_loss(given, targets, frames, counts, reduction="none")
    np.testing.assert_array_equal(np.isinf(loss.numpy()), [True, True, True, False])
    loss.sum().backward()
    d_x = given.grad.numpy()
    for n in range(3):
        assert np.isnan(d_x[: frames[n], n]).all()
        assert not d_x[frames[n] :, n].any()
    assert np.isfinite(d_x[:, 3]).all()

    given = leaf(x)
    loss = losses.ctc_loss(
        given, targets, frames, counts, reduction="none", zero_infinity=True
    )
    np.testing.assert_array_equal(loss.numpy() == 0, [True, True, True, False])
    loss.sum().backward()
    np.testing.assert_array_equal(given.grad.numpy()[:, 3], d_x[:, 3])
    assert not given.grad.numpy()[:, :3].any()
    assert losses.ctc_loss(x, targets, frames, counts).item() == np.inf
    mean = losses.ctc_loss(x, targets, frames, counts, zero_infinity=True)
    assert mean.item() == pytest.approx(loss.numpy()[3] / 3 / 4)


@pytest.mark.usefixtures("path")
def test_zero_infinity_does_not_hide_nan():
    x = log_probs(3, 1, 3)
    x[1] = np.nan
    for target in ([1], [1, 1, 1]):
        loss = losses.ctc_loss(x, [target], [3], [len(target)], zero_infinity=True)
        assert np.isnan(loss.item())


# -- forms of the arguments ------------------------------------------------------------------


@pytest.mark.usefixtures("path")
def test_targets_padded_or_one_after_the_other_of_any_integer_type():
    x = log_probs(T, N, C)
    expected = losses.ctc_loss(x, TARGETS, FRAMES, COUNTS).item()
    flat = np.concatenate([row[:count] for row, count in zip(TARGETS, COUNTS, strict=True)])
    for dtype in (np.int8, np.uint8, np.int32, np.uint64):
        lengths = rk.tensor(FRAMES.astype(dtype)), COUNTS.astype(dtype)
        for targets in (TARGETS, flat):
            given = targets.astype(dtype)
            assert losses.ctc_loss(x, given, *lengths).item() == expected
            assert losses.ctc_loss(x, rk.tensor(given), *lengths).item() == expected
    assert losses.ctc_loss(x, flat.tolist(), FRAMES.tolist(), COUNTS.tolist()).item() == expected
    assert losses.ctc is losses.ctc_loss


@pytest.mark.usefixtures("path")
def test_a_single_row():
    x = log_probs(T, 1, C)
    expected = losses.ctc_loss(x, [[1, 2]], [6], [2])
    for frames, count in ((6, 2), ([6], [2]), (np.int32(6), rk.tensor(2))):
        given = leaf(x[:, 0])
        loss = losses.ctc_loss(given, [1, 2], frames, count)
        assert loss.shape == ()
        assert loss.item() == expected.item()
        loss.backward()
        assert given.grad.shape == (T, C)
    assert losses.ctc_loss(x[:, 0], [1, 2, 9], 6, 2, reduction="none").shape == ()


@pytest.mark.usefixtures("path")
def test_inputs_that_are_not_contiguous_and_are_left_alone():
    x = log_probs(T, N, C)
    other = leaf(np.ascontiguousarray(x.transpose(1, 0, 2)))
    given, frames, counts, targets = leaf(x), FRAMES[::-1].copy(), COUNTS.copy(), TARGETS.copy()
    loss = losses.ctc_loss(given, TARGETS, FRAMES, COUNTS)
    loss.backward()
    same = losses.ctc_loss(
        other.transpose(0, 1), np.asfortranarray(targets), frames[::-1], counts
    )
    same.backward()
    assert same.item() == loss.item()
    np.testing.assert_array_equal(other.grad.numpy().swapaxes(0, 1), given.grad.numpy())
    np.testing.assert_array_equal(given.numpy(), x)
    np.testing.assert_array_equal(targets, TARGETS)


@pytest.mark.usefixtures("path")
def test_nothing_to_count():
    empty = leaf(np.zeros((3, 0, 4)))
    loss = losses.ctc_loss(empty, np.zeros((0, 2), int), [], [])
    assert np.isnan(loss.item())
    loss.backward()
    assert empty.grad.shape == (3, 0, 4)
    assert losses.ctc_loss(empty, [], [], [], reduction="sum").item() == 0
    none = leaf(np.zeros((0, 2, 4)))
    loss = losses.ctc_loss(none, [[1], [1]], [0, 0], [0, 1], reduction="none")
    np.testing.assert_array_equal(loss.numpy(), [0, np.inf])
    loss.sum().backward()
    assert none.grad.shape == (0, 2, 4)
    only_blank = log_probs(3, 1, 1)
    assert losses.ctc_loss(only_blank, [[]], [3], [0]).item() == 0


@pytest.mark.usefixtures("native")
def test_the_path_can_be_asked(path):
    losses.ctc_loss(log_probs(T, N, C), TARGETS, FRAMES, COUNTS)
    (decision,) = [each for each in rk.why() if each.op == "ctc_loss"]
    assert decision.path == ("fused" if path == "native" else "python")


@pytest.mark.usefixtures("native")
def test_each_path_ran_its_own_code():
    x = log_probs(60, 3, 12, dtype="float32", scale=2.0)
    targets = np.random.default_rng(0).integers(1, 12, (3, 20))
    found = []
    for name in ("python", "native"):
        with rk.backend(name):
            given = leaf(x)
            loss = losses.ctc_loss(given, targets, [60, 50, 41], [20, 3, 11], reduction="none")
            loss.sum().backward()
        found.append((loss.numpy(), given.grad.numpy()))
    np.testing.assert_allclose(found[0][0], found[1][0], rtol=1e-6)
    np.testing.assert_allclose(found[0][1], found[1][1], rtol=1e-4, atol=1e-6)
    assert not np.array_equal(found[0][1], found[1][1])


@pytest.mark.usefixtures("path")
def test_alphas_are_kept_only_where_a_gradient_is_wanted():
    frames, labels = 400, 100
    x = log_probs(frames, 4, 5, dtype="float32")
    targets = np.random.default_rng(0).integers(1, 5, (4, labels))
    states = frames * 4 * 2 * labels * 4

    def kept(given):
        tracemalloc.start()
        loss = losses.ctc_loss(given, targets, [frames] * 4, [labels] * 4)
        now, peak = tracemalloc.get_traced_memory()
        tracemalloc.stop()
        assert np.isfinite(loss.item())
        return now, peak

    kept(rk.tensor(x))  # what is imported or cached the first time
    assert kept(rk.tensor(x))[1] < states / 5
    assert states * 0.9 < kept(leaf(x))[0] < states * 1.5
    with rk.no_grad():
        assert kept(leaf(x))[1] < states / 5


GOOD = {
    "log_probs": np.zeros((4, 2, 3)), "targets": [[1, 2], [1, 1]],
    "input_lengths": [4, 3], "target_lengths": [2, 1],
}


@pytest.mark.usefixtures("path")
@pytest.mark.parametrize(
    ("change", "error", "message"),
    [
        ({"log_probs": np.zeros((4, 2, 3), int)}, DTypeError, "log_probs: expected float32 or fl"),
        ({"log_probs": np.zeros((4, 2, 0))}, ShapeError, r"log_probs: expected \(T, N, C\) or"),
        ({"log_probs": np.zeros(4)}, ShapeError, r"log_probs: .* got shape \(4,\)"),
        ({"log_probs": np.zeros((1, 4, 2, 3))}, ShapeError, "log_probs: expected"),
        ({"targets": [[1.0, 2.0], [1.0, 1.0]]}, DTypeError, "targets: expected integer labels"),
        ({"targets": np.ones((3, 2), int)}, ShapeError, r"targets: expected shape \(2, S\)"),
        ({"targets": np.ones((2, 2, 1), int)}, ShapeError, "targets: expected shape"),
        ({"targets": [1, 2]}, ShapeError, "targets: expected the 3 labels .*, got 2"),
        ({"targets": [[1, 3], [1, 1]]}, ArgumentError, r"\[0, 3\) .* got 3 as label 1 of row 0"),
        ({"targets": [[1, 2], [-1, 1]]}, ArgumentError, "targets: .* got -1 as label 0 of row 1"),
        ({"targets": [[1, 0], [1, 1]]}, ArgumentError, "other than blank, 0, got 0 as label 1"),
        ({"input_lengths": [4, 5]}, ArgumentError, "input_lengths: expected from 0 to 4, the fr"),
        ({"input_lengths": [4, -1]}, ArgumentError, "input_lengths: expected .* got -1"),
        ({"input_lengths": [4]}, ShapeError, r"input_lengths: expected shape \(2,\)"),
        ({"input_lengths": 4}, ShapeError, "input_lengths: expected shape"),
        ({"input_lengths": [4.0, 3.0]}, DTypeError, "input_lengths: expected integers"),
        ({"target_lengths": [3, 1]}, ArgumentError, "target_lengths: expected from 0 to 2, the la"),
        ({"target_lengths": [2, -1]}, ArgumentError, "target_lengths: expected .* got -1"),
        ({"target_lengths": [[2, 1]]}, ShapeError, "target_lengths: expected shape"),
        ({"target_lengths": [True, True]}, DTypeError, "target_lengths: expected integers"),
        ({"blank": 3}, ArgumentError, "blank: expected an integer from 0 to 2, got 3"),
        ({"blank": -1}, ArgumentError, "blank: expected an integer"),
        ({"blank": True}, ArgumentError, "blank: expected an integer"),
        ({"blank": 1.0}, ArgumentError, "blank: expected an integer"),
        ({"reduction": "average"}, ArgumentError, "reduction: expected"),
    ],
)
def test_errors_name_the_argument(change, error, message):
    assert np.isfinite(losses.ctc_loss(**GOOD).item())
    with pytest.raises(error, match=message):
        losses.ctc_loss(**{**GOOD, **change})


@pytest.mark.parametrize("name", ["targets", "input_lengths", "target_lengths"])
def test_nested_lists_of_different_lengths_are_refused_by_name(name):
    given = {"targets": [[1, 2], [1, 1]], "input_lengths": [5, 5], "target_lengths": [2, 1]}
    with pytest.raises(ShapeError, match=rf"^{name}: expected a rectangular array"):
        losses.ctc_loss(rk.zeros(5, 2, 3), **given | {name: [[1], [1, 2]]})


def test_zero_infinity_is_a_bool():
    with pytest.raises(ArgumentError, match="zero_infinity: expected a bool"):
        losses.ctc_loss(rk.zeros(5, 3), [1], 5, 1, zero_infinity="no")
