"""What an op accepts: tensors, arrays and numbers, brought to tensors of one dtype."""

from __future__ import annotations

import operator
from typing import TYPE_CHECKING, Any

import numpy as np

from rnnkit.autograd.dtypes import FLOATS, default_dtype, supported_dtype
from rnnkit.autograd.tensor import Tensor, plain_array, to_array, wrap
from rnnkit.errors import ArgumentError, DTypeError, ShapeError

if TYPE_CHECKING:
    from collections.abc import Sequence

    from rnnkit.autograd.tensor import Array

NUMBERS = (int, float, np.generic)
OPERANDS = (Tensor, np.ndarray, *NUMBERS)
_PLAIN = (float, int)
_array = np.array


def any_tensor(x: Any, name: str = "x") -> Tensor:
    """`x` as a tensor of whatever supported dtype; errors call it `name`."""
    return x if isinstance(x, Tensor) else wrap(to_array(x, name=name))


def real(name: str, x: Any) -> Tensor:
    """`x` as a float tensor.

    Raises:
        DTypeError: it holds integers or bools.
    """
    if not isinstance(x, Tensor):
        x = wrap(to_array(x, name=name))
    if x._data.dtype.kind != "f":
        raise DTypeError(
            f"{name}: expected a float32 or float64 tensor, got {x._data.dtype.name}; convert it "
            "with .astype('float32')"
        )
    return x


def pair(name: str, a: Any, b: Any) -> tuple[Tensor, ...]:
    """Two operands as `same_dtype` makes them, quickly in the usual cases."""
    try:
        if isinstance(a, Tensor):
            if isinstance(b, Tensor):
                if a._data.dtype == b._data.dtype:
                    return a, b
            elif type(b) in _PLAIN and a._data.dtype.kind == "f":
                return a, wrap(_array(b, a._data.dtype))
        elif type(a) in _PLAIN and isinstance(b, Tensor) and b._data.dtype.kind == "f":
            return wrap(_array(a, b._data.dtype)), b
    except OverflowError:  # an integer beyond the range of floats, which is refused below
        pass
    return same_dtype(name, a, b)


def same_dtype(name: str, *operands: Any) -> tuple[Tensor, ...]:
    """The operands as tensors of one dtype.

    Numbers and 0-d arrays take the dtype of the tensors, and so do integer and bool tensors next to
    float ones; integers next to a Python float become float32. Integers of two types become what
    NumPy makes of them: the wider one, and float64 of uint64 beside a signed one.

    Raises:
        DTypeError: float32 meets float64.
    """
    first = operands[0]
    if isinstance(first, Tensor):
        dtype = first._data.dtype
        for operand in operands:
            if not isinstance(operand, Tensor) or operand._data.dtype != dtype:
                break
        else:
            return operands
    strong: np.dtype[Any] | None = None
    for operand in operands:
        dtype = _strong_dtype(name, operand)
        if dtype is None:
            continue
        # The comparison comes second: NumPy takes None for float64 when it compares dtypes.
        if strong is None or (strong not in FLOATS and dtype in FLOATS):
            strong = dtype
        elif dtype == strong:
            continue
        elif dtype in FLOATS:
            raise DTypeError(
                f"{name}: {strong.name} and {dtype.name} do not mix; convert one of them with "
                ".astype(...)"
            )
        elif strong not in FLOATS:
            strong = supported_dtype(np.promote_types(strong, dtype))
    if strong is None:
        strong = _weakest_dtype(operands)
    elif strong not in FLOATS and any(_is_weak_float(operand) for operand in operands):
        strong = default_dtype
    return tuple([_cast(name, operand, strong) for operand in operands])


def _strong_dtype(name: str, operand: Any) -> np.dtype[Any] | None:
    """The dtype an operand insists on; None for numbers and 0-d arrays."""
    if isinstance(operand, Tensor):
        return operand._data.dtype
    if isinstance(operand, NUMBERS):
        return None
    if isinstance(operand, np.ndarray) and operand.ndim == 0:
        return None
    return to_array(operand, name=name).dtype


def _is_weak_float(operand: Any) -> bool:
    if isinstance(operand, Tensor):
        return False
    array = np.asarray(operand)
    return array.ndim == 0 and array.dtype.kind == "f"


def _weakest_dtype(operands: tuple[Any, ...]) -> np.dtype[Any]:
    """The dtype of a calculation between plain numbers."""
    arrays = [to_array(operand) for operand in operands]
    if any(array.dtype in FLOATS for array in arrays):
        return default_dtype
    return np.result_type(*arrays)


def _cast(name: str, operand: Any, dtype: np.dtype[Any]) -> Tensor:
    if isinstance(operand, Tensor):
        return operand if operand._data.dtype == dtype else operand.astype(dtype)
    array = np.asarray(operand)
    if array.ndim == 0 and array.dtype.kind not in "biuf":
        if isinstance(operand, int):
            raise DTypeError(f"{name}: expected a number in the range of {dtype}, got {operand}")
        raise DTypeError(f"{name}: expected a real number, got {array.dtype.name}")
    if dtype.kind in "iub" and array.dtype != dtype:
        return wrap(_exact(array, dtype))
    return wrap(array if array.dtype == dtype else array.astype(dtype))


def _exact(array: Array, dtype: np.dtype[Any]) -> Array:
    """Integers in `dtype`, or in the wider type that their values need."""
    if array.ndim == 0 and dtype.kind != "b" and array.dtype.kind in "iu":
        info = np.iinfo(dtype)
        if info.min <= int(array) <= info.max:
            return array.astype(dtype)
    return array


def ids(name: str, x: Any, what: str = "index") -> Array:
    """`x` as an array of integers.

    Raises:
        DTypeError: it is not of an integer type.
    """
    array = plain_array(f"{name}: {what}", x)
    if array.dtype.kind not in "iu":
        if array.size == 0 and not isinstance(x, Tensor | np.ndarray):
            return array.astype(np.intp)
        raise DTypeError(f"{name}: {what}: expected integers, got {array.dtype.name}")
    return array


def one_axis(name: str, axis: Any, ndim: int) -> int:
    """`axis` counted from the front.

    Raises:
        ShapeError: the tensor has no such axis.
        DTypeError: `axis` is not an integer.
    """
    try:
        number = operator.index(axis)
    except TypeError:
        raise DTypeError(f"{name}: axis: expected an integer, got {axis!r}") from None
    if not -ndim <= number < ndim:
        raise ShapeError(f"{name}: axis {number} is out of range for {ndim} axes")
    return number + ndim if number < 0 else number


def many_axes(name: str, axis: int | Sequence[int] | None, ndim: int) -> tuple[int, ...]:
    """`axis` as a tuple of axes counted from the front; None means all of them."""
    if axis is None:
        return tuple(range(ndim))
    if isinstance(axis, int):
        return (one_axis(name, axis, ndim),)
    try:
        given = tuple(axis)
    except TypeError:
        given = (axis,)  # type: ignore[assignment]
    axes = tuple([one_axis(name, one, ndim) for one in given])
    if len(set(axes)) != len(axes):
        raise ArgumentError(f"{name}: axis: {axis} names an axis twice")
    return axes


def sizes(name: str, shape: Any, what: str = "shape") -> tuple[int, ...]:
    """A shape given as one sequence or as separate integers, as a tuple."""
    if len(shape) == 1 and not isinstance(shape[0], int | np.integer):
        shape = shape[0]
    try:
        return tuple([operator.index(size) for size in shape])
    except TypeError:
        raise DTypeError(f"{name}: {what}: expected integers, got {shape!r}") from None
