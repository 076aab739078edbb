"""Clipping of gradients, in place (Pascanu, Mikolov and Bengio 2013, algorithm 1)."""

from __future__ import annotations

import math
from typing import TYPE_CHECKING

import numpy as np

from rnnkit.autograd import Tensor
from rnnkit.errors import ArgumentError

if TYPE_CHECKING:
    from collections.abc import Iterable


def clip_grad_norm_(
    parameters: Tensor | Iterable[Tensor],
    max_norm: float,
    norm_type: float = 2.0,
    error_if_nonfinite: bool = False,
) -> float:
    """Scale all gradients together so that their total norm is at most ``max_norm``.

    Returns the norm before that.
    The norm is that of all gradients as one vector, accumulated in float64. Parameters without a
    gradient are skipped; with none left the norm is 0. A norm that is inf or NaN scales the
    gradients by 0 or NaN, as in PyTorch.

    Raises ArgumentError for a negative or NaN ``max_norm``, a ``norm_type`` that is not positive,
    and, with ``error_if_nonfinite``, for a norm that is inf or NaN: the gradients are then left as
    they were.
    """
    if not max_norm >= 0:
        raise ArgumentError(f"max_norm: expected a number >= 0, got {max_norm!r}")
    if not norm_type > 0:
        raise ArgumentError(f"norm_type: expected a positive number or inf, got {norm_type!r}")
    with np.errstate(all="ignore"):
        grads = _grads(parameters)
        total_norm = _total_norm(grads, float(norm_type))
        if error_if_nonfinite and not math.isfinite(total_norm):
            raise ArgumentError(
                f"parameters: expected gradients with a finite norm, got {total_norm}"
            )
        factor = max_norm / (total_norm + 1e-6)
        if not factor >= 1:
            for grad in grads:
                grad *= factor
    return total_norm


def clip_grad_value_(parameters: Tensor | Iterable[Tensor], clip_value: float) -> None:
    """Clip every element of every gradient to [-clip_value, clip_value]; NaN stays NaN.

    Raises ArgumentError for a negative or NaN ``clip_value``.
    """
    if not clip_value >= 0:
        raise ArgumentError(f"clip_value: expected a number >= 0, got {clip_value!r}")
    for grad in _grads(parameters):
        np.clip(grad, -clip_value, clip_value, out=grad)


def _grads(parameters: Tensor | Iterable[Tensor]) -> list[np.ndarray]:
    if isinstance(parameters, Tensor):
        parameters = [parameters]
    return [param.grad.data for param in parameters if param.grad is not None]


def _total_norm(grads: list[np.ndarray], norm_type: float) -> float:
    if norm_type == math.inf:
        # np.max, unlike max(), hands a NaN through.
        return float(np.max([np.max(np.abs(grad), initial=0.0) for grad in grads], initial=0.0))
    if norm_type == 2.0:
        # einsum converts to float64 block by block, so no large temporary is made.
        flat = [grad.reshape(-1) for grad in grads]
        squares = [np.einsum("i,i->", grad, grad, dtype=np.float64) for grad in flat]
        return math.sqrt(sum(squares))
    powers = [np.sum(np.abs(grad).astype(np.float64) ** norm_type) for grad in grads]
    return float(sum(powers)) ** (1.0 / norm_type)
