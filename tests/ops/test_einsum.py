"""einsum: NumPy's values, sizes of 1, dots, refusals; its derivatives are in op_cases.py."""

import numpy as np
import pytest

import rnnkit as rk
from rnnkit.errors import ArgumentError, DTypeError, ShapeError

CALLS = {
    "ij,jk->ik": [(2, 3), (3, 4)],
    "ij,jk": [(2, 3), (3, 4)],
    "jb,ia": [(2, 3), (4, 5)],
    "iJ,jA->AjJi": [(2, 3), (4, 5)],
    " b i , k i j , b j -> b k ": [(2, 3), (4, 3, 5), (2, 5)],
    "tnhd,snhd->nhts": [(2, 3, 4, 5), (6, 3, 4, 5)],
    "ii": [(3, 3)],
    "iji->ij": [(3, 2, 3)],
    "ijk->k": [(2, 3, 4)],
    "ba": [(2, 3)],
    "i,i": [(3,), (3,)],
    ",": [(), ()],
    "...j,jk->...k": [(2, 3, 4), (4, 5)],
    "...,...": [(2, 1, 3), (4, 1)],
    "i...,...": [(2, 1, 3), (4, 3)],
    "k...a->a...": [(2, 3, 4, 5)],
    "ij,jk->": [(2, 0), (0, 4)],
}


@pytest.mark.parametrize(("dtype", "tolerance"), [("float32", 1e-5), ("float64", 1e-13)])
@pytest.mark.parametrize("subscripts", CALLS)
def test_values_are_numpys(subscripts, dtype, tolerance):
    random = np.random.default_rng(4)
    arrays = [random.normal(size=shape).astype(dtype) for shape in CALLS[subscripts]]
    y = rk.einsum(subscripts, *map(rk.tensor, arrays))
    expected = np.einsum(subscripts, *arrays)
    assert y.dtype == dtype
    assert y.shape == expected.shape
    np.testing.assert_allclose(y.data, expected, rtol=tolerance, atol=tolerance)


def test_axes_of_size_1_are_of_any_size_and_dots_may_be_summed():
    a, b = np.arange(3.0).reshape(3, 1), np.arange(8.0).reshape(2, 4)
    np.testing.assert_array_equal(rk.einsum("ij,jk->ik", a, b).data, a * b.sum(0))
    np.testing.assert_array_equal(rk.einsum("...k->k", b).data, b.sum(0))
    np.testing.assert_array_equal(rk.einsum("ij,jk->ijk", a, b).data, a[:, :, None] * b)


@pytest.mark.parametrize(
    ("subscripts", "shapes", "error", "message"),
    [
        (3, [(2,)], ArgumentError, "subscripts: expected a text, got 3"),
        ("i1,j", [(2,), (2,)], ArgumentError, r"got 'i1' in 'i1,j'"),
        ("i.j", [(2, 2)], ArgumentError, "expected letters and at most one '...'"),
        ("......", [(2, 2)], ArgumentError, "at most one '...' for each operand"),
        ("i->i->i", [(2,)], ArgumentError, "expected letters"),
        ("ij,jk", [(2, 3)], ArgumentError, "'ij,jk' are of 2 operands, got 1"),
        ("ij->ik", [(2, 3)], ArgumentError, "each once, behind '->', got 'k' in 'ij->ik'"),
        ("ij->ii", [(2, 3)], ArgumentError, "got 'i' in 'ij->ii'"),
        ("ij,jk", [(2, 3), (3,)], ShapeError, "operand 1: expected the axes 'jk' .* got 1 axes"),
        ("i", [(2, 3)], ShapeError, "operand 0: expected the axes 'i' of 'i', got 2 axes"),
        ("ij,jk", [(2, 3), (4, 5)], ShapeError, r"operand 1: .* of 'j' in 'ij,jk' to be 3, got"),
        ("ii", [(2, 3)], ShapeError, r"operand 0: .* of 'i' in 'ii' to be 2, got shape \(2, 3\)"),
        ("ii,i", [(1, 3), (3,)], ShapeError, r"operand 0: .* to be 1, got shape \(1, 3\)"),
        ("...i,...i", [(2, 3), (4, 3)], ShapeError, "to be 2, got shape"),
    ],
)
def test_refusals(subscripts, shapes, error, message):
    with pytest.raises(error, match=message):
        rk.einsum(subscripts, *[rk.ones(*shape) if shape else rk.ones(()) for shape in shapes])


def test_integers_and_mixed_dtypes_are_refused():
    with pytest.raises(DTypeError, match="einsum: expected a float32 or float64 tensor"):
        rk.einsum("i,i", rk.arange(3), rk.arange(3))
    with pytest.raises(DTypeError, match="einsum: float32 and float64 do not mix"):
        rk.einsum("i,i", rk.ones(3), rk.ones(3, dtype="float64"))
