"""Gives Tensor its operators and methods, which are the ops themselves."""

from __future__ import annotations

from math import prod
from typing import TYPE_CHECKING, Any, NoReturn

import numpy as np

from rnnkit.autograd.tensor import Tensor
from rnnkit.errors import ShapeError
from rnnkit.ops import (
    comparison,
    creation,
    elementwise,
    indexing,
    linalg,
    normalization,
    reductions,
    shape,
)
from rnnkit.ops.operands import OPERANDS, any_tensor

if TYPE_CHECKING:
    from collections.abc import Callable


def _t(self: Tensor) -> Tensor:
    if self.ndim > 2:
        raise ShapeError(f"t: expected at most 2 axes, got shape {self.shape}; see transpose()")
    return shape.reverse_axes(self)


def _operator(op: Callable[[Any, Any], Tensor]) -> Callable[[Any, Any], Any]:
    def method(self: Tensor, other: Any) -> Any:
        return op(self, other) if isinstance(other, OPERANDS) else NotImplemented

    return method


def _reflected(op: Callable[[Any, Any], Tensor]) -> Callable[[Any, Any], Any]:
    def method(self: Tensor, other: Any) -> Any:
        return op(other, self) if isinstance(other, OPERANDS) else NotImplemented

    return method


def _setitem(self: Tensor, key: Any, value: Any) -> NoReturn:
    raise TypeError(
        "a tensor is not changed in place: collect the parts in a list and stack() or cat() them, "
        "use where(), or write into .data where no gradient is wanted"
    )


def _invert(self: Tensor) -> Tensor:
    if self._data.dtype != np.bool_:
        raise TypeError(f"~ of a {self._data.dtype.name} tensor: only bools are inverted")
    return comparison.logical_not(self)


def _bitwise(op: Callable[[Any, Any], Tensor], sign: str) -> Callable[[Any, Any], Tensor]:
    def on_bools(a: Any, b: Any) -> Tensor:
        for operand in (a, b):
            array = getattr(operand, "_data", operand)
            # A traced array has a dtype and nothing else that NumPy could ask for.
            if getattr(array, "dtype", None) != np.bool_ and type(array) is not bool:
                raise TypeError(f"{sign} of tensors: expected bools, got {operand!r}")
        return op(a, b)

    return on_bools


_BINARY = {
    "add": elementwise.add,
    "sub": elementwise.sub,
    "mul": elementwise.mul,
    "truediv": elementwise.div,
    "pow": elementwise.pow,
    "matmul": linalg.matmul,
    "and": _bitwise(comparison.logical_and, "&"),
    "or": _bitwise(comparison.logical_or, "|"),
    "xor": _bitwise(comparison.logical_xor, "^"),
}
_COMPARE = {
    "eq": comparison.equal,
    "ne": comparison.not_equal,
    "lt": comparison.less,
    "le": comparison.less_equal,
    "gt": comparison.greater,
    "ge": comparison.greater_equal,
}
_METHODS: dict[Any, tuple[str, ...]] = {
    comparison: ("isfinite", "isnan"),
    elementwise: (
        "abs", "clip", "cos", "exp", "expm1", "floor", "log", "log1p", "maximum", "minimum", "pow",
        "relu", "sigmoid", "sign", "sin", "softplus", "sqrt", "square", "tanh",
    ),
    reductions: (
        "all", "any", "argmax", "argmin", "cumprod", "cumsum", "logsumexp", "max", "mean",
        "min", "norm", "std", "sum", "var",
    ),
    shape: (
        "astype", "broadcast_to", "chunk", "clone", "expand", "flatten", "flip", "permute",
        "repeat", "reshape", "split", "squeeze", "transpose", "unbind", "unsqueeze",
    ),
    indexing: ("argsort", "gather", "masked_fill", "sort", "topk"),
    linalg: ("matmul", "outer"),
    normalization: ("log_softmax", "softmax"),
}  # fmt: skip


# PyTorch's names for what NumPy calls otherwise, or needs no call for.
_OTHER_NAMES: dict[str, Callable[..., Any]] = {
    "add": elementwise.add,
    "amax": reductions.max,
    "amin": reductions.min,
    "bmm": linalg.matmul,
    "bool": lambda self: shape.astype(self, "bool"),
    "clamp": elementwise.clip,
    "contiguous": lambda self: self,
    "cpu": lambda self: self,
    "dim": lambda self: self.ndim,
    "div": elementwise.div,
    "double": lambda self: shape.astype(self, "float64"),
    "eq": comparison.equal,
    "expand_as": lambda self, other: shape.broadcast_to(self, any_tensor(other, "other").shape),
    "float": lambda self: shape.astype(self, "float32"),
    "ge": comparison.greater_equal,
    "gt": comparison.greater,
    "int": lambda self: shape.astype(self, "int32"),
    "le": comparison.less_equal,
    "logical_not": comparison.logical_not,
    "long": lambda self: shape.astype(self, "int64"),
    "lt": comparison.less,
    "mm": linalg.matmul,
    "mul": elementwise.mul,
    "ne": comparison.not_equal,
    "neg": elementwise.neg,
    "new_ones": lambda self, *sizes: creation.ones(*sizes, dtype=self.dtype),
    "new_zeros": lambda self, *sizes: creation.zeros(*sizes, dtype=self.dtype),
    "numel": lambda self: prod(self.shape),
    "sub": elementwise.sub,
    "swapaxes": shape.transpose,
    "t": _t,
    "to": shape.astype,
    "type_as": lambda self, other: shape.astype(self, any_tensor(other, "other").dtype),
    "view": shape.reshape,
    "view_as": lambda self, other: shape.reshape(self, any_tensor(other, "other").shape),
}


def install() -> None:
    """Set the operators and methods on the Tensor class."""
    for name, op in _BINARY.items():
        setattr(Tensor, f"__{name}__", _operator(op))
        setattr(Tensor, f"__r{name}__", _reflected(op))
    for name, op in _COMPARE.items():
        setattr(Tensor, f"__{name}__", _operator(op))
    for module, names in _METHODS.items():
        for name in names:
            setattr(Tensor, name, getattr(module, name))
    unary: dict[str, Any] = {
        "__neg__": elementwise.neg,
        "__pos__": lambda self: self,
        "__abs__": elementwise.abs,
        "__invert__": _invert,
        "__getitem__": indexing.getitem,
        "__setitem__": _setitem,
        "__iter__": lambda self: iter(shape.unbind(self)),
        "T": property(shape.reverse_axes),
        **_OTHER_NAMES,
    }
    for name, op in unary.items():
        setattr(Tensor, name, op)
