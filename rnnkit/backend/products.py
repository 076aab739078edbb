"""Matrix products of arrays: the native kernel where it is the faster, else NumPy's BLAS.

The rule, from measurements: native for products of two matrices of one real dtype whose rows or
columns adjoin, from SMALLEST multiply-adds on; but one row times a transposed matrix (a vector
through a linear layer) goes to NumPy, which reads the matrix in the order in which it lies.
"""

from __future__ import annotations

from _thread import _local
from typing import TYPE_CHECKING

import numpy as np

from rnnkit.backend import dispatch, extension

if TYPE_CHECKING:
    from rnnkit.backend._native import Array

SMALLEST = 8192


class _Here(_local):
    always_native: bool = False


_here = _Here()


class always_native:  # noqa: N801 - used as a function
    """``with always_native():`` products of any size are native (in this thread).

    Their bits then depend on their own row and column alone, which those of a BLAS do not. They
    are part of something that is remembered as a whole, and not remembered themselves: which
    backend is in force has been asked for that.
    """

    __slots__ = ("_before",)

    def __enter__(self) -> None:
        self._before, _here.always_native = _here.always_native, True

    def __exit__(self, *_: object) -> None:
        _here.always_native = self._before


def matmul(a: Array, b: Array, bias: Array | None = None) -> Array:
    """``a @ b + bias`` as a new array, for arrays as ``numpy.matmul`` takes them, and a vector."""
    if _is_native(a, b):
        c = np.empty((a.shape[0], b.shape[1]), a.dtype)
        _multiply(a, b, bias, c, False)
        return c
    c = np.matmul(a, b)
    if bias is not None:
        c += bias
    return c


def matmul_into(c: Array, a: Array, b: Array, adds: bool = False) -> None:
    """``c = a @ b`` for matrices, in place, or ``c += a @ b``; the rows of ``c`` are contiguous."""
    if _is_native(a, b):
        _multiply(a, b, None, c, adds)
    elif adds:
        c += np.matmul(a, b)
    else:
        np.matmul(a, b, out=c)


def _is_native(a: Array, b: Array) -> bool:
    """Whether the kernel makes a product; which of the two does is recorded, but for small ones."""
    always = _here.always_native
    if a.ndim != 2 or b.ndim != 2 or not a.size:
        return False
    if not always and a.size * b.shape[1] < SMALLEST:
        return False
    obstacle = _obstacle(a, b, always)
    if obstacle is not None:
        if dispatch.get_backend() != "python":
            dispatch.record(_op(a, b), "numpy", obstacle)
        return False
    if not always:
        dispatch.record(_op(a, b), "fused", "native product")
    return True


def _multiply(a: Array, b: Array, bias: Array | None, c: Array, adds: bool) -> None:
    native = extension.native()
    assert native is not None
    (bias,) = native.dense((bias,))
    native.matmul(
        native.lined_up(a), native.lined_up(b), bias, c, extension.DTYPE_NAMES[c.dtype],
        extension.get_num_threads(), adds,
    )


def _op(a: Array, b: Array) -> dispatch.Op:
    return "matmul ({}, {}) @ ({}, {}) {}", (*a.shape, *b.shape, a.dtype)


def _obstacle(a: Array, b: Array, always: bool) -> str | None:
    if not always and dispatch.get_backend() == "python":
        return "backend 'python' is in force"
    if extension.native() is None:
        return f"the native extension could not be loaded ({extension.load_error()})"
    dtype = a.dtype
    if dtype != b.dtype or dtype not in extension.DTYPE_NAMES or a.shape[1] != b.shape[0]:
        return "not two matrices of one real dtype"
    if not always and a.shape[0] == 1 and b.strides[1] != b.itemsize:
        return "one row times a transposed matrix: NumPy is the faster"
    return None
