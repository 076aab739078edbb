"""Losses as modules, under PyTorch's names: a function of `rnnkit.losses` with its options kept."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np

from rnnkit import losses
from rnnkit.autograd import Tensor
from rnnkit.autograd.tensor import FLOATS, default_dtype, plain_array, to_array
from rnnkit.checks import check_bool, check_integer, check_number
from rnnkit.errors import DTypeError
from rnnkit.losses.classification import check_smoothing
from rnnkit.losses.reduction import check_reduction
from rnnkit.module import Module

if TYPE_CHECKING:
    from numpy.typing import ArrayLike


class _Loss(Module):
    _reductions: tuple[str, ...] = ()  # beside the usual ones

    def __init__(self, reduction: str = "mean") -> None:
        super().__init__()
        check_reduction(reduction, *self._reductions)
        self.reduction = reduction

    def extra_repr(self) -> str:
        return f"reduction={self.reduction!r}"

    def _constant(self, name: str, values: ArrayLike | Tensor | None) -> None:
        """Registers factors, which follow ``to`` and are part of ``state_dict``, or None."""
        if values is not None and not isinstance(values, Tensor):
            array = to_array(plain_array(name, values), name=name)
            if array.dtype.kind in "iu" and not isinstance(values, np.ndarray):
                array = array.astype(default_dtype)  # of a list of whole numbers
            values = Tensor(array)
        if values is not None and values.dtype not in FLOATS:
            raise DTypeError(f"{name}: expected float32 or float64, got {values.dtype}")
        self.register_buffer(name, values)


class _OfClasses(_Loss):
    weight: Tensor | None

    def __init__(
        self,
        weight: ArrayLike | Tensor | None = None,
        *,
        ignore_index: int = -100,
        reduction: str = "mean",
    ) -> None:
        super().__init__(reduction)
        self._constant("weight", weight)
        self.ignore_index = check_integer("ignore_index", ignore_index)


class CrossEntropyLoss(_OfClasses):
    """`losses.cross_entropy` with its options; the classes are the last axis of the input."""

    def __init__(
        self,
        weight: ArrayLike | Tensor | None = None,
        *,
        ignore_index: int = -100,
        reduction: str = "mean",
        label_smoothing: float = 0.0,
    ) -> None:
        super().__init__(weight, ignore_index=ignore_index, reduction=reduction)
        check_smoothing(label_smoothing)
        self.label_smoothing = label_smoothing

    def forward(self, input: Tensor, target: Any) -> Tensor:
        return losses.cross_entropy(
            input,
            target,
            self.weight,
            ignore_index=self.ignore_index,
            reduction=self.reduction,
            label_smoothing=self.label_smoothing,
        )


class NLLLoss(_OfClasses):
    """`losses.nll_loss` with its options; the classes are the last axis of the input."""

    def forward(self, input: Tensor, target: Any) -> Tensor:
        return losses.nll_loss(
            input, target, self.weight, ignore_index=self.ignore_index, reduction=self.reduction
        )


class MSELoss(_Loss):
    """`losses.mse_loss` with its reduction."""

    def __init__(self, *, reduction: str = "mean") -> None:
        super().__init__(reduction)

    def forward(self, input: Tensor, target: Any) -> Tensor:
        return losses.mse_loss(input, target, reduction=self.reduction)


class L1Loss(_Loss):
    """`losses.l1_loss` with its reduction."""

    def __init__(self, *, reduction: str = "mean") -> None:
        super().__init__(reduction)

    def forward(self, input: Tensor, target: Any) -> Tensor:
        return losses.l1_loss(input, target, reduction=self.reduction)


class SmoothL1Loss(_Loss):
    """`losses.smooth_l1_loss` with its options."""

    def __init__(self, *, reduction: str = "mean", beta: float = 1.0) -> None:
        super().__init__(reduction)
        check_number("beta", beta)
        self.beta = beta

    def forward(self, input: Tensor, target: Any) -> Tensor:
        return losses.smooth_l1_loss(input, target, beta=self.beta, reduction=self.reduction)


class HuberLoss(_Loss):
    """`losses.huber_loss` with its options."""

    def __init__(self, reduction: str = "mean", delta: float = 1.0) -> None:
        super().__init__(reduction)
        check_number("delta", delta, above_low=True)
        self.delta = delta

    def forward(self, input: Tensor, target: Any) -> Tensor:
        return losses.huber_loss(input, target, self.reduction, self.delta)


class GaussianNLLLoss(_Loss):
    """`losses.gaussian_nll_loss` with its options."""

    def __init__(self, *, full: bool = False, eps: float = 1e-6, reduction: str = "mean") -> None:
        super().__init__(reduction)
        self.full = check_bool("full", full)
        check_number("eps", eps, above_low=True)
        self.eps = eps

    def forward(self, input: Tensor, target: Any, var: Any) -> Tensor:
        return losses.gaussian_nll_loss(input, target, var, self.full, self.eps, self.reduction)


class PoissonNLLLoss(_Loss):
    """`losses.poisson_nll_loss` with its options."""

    def __init__(
        self,
        log_input: bool = True,
        full: bool = False,
        *,
        eps: float = 1e-8,
        reduction: str = "mean",
    ) -> None:
        super().__init__(reduction)
        self.log_input = check_bool("log_input", log_input)
        self.full = check_bool("full", full)
        check_number("eps", eps)
        self.eps = eps

    def forward(self, input: Tensor, target: Any) -> Tensor:
        return losses.poisson_nll_loss(
            input, target, self.log_input, self.full, eps=self.eps, reduction=self.reduction
        )


class KLDivLoss(_Loss):
    """`losses.kl_div` with its options; the input holds logarithms of probabilities."""

    _reductions = ("batchmean",)

    def __init__(self, *, reduction: str = "mean", log_target: bool = False) -> None:
        super().__init__(reduction)
        self.log_target = check_bool("log_target", log_target)

    def forward(self, input: Tensor, target: Any) -> Tensor:
        return losses.kl_div(input, target, reduction=self.reduction, log_target=self.log_target)


class BCELoss(_Loss):
    """`losses.binary_cross_entropy` with its options; the input holds probabilities."""

    weight: Tensor | None

    def __init__(
        self, weight: ArrayLike | Tensor | None = None, *, reduction: str = "mean"
    ) -> None:
        super().__init__(reduction)
        self._constant("weight", weight)

    def forward(self, input: Tensor, target: Any) -> Tensor:
        return losses.binary_cross_entropy(input, target, self.weight, reduction=self.reduction)


class BCEWithLogitsLoss(_Loss):
    """`losses.binary_cross_entropy_with_logits` with its options."""

    weight: Tensor | None
    pos_weight: Tensor | None

    def __init__(
        self,
        weight: ArrayLike | Tensor | None = None,
        *,
        reduction: str = "mean",
        pos_weight: ArrayLike | Tensor | None = None,
    ) -> None:
        super().__init__(reduction)
        self._constant("weight", weight)
        self._constant("pos_weight", pos_weight)

    def forward(self, input: Tensor, target: Any) -> Tensor:
        return losses.binary_cross_entropy_with_logits(
            input, target, self.weight, pos_weight=self.pos_weight, reduction=self.reduction
        )


class CTCLoss(_Loss):
    """`losses.ctc_loss` with its options."""

    def __init__(
        self, blank: int = 0, reduction: str = "mean", zero_infinity: bool = False
    ) -> None:
        super().__init__(reduction)
        self.blank = check_integer("blank", blank, 0)
        self.zero_infinity = check_bool("zero_infinity", zero_infinity)

    def forward(
        self, log_probs: Tensor, targets: Any, input_lengths: Any, target_lengths: Any
    ) -> Tensor:
        return losses.ctc_loss(
            log_probs,
            targets,
            input_lengths,
            target_lengths,
            blank=self.blank,
            reduction=self.reduction,
            zero_infinity=self.zero_infinity,
        )
