"""The tracer: a cell's ``step`` runs once on tensors without numbers, and every primitive that it
calls becomes operations on rows.

The backward pass comes from the engine's own derivative rules: the traced step is a graph like any
other, and ``grad(..., create_graph=True)`` walks it, in the tracer's hands as well.

What depends on parameters alone (*invariants*) and what depends on the input but on no state
(*hoisted* products) is not part of a step: it is remembered as calls, and made again, with real
tensors, each time the program is run. See ``prologue.py``.
"""

from __future__ import annotations

import math
import os
import sys
from _thread import get_ident
from collections.abc import Callable, Iterable, Sequence
from itertools import count
from typing import TYPE_CHECKING, Any

import numpy as np

from rnnkit.autograd import Tensor
from rnnkit.autograd.grad_mode import state
from rnnkit.autograd.primitive import PRIMITIVES, Primitive, PrimitiveNode
from rnnkit.autograd.tensor import readers, wrap
from rnnkit.errors import TraceError
from rnnkit.recurrent.program.values import (
    ROWS_FIRST,
    ROWS_LAST,
    VIEWS,
    Operation,
    Value,
    told_apart,
)

if TYPE_CHECKING:
    from rnnkit.recurrent.program.values import Shape

_INSTEAD = {"dropout": ": masks come from draw()"}
FEWEST_ROWS = 1009
"""The least number of rows that a traced batch seems to have."""


def numbers_of_rows(sizes: Iterable[int]) -> tuple[int, int]:
    """Two for batches to be traced: primes of which no size of a cell is a multiple, so that the
    axis of the batch is known wherever it goes."""
    given = {size for size in sizes if size}
    found: list[int] = []
    for n in count(FEWEST_ROWS, 2):
        if all(n % d for d in range(3, math.isqrt(n) + 1, 2)) and all(size % n for size in given):
            found.append(n)
            if len(found) == 2:
                break
    return found[0], found[1]


# What was compiled names its files from the package on.
_PACKAGE = (
    os.path.dirname(os.path.dirname(os.path.dirname(os.path.abspath(__file__)))) + os.sep,
    os.path.join("rnnkit", ""),
)
_NUMPY = os.path.dirname(os.path.abspath(np.__file__)) + os.sep, os.path.join("numpy", "")


class TracedArray:
    """In the place of a tensor's array: a shape and a dtype, and whose value it is; no numbers.

    Attributes:
        call: that gives it from what depends on no state; None where there is none. Not the value
            knows it: the same one may come with a history and, of what is detached, without.
    """

    __slots__ = ("call", "dtype", "shape", "value")

    def __init__(self, value: Value, rows: int) -> None:
        self.value = value
        self.call: Call | None = None
        self.dtype = value.dtype
        if value.rows == ROWS_FIRST:
            self.shape: Shape = (rows, *value.shape)
        elif value.rows == ROWS_LAST:
            self.shape = (*value.shape, rows)
        else:
            self.shape = value.shape

    @property
    def ndim(self) -> int:
        return len(self.shape)

    @property
    def size(self) -> int:
        return math.prod(self.shape)

    def __len__(self) -> int:
        return self.shape[0]

    def __repr__(self) -> str:
        return f"<traced {self.dtype.name}{list(self.shape)}>"

    def __getattr__(self, name: str) -> Any:
        raise TraceError(
            f"{where()}: the numbers of a tensor are read ({name.strip('_')}): what a step does "
            "may not depend on them"
        )

    def _refuse(self, *_: Any, **__: Any) -> Any:
        return self.__getattr__("values")

    __array__ = __bool__ = __float__ = __int__ = __index__ = __iter__ = __getitem__ = _refuse
    __add__ = __radd__ = __sub__ = __rsub__ = __mul__ = __rmul__ = __lt__ = __gt__ = _refuse
    __neg__ = __setitem__ = __array_ufunc__ = _refuse


def is_of_user(file: str) -> bool:
    """Whether a file may hold a cell's step."""
    for package in _PACKAGE:
        if file.startswith(package):
            return (os.sep + "cells" + os.sep) in file[len(package) - 1 :]
    return not file.startswith(_NUMPY)


