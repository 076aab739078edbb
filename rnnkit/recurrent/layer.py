"""The recurrent primitive: one layer, in one or both directions, over a sequence.

Notation: T time, N batch, I input, H hidden, D directions (1 or 2).
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

from rnnkit import backend, ops
from rnnkit.cells import Cell
from rnnkit.cells.checks import check_tensor
from rnnkit.errors import ArgumentError
from rnnkit.recurrent import tape

if TYPE_CHECKING:
    from rnnkit.autograd import Tensor
    from rnnkit.cells.base import State


def run_layer(
    cells: Sequence[Cell], x: Any, state: Sequence[Any] | None = None, batch_first: bool = False
) -> tuple[Tensor, State]:
    """Runs a cell over a sequence, on the path that ``rnnkit.backend`` decides.

    Both paths give the same outputs and gradients to rounding. An empty sequence (T = 0) gives an
    empty output and hands the initial state through; an empty batch (N = 0) gives empty arrays.
    NaN and infinities propagate as the equations say. Read-only and non-contiguous arrays are fine.

    Args:
        cells: the forward cell or, for both directions, (forward, reverse): same kind, same sizes.
        x: (T, N, I), or (N, T, I) with ``batch_first``.
        state: initial state, one (D, N, H) per state name; None takes the cells' ``initial_state``.
        batch_first: whether x and the output have the batch as the first axis.

    Returns:
        The output (T, N, D*H), or (N, T, D*H) with ``batch_first``, where the directions are side
        by side in the last axis; and the final state, (D, N, H) per state name. The final state of
        the reverse direction is the one after the first time step.

    Raises:
        ShapeError: a wrong rank or size of x, of a state or of a parameter.
        DTypeError: integers, or dtypes that differ between x, the states and the parameters.
        ArgumentError: a wrong number of cells or states.
        BackendError: the native path is forced and can't run this cell; the message has the reason.
    """
    cell = _check_cells(cells)
    dtype = cell.dtype
    axes = "(N, T, I)" if batch_first else "(T, N, I)"
    x = check_tensor("x", x, dtype, {3: axes}, last=cell.input_size)
    if state is not None:
        state = _check_state(cells, state, x.shape[0 if batch_first else 1])
    return run_checked_layer(cells, x, state, batch_first)


def run_checked_layer(
    cells: Sequence[Cell], x: Tensor, state: State | None, batch_first: bool
) -> tuple[Tensor, State]:
    """``run_layer`` for a caller that has checked all arguments itself."""
    cell = cells[0]
    dtype = backend.DTYPE_NAMES[cell.dtype]
    first, second, I = x.data.shape
    N, T = (first, second) if batch_first else (second, first)
    if state is None:
        state = _initial_state(cells, N)
    for each in cells:
        each.check_parameters()
    name = type(cell).__name__.removesuffix("Cell")
    decision = backend.decide(
        ("{} layer T={} N={} I={} H={} {}", (name, T, N, I, cell.hidden_size, dtype)),
        cell.kernel,
        dtype,
    )
    if decision.path == "fused":
        from rnnkit.recurrent import native

        return native.run_layer(cells, x, state, batch_first)
    return tape.run_layer(cells, x, state, batch_first)


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
        for what in ("input_size", "hidden_size", "dtype", "bias", *first.variants[0]):
            a, b = getattr(first, what, None), getattr(last, what, None)
            if a != b:
                raise ArgumentError(
                    f"cells: expected the same {what} in both directions, got {a} and {b}"
                )
    return first


def _initial_state(cells: Sequence[Cell], N: int) -> State:
    first = cells[0]
    if all(type(cell).initial_state is Cell.initial_state for cell in cells):
        shape = (len(cells), N, first.hidden_size)
        return tuple(ops.zeros(shape, dtype=first.dtype) for _ in first.state_names)
    per_direction = [cell.initial_state(N) for cell in cells]
    return tuple(ops.stack(list(parts), 0) for parts in zip(*per_direction, strict=True))


def _check_state(cells: Sequence[Cell], state: Sequence[Any], N: int) -> State:
    cell = cells[0]
    names = cell.state_names
    if not isinstance(state, (tuple, list)) or len(state) != len(names):
        raise ArgumentError(
            f"state: expected a tuple ({', '.join(names)}), got "
            + (f"{len(state)} items" if isinstance(state, (tuple, list)) else type(state).__name__)
        )
    shape = (len(cells), N, cell.hidden_size)
    return tuple(
        check_tensor(name, value, cell.dtype, shape=shape)
        for name, value in zip(names, state, strict=True)
    )
