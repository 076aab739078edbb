"""Layer and batch normalisation."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np

from rnnkit.autograd.checks import check_real_dtype, check_tensor
from rnnkit.autograd.tensor import Tensor
from rnnkit.autograd.unchangeable import check_writeable
from rnnkit.checks import check_bool, check_elements, check_number, check_size
from rnnkit.errors import ArgumentError, ShapeError
from rnnkit.module import Module, Parameter, new_parameter
from rnnkit.nn.init import ones_, zeros_
from rnnkit.nn.ragged import step_mask
from rnnkit.ops import layer_norm, sqrt
from rnnkit.ops.operands import real
from rnnkit.recurrent.packed import pad_rows

if TYPE_CHECKING:
    from collections.abc import Sequence

    from numpy.typing import DTypeLike

__all__ = ["BatchNorm1d", "LayerNorm"]


class LayerNorm(Module):
    """(x - mean) / sqrt(var + eps) * weight + bias over the last axes, as ``torch.nn.LayerNorm``.

    Ba, Kiros and Hinton 2016, arXiv 1607.06450; the variance is the biased one.

    Args:
        normalized_shape: sizes of the last axes, over which mean and variance run.
        eps: added to the variance.
        elementwise_affine: whether there are weight and bias; without, they are None.
        bias: whether there is a bias beside the weight.
        dtype: float32 or float64.

    Parameters: weight, ones, and bias, zeros, of shape normalized_shape.
    Called with x (..., *normalized_shape), it returns the same shape.

    Raises:
        ArgumentError: a size below 1, no sizes, or a negative eps.
        DTypeError: another dtype; x not of the parameters' dtype.
        ShapeError: x does not end in normalized_shape.
    """

    weight: Parameter | None
    bias: Parameter | None

    def __init__(
        self,
        normalized_shape: int | Sequence[int],
        eps: float = 1e-5,
        elementwise_affine: bool = True,
        bias: bool = True,
        *,
        dtype: DTypeLike = np.float32,
    ) -> None:
        super().__init__()
        sizes = (
            normalized_shape if isinstance(normalized_shape, (tuple, list)) else [normalized_shape]
        )
        self.normalized_shape = tuple(check_size("normalized_shape", size) for size in sizes)
        if not self.normalized_shape:
            raise ArgumentError("normalized_shape: expected a size or more, got none")
        check_number("eps", eps)
        self.eps = eps
        self.elementwise_affine = check_bool("elementwise_affine", elementwise_affine)
        dtype = check_real_dtype("dtype", dtype)
        for name, wanted in (("weight", True), ("bias", check_bool("bias", bias))):
            made = elementwise_affine and wanted
            self.register_parameter(
                name, new_parameter(name, self.normalized_shape, dtype) if made else None
            )
        self.reset_parameters()

    def reset_parameters(self) -> None:
        """Set weight to ones and bias to zeros."""
        if self.weight is not None:
            ones_(self.weight)
        if self.bias is not None:
            zeros_(self.bias)

    def forward(self, x: Tensor) -> Tensor:
        if self.weight is not None:
            x = check_tensor("x", x, self.weight.dtype)
        return layer_norm(x, self.normalized_shape, self.weight, self.bias, self.eps)

    def extra_repr(self) -> str:
        return (
            f"{self.normalized_shape}, eps={self.eps}, elementwise_affine={self.elementwise_affine}"
        )


class BatchNorm1d(Module):
    """(x - mean) / sqrt(var + eps) * weight + bias of each feature over the rows of a batch.

    As ``torch.nn.BatchNorm1d``, but sequences are (T, N, C), **time first**. Ioffe and Szegedy
    2015, arXiv 1502.03167; over steps and rows together: Laurent et al. 2015, arXiv 1510.01378.
    In training mode mean and (biased) variance are those of the batch, and the running ones move
    towards them, the variance unbiased; in evaluation mode the running ones are taken.

    Args:
        num_features: C.
        eps: added to the variance.
        momentum: share of a batch in the running statistics; None: they are the mean of all
            batches.
        affine: whether there are weight and bias; without, they are None.
        track_running_stats: whether there are running statistics; without, they are None, and the
            batch's are taken in both modes.
        dtype: float32 or float64.

    Parameters: weight, ones, and bias, zeros, of shape (C,). Buffers: running_mean, zeros, and
    running_var, ones, of shape (C,), and num_batches_tracked.
    Called as ``y = norm(x)`` with x (N, C) or (T, N, C), or ``norm(x, lengths)`` with x (T, N, C)
    and lengths (N,), integers from 0 to T: what stands past a row's end is in no statistic and
    reaches no gradient, and y is 0 there.

    Raises:
        ArgumentError: a size below 1, a negative eps, a momentum outside [0, 1]; running statistics
            that are frozen, in training mode.
        DTypeError: another dtype; x not of the parameters' dtype.
        ShapeError: x of other axes or features, or statistics of a batch of fewer than two rows.
    """

    weight: Parameter | None
    bias: Parameter | None
    running_mean: Tensor | None
    running_var: Tensor | None
    num_batches_tracked: Tensor | None

    def __init__(
        self,
        num_features: int,
        eps: float = 1e-5,
        momentum: float | None = 0.1,
        affine: bool = True,
        track_running_stats: bool = True,
        *,
        dtype: DTypeLike = np.float32,
    ) -> None:
        super().__init__()
        self.num_features = check_size("num_features", num_features)
        check_number("eps", eps)
        self.eps = eps
        if momentum is not None:
            check_number("momentum", momentum, high=1.0)
        self.momentum = momentum
        self.affine = check_bool("affine", affine)
        self.track_running_stats = check_bool("track_running_stats", track_running_stats)
        dtype = check_real_dtype("dtype", dtype)
        for name in ("weight", "bias"):
            made = new_parameter(name, (num_features,), dtype) if affine else None
            self.register_parameter(name, made)
        check_elements("num_features", (num_features,), dtype.itemsize)
        for name in ("running_mean", "running_var"):
            statistic = Tensor(np.empty(num_features, dtype)) if track_running_stats else None
            self.register_buffer(name, statistic)
        self.register_buffer(
            "num_batches_tracked", Tensor(np.zeros((), np.int64)) if track_running_stats else None
        )
        self.reset_parameters()

    def reset_parameters(self) -> None:
        """Set weight to ones, bias to zeros, and forget the running statistics."""
        self.reset_running_stats()
        if self.weight is not None and self.bias is not None:
            ones_(self.weight)
            zeros_(self.bias)

    def reset_running_stats(self) -> None:
        """Set running_mean to zeros, running_var to ones and num_batches_tracked to 0."""
        for statistic, value in zip(self._statistics(), (0, 1, 0), strict=False):
            statistic.data.fill(value)

    def _statistics(self) -> list[Tensor]:
        listed = (self.running_mean, self.running_var, self.num_batches_tracked)
        return [statistic for statistic in listed if statistic is not None]

    def forward(self, x: Any, lengths: Any = None) -> Tensor:
        like = self.weight if self.running_mean is None else self.running_mean
        dtype = real("x", x).dtype if like is None else like.dtype
        axes = {3: "(T, N, C)"} if lengths is not None else {2: "(N, C)", 3: "(T, N, C)"}
        x = check_tensor("x", x, dtype, axes, last=self.num_features)
        valid = None if lengths is None else step_mask(lengths, *x.shape[:2])
        if valid is None:
            return self._normalized(x.reshape(-1, self.num_features)).reshape(x.shape)
        T, N = valid.shape
        steps, rows = np.nonzero(valid.data)
        return pad_rows(self._normalized(x[steps, rows]), steps * N + rows, (T, N), 0.0)

    def _normalized(self, x: Tensor) -> Tensor:
        """Of rows (M, C)."""
        if self.training or self.running_mean is None or self.running_var is None:
            if len(x) < 2:
                raise ShapeError(
                    "x: expected two rows or more (steps of sequences are rows, too) for the "
                    f"statistics of a batch, got {len(x)}"
                )
            mean = x.mean(0)
            deviation = x - mean
            variance = (deviation * deviation).mean(0)
            if self.training:
                with np.errstate(all="ignore"):
                    self._track(mean.data, variance.data * (len(x) / (len(x) - 1)))
        else:
            deviation, variance = x - self.running_mean, self.running_var
        scale = 1 / sqrt(variance + self.eps)
        if self.weight is None or self.bias is None:
            return deviation * scale
        return deviation * (scale * self.weight) + self.bias

    def _track(self, mean: np.ndarray, variance: np.ndarray) -> None:
        """Move the running statistics towards those of a batch."""
        if not self._statistics():
            return
        running_mean, running_var, count = [each.data for each in self._statistics()]
        for name, array in (("running_mean", running_mean), ("running_var", running_var)):
            check_writeable(name, array)
        count += 1
        share = 1 / int(count) if self.momentum is None else self.momentum
        for running, batch in ((running_mean, mean), (running_var, variance)):
            running *= 1 - share
            running += share * batch

    def extra_repr(self) -> str:
        return (
            f"{self.num_features}, eps={self.eps}, momentum={self.momentum}, "
            f"affine={self.affine}, track_running_stats={self.track_running_stats}"
        )
