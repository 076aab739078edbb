"""Ops that normalise along axes: softmax and layer normalisation."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np

from rnnkit.autograd.primitive import primitive
from rnnkit.autograd.tensor import wrap
from rnnkit.checks import check_number
from rnnkit.errors import ShapeError
from rnnkit.ops.elementwise import exp
from rnnkit.ops.operands import one_axis, real, same_dtype, sizes
from rnnkit.ops.reductions import mean, sum
from rnnkit.ops.shape import broadcast_to, sum_to
from rnnkit.ops.sums import sum_array

if TYPE_CHECKING:
    from collections.abc import Sequence

    from rnnkit.autograd.tensor import Array, Tensor

# ---- softmax


def _shifted(x: Array, axis: int) -> Array:
    """x minus its largest element, so that no exponential overflows."""
    return x - np.maximum.reduce(x, axis=axis, keepdims=True, initial=-np.inf)


def _softmax_array(x: Array, axis: int) -> Array:
    y = np.exp(_shifted(x, axis))
    y /= sum_array(y, (axis,), True)
    return y


def _log_softmax_array(x: Array, axis: int) -> Array:
    y = _shifted(x, axis)
    y -= np.log(sum_array(np.exp(y), (axis,), True))
    return y


_softmax = primitive("softmax", _softmax_array)
_softmax.defvjp(lambda d_y, y, x, axis: y * (d_y - sum(d_y * y, axis, keepdims=True)))

_log_softmax = primitive("log_softmax", _log_softmax_array)
_log_softmax.defvjp(lambda d_y, y, x, axis: d_y - exp(y) * sum(d_y, axis, keepdims=True))


def softmax(x: Tensor, axis: int = -1) -> Tensor:
    """exp(x) / sum(exp(x)) along `axis`, without overflow."""
    x = real("softmax", x)
    return _softmax(x, axis=one_axis("softmax", axis, x.ndim))


def log_softmax(x: Tensor, axis: int = -1) -> Tensor:
    """log(softmax(x)), exact also where softmax would underflow."""
    x = real("log_softmax", x)
    return _log_softmax(x, axis=one_axis("log_softmax", axis, x.ndim))


# ---- layer normalisation
#
# The primitive has three outputs, y, the mean and 1 / sigma. Callers see only y; the other two are
# there for the rules, which find the statistics computed, and as outputs they are differentiable.


def _layer_norm_array(
    x: Array, weight: Array | None = None, bias: Array | None = None, *, n_axes: int, eps: float
) -> tuple[Array, Array, Array]:
    axes = tuple(range(x.ndim - n_axes, x.ndim))
    count = np.asarray(np.prod([x.shape[i] for i in axes]), x.dtype)
    center = sum_array(x, axes, True) / count
    y = x - center
    variance = sum_array(y * y, axes, True) / count
    scale = 1 / np.sqrt(variance + np.asarray(eps, x.dtype))
    y *= scale
    if weight is not None:
        y *= weight
    if bias is not None:
        y += bias
    return y, center, scale


def _d_layer_norm_x(
    d_outs: tuple[Tensor | None, ...],
    outs: tuple[Tensor, ...],
    x: Tensor,
    weight: Tensor | None = None,
    bias: Tensor | None = None,
    *,
    n_axes: int,
    eps: float,
) -> Tensor:
    """With n elements, s = 1 / sigma, z = (x - mean) s and g = d_y weight:

    d_x = s (g - mean(g) - z mean(g z)) + d_mean / n - d_s s^2 z / n
    """
    d_y, d_center, d_scale = d_outs
    _, center, scale = outs
    axes = range(x.ndim - n_axes, x.ndim)
    count = x.size // max(center.size, 1)
    z = (x - center) * scale
    d_x: Any = 0.0
    if d_y is not None:
        g = d_y if weight is None else d_y * weight
        d_x = scale * (g - mean(g, axes, True) - z * mean(g * z, axes, True))
    if d_center is not None:
        d_x = d_x + d_center / count
    if d_scale is not None:
        d_x = d_x - z * (d_scale * scale * scale / count)
    return broadcast_to(d_x, x.shape)


def _d_layer_norm_weight(
    d_outs: tuple[Tensor | None, ...],
    outs: tuple[Tensor, ...],
    x: Tensor,
    weight: Tensor,
    bias: Tensor | None = None,
    **_: Any,
) -> Tensor | None:
    _y, center, scale = outs
    d_y = d_outs[0]
    return None if d_y is None else sum_to(d_y * ((x - center) * scale), weight.shape)


def _d_layer_norm_bias(
    d_outs: tuple[Tensor | None, ...], _: None, x: Tensor, weight: Tensor, bias: Tensor, **__: Any
) -> Tensor | None:
    d_y = d_outs[0]
    return None if d_y is None else sum_to(d_y, bias.shape)


_layer_norm = primitive("layer_norm", _layer_norm_array)
_layer_norm.defvjp(_d_layer_norm_x, _d_layer_norm_weight, _d_layer_norm_bias)


def layer_norm(
    x: Tensor,
    normalized_shape: int | Sequence[int],
    weight: Tensor | None = None,
    bias: Tensor | None = None,
    eps: float = 1e-5,
) -> Tensor:
    """``(x - mean) / sqrt(var + eps) * weight + bias`` over the last axes.

    Source: Ba, Kiros, Hinton, "Layer Normalization", 2016, arXiv 1607.06450.

    Args:
        x: (..., *normalized_shape).
        normalized_shape: sizes of the last axes, over which the mean and the biased variance run.
        weight, bias: of shape `normalized_shape`, or None.
        eps: added to the variance.

    Raises:
        ShapeError: `x`, `weight` or `bias` do not end in `normalized_shape`.
        DTypeError: an operand is not of floats, or the dtypes differ.
        ArgumentError: `eps` is negative or no number.
    """
    shape = sizes("layer_norm", (normalized_shape,), "normalized_shape")
    x = real("layer_norm", x)
    if not shape or x.shape[-len(shape) :] != shape:
        raise ShapeError(f"layer_norm: x: expected the last axes {shape}, got shape {x.shape}")
    for what, parameter in (("weight", weight), ("bias", bias)):
        found = getattr(parameter, "shape", parameter)
        if found is not None and found != shape:
            raise ShapeError(f"layer_norm: {what}: expected {shape}, got {found!r}")
    if bias is not None and weight is None:
        weight = wrap(np.ones(shape, x.dtype))
    check_number("layer_norm: eps", eps)
    given = [operand for operand in (x, weight, bias) if operand is not None]
    y, _, _ = _layer_norm(*same_dtype("layer_norm", *given), n_axes=len(shape), eps=eps)
    return y
