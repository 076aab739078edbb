"""Primitive: an array function together with its derivative rules.

A rule is ordinary code over Tensors, made of ops. Running it while recording is on gives a gradient
that can itself be differentiated, which is all there is to double backward.
"""

from __future__ import annotations

from types import MethodType
from typing import TYPE_CHECKING, Any

import numpy as np

from rnnkit.autograd.dtypes import DTYPES, FLOATS
from rnnkit.autograd.grad_mode import _run_with_errstate, state
from rnnkit.autograd.node import Node, PartialGradient
from rnnkit.autograd.tensor import Tensor, wrap
from rnnkit.checks import check_bool, check_callable
from rnnkit.errors import (
    ArgumentError,
    DTypeError,
    GraphError,
    MissingRuleError,
    RnnkitError,
    ShapeError,
)

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    from rnnkit.autograd.accumulate import Collector
    from rnnkit.autograd.node import Gradient
    from rnnkit.autograd.tensor import Array

PRIMITIVES: dict[str, Primitive] = {}

_ndarray = np.ndarray
_float32, _float64 = np.dtype(np.float32), np.dtype(np.float64)


class Primitive:
    """A named operation on arrays that knows its derivatives.

    Call it with Tensors and keyword parameters; make one with `primitive`.

    Attributes:
        name: its key in `PRIMITIVES` and its name in messages.
        forward: ``forward(*arrays, **params)`` returns an ndarray or a tuple of them.
        differentiable: False for operations whose results never carry a gradient.
        rules: one per input, set by `defvjp`.
        joint_rule: one for all inputs, set by `defvjp_joint`.
    """

    __slots__ = ("_keeps_output", "differentiable", "forward", "joint_rule", "name", "rules")

    def __init__(self, name: str, forward: Callable[..., Any], differentiable: bool) -> None:
        self.name = name
        self.forward = forward
        self.differentiable = differentiable
        self.rules: tuple[Callable[..., Gradient] | None, ...] = ()
        self.joint_rule: Callable[..., Sequence[Gradient]] | None = None
        self._keeps_output = False

    def defvjp(self, *rules: Callable[..., Gradient] | None) -> None:
        """Set one rule per input: ``rule(d_out, out, *inputs, **params) -> gradient of it``.

        None stands for an input that has no rule. For an operation with several outputs `d_out`
        and `out` are tuples, and `d_out` holds None for outputs that were not used. A rule returns
        None for a gradient of zero. An `out` that a rule calls ``_`` is not kept for it.
        """
        self.rules = rules
        self._keeps_output = any(rule is not None and _reads_output(rule) for rule in rules)

    def defvjp_joint(self, rule: Callable[..., Sequence[Gradient]]) -> None:
        """Set one rule for all inputs: ``rule(needs, d_out, out, *inputs, **params)``.

        It returns one gradient per input; those whose `needs` is False may be None.
        """
        self.joint_rule = rule
        self._keeps_output = _reads_output(rule, 2)

    def __call__(self, *inputs: Tensor, **params: Any) -> Any:
        if state.tracer is not None:
            return state.tracer.call(self, inputs, params)
        run = state.run
        try:
            # The two usual cases first: this is the path that every small op pays for.
            if len(inputs) == 2 and not params:
                a, b = inputs
                result = run(self.forward, a._data, b._data)
            elif len(inputs) == 1:
                result = run(self.forward, inputs[0]._data, **params)
            else:
                result = run(self.forward, *[tensor._data for tensor in inputs], **params)
        except (ValueError, TypeError, OverflowError, RuntimeError) as error:
            result = self._retry(error, [tensor._data for tensor in inputs], params)
        records = state.enabled and self.differentiable
        if type(result) is not _ndarray:
            if type(result) is tuple:
                return self._several(result, inputs, params)
            result = _zero_dim(self.name, result, inputs)
            records = records and result.dtype in FLOATS
        elif (dtype := result.dtype) is not _float32 and dtype is not _float64:
            result = _supported(self.name, result)
            records = records and result.dtype in FLOATS
        output = wrap(result)
        if records:
            for tensor in inputs:
                if tensor._requires_grad:
                    output._requires_grad = True
                    output.grad_fn = PrimitiveNode(
                        self, inputs, params, result if self._keeps_output else None, 0
                    )
                    break
        return output

    def _several(
        self, results: tuple[Array, ...], inputs: tuple[Tensor, ...], params: dict[str, Any]
    ) -> tuple[Tensor, ...]:
        constant: list[int] = []
        for result in results:
            if type(result) is _ndarray:
                dtype = result.dtype
                if dtype is _float32 or dtype is _float64:
                    continue
            results = tuple([
                _supported(self.name, each) if type(each) is _ndarray
                else _zero_dim(self.name, each, inputs)
                for each in results
            ])
            constant = [i for i, each in enumerate(results) if each.dtype not in FLOATS]
            break
        outputs = tuple([wrap(result) for result in results])
        if state.enabled and self.differentiable:
            for tensor in inputs:
                if tensor._requires_grad:
                    kept = results if self._keeps_output else None
                    PrimitiveNode(self, inputs, params, kept, len(results)).made(outputs, constant)
                    break
        return outputs

    def _retry(self, error: Exception, arrays: list[Array], params: dict[str, Any]) -> Any:
        """Say what NumPy's error was about, or run where the prepared context is taken."""
        if isinstance(error, RnnkitError):
            raise error
        if isinstance(error, RuntimeError):
            # A finaliser or signal handler that computes while this thread is inside an op.
            if str(error).startswith("cannot enter context"):
                return _run_with_errstate(self.forward, *arrays, **params)
            raise error
        kind = ShapeError if isinstance(error, ValueError) else DTypeError
        got = ", ".join(
            [f"{array.dtype.name}{list(array.shape)}" for array in arrays]
            + [f"{name}={value!r}" for name, value in params.items()]
        )
        raise kind(f"{self.name}: {error}; inputs: {got}") from error

    def missing_rule(self, i: int) -> MissingRuleError:
        return MissingRuleError(
            f"{self.name}: no derivative rule for input {i}; define one with "
            f"PRIMITIVES[{self.name!r}].defvjp(...), or detach() that input"
        )

    def __repr__(self) -> str:
        return f"<primitive {self.name}>"


