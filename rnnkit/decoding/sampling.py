"""Drawing a symbol from scores."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np

from rnnkit import rng as library
from rnnkit.autograd.tensor import plain_array
from rnnkit.checks import check_number, check_size
from rnnkit.errors import ArgumentError, DTypeError, ShapeError

if TYPE_CHECKING:
    from numpy.typing import ArrayLike

    from rnnkit.autograd import Tensor
    from rnnkit.autograd.tensor import Array


def choose(
    logits: ArrayLike | Tensor,
    temperature: float,
    rng: np.random.Generator | None = None,
    top_k: int | None = None,
    top_p: float | None = None,
) -> Any:
    """Draw ids with the probabilities softmax(logits / temperature).

    Args:
        logits: (..., V) scores, or log-probabilities; -inf for what must not be drawn.
        temperature: 1 draws what the model believes, less is more cautious, 0 always takes the
            largest (the first of equal ones).
        rng: gives one number for each id, none with temperature 0; None: the library's.
        top_k: how many of the largest may be drawn, and what equals the last of them; None: all.
        top_p: only the fewest of the largest may be drawn whose probabilities, after temperature
            and ``top_k``, reach this sum; None: all. Holtzman et al. 2020, "The curious case of
            neural text degeneration", arXiv 1904.09751.

    Returns:
        an int for logits (V,), else int64 (...).

    Raises:
        ShapeError: no logits.
        DTypeError: logits that are not floats.
        ArgumentError: a temperature that is negative or not finite; a top_k below 1; a top_p
            outside (0, 1]; an rng that is no generator; NaN or +inf among the
            logits, or nothing but -inf.
    """
    check_temperature(temperature)
    if top_k is not None:
        check_size("top_k", top_k)
    if top_p is not None:
        check_number("top_p", top_p, high=1.0, above_low=True)
    source = library.given_or_own(rng)
    scores = plain_array("logits", logits)
    if scores.dtype.kind != "f":
        raise DTypeError(f"logits: expected floats, got {scores.dtype}")
    if not scores.ndim or not scores.shape[-1]:
        raise ShapeError(f"logits: expected (..., V) with a score or more, got {scores.shape}")
    scores = scores.astype(np.float64)
    largest = scores.max(-1, keepdims=True)
    if not np.isfinite(largest).all():
        wrong = largest[~np.isfinite(largest)].flat[0]
        raise ArgumentError(f"logits: expected a finite largest score, got {wrong}")
    if temperature == 0.0:
        chosen = scores.argmax(-1)
    else:
        with np.errstate(over="ignore", under="ignore"):  # far below the largest: a weight of 0
            weights = np.exp((scores - largest) / temperature)
        if top_k is not None and top_k < scores.shape[-1]:
            least = np.partition(weights, -top_k, -1)[..., -top_k, None]
            weights[weights < least] = 0.0
        if top_p is not None:
            _keep_nucleus(weights, top_p)
        chosen = _draw(weights, source)
    return int(chosen) if scores.ndim == 1 else chosen


def check_temperature(temperature: float) -> None:
    """Raises ArgumentError for what is not a finite number from 0."""
    check_number("temperature", temperature, below_high=True)


def _keep_nucleus(weights: Array, top_p: float) -> None:
    """Zeroes all but the fewest of the largest whose share of the sum reaches ``top_p``."""
    order = np.argsort(-weights, -1, kind="stable")
    sorted_weights = np.take_along_axis(weights, order, -1)
    before = np.cumsum(sorted_weights, -1) - sorted_weights
    sorted_weights[before >= top_p * weights.sum(-1, keepdims=True)] = 0.0
    np.put_along_axis(weights, order, sorted_weights, -1)


def _draw(weights: Array, rng: np.random.Generator) -> Array:
    cumulative = np.cumsum(weights, -1)
    drawn = rng.random(weights.shape[:-1])[..., None] * cumulative[..., -1:]
    # The largest number below 1 times the sum is still below it, so what is drawn has a weight.
    chosen: Array = (cumulative <= drawn).sum(-1)
    return chosen
