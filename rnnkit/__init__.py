"""rnnkit: recurrent neural networks on the CPU.

A small autograd engine with fused native kernels for RNN, GRU and LSTM, and traced native programs
for every other cell, yours too::

    import rnnkit as rk
    from rnnkit import nn, optim, losses

Tensors and their ops are here at once; everything else is imported when it is first used.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from rnnkit import errors
from rnnkit.autograd import (
    PRIMITIVES,
    Function,
    Primitive,
    Tensor,
    as_tensor,
    enable_grad,
    grad,
    is_grad_enabled,
    no_grad,
    primitive,
    tensor,
)
from rnnkit.ops import *  # noqa: F403 (the ops are the library's vocabulary)
from rnnkit.ops import __all__ as _op_names
from rnnkit.ops.indexing import set_row_kernels as _set_row_kernels
from rnnkit.ops.noise import set_dropout_kernel as _set_dropout_kernel
from rnnkit.rng import generator, manual_seed

if TYPE_CHECKING:
    from typing import TypeAlias

    from rnnkit import (
        cells,
        data,
        decoding,
        diagnostics,
        losses,
        nn,
        optim,
        recurrent,
        train,
    )
    from rnnkit.autograd.gradcheck import gradcheck, gradgradcheck
    from rnnkit.backend import (
        config,
        dispatch,
        extension,
        get_backend,
        get_num_threads,
        set_backend,
        set_num_threads,
        why,
    )
    from rnnkit.cells import Cell
    from rnnkit.module import Module, Parameter

    class backend(dispatch.backend):  # noqa: N801
        """The package, for type checkers, to whom no module can be called."""

        Decision: TypeAlias = dispatch.Decision
        backend: TypeAlias = dispatch.backend
        decide = staticmethod(dispatch.decide)
        get_backend = staticmethod(dispatch.get_backend)
        kernels_for = staticmethod(dispatch.kernels_for)
        record = staticmethod(dispatch.record)
        set_backend = staticmethod(dispatch.set_backend)
        why = staticmethod(dispatch.why)
        DTYPE_NAMES = extension.DTYPE_NAMES
        config = staticmethod(extension.config)
        get_num_threads = staticmethod(extension.get_num_threads)
        native = staticmethod(extension.native)
        set_num_threads = staticmethod(extension.set_num_threads)

__version__ = "0.1.0"


def _first_product(a: Any, b: Any, bias: Any = None) -> Any:
    """Stands in until the first matrix product, so that importing rnnkit loads no kernels."""
    from rnnkit.backend.products import matmul

    set_matmul_kernel(matmul)  # noqa: F405
    return matmul(a, b, bias)


set_matmul_kernel(_first_product)  # noqa: F405


def _of_backend(module: str, name: str) -> Any:
    """A function of ``rnnkit.backend``, which is loaded only when the function is called."""

    def call(*arguments: Any) -> Any:
        from importlib import import_module

        return getattr(import_module(f"rnnkit.backend.{module}"), name)(*arguments)

    return call


_set_row_kernels(_of_backend("rows", "take_rows"), _of_backend("rows", "add_rows"))
_set_dropout_kernel(_of_backend("noise", "dropout"))

# name -> the module it is taken from, or "" for a subpackage of that name
_LAZY = {
    **dict.fromkeys(
        (
            "backend", "cells", "data", "decoding", "diagnostics", "losses", "nn", "optim",
            "recurrent", "train",
        ),
        "",
    ),
    **dict.fromkeys(("gradcheck", "gradgradcheck"), "rnnkit.autograd.gradcheck"),
    **dict.fromkeys(
        ("config", "get_backend", "get_num_threads", "set_backend", "set_num_threads", "why"),
        "rnnkit.backend",
    ),
    **dict.fromkeys(("Module", "Parameter"), "rnnkit.module"),
    "Cell": "rnnkit.cells",
}

__all__ = [
    *_op_names,
    "PRIMITIVES",
    "Cell",
    "Function",
    "Module",
    "Parameter",
    "Primitive",
    "Tensor",
    "as_tensor",
    "backend",
    "cells",
    "config",
    "data",
    "decoding",
    "diagnostics",
    "enable_grad",
    "errors",
    "generator",
    "get_backend",
    "get_num_threads",
    "grad",
    "gradcheck",
    "gradgradcheck",
    "is_grad_enabled",
    "losses",
    "manual_seed",
    "nn",
    "no_grad",
    "optim",
    "primitive",
    "recurrent",
    "set_backend",
    "set_num_threads",
    "tensor",
    "train",
    "why",
]


def __getattr__(name: str) -> Any:
    try:
        source = _LAZY[name]
    except KeyError:
        raise AttributeError(f"module 'rnnkit' has no attribute {name!r}") from None
    from importlib import import_module

    if not source:
        return import_module(f"rnnkit.{name}")
    value = globals()[name] = getattr(import_module(source), name)
    return value


def __dir__() -> list[str]:
    return sorted({*globals(), *__all__})
