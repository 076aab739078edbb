"""Pooling over time: one vector for each row of a ragged batch, made of its valid steps.

Every pool is called as ``y = pool(x, lengths)``:
    x: (T, N, H), float32 or float64.
    lengths: (N,) integers from 0 to T, the steps of each row; None: all T. What stands past a row's
        end reaches no result and no gradient.
    y: (N, H); zeros for a row of length 0.

Raises:
    ShapeError: x is not (T, N, H), or lengths not (N,).
    DTypeError: x is not of floats, or lengths not of integers.
    ArgumentError: a length out of range.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np

from rnnkit.autograd.checks import check_real_dtype, check_tensor
from rnnkit.autograd.tensor import wrap
from rnnkit.checks import check_bool, check_size
from rnnkit.errors import ShapeError
from rnnkit.module import Module, new_parameter
from rnnkit.nn.init import uniform_
from rnnkit.nn.ragged import masked_softmax, step_mask, without_padding
from rnnkit.ops import cat, linear, tanh, where
from rnnkit.ops.operands import real
from rnnkit.recurrent.schedule import check_lengths

if TYPE_CHECKING:
    from numpy.typing import DTypeLike

    from rnnkit.autograd import Tensor

__all__ = ["AttentionPool", "LastPool", "MaxPool", "MeanPool"]


class LastPool(Module):
    """Each row's last valid step.

    Args:
        bidirectional: whether x holds both directions side by side, (T, N, 2*H'), as a
            bidirectional module gives them. The reverse direction runs from a row's end to step 0,
            so the step at which it has seen the whole row is step 0: the second half of the
            features is taken from there, the first half from the row's end.

    Called as all pools are (see the top of this file). What it gives is what a recurrent module
    gives with ``return_sequences=False``, which keeps no other step in memory.

    Raises:
        ShapeError: also an odd number of features with ``bidirectional``.
    """

    def __init__(self, bidirectional: bool = False) -> None:
        super().__init__()
        self.bidirectional = check_bool("bidirectional", bidirectional)

    def forward(self, x: Any, lengths: Any = None) -> Tensor:
        x = _check_input(x)
        T, N, H = x.shape
        if self.bidirectional and H % 2:
            raise ShapeError(f"x: expected an even number of features, got shape {x.shape}")
        steps = np.full(N, T) if lengths is None else check_lengths(lengths, T, N)
        if T == 0:
            return x.sum(0)
        last = x[np.maximum(steps - 1, 0), np.arange(N)]
        if self.bidirectional:
            last = cat([last[:, : H // 2], x[0, :, H // 2 :]], -1)
        return without_padding(last.unsqueeze(0), wrap(steps[None] > 0)).squeeze(0)

    def extra_repr(self) -> str:
        return "bidirectional=True" if self.bidirectional else ""


class MeanPool(Module):
    """The mean over each row's valid steps. Called as all pools are (see the top of this file)."""

    def forward(self, x: Any, lengths: Any = None) -> Tensor:
        x = _check_input(x)
        T, N, _ = x.shape
        valid = step_mask(lengths, T, N)
        count = np.full(N, T) if valid is None else valid.data.sum(0)
        divisor = np.maximum(count, 1).astype(x.dtype)[:, None]
        return without_padding(x, valid).sum(0) / divisor


class MaxPool(Module):
    """The largest value of each feature over each row's valid steps; NaN wins.

    Equal ones share the gradient. Called as all pools are (see the top of this file).
    """

    def forward(self, x: Any, lengths: Any = None) -> Tensor:
        x = _check_input(x)
        T, N, _ = x.shape
        valid = step_mask(lengths, T, N)
        if T == 0:
            return x.sum(0)
        if valid is None:
            return x.max(0)
        largest = where(valid.unsqueeze(-1), x, -np.inf).max(0)
        return where(valid.any(0).unsqueeze(-1), largest, 0.0)


class AttentionPool(Module):
    """A mean over each row's valid steps with learnt weights.

        y = sum_t a_t x_t,   a = softmax over t of v . tanh(W x_t + b)

    Yang et al. 2016, "Hierarchical attention networks for document classification", equations 5
    to 7.

    Args:
        size: H.
        attention_size: A.
        dtype: float32 or float64.

    Parameters: weight (A, H) and bias (A,), drawn from U(-1/sqrt(H), 1/sqrt(H)), and weight_score
    (A,), v, drawn from U(-1/sqrt(A), 1/sqrt(A)).
    Called as all pools are (see the top of this file); x has the dtype of the parameters.

    Raises:
        ArgumentError: a size below 1.
        DTypeError: another dtype.
    """

    def __init__(self, size: int, attention_size: int, *, dtype: DTypeLike = np.float32) -> None:
        super().__init__()
        self.size = check_size("size", size)
        self.attention_size = check_size("attention_size", attention_size)
        dtype = check_real_dtype("dtype", dtype)
        self.weight = new_parameter("weight", (attention_size, size), dtype)
        self.bias = new_parameter("bias", (attention_size,), dtype)
        self.weight_score = new_parameter("weight_score", (attention_size,), dtype)
        self.reset_parameters()

    def reset_parameters(self) -> None:
        """Draw the parameters anew."""
        for parameter, count in (
            (self.weight, self.size),
            (self.bias, self.size),
            (self.weight_score, self.attention_size),
        ):
            uniform_(parameter, -(count**-0.5), count**-0.5)

    def forward(self, x: Any, lengths: Any = None) -> Tensor:
        x, weights = self._weighed(x, lengths)
        return (weights.unsqueeze(1) @ x.transpose(0, 1)).squeeze(1)

    def weights(self, x: Any, lengths: Any = None) -> Tensor:
        """a of every step, (T, N); exactly 0 past a row's end."""
        return self._weighed(x, lengths)[1].T

    def _weighed(self, x: Any, lengths: Any) -> tuple[Tensor, Tensor]:
        """x with zeros past the rows' ends, and the weights (N, T)."""
        x = check_tensor("x", x, self.weight.dtype, {3: "(T, N, H)"}, last=self.size)
        T, N, _ = x.shape
        valid = step_mask(lengths, T, N)
        x = without_padding(x, valid)
        scores = tanh(linear(x, self.weight, self.bias)) @ self.weight_score
        return x, masked_softmax(scores.T, None if valid is None else valid.T)

    def extra_repr(self) -> str:
        return f"{self.size}, {self.attention_size}"


def _check_input(x: Any) -> Tensor:
    x = real("x", x)
    if x.ndim != 3:
        raise ShapeError(f"x: expected axes (T, N, H), got shape {x.shape}")
    return x
