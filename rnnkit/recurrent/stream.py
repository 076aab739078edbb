"""Streaming: a stack of layers that takes its steps as they come and carries its state."""

from __future__ import annotations

from _thread import LockType, allocate_lock
from collections.abc import Callable, Mapping, Sequence
from functools import partial
from typing import TYPE_CHECKING, Any

import numpy as np

from rnnkit import backend
from rnnkit.autograd import Tensor, no_grad
from rnnkit.autograd.checks import check_tensor
from rnnkit.backend import DTYPE_NAMES
from rnnkit.cells import Cell
from rnnkit.checks import check_list, check_size
from rnnkit.errors import ArgumentError, DTypeError, ShapeError
from rnnkit.recurrent.held import common_kernel, held_by
from rnnkit.recurrent.native import weights_of
from rnnkit.recurrent.program import obstacle

if TYPE_CHECKING:
    from rnnkit.autograd.tensor import Array

_array = np.ndarray  # as a name of this module, which is found sooner


class Call:
    """What a `Stepper` holds, and its call: a C structure where it is compiled, whose class would
    not tell how a `Stepper` is made.
    """

    __slots__ = (
        "_batch", "_cells", "_dtype", "_in_use", "_mode", "_native", "_path", "_runner", "_state"
    )

    _batch: int
    _cells: tuple[Cell, ...]
    _dtype: np.dtype[Any]
    _in_use: LockType
    _mode: str
    _native: Callable[[Array, Array | None], Array] | None
    _path: str
    _runner: _NativeRunner | _ProgramRunner | _TapeRunner
    _state: tuple[Array, ...]

    def __call__(self, x: Any, out: Array | None = None) -> Any:
        if self._native is not None and type(x) is _array:
            # A microsecond counts here: the native side checks as well, and says less.
            try:
                return self._native(x, out)
            except (TypeError, ValueError, BufferError):
                pass
        return self._take(x, out)

    def _take(self, x: Any, out: Array | None) -> Any:
        """A call that the native side refuses, or has no part in."""
        array = self._checked(x)
        shape = (*array.shape[:-1], self._cells[-1].output_size)
        if out is None:
            y = np.empty(shape, self._dtype)
        else:
            y = self._checked_out(out, shape)
            # Of a block, one step's output is written before the next one reads the state.
            in_state = y.ndim == 3 and any(np.may_share_memory(y, own) for own in self._state)
            if in_state or not (y.flags.aligned and y.dtype.isnative):  # as no kernel writes
                y[...] = self(array)
                return y
            if np.may_share_memory(array, y):
                array = array.copy()
        if not self._in_use.acquire(blocking=False):
            raise RuntimeError(
                "a stepper serves one thread at a time: another is in a call of it, or was when "
                "this process was forked, which leaves a state between two steps: make another "
                "stream then"
            )
        try:
            self._runner.run(array, y)
        finally:
            self._in_use.release()
        return Tensor(y, copy=False) if out is None and isinstance(x, Tensor) else y

    def _checked_out(self, out: Any, shape: tuple[int, ...]) -> Array:
        if not isinstance(out, np.ndarray):
            raise DTypeError(f"out: expected a NumPy array, got {type(out).__name__}")
        check_tensor("out", out, self._dtype, shape=shape)
        if not out.flags.writeable:
            raise ArgumentError("out: expected an array that can be written to")
        if shape[-1] > 1 and out.strides[-1] != out.itemsize:
            raise ArgumentError(f"out: expected a contiguous last axis, got strides {out.strides}")
        return out

    def _checked(self, x: Any) -> Array:
        first = self._cells[0]
        axes = {2: "(N, I)", 3: "(T, N, I)"}
        tensor = check_tensor("x", x, self._dtype, axes, last=first.input_size)
        if tensor.shape[-2] != self._batch:
            raise ShapeError(f"x: expected a batch of {self._batch}, got shape {tensor.shape}")
        if tensor.shape[0] == 0:
            raise ShapeError(f"x: expected at least one step, got shape {tensor.shape}")
        return np.require(tensor.data, requirements=("C", "A"))


