"""The engine: tensors, the tape, primitives, and the check of their derivatives."""

from rnnkit.autograd.function import Function
from rnnkit.autograd.grad_mode import enable_grad, is_grad_enabled, no_grad
from rnnkit.autograd.primitive import PRIMITIVES, Primitive, primitive
from rnnkit.autograd.tape import grad
from rnnkit.autograd.tensor import Tensor, as_tensor, tensor

__all__ = [
    "PRIMITIVES",
    "Function",
    "Primitive",
    "Tensor",
    "as_tensor",
    "enable_grad",
    "grad",
    "is_grad_enabled",
    "no_grad",
    "primitive",
    "tensor",
]
