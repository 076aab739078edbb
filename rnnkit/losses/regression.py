"""Losses of real numbers against real numbers."""

from __future__ import annotations

from typing import TYPE_CHECKING

from rnnkit.cells.checks import check_number
from rnnkit.errors import ShapeError
from rnnkit.losses.reduction import check_input, check_reduction, check_shape, real_like, reduce
from rnnkit.ops import clip, softplus

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
    input, target = _check_pair(input, target, reduction)
    error = input - target
    return reduce(error * error, reduction, error.size)


def l1_loss(
    input: ArrayLike | Tensor, target: ArrayLike | Tensor, *, reduction: str = "mean"
) -> Tensor:
    """Absolute error |input - target|, as ``torch.nn.functional.l1_loss``; slope 0 at 0.

    Arguments, result and errors are those of `mse_loss`.
    """
    input, target = _check_pair(input, target, reduction)
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
    if beta == 0:
        return l1_loss(input, target, reduction=reduction)
    input, target = _check_pair(input, target, reduction)
    error = input - target
    near = clip(error, -beta, beta)
    return reduce(near * (error - near * 0.5) / beta, reduction, error.size)


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
    input, target = _check_pair(input, target, reduction)
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


def _check_pair(
    input: ArrayLike | Tensor, target: ArrayLike | Tensor, reduction: str
) -> tuple[Tensor, Tensor]:
    check_reduction(reduction)
    values = check_input(input)
    wanted = real_like("target", target, values)
    check_shape("target", wanted, values.shape, "as input")
    return values, wanted