class Stepper(Call):
    """What ``module.stream(batch_size)`` returns: it owns a state and moves it on at each call.

    ``y = stepper(x)`` takes one step, x (N, I) and y (N, H) of the last layer, or a block of them,
    (T, N, I) and (T, N, H). With ``out=`` the result is written there; natively, no array is then
    allocated, unless a block is longer than all before it. The outputs are bit for bit those of the
    module in evaluation mode on the whole sequence, on the same native path, whatever mode the
    module is in. Nothing is recorded for gradients.

    Args of a call:
        x: (N, I), or (T, N, I) with T at least 1; an array or a Tensor.
        out: array for the result, of its shape and dtype, with a contiguous last axis.

    Returns ``out``, or a new array (N, H) or (T, N, H); a Tensor where x is one and there is no
    ``out``.

    Raises:
        ShapeError: x or ``out`` has other sizes. The state has not moved.
        DTypeError: another dtype than the parameters have, or ``out`` is no array.
        ArgumentError: ``out`` cannot be written to, or its last axis is not contiguous.
        RuntimeError: another thread is in a call of this stepper, or was in the parent of this
            process when it was forked.

    Weights are taken when the stepper is made; ``refresh()`` takes them again, and decides anew on
    which path, of those that the backend in force when it was made allows. The module itself
    may be trained meanwhile, in other threads too. A stepper serves one thread at a time. A child
    that is forked while another thread is in a call finds it in use for good: its state, or the
    weights that were being taken, are from the middle of that call.

    Attributes:
        state: one (L, N, H) array per state name, or as the cell's ``state_shapes`` say; writing
            into them changes the state, and assigning others is ``reset`` to these.
    """

    __slots__ = ()

    def __init__(self, cells: Sequence[Cell], batch_size: int = 1) -> None:
        self._cells = tuple(check_list("cells", cells, "the Cells of one layer or more"))
        if not self._cells or not all(isinstance(cell, Cell) for cell in self._cells):
            raise ArgumentError(f"cells: expected the Cells of one layer or more, got {cells!r}")
        cells, first = self._cells, self._cells[0]
        self._batch = check_size("batch_size", batch_size)
        self._dtype = first.dtype
        initial = [cell.initial_state_for(self._batch) for cell in cells]
        self._state = tuple(
            np.stack([start.data for start in starts]) for starts in zip(*initial, strict=True)
        )
        self._in_use = allocate_lock()
        self._native = None
        self._mode = backend.get_backend()
        evaluated = self._evaluated()
        self._run_by(self._decided(evaluated), evaluated)

    def _decided(self, evaluated: Sequence[Cell]) -> str:
        """The path for the cells as they are now."""
        first, dtype = evaluated[0], DTYPE_NAMES[self._dtype]
        held = [held_by(cell) for cell in evaluated]
        decision = backend.decide(
            op=f"{type(first).__name__.removesuffix('Cell')} stream N={self._batch} "
            f"I={first.input_size} H={first.hidden_size} L={len(evaluated)} {dtype}",
            kernel=common_kernel(held),
            dtype=dtype,
            program=partial(obstacle, evaluated, held),
        )
        return decision.path

    def _run_by(self, path: str, evaluated: tuple[Cell, ...]) -> None:
        """Have a path take the steps from here on, from the state as it is."""
        if path == "fused":
            native = _NativeRunner(evaluated, self._state)
            self._runner, self._native = native, native.run
        elif path == "program":
            program = _ProgramRunner(evaluated, self._state, self._in_use)
            self._runner, self._native = program, program.step
        else:
            self._runner, self._native = _TapeRunner(evaluated, self._state), None
        self._path = path

    @property
    def state(self) -> tuple[Array, ...]:
        return self._state

    @state.setter
    def state(self, value: Any) -> None:
        self.reset(value)  # into the arrays that the runner goes on with

    def reset(self, state: Any = None, rows: Any = None) -> None:
        """Restart from the initial state, or from ``state``; all rows, or some of them.

        Args:
            state: one (L, N, H) per state name, or as the module returns it where there is only
                one; only the chosen rows are read. None: the cells' initial state.
            rows: which sequences restart: (N,) bools, such as an environment's "done", or integers
                from 0 to N - 1; None: all. The others go on as if nothing had happened.

        Raises:
            ShapeError, DTypeError, ArgumentError: a state, or rows, of another shape, dtype or
                range. The state has not moved.
        """
        chosen = slice(None) if rows is None else self._checked_rows(rows)
        if state is None:
            initial = [cell.initial_state_for(self._batch) for cell in self._cells]
            for own, *starts in zip(self.state, *initial, strict=True):
                for layer, start in enumerate(starts):
                    own[layer, chosen] = start.data[chosen]
            return
        first = self._cells[0]
        given = [
            check_tensor(name, value, self._dtype, shape=own.shape)
            for name, value, own in zip(
                first.state_names, first.unpack_state(state), self.state, strict=True
            )
        ]
        for own, value in zip(self.state, given, strict=True):
            own[:, chosen] = value.data[:, chosen]

    def refresh(self) -> None:
        """Take the module's weights again, after they have changed.

        The path is decided anew: one that something in passing was in the way of, such as a full
        stack while a step was traced, is taken then. Raises DTypeError where the weights have
        another dtype by now, which asks for another stream, and BackendError where the backend
        "native" was in force and cannot run them.
        """
        evaluated = self._evaluated()
        with backend.backend(self._mode):
            path = self._decided(evaluated)
        if path == self._path and isinstance(self._runner, _NativeRunner):
            self._runner.refresh(evaluated)
        else:
            self._run_by(path, evaluated)

    def _evaluated(self) -> tuple[Cell, ...]:
        """The cells as they are now, in evaluation mode.

        Copies: the module itself may be in training meanwhile, in another thread.
        """
        self._check_dtype()
        return tuple([cell.in_evaluation() for cell in self._cells])

    def _check_dtype(self) -> None:
        for cell in self._cells:
            if cell.dtype != self._dtype:
                raise DTypeError(
                    f"parameters: expected {self._dtype}, as when the stream was made, got "
                    f"{cell.dtype}; make another stream"
                )

    def copy(self) -> Stepper:
        """Another stepper in the same state, which then goes its own way.

        It is made anew: with the module's weights as they are by now.
        """
        self._check_dtype()
        other = Stepper(self._cells, self._batch)
        other.reset(self.state)
        return other

    def __copy__(self) -> Stepper:
        return self.copy()

    def __deepcopy__(self, memo: dict[int, Any]) -> Stepper:
        return self.copy()

    def __reduce__(self) -> Any:
        raise TypeError("a stepper cannot be pickled: keep its state_dict(), and stream() anew")

    def state_dict(self) -> dict[str, Array]:
        """A copy of the state, by state name: what ``numpy.savez(file, **...)`` takes as it is."""
        return {
            name: value.copy()
            for name, value in zip(self._cells[0].state_names, self.state, strict=True)
        }

    def load_state_dict(self, state: Mapping[str, Any]) -> None:
        """Go on from a state that ``state_dict`` returned, or that ``numpy.load`` read again."""
        names = self._cells[0].state_names
        if not hasattr(state, "keys"):  # numpy.load gives no dict
            raise ArgumentError(f"state: expected what state_dict() returned, got {state!r}")
        if sorted(state) != sorted(names):
            raise ArgumentError(f"state: expected {', '.join(names)}, got {', '.join(state)}")
        self.reset([state[name] for name in names])

    def _checked_rows(self, rows: Any) -> Array:
        """Which rows, as an array that picks them."""
        N = self._batch
        array = np.asarray(rows.data if isinstance(rows, Tensor) else rows)
        if array.dtype == np.bool_:
            if array.shape != (N,):
                raise ShapeError(f"rows: expected {N} bools, one for each, got {array.shape}")
            return array
        if array.size == 0:
            return np.zeros(0, np.intp)
        if array.dtype.kind not in "iu":
            raise DTypeError(f"rows: expected bools or integers, got {array.dtype}")
        if array.ndim > 1:
            raise ShapeError(f"rows: expected one axis, got shape {array.shape}")
        if array.min() < 0 or array.max() >= N:
            raise ArgumentError(f"rows: expected from 0 to {N - 1}, got {array.tolist()}")
        return array.reshape(-1)

