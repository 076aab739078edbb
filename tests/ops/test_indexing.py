"""Picking elements, and the gradients that flow back to them."""

import numpy as np
import pytest

import rnnkit as rk
from rnnkit.errors import ArgumentError, DTypeError, ShapeError
from rnnkit.ops.indexing import set_row_kernels

X = np.arange(60.0).reshape(3, 4, 5)
IDS = np.array([2, 0, 2])
KEYS = [
    0,
    -1,
    np.int64(2),
    slice(None),
    slice(None, None, -2),
    ...,
    None,
    (0, 1, 2),
    (0, ..., 1),
    (slice(1), None, 2),
    [0, 2],
    [[0, 1], [2, 2]],
    IDS,
    IDS.astype(np.uint8),
    (IDS, IDS),
    (IDS, IDS, IDS),
    (IDS[:, None], np.array([1, -1])),
    (slice(None), IDS),
    (IDS, slice(None), IDS),
    (..., np.array([4, -5])),
    (0, IDS),
    (IDS, 0),
    X > 20,
    X[:, 0, 0] > 10,
    (slice(None), np.array([True, False, True, True])),
    (0, X[0] > 7),
    (np.array([True, False, True]), 1),
    True,
    False,
    [],
    np.zeros((0, 2), np.int64),
]


@pytest.mark.parametrize("dtype", ["float32", "float64"])
@pytest.mark.parametrize("key", KEYS, ids=str)
def test_as_in_numpy_with_the_gradient_scattered_back(key, dtype):
    x = rk.tensor(X, dtype, requires_grad=True)
    y = x[key]
    plain = np.asarray(key, np.intp) if isinstance(key, list) else key
    np.testing.assert_array_equal(y.data, X[plain])
    weight = np.arange(1.0, y.size + 1).reshape(y.shape)
    y.backward(rk.tensor(weight, dtype))
    expected = np.zeros_like(X)
    np.add.at(expected, plain, weight)
    np.testing.assert_array_equal(x.grad.data, expected)


def test_tensors_as_keys():
    x = rk.tensor(X)
    ids, mask = rk.tensor(IDS), rk.tensor(X[:, 0, 0] > 10)
    np.testing.assert_array_equal(x[ids].data, X[IDS])
    np.testing.assert_array_equal(x[ids, :, ids].data, X[IDS, :, IDS])
    np.testing.assert_array_equal(x[mask].data, X[mask.data])
    np.testing.assert_array_equal(x[rk.tensor(1)].data, X[1])
    np.testing.assert_array_equal(x[[rk.tensor(0), rk.tensor(2)]].data, X[[0, 2]])


@pytest.mark.parametrize("key", [5, (0, 9), [7], (0, 0, 0, 0), 1.5, "a", IDS * 0.5])
def test_keys_that_do_not_fit(key):
    with pytest.raises(IndexError):
        rk.tensor(X)[key]


def test_changing_a_key_afterwards_does_not_change_the_gradient():
    ids = np.array([0, 1])
    x = rk.tensor([1.0, 2.0, 3.0], requires_grad=True)
    y = x[ids]
    z = rk.embedding(ids, x.reshape(3, 1))
    ids[:] = 2
    (y.sum() + z.sum()).backward()
    assert x.grad.tolist() == [2.0, 2.0, 0.0]


@pytest.mark.parametrize("make", [rk.tensor, np.array])
@pytest.mark.parametrize("several", [False, True])
def test_changing_the_bound_of_a_slice_afterwards_does_not_change_the_gradient(make, several):
    x = rk.ones(3, 2, requires_grad=True)
    bound = make(1)
    y = x[:bound, 1] if several else x[:bound]
    data = bound.data if isinstance(bound, rk.Tensor) else bound
    data += 1
    y.sum().backward()
    assert x.grad.tolist() == [[0.0 if several else 1.0, 1.0], [0.0, 0.0], [0.0, 0.0]]


