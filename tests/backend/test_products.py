"""The native matrix product: values, layouts, bits, and when it is used."""

from __future__ import annotations

import itertools
from concurrent.futures import ThreadPoolExecutor

import numpy as np
import pytest

import rnnkit as rk
from rnnkit.backend import products

native = pytest.importorskip("rnnkit.backend._native")

SIZES = [1, 2, 7, 16, 17, 65, 300]


def matrix(rng, rows: int, columns: int, dtype: str, transposed: bool) -> np.ndarray:
    shape = (columns, rows) if transposed else (rows, columns)
    made = rng.standard_normal(shape).astype(dtype)
    return made.T if transposed else made


def product(a: np.ndarray, b: np.ndarray, threads: int = 1) -> np.ndarray:
    c = np.full((a.shape[0], b.shape[1]), np.nan, a.dtype)
    native.matmul(a, b, None, c, str(a.dtype), threads)
    return c


@pytest.mark.parametrize("dtype", ["float32", "float64"])
@pytest.mark.parametrize("transposed", [(0, 0), (0, 1), (1, 0), (1, 1)])
def test_values_for_every_shape_and_layout(every_isa, dtype, transposed):
    rng = np.random.default_rng(0)
    for M, N, K in itertools.product(SIZES, SIZES, (1, 5, 64, 129, 300)):
        a = matrix(rng, M, K, dtype, transposed[0])
        b = matrix(rng, K, N, dtype, transposed[1])
        # A BLAS may flag what it reads beside a matrix.
        with np.errstate(invalid="ignore"):
            exact = a.astype(np.float64) @ b.astype(np.float64)
            bound = 2 * K * np.finfo(dtype).eps * (np.abs(a) @ np.abs(b)) + 1e-300
        for isa in every_isa():
            assert (np.abs(product(a, b) - exact) <= bound).all(), (isa, M, N, K)


@pytest.mark.parametrize("dtype", ["float32", "float64"])
@pytest.mark.parametrize("transposed", [(0, 0), (0, 1), (1, 0)])
def test_bits_depend_on_neither_threads_nor_neighbours(dtype, transposed):
    rng = np.random.default_rng(1)
    a = matrix(rng, 67, 260, dtype, transposed[0])
    b = matrix(rng, 260, 530, dtype, transposed[1])
    c = product(a, b)
    for threads in (2, 3, 7):
        np.testing.assert_array_equal(product(a, b, threads), c)
    for rows in (slice(0, 1), slice(3, 5), slice(10, 67)):
        np.testing.assert_array_equal(product(a[rows], b), c[rows])
    np.testing.assert_array_equal(product(a, b[:, 100:101]), c[:, 100:101])
    np.testing.assert_array_equal(product(a, b[:, 7:270]), c[:, 7:270])


def test_nan_and_inf_stay_in_their_rows_and_columns():
    a, b = np.ones((9, 40), np.float32), np.ones((40, 70), np.float32)
    a[2, 5], b[7, 66] = np.nan, np.inf
    c = product(a, b)
    assert np.isnan(c[2]).all()
    assert np.isinf(np.delete(c[:, 66], 2)).all()
    assert np.isfinite(np.delete(np.delete(c, 2, 0), 66, 1)).all()


def test_the_tensors_product_uses_it_and_says_so():
    rng = np.random.default_rng(2)
    a = rk.tensor(rng.standard_normal((40, 50)).astype(np.float32))
    w = rk.tensor(rng.standard_normal((60, 50)).astype(np.float32))
    with rk.backend("auto"):
        fast = rk.linear(a, w).numpy()
        last = rk.why(1)[0]
    assert last.path == "fused"
    assert last.op == "matmul (40, 50) @ (50, 60) float32"
    with rk.backend("python"):
        plain = rk.linear(a, w).numpy()
    np.testing.assert_allclose(fast, plain, rtol=1e-5, atol=1e-5)
    with rk.backend("auto"):
        rk.linear(a[:4], w)
        assert rk.why(1)[0].path == "fused"
        rk.linear(rk.ones(1, 200), rk.ones(60, 200))
        last = rk.why(1)[0]
    assert last.path == "numpy"
    assert "transposed" in last.reason


@pytest.mark.parametrize(
    "layout",
    [
        lambda x: x[::2],
        lambda x: x[:, ::2],
        lambda x: x[::-1],
        lambda x: np.broadcast_to(x[:1], x.shape),
        lambda x: np.asfortranarray(x),
        lambda x: x[5:6],
        lambda x: x[:, 5:6],
        lambda x: np.frombuffer(b"\0" + x.tobytes(), np.uint8)[1:].view(x.dtype).reshape(x.shape),
    ],
)
def test_any_layout_is_taken(layout):
    a = layout(np.random.default_rng(3).standard_normal((128, 160)).astype(np.float32))
    b = np.random.default_rng(4).standard_normal((a.shape[1], 200)).astype(np.float32)
    np.testing.assert_allclose(products.matmul(a, b), a @ b, rtol=1e-4, atol=1e-4)
    np.testing.assert_allclose(products.matmul(b.T, a.T), b.T @ a.T, rtol=1e-4, atol=1e-4)


