"""Function: an operation with a backward pass of its own, written on arrays."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np

from rnnkit.autograd import arrays
from rnnkit.autograd.dtypes import DTYPES, FLOATS, supported_dtype
from rnnkit.autograd.grad_mode import state
from rnnkit.autograd.node import ExclusiveNode, PartialGradient, check_gradient
from rnnkit.autograd.tensor import Tensor, wrap
from rnnkit.errors import DTypeError, GraphError, MissingRuleError

if TYPE_CHECKING:
    from collections.abc import Collection, Sequence

    from rnnkit.autograd.accumulate import Collector
    from rnnkit.autograd.node import Gradient

_ARRAYS = (np.ndarray, np.generic)


class Context:
    """What `Function.forward` leaves for `Function.backward`: any attribute may be stored.

    Attributes:
        inputs: the input Tensors, part of the graph (None where None was passed).
        needs_input_grad: per input, whether its gradient is wanted. All False when nothing is
            recorded: forward should then keep nothing. In backward, True only where it was so in
            forward and this pass asks for that input.
        retain_graph: in backward, whether the graph may be walked again.
        constant_outputs: set by forward: places of outputs that depend on no input whose gradient
            is wanted. They require no gradient, and backward gets None for them.
    """

    inputs: tuple[Tensor | None, ...]
    needs_input_grad: tuple[bool, ...]
    retain_graph: bool
    constant_outputs: Collection[int] = ()

    def __init__(
        self, inputs: tuple[Tensor | None, ...], needs_input_grad: tuple[bool, ...]
    ) -> None:
        self.inputs = inputs
        self.needs_input_grad = needs_input_grad
        self.retain_graph = False


class Function:
    """Base of operations whose forward and backward are written by hand.

    Subclass it and call ``F.apply(*tensors, **params)``::

        class Cube(Function):
            @staticmethod
            def forward(ctx, x):            # ndarrays in, ndarray or tuple of ndarrays out
                return x ** 3

            @staticmethod
            def backward(ctx, d_y):         # Tensors in, one Tensor (or None) per input out
                x, = ctx.inputs
                return d_y * (3 * x * x)    # made of ops: may be differentiated again

    In `backward`, a gradient is None for an output that was not used, and `is_grad_enabled()` is
    true exactly when the backward pass itself is recorded (``create_graph=True``). Gradients that
    come in may be shared, and have any strides: nothing may be written into them.
    """

    @staticmethod
    def forward(ctx: Any, *arrays: Any, **params: Any) -> Any:
        """Compute the outputs: an ndarray or a tuple of ndarrays."""
        raise NotImplementedError

    @staticmethod
    def backward(ctx: Any, *d_outputs: Any, **_: Any) -> Any:  # of any signature, as forward is
        """Compute the gradients: one Tensor or None per input of `forward`."""
        raise NotImplementedError

    @classmethod
    def apply(cls, *inputs: Tensor | None, **params: Any) -> Any:
        """Run `forward` and record it.

        Raises:
            DTypeError: an input is neither a Tensor nor None, or `forward` returned anything but
                arrays of supported dtypes.
        """
        enabled = state.enabled
        values: list[Any] = []
        needs = []
        for tensor in inputs:
            if tensor is None:
                values.append(None)
                needs.append(False)
                continue
            if not isinstance(tensor, Tensor):
                raise DTypeError(
                    f"{cls.__name__}: input {len(values)}: expected a Tensor or None, got "
                    f"{type(tensor).__name__}; what is no tensor goes by keyword"
                )
            values.append(tensor._data)
            needs.append(enabled and tensor._requires_grad)
        ctx = Context(inputs, tuple(needs))
        result = cls.forward(ctx, *values, **params)
        several = type(result) is tuple
        outputs = [cls._output(array) for array in (result if several else (result,))]
        if True in needs:
            node = FunctionNode(cls, ctx, len(outputs) if several else 0)
            node.made(outputs, [
                i for i, output in enumerate(outputs)
                if i in ctx.constant_outputs or output._data.dtype not in FLOATS
            ])
        return tuple(outputs) if several else outputs[0]

    @classmethod
    def _output(cls, array: Any) -> Tensor:
        if type(array) is np.ndarray and array.dtype in DTYPES:
            return wrap(array)
        if not isinstance(array, _ARRAYS):
            raise DTypeError(
                f"{cls.__name__}.forward: expected arrays, got {type(array).__name__}"
            )
        dtype = supported_dtype(array.dtype, f"{cls.__name__}.forward: its result")
        return wrap(np.asarray(array, dtype))


class FunctionNode(ExclusiveNode):
    """One recorded call of a Function."""

    __slots__ = ("_ctx", "_function", "_prepared")

    def __init__(
        self,
        function: type[Function],
        ctx: Context,
        n_outputs: int,
    ) -> None:
        self.begin(ctx.inputs, n_outputs)
        self._function = function
        self._ctx: Context | None = ctx
        self._prepared = ctx.needs_input_grad

    @property
    def name(self) -> str:
        return self._function.__name__

    def gradients(
        self, d_outputs: Any, needs: list[bool], retain_graph: bool, collector: Collector
    ) -> Sequence[Gradient]:
        if self._function.backward is Function.backward:
            raise MissingRuleError(f"{self.name}: the Function defines no backward")
        ctx = self._ctx
        assert ctx is not None
        wanted = tuple(needs)
        if wanted != self._prepared:
            wanted = tuple([need and self._prepared[i] for i, need in enumerate(needs)])
        given = d_outputs if self.n_outputs else (d_outputs,)
        with self.turn():
            ctx.needs_input_grad = wanted
            ctx.retain_graph = retain_graph
            result = self._function.backward(ctx, *given)
        if not isinstance(result, tuple):
            result = (result,)
        if len(result) != len(wanted):
            raise GraphError(
                f"{self.name}.backward: expected {len(wanted)} gradients, one per input, got "
                f"{len(result)}"
            )
        gradients: list[Gradient] = []
        for i, gradient in enumerate(result):
            if not wanted[i] or gradient is None:
                gradients.append(None)
                continue
            tensor = ctx.inputs[i]
            assert tensor is not None
            # The message costs more than the check.
            fits = type(gradient) is Tensor and arrays.alike(gradient._data, tensor._data)
            if not fits and not isinstance(gradient, PartialGradient):
                what = f"{self.name}.backward: gradient {i}"
                check_gradient(gradient, tensor, what)
            gradients.append(gradient)
        return gradients

    def free(self) -> None:
        self.inputs = None
        self._ctx = None


class Alias(Function):
    """The same values under another name: the tape then tells one use of a tensor from others."""

    @staticmethod
    def forward(ctx: Any, x: Any) -> Any:
        return x

    @staticmethod
    def backward(ctx: Any, d_y: Any) -> Any:
        return d_y
