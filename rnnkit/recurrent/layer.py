"""The recurrent primitive: one layer, in one or both directions, over a sequence.

Notation: T time, N batch, I input, H hidden, D directions (1 or 2).
"""

from __future__ import annotations

from collections.abc import Sequence
from functools import partial
from typing import TYPE_CHECKING, Any

import numpy as np

from rnnkit import backend, ops
from rnnkit.autograd import is_grad_enabled
from rnnkit.autograd.checks import check_tensor
from rnnkit.autograd.grad_mode import state as thread
from rnnkit.autograd.tensor import wrap
from rnnkit.cells import Cell
from rnnkit.checks import check_bool
from rnnkit.errors import ArgumentError
from rnnkit.recurrent import native, observe, tape
from rnnkit.recurrent.held import common_kernel, held_by
from rnnkit.recurrent.memory import bytes_of, note_segments
from rnnkit.recurrent.options import Options, Result
from rnnkit.recurrent.program import obstacle, runner
from rnnkit.recurrent.schedule import make_schedule

if TYPE_CHECKING:
    from rnnkit.autograd import Tensor
    from rnnkit.cells.base import State
    from rnnkit.recurrent.held import Held


def run_layer(
    cells: Sequence[Cell],
    x: Any,
    state: Sequence[Any] | None = None,
    batch_first: bool = False,
    *,
    lengths: Any = None,
    reset: Any = None,
    reset_state: Sequence[Any] | None = None,
    return_sequences: bool = True,
    return_steps: bool = False,
    memory: str | int = "full",
) -> Any:
    """Runs a cell over a sequence, on the path that ``rnnkit.backend`` decides.

    A fused kernel, a traced program and the tape give the same outputs and gradients to rounding.
    An empty sequence (T = 0) gives an empty output and hands the initial state through; an empty
    batch (N = 0) gives empty arrays.
    NaN and infinities propagate as the equations say. Read-only and non-contiguous arrays are fine.

    Args:
        cells: the forward cell or, for both directions, (forward, reverse): same kind, same sizes.
        x: (T, N, I), or (N, T, I) with ``batch_first``.
        state: initial state, one (D, N, H) per state name; None takes the cells' ``initial_state``.
        batch_first: whether x and the output have the batch as the first axis.
        lengths: (N,) integers from 0 to T, the steps of each row; None: all T.
        reset: (T, N) booleans, or (N, T) with ``batch_first``, True where a new sequence begins:
            the state of that row restarts, and no gradient passes.
        reset_state: where it restarts, laid out as ``state``; None: zero.
        return_sequences: whether the output of every step is wanted, or only each row's last.
        return_steps: whether the states after every step are wanted.
        memory: what the forward pass may keep for the backward pass: see ``recurrent.memory``.

    Returns:
        The output (T, N, D*H), or (N, T, D*H) with ``batch_first``, where the directions are side
        by side in the last axis and steps past a row's end are zero, or (N, D*H) without
        ``return_sequences``; and the final state, (D, N, H) per state name, at each row's own end.
        The final state of the reverse direction is the one after the first time step. With
        ``return_steps`` also a tuple of one tensor per state name, of the layout of the output.

    Raises:
        ShapeError: a wrong rank or size of x, of a state, of a parameter, of lengths or reset.
        DTypeError: integers, or dtypes that differ between x, the states and the parameters.
        ArgumentError: a wrong number of cells or states, a length out of range, a memory that is no
            amount of bytes, a flag that is no bool.
        BackendError: the native path is forced and can't run this cell; the message has the reason.
    """
    cell = _check_cells(cells)
    batch_first = check_bool("batch_first", batch_first)
    return_sequences = check_bool("return_sequences", return_sequences)
    return_steps = check_bool("return_steps", return_steps)
    dtype = cell.dtype
    axes = "(N, T, I)" if batch_first else "(T, N, I)"
    x = check_tensor("x", x, dtype, {3: axes}, last=cell.input_size)
    first, second, _ = x.shape
    T, N = (second, first) if batch_first else (first, second)
    if state is not None:
        state = cell.checked_state("", state, (len(cells), N))
    if reset_state is not None:
        reset_state = cell.checked_state("reset_state: ", reset_state, (len(cells), N))
    options = Options(
        batch_first,
        make_schedule(T, N, lengths, reset, batch_first),
        return_sequences,
        return_steps,
        bytes_of(memory),
    )
    result = run_checked_layer(cells, x, state, reset_state, options)
    both = result.y, result.final
    return (*both, result.steps) if return_steps else both


