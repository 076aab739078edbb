"""A linear layer to class scores and their cross entropy in one, a chunk of rows at a time.

With many classes the logits are by far the largest array of a training step. Here those of one
chunk exist at a time. Where one number is wanted, the gradients are made chunk by chunk in the
forward pass, while the logits are there (Hsu et al. 2024, Liger Kernel, arXiv 2410.10989); backward
only scales them. Where the loss of every row is wanted, backward computes the logits again.
"""

from __future__ import annotations

from itertools import pairwise
from typing import TYPE_CHECKING, Any

import numpy as np

from rnnkit import backend
from rnnkit.autograd import Function, grad, is_grad_enabled
from rnnkit.autograd.function import Alias
from rnnkit.autograd.tensor import wrap
from rnnkit.backend.products import matmul, matmul_into
from rnnkit.checks import check_size
from rnnkit.losses.classification import check_class_targets, check_smoothing
from rnnkit.losses.cross_entropy import (
    cross_entropy_of_rows,
    gradient_of_rows,
    losses_of_rows,
)
from rnnkit.losses.reduction import check_linear, check_reduction, reduce
from rnnkit.ops import linear

if TYPE_CHECKING:
    from collections.abc import Iterator

    from numpy.typing import ArrayLike

    from rnnkit.autograd import Tensor
    from rnnkit.autograd.tensor import Array
    from rnnkit.losses.cross_entropy import ClassTargets

CHUNK_BYTES, LEAST_ROWS = 16 << 20, 256


