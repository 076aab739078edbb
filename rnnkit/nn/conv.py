"""Convolution and pooling with windows that slide over time.

All of it works on (T, N, C), time first, as everything here does; PyTorch has (N, C, L). On the way
in or out of code written for that layout, permute.

Called with ``lengths``, (N,) integers from 0 to T in any order, rows may have several lengths: what
stands past a row's end counts as zeros, as the padding does, and reaches no result and no gradient.
The row then gives what it would give alone: ``output_lengths(lengths)`` steps, and zeros after
them.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np

from rnnkit.autograd.checks import check_real_dtype, check_tensor
from rnnkit.autograd.tensor import Tensor, plain_array, wrap
from rnnkit.checks import check_bool, check_integer, check_size
from rnnkit.errors import ArgumentError, DTypeError, ShapeError
from rnnkit.module import Module, Parameter, new_parameter
from rnnkit.nn.init import uniform_
from rnnkit.nn.ragged import step_mask, without_padding
from rnnkit.ops import cat, linear, stack
from rnnkit.ops.operands import real
from rnnkit.recurrent.schedule import check_lengths

if TYPE_CHECKING:
    from numpy.typing import DTypeLike

__all__ = ["AvgPool1d", "Conv1d", "MaxPool1d"]


class _Windows(Module):
    """Windows of k steps, ``dilation`` apart, that begin every ``stride`` steps."""

    def __init__(
        self, kernel_size: int, stride: int, before: int = 0, after: int = 0, dilation: int = 1
    ) -> None:
        super().__init__()
        self.kernel_size = check_size("kernel_size", kernel_size)
        self.stride = check_size("stride", stride)
        self.dilation = check_size("dilation", dilation)
        self._before = before
        self._after = after

    @property
    def _reach(self) -> int:
        return self.dilation * (self.kernel_size - 1) + 1

    def output_lengths(self, lengths: Any) -> Any:
        """How many steps come out for so many steps in.

        Args:
            lengths: an integer, or integers of any shape, from 0.

        Returns:
            the same kind: how many windows fit; 0 for a row of no steps.

        Raises:
            DTypeError: not integers.
            ArgumentError: a negative one.
        """
        array = plain_array("lengths", lengths)
        if array.dtype.kind not in "iu" and array.size:
            raise DTypeError(f"lengths: expected integers, got {array.dtype}")
        if (array < 0).any():
            raise ArgumentError(f"lengths: expected 0 or more, got {array.min()}")
        free = array.astype(np.int64) + (self._before + self._after - self._reach)
        found = np.where(array > 0, np.maximum(free // self.stride + 1, 0), 0)
        return int(found) if found.ndim == 0 else found

    def _windows(self, x: Tensor, lengths: Any) -> tuple[list[Tensor], Tensor | None]:
        """k tensors (T', N, C), each with one step of every window, and which of them count."""
        T, N, C = x.shape
        x = without_padding(x, step_mask(lengths, T, N))
        steps = self.output_lengths(T)
        if self._before or self._after:
            around = [wrap(np.zeros((n, N, C), x.dtype)) for n in (self._before, self._after)]
            x = cat([around[0], x, around[1]], 0)
        span = self.stride * steps
        offsets = range(0, self._reach, self.dilation)
        windows = [x[offset : offset + span : self.stride] for offset in offsets]
        counts = None
        if lengths is not None:
            counts = step_mask(self.output_lengths(check_lengths(lengths, T, N)), steps, N)
        return windows, counts


class Conv1d(_Windows):
    """Convolution over time, as ``torch.nn.Conv1d`` but on (T, N, C): **time first**.

        y[t] = bias + sum_j weight[:, :, j] x[stride t + dilation j - padding]

    where x is zero before the beginning and past the end. Oord et al. 2016, WaveNet, arXiv
    1609.03499, for causal and dilated ones.

    Args:
        in_channels: C.
        out_channels: O.
        kernel_size: k.
        stride: steps between two windows.
        padding: zeros before and after each row.
        dilation: steps between two elements of a window.
        bias: whether there is a bias; without, ``bias`` is None.
        causal: pads dilation (k - 1) zeros before each row and none after, so that y[t] sees
            nothing later than x[stride t], and stride 1 keeps the length; ``padding`` is then 0.
        dtype: float32 or float64.

    Parameters: weight (O, C, k), bias (O,), both drawn from U(-1/sqrt(C k), 1/sqrt(C k)).
    Called as ``y = conv(x, lengths=None)``: x (T, N, C) gives y (T', N, O), with T' =
    ``output_lengths(T)`` = (T + 2 padding - dilation (k - 1) - 1) // stride + 1, or 0 where no
    window fits; (T - 1) // stride + 1 with ``causal``. Rows of several lengths: see the top of this
    file.

    Raises:
        ArgumentError: a size below 1, a negative padding, or one beside ``causal``; a length out of
            range.
        DTypeError: another dtype; x not of the parameters' dtype.
        ShapeError: x is not (T, N, C), lengths not (N,).
    """

    weight: Parameter
    bias: Parameter | None

    def __init__(
        self,
        in_channels: int,
        out_channels: int,
        kernel_size: int,
        stride: int = 1,
        padding: int = 0,
        dilation: int = 1,
        bias: bool = True,
        *,
        causal: bool = False,
        dtype: DTypeLike = np.float32,
    ) -> None:
        C, O = check_size("in_channels", in_channels), check_size("out_channels", out_channels)
        k = check_size("kernel_size", kernel_size)
        padding = check_integer("padding", padding, 0)
        if check_bool("causal", causal) and padding:
            raise ArgumentError(f"padding: expected 0 for a causal convolution, got {padding}")
        before = check_size("dilation", dilation) * (k - 1) if causal else padding
        super().__init__(k, stride, before, padding, dilation)
        self.in_channels, self.out_channels = C, O
        self.padding = padding
        self.causal = bool(causal)
        dtype = check_real_dtype("dtype", dtype)
        self.weight = new_parameter("weight", (O, C, k), dtype)
        self.register_parameter(
            "bias", new_parameter("bias", (O,), dtype) if check_bool("bias", bias) else None
        )
        self.reset_parameters()

    def reset_parameters(self) -> None:
        """Draw the parameters anew."""
        bound = (self.in_channels * self.kernel_size) ** -0.5
        for parameter in self.parameters():
            uniform_(parameter, -bound, bound)

    def forward(self, x: Any, lengths: Any = None) -> Tensor:
        x = check_tensor("x", x, self.weight.dtype, {3: "(T, N, C)"}, last=self.in_channels)
        windows, counts = self._windows(x, lengths)
        # One product: the elements of a window side by side, and the weight laid out like them.
        weight = self.weight.permute(0, 2, 1).reshape(self.out_channels, -1)
        return without_padding(linear(cat(windows, -1), weight, self.bias), counts)

    def extra_repr(self) -> str:
        own = [f"{self.in_channels}, {self.out_channels}, kernel_size={self.kernel_size}"]
        for name, usual in (("stride", 1), ("padding", 0), ("dilation", 1), ("causal", False)):
            value = getattr(self, name)
            own += [f"{name}={value}"] if value != usual else []
        own += ["bias=False"] if self.bias is None else []
        return ", ".join(own)


class _Pool1d(_Windows):
    def __init__(self, kernel_size: int, stride: int | None = None) -> None:
        super().__init__(kernel_size, kernel_size if stride is None else stride)

    def forward(self, x: Any, lengths: Any = None) -> Tensor:
        x = real("x", x)
        if x.ndim != 3:
            raise ShapeError(f"x: expected axes (T, N, C), got shape {x.shape}")
        T, N, _ = x.shape
        if not self.output_lengths(T):  # however large a window that does not fit may be
            if lengths is not None:
                check_lengths(lengths, T, N)
            return x[:0]
        windows, counts = self._windows(x, lengths)
        return without_padding(self._pooled(stack(windows, 0)), counts)

    def _pooled(self, windows: Tensor) -> Tensor:
        """(k, T', N, C) -> (T', N, C)"""
        raise NotImplementedError

    def extra_repr(self) -> str:
        return f"kernel_size={self.kernel_size}, stride={self.stride}"


class MaxPool1d(_Pool1d):
    """The largest of every k steps, as ``torch.nn.MaxPool1d`` but on (T, N, C): **time first**.

    Args:
        kernel_size: k.
        stride: steps between two windows; None: k.

    Called as ``y = pool(x, lengths=None)``: x (T, N, C) gives y (T', N, C), with T' =
    ``output_lengths(T)`` = (T - k) // stride + 1, or 0: steps that fill no window are left out.
    Equal ones share the gradient. Rows of several lengths: see the top of this file.

    Raises:
        ArgumentError: a size below 1; a length out of range.
        DTypeError: x is not of floats.
        ShapeError: x is not (T, N, C), lengths not (N,).
    """

    def _pooled(self, windows: Tensor) -> Tensor:
        return windows.max(0)


class AvgPool1d(_Pool1d):
    """The mean of every k steps, as ``torch.nn.AvgPool1d`` but on (T, N, C): **time first**.

    Arguments, call and errors are those of ``MaxPool1d``.
    """

    def _pooled(self, windows: Tensor) -> Tensor:
        return windows.mean(0)
