"""The fused path: the whole loop over time, forward and backward, in one native call a direction.

What a training step keeps for its backward pass, per direction: the gates after their
nonlinearities and one more row of hidden size, both padded to whole vectors, as ``stored_bytes``
tells; the RNN keeps nothing beyond its output. Under ``no_grad`` nothing is kept.
"""

from __future__ import annotations

import copy
from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

import numpy as np

from rnnkit import backend
from rnnkit.autograd import Function, grad, is_grad_enabled
from rnnkit.autograd.tensor import wrap
from rnnkit.errors import BackendError, GraphError
from rnnkit.recurrent import tape

if TYPE_CHECKING:
    from rnnkit.autograd import Tensor
    from rnnkit.cells import Cell
    from rnnkit.cells.base import State

    Array = np.ndarray[Any, np.dtype[Any]]

WEIGHTS = ("weight_ih", "weight_hh", "bias_ih", "bias_hh")


def run_layer(
    cells: Sequence[Cell], x: Tensor, state: State, batch_first: bool
) -> tuple[Tensor, State]:
    """As ``recurrent.run_layer``, which has checked the arguments; the state is not None."""
    weights = [getattr(cell, name) for cell in cells for name in WEIGHTS]
    y, *final = FusedLayer.apply(
        x, *state, *weights, cells=tuple(cells), n_states=len(state), batch_first=batch_first
    )
    return y, tuple(final)


def weights_of(cell: Cell) -> tuple[Array, Array, Array | None, Array | None]:
    """w_ih, w_hh, b_ih and b_hh as the kernels take them."""
    w_ih, w_hh, b_ih, b_hh = (getattr(cell, name) for name in WEIGHTS)
    if b_ih is None:
        return _dense(w_ih.data), _dense(w_hh.data), None, None
    return _dense(w_ih.data), _dense(w_hh.data), _dense(b_ih.data), _dense(b_hh.data)


def stored_bytes(cell: Cell, T: int, N: int) -> int:
    """Bytes that one direction of a training step keeps besides its output."""
    sizes = T, N, cell.input_size, cell.hidden_size
    gates, extra = _extension().stored(
        cell.kernel, cell.kernel_variant, backend.DTYPE_NAMES[cell.dtype], *sizes
    )
    return (gates + extra) * cell.dtype.itemsize


