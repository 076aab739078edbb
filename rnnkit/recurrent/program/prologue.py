"""What a run computes before its loop, with ordinary tensors on the tape: invariants of the loop,
and products of the inputs for all steps at once."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np

from rnnkit.autograd import Tensor, no_grad
from rnnkit.autograd.function import Alias
from rnnkit.autograd.tensor import wrap
from rnnkit.recurrent.program.trace import TracedArray
from rnnkit.recurrent.program.values import told_apart

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Mapping

    from rnnkit.recurrent.program.trace import Call, Tracer
    from rnnkit.recurrent.program.traced import TracedStep
    from rnnkit.recurrent.program.values import Value


class Prologue:
    """Makes the calls again that tracing left aside.

    Args:
        step: the traced step.
        tensors: the cell's tensors by path, and captured ones by ``id``.
        inputs: for x and what the run draws, all rows of all steps one after the other:
            (rows, ...).
    """

    def __init__(
        self, step: TracedStep, tensors: Mapping[str | int, Tensor], inputs: Mapping[Value, Tensor],
        stand_in: Callable[[Tensor, Tensor], Tensor] | None = None,
    ) -> None:
        self._stand_in = stand_in
        self._step = step
        self._paths = step.cell_tensors
        self._tracer: Tracer = step.tracer
        self._tensors = tensors
        self._inputs = inputs
        self._of_tensor: dict[int, Tensor] = {}
        self._of_call: dict[Call, Tensor] = {}
        self.watched: dict[TracedArray, Tensor | None] = {}
        self._results: dict[Any, tuple[Any, list[Tensor]]] = {}

    def for_inputs(
        self, inputs: Mapping[Value, Tensor],
        stand_in: Callable[[Tensor, Tensor], Tensor] | None = None,
        watched: Iterable[TracedArray] = (),
    ) -> Prologue:
        """Another with these inputs, and the invariants that this one has computed.

        ``stand_in`` gives the tensor that calls on inputs take in place of an invariant, from what
        stood for it in the trace and from itself. What calls take in place of ``watched`` is found
        under that name: nothing else leads there.
        """
        other = Prologue(self._step, self._tensors, inputs, stand_in)
        other.watched = dict.fromkeys(watched)
        other._of_tensor = self._of_tensor
        return other

    def invariant(self, value: Value) -> Tensor:
        """An invariant that a primitive left, or that was there before."""
        return self.real(self._tracer.tensor_of[value])

    def real(self, tensor: Tensor) -> Tensor:
        """The tensor that stands for one of the trace, which is no input of every step."""
        found = self._of_tensor.get(id(tensor))
        if found is not None:
            return found
        path = self._paths.get(id(tensor))
        call = self._tracer.calls.get(id(tensor))
        if path is not None:
            found = self._tensors[path]
        elif call is not None:
            found = self._made(call, [self.real(t) for t in call.inputs], call.params)
        else:
            found = self._tensors.get(id(tensor), tensor)
        self._of_tensor[id(tensor)] = found
        return found

    def sequence(self, value: Value) -> Tensor:
        """An input of every step, as rows (rows, ...)."""
        call = self._tracer.input_calls.get(value)
        return self._inputs[value] if call is None else self._rows(call)

    def _rows(self, call: Call) -> Tensor:
        found = self._of_call.get(call)
        if found is None:
            inputs = [self._input(t) for t in call.inputs]
            found = self._made(call, inputs, _for_rows(call, self._n_rows, self._tracer.rows))
            self._of_call[call] = found
        return found

    def _input(self, tensor: Tensor) -> Tensor:
        data: Any = tensor._data
        if type(data) is TracedArray:
            value: Value = data.value
            if value.rows:
                rows = self._inputs[value] if data.call is None else self._rows(data.call)
                if not tensor._requires_grad and rows._requires_grad:
                    return rows.detach()  # as the step has done
                if data not in self.watched:
                    return rows
                found = self.watched[data]
                if found is None:
                    found = self.watched[data] = Alias.apply(rows)
                return found
            tensor = self._tracer.tensor_of[value]
        real = self.real(tensor)
        if self._stand_in is not None:
            real = self._stand_in(tensor, real)
        if real.shape[:1] == (self._tracer.rows,) and self._step.is_constant(tensor):
            # Made for the batch: its rows are all the same.
            return wrap(np.broadcast_to(real._data[:1], (self._n_rows, *real.shape[1:])))
        return real

    @property
    def _n_rows(self) -> int:
        return next(iter(self._inputs.values())).shape[0]

    def _made(self, call: Call, inputs: list[Tensor], params: dict[str, Any]) -> Tensor:
        inputs_of = tuple([id(t) for t in inputs])
        key = (id(call.primitive), call.recorded, inputs_of, told_apart(params))
        if key not in self._results:
            if call.recorded:
                result = call.primitive(*inputs, **params)
            else:
                with no_grad():
                    result = call.primitive(*inputs, **params)
            # The inputs are kept too, so that their ids stay theirs.
            self._results[key] = result, inputs
        result, _ = self._results[key]
        made: Tensor = result if call.position is None else result[call.position]
        return made


def _for_rows(call: Call, rows: int, traced: int) -> dict[str, Any]:
    """Parameters that name the number of rows."""
    params = call.params
    if "shape" in params and params["shape"][:1] == (traced,):
        params = {**params, "shape": (rows, *params["shape"][1:])}
    return params


def leaf(array: Any, need: bool) -> Tensor:
    """A tensor that a graph of a run's own begins from."""
    tensor = wrap(array)
    tensor._requires_grad = bool(need)
    return tensor
