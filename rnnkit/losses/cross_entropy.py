"""The fused softmax and cross entropy, forward and backward.

For one row with logits x (C,), target t, class weights w, smoothing s:

    q_j  = h [j = t] + r_j,   h = (1 - s) w_t,   r_j = s / C w_j      (all 0 in an ignored row)
    loss = sum_j q_j (-log p_j),   p = softmax(x)
    d_x  = d_loss (Q p - q),   Q = sum_j q_j

Nothing of the size of the logits is kept for backward: the softmax is computed again, by the kernel
from m and S of each row. With m the largest logit and S the sum of exp(x_j - m) over the others,
-log p_j is (m - x_j) + log1p(S), and at the target Q p_t - h is R p_t - h (1 - p_t), R = sum_j r_j,
with 1 - p_t summed over the other classes. Nothing cancels, so losses and gradients far below the
rounding of 1 come out right.
"""

from __future__ import annotations

from copy import copy
from typing import TYPE_CHECKING, Any

import numpy as np

from rnnkit import backend
from rnnkit.autograd.primitive import primitive
from rnnkit.ops import gather, softmax, where

if TYPE_CHECKING:
    from collections.abc import Sequence

    from rnnkit.autograd import Tensor


class ClassTargets:
    """Checked targets of rows (...) with C classes.

    Attributes:
        ids: (...) the class of each row, 0 where it is ignored.
        kept: (...) False where the row is ignored.
        hit: (...) h, the share of the target class.
        rest: (C,) r, the share that label smoothing gives every class, or None without it.
        spread: R, the sum of rest.
        total: (...) Q.
        divisor: what a mean divides by: the weights of the targets kept.
    """

    __slots__ = ("divisor", "hit", "ids", "kept", "rest", "spread", "total")

    def __init__(
        self, ids: np.ndarray, kept: np.ndarray, weights: np.ndarray, label_smoothing: float
    ) -> None:
        of_rows = kept.astype(weights.dtype)
        of_targets = weights[ids] * of_rows
        self.ids = ids
        self.kept = kept
        self.divisor = float(of_targets.sum(dtype=np.float64))
        self.hit = self.total = of_targets
        self.rest: np.ndarray | None = None
        self.spread = weights.dtype.type(0)
        if label_smoothing:
            self.hit = of_targets * (1 - label_smoothing)
            self.rest = weights * (label_smoothing / len(weights))
            self.spread = self.rest.sum()
            self.total = self.hit + self.spread * of_rows

    def part(self, rows: slice) -> ClassTargets:
        """The targets of some rows, the rows counted over all leading axes."""
        part = copy(self)
        for name in ("ids", "kept", "hit", "total"):
            setattr(part, name, getattr(self, name).reshape(-1)[rows])
        return part

    def arrays(self) -> dict[str, Any]:
        """What the kernels want, by its names in csrc/training.h."""
        return {
            "target": np.ascontiguousarray(self.ids, np.int64),
            "kept": np.ascontiguousarray(self.kept),
            "hit": np.ascontiguousarray(self.hit),
            "total": np.ascontiguousarray(self.total),
            "rest": self.rest,
            "spread": float(self.spread),
        }


def cross_entropy_of_rows(logits: Tensor, targets: ClassTargets) -> Tensor:
    """(..., C) -> (...)"""
    losses, _, _ = fused_cross_entropy(
        logits, targets=targets, kernels=_kernels_for("cross_entropy", logits)
    )
    return losses


def _kernels_for(op: str, logits: Tensor) -> Any:
    # Asked before a primitive runs: within, NumPy's error state is another, and so is the context.
    return backend.kernels_for(op) if logits.size else None


def losses_of_rows(
    logits: np.ndarray, targets: ClassTargets, kernels: Any = None
) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """(..., C) -> the losses (...), and m and S of each row (...)"""
    if kernels is None:
        return _forward_in_numpy(logits, targets)
    x = np.require(logits, requirements=("C", "A"))
    shape = targets.ids.shape
    losses, top, others = (np.empty(shape, x.dtype) for _ in range(3))
    kernels.cross_entropy(
        x.dtype.name, backend.get_num_threads(), x=x, **targets.arrays(),
        loss=losses, top=top, others=others,
    )
    return losses, top, others