def where() -> str:
    """The line of the user's code that is being traced."""
    frame = sys._getframe(1)
    inner = frame
    while frame is not None:
        name = frame.f_code.co_filename
        if is_of_user(name):
            return f"{os.path.basename(name)}:{frame.f_lineno}"
        frame = frame.f_back  # type: ignore[assignment]
    return f"{os.path.basename(inner.f_code.co_filename)}:{inner.f_lineno}"


def mixes(name: str) -> TraceError:
    return TraceError(f"{where()}: {name} mixes rows of the batch")


def moves(name: str) -> TraceError:
    """Of an operation that puts the rows on another axis, as a layer over time wants them."""
    return TraceError(
        f"{where()}: {name} mixes rows of the batch: they stay on the first axis "
        "(for a layer over time, call its cell's step)"
    )


class Call:
    """One call of a primitive that did not become operations: on invariants, or on inputs alone.

    Attributes:
        recorded: whether gradients go back through it.
    """

    __slots__ = ("inputs", "params", "position", "primitive", "recorded")

    def __init__(
        self, primitive: Primitive, inputs: tuple[Tensor, ...], params: dict[str, Any],
        position: int | None, recorded: bool,
    ) -> None:
        self.primitive = primitive
        self.inputs = inputs
        self.params = params
        self.position = position
        self.recorded = recorded


