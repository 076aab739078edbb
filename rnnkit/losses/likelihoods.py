"""How unlikely targets are under distributions, and how far distributions are from each other."""

from __future__ import annotations

import math
from typing import TYPE_CHECKING, Any

from rnnkit.checks import check_bool, check_number
from rnnkit.errors import ArgumentError, ShapeError
from rnnkit.losses.reduction import check_pair, real_like, reduce
from rnnkit.ops import exp, log, where

if TYPE_CHECKING:
    from numpy.typing import ArrayLike

    from rnnkit.autograd import Tensor


def gaussian_nll_loss(
    input: ArrayLike | Tensor,
    target: ArrayLike | Tensor,
    var: ArrayLike | Tensor,
    full: bool = False,
    eps: float = 1e-6,
    reduction: str = "mean",
) -> Tensor:
    """Negative log likelihood of target under Gaussians of mean input and variance var.

    ``0.5 (log v + (input - target)^2 / v)``, v the larger of var and eps, as
    ``torch.nn.functional.gaussian_nll_loss`` (Nix and Weigend 1994). Where v is eps, var receives
    the gradient of v all the same.

    Args:
        input, target: of one shape and dtype. All three are differentiated.
        var: of the shape of input, or with sizes of 1 in it, or without the last axis; or a number.
        full: whether 0.5 log(2 pi) is added.
        eps: the smallest variance.
        reduction: "mean" over all elements, "sum" or "none".

    Returns:
        a scalar, or the shape of input with reduction "none". The mean of no elements is NaN.

    Raises:
        ShapeError: the shapes do not fit.
        DTypeError: not float32 or float64, or not all the same.
        ArgumentError: a negative var; eps not positive; an unknown reduction.
    """
    check_number("eps", eps, above_low=True)
    input, target = check_pair(input, target, reduction)
    variance = _variance(var, input)
    # The difference is 0, and has a slope.
    variance = where(variance < eps, variance - variance.detach() + eps, variance)
    error = input - target
    losses = 0.5 * (log(variance) + error * error / variance)
    if check_bool("full", full):
        losses = losses + 0.5 * math.log(2 * math.pi)
    return reduce(losses, reduction, losses.size)


def _variance(var: Any, input: Tensor) -> Tensor:
    given = real_like("var", var, input)
    if (given.data < 0).any():
        raise ArgumentError(f"var: expected variances of 0 or more, got {given.data.min()}")
    if given.ndim and given.shape == input.shape[:-1]:
        return given.unsqueeze(-1)
    fits = len(given.shape) == len(input.shape) and all(
        size in (1, wanted) for size, wanted in zip(given.shape, input.shape, strict=True)
    )
    if given.ndim and not fits:
        raise ShapeError(
            f"var: expected shape {input.shape}, 1 in place of sizes, or {input.shape[:-1]}, "
            f"got {given.shape}"
        )
    return given


def poisson_nll_loss(
    input: ArrayLike | Tensor,
    target: ArrayLike | Tensor,
    log_input: bool = True,
    full: bool = False,
    *,
    eps: float = 1e-8,
    reduction: str = "mean",
) -> Tensor:
    """Negative log likelihood of counts under Poisson distributions, without log(target!).

    ``exp(x) - y x`` where the input x is the logarithm of the rate, else ``x - y log(x + eps)``; y
    is the target. As ``torch.nn.functional.poisson_nll_loss``.

    Args:
        input, target: of one shape and dtype. Both are differentiated.
        log_input: whether input is the logarithm of the rate.
        full: whether log(y!) is added where y > 1, by Stirling: y log y - y + 0.5 log(2 pi y).
        eps: keeps the logarithm of a rate of 0 finite.
        reduction: "mean" over all elements, "sum" or "none".

    Returns:
        a scalar, or the shape of input with reduction "none". The mean of no elements is NaN.

    Raises:
        ShapeError: the shapes differ; they are not broadcast.
        DTypeError: not float32 or float64, or not both the same.
        ArgumentError: a negative eps; an unknown reduction.
    """
    check_number("eps", eps)
    input, target = check_pair(input, target, reduction)
    if check_bool("log_input", log_input):
        losses = exp(input) - target * input
    else:
        losses = input - target * log(input + eps)
    if check_bool("full", full):
        many = target > 1
        count = where(many, target, 1.0)
        stirling = count * log(count) - count + 0.5 * log(2 * math.pi * count)
        losses = losses + where(many, stirling, 0.0)
    return reduce(losses, reduction, losses.size)


def kl_div(
    input: ArrayLike | Tensor,
    target: ArrayLike | Tensor,
    *,
    reduction: str = "mean",
    log_target: bool = False,
) -> Tensor:
    """Kullback-Leibler divergence of target from input, element by element.

    ``y (log y - x)``, x the input, which holds **logarithms** of probabilities, y the target, as
    ``torch.nn.functional.kl_div``. Where y is 0 the loss is 0, and so are both gradients.

    Args:
        input, target: of one shape and dtype. Both are differentiated.
        reduction: "batchmean", the sum over the size of the first axis, which is the divergence of
            distributions (N, C); "mean" over all elements; "sum" or "none".
        log_target: whether target holds logarithms of probabilities, too.

    Returns:
        a scalar, or the shape of input with reduction "none". The mean of no elements is NaN.

    Raises:
        ShapeError: the shapes differ; they are not broadcast.
        DTypeError: not float32 or float64, or not both the same.
        ArgumentError: an unknown reduction.
    """
    input, target = check_pair(input, target, reduction, "batchmean")
    if check_bool("log_target", log_target):
        losses = exp(target) * (target - input)
    else:
        zero = target == 0
        losses = where(zero, 0.0, target * (log(where(zero, 1.0, target)) - input))
    if reduction == "batchmean":
        return reduce(losses, "mean", losses.shape[0] if losses.ndim else 1)
    return reduce(losses, reduction, losses.size)
