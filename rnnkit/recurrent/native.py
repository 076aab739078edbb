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
from rnnkit.autograd.function import Alias
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
    inputs = (x, *state, *[getattr(cell, name) for cell in cells for name in WEIGHTS])
    if is_grad_enabled() and any(t is not None and t.requires_grad for t in inputs):
        y, *final = FusedLayer.apply(
            *inputs, cells=tuple(cells), n_states=len(state), batch_first=batch_first
        )
        return y, tuple(final)
    call = _Call(cells, len(state), batch_first, [None if t is None else t.data for t in inputs])
    return wrap(call.forward(keep=False)), tuple([wrap(a) for a in call.final])


def weights_of(cell: Cell) -> list[Array | None]:
    """w_ih, w_hh, b_ih and b_hh as the kernels take them; the biases may be None."""
    weights = [getattr(cell, name) for name in WEIGHTS]
    return [None if weight is None else _dense(weight.data) for weight in weights]


def stored_bytes(cell: Cell, T: int, N: int) -> int:
    """Bytes that one direction of a training step keeps besides its output."""
    sizes = T, N, cell.input_size, cell.hidden_size
    elements: int = _extension().stored(*_kernel_of(cell), 1, *sizes)
    return elements * cell.dtype.itemsize


class _Call:
    """The arrays of one layer's forward pass, as the kernels take them."""

    __slots__ = ("final", "head", "initial", "kept", "weights", "x", "y")

    def __init__(
        self,
        cells: Sequence[Cell],
        n_states: int,
        batch_first: bool,
        arrays: Sequence[Array | None],
    ) -> None:
        x = arrays[0]
        assert x is not None
        self.x = _rows(x)
        self.initial = tuple([_dense(a) for a in arrays[1 : 1 + n_states]])
        self.weights = tuple([_dense(a) for a in arrays[1 + n_states :]])
        self.head = (*_kernel_of(cells[0]), batch_first)
        self.kept: Array | None = None
        D, N, H = self.initial[0].shape
        self.y = np.empty((*x.shape[:2], D * H), x.dtype)
        self.final = tuple([np.empty((D, N, H), x.dtype) for _ in self.initial])

    @property
    def is_empty(self) -> bool:
        """There is no step or no row."""
        return not self.y.size

    def forward(self, keep: bool) -> Array:
        *kernel, batch_first = self.head
        x, y, extension = self.x, self.y, _extension()
        if not y.size:
            for start, end in zip(self.initial, self.final, strict=True):
                end[...] = start
            return y
        if keep:
            D, N, H = self.initial[0].shape
            size = extension.stored(*kernel, D, x.shape[batch_first], N, x.shape[2], H)
            if size:
                self.kept = np.empty(size, x.dtype)
        extension.forward(
            *kernel, backend.get_num_threads(), batch_first, x, self.weights, self.initial, y,
            self.final, self.kept,
        )
        return y

    def backward(
        self, d_y: Array | None, d_final: Sequence[Array | None], grads: Sequence[Array | None],
        overwrite: bool,
    ) -> None:
        """Writes the gradients of x, of the initial states and of the weights into ``grads``."""
        *kernel, batch_first = self.head
        kept, states = self.kept, len(self.initial)
        work = kept if kept is None or overwrite else np.empty_like(kept)
        _extension().backward(
            *kernel, backend.get_num_threads(), batch_first, self.x, self.weights, self.initial,
            self.y, kept, None if d_y is None else _rows(d_y),
            tuple([_dense(a) for a in d_final]), work, grads[0], tuple(grads[1 + states :]),
            tuple(grads[1 : 1 + states]),
        )


class FusedLayer(Function):
    """One layer in one or both directions.

    Inputs: x, each initial state (D, N, H), then w_ih, w_hh, b_ih, b_hh per direction.
    Outputs: y, then each final state (D, N, H).
    """

    @staticmethod
    def forward(ctx: Any, *arrays: Array | None, **params: Any) -> tuple[Array, ...]:
        cells, n_states, batch_first = params["cells"], params["n_states"], params["batch_first"]
        ctx.cells, ctx.n_states, ctx.batch_first = cells, n_states, batch_first
        ctx.call = call = _Call(cells, n_states, batch_first, arrays)
        ctx.consumed = False
        return (call.forward(keep=any(ctx.needs_input_grad)), *call.final)

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
        call: _Call = ctx.call
        d_ends = [None if t is None else t.data for t in d_final]
        # What every direction writes whole need not be cleared first; an empty run writes nothing.
        make = np.zeros if call.is_empty else np.empty
        grads = [
            make(t.shape, t.dtype) if need and t is not None else None
            for t, need in zip(ctx.inputs, ctx.needs_input_grad, strict=True)
        ]
        if call.is_empty:
            for d_initial, d_end in zip(grads[1:], d_ends, strict=False):
                if d_initial is not None and d_end is not None:
                    d_initial[...] = d_end
        else:
            call.backward(None if d_y is None else d_y.data, d_ends, grads, overwrite=ctx.consumed)
        return tuple([None if g is None else wrap(g) for g in grads])


def _backward_on_tape(
    ctx: Any, d_y: Tensor | None, d_final: Sequence[Tensor | None]
) -> tuple[Tensor | None, ...]:
    """Gradients that can be differentiated again: run the layer once more on the tape."""
    cells, n_states = ctx.cells, ctx.n_states
    backend.record(
        f"{type(cells[0]).__name__} backward", "python", "create_graph: recomputed on the tape"
    )
    # Under aliases: a gradient of this layer alone, though an input may depend on its weights.
    inputs: list[Any] = [None if t is None else Alias.apply(t) for t in ctx.inputs]
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


def _kernel_of(cell: Cell) -> tuple[Any, str, str]:
    return cell.kernel, cell.kernel_variant, backend.DTYPE_NAMES[cell.dtype]


def _dense(a: Array | None) -> Any:
    """C-contiguous and aligned, copied only where it is not; None stays None."""
    if a is None:
        return None
    flags = a.flags
    return a if flags.c_contiguous and flags.aligned else np.require(a, requirements=("C", "A"))


def _rows(a: Array) -> Array:
    """Aligned, with a contiguous last axis and whole strides; copied only where it is not."""
    flags = a.flags
    if flags.c_contiguous and flags.aligned:
        return a
    size = a.itemsize
    good = flags.aligned and (a.shape[-1] == 1 or a.strides[-1] == size)
    return a if good and not any(s % size for s in a.strides) else np.array(a, order="C")
