"""The checks of tensors and their dtypes that everything above the engine shares.

Each returns the value as the callee wants it, or raises an error that names the argument, what was
expected and what came.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

import numpy as np

from rnnkit.autograd import arrays
from rnnkit.autograd.dtypes import FLOATS
from rnnkit.autograd.tensor import Tensor, to_array, wrap
from rnnkit.errors import DTypeError, ShapeError

if TYPE_CHECKING:
    from numpy.typing import DTypeLike


def check_real_dtype(name: str, value: DTypeLike) -> np.dtype[Any]:
    """float32 or float64; None stands for float32."""
    try:
        dtype = np.dtype(np.float32 if value is None else value)
    except TypeError:
        raise DTypeError(f"{name}: expected float32 or float64, got {value!r}") from None
    if dtype not in FLOATS:
        raise DTypeError(f"{name}: expected float32 or float64, got {dtype}")
    return dtype


def check_tensor(
    name: str,
    value: Any,
    dtype: np.dtype[Any],
    ranks: Mapping[int, str] | None = None,
    last: int | None = None,
    shape: tuple[int, ...] | None = None,
) -> Tensor:
    """A tensor of the given dtype; an array is taken without a copy.

    Args:
        name: the argument, for the message.
        value: a Tensor or an array.
        dtype: what the parameters are.
        ranks: the allowed numbers of axes, each with the text that describes its axes.
        last: required size of the last axis.
        shape: required shape, instead of ``ranks`` and ``last``.

    Raises:
        DTypeError: another dtype, or something that is not an array.
        ShapeError: another number of axes or another size.
    """
    if not isinstance(value, Tensor):
        if not isinstance(value, np.ndarray):
            kind = type(value).__name__
            if kind == "Tensor":  # of another library
                kind = f"{type(value).__module__}.{kind}"
            raise DTypeError(f"{name}: expected a Tensor or a NumPy array, got {kind}")
        value = wrap(to_array(value, name=name))
    tensor: Tensor = value
    array = tensor._data
    if shape is not None and arrays.fits(array, shape, dtype):
        return tensor
    if array.dtype is not dtype and array.dtype != dtype:
        raise DTypeError(f"{name}: expected {dtype} as the parameters are, got {array.dtype}")
    if shape is not None:
        raise ShapeError(f"{name}: expected shape {shape}, got {array.shape}")
    if ranks is not None and array.ndim not in ranks:
        expected = " or ".join(ranks.values())
        raise ShapeError(f"{name}: expected axes {expected}, got shape {array.shape}")
    if last is not None and array.shape[-1] != last:
        raise ShapeError(
            f"{name}: expected {last} features in the last axis, got shape {array.shape}"
        )
    return tensor
