"""Dropout of an array in one native pass."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np

from rnnkit.backend import dispatch, extension

if TYPE_CHECKING:
    from rnnkit.backend._native import Array


def dropout(x: Array, seed: int, threshold: int, scale: float) -> Array | None:
    """``x`` times the mask that the seed fixes, as a new array; None: left to NumPy.

    csrc/kernels/dropout.h tells the mask. x is float32 or float64.
    """
    kernels = dispatch.kernels_for("dropout", required=False)
    if kernels is None:
        return None
    x = np.require(x, requirements=("C", "A"))
    y = np.empty(x.shape, x.dtype)
    kernels.dropout(x.dtype.name, extension.get_num_threads(), x, y, seed, threshold, scale)
    return y