def linear_cross_entropy(
    input: ArrayLike | Tensor,
    weight: ArrayLike | Tensor,
    target: ArrayLike | Tensor,
    bias: ArrayLike | Tensor | None = None,
    *,
    class_weight: ArrayLike | Tensor | None = None,
    ignore_index: int = -100,
    reduction: str = "mean",
    label_smoothing: float = 0.0,
    chunk_rows: int | None = None,
) -> Tensor:
    """``cross_entropy(linear(input, weight, bias), target, ...)`` without all the logits at once.

    Args:
        input: (..., H), float32 or float64.
        weight: (C, H), of the dtype of input; H and C as in ``nn.Linear(H, C)``.
        target: integer ids (...) in [0, C), or ``ignore_index``.
        bias: (C,) or None.
        class_weight: ``weight`` of `cross_entropy`: one constant factor per class, (C,).
        ignore_index, reduction, label_smoothing: as in `cross_entropy`.
        chunk_rows: how many rows have their logits in memory at a time. By default as many as fit
            16 MiB, and at least 256: fewer would pay for reading the weights so often.

    Returns:
        a scalar, or (...) with reduction "none"; equal to the composition to rounding.

    Raises:
        ShapeError: weight is not (C, H), bias not (C,), target not of input's shape without H.
        DTypeError, ArgumentError: as `cross_entropy`; chunk_rows below 1.
    """
    check_reduction(reduction)
    check_smoothing(label_smoothing)
    x, w, b = check_linear(input, weight, bias, "C")
    classes = w.shape[0]
    targets = check_class_targets(
        (*x.shape[:-1], classes), x, target, class_weight, ignore_index, label_smoothing,
        name="class_weight",
    )
    if chunk_rows is None:
        chunk_rows = max(LEAST_ROWS, CHUNK_BYTES // (classes * x.dtype.itemsize))
    check_size("chunk_rows", chunk_rows)
    kernels = backend.kernels_for("linear_cross_entropy") if x.size else None
    result: Tensor = LinearCrossEntropy.apply(
        x, w, b, targets=targets, reduction=reduction, chunk_rows=chunk_rows, kernels=kernels
    )
    return result


class LinearCrossEntropy(Function):
    """Inputs x (..., H), weight (C, H), bias (C,) or None; output the losses (...), reduced."""

    @staticmethod
    @np.errstate(all="ignore")
    def forward(ctx: Any, x: Array, weight: Array, bias: Array | None, **params: Any) -> Array:
        targets, reduction = params["targets"], params["reduction"]
        ctx.params, ctx.gradients = params, None
        ctx.chunks = chunks = _Chunks(x, weight, bias, params)
        losses = np.empty(len(chunks.x), x.dtype)
        if reduction == "none":
            for rows, logits, part in chunks:
                losses[rows], *_ = losses_of_rows(logits, part, chunks.kernels)
            return losses.reshape(targets.ids.shape)
        factor = x.dtype.type(_factor(reduction, targets))
        if any(ctx.needs_input_grad):
            ctx.gradients = _Gradients(chunks, ctx.needs_input_grad)
        d_losses = np.full(len(losses), factor)
        for rows, logits, part in chunks:
            losses[rows], *statistics = losses_of_rows(logits, part, chunks.kernels)
            if ctx.gradients is not None:
                ctx.gradients.add(rows, logits, part, d_losses[rows], statistics)
        return np.asarray(losses.sum() * factor)

    @staticmethod
    @np.errstate(all="ignore")
    def backward(ctx: Any, d_out: Tensor) -> tuple[Tensor | None, ...]:
        if is_grad_enabled():
            return _backward_on_tape(ctx, d_out)
        if ctx.gradients is None:
            chunks: _Chunks = ctx.chunks
            gradients = _Gradients(chunks, ctx.needs_input_grad)
            d_losses = np.ascontiguousarray(d_out.data).reshape(-1)
            for rows, logits, part in chunks:
                _, *statistics = losses_of_rows(logits, part, chunks.kernels)
                gradients.add(rows, logits, part, d_losses[rows], statistics)
            found = gradients.arrays
        else:
            found = ctx.gradients.arrays
            if d_out.data != 1 or ctx.retain_graph:
                found = [None if a is None else a * d_out.data for a in found]
        shapes = [None if t is None else t.shape for t in ctx.inputs]
        return tuple(
            None if a is None else wrap(a.reshape(shape))
            for a, shape in zip(found, shapes, strict=True)
        )


def _factor(reduction: str, targets: ClassTargets) -> float:
    """What the sum of the losses is multiplied by; NaN for the mean of nothing."""
    if reduction == "sum":
        return 1.0
    return 1 / targets.divisor if targets.divisor else float("nan")


class _Chunks:
    """The logits of some rows after those of others: iterated, (rows, logits, targets of these)."""

    def __init__(
        self, x: Array, weight: Array, bias: Array | None, params: dict[str, Any]
    ) -> None:
        self.x = np.ascontiguousarray(x).reshape(-1, x.shape[-1])
        self.weight = weight
        self.bias = bias
        self.targets: ClassTargets = params["targets"]
        self.chunk_rows: int = params["chunk_rows"]
        self.kernels = params["kernels"]

    def __iter__(self) -> Iterator[tuple[slice, Array, ClassTargets]]:
        # Chunks of about one size: a short last one would pay for the weights like any other.
        chunks = -(-len(self.x) // self.chunk_rows)
        bounds = [len(self.x) * i // chunks for i in range(chunks + 1)] if chunks else []
        for first, last in pairwise(bounds):
            rows = slice(first, last)
            yield rows, matmul(self.x[rows], self.weight.T, self.bias), self.targets.part(rows)


class _Gradients:
    """Gradients gathered chunk by chunk.

    Attributes:
        arrays: those of x (rows, H), of weight and of bias; None for one that is not wanted.
    """

    def __init__(self, chunks: _Chunks, needs: tuple[bool, ...]) -> None:
        self._chunks = chunks
        shapes = chunks.x.shape, chunks.weight.shape, chunks.weight.shape[:1]
        room = np.empty if len(chunks.x) else np.zeros
        self.arrays = [
            room(shape, chunks.x.dtype) if need else None
            for shape, need in zip(shapes, needs, strict=True)
        ]

    def add(
        self, rows: slice, logits: Array, part: ClassTargets, d_losses: Array, statistics: Any
    ) -> None:
        """Adds what the losses of these rows contribute; the logits are spent."""
        chunks = self._chunks
        d_logits = gradient_of_rows(d_losses, logits, part, statistics, chunks.kernels, logits)
        d_x, d_weight, d_bias = self.arrays
        goes_on = rows.start > 0
        if d_x is not None:
            matmul_into(d_x[rows], d_logits, chunks.weight)
        if d_weight is not None:
            matmul_into(d_weight, d_logits.T, chunks.x[rows], goes_on)
        if d_bias is not None:
            ones = np.ones((1, len(d_logits)), d_logits.dtype)
            matmul_into(d_bias[None], ones, d_logits, goes_on)


def _backward_on_tape(ctx: Any, d_out: Tensor) -> tuple[Tensor | None, ...]:
    """Gradients that can be differentiated again: all logits once more, recorded."""
    inputs: list[Any] = [None if t is None else Alias.apply(t) for t in ctx.inputs]
    targets, reduction = ctx.params["targets"], ctx.params["reduction"]
    losses = cross_entropy_of_rows(linear(*inputs), targets)
    losses = reduce(losses, reduction, targets.divisor)
    wanted = [i for i, need in enumerate(ctx.needs_input_grad) if need]
    found = grad(losses, [inputs[i] for i in wanted], d_out, create_graph=True)
    gradients: list[Tensor | None] = [None] * len(inputs)
    for i, gradient in zip(wanted, found, strict=True):
        gradients[i] = gradient
    return tuple(gradients)