class PrimitiveNode(Node):
    """One recorded call of a Primitive."""

    __slots__ = ("_out", "_params", "_primitive")

    def __init__(
        self,
        primitive: Primitive,
        inputs: tuple[Tensor, ...],
        params: dict[str, Any],
        out: Any,
        n_outputs: int,
    ) -> None:
        self.begin(inputs, n_outputs)
        self._primitive = primitive
        self._params = params
        self._out = out

    @property
    def name(self) -> str:
        return self._primitive.name

    def gradients(
        self, d_outputs: Any, needs: list[bool], retain_graph: bool, collector: Collector
    ) -> Sequence[Gradient]:
        out = self._out
        if out is not None:
            if self.n_outputs:
                out = tuple([self._output(array, i) for i, array in enumerate(out)])
            else:
                out = self._output(out, 0)
        inputs: Any = self.inputs
        params = self._params
        op = self._primitive
        if op.joint_rule is not None:
            joint: Sequence[Gradient] = op.joint_rule(needs, d_outputs, out, *inputs, **params)
            if len(joint) != len(needs):
                raise GraphError(
                    f"{self.name}: its rule gave {len(joint)} gradients for {len(needs)} inputs"
                )
            for i, gradient in enumerate(joint):
                if needs[i] and type(gradient) is not Tensor:
                    self._check(gradient, i)
            return joint
        rules = op.rules
        gradients: list[Gradient] = []
        for i, need in enumerate(needs):
            if need:
                rule = rules[i] if i < len(rules) else None
                if rule is None:
                    raise op.missing_rule(i)
                gradient = rule(d_outputs, out, *inputs, **params)
                if type(gradient) is not Tensor:
                    self._check(gradient, i)
                gradients.append(gradient)
            else:
                gradients.append(None)
        return gradients

    def _check(self, gradient: Any, i: int) -> None:
        if gradient is not None and not isinstance(gradient, Tensor | PartialGradient):
            raise DTypeError(
                f"{self.name}: its rule for input {i}: expected a Tensor or None, got "
                f"{type(gradient).__name__}"
            )

    def _output(self, array: Array, index: int) -> Tensor:
        """The output again, as part of the graph: the node itself does not refer to it."""
        output = wrap(array)
        output.grad_fn = self
        output._output = index
        output._requires_grad = True
        return output

    def free(self) -> None:
        self.inputs = None
        self._out = None
        self._params = {}


def primitive(
    name: str, forward: Callable[..., Any], *, differentiable: bool = True
) -> Primitive:
    """Register the operation `name`; derivative rules follow with ``.defvjp(...)``.

    Args:
        name: a name not yet in `PRIMITIVES`.
        forward: array code that returns an ndarray of a dtype that a tensor may have, or a tuple
            of them; NumPy's floating-point warnings are off while it runs. It must not call other
            primitives.
        differentiable: False declares that results never carry a gradient, as integers never do.

    Raises:
        ArgumentError: the name is taken, or an argument is no such thing. Its calls raise
            DTypeError for a result of another dtype.
    """
    if not isinstance(name, str):
        raise ArgumentError(f"name: expected a text, got {name!r}")
    check_callable("forward", forward)
    differentiable = check_bool("differentiable", differentiable)
    if name in PRIMITIVES:
        raise ArgumentError(f"name: a primitive called {name!r} exists already")
    made = PRIMITIVES[name] = Primitive(name, forward, differentiable)
    return made


def _reads_output(rule: Callable[..., Any], position: int = 1) -> bool:
    code = getattr(rule, "__code__", None)
    if code is None or isinstance(rule, MethodType) or code.co_argcount <= position:
        return True  # of what its arguments are called, nothing is known
    return code.co_varnames[position] != "_"


def _zero_dim(name: str, result: Any, inputs: tuple[Tensor, ...]) -> Array:
    """NumPy returns scalars for 0-d results; before NumPy 2 some are promoted to float64."""
    array = np.asarray(result)
    if array.dtype == np.float64 and inputs and inputs[0]._data.dtype in FLOATS:
        return array.astype(inputs[0]._data.dtype)
    return _supported(name, array, type(result))


def _supported(name: str, array: Array, kind: type = _ndarray) -> Array:
    """The array in native byte order; an error says what `kind` of result it was."""
    if array.dtype in DTYPES:
        return array
    dtype = array.dtype.newbyteorder("=")
    if dtype not in DTYPES:
        raise DTypeError(
            f"{name}: its forward: expected an array of a supported dtype, got {kind.__name__} of "
            f"{dtype.name}"
        )
    return array.astype(dtype)