class Tracer:
    """Takes the calls of primitives while it is in force (``with tracer:``).

    Attributes:
        rows: the number of rows that the batch seems to have.
        operations: in the order of their making.
        sequences: the inputs of every step: x, what the run draws, hoisted products, and, in the
            backward pass, gradients of outputs.
        invariants: values without rows that are no operations.
        tensor_of: the real tensor behind an invariant.
        calls: how a real tensor came to be (by ``id``).
        input_calls: how a hoisted sequence did.
        places: values that are places along an axis, of so many elements.
        read: of real tensors whose numbers the step has taken: the array, whether a gradient is
            wanted, and the line; by the array's ``id``.
        holders: tensors of the cell, of calls, and that the step has detached, by the ``id`` of the
            array, which a detached one shares.
    """

    def __init__(self, dtype: np.dtype[Any], rows: int) -> None:
        from rnnkit.recurrent.program import products
        from rnnkit.recurrent.program.order import RULES
        from rnnkit.recurrent.program.picks import of_any_rows

        self._rules = RULES
        self._of_any_rows = of_any_rows
        self._products = products
        self.dtype = dtype
        self.rows = rows
        self.operations: list[Operation] = []
        self.sequences: list[Value] = []
        self.invariants: list[Value] = []
        self.tensor_of: dict[Value, Tensor] = {}
        self.calls: dict[int, Call] = {}
        self.input_calls: dict[Value, Call] = {}
        self.places: dict[Value, int] = {}
        self.backward = False
        self._alive: list[Any] = []
        self._stand_ins: dict[int, Tensor] = {}
        self._ends: list[Tensor] = []
        self._same: dict[tuple[Any, ...], Value] = {}
        self._constants: dict[Any, Value] = {}
        self._trainable: set[int] = set()
        self.read: dict[int, tuple[Any, bool, str]] = {}
        self.holders: dict[int, Tensor] = {}
        self._results: dict[tuple[Any, ...], Any] = {}

    def __enter__(self) -> Tracer:
        state.tracer = self
        readers[get_ident()] = self._note
        return self

    def __exit__(self, *_: object) -> None:
        state.tracer = None
        readers.pop(get_ident(), None)

    def _note(self, tensor: Tensor, detaches: bool) -> None:
        array: Any = tensor._data
        if type(array) is TracedArray:
            return
        if detaches:
            self.holders.setdefault(id(array), tensor)
        elif id(array) not in self.read:
            trained = self.holders.get(id(array), tensor)._requires_grad
            self.read[id(array)] = array, trained, where()

    # ---- values

    def leaf(
        self, kind: str, shape: Shape, name: str, dtype: np.dtype[Any] | None = None, **more: Any
    ) -> Tensor:
        """A tensor for something that comes from outside the step."""
        if 0 in shape:
            raise TraceError(f"{name}: a row has no elements")
        value = Value(kind, shape, dtype or self.dtype, name=name, **more)
        if kind == "sequence":
            value.number = len(self.sequences)
            self.sequences.append(value)
        return self.tensor(value, requires_grad=True)

    def tensor(self, value: Value, requires_grad: bool = False) -> Tensor:
        traced = wrap(TracedArray(value, self.rows))  # type: ignore[arg-type]
        traced._requires_grad = requires_grad and value.dtype.kind == "f"
        self._alive.append(traced)
        return traced

    def train(self, tensors: Sequence[Tensor]) -> None:
        """Let gradients of these real tensors, and of what is made of them, be wanted."""
        self._trainable.update(id(t) for t in tensors if t.dtype.kind == "f")

    def value_of(self, tensor: Tensor) -> Value:
        """The value behind a tensor; a real one becomes an invariant."""
        data: Any = tensor._data
        if type(data) is not TracedArray:
            data = self.stand_in(tensor)._data
        value: Value = data.value
        return value

    def stand_in(self, tensor: Tensor) -> Tensor:
        """The traced tensor for a real one."""
        found = self._stand_ins.get(id(tensor))
        if found is None:
            self._know_detached(tensor)
            value = Value("invariant", tensor._data.shape, tensor._data.dtype, None, serial=False)
            value.number = len(self.invariants)
            self.invariants.append(value)
            self.tensor_of[value] = tensor
            self._alive.append(tensor)
            found = self.tensor(value, tensor._requires_grad or id(tensor) in self._trainable)
            if found._requires_grad and not self.backward:
                # A step that asks for its gradient is refused by the rule that sums over rows.
                PrimitiveNode(PRIMITIVES["clone"], (tensor,), {}, None, 0).made([found])
                self._ends.append(found)
            self._stand_ins[id(tensor)] = found
        return found

    def _stood_for(self, tensor: Tensor) -> Tensor:
        """The real tensor for a stand-in; any other as it is."""
        data: Any = tensor._data
        return self.tensor_of.get(data.value, tensor) if type(data) is TracedArray else tensor

    def constant(self, number: float | np.ndarray[Any, Any], dtype: Any = None) -> Value:
        """An invariant that a rule needs."""
        array = np.asarray(number, dtype or self.dtype)
        key = (array.dtype.char, array.shape, array.tobytes())
        if key not in self._constants:
            self._constants[key] = self.value_of(wrap(array))
        return self._constants[key]

    def emit(
        self, name: str, inputs: Sequence[Value], shape: Shape, /, *, rows: str | None = ROWS_FIRST,
        dtype: Any = None, **params: Any,
    ) -> Value:
        """The value that an operation gives; one that is there already is shared.

        Its dtype is that of the first operand where none is given.
        """
        operation = Operation(name, list(inputs), params)
        dtype = inputs[0].dtype if dtype is None else np.dtype(dtype)
        # The shape too: parts that begin at the same place may end at others.
        key = (operation.key, tuple(shape), dtype, rows)
        found = self._same.get(key)
        if found is not None:
            return found
        # A view of nothing may still be joined to something.
        shapes = (shape, *[v.shape for v in inputs])
        if rows and name not in VIEWS and any(0 in each for each in shapes):
            raise TraceError(f"{where()}: {name} of rows without elements")
        out = Value(
            "operation", shape, dtype, rows, serial=any(v.serial for v in inputs), of=operation,
        )
        operation.out = out
        self.operations.append(operation)
        self._same[key] = out
        return out

    # ---- calls

    def call(self, primitive: Primitive, inputs: tuple[Tensor, ...], params: dict[str, Any]) -> Any:
        """What a primitive gives; see ``Primitive.__call__``."""
        if not self.backward:
            # Where the step itself asks for gradients, rules take what stands for a tensor.
            inputs = tuple([self._stood_for(t) for t in inputs])
        is_for_batch = _is_for_batch(primitive, inputs, params, self.rows)
        if primitive.name == "getitem":
            params = {"key": self._of_any_rows(params["key"], self.rows)}
        if is_for_batch or any(type(tensor._data) is TracedArray for tensor in inputs):
            given = tuple([
                t if type(t._data) is TracedArray else self.stand_in(t) for t in inputs
            ])
        elif any(self.is_of_batch(tensor) for tensor in inputs):
            given = tuple([
                self.same_rows(primitive.name, t) if self.is_of_batch(t) else self.stand_in(t)
                for t in inputs
            ])
        elif primitive.name == "getitem" and self._is_of_rows(params["key"]):
            # Of a table, by ids that are the same in every row.
            row = self._call_for_real(primitive, inputs, {"key": params["key"][:1]})
            return self.call(
                PRIMITIVES["broadcast_to"], (row,), {"shape": (self.rows, *row.shape[1:])}
            )
        else:
            return self._call_for_real(primitive, inputs, params)
        values = [self.value_of(tensor) for tensor in given]
        if all(value.rows is None for value in values) and not is_for_batch:
            results: Any = self._without_rows(primitive, values, params)
        elif primitive.name in ("linear", "matmul") and (
            self._products.is_in_parts(primitive.name, values) and not self.backward
        ):
            shape = self._products.shape_of(self, primitive.name, values)
            results = Value(
                "operation", shape, self.dtype, serial=any(value.serial for value in values)
            )
            if not self._hoist(results, primitive, values):
                return self._products.in_parts(self, primitive.name, inputs)
        elif primitive.name == "einsum":
            return self._products.contracted(self, inputs, **params)
        else:
            rule = self._rules.get(primitive.name)
            if rule is None:
                instead = _INSTEAD.get(primitive.name, "")
                raise TraceError(
                    f"{where()}: {primitive.name} cannot be part of a program{instead}"
                )
            results = rule(self, values, params)
        several = isinstance(results, tuple)
        recorded = state.enabled and primitive.differentiable
        trained = recorded and any(t._requires_grad for t in given)
        if not several and self._hoist(results, primitive, values):
            key = _key(primitive, given, params, recorded)
            if key not in self._results:
                call = Call(primitive, inputs, params, None, recorded)
                self._results[key] = found = self._hoisted(results, call, trained)
                if trained:
                    # The step may ask for gradients itself, which go on through it.
                    PrimitiveNode(primitive, given, params, None, 0).made([found])
                    self._ends.append(found)
            return self._results[key]
        outputs = [self.tensor(value) for value in (results if several else (results,))]
        for i, output in enumerate(outputs):
            data: Any = output._data
            if not self.backward and data.value.rows is not None and not data.value.serial:
                data.call = Call(primitive, inputs, params, i if several else None, recorded)
        if trained:
            kept: Any = None
            if primitive._keeps_output:
                arrays = tuple([output._data for output in outputs])
                kept = arrays if several else arrays[0]
            n_outputs = len(outputs) if several else 0
            PrimitiveNode(primitive, given, params, kept, n_outputs).made(outputs)
        return tuple(outputs) if several else outputs[0]

    def refuse_layer(self, name: str, given: Sequence[Tensor]) -> None:
        """Raises TraceError where a step calls a layer over time on its rows: the states of layers
        have their rows on another axis than those of steps."""
        if any(type(tensor._data) is TracedArray for tensor in given):
            raise TraceError(
                f"{where()}: a layer over time ({name}) cannot be part of a program: call its "
                "cell's step"
            )

    def is_of_batch(self, tensor: Tensor) -> bool:
        """Whether a real tensor, such as zeros((N, H)), was made for the batch: no size of a cell
        is a multiple of the number of rows."""
        return any(size and size % self.rows == 0 for size in tensor._data.shape)

    def _is_of_rows(self, key: Any) -> bool:
        """Whether a key is of ids for the batch, the same in every row."""
        return (
            isinstance(key, np.ndarray) and key.shape[:1] == (self.rows,)
            and key.dtype.kind in "iu" and bool((key == key[:1]).all())
        )

    def same_rows(self, name: str, tensor: Tensor) -> Tensor:
        """What was made for the batch, as rows: what is done with it is done with rows, too.

        Raises:
            TraceError: its rows are not the same.
        """
        array = tensor._data
        if tensor._requires_grad or array.shape[0] != self.rows or (array != array[:1]).any():
            raise TraceError(
                f"{where()}: {name} takes a tensor {array.shape} that is not from the batch"
            )
        row = self.constant(array[0], array.dtype)
        rows = self.tensor(self.emit("copy", [row], row.shape))
        data: Any = rows._data
        lay_out = PRIMITIVES["broadcast_to"]
        data.call = Call(lay_out, (self.tensor_of[row],), {"shape": array.shape}, None, False)
        return rows

    def _call_for_real(
        self, primitive: Primitive, inputs: tuple[Tensor, ...], params: dict[str, Any]
    ) -> Any:
        for tensor in inputs:
            self._know_detached(tensor)
        recorded = state.enabled and primitive.differentiable
        key = _key(primitive, inputs, params, recorded)
        if key in self._results:
            return self._results[key]
        state.tracer = None
        try:
            result = primitive(*inputs, **params)
        finally:
            state.tracer = self
        self._results[key] = result
        several = isinstance(result, tuple)
        trainable = recorded and any(
            t._requires_grad or id(t) in self._trainable for t in inputs
        )
        for i, tensor in enumerate(result if several else (result,)):
            call = Call(primitive, inputs, params, i if several else None, recorded)
            self.calls[id(tensor)] = call
            self.holders.setdefault(id(tensor._data), tensor)
            self._alive.append(tensor)
            if trainable and tensor.dtype.kind == "f":
                self._trainable.add(id(tensor))
        return result

    def _know_detached(self, tensor: Tensor) -> None:
        """A tensor that shares the array of another is that one without its history."""
        holder = self.holders.get(id(tensor._data), tensor)
        if holder is not tensor and id(tensor) not in self.calls:
            call = Call(PRIMITIVES["clone"], (holder,), {}, None, False)
            self.calls[id(tensor)] = call
            self._alive.append(tensor)

    def _without_rows(
        self, primitive: Primitive, values: list[Value], params: dict[str, Any]
    ) -> Value | tuple[Value, ...]:
        """An operation between invariants and sums over the batch: the engine's array code."""
        shapes = [np.zeros(v.shape, v.dtype) for v in values]
        result = state.run(primitive.forward, *shapes, **params)
        several = isinstance(result, tuple)
        outs = []
        for i, array in enumerate(result if several else (result,)):
            array = np.asarray(array)
            outs.append(self.emit(
                "primitive", values, array.shape, rows=None, dtype=array.dtype,
                primitive=primitive, position=i if several else None, params=params,
            ))
        return tuple(outs) if several else outs[0]

    def _hoist(self, value: Any, primitive: Primitive, operands: list[Value]) -> bool:
        """Whether a value is a product of the input alone, to be computed for all steps at once."""
        return (
            not self.backward and primitive.name in ("linear", "matmul")
            and value.rows == ROWS_FIRST and not value.serial and _are_of_input(operands)
        )

    def _hoisted(self, value: Value, call: Call, trained: bool) -> Tensor:
        leaf = self.leaf("sequence", value.shape, "hoisted", serial=False)
        leaf._requires_grad = trained
        data: Any = leaf._data
        data.call = self.input_calls[data.value] = call
        return leaf

    def end_step(self) -> None:
        """From here on gradients end at what is hoisted, and at what stands for real tensors."""
        for tensor in self._ends:
            tensor.grad_fn = None


