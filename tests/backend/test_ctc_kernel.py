"""The CTC kernel on every instruction set: the same losses and gradients, the same bits for any
number of threads, and refusals by name."""

from __future__ import annotations

import numpy as np
import pytest

from rnnkit.losses.ctc_recursions import LabelledRows, gradient_in_numpy, losses_in_numpy

native = pytest.importorskip("rnnkit.backend._native")

DTYPES = ("float32", "float64")


def labelled(T: int, N: int, C: int, most: int, dtype: str, seed: int = 0) -> dict:
    random = np.random.default_rng(seed)
    x = random.normal(size=(T, N, C)) * 2
    x -= np.log(np.exp(x).sum(axis=2, keepdims=True))
    counts = random.integers(0, most + 1, N)
    counts[0] = most
    return {
        "x": x.astype(dtype), "target": random.integers(1, C, (N, most)),
        "input_length": np.minimum(T, counts * 2 + random.integers(0, T, N)),
        "target_length": counts, "blank": 0,
    }


def losses_and_gradient(arrays: dict, threads: int = 1, keep: bool = True) -> list[np.ndarray]:
    x, target = arrays["x"], arrays["target"]
    dtype = x.dtype.name
    loss = np.full(len(target), 9, dtype)
    alphas = None
    if keep:
        shape = native.ctc_alphas_shape(len(x), *target.shape)
        alphas = np.full(shape, np.nan, dtype)
    native.ctc(dtype, threads, **arrays, alphas=alphas, loss=loss)
    if not keep:
        return [loss]
    d_x = np.full_like(x, 9)
    d_loss = np.random.default_rng(4).normal(size=len(loss)).astype(dtype)
    native.ctc_gradient(
        dtype, threads, **arrays, alphas=alphas, loss=loss, d_loss=d_loss, d_x=d_x
    )
    return [loss, d_x]


def expected(arrays: dict) -> list[np.ndarray]:
    x, counts = arrays["x"].astype(np.float64), arrays["target_length"]
    kept = np.arange(arrays["target"].shape[1]) < counts[:, None]
    rows = LabelledRows(
        np.where(kept, arrays["target"], 0), kept, arrays["input_length"], counts, 0
    )
    d_loss = np.random.default_rng(4).normal(size=len(counts))
    with np.errstate(all="ignore"):
        loss, alphas = losses_in_numpy(x, rows, True)
        return [loss, gradient_in_numpy(d_loss, x, rows, loss, alphas)]


@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize(
    ("frames", "rows", "classes", "labels"),
    [(1, 1, 2, 1), (9, 3, 5, 0), (30, 4, 5, 13), (40, 3, 7, 14), (50, 2, 90, 15), (80, 5, 3, 33)],
)
def test_losses_and_gradients(isa, frames, rows, classes, labels, dtype):
    """Numbers of labels on both sides of what fills a whole number of vectors."""
    arrays = labelled(frames, rows, classes, labels, dtype)
    tolerance = 2e-5 if dtype == "float32" else 1e-12
    for found, wanted in zip(losses_and_gradient(arrays), expected(arrays), strict=True):
        np.testing.assert_allclose(found, wanted, rtol=tolerance, atol=tolerance)


@pytest.mark.parametrize("dtype", DTYPES)
def test_the_same_bits_for_any_threads_and_whether_alphas_are_kept_or_not(isa, dtype):
    arrays = labelled(120, 11, 8, 25, dtype)
    first = losses_and_gradient(arrays)
    for threads in (2, 3, 40):
        for a, b in zip(losses_and_gradient(arrays, threads), first, strict=True):
            np.testing.assert_array_equal(a, b)
    (loss,) = losses_and_gradient(arrays, keep=False)
    np.testing.assert_array_equal(loss, first[0])


def test_alphas_of_one_instruction_set_serve_another(every_isa):
    arrays = labelled(60, 3, 6, 20, "float32")
    _, d_x = losses_and_gradient(arrays)
    alphas = np.empty(native.ctc_alphas_shape(60, 3, 20), np.float32)
    loss, found = np.empty(3, np.float32), np.empty_like(d_x)
    d_loss = np.random.default_rng(4).normal(size=3).astype(np.float32)
    native.ctc("float32", 1, **arrays, alphas=alphas, loss=loss)
    for _ in every_isa():
        native.ctc_gradient(
            "float32", 1, **arrays, alphas=alphas, loss=loss, d_loss=d_loss, d_x=found
        )
        np.testing.assert_allclose(found, d_x, rtol=1e-4, atol=1e-5)


@pytest.mark.parametrize("dtype", DTYPES)
def test_the_loss_of_two_equal_ways_is_that_of_one_less_log_2(isa, dtype):
    """Values of the kernel's logarithm that are known: of 1, 2 and 3 equal terms."""
    x = np.zeros((2, 1, 2), dtype)
    rows = {"target": np.ones((1, 1), np.int64), "target_length": np.array([1]), "blank": 0}
    loss = np.empty(1, dtype)
    for frames, ways in ((1, 1), (2, 3)):
        native.ctc(
            dtype, 1, x=x, **rows, input_length=np.array([frames]), alphas=None, loss=loss
        )
        np.testing.assert_allclose(loss, -np.log(ways), rtol=2 * np.finfo(dtype).eps, atol=0)


