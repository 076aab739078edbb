"""The exponential of a matrix, as ops that can be differentiated.

    exp(A) = (sum over k from 0 to 15 of (A / 2^s)^k / k!)^(2^s)

Taylor's series with scaling and squaring (Higham, "Functions of Matrices", 2008, chapter 10), the
series in the scheme of Paterson and Stockmeyer: 6 products, and s for the squarings. Neither the
degree nor s depends on the values of A, so that what is computed is always the same.

All of it is done in float64: the squarings multiply the rounding errors by 2^s, and a recurrence
that runs for thousands of steps would multiply these once more.
"""

from __future__ import annotations

from math import factorial
from typing import TYPE_CHECKING

import numpy as np

from rnnkit.autograd import Tensor
from rnnkit.ops import astype, matmul

if TYPE_CHECKING:
    from collections.abc import Sequence

_BLOCK, _DEGREE = 4, 15


def matrix_exp(A: Tensor, squarings: int = 5) -> Tensor:
    """exp(A), (H, H), exact to rounding where the norm of A is at most 2 ** squarings / 2.

    Each squaring doubles the rounding errors of what came before.
    """
    dtype = A.dtype
    A = astype(A, np.float64) * 0.5**squarings
    A2 = matmul(A, A)
    powers: Sequence[Tensor] = (Tensor(np.eye(A.shape[0], dtype=A.dtype)), A, A2, matmul(A2, A))
    A4 = matmul(A2, A2)
    total: Tensor | None = None
    for first in range(_DEGREE + 1 - _BLOCK, -1, -_BLOCK):
        block = powers[0] * (1 / factorial(first))
        for k in range(1, _BLOCK):
            block = block + powers[k] * (1 / factorial(first + k))
        total = block if total is None else block + matmul(A4, total)
    assert total is not None
    for _ in range(squarings):
        total = matmul(total, total)
    return astype(total, dtype)
