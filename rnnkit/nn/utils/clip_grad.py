"""Clipping of gradients, in place (Pascanu, Mikolov and Bengio 2013, algorithm 1)."""

from __future__ import annotations

import math
from collections.abc import Iterable
from typing import Any

import numpy as np

from rnnkit import backend
from rnnkit.autograd import Tensor
from rnnkit.checks import check_bool, check_number
from rnnkit.errors import ArgumentError
from rnnkit.module import Module

# The squares of a smaller vector may be too small for float64, and one part of it lost.
_LEAST = 1e-145


def clip_grad_norm_(
    parameters: Tensor | Iterable[Tensor],
    max_norm: float,
    norm_type: float | str = 2.0,
    error_if_nonfinite: bool = False,
) -> float:
    """Scale all gradients together so that their total norm is at most ``max_norm``.

    Returns the norm before that.
    The norm is that of all gradients as one vector, accumulated in float64; one native call finds
    the 2-norm of all, and one scales them. Parameters without a
    gradient are skipped; with none left the norm is 0. A norm that is inf or NaN scales the
    gradients by 0 or NaN, as in PyTorch.

    ``norm_type`` is a positive number, or inf, also as the text "inf", for the greatest absolute
    value.

    Raises ArgumentError for a negative or NaN ``max_norm``, a ``norm_type`` that is not positive,
    and, with ``error_if_nonfinite``, for a norm that is inf or NaN: the gradients are then left as
    they were.
    """
    check_number("max_norm", max_norm)
    check_bool("error_if_nonfinite", error_if_nonfinite)
    if isinstance(norm_type, str) and norm_type == "inf":
        norm_type = math.inf
    try:
        check_number("norm_type", norm_type, above_low=True)
    except ArgumentError:
        raise ArgumentError(
            f"norm_type: expected a positive number or inf, got {norm_type!r}"
        ) from None
    norm_type = float(norm_type)
    with np.errstate(all="ignore"):
        grads = _grads(parameters)
        kernels = backend.kernels_for("clip_grad_norm_", _obstacle(grads, norm_type))
        if kernels is None:
            total_norm = _total_norm(grads, norm_type)
        else:
            total_norm = _native_norm(kernels, grads)
        if not _LEAST <= total_norm < math.inf:
            total_norm = _scaled_norm(grads, norm_type)
        if error_if_nonfinite and not math.isfinite(total_norm):
            raise ArgumentError(
                f"parameters: expected gradients with a finite norm, got {total_norm}"
            )
        factor = max_norm / (total_norm + 1e-6)
        if not factor >= 1:
            if kernels is None:
                for grad in grads:
                    grad *= factor
            else:
                _native_scale(kernels, grads, factor)
    return total_norm


def clip_grad_value_(parameters: Tensor | Iterable[Tensor], clip_value: float) -> None:
    """Clip every element of every gradient to [-clip_value, clip_value]; NaN stays NaN.

    Raises ArgumentError for a negative or NaN ``clip_value``.
    """
    check_number("clip_value", clip_value)
    with np.errstate(over="ignore"):  # a bound beyond float32 is none
        for grad in _grads(parameters):
            np.clip(grad, -float(clip_value), float(clip_value), out=grad)


def _grads(parameters: Tensor | Iterable[Tensor]) -> list[np.ndarray]:
    if isinstance(parameters, Tensor):
        parameters = [parameters]
    if isinstance(parameters, str | Module) or not isinstance(parameters, Iterable):
        raise ArgumentError(
            "parameters: expected Tensors, such as module.parameters(), "
            f"got {type(parameters).__name__}"
        )
    parameters = list(parameters)
    for position, param in enumerate(parameters):
        if not isinstance(param, Tensor):
            raise ArgumentError(
                f"parameters[{position}]: expected a Tensor, got {type(param).__name__}"
            )
    return [param.grad.data for param in parameters if param.grad is not None]


def _obstacle(grads: list[np.ndarray], norm_type: float) -> str | None:
    """Why the kernels cannot take these gradients, or None."""
    if norm_type != 2.0:
        return "there is a kernel for norm_type 2 only"
    for grad in grads:
        flags = grad.flags
        if not (flags.c_contiguous and flags.aligned):
            return "a gradient is not contiguous"
    return None


def _by_dtype(grads: list[np.ndarray]) -> dict[str, list[np.ndarray]]:
    groups: dict[str, list[np.ndarray]] = {}
    for grad in grads:
        groups.setdefault(grad.dtype.name, []).append(grad)
    return groups


def _native_norm(kernels: Any, grads: list[np.ndarray]) -> float:
    threads = backend.get_num_threads()
    groups = _by_dtype(grads).items()
    return math.sqrt(sum(kernels.squared_norm(dtype, threads, group) for dtype, group in groups))


def _native_scale(kernels: Any, grads: list[np.ndarray], factor: float) -> None:
    for dtype, group in _by_dtype(grads).items():
        kernels.scale(dtype, backend.get_num_threads(), group, factor)


def _total_norm(grads: list[np.ndarray], norm_type: float) -> float:
    if norm_type != 2.0:
        return _scaled_norm(grads, norm_type)
    # einsum converts to float64 block by block, so no large temporary is made.
    flat = [grad.reshape(-1) for grad in grads]
    return math.sqrt(sum(np.einsum("i,i->", grad, grad, dtype=np.float64) for grad in flat))


def _scaled_norm(grads: list[np.ndarray], norm_type: float) -> float:
    """In units of the largest, of which no power overflows, and not all vanish."""
    # np.max, unlike max(), hands a NaN through.
    largest = float(np.max([np.max(np.abs(grad), initial=0.0) for grad in grads], initial=0.0))
    if norm_type == math.inf or not 0 < largest < math.inf:
        return largest
    shares = (np.abs(grad).astype(np.float64) / largest for grad in grads)
    try:
        return largest * float(sum(np.sum(share**norm_type) for share in shares)) ** (1 / norm_type)
    except OverflowError:
        return math.inf
