"""Arrays as the extension takes them: what it takes as it lies, and what it copies."""

import numpy as np
import pytest

import rnnkit as rk

native = rk.backend.native()
pytestmark = pytest.mark.skipif(native is None, reason="the extension is not built")


def misaligned(shape, dtype):
    """An array whose elements lie at odd addresses."""
    size = int(np.prod(shape))
    dtype = np.dtype(dtype)
    memory = np.zeros(size * dtype.itemsize + 1, np.uint8)
    array = memory[1:].view(dtype).reshape(shape)
    array[...] = np.arange(size).reshape(shape)
    assert not array.flags.aligned
    return array


def uneven(shape):
    """Rows at a distance that is no whole number of elements."""
    memory = np.zeros((shape[0], shape[1] * 4 + 2), np.uint8)
    array = np.ndarray(shape, np.float32, memory, 0, (memory.strides[0], 4))
    assert array.strides[0] % 4
    return array


def cube(dtype=np.float32):
    return np.arange(24, dtype=dtype).reshape(2, 3, 4)


class Labelled(np.ndarray):
    pass


@pytest.mark.parametrize("dtype", [np.float32, np.float64])
def test_what_is_dense_is_taken_as_it_lies(dtype):
    for array in (cube(dtype), cube(dtype)[1], np.zeros(0, dtype), np.zeros((), dtype)):
        assert native.dense([array])[0] is array
        if array.ndim:
            assert native.rows(array) is array
            assert native.lined_up(array) is array
    read_only = cube(dtype)
    read_only.flags.writeable = False
    assert native.dense([None, read_only]) == (None, read_only)


@pytest.mark.parametrize(
    "array", [cube()[:, ::2], cube().T, cube()[::-1], misaligned((2, 3), "f4"), uneven((3, 5))]
)
def test_dense_copies_what_is_not(array):
    (dense,) = native.dense((array,))
    assert dense.flags.c_contiguous
    assert dense.flags.aligned
    assert not np.shares_memory(dense, array)
    np.testing.assert_array_equal(dense, array)


@pytest.mark.parametrize(
    "array", [cube()[:, ::2], cube()[::-1], cube().swapaxes(0, 1), np.zeros((3, 6))[:, 2:3],
              np.broadcast_to(np.arange(5.0), (3, 5))]
)
def test_rows_of_a_contiguous_last_axis_are_taken(array):
    assert native.rows(array) is array


@pytest.mark.parametrize(
    "array", [cube().T, cube()[..., ::2], misaligned((2, 3), "f8"), uneven((3, 5))]
)
def test_other_rows_are_copied(array):
    rows = native.rows(array)
    assert not np.shares_memory(rows, array)
    assert rows.flags.c_contiguous
    assert rows.flags.aligned
    np.testing.assert_array_equal(rows, array)


def test_a_matrix_may_have_its_contiguous_axis_first_or_last():
    matrix = np.arange(48.0).reshape(6, 8)
    for taken in (matrix, matrix.T, matrix[:, :3], matrix[::2], matrix[:, :3].T, matrix[0]):
        assert native.lined_up(taken) is taken
    for copied in (matrix[:, ::2], matrix[::2, ::2].T, misaligned((2, 3), "f4"), uneven((3, 5))):
        found = native.lined_up(copied)
        assert not np.shares_memory(found, copied)
        assert found.flags.aligned
        np.testing.assert_array_equal(found, copied)


def test_a_subclass_becomes_dense_too():
    array = cube()[:, ::2].view(Labelled)
    (dense,) = native.dense([array])
    assert dense.flags.c_contiguous
    np.testing.assert_array_equal(dense, array)


@pytest.mark.parametrize("dtype", [np.float32, np.float64])
def test_new_arrays_have_the_shapes_that_are_asked_for(dtype):
    shapes = [(2, 3), None, (4,), (), (0, 5), (1, 2, 3, 4)]
    arrays = native.new_arrays(shapes, np.dtype(dtype))
    assert [None if a is None else a.shape for a in arrays] == shapes
    made = [a for a in arrays if a is not None]
    assert all(a.dtype == dtype and a.flags.owndata and a.flags.carray for a in made if a.ndim)
    made[0][...] = 7
    assert not any(np.shares_memory(a, b) for a in made for b in made if a is not b)


def test_new_arrays_refuse_what_no_array_can_be():
    dtype = np.dtype(np.float32)
    with pytest.raises(ValueError, match=r"shape: expected at most 8 axes, got 9"):
        native.new_arrays([(1,) * 9], dtype)
    with pytest.raises(ValueError, match="negative dimensions"):
        native.new_arrays([(2, -1)], dtype)
    with pytest.raises((ValueError, MemoryError)):
        native.new_arrays([(1 << 40, 1 << 40)], dtype)
    with pytest.raises(TypeError):
        native.new_arrays([(2, 3)], None)