@pytest.mark.parametrize("dtype", DTYPES)
def test_the_logarithm_is_right_to_the_last_digits(isa, dtype):
    """Two ways together, log(1 + r) for r from tiny to 1."""
    ratios = np.concatenate([np.logspace(-30, 0, 200), np.linspace(0.01, 1, 200)]).astype(dtype)
    gaps = np.log(ratios.astype(np.float64)).astype(dtype)
    # Frames: the label for certain, and then blank (log 0 apart) or the label again.
    x = np.full((2, len(gaps), 2), -np.inf, dtype)
    x[0, :, 1] = 0
    x[1, :, 0], x[1, :, 1] = gaps, 0
    loss = np.empty(len(gaps), dtype)
    native.ctc(
        dtype, 1, x=x, target=np.ones((len(gaps), 1), np.int64),
        input_length=np.full(len(gaps), 2), target_length=np.ones(len(gaps), np.int64), blank=0,
        alphas=None, loss=loss,
    )
    wanted = -np.log1p(np.exp(gaps.astype(np.longdouble)))
    np.testing.assert_allclose(loss, wanted, rtol=6 * float(np.finfo(dtype).eps), atol=0)


@pytest.mark.parametrize(
    ("name", "value", "error", "message"),
    [
        ("x", np.zeros((4, 6), np.float32), ValueError, r"x: expected \(T, N, C\)"),
        ("x", np.zeros((4, 2, 0), np.float32), ValueError, "x: expected .* a class or more"),
        ("x", np.zeros((4, 2, 3)), TypeError, "x: expected float32"),
        ("x", np.zeros((4, 2, 6), np.float32)[:, :, ::2], ValueError, "x: .*contiguous"),
        ("x", np.zeros((4, 3, 3), np.float32), ValueError, r"target: expected shape \(3, any"),
        ("target", np.array([1, 1]), ValueError, r"target: expected shape \(2, any"),
        ("target", np.array([[1, 3], [1, 1]]), ValueError, r"target: .* \[0, 3\), got 3"),
        ("target", np.array([[1, 1], [-1, 1]]), ValueError, r"target: .* got -1"),
        ("target", np.ones((2, 2), np.int32), TypeError, "target: expected int64"),
        ("input_length", np.array([4, 5]), ValueError, "input_length: .* from 0 to 4, got 5"),
        ("input_length", np.array([4, -1]), ValueError, "input_length: .* got -1"),
        ("input_length", np.array([4]), ValueError, "input_length: expected 2 elements"),
        ("target_length", np.array([3, 1]), ValueError, "target_length: .* from 0 to 2, got 3"),
        ("target_length", np.array([2, -1]), ValueError, "target_length: .* got -1"),
        ("target_length", np.array([2.0, 1.0]), TypeError, "target_length: expected int64"),
        ("blank", 3, ValueError, r"blank: expected an id in \[0, 3\), got 3"),
        ("blank", -1, ValueError, "blank: expected an id"),
        ("alphas", np.zeros((2, 4, 5), np.float32), ValueError, "alphas: expected 256 elements"),
        ("loss", np.zeros(3, np.float32), ValueError, "loss: expected 2 elements"),
        ("d_loss", np.zeros(2), TypeError, "d_loss: expected float32"),
        ("d_x", np.zeros((4, 2, 2), np.float32), ValueError, "d_x: expected 24 elements"),
        ("d_x", np.broadcast_to(np.float32(0), (4, 2, 3)), ValueError, "d_x: "),
    ],
)
def test_rows_that_are_refused(name, value, error, message):
    good = {
        "x": np.zeros((4, 2, 3), np.float32), "target": np.ones((2, 2), np.int64),
        "input_length": np.array([4, 4]), "target_length": np.array([2, 1]), "blank": 0,
        "alphas": np.zeros(native.ctc_alphas_shape(4, 2, 2), np.float32),
        "loss": np.zeros(2, np.float32),
    }
    gradient = {"d_loss": np.ones(2, np.float32), "d_x": np.zeros((4, 2, 3), np.float32)}
    native.ctc("float32", 1, **good)
    native.ctc_gradient("float32", 1, **good, **gradient)
    if name not in gradient:
        with pytest.raises(error, match=message):
            native.ctc("float32", 1, **{**good, name: value})
    with pytest.raises(error, match=message):
        native.ctc_gradient("float32", 1, **{**good, **gradient, name: value})


def test_sizes_that_are_refused():
    with pytest.raises(ValueError, match="T, N, labels: expected 0 or more, got 3, -1 and 2"):
        native.ctc_alphas_shape(3, -1, 2)
