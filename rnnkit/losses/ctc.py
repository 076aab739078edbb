"""Connectionist temporal classification: labels for frames, without saying which label is where."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np

from rnnkit import backend
from rnnkit.autograd import Function, Tensor, grad, is_grad_enabled
from rnnkit.autograd.function import Alias
from rnnkit.autograd.tensor import plain_array, wrap
from rnnkit.checks import check_bool, check_integer
from rnnkit.errors import ArgumentError, DTypeError, ShapeError
from rnnkit.losses.ctc_recursions import LabelledRows, gradient_in_numpy, losses_in_numpy
from rnnkit.losses.reduction import check_input, check_reduction, reduce
from rnnkit.ops import cat, exp, gather, log, where
from rnnkit.recurrent.schedule import check_lengths

if TYPE_CHECKING:
    from numpy.typing import ArrayLike

    from rnnkit.autograd.tensor import Array


def ctc_loss(
    log_probs: ArrayLike | Tensor,
    targets: ArrayLike | Tensor,
    input_lengths: ArrayLike | Tensor,
    target_lengths: ArrayLike | Tensor,
    blank: int = 0,
    reduction: str = "mean",
    zero_infinity: bool = False,
) -> Tensor:
    """Minus the log probability of a labelling, as ``torch.nn.functional.ctc_loss``.

    The frames of a row show one symbol each, and what they show is read by dropping repeats and
    then blanks. The probability of a labelling is the sum over all ways to show it (Graves,
    Fernandez, Gomez and Schmidhuber, "Connectionist temporal classification", ICML 2006,
    equation 3).

    The derivative is that with respect to ``log_probs`` as they are: minus the share of the
    alignments in which a frame shows a symbol. Through ``log_softmax`` it becomes the gradient of
    the scores before it, p less that share. (PyTorch's backward pass hands out the latter for
    ``log_probs`` itself; at the scores before ``log_softmax`` the two are the same.)

    Args:
        log_probs: log probabilities (T, N, C), as of ``log_softmax`` over the last axis; or (T, C)
            for a single row. They need not be normalised.
        targets: integer labels in [0, C), none of them blank: (N, S), padded with anything behind
            each row's own, or those of all rows one after the other. For a single row (S,).
        input_lengths: (N,) frames of each row, from 0 to T; the others are not read. For a single
            row a number will do.
        target_lengths: (N,) labels of each row, from 0 to S.
        blank: the id of blank.
        reduction: "mean" divides each loss by its number of labels, or 1 if there are none, and
            takes the mean over the rows; "sum"; or "none".
        zero_infinity: whether the loss of a row that cannot show its labels, having too few frames
            or a probability of 0, counts as 0 with a gradient of 0. Otherwise it is infinite, and
            the gradient of that row alone is NaN where anything depends on it.

    Returns:
        a scalar, or (N,) with reduction "none", () for a single row. The mean of no rows is NaN.

    Raises:
        ShapeError: log_probs has not 2 or 3 axes or no symbols; targets or lengths do not fit it.
        DTypeError: log_probs is not float32 or float64, targets or lengths not integer.
        ArgumentError: a label outside [0, C) or blank, named with its place; a length out of
            range; blank outside [0, C); an unknown reduction.
    """
    check_reduction(reduction)
    zero_infinity = check_bool("zero_infinity", zero_infinity)
    x, single = check_log_probs(log_probs, blank)
    rows = _check_rows(x, targets, input_lengths, target_lengths, blank, single)
    kernels = backend.kernels_for("ctc_loss") if x.size else None
    losses: Tensor = CTC.apply(x, rows=rows, kernels=kernels)
    if zero_infinity:
        losses = where(losses.data != np.inf, losses, 0.0)
    if reduction == "mean":
        losses = losses / np.maximum(rows.target_lengths, 1).astype(x.dtype)
    if single:
        losses = losses.squeeze(0)
    return reduce(losses, reduction, x.shape[1])


def check_log_probs(log_probs: ArrayLike | Tensor, blank: int) -> tuple[Tensor, bool]:
    """(T, N, C), and whether it was (T, C), a single row; raises as `ctc_loss`."""
    x = check_input(log_probs, "log_probs")
    if x.ndim not in (2, 3) or x.shape[-1] == 0:
        raise ShapeError(
            f"log_probs: expected (T, N, C) or (T, C) with a symbol or more, got shape {x.shape}"
        )
    C = x.shape[-1]
    check_integer("blank", blank, 0, C - 1)
    return (x.unsqueeze(1), True) if x.ndim == 2 else (x, False)


def _check_rows(
    x: Tensor, targets: Any, input_lengths: Any, target_lengths: Any, blank: int, single: bool
) -> LabelledRows:
    T, N, C = x.shape
    labels = plain_array("targets", targets)
    if labels.dtype.kind not in "iu" and labels.size:
        raise DTypeError(f"targets: expected integer labels, got {labels.dtype}")
    if labels.ndim not in (1, 2) or (labels.ndim == 2 and len(labels) != N):
        wanted = "(S,)" if single else f"({N}, S), one row for each of log_probs, or (sum,)"
        raise ShapeError(f"targets: expected shape {wanted}, got {labels.shape}")
    if single:
        input_lengths, target_lengths = (
            _one("input_lengths", input_lengths), _one("target_lengths", target_lengths)
        )
        labels = labels.reshape(1, -1)
    frames = check_lengths(input_lengths, T, N, 0, "input_lengths", "the frames of log_probs")
    counts = check_lengths(
        target_lengths, labels.shape[-1], N, 0, "target_lengths", "the labels of targets"
    )
    most = int(counts.max(initial=0))
    kept = np.arange(most) < counts[:, None]
    padded = np.full((N, most), blank, np.int64)
    if labels.ndim == 2:
        given = labels[:, :most]
    elif counts.sum() == labels.size:
        given = np.zeros((N, most), labels.dtype if labels.size else np.int64)
        given[kept] = labels
    else:
        raise ShapeError(
            f"targets: expected the {counts.sum()} labels that target_lengths tell of, "
            f"got {labels.size}"
        )
    wrong = kept & ((given < 0) | (given >= C) | (given == blank))
    if wrong.any():
        row, place = (int(i) for i in np.argwhere(wrong)[0])
        raise ArgumentError(
            f"targets: expected labels in [0, {C}) other than blank, {blank}, "
            f"got {given[row, place]} as label {place} of row {row}"
        )
    padded[kept] = given[kept]
    return LabelledRows(padded, kept, frames, counts, int(blank))


def _one(name: str, length: Any) -> Array:
    array = plain_array(name, length)
    return array.reshape(1) if array.ndim == 0 else array


class CTC(Function):
    """Input x (T, N, C), output the losses (N,)."""

    @staticmethod
    @np.errstate(all="ignore")
    def forward(ctx: Any, x: Array, *, rows: LabelledRows, kernels: Any) -> Array:
        ctx.rows, ctx.kernels = rows, kernels
        keep = any(ctx.needs_input_grad)
        if kernels is None:
            losses, ctx.alphas = losses_in_numpy(x, rows, keep)
        else:
            losses, ctx.alphas = _losses_natively(x, rows, keep, kernels)
        ctx.losses = losses
        return losses.copy() if keep else losses

    @staticmethod
    @np.errstate(all="ignore")
    def backward(ctx: Any, d_losses: Tensor) -> Tensor:
        if is_grad_enabled():
            return _backward_on_tape(ctx, d_losses)
        x, d = ctx.inputs[0].data, d_losses.data
        # Alphas are laid out as the path that made them likes best, so the same goes on.
        if ctx.kernels is None:
            return wrap(gradient_in_numpy(d, x, ctx.rows, ctx.losses, ctx.alphas))
        d_x = np.empty(x.shape, x.dtype)
        ctx.kernels.ctc_gradient(
            x.dtype.name, backend.get_num_threads(), **_arrays(x, ctx.rows), alphas=ctx.alphas,
            loss=ctx.losses, d_loss=np.require(d, requirements=("C", "A")), d_x=d_x,
        )
        return wrap(d_x)


def _losses_natively(
    x: Array, rows: LabelledRows, keep: bool, kernels: Any
) -> tuple[Array, Array | None]:
    losses = np.empty(x.shape[1], x.dtype)
    alphas = None
    if keep:
        shape = kernels.ctc_alphas_shape(x.shape[0], x.shape[1], rows.labels.shape[1])
        alphas = np.empty(shape, x.dtype)
    kernels.ctc(
        x.dtype.name, backend.get_num_threads(), **_arrays(x, rows), alphas=alphas, loss=losses
    )
    return losses, alphas


def _arrays(x: Array, rows: LabelledRows) -> dict[str, Any]:
    """What both kernels want, by its names in csrc/training.h."""
    return {
        "x": np.require(x, requirements=("C", "A")),
        "target": rows.labels, "input_length": rows.input_lengths,
        "target_length": rows.target_lengths, "blank": rows.blank,
    }


def _backward_on_tape(ctx: Any, d_losses: Tensor) -> Tensor:
    """A gradient that can be differentiated again: all frames once more, recorded."""
    rows: LabelledRows = ctx.rows
    x = Alias.apply(ctx.inputs[0])
    if not len(x):
        return x * d_losses[:, None]  # no losses depend on x, and there is nothing in it
    active, finite = rows.active(x.shape[0]), np.isfinite(ctx.losses)
    # What must not be read is cut off first: what is multiplied with 0 later may be NaN.
    losses = _losses_on_tape(where((active & finite)[:, :, None], x, 0.0), rows)
    (d_x,) = grad(losses, [x], d_losses, create_graph=True)
    undefined = active & (~finite & (d_losses.data != 0))
    assert d_x is not None
    return where(undefined[:, :, None], np.asarray(np.nan, x.dtype), d_x)


def _losses_on_tape(x: Tensor, rows: LabelledRows) -> Tensor:
    """(T, N, C) -> (N,), in ops: states are blank, label, blank, ..., blank of each row."""
    T, N, _ = x.shape
    S = rows.labels.shape[1]
    nothing = np.asarray(-np.inf, x.dtype)

    def states(of_blanks: Any, of_labels: Any) -> Array:
        """(N, 2S+1) from what blanks have and what labels (N, S) have."""
        of_states = np.full((N, 2 * S + 1), of_blanks)
        of_states[:, 1::2] = of_labels
        return of_states

    active = rows.active(T)
    ids = states(rows.blank, rows.labels)
    real = states(True, rows.kept)
    skip = states(False, rows.may_skip)
    padding = wrap(np.full((N, 2), nothing))
    alphas: Any = wrap(np.where(np.arange(2 * S + 1) == 0, 0, np.full((N, 1), nothing)))
    for t in range(T):
        shown = where(real, gather(x[t], 1, ids), nothing)
        before = cat([padding, alphas], 1)
        ways = [alphas, before[:, 1:-1], where(skip, before[:, :-2], nothing)]
        alphas = where(active[t, :, None], _log_sum(ways) + shown, alphas)
    last = 2 * rows.target_lengths[:, None]
    ends = [gather(alphas, 1, last), gather(alphas, 1, np.maximum(last - 1, 0))]
    ends[1] = where(last > 0, ends[1], nothing)
    return -_log_sum(ends).squeeze(1)


def _log_sum(terms: list[Tensor]) -> Tensor:
    """log(sum(exp(terms))) of tensors, -inf with no NaN in its derivatives where all are -inf."""
    most = np.maximum.reduce([term.data for term in terms])
    most = np.where(most == -np.inf, np.zeros_like(most), most)
    total = sum((exp(term - most) for term in terms[1:]), exp(terms[0] - most))
    possible = total.data != 0
    return where(possible, log(where(possible, total, 1.0)) + most, np.asarray(-np.inf, most.dtype))