def test_many_rows_are_added_in_blocks():
    """More elements than one block of positions holds."""
    rng = np.random.default_rng(0)
    ids = rng.integers(0, 50, 9000)
    d_y = rng.integers(-4, 5, (9000, 64)).astype(np.float32)
    w = rk.zeros(50, 64, requires_grad=True)
    rk.embedding(ids, w).backward(rk.tensor(d_y))
    expected = np.zeros((50, 64), np.float32)
    np.add.at(expected, ids, d_y)
    np.testing.assert_array_equal(w.grad.data, expected)


def test_scattered_gradients_have_the_same_bits_every_time():
    rng = np.random.default_rng(0)
    ids = rng.integers(0, 7, 5000)
    d_y = rng.normal(size=(5000, 3)).astype(np.float32)

    def gradient():
        w = rk.zeros(7, 3, requires_grad=True)
        rk.embedding(ids, w).backward(rk.tensor(d_y))
        return w.grad.data.tobytes()

    assert gradient() == gradient()


# ---- rows, which kernels may pick and add


def paths_of(ops):
    return {each.op: each.path for each in rk.why() if each.op in ops}


@pytest.mark.usefixtures("native")
@pytest.mark.parametrize("dtype", ["float32", "float64"])
@pytest.mark.parametrize("shape", [(), (7,), (5, 11), (3, 0)])
def test_rows_have_the_same_bits_on_both_paths(shape, dtype):
    rng = np.random.default_rng(0)
    table = rng.normal(size=(6, 1500)).astype(dtype)
    ids = rng.integers(0, 6, shape)
    d_y = rng.normal(size=(*shape, 1500)).astype(dtype)
    found = []
    for path in ("python", "native"):
        w = rk.tensor(table, requires_grad=True)
        with rk.backend(path):
            y = rk.embedding(ids, w)
            y.backward(rk.tensor(d_y))
        if ids.size:
            expected = "fused" if path == "native" else "python"
            assert paths_of({"take rows", "add rows"}) == {
                "take rows": expected, "add rows": expected,
            }
        found.append((y.data, w.grad.data))
    for array, other in zip(*found, strict=True):
        np.testing.assert_array_equal(array, other)


@pytest.mark.parametrize("path", ["python", "auto"])
def test_large_keys_that_kernels_cannot_take_are_numpys(path):
    values = np.random.default_rng(0).normal(size=(40, 90))
    ids = np.arange(-40, 40)
    x = rk.tensor(values, requires_grad=True)
    with rk.backend(path):
        y = x[ids]
        y.backward(rk.tensor(np.ones((80, 90))))
        np.testing.assert_array_equal(y.data, values[ids])
        np.testing.assert_array_equal(x.grad.data, np.full((40, 90), 2.0))
        np.testing.assert_array_equal(x.T[ids].data, values.T[ids])
        with pytest.raises(IndexError, match="40 is out of bounds"):
            x[np.full(80, 40)]
        whole = rk.tensor(np.arange(6000).reshape(60, 100))
        np.testing.assert_array_equal(whole[np.full(50, 3)].data, whole.data[np.full(50, 3)])


def test_row_kernels_can_be_put_in_place_of_numpy():
    calls = []

    def take(table, ids):
        calls.append("take")

    def add(table, ids, rows):
        calls.append("add")
        table[...] = 9
        return True

    former = set_row_kernels(take, add)
    try:
        w = rk.ones(3, 2, requires_grad=True)
        y = rk.embedding([0, 2], w)
        y.sum().backward()
    finally:
        assert set_row_kernels(*former) == (take, add)
    assert calls == ["take", "add"]
    assert y.tolist() == [[1.0, 1.0]] * 2
    assert w.grad.tolist() == [[9.0, 9.0]] * 3


# ---- gather


