"""Losses of real numbers against real numbers."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np

from rnnkit.autograd import primitive
from rnnkit.checks import check_number
from rnnkit.errors import ArgumentError, ShapeError
from rnnkit.losses.reduction import check_pair, real_like, reduce
from rnnkit.ops import clip, maximum, softplus

if TYPE_CHECKING:
    from numpy.typing import ArrayLike

    from rnnkit.autograd import Tensor


def mse_loss(
    input: ArrayLike | Tensor, target: ArrayLike | Tensor, *, reduction: str = "mean"
) -> Tensor:
    """Squared error (input - target)^2, as ``torch.nn.functional.mse_loss``.

    Args:
        input, target: of one shape and dtype. Both are differentiated.
        reduction: "mean" over all elements, "sum" or "none".

    Returns:
        a scalar, or the shape of input with reduction "none". The mean of no elements is NaN.

    Raises:
        ShapeError: the shapes differ; they are not broadcast.
        DTypeError: not float32 or float64, or not both the same.
        ArgumentError: an unknown reduction.
    """
    input, target = check_pair(input, target, reduction)
    error = input - target
    return reduce(error * error, reduction, error.size)


def l1_loss(
    input: ArrayLike | Tensor, target: ArrayLike | Tensor, *, reduction: str = "mean"
) -> Tensor:
    """Absolute error |input - target|, as ``torch.nn.functional.l1_loss``; slope 0 at 0.

    Arguments, result and errors are those of `mse_loss`.
    """
    input, target = check_pair(input, target, reduction)
    return reduce((input - target).abs(), reduction, input.size)


def smooth_l1_loss(
    input: ArrayLike | Tensor,
    target: ArrayLike | Tensor,
    *,
    beta: float = 1.0,
    reduction: str = "mean",
) -> Tensor:
    """0.5 e^2 / beta where |e| < beta, else |e| - 0.5 beta; e = input - target.

    As ``torch.nn.functional.smooth_l1_loss`` (Girshick 2015, equation 3); with beta 0 it is
    `l1_loss`. Arguments, result and errors are those of `mse_loss`; a negative or NaN beta raises
    ArgumentError.
    """
    check_number("beta", beta)
    input, target = check_pair(input, target, reduction)
    if input.dtype.type(beta) == 0:
        return l1_loss(input, target, reduction=reduction)
    return reduce(_huber(input - target, beta) / beta, reduction, input.size)


def huber_loss(
    input: ArrayLike | Tensor,
    target: ArrayLike | Tensor,
    reduction: str = "mean",
    delta: float = 1.0,
) -> Tensor:
    """0.5 e^2 where |e| < delta, else delta (|e| - 0.5 delta); e = input - target.

    As ``torch.nn.functional.huber_loss`` (Huber 1964): delta times `smooth_l1_loss` with beta
    delta. Arguments, result and errors are those of `mse_loss`; a delta of 0 or less, or NaN,
    raises ArgumentError.
    """
    check_number("delta", delta, above_low=True)
    input, target = check_pair(input, target, reduction)
    return reduce(_huber(input - target, delta), reduction, input.size)


def _huber(error: Tensor, bend: float) -> Tensor:
    """0.5 e^2 up to the bend, and straight lines from there."""
    near = clip(error, -float(bend), bend)
    return near * (error - near * 0.5)


# ---- cross entropy of probabilities
#
# The logarithms end at -100, and the derivatives by p divide by no less than 1e-12: a probability
# that is 0 or 1 to the last bit costs much, and gives numbers.


def _log_of(p: np.ndarray) -> np.ndarray:
    return np.maximum(np.log(p), -100)


def _log_of_rest(p: np.ndarray) -> np.ndarray:
    return np.maximum(np.log1p(-p), -100)


_binary_cross_entropy = primitive(
    "binary_cross_entropy", lambda p, y: -(y * _log_of(p) + (1 - y) * _log_of_rest(p))
)
# What its target receives.
_log_odds_against = primitive("log_odds_against", lambda p: _log_of_rest(p) - _log_of(p))
_binary_cross_entropy.defvjp(
    lambda d_loss, _, p, y: d_loss * (p - y) / maximum(p * (1 - p), 1e-12),
    lambda d_loss, _, p, y: d_loss * _log_odds_against(p),
)
_log_odds_against.defvjp(lambda d_odds, _, p: -d_odds / maximum(p * (1 - p), 1e-12))


def binary_cross_entropy(
    input: ArrayLike | Tensor,
    target: ArrayLike | Tensor,
    weight: ArrayLike | Tensor | None = None,
    *,
    reduction: str = "mean",
) -> Tensor:
    """Cross entropy of probabilities against probabilities.

    ``w (-y log p - (1 - y) log(1 - p))``, p input, y target, w weight, as
    ``torch.nn.functional.binary_cross_entropy``: logarithms below -100 count as -100. From logits,
    `binary_cross_entropy_with_logits` is exact where p rounds to 0 or 1.

    Args:
        input: probabilities. NaN is passed on.
        target: of the shape and dtype of input. Both are differentiated.
        weight: broadcasts against input.
        reduction: "mean" over all elements (weights do not change the divisor), "sum" or "none".

    Returns:
        a scalar, or the shape of input with reduction "none". The mean of no elements is NaN.

    Raises:
        ShapeError: the shapes of input and target differ, or the weight does not broadcast to them.
        DTypeError: not float32 or float64, or not all the same.
        ArgumentError: an input below 0 or above 1; an unknown reduction.
    """
    input, target = check_pair(input, target, reduction)
    wrong = (input.data < 0) | (input.data > 1)
    if wrong.any():
        raise ArgumentError(
            f"input: expected probabilities from 0 to 1, got {input.data[wrong][0]}; "
            "binary_cross_entropy_with_logits takes logits"
        )
    losses = _binary_cross_entropy(input, target)
    if weight is not None:
        losses = losses * _weight_like("weight", weight, input)
    return reduce(losses, reduction, losses.size)


def binary_cross_entropy_with_logits(
    input: ArrayLike | Tensor,
    target: ArrayLike | Tensor,
    weight: ArrayLike | Tensor | None = None,
    *,
    pos_weight: ArrayLike | Tensor | None = None,
    reduction: str = "mean",
) -> Tensor:
    """Cross entropy of sigmoid(input) against probabilities.

    ``w (-a y log p - (1 - y) log(1 - p))``, p = sigmoid(input), y target, w weight, a pos_weight:
    ``torch.nn.functional.binary_cross_entropy_with_logits``. Both logarithms are softplus functions
    of the logits, so nothing overflows or cancels.

    Args:
        input, target: of one shape and dtype. Both are differentiated.
        weight: broadcasts against input.
        pos_weight: factor of the positive part, broadcasts against input.
        reduction: "mean" over all elements (weights do not change the divisor), "sum" or "none".

    Returns:
        a scalar, or the shape of input with reduction "none". The mean of no elements is NaN.

    Raises:
        ShapeError: the shapes of input and target differ, or a weight does not broadcast to them.
        DTypeError: not float32 or float64, or not all the same.
        ArgumentError: an unknown reduction.
    """
    input, target = check_pair(input, target, reduction)
    positive = target * softplus(-input)
    if pos_weight is not None:
        positive = positive * _weight_like("pos_weight", pos_weight, input)
    losses = positive + (1 - target) * softplus(input)
    if weight is not None:
        losses = losses * _weight_like("weight", weight, input)
    return reduce(losses, reduction, losses.size)


def _weight_like(name: str, weight: ArrayLike | Tensor, input: Tensor) -> Tensor:
    given = real_like(name, weight, input)
    sizes = zip(reversed(given.shape), reversed(input.shape), strict=False)
    if given.ndim > input.ndim or any(size not in (1, wanted) for size, wanted in sizes):
        raise ShapeError(
            f"{name}: expected a shape that broadcasts to {input.shape}, got {given.shape}"
        )
    return given
