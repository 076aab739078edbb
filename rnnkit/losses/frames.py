"""The loss of piano rolls and of other frames in which any number of keys may be on."""

from __future__ import annotations

from typing import TYPE_CHECKING

from rnnkit.errors import ShapeError
from rnnkit.losses.ragged import reduce_over_steps
from rnnkit.losses.reduction import check_input, check_reduction, check_shape, real_like
from rnnkit.losses.regression import binary_cross_entropy_with_logits

if TYPE_CHECKING:
    from numpy.typing import ArrayLike

    from rnnkit.autograd import Tensor


def frame_nll(
    input: ArrayLike | Tensor,
    target: ArrayLike | Tensor,
    lengths: ArrayLike | Tensor | None = None,
    *,
    reduction: str = "mean",
) -> Tensor:
    """Negative log likelihood, in nats, of frames of independent keys.

    That of one frame is the sum over its keys of the binary cross entropy of sigmoid(input) against
    target: the "LL" of Boulanger-Lewandowski, Bengio and Vincent 2012 (arXiv 1206.6392, table 1)
    and the "NLL" of Bai, Kolter and Koltun 2018 (arXiv 1803.01271, table 1), which are means over
    the frames of all pieces.

    Args:
        input: logits (..., K); (T, N, K) with lengths.
        target: of the same shape and dtype, 1 for a key that is on and 0 for one that is off.
        lengths: (N,) integers from 0 to T, the frames that each piece has. Those past its end are
            never read, NaN in them included, and their gradient is exactly 0.
        reduction: "mean" over the frames that exist, "sum", or "none".

    Returns:
        a scalar, or (...) with reduction "none", 0 in frames that do not exist. The mean of no
        frames is NaN.

    Raises:
        ShapeError: input has no axis of keys; target is of another shape; lengths is not (N,).
        DTypeError: not float32 or float64, or not both the same; lengths that are not integers.
        ArgumentError: an unknown reduction; a length outside [0, T].
    """
    check_reduction(reduction)
    logits = check_input(input)
    if logits.ndim == 0:
        raise ShapeError(f"input: expected (..., K), got shape {logits.shape}")
    wanted = real_like("target", target, logits)
    check_shape("target", wanted, logits.shape, "as input")
    return reduce_over_steps(_of_frames, (logits, wanted), lengths, reduction)


def _of_frames(logits: Tensor, target: Tensor) -> Tensor:
    return binary_cross_entropy_with_logits(logits, target, reduction="none").sum(-1)