def run_checked_layer(
    cells: Sequence[Cell], x: Tensor, state: State | None, restart: State | None,
    options: Options, of_first: Held | None = None,
) -> Result:
    """``run_layer`` for a caller that has checked all arguments itself.

    Args:
        of_first: what the first of the cells holds now, where that is known.
    """
    tracer = thread.tracer
    if tracer is not None:
        tracer.refuse_layer(cells[0].short_name, (x, *(state or ())))
    if of_first is None:
        of_first = held_by(cells[0])
    held = [of_first] if len(cells) == 1 else [of_first, held_by(cells[1])]
    first, second, I = x._data.shape
    N, T = (first, second) if options.batch_first else (second, first)
    if state is None:
        state = _initial_state(cells, N)
    schedule = options.schedule
    more = "" if schedule is None else schedule.describes
    # A step that is traced has to show its operations.
    kernel = common_kernel(held) if tracer is None else None
    dtype = of_first.dtype_name
    decision = backend.decide(
        (
            "{} layer T={} N={} I={} H={} {}{}",
            (of_first.short_name, T, N, I, of_first.hidden_size, dtype, more),
        ),
        kernel,
        dtype,
        _within_a_trace if tracer is not None
        else None if kernel is not None else partial(obstacle, cells, held),
    )
    run: observe.Run = tape.run_layer
    if decision.path == "fused":
        if not observe.here.observers:
            return native.run_layer(cells, x, state, restart, options, decision, held)
        run = partial(native.run_layer, decision=decision, held=held)
    elif decision.path == "program":
        run = partial(runner().run_layer, decision=decision, held=held)
    elif options.memory is not None and is_grad_enabled() and T and N:
        run = partial(_within_memory, decision)
    if observe.here.observers:
        run = observe.observed(run, decision.path)
    return run(cells, x, state, restart, options)


def _within_a_trace() -> str:
    return "it runs within a step that is traced"


def _within_memory(
    decision: backend.Decision, cells: Sequence[Cell], x: Tensor, state: State,
    restart: State | None, options: Options,
) -> Result:
    from rnnkit.recurrent import checkpoint

    assert options.memory is not None
    if options.schedule is not None and options.schedule.steps == 0:
        return tape.run_layer(cells, x, state, restart, options)
    pieces = tape.Pieces(cells, x, state, restart, options)
    steps = checkpoint.segment_of(pieces, options.memory)
    if steps is None:
        return pieces.whole()
    note_segments(decision, -(-pieces.T // steps), steps, "each computed")
    return checkpoint.run_in_segments(pieces, steps)


def _check_cells(cells: Sequence[Cell]) -> Cell:
    if not isinstance(cells, (tuple, list)) or len(cells) not in (1, 2):
        raise ArgumentError("cells: expected (forward,) or (forward, reverse)")
    for cell in cells:
        if not isinstance(cell, Cell):
            raise ArgumentError(f"cells: expected Cell objects, got {type(cell).__name__}")
    first, last = cells[0], cells[-1]
    if last is not first:
        if type(last) is not type(first):
            kinds = f"{type(first).__name__} and {type(last).__name__}"
            raise ArgumentError(f"cells: expected one kind in both directions, got {kinds}")
        sizes = ("input_size", "hidden_size", "dtype", "bias")
        options = dict.fromkeys(name for variant in first.variants for name in variant)
        others = ("state_shapes", "recurrent_dropout", "zoneout", "training", "kernel")
        for what in (*sizes, *options, *others):
            a, b = getattr(first, what, None), getattr(last, what, None)
            if a != b:
                raise ArgumentError(
                    f"cells: expected the same {what} in both directions, got {a} and {b}"
                )
    return first


def _initial_state(cells: Sequence[Cell], N: int) -> State:
    D, first = len(cells), cells[0]
    own = [cell for cell in cells if type(cell).initial_state is not Cell.initial_state]
    if not own:
        dtype = first.dtype
        return tuple([wrap(np.zeros((D, N, *shape), dtype)) for shape in first.state_shapes])
    per_direction = [cell.initial_state_for(N) for cell in cells]
    return tuple(ops.stack(list(parts), 0) for parts in zip(*per_direction, strict=True))