def _forward_in_numpy(
    logits: np.ndarray, targets: ClassTargets
) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    x = logits.reshape(-1, logits.shape[-1])
    rows = np.arange(len(x))
    top = x.argmax(axis=1)
    most = x[rows, top]
    work = x - most[:, None]
    losses = -work[rows, targets.ids.reshape(-1)] * targets.hit.reshape(-1)
    if targets.rest is not None:
        losses -= np.einsum("nc,c->n", work, targets.rest)
    np.exp(work, out=work)
    work[rows, top] = 0
    others = work.sum(axis=1) + (most - most)  # NaN where the largest is infinite
    losses += targets.total.reshape(-1) * np.log1p(others)
    losses[~targets.kept.reshape(-1)] = 0
    shape = targets.ids.shape
    return losses.reshape(shape), most.reshape(shape), others.reshape(shape)


def gradient_of_rows(
    d_losses: np.ndarray,
    logits: np.ndarray,
    targets: ClassTargets,
    statistics: Sequence[np.ndarray] = (),
    kernels: Any = None,
    room: np.ndarray | None = None,
) -> np.ndarray:
    """(...), (..., C) -> (..., C)

    `statistics` are m and S of each row of these logits; the kernel wants them. `room`, for the
    result, may be the logits themselves.
    """
    if kernels is None:
        return _backward_in_numpy(d_losses, logits, targets)
    top, others = statistics
    x = np.require(logits, requirements=("C", "A"))
    d_x = np.empty(x.shape, x.dtype) if room is None else room
    kernels.cross_entropy_gradient(
        x.dtype.name, backend.get_num_threads(), x=x, **targets.arrays(), top=top, others=others,
        d_loss=np.require(d_losses, requirements=("C", "A")), d_x=d_x,
    )
    return d_x


def _backward_in_numpy(
    d_losses: np.ndarray, logits: np.ndarray, targets: ClassTargets
) -> np.ndarray:
    x = logits.reshape(-1, logits.shape[-1])
    rows, ids = np.arange(len(x)), targets.ids.reshape(-1)
    hit, total = targets.hit.reshape(-1), targets.total.reshape(-1)
    d = d_losses.reshape(-1)
    work = x - x.max(axis=1, keepdims=True)
    np.exp(work, out=work)
    of_target = work[rows, ids]
    work[rows, ids] = 0
    of_others = work.sum(axis=1)
    scale = d / (of_target + of_others)
    work *= (scale * total)[:, None]
    work[rows, ids] = scale * (targets.spread * of_target - hit * of_others)
    if targets.rest is not None:
        work -= d[:, None] * targets.rest
    work[~targets.kept.reshape(-1)] = 0
    return work.reshape(logits.shape)


# The first has three outputs. Callers see only the losses; the other two are there for its rule.
# Both run in the kernels handed to them, or in NumPy where that is None.
fused_cross_entropy = primitive("cross_entropy", losses_of_rows)
cross_entropy_gradient = primitive("cross_entropy_gradient", gradient_of_rows)


def _d_logits(
    d_outs: tuple[Tensor, ...],
    outs: tuple[Tensor, ...],
    logits: Tensor,
    *,
    targets: ClassTargets,
    **_: Any,
) -> Tensor:
    return cross_entropy_gradient(
        d_outs[0],
        logits,
        targets=targets,
        statistics=(outs[1].data, outs[2].data),
        kernels=_kernels_for("cross_entropy gradient", logits),
    )


def _d_d_losses(
    v: Tensor,
    _: Tensor,
    d_losses: Tensor,
    logits: Tensor,
    *,
    targets: ClassTargets,
    **__: Any,
) -> Tensor:
    along_p = (v * _probabilities(logits, targets)).sum(-1) * targets.total
    along_q = gather(v, -1, targets.ids[..., None]).squeeze(-1) * targets.hit
    if targets.rest is not None:
        along_q = along_q + (v * targets.rest).sum(-1) * targets.kept.astype(v.dtype)
    return along_p - along_q


def _d_gradient_logits(
    v: Tensor,
    _: Tensor,
    d_losses: Tensor,
    logits: Tensor,
    *,
    targets: ClassTargets,
    **__: Any,
) -> Tensor:
    p = _probabilities(logits, targets)
    along_p = v * p
    # The mean of no rows has NaN for each that is ignored.
    scale = where(targets.kept, d_losses, 0.0) * targets.total
    return (along_p - p * along_p.sum(-1, keepdims=True)) * scale.unsqueeze(-1)


def _probabilities(logits: Tensor, targets: ClassTargets) -> Tensor:
    """p, without the logits of ignored rows, of which NaN would outlive a factor of 0."""
    return softmax(where(targets.kept[..., None], logits, 0.0), -1)


fused_cross_entropy.defvjp(_d_logits)
cross_entropy_gradient.defvjp(_d_d_losses, _d_gradient_logits)
