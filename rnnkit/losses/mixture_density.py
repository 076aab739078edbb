"""Mixtures of Gaussians as the output of a network, and pen strokes drawn by one.

Bishop 1994, "Mixture density networks", with a deviation for each axis; and Graves 2013 (arXiv
1308.0850, equations 16-25): bivariate Gaussians whose axes are correlated, and the end of a stroke.
The last axis of what the network gives, for M components over D axes, holds

    M       w     pi = softmax(w)                       weights of the components
    M * D   mu    component after component, its axes beside each other
    M * D   s     sigma = FLOOR + exp(s)                in the same order
    M       r     rho = (1 - GAP) tanh(r)               strokes only, where D is 2
    1       e     P(end of stroke) = sigmoid(e)         strokes only

Graves has sigma = exp(s), rho = tanh(r) and 1 / (1 + exp(e)). FLOOR keeps a component from
shrinking onto one point of the data, where its density has no bound; GAP does so across a diagonal.

With z = (x - mu) / sigma, the exponent of the correlated Gaussian is

    -((z_1 - z_2)^2 / (1 - rho) + (z_1 + z_2)^2 / (1 + rho)) / 4,

which is Graves' -Z / (2 (1 - rho^2)) without its difference of large numbers; 1 - rho and 1 + rho
come from sigmoid(-2r) and sigmoid(2r), so that nothing cancels near rho = 1 either.
"""

from __future__ import annotations

import math
from typing import TYPE_CHECKING, Any, NamedTuple

import numpy as np

from rnnkit import rng as library
from rnnkit.autograd import no_grad
from rnnkit.checks import check_number, check_size
from rnnkit.errors import ShapeError
from rnnkit.losses.ragged import reduce_over_steps
from rnnkit.losses.reduction import check_input, check_reduction, check_shape, real_like
from rnnkit.losses.regression import binary_cross_entropy_with_logits
from rnnkit.ops import exp, log, log_softmax, logsumexp, sigmoid, softplus, square

if TYPE_CHECKING:
    from numpy.random import Generator
    from numpy.typing import ArrayLike

    from rnnkit.autograd import Tensor

FLOOR = 1e-4
"""The smallest deviation, in the units of the targets."""
GAP = 1e-4
"""The smallest 1 - |rho|."""

_LOG_2_PI = math.log(2 * math.pi)


class _Mixture(NamedTuple):
    log_weights: Tensor  # (..., M)
    means: Tensor  # (..., M, D)
    log_sigmas: Tensor  # (..., M, D)


def gaussian_mixture_nll(
    input: ArrayLike | Tensor,
    target: ArrayLike | Tensor,
    lengths: ArrayLike | Tensor | None = None,
    *,
    components: int,
    reduction: str = "mean",
) -> Tensor:
    """Negative log density, in nats, of points under mixtures of diagonal Gaussians.

    Source: Bishop 1994, "Mixture density networks", NCRG/94/004, with a deviation for each axis.

    Args:
        input: (..., M (1 + 2 D)), what a linear layer gives; the module's docstring tells its
            order. (T, N, M (1 + 2 D)) with lengths.
        target: points (..., D), of the dtype of input. Both are differentiated.
        lengths: (N,) integers from 0 to T. Steps past the end of a row are never read, NaN in them
            included, and their gradient is exactly 0.
        components: M.
        reduction: "mean" over the points, "sum", or "none".

    Returns:
        a scalar, or (...) with reduction "none", 0 past the end of a row. The mean of nothing is
        NaN.

    Raises:
        ShapeError: the shapes of input and target do not fit each other and components.
        DTypeError: not float32 or float64, or not both the same; lengths that are not integers.
        ArgumentError: components below 1; an unknown reduction; a length outside [0, T].
    """
    check_reduction(reduction)
    raw = check_input(input)
    points = real_like("target", target, raw)
    M = check_size("components", components)
    if points.ndim == 0 or points.shape[-1] == 0:
        raise ShapeError(f"target: expected (..., D) with an axis or more, got {points.shape}")
    D = points.shape[-1]
    _check_outputs(raw, M * (1 + 2 * D), f"{M} components over {D} axes")
    check_shape("target", points, (*raw.shape[:-1], D), "input without its last axis, and D")

    def nll(raw: Tensor, points: Tensor) -> Tensor:
        mixture = _parse(raw, M, D)
        z = _standardised(points, mixture)
        densities = -0.5 * square(z).sum(-1) - mixture.log_sigmas.sum(-1) - 0.5 * D * _LOG_2_PI
        return -logsumexp(mixture.log_weights + densities, -1)

    return reduce_over_steps(nll, (raw, points), lengths, reduction)


