"""Initialisation of parameters in place, under PyTorch's names.

Random numbers come from the library's generator (rk.manual_seed). They are drawn in float64 and
rounded to the tensor's dtype, so that a float32 and a float64 model of one seed start from the same
values. Every function returns the tensor it was given.

All raise DTypeError for a tensor that is not float32 or float64, ShapeError for a rank they are not
defined on, and ArgumentError for an unknown mode or nonlinearity.
"""

from __future__ import annotations

import math
from typing import TYPE_CHECKING, TypeVar

import numpy as np

from rnnkit.autograd import Tensor
from rnnkit.errors import ArgumentError, DTypeError, ShapeError
from rnnkit.rng import generator

if TYPE_CHECKING:
    from numpy.typing import ArrayLike

AnyTensor = TypeVar("AnyTensor", bound=Tensor)


def _fill(tensor: AnyTensor, values: ArrayLike) -> AnyTensor:
    if not isinstance(tensor, Tensor):
        raise TypeError(f"tensor: expected a Tensor, got {type(tensor).__name__}")
    if tensor.data.dtype.kind != "f":
        raise DTypeError(f"tensor: expected float32 or float64, got {tensor.data.dtype}")
    tensor.data[...] = values
    return tensor


def uniform_(tensor: AnyTensor, a: float = 0.0, b: float = 1.0) -> AnyTensor:
    """Fill with U(a, b)."""
    return _fill(tensor, generator().uniform(a, b, tensor.shape))


def normal_(tensor: AnyTensor, mean: float = 0.0, std: float = 1.0) -> AnyTensor:
    """Fill with N(mean, std^2)."""
    return _fill(tensor, generator().normal(mean, std, tensor.shape))


def constant_(tensor: AnyTensor, val: float) -> AnyTensor:
    """Fill with ``val``."""
    return _fill(tensor, val)


def zeros_(tensor: AnyTensor) -> AnyTensor:
    """Fill with zeros."""
    return _fill(tensor, 0.0)


def ones_(tensor: AnyTensor) -> AnyTensor:
    """Fill with ones."""
    return _fill(tensor, 1.0)


def eye_(tensor: AnyTensor) -> AnyTensor:
    """Fill a matrix with ones on the diagonal and zeros elsewhere."""
    if tensor.ndim != 2:
        raise ShapeError(
            f"tensor: expected 2 axes for an identity matrix, got shape {tensor.shape}"
        )
    return _fill(tensor, np.eye(tensor.shape[0], tensor.shape[1]))


def xavier_uniform_(tensor: AnyTensor, gain: float = 1.0) -> AnyTensor:
    """Fill with U(-b, b), b = gain sqrt(6 / (fan_in + fan_out)).

    Glorot and Bengio 2010, equation 16.
    """
    bound = gain * math.sqrt(6.0 / sum(_fans(tensor)))
    return uniform_(tensor, -bound, bound)


def xavier_normal_(tensor: AnyTensor, gain: float = 1.0) -> AnyTensor:
    """Fill with N(0, s^2), s = gain sqrt(2 / (fan_in + fan_out)).

    Glorot and Bengio 2010, equation 12.
    """
    return normal_(tensor, 0.0, gain * math.sqrt(2.0 / sum(_fans(tensor))))


def kaiming_uniform_(
    tensor: AnyTensor, a: float = 0.0, mode: str = "fan_in", nonlinearity: str = "leaky_relu"
) -> AnyTensor:
    """Fill with U(-b, b), b = calculate_gain(nonlinearity, a) sqrt(3 / fan).

    He et al. 2015, section 2.2.
    ``mode`` is "fan_in" (keeps the variance forward) or "fan_out" (backward); ``a`` is the slope of
    leaky_relu.
    """
    bound = math.sqrt(3.0) * _kaiming_std(tensor, a, mode, nonlinearity)
    return uniform_(tensor, -bound, bound)


def kaiming_normal_(
    tensor: AnyTensor, a: float = 0.0, mode: str = "fan_in", nonlinearity: str = "leaky_relu"
) -> AnyTensor:
    """Fill with N(0, s^2), s = calculate_gain(nonlinearity, a) / sqrt(fan).

    He et al. 2015, section 2.2.
    """
    return normal_(tensor, 0.0, _kaiming_std(tensor, a, mode, nonlinearity))


def orthogonal_(tensor: AnyTensor, gain: float = 1.0) -> AnyTensor:
    """Fill with ``gain`` times a random (semi-)orthogonal matrix.

    The axes after the first are taken as one.
    Saxe, McClelland and Ganguli 2014; made uniform over the orthogonal matrices by the signs of R
    in the QR decomposition of a normal matrix (Mezzadri 2007).
    """
    if tensor.ndim < 2:
        raise ShapeError(f"tensor: expected 2 or more axes, got shape {tensor.shape}")
    rows = tensor.shape[0]
    columns = math.prod(tensor.shape[1:])
    q, r = np.linalg.qr(generator().normal(size=(max(rows, columns), min(rows, columns))))
    q *= np.where(np.diagonal(r) < 0, -1.0, 1.0)
    matrix = q if rows >= columns else q.T
    return _fill(tensor, gain * matrix.reshape(tensor.shape))


def calculate_gain(nonlinearity: str, param: float | None = None) -> float:
    """Return the factor that keeps the variance through a nonlinearity.

    ``param`` is the slope of leaky_relu.
    """
    if nonlinearity == "leaky_relu":
        slope = 0.01 if param is None else param
        return math.sqrt(2.0 / (1 + slope**2))
    if nonlinearity not in _GAINS:
        raise ArgumentError(
            f"nonlinearity: expected leaky_relu, {', '.join(_GAINS)}, got {nonlinearity!r}"
        )
    return _GAINS[nonlinearity]


_GAINS = {
    "linear": 1.0,
    "sigmoid": 1.0,
    "tanh": 5.0 / 3,
    "relu": math.sqrt(2.0),
}


def _fans(tensor: Tensor) -> tuple[int, int]:
    """Return (fan_in, fan_out) of a weight (out, in, ...)."""
    if tensor.ndim < 2:
        raise ShapeError(f"tensor: expected 2 or more axes for its fans, got shape {tensor.shape}")
    field = math.prod(tensor.shape[2:])
    return tensor.shape[1] * field, tensor.shape[0] * field


def _kaiming_std(tensor: Tensor, a: float, mode: str, nonlinearity: str) -> float:
    if mode not in ("fan_in", "fan_out"):
        raise ArgumentError(f"mode: expected 'fan_in' or 'fan_out', got {mode!r}")
    fan_in, fan_out = _fans(tensor)
    fan = fan_in if mode == "fan_in" else fan_out
    return calculate_gain(nonlinearity, a) / math.sqrt(fan)
