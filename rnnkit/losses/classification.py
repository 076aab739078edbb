"""Losses of class scores against class ids."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np

from rnnkit.autograd import Tensor
from rnnkit.autograd.tensor import plain_array
from rnnkit.checks import check_integer, check_number
from rnnkit.errors import ArgumentError, DTypeError, ShapeError
from rnnkit.losses.cross_entropy import ClassTargets, cross_entropy_of_rows
from rnnkit.losses.reduction import check_input, check_reduction, check_shape, real_like, reduce
from rnnkit.ops import gather, where

if TYPE_CHECKING:
    from numpy.typing import ArrayLike


def cross_entropy(
    input: ArrayLike | Tensor,
    target: ArrayLike | Tensor,
    weight: ArrayLike | Tensor | None = None,
    *,
    ignore_index: int = -100,
    reduction: str = "mean",
    label_smoothing: float = 0.0,
) -> Tensor:
    """Cross entropy of softmax(input) against class ids, as ``torch.nn.functional.cross_entropy``.

    With logits x (C,), target t, weights w and smoothing s the loss of one row is
    ``(1 - s) w_t (-log p_t) + s / C sum_j w_j (-log p_j)``, p = softmax(x) (Szegedy et al. 2016,
    section 7).

    Args:
        input: logits (..., C), the classes in the last axis.
        target: integer ids (...) in [0, C), or ``ignore_index`` for rows that count for nothing:
            their loss and gradient are exactly 0, whatever their logits are.
        weight: one constant factor per class, (C,); it is not differentiated.
        reduction: "mean" divides the sum by the weights of the targets that are not ignored,
            or their number without ``weight``; "sum"; or "none".
        label_smoothing: share s in [0, 1] of the target spread over all classes.

    Returns:
        a scalar, or (...) with reduction "none". With every target ignored, or none at all, the
        mean is NaN (and its gradient zero), as in PyTorch.

    Raises:
        ShapeError: target is not of input's shape without the classes, or weight not (C,).
        DTypeError: input is not float32 or float64, target not integer, weight of another dtype.
        ArgumentError: a target outside [0, C), named with its place; an unknown reduction;
            label_smoothing outside [0, 1].
    """
    check_reduction(reduction)
    check_smoothing(label_smoothing)
    logits = check_input(input)
    targets = check_class_targets(
        logits.shape, logits, target, weight, ignore_index, label_smoothing
    )
    losses = cross_entropy_of_rows(logits, targets)
    return reduce(losses, reduction, targets.divisor)


def nll_loss(
    input: ArrayLike | Tensor,
    target: ArrayLike | Tensor,
    weight: ArrayLike | Tensor | None = None,
    *,
    ignore_index: int = -100,
    reduction: str = "mean",
) -> Tensor:
    """Negative log likelihood of log-probabilities, as ``torch.nn.functional.nll_loss``.

    The loss of one row is ``-w_t input_t``. Arguments, result and errors are those of
    `cross_entropy`, except that input (..., C) holds log-probabilities.
    """
    check_reduction(reduction)
    log_probabilities = check_input(input)
    shape = log_probabilities.shape
    targets = check_class_targets(shape, log_probabilities, target, weight, ignore_index, 0.0)
    picked = gather(log_probabilities, -1, targets.ids[..., None]).squeeze(-1)
    losses = where(targets.kept, picked * -targets.hit, 0.0)
    return reduce(losses, reduction, targets.divisor)


def check_smoothing(label_smoothing: float) -> None:
    check_number("label_smoothing", label_smoothing, high=1.0)


def check_class_targets(
    shape: tuple[int, ...],
    like: Tensor,
    target: Any,
    weight: Any,
    ignore_index: int,
    label_smoothing: float,
    name: str = "weight",
) -> ClassTargets:
    """The targets of scores of a shape (..., C) and of the dtype of ``like``.

    ``name`` is that of the argument with the weights of the classes.
    """
    if len(shape) == 0 or shape[-1] == 0:
        raise ShapeError(f"input: expected (..., C) with a class or more, got shape {shape}")
    classes = shape[-1]
    ignore_index = check_integer("ignore_index", ignore_index)
    ids = check_class_ids(target, shape[:-1], classes, ignore_index)
    kept = ids != ignore_index
    if weight is None:
        weights = np.ones(classes, like.dtype)
    else:
        weights = real_like(name, weight, like).data
        check_shape(name, weights, (classes,), "one per class")
    return ClassTargets(np.where(kept, ids, 0), kept, weights, float(label_smoothing))


def check_class_ids(
    target: Any, shape: tuple[int, ...], classes: int, ignore_index: int | None = None
) -> np.ndarray:
    """The argument ``target`` as an array of class ids of a shape, or of ``ignore_index``."""
    ids = plain_array("target", target)
    if ids.size == 0 and not isinstance(target, Tensor | np.ndarray):
        ids = ids.astype(np.int64)  # of an empty list
    if ids.dtype.kind not in "iu":
        raise DTypeError(f"target: expected integer class ids, got {ids.dtype}")
    check_shape("target", ids, shape, "input without its last axis, the classes")
    wrong = (ids < 0) | (ids >= classes)
    or_ignored = ""
    if ignore_index is not None:
        wrong &= ids != ignore_index
        or_ignored = f" or ignore_index {ignore_index}"
    if wrong.any():
        place = tuple(int(i) for i in np.argwhere(wrong)[0])
        raise ArgumentError(
            f"target: expected ids in [0, {classes}){or_ignored}, got {ids[place]} at index {place}"
        )
    return ids