def test_gather():
    index = np.array([[[0, 3, 1]], [[2, 2, 0]]])
    x = rk.tensor(X, requires_grad=True)
    y = rk.gather(x, 1, index)
    expected = [[[X[i, index[i, j, k], k] for k in range(3)] for j in range(1)] for i in range(2)]
    np.testing.assert_array_equal(y.data, expected)
    y.sum().backward()
    assert x.grad.data.sum() == 6.0
    np.testing.assert_array_equal(x.gather(-2, rk.tensor(index)).data, y.data)


@pytest.mark.parametrize(
    ("call", "error", "text"),
    [
        (lambda x: x.gather(0, [0]), ShapeError, r"expected 2 axes, got shape \(1,\)"),
        (lambda x: x.gather(0, [[0] * 9]), ShapeError, "exceeds"),
        (lambda x: x.gather(0, [[0.5]]), DTypeError, "index: expected integers, got float64"),
        (lambda x: x.gather(2, [[0]]), ShapeError, "axis 2"),
        (lambda x: x.gather(0, [[7]]), IndexError, r"index: expected values in \[0, 2\), got 7"),
        (lambda x: x.gather(1, [[0, -1]]), IndexError, r"expected values in \[0, 3\), got -1"),
    ],
)
def test_gather_errors(call, error, text):
    with pytest.raises(error, match=text):
        call(rk.ones(2, 3))


# ---- embedding


@pytest.mark.parametrize("ids", [[[1, 0], [1, 3]], np.uint8([3, 3]), np.int32(2), []])
def test_embedding(ids):
    w = rk.tensor(X[0], requires_grad=True)
    y = rk.embedding(ids, w)
    ids = np.asarray(ids, np.int64)
    assert y.shape == (*ids.shape, 5)
    np.testing.assert_array_equal(y.data, X[0][ids])
    y.sum().backward()
    counts = np.bincount(ids.ravel(), minlength=4)
    np.testing.assert_array_equal(w.grad.data, np.repeat(counts[:, None], 5, 1))


@pytest.mark.parametrize("padding_idx", [1, -3])
def test_padding_rows_receive_no_gradient(padding_idx):
    w = rk.tensor(X[0], requires_grad=True)
    y = rk.embedding([1, 0, 1, 2], w, padding_idx)
    np.testing.assert_array_equal(y.data, X[0][[1, 0, 1, 2]])
    y.sum().backward()
    assert w.grad.data[:, 0].tolist() == [1.0, 0.0, 1.0, 0.0]


@pytest.mark.parametrize(
    ("call", "error", "text"),
    [
        (lambda w: rk.embedding([4], w), ArgumentError, r"\[0, 4\), got 4"),
        (lambda w: rk.embedding([0, -1], w), ArgumentError, "got -1"),
        (lambda w: rk.embedding([0.0], w), DTypeError, "ids: expected integers, got float64"),
        (lambda w: rk.embedding(rk.ones(1), w), DTypeError, "ids: expected integers"),
        (lambda w: rk.embedding([0], w[0]), ShapeError, r"\(V, E\), got \(5,\)"),
        (lambda w: rk.embedding([0], w, 4), ArgumentError, "padding_idx"),
    ],
)
def test_embedding_errors(call, error, text):
    with pytest.raises(error, match=text):
        call(rk.ones(4, 5))


def test_one_hot():
    y = rk.one_hot([[0, 2]], 3)
    assert y.dtype == np.float32
    assert y.tolist() == [[[1.0, 0.0, 0.0], [0.0, 0.0, 1.0]]]
    assert rk.one_hot([1], 2, dtype=bool).tolist() == [[False, True]]
    assert rk.one_hot([], 3).shape == (0, 3)
    with pytest.raises(ArgumentError, match=r"\[0, 3\), got 0 to 3"):
        rk.one_hot([0, 3], 3)
    for classes in (2.5, -1):
        with pytest.raises(ArgumentError, match="num_classes: expected an integer from 0 on"):
            rk.one_hot(np.zeros(0, int), classes)
