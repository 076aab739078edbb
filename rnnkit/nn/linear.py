"""The affine layer."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np

from rnnkit.autograd.checks import check_real_dtype, check_tensor
from rnnkit.checks import check_bool, check_size
from rnnkit.module import Module, Parameter, new_parameter
from rnnkit.nn.init import uniform_
from rnnkit.ops import linear

if TYPE_CHECKING:
    from numpy.typing import DTypeLike

    from rnnkit.autograd import Tensor


class Linear(Module):
    """y = x weight^T + bias, as ``torch.nn.Linear``.

    Args:
        in_features: I.
        out_features: O.
        bias: whether there is a bias; without, ``bias`` is None.
        dtype: float32 or float64.

    Parameters: weight (O, I), bias (O,), both drawn from U(-1/sqrt(I), 1/sqrt(I)).
    Called with x (..., I), it returns (..., O).

    Raises:
        ArgumentError: a size below 1.
        DTypeError: another dtype; x not of the parameters' dtype.
        ShapeError: the last axis of x is not I.
    """

    weight: Parameter
    bias: Parameter | None

    def __init__(
        self,
        in_features: int,
        out_features: int,
        bias: bool = True,
        *,
        dtype: DTypeLike = np.float32,
    ) -> None:
        super().__init__()
        self.in_features = check_size("in_features", in_features)
        self.out_features = check_size("out_features", out_features)
        dtype = check_real_dtype("dtype", dtype)
        self.weight = new_parameter("weight", (out_features, in_features), dtype)
        made = new_parameter("bias", (out_features,), dtype) if check_bool("bias", bias) else None
        self.register_parameter("bias", made)
        self.reset_parameters()

    def reset_parameters(self) -> None:
        """Draw the parameters anew."""
        bound = self.in_features**-0.5
        for parameter in self.parameters():
            uniform_(parameter, -bound, bound)

    def forward(self, x: Tensor) -> Tensor:
        return linear(check_tensor("x", x, self.weight.dtype), self.weight, self.bias)

    def extra_repr(self) -> str:
        return (
            f"in_features={self.in_features}, out_features={self.out_features}, "
            f"bias={self.bias is not None}"
        )
