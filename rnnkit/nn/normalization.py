"""Layer normalisation."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np

from rnnkit.cells.checks import check_bool, check_number, check_real_dtype, check_size, check_tensor
from rnnkit.errors import ArgumentError
from rnnkit.module import Module, Parameter
from rnnkit.nn.init import ones_, zeros_
from rnnkit.ops import layer_norm

if TYPE_CHECKING:
    from collections.abc import Sequence

    from numpy.typing import DTypeLike

    from rnnkit.autograd import Tensor


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
                name, Parameter(np.empty(self.normalized_shape, dtype)) if made else None
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
