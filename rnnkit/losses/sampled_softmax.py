"""Softmax cross entropy over a few sampled classes instead of all of a large vocabulary.

With scores s, target t and S candidates k drawn with the probabilities q, each with replacement,

    Z' = exp(s_t) + 1 / S  sum over candidates k != t of exp(s_k) / q_k
    loss = -s_t + log Z'

Each candidate's score is lowered by log(S q_k), the "log Q correction"; a candidate that is the
target itself, an accidental hit, is removed. The expectation of Z' is the softmax's own sum Z, so
that loss and gradient tend to those of the full softmax with many candidates, from below: log Z' is
log Z on average, less a bias of the order of 1 / S.

Bengio and Senecal 2008, "Adaptive importance sampling to accelerate training of a neural
probabilistic language model", section III; Jean, Cho, Memisevic and Bengio 2015, arXiv 1412.2007,
section 3.
"""

from __future__ import annotations

import math
from typing import TYPE_CHECKING, Any, Protocol

import numpy as np

from rnnkit import rng as library
from rnnkit.autograd.tensor import float64_array
from rnnkit.checks import check_fits, check_integer, check_size
from rnnkit.errors import ArgumentError, ShapeError
from rnnkit.losses.classification import check_class_ids, cross_entropy
from rnnkit.losses.reduction import check_linear, check_reduction
from rnnkit.ops import cat, embedding, linear, where
from rnnkit.ops.operands import ids as integer_array

if TYPE_CHECKING:
    from numpy.random import Generator
    from numpy.typing import ArrayLike

    from rnnkit.autograd import Tensor


class Sampler(Protocol):
    """What `sampled_softmax_loss` draws its candidates from.

    Attributes:
        classes: V; ids are from 0 to V - 1.
    """

    classes: int

    def sample(self, count: int, rng: Generator) -> np.ndarray:
        """``count`` ids drawn independently, int64 (count,)."""
        ...

    def log_probability(self, ids: np.ndarray) -> np.ndarray:
        """log q of ids (...) from 0 to V - 1, float64 (...)."""
        ...


class LogUniformSampler:
    """Zipf's law: q_k = log((k + 2) / (k + 1)) / log(V + 1), of ids sorted by falling frequency.

    A draw costs the same whatever V is. Raises ArgumentError for classes below 1.
    """

    def __init__(self, classes: int) -> None:
        self.classes = check_size("classes", classes)

    def sample(self, count: int, rng: Generator) -> np.ndarray:
        count, rng = _checked_count(count), library.given_or_own(rng)
        # The inverse of P(id < k) = log(k + 1) / log(V + 1).
        ids = np.expm1(rng.random(count) * math.log1p(self.classes)).astype(np.int64)
        return np.minimum(ids, self.classes - 1)  # rounding may reach V

    def log_probability(self, ids: np.ndarray) -> np.ndarray:
        ids = _checked_ids(ids, self.classes).astype(np.float64)
        return np.log(np.log1p(1 / (ids + 1)) / math.log1p(self.classes))


class DistributionSampler:
    """Any distribution, such as the counts of the words (V,), which need not sum to 1.

    A class of weight 0 is never drawn: the loss then knows it as a target only.

    Raises:
        ShapeError: weights that are not one axis, or empty.
        ArgumentError: a negative or non-finite weight, or all of them 0.
    """

    def __init__(self, weights: ArrayLike) -> None:
        values = float64_array("weights", weights)
        if values.ndim != 1 or not values.size:
            raise ShapeError(f"weights: expected (V,), one per class, got shape {values.shape}")
        total = values.sum()
        if not (values >= 0).all() or not 0 < total < math.inf:
            raise ArgumentError("weights: expected numbers >= 0 with a positive, finite sum")
        self.classes = len(values)
        # Divided by its own last element, it ends in exactly 1, above every draw.
        upper = np.cumsum(values)
        self._upper = upper / upper[-1]
        with np.errstate(divide="ignore"):
            self._log_probabilities = np.log(values / total)

    def sample(self, count: int, rng: Generator) -> np.ndarray:
        count, rng = _checked_count(count), library.given_or_own(rng)
        return np.searchsorted(self._upper, rng.random(count), side="right").astype(np.int64)

    def log_probability(self, ids: np.ndarray) -> np.ndarray:
        return self._log_probabilities[_checked_ids(ids, self.classes)]