@pytest.mark.parametrize("shapes", [((0, 5), (5, 3)), ((4, 0), (0, 3)), ((4, 5), (5, 0))])
def test_empty_products_are_numpys(shapes):
    a, b = (np.zeros(shape, np.float32) for shape in shapes)
    np.testing.assert_array_equal(products.matmul(a, b), a @ b)


def test_errors_name_the_array():
    a, b = np.zeros((4, 5), np.float32), np.zeros((5, 6), np.float32)
    good = np.zeros((4, 6), np.float32)
    with pytest.raises(ValueError, match="b: expected 5 rows, got 6"):
        native.matmul(a, b.T.copy(), None, good, "float32", 1)
    with pytest.raises(ValueError, match="c: expected"):
        native.matmul(a, b, None, good.T, "float32", 1)
    with pytest.raises(ValueError, match="c: rows are not contiguous"):
        native.matmul(a, b, None, np.zeros((6, 4), np.float32).T, "float32", 1)
    with pytest.raises(ValueError, match="a: neither axis is contiguous"):
        native.matmul(np.zeros((8, 10), np.float32)[::2, ::2], b, None, good, "float32", 1)
    with pytest.raises(TypeError, match="b: expected format"):
        native.matmul(a, b.astype(np.float64), None, good, "float32", 1)
    with pytest.raises(ValueError, match="bias: axis 0: expected 6, got 5"):
        native.matmul(a, b, np.zeros(5, np.float32), good, "float32", 1)


@pytest.mark.parametrize("dtype", ["float32", "float64"])
@pytest.mark.parametrize(
    "shape", [(1, 9, 70), (1, 300, 300), (3, 140, 64), (40, 260, 131), (9, 5, 3)]
)
def test_a_bias_joins_each_row(shape, dtype):
    M, K, N = shape
    rng = np.random.default_rng(5)
    a, b, bias = (rng.standard_normal(s).astype(dtype) for s in ((M, K), (K, N), (N,)))
    c = np.empty((M, N), dtype)
    for right in (b, np.ascontiguousarray(b.T).T):
        native.matmul(a, right, bias, c, dtype, 2)
        tolerance = 1e-4 if dtype == "float32" else 1e-12
        np.testing.assert_allclose(c, a @ b + bias, rtol=tolerance, atol=tolerance)
        np.testing.assert_allclose(
            products.matmul(a, right, bias), a @ b + bias, rtol=tolerance, atol=tolerance
        )


@pytest.mark.parametrize("dtype", ["float32", "float64"])
@pytest.mark.parametrize("transposed", [(0, 0), (0, 1), (1, 0), (1, 1)])
@pytest.mark.parametrize("shape", [(1, 40, 300), (5, 300, 70), (400, 90, 70), (67, 700, 130)])
def test_a_product_that_adds_goes_on_where_another_ended(isa, dtype, transposed, shape):
    M, K, N = shape
    rng = np.random.default_rng(6)
    a = matrix(rng, M, K, dtype, transposed[0])
    b = matrix(rng, K, N, dtype, transposed[1])
    for at in (1, K // 3):
        c = product(a[:, :at], b[:at])
        native.matmul(a[:, at:], b[at:], None, c, dtype, 2, True)
        np.testing.assert_array_equal(c, product(a, b))


@pytest.mark.parametrize("dtype", ["float32", "float64"])
@pytest.mark.parametrize(
    "shape", [(1000, 350, 200), (1003, 130, 9), (301, 1100, 65), (200, 513, 400)]
)
def test_many_rows_whose_columns_adjoin(isa, dtype, shape):
    """Panels are packed before rows where all of them fit a cache; the bits stay the same."""
    M, K, N = shape
    rng = np.random.default_rng(7)
    a, b = matrix(rng, M, K, dtype, True), matrix(rng, K, N, dtype, False)
    expected = product(np.ascontiguousarray(a), b)
    for threads in (1, 2, 3):
        np.testing.assert_array_equal(product(a, b, threads), expected)


def test_a_product_into_an_array():
    rng = np.random.default_rng(8)
    a, b = matrix(rng, 40, 50, "float32", True), matrix(rng, 50, 60, "float32", False)
    for backend in ("auto", "python"):
        c = np.full((42, 60), np.nan, np.float32)
        with rk.backend(backend):
            products.matmul_into(c[1:41], a, b)
            products.matmul_into(c[1:41], a, b, adds=True)
        np.testing.assert_allclose(c[1:41], 2 * (a @ b), rtol=1e-4, atol=1e-4)
        assert np.isnan(c[[0, 41]]).all()


@pytest.mark.parametrize("shape", [(1000, 350, 200), (300, 200, 1500), (64, 300, 256)])
def test_callers_that_share_the_threads(shape):
    """One of them has all threads; the others run alone, in the room that was made for several."""
    M, K, N = shape
    rng = np.random.default_rng(9)
    b = matrix(rng, K, N, "float32", False)
    for transposed in (False, True):
        a = matrix(rng, M, K, "float32", transposed)
        expected = product(a, b)
        with ThreadPoolExecutor(4) as pool:
            for found in pool.map(lambda _, a=a: product(a, b, 4), range(12)):
                np.testing.assert_array_equal(found, expected)