def _key(
    primitive: Primitive, inputs: tuple[Tensor, ...], params: dict[str, Any], recorded: bool
) -> tuple[Any, ...]:
    """Equal for calls that give the same, with the same history."""
    from_what = [
        (id(t), 0, t._requires_grad) if type(t._data) is not TracedArray
        else (id(t._data.value), id(t._data.call), t._requires_grad)
        for t in inputs
    ]
    return (id(primitive), recorded, *from_what, told_apart(params))


def _is_for_batch(
    primitive: Primitive, inputs: tuple[Tensor, ...], params: dict[str, Any], rows: int
) -> bool:
    """Whether a call lays a tensor without rows out for the batch: ``self.bias.expand(N, -1)``."""
    if primitive.name != "broadcast_to" or params["shape"][:1] != (rows,):
        return False
    shape = inputs[0]._data.shape
    return len(shape) < len(params["shape"]) or shape[0] == 1


def _are_of_input(operands: list[Value]) -> bool:
    """Whether an input of every step is behind any of these."""
    stack, seen = list(operands), set()
    while stack:
        value = stack.pop()
        if value.kind == "sequence":
            return True
        if value not in seen and value.of is not None:
            seen.add(value)
            stack += value.of.inputs
    return False


Rule = Callable[[Tracer, list[Value], dict[str, Any]], "Value | tuple[Value, ...]"]