class FusedLayer(Function):
    """One layer in one or both directions.

    Inputs: x, each initial state (D, N, H), then w_ih, w_hh, b_ih, b_hh per direction.
    Outputs: y, then each final state (D, N, H).
    """

    @staticmethod
    def forward(ctx: Any, x: Array, *arrays: Array | None, **params: Any) -> tuple[Array, ...]:
        cells, n_states, batch_first = params["cells"], params["n_states"], params["batch_first"]
        H, dtype = cells[0].hidden_size, x.dtype
        ctx.cells, ctx.n_states, ctx.batch_first = cells, n_states, batch_first
        ctx.consumed = False

        initial = [_dense(a) for a in arrays[:n_states] if a is not None]
        weights = [None if a is None else _dense(a) for a in arrays[n_states:]]
        x = _rows(x)
        y = np.empty((*x.shape[:2], len(cells) * H), dtype)
        final = [np.empty_like(a) for a in initial]
        T, N, _ = _by_time(x, batch_first).shape
        if T == 0 or N == 0:
            for start, end in zip(initial, final, strict=True):
                end[...] = start
            ctx.directions = None
            return (y, *final)

        keep = any(ctx.needs_input_grad)
        ctx.directions = directions = []
        for d, cell in enumerate(cells):
            direction = _Direction(
                cell,
                x=_in_order(_by_time(x, batch_first), d),
                y=_in_order(_by_time(y, batch_first)[:, :, d * H : (d + 1) * H], d),
                initial=[a[d] for a in initial],
                weights=weights[d * len(WEIGHTS) : (d + 1) * len(WEIGHTS)],
            )
            direction.forward([a[d] for a in final], keep)
            if keep:
                directions.append(direction)
        return (y, *final)

    @staticmethod
    def backward(
        ctx: Any, d_y: Tensor | None, *d_final: Tensor | None
    ) -> tuple[Tensor | None, ...]:
        if is_grad_enabled():
            return _backward_on_tape(ctx, d_y, d_final)
        if ctx.consumed:
            raise GraphError(
                "an earlier backward pass through this layer was interrupted after it had begun to "
                "overwrite what the forward pass kept; run the forward pass again"
            )
        ctx.consumed = not ctx.retain_graph
        needs, n_states, cells = ctx.needs_input_grad, ctx.n_states, ctx.cells
        inputs = [None if t is None else t.data for t in ctx.inputs]
        # What every direction writes whole need not be cleared first; an empty run writes nothing.
        make = np.zeros if ctx.directions is None else np.empty
        grads = [
            make(a.shape, a.dtype) if need and a is not None else None
            for a, need in zip(inputs, needs, strict=True)
        ]
        if ctx.directions is None:
            for d_initial, d_end in zip(grads[1 : 1 + n_states], d_final, strict=True):
                if d_initial is not None and d_end is not None:
                    d_initial[...] = d_end.data
            return tuple([None if g is None else wrap(g) for g in grads])

        H = cells[0].hidden_size
        d_x = None if grads[0] is None else _by_time(grads[0], ctx.batch_first)
        d_out = None if d_y is None else _by_time(_rows(d_y.data), ctx.batch_first)
        d_ends = [None if t is None else _dense(t.data) for t in d_final]
        for d, direction in enumerate(ctx.directions):
            first = 1 + n_states + d * len(WEIGHTS)
            direction.backward(
                d_y=None if d_out is None else _in_order(d_out[:, :, d * H : (d + 1) * H], d),
                d_final=[None if a is None else a[d] for a in d_ends],
                d_x=None if d_x is None else _in_order(d_x, d),
                d_x_add=d > 0,
                d_initial=[None if a is None else a[d] for a in grads[1 : 1 + n_states]],
                d_weights=grads[first : first + len(WEIGHTS)],
                overwrite=ctx.consumed,
            )
        return tuple([None if g is None else wrap(g) for g in grads])


class _Direction:
    """One direction of a layer: its arrays in the order of its own time, and what it keeps."""

    __slots__ = ("arguments", "arrays", "extra", "gates")

    def __init__(
        self,
        cell: Cell,
        *,
        x: Array,
        y: Array,
        initial: Sequence[Array],
        weights: Sequence[Array | None],
    ) -> None:
        self.arguments = (cell.kernel, cell.kernel_variant, backend.DTYPE_NAMES[x.dtype])
        w_ih, w_hh, b_ih, b_hh = weights
        # In the order of the native functions' parameters: names cost time at every call.
        self.arrays = (x, w_ih, w_hh, b_ih, b_hh, *_both(initial), y)
        self.gates: Array | None = None
        self.extra: Array | None = None

    def forward(self, final: Sequence[Array], keep: bool) -> None:
        x, _, w_hh, *_ = self.arrays
        if keep:
            assert x is not None
            assert w_hh is not None
            sizes = _extension().stored(*self.arguments, *x.shape, w_hh.shape[1])
            if any(sizes):
                self.gates, self.extra = _aligned(sizes, x.dtype)
        _extension().forward(
            *self.arguments, backend.get_num_threads(), *self.arrays, *_both(final),
            self.gates, self.extra,
        )

    def backward(
        self,
        *,
        d_y: Array | None,
        d_final: Sequence[Array | None],
        d_x: Array | None,
        d_x_add: bool,
        d_initial: Sequence[Array | None],
        d_weights: Sequence[Array | None],
        overwrite: bool,
    ) -> None:
        d_gates, d_extra = self.gates, self.extra
        if d_gates is not None and d_extra is not None and not overwrite:
            d_gates, d_extra = _aligned((d_gates.size, d_extra.size), d_gates.dtype)
        _extension().backward(
            *self.arguments, backend.get_num_threads(), *self.arrays, self.gates, self.extra,
            d_y, *_both(d_final), d_gates, d_extra, d_x, d_x_add, *d_weights, *_both(d_initial),
        )


