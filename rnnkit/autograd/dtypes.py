"""The dtypes a tensor may have."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np

from rnnkit.errors import DTypeError

if TYPE_CHECKING:
    import numpy.typing as npt

default_dtype = np.dtype(np.float32)
FLOATS = frozenset((np.dtype(np.float32), np.dtype(np.float64)))
DTYPES = FLOATS | {np.dtype(code) for code in "?bBhHiIlLqQ"}


def supported_dtype(dtype: npt.DTypeLike, name: str = "dtype") -> np.dtype[Any]:
    """The NumPy dtype meant by `dtype`, or that the argument `name` has, in native byte order.

    Raises:
        DTypeError: it is not float32, float64, an integer type or bool.
    """
    if isinstance(dtype, np.dtype) and dtype in DTYPES:
        return dtype
    try:
        found = np.dtype(dtype).newbyteorder("=")
    except TypeError:
        # What code for several devices calls ``to`` with.
        is_device = str(dtype).partition(":")[0] in ("cpu", "cuda", "mps")
        hint = "; everything is on the CPU, and to() takes no device" if is_device else ""
        raise DTypeError(f"{name}: expected a NumPy dtype, got {dtype!r}{hint}") from None
    if found not in DTYPES:
        raise DTypeError(
            f"{name}: expected float32, float64, an integer type or bool, got {found.name}"
        )
    return found