def handwriting_nll(
    input: ArrayLike | Tensor,
    target: ArrayLike | Tensor,
    lengths: ArrayLike | Tensor | None = None,
    *,
    components: int | None = None,
    reduction: str = "mean",
) -> Tensor:
    """Negative log density, in nats, of pen movements: Graves 2013, equation 26.

    Source: Graves 2013, arXiv 1308.0850, section 4.1.

    Args:
        input: (..., 6 M + 1), what a linear layer gives; the module's docstring tells its order.
            (T, N, 6 M + 1) with lengths.
        target: (..., 3), of the dtype of input: the movement (dx, dy) and whether the stroke ends
            with it, 1 or 0. Movements should have a deviation of about 1. Both are differentiated.
        lengths: (N,) integers from 0 to T. Steps past the end of a row are never read, NaN in them
            included, and their gradient is exactly 0.
        components: M; by default what the last axis of input has room for.
        reduction: "mean" over the steps, "sum" (Graves reports it per sequence), or "none".

    Returns:
        a scalar, or (...) with reduction "none", 0 past the end of a row. The mean of nothing is
        NaN.

    Raises:
        ShapeError: input does not end in 6 M + 1, or target is not (..., 3).
        DTypeError: not float32 or float64, or not both the same; lengths that are not integers.
        ArgumentError: components below 1; an unknown reduction; a length outside [0, T].
    """
    check_reduction(reduction)
    raw = check_input(input)
    strokes = real_like("target", target, raw)
    M = _stroke_components(raw, components)
    check_shape("target", strokes, (*raw.shape[:-1], 3), "input without its last axis, and 3")

    def nll(raw: Tensor, strokes: Tensor) -> Tensor:
        mixture = _parse(raw, M, 2)
        z = _standardised(strokes[..., :2], mixture)
        below, above = _gaps(raw, M)
        across, along = z[..., 0] - z[..., 1], z[..., 0] + z[..., 1]
        densities = (
            -0.25 * (square(across) / below + square(along) / above)
            - 0.5 * (log(below) + log(above))
            - mixture.log_sigmas.sum(-1)
            - _LOG_2_PI
        )
        ends = binary_cross_entropy_with_logits(raw[..., -1], strokes[..., 2], reduction="none")
        return ends - logsumexp(mixture.log_weights + densities, -1)

    return reduce_over_steps(nll, (raw, strokes), lengths, reduction)


