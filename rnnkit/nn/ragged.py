"""Which steps of a ragged batch are there, for layers that look at all steps at once."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np

from rnnkit.autograd.tensor import wrap
from rnnkit.ops import softmax, where
from rnnkit.recurrent.schedule import check_lengths

if TYPE_CHECKING:
    from rnnkit.autograd import Tensor


def step_mask(
    lengths: Any, T: int, N: int, name: str = "lengths", of: str = "the steps of x"
) -> Tensor | None:
    """bool (T, N), True before each row's end; None where every row simply has all T steps.

    ``name`` and ``of`` are those of `check_lengths`.

    Raises:
        ShapeError, DTypeError, ArgumentError: lengths that are not (N,) integers from 0 to T.
    """
    if lengths is None:
        return None
    steps = check_lengths(lengths, T, N, name=name, of=of)
    return None if (steps == T).all() else wrap(np.arange(T)[:, None] < steps)


def without_padding(x: Tensor, valid: Tensor | None) -> Tensor:
    """x (T, N, ...) with zeros past the rows' ends, through which no gradient passes."""
    if valid is None:
        return x
    return where(valid.reshape(*valid.shape, *(1,) * (x.ndim - 2)), x, 0.0)


def masked_softmax(scores: Tensor, valid: Tensor | None) -> Tensor:
    """softmax over the last axis among the valid elements.

    Args:
        scores: (..., S), finite where they are not valid.
        valid: bool, broadcast to scores; None: all of them.

    Returns:
        (..., S), exactly 0 where not valid, and so everywhere in a row that has nothing valid.
    """
    if valid is None:
        return softmax(scores, -1)
    # Where nothing is valid this softmax is NaN; choosing 0 instead stops its gradient as well.
    return where(valid, softmax(where(valid, scores, -np.inf), -1), 0.0)
