"""Losses of batches whose rows are of several lengths: only steps that a row has are looked at."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np

from rnnkit.autograd import Tensor, as_tensor
from rnnkit.errors import ShapeError
from rnnkit.losses.reduction import reduce
from rnnkit.recurrent.packed import pad_rows
from rnnkit.recurrent.schedule import check_lengths

if TYPE_CHECKING:
    from collections.abc import Callable

    from numpy.typing import ArrayLike


def valid_steps(x: ArrayLike | Tensor, lengths: ArrayLike | Tensor) -> Tensor:
    """The steps that rows have, one after the other: what turns any loss into one of ragged rows.

    ``cross_entropy(valid_steps(scores, lengths), valid_steps(ids, lengths))`` is the mean over the
    steps that exist. What stands past the end of a row, NaN as well, is never read, and its
    gradient is exactly 0.

    Args:
        x: (T, N, ...), of any dtype.
        lengths: (N,) integers from 0 to T.

    Returns:
        (sum of lengths, ...), step after step, within a step row after row.

    Raises:
        ShapeError: x has fewer than two axes, or lengths is not (N,).
        DTypeError: lengths that are not integers.
        ArgumentError: a length outside [0, T].
    """
    tensor = as_tensor(x)
    return tensor[valid_places(tensor, lengths, "x")]


def valid_places(x: Tensor, lengths: Any, name: str) -> tuple[np.ndarray, np.ndarray]:
    """The steps and the rows of `valid_steps`; x (T, N, ...) has the name of its argument."""
    if x.ndim < 2:
        raise ShapeError(f"{name}: expected (T, N, ...) with lengths, got shape {x.shape}")
    T, N = x.shape[:2]
    steps = check_lengths(lengths, T, N, of=f"the steps of {name}")
    times, rows = np.nonzero(np.arange(T)[:, None] < steps)
    return times, rows


def reduce_over_steps(
    losses_of: Callable[..., Tensor], tensors: tuple[Tensor, ...], lengths: Any, reduction: str
) -> Tensor:
    """What ``losses_of`` makes of tensors (..., features), reduced over the steps that rows have.

    Args:
        losses_of: takes the tensors, of some leading shape, and returns losses of that shape.
        tensors: (..., features); (T, N, features) with lengths.
        lengths: (N,) or None.
        reduction: "mean" and "sum" are over the steps that exist, "none" gives 0 for the others.
    """
    if lengths is None:
        losses = losses_of(*tensors)
        return reduce(losses, reduction, losses.size)
    if tensors[0].ndim < 3:  # the features would pass for rows
        raise ShapeError(
            "input: expected (T, N, ...) with lengths, features behind the rows, "
            f"got shape {tensors[0].shape}"
        )
    places = times, rows = valid_places(tensors[0], lengths, "input")
    losses = losses_of(*[tensor[places] for tensor in tensors])
    if reduction != "none":
        return reduce(losses, reduction, losses.size)
    T, N = tensors[0].shape[:2]
    return pad_rows(losses, times * N + rows, (T, N), 0.0)