class _Alias(Function):
    """The same values under another name: the tape then tells one use of a tensor from others."""

    @staticmethod
    def forward(ctx: Any, x: Array) -> Array:
        return x

    @staticmethod
    def backward(ctx: Any, d_y: Tensor) -> Tensor:
        return d_y


def _backward_on_tape(
    ctx: Any, d_y: Tensor | None, d_final: Sequence[Tensor | None]
) -> tuple[Tensor | None, ...]:
    """Gradients that can be differentiated again: run the layer once more on the tape."""
    cells, n_states = ctx.cells, ctx.n_states
    backend.record(
        f"{type(cells[0]).__name__} backward", "python", "create_graph: recomputed on the tape"
    )
    # Under aliases: a gradient of this layer alone, though an input may depend on its weights.
    inputs: list[Any] = [None if t is None else _Alias.apply(t) for t in ctx.inputs]
    stand_ins = []
    for d, cell in enumerate(cells):
        stand_in = copy.copy(cell)
        first = 1 + n_states + d * len(WEIGHTS)
        stand_in.__dict__.update(zip(WEIGHTS, inputs[first : first + len(WEIGHTS)], strict=True))
        stand_ins.append(stand_in)
    state = tuple(inputs[1 : 1 + n_states])
    y, final = tape.run_layer(stand_ins, inputs[0], state, ctx.batch_first)
    used = [
        (out, d_out)
        for out, d_out in zip((y, *final), (d_y, *d_final), strict=True)
        if d_out is not None
    ]
    wanted = [i for i, need in enumerate(ctx.needs_input_grad) if need]
    found = grad(
        [out for out, _ in used], [inputs[i] for i in wanted], [d_out for _, d_out in used],
        create_graph=True, allow_unused=True,
    )
    grads: list[Tensor | None] = [None] * len(inputs)
    for i, gradient in zip(wanted, found, strict=True):
        grads[i] = gradient
    return tuple(grads)


def _extension() -> Any:
    extension = backend.native()
    if extension is None:
        raise BackendError("the native extension is not loaded")
    return extension


def _both(states: Sequence[Array | None]) -> tuple[Array | None, Array | None]:
    """h and c; a cell with one state has no c."""
    return (states[0], states[1]) if len(states) == 2 else (states[0], None)


def _by_time(a: Array, batch_first: bool) -> Array:
    return a.swapaxes(0, 1) if batch_first else a


def _in_order(a: Array, direction: int) -> Array:
    """Steps in the order in which a direction takes them."""
    return a[::-1] if direction else a


def _dense(a: Array) -> Array:
    """C-contiguous and aligned, copied only where it is not."""
    flags = a.flags
    return a if flags.c_contiguous and flags.aligned else np.require(a, requirements=("C", "A"))


def _rows(a: Array) -> Array:
    """Aligned, with a contiguous last axis and whole strides; copied only where it is not."""
    size = a.itemsize
    good = a.flags.aligned and (a.shape[-1] == 1 or a.strides[-1] == size)
    return a if good and not any(s % size for s in a.strides) else np.array(a, order="C")


def _aligned(sizes: Sequence[int], dtype: Any) -> tuple[Array, Array]:
    """Two uninitialised vectors in one block that begins at a cache line, as loads like it.

    The first size is a whole number of vectors, so the second begins well too.
    """
    first, second = sizes
    memory = np.empty(first + second + 64 // dtype.itemsize, dtype)
    start = -memory.__array_interface__["data"][0] % 64 // dtype.itemsize
    middle = start + first
    return memory[start:middle], memory[middle : middle + second]
