"""Ops that draw from the library's random generator."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np

from rnnkit.autograd.primitive import primitive
from rnnkit.checks import check_bool, check_number
from rnnkit.ops.operands import real
from rnnkit.rng import generator

if TYPE_CHECKING:
    from collections.abc import Callable

    from rnnkit.autograd.tensor import Array, Tensor

_GOLDEN_GAMMA = np.uint64(0x9E3779B97F4A7C15)
_FIRST_FACTOR = np.uint64(0xBF58476D1CE4E5B9)
_SECOND_FACTOR = np.uint64(0x94D049BB133111EB)


def random_bits(seed: int, count: int) -> Array:
    """`count` numbers of 32 random bits, which `seed` fixes each by its place.

    The lower and the upper halves of SplitMix64's words (Steele, Lea and Flood, "Fast splittable
    pseudorandom number generators", OOPSLA 2014). The native kernel makes the same.

    Args:
        seed: in [0, 2**64).
    """
    z = np.arange(1, count // 2 + 2, dtype=np.uint64)
    z *= _GOLDEN_GAMMA
    z += np.uint64(seed)
    z ^= z >> np.uint64(30)
    z *= _FIRST_FACTOR
    z ^= z >> np.uint64(27)
    z *= _SECOND_FACTOR
    z ^= z >> np.uint64(31)
    return z.astype("<u8", copy=False).view("<u4")[:count]


_kernel: Callable[[Array, int, int, float], Array | None] | None = None


def set_dropout_kernel(
    kernel: Callable[[Array, int, int, float], Array | None] | None,
) -> Callable[[Array, int, int, float], Array | None] | None:
    """Have dropout computed by `kernel` (None: by NumPy); returns the former.

    The kernel is called as ``kernel(x, seed, threshold, scale)`` with a float array. It returns a
    new array: x times scale where `random_bits` reach the threshold, and times 0 elsewhere; or
    None, which leaves the call to NumPy.
    """
    global _kernel
    former, _kernel = _kernel, kernel
    return former


def _dropout_array(x: Array, *, p: float, seed: int) -> Array:
    threshold = min(round(p * 2**32), 2**32 - 1)
    scale = 0.0 if p == 1.0 else 1.0 / (1.0 - p)
    if _kernel is not None:
        y = _kernel(x, seed, threshold, scale)
        if y is not None:
            return y
    kept = random_bits(seed, x.size) >= threshold
    mask = np.multiply(kept, np.asarray(scale, x.dtype), dtype=x.dtype)
    return x * mask.reshape(x.shape)


# The seed stands for the mask, which is made again for the gradient rather than kept.
_dropout = primitive("dropout", _dropout_array)
_dropout.defvjp(lambda d_y, _, x, *, p, seed: _dropout(d_y, p=p, seed=seed))


def dropout(x: Tensor, p: float = 0.5, training: bool = True) -> Tensor:
    """Zero each element with probability `p` and scale the others by 1 / (1 - p).

    The expected value stays that of `x`. Outside training, `x` itself is returned. One number is
    drawn from the library's generator; it fixes the mask, which is the same for both dtypes and on
    every path. NaN and infinities that are dropped give NaN.
    Source: Srivastava et al., "Dropout", JMLR 15 (2014).

    Raises:
        ArgumentError: `p` is not in [0, 1].
    """
    if type(p) is not float or not 0.0 <= p <= 1.0:
        check_number("dropout: p", p, 0, 1)
    x = real("dropout", x)
    if (training is not True and not check_bool("dropout: training", training)) or p == 0.0:
        return x
    return _dropout(x, p=float(p), seed=int(generator().bit_generator.random_raw()))
