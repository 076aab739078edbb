"""Where a number that is not finite came from."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import Any

import numpy as np

from rnnkit.autograd import Tensor
from rnnkit.module import Module


def culprit(model: Module, batches: Iterable[Any]) -> str:
    """The first parameter, buffer or array of a batch that is not finite, as part of a sentence.

    Parameters come first: when one has become NaN, everything else follows from it.
    """
    for name, parameter in model.named_parameters():
        if not np.isfinite(parameter.data).all():
            return f"{name} is not finite"
    for name, buffer in model.named_buffers():
        if not _is_finite(buffer.data):
            return f"the buffer {name} is not finite"
    for batch in batches:
        for name in ("inputs", "targets"):
            if not _is_finite(getattr(batch, name, None)):
                return f"the {name} of the batch are not finite"
    return "all parameters are finite"


def first_gradient_not_finite(model: Module, trained: Iterable[Tensor]) -> str:
    """The name of the first of the parameters that are trained whose gradient is not finite."""
    names = {id(parameter): name for name, parameter in model.named_parameters()}
    for place, parameter in enumerate(trained):
        if parameter.grad is not None and not np.isfinite(parameter.grad.data).all():
            return names.get(id(parameter), f"parameter {place} of the optimizer")
    return "all parameters together"


def _is_finite(value: Any) -> bool:
    if isinstance(value, tuple | list):
        return all(map(_is_finite, value))
    if isinstance(value, Mapping):
        return all(map(_is_finite, value.values()))
    array = value.data if isinstance(value, Tensor) else value
    if not isinstance(array, np.ndarray) or array.dtype.kind != "f":
        return True
    return bool(np.isfinite(array).all())
