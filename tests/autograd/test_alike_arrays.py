"""What arrays are like, by ``arrays.py`` and by what compiled modules have in its place."""

from __future__ import annotations

import numpy as np
import pytest

import rnnkit as rk
from rnnkit.autograd import arrays
from rnnkit.autograd.checks import check_tensor
from rnnkit.errors import DTypeError, ShapeError


class Subclass(np.ndarray):
    pass


PLAIN = np.zeros((2, 3), np.float32)
ALIKE = [
    np.zeros((2, 3), np.float32), np.zeros((3, 2), np.float32).T,
    np.zeros((4, 6), np.float32)[::2, ::2], np.zeros((2, 3), np.float32).view(Subclass),
]  # fmt: skip
OTHERS = [
    np.zeros((3, 2), np.float32), np.zeros(6, np.float32), np.zeros((1, 2, 3), np.float32),
    np.zeros((2, 3)), np.zeros((2, 3), np.int32), np.zeros((2, 3), ">f4"),
    np.zeros((0, 3), np.float32), np.zeros((), np.float32),
]  # fmt: skip


@pytest.mark.parametrize("other", ALIKE, ids=range(len(ALIKE)))
def test_arrays_of_one_shape_and_dtype_are_alike(other):
    assert arrays.alike(PLAIN, other)
    assert arrays.alike(other, PLAIN)
    assert arrays.fits(other, (2, 3), np.dtype(np.float32))
    assert check_tensor("x", rk.as_tensor(other), np.dtype(np.float32), shape=(2, 3)) is not None


@pytest.mark.parametrize("other", OTHERS, ids=range(len(OTHERS)))
def test_arrays_of_another_shape_or_dtype_are_not(other):
    assert not arrays.alike(PLAIN, other)
    assert not arrays.alike(other, PLAIN)
    assert not arrays.fits(other, (2, 3), np.dtype(np.float32))


@pytest.mark.parametrize("other", OTHERS[:5] + OTHERS[6:], ids=range(len(OTHERS) - 1))
def test_a_tensor_of_another_shape_or_dtype_is_refused(other):
    with pytest.raises((ShapeError, DTypeError), match=r"x: expected (shape \(2, 3\)|float32)"):
        check_tensor("x", rk.as_tensor(other), np.dtype(np.float32), shape=(2, 3))


@pytest.mark.parametrize("other", OTHERS[:4] + OTHERS[6:], ids=range(len(OTHERS) - 2))
def test_a_gradient_of_another_shape_or_dtype_is_refused(other):
    x = rk.as_tensor(PLAIN).requires_grad_()
    with pytest.raises((ShapeError, DTypeError), match=r"grad_outputs\[0\]: expected"):
        rk.grad(x * 2, x, rk.as_tensor(other))


def test_a_dtype_in_another_form_fits():
    assert arrays.fits(PLAIN, (2, 3), np.dtype("float32"))
    assert arrays.fits(PLAIN, (np.int64(2), 3), np.dtype("<f4"))


def test_memory_is_private_where_it_is_dense_writeable_and_nobody_elses():
    assert arrays.is_private(np.zeros((2, 3)))
    fixed = np.zeros(3)
    fixed.flags.writeable = False
    for other in (np.zeros((2, 3)).T, np.zeros(6)[1:], np.zeros(6).reshape(2, 3), fixed):
        assert not arrays.is_private(other)