class _NativeRunner:
    """All layers in one native call."""

    __slots__ = ("_native", "run")

    run: Callable[[Array, Array | None], Array]

    def __init__(self, cells: Sequence[Cell], state: tuple[Array, ...]) -> None:
        first = cells[0]
        extension = backend.native()
        assert extension is not None
        assert first.kernel is not None
        self._native = extension.Stepper(
            first.kernel, first.kernel_variant, DTYPE_NAMES[first.dtype],
            [weights_of(cell) for cell in cells], state, backend.get_num_threads(),
        )
        self.run = self._native.run

    def refresh(self, cells: Sequence[Cell]) -> None:
        self._native.repack([weights_of(cell) for cell in cells])


class _ProgramRunner:
    """The cells' traced programs: one native call for each layer, and for single steps of most of
    them one for all.
    """

    __slots__ = ("_programs", "step")

    step: Callable[[Array, Array | None], Array] | None

    def __init__(self, cells: Sequence[Cell], state: tuple[Array, ...], lock: LockType) -> None:
        from rnnkit.recurrent.program.stream import ProgramRunner

        with no_grad():
            self._programs = ProgramRunner(cells, state)
            stepper = self._programs.stepper(state[0].shape[1], lock)
        self.step = None if stepper is None else stepper.run

    def run(self, x: Array, y: Array) -> None:
        with no_grad():
            self._programs.run(x, y)


class _TapeRunner:
    """The cells' own steps, nothing recorded."""

    __slots__ = ("_cells", "_state")

    def __init__(self, cells: Sequence[Cell], state: tuple[Array, ...]) -> None:
        self._cells = cells
        self._state = state

    def run(self, x: Array, y: Array) -> None:
        with no_grad():
            for step, result in zip(x, y, strict=True) if x.ndim == 3 else [(x, y)]:
                self._take(step, result)

    def _take(self, x: Array, y: Array) -> None:
        value = Tensor(x, copy=False)
        for layer, cell in enumerate(self._cells):
            # Copies: a new state, or an output, may be an old one under another name.
            before = tuple(Tensor(each[layer]) for each in self._state)
            drawn = [each[0] for each in cell.drawn_for(1, value.shape[0])]
            take: Any = cell.step
            value, after = cell.checked_result(take(value, before, *drawn), value.shape[0])
            for own, new in zip(self._state, after, strict=True):
                own[layer] = new.data
        y[...] = value.data