def sample_gaussian_mixture(
    input: ArrayLike | Tensor,
    rng: Generator | None = None,
    *,
    components: int,
    bias: float = 0.0,
) -> np.ndarray:
    """Points drawn from the mixtures of `gaussian_mixture_nll`, (..., D) in the dtype of input.

    Args:
        input: (..., M (1 + 2 D)), M = components; D follows from them.
        rng: what it is drawn with; the library's generator by default.
        bias: b >= 0 as in `sample_handwriting`.

    Raises:
        ShapeError: the last axis of input is not M (1 + 2 D) for a D of 1 or more.
        DTypeError: not float32 or float64.
        ArgumentError: components below 1, a negative bias.
    """
    raw = check_input(input)
    M = check_size("components", components)
    last = raw.shape[-1] if raw.ndim else 0
    D = (last // M - 1) // 2
    if D < 1 or last != M * (1 + 2 * D):
        raise ShapeError(
            f"input: expected (..., {M} (1 + 2 D)) for {M} components, got shape {raw.shape}"
        )
    means, sigmas, generator = _drawn_component(raw, M, D, rng, bias)[:3]
    points = means + sigmas * generator.standard_normal(means.shape)
    return points.astype(raw.dtype)


def sample_handwriting(
    input: ArrayLike | Tensor, rng: Generator | None = None, bias: float = 0.0
) -> np.ndarray:
    """Pen movements (..., 3) drawn from what `handwriting_nll` takes, in the dtype of input.

    Args:
        input: (..., 6 M + 1).
        rng: what it is drawn with; the library's generator by default.
        bias: b >= 0; the larger, the tidier and the less varied. Graves 2013, equations 61 and 62:
            sigma = exp(s - b), pi = softmax(w (1 + b)).

    Raises:
        ShapeError: the last axis of input is not 6 M + 1.
        DTypeError: not float32 or float64.
        ArgumentError: a negative bias.
    """
    raw = check_input(input)
    M = _stroke_components(raw, None)
    means, sigmas, generator, chosen = _drawn_component(raw, M, 2, rng, bias)
    with no_grad():
        gaps = [_picked(gap.data.astype(np.float64), chosen) for gap in _gaps(raw, M)]
        end = sigmoid(raw[..., -1]).data
    below, above = gaps
    # With independent unit normals a and b, (z_1 + z_2, z_1 - z_2) = sqrt(2) (sqrt(1 + rho) a,
    # sqrt(1 - rho) b).
    a, b = generator.standard_normal((2, *below.shape))
    along, across = np.sqrt(above / 2) * a, np.sqrt(below / 2) * b
    strokes = np.empty((*raw.shape[:-1], 3), raw.dtype)
    strokes[..., 0] = means[..., 0] + sigmas[..., 0] * (along + across)
    strokes[..., 1] = means[..., 1] + sigmas[..., 1] * (along - across)
    strokes[..., 2] = generator.random(end.shape) < end
    return strokes


def _check_outputs(raw: Tensor, size: int, why: str) -> None:
    if raw.ndim == 0 or raw.shape[-1] != size:
        raise ShapeError(f"input: expected (..., {size}) for {why}, got shape {raw.shape}")


def _stroke_components(raw: Tensor, components: int | None) -> int:
    if components is not None:
        M = check_size("components", components)
        _check_outputs(raw, 6 * M + 1, f"{M} components")
        return M
    if raw.ndim == 0 or raw.shape[-1] < 7 or raw.shape[-1] % 6 != 1:
        raise ShapeError(f"input: expected (..., 6 M + 1), got shape {raw.shape}")
    return raw.shape[-1] // 6


def _parse(raw: Tensor, M: int, D: int, bias: float = 0.0) -> _Mixture:
    lead = raw.shape[:-1]
    s = raw[..., M + M * D : M + 2 * M * D].reshape(*lead, M, D)
    weights = raw[..., :M]
    floor = math.log(FLOOR)
    return _Mixture(
        log_softmax(weights * (1 + bias) if bias else weights, -1),
        raw[..., M : M + M * D].reshape(*lead, M, D),
        # log(FLOOR + exp(s - bias)), which overflows nowhere.
        softplus(s - (bias + floor)) + floor,
    )


def _gaps(raw: Tensor, M: int) -> tuple[Tensor, Tensor]:
    """1 - rho and 1 + rho, (..., M)."""
    r = raw[..., 5 * M : 6 * M]
    scale = 2 * (1 - GAP)
    return sigmoid(-2 * r) * scale + GAP, sigmoid(2 * r) * scale + GAP


def _standardised(points: Tensor, mixture: _Mixture) -> Tensor:
    return (points.unsqueeze(-2) - mixture.means) * exp(-mixture.log_sigmas)


def _drawn_component(
    raw: Tensor, M: int, D: int, rng: Generator | None, bias: float
) -> tuple[np.ndarray, np.ndarray, Generator, np.ndarray]:
    """Means and sigmas (..., D) of a component drawn for each point, the generator, its number."""
    check_number("bias", bias, below_high=True)
    generator = library.given_or_own(rng)
    with no_grad():
        mixture = _parse(raw, M, D, bias)
        means, sigmas = mixture.means.data, exp(mixture.log_sigmas).data
    upper = np.cumsum(np.exp(mixture.log_weights.data.astype(np.float64)), axis=-1)
    # The last bound is 1 but for rounding: measured by it, no draw falls past the last component.
    drawn = generator.random(upper.shape[:-1])[..., None] * upper[..., -1:]
    chosen = (drawn >= upper).sum(-1)
    return _picked(means, chosen), _picked(sigmas, chosen), generator, chosen


def _picked(values: np.ndarray, chosen: np.ndarray) -> Any:
    """values[..., chosen], of values (..., M) or (..., M, D)."""
    index = chosen.reshape(*chosen.shape, *[1] * (values.ndim - chosen.ndim))
    picked = np.take_along_axis(values, index, axis=chosen.ndim)
    return picked.squeeze(chosen.ndim)