def _checked_count(count: int) -> int:
    count = check_integer("count", count, 0)
    check_fits("count", count, 8)
    return count


def _checked_ids(ids: Any, classes: int) -> np.ndarray:
    """As an array. Raises DTypeError, ArgumentError for what are no ids of that many classes."""
    array = integer_array("log_probability", ids, "ids")
    if array.size and not 0 <= array.min() <= array.max() < classes:
        raise ArgumentError(
            f"log_probability: ids: expected values in [0, {classes}), got {array.min()} to "
            f"{array.max()}"
        )
    return array


def sampled_softmax_loss(
    input: ArrayLike | Tensor,
    weight: ArrayLike | Tensor,
    target: ArrayLike | Tensor,
    bias: ArrayLike | Tensor | None = None,
    *,
    samples: int,
    sampler: Sampler | None = None,
    reduction: str = "mean",
    rng: Generator | None = None,
) -> Tensor:
    """An estimate of ``linear_cross_entropy(input, weight, target, bias)`` for training.

    Only the rows of weight and bias that belong to targets and candidates are read, and only they
    get gradients other than 0. The candidates are drawn once for all rows. To judge a model, take
    the full loss: this one is below it. The equations and their sources stand in the module.

    Args:
        input: (..., H), float32 or float64.
        weight: (V, H), of the dtype of input.
        target: integer ids (...) in [0, V).
        bias: (V,) or None.
        samples: S, how many candidates are drawn.
        sampler: where from; by default `LogUniformSampler` over V classes.
        reduction: "mean" over the rows, "sum", or "none".
        rng: what is drawn with; the library's generator by default.

    Returns:
        a scalar, or (...) with reduction "none". The mean of no rows is NaN.

    Raises:
        ShapeError: weight is not (V, H), bias not (V,), target not of input's shape without H.
        DTypeError: not float32 or float64, or not all the same; a target that is not of integers.
        ArgumentError: a target outside [0, V), samples below 1, a sampler of other classes, an
            unknown reduction.
    """
    check_reduction(reduction)
    x, w, b = check_linear(input, weight, bias, "V")
    V, H = w.shape
    lead = x.shape[:-1]
    ids = check_class_ids(target, lead, V).reshape(-1).astype(np.int64)
    check_size("samples", samples)
    sampler = LogUniformSampler(V) if sampler is None else sampler
    classes = getattr(sampler, "classes", None)
    if classes != V:
        raise ArgumentError(
            f"sampler: expected one of {V} classes, got "
            + (f"{sampler!r}" if classes is None else f"one of {classes}")
        )
    candidates = sampler.sample(samples, library.given_or_own(rng))
    log_expected = math.log(samples) + sampler.log_probability(candidates)

    rows = x.reshape(len(ids), H)
    of_targets = (rows * embedding(ids, w)).sum(-1, keepdims=True)
    of_candidates = linear(rows, embedding(candidates, w))
    if b is not None:
        of_targets = of_targets + b[ids].unsqueeze(-1)
        of_candidates = of_candidates + b[candidates]
    of_candidates = of_candidates - log_expected.astype(x.dtype)
    scores = where(ids[:, None] == candidates, -np.inf, of_candidates)
    losses = cross_entropy(
        cat([of_targets, scores], 1), np.zeros(len(ids), np.int64), reduction=reduction
    )
    return losses.reshape(lead) if reduction == "none" else losses
