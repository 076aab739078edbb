"""The fused path: the whole loop over time, forward and backward, in one native call a direction.

What a training step keeps for its backward pass, per direction: the gates after their
nonlinearities and one more row of hidden size, both padded to whole vectors, as ``stored_bytes``
tells; the RNN keeps nothing beyond its output. Under ``no_grad`` nothing is kept.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import replace
from functools import partial
from typing import TYPE_CHECKING, Any
from weakref import WeakKeyDictionary, WeakValueDictionary

import numpy as np

from rnnkit import backend
from rnnkit.autograd import Function, is_grad_enabled
from rnnkit.autograd.function import Alias
from rnnkit.autograd.tensor import wrap
from rnnkit.backend.arrays import dense, is_unchangeable, rows
from rnnkit.errors import BackendError, GraphError
from rnnkit.recurrent import tape
from rnnkit.recurrent.memory import note_segments, segment_within
from rnnkit.recurrent.options import Result

if TYPE_CHECKING:
    from rnnkit.autograd import Tensor
    from rnnkit.cells import Cell
    from rnnkit.cells.base import State
    from rnnkit.recurrent.options import Options

    Array = np.ndarray[Any, np.dtype[Any]]

WEIGHTS = ("weight_ih", "weight_hh", "bias_ih", "bias_hh")

# Where nobody wants the outputs of every step, and nothing is kept for a backward pass.
OUTPUTS_BUFFER = 1 << 20
SHORTEST_SEGMENT = 256


def run_layer(
    cells: Sequence[Cell],
    x: Tensor,
    state: State,
    restart: State | None,
    options: Options,
    decision: backend.Decision,
) -> Result:
    """As ``recurrent.run_checked_layer``; the state is not None."""
    n_states = len(state)
    inputs = [x, *state]
    for cell in cells:
        inputs += [getattr(cell, name) for name in WEIGHTS]
    if restart is not None:
        inputs += restart
    outputs: Sequence[Any]
    if is_grad_enabled() and True in [t is not None and t._requires_grad for t in inputs]:
        outputs = FusedLayer.apply(
            *inputs, cells=tuple(cells), n_states=n_states, options=options, decision=decision
        )
    else:
        arrays = [None if t is None else t._data for t in inputs]
        call = _Call(cells, n_states, options, arrays, keep=False)
        outputs = [wrap(array) for array in call.forward()]
    final = tuple(outputs[-n_states:])
    y = outputs[0]
    if not options.sequences:
        D, N, H = final[0].shape  # a built-in cell's output is its h
        y = tape.last_outputs(
            final[0].transpose(0, 1).reshape(N, D * H), options, x.shape[options.batch_first]
        )
    steps = (outputs[0], *outputs[1:-n_states]) if options.steps else None
    return Result(y, final, steps)


def weights_of(cell: Cell) -> tuple[Array | None, ...]:
    """w_ih, w_hh, b_ih and b_hh as the kernels take them; the biases may be None."""
    weights = [getattr(cell, name) for name in WEIGHTS]
    return dense([None if weight is None else weight.data for weight in weights])


class _Packed:
    """The weights of a cell that nothing can change, and the same packed."""

    def __init__(self, cell: Cell, weights: tuple[Array | None, ...]) -> None:
        self.weights = weights
        self.native = _extension().PackedWeights(
            *_kernel_of(cell), cell.input_size, cell.hidden_size, weights
        )


# A cell keeps what was packed for it last. It is found by the arrays that it holds, whose ids no
# others have meanwhile.
_packed_of_cell: WeakKeyDictionary[Cell, _Packed] = WeakKeyDictionary()
_packed_of_weights: WeakValueDictionary[tuple[Any, ...], _Packed] = WeakValueDictionary()


def _packed(cells: Sequence[Cell], weights: tuple[Array | None, ...]) -> tuple[Any, ...] | None:
    """The cells' weights, packed by the first call with these; None where they may change."""
    if not is_unchangeable(weights[0]):  # type: ignore[arg-type]
        return None
    found = []
    for i, cell in enumerate(cells):
        own = weights[i * len(WEIGHTS) : (i + 1) * len(WEIGHTS)]
        key: tuple[Any, ...] = (cell.kernel_variant, *map(id, own))
        packed = _packed_of_weights.get(key)
        if packed is None or not packed.native.serves:
            if any(a is not None and not is_unchangeable(a) for a in own):
                return None
            packed = _packed_of_cell[cell] = _packed_of_weights[key] = _Packed(cell, own)
        found.append(packed.native)
    return tuple(found)


def stored_bytes(cell: Cell, T: int, N: int, D: int = 1) -> int:
    """Bytes that D directions of a training step keep besides their output."""
    sizes = T, N, cell.input_size, cell.hidden_size
    elements: int = _extension().stored(*_kernel_of(cell), *sizes)
    return D * elements * cell.dtype.itemsize


class _Call:
    """One layer's forward pass: its arrays, as the kernels take them, and the native object."""

    __slots__ = (
        "_c", "_final", "_initial", "_keep", "_kept",
        "_layer", "_make", "_n_weights", "_outputs", "_segment", "_work", "_y",
    )

    def __init__(
        self,
        cells: Sequence[Cell],
        n_states: int,
        options: Options,
        arrays: Sequence[Array | None],
        keep: bool,
    ) -> None:
        self._n_weights = n_weights = len(cells) * len(WEIGHTS)
        x = arrays[0]
        assert x is not None
        first_weight = 1 + n_states
        first_restart = first_weight + n_weights
        self._initial = initial = dense(arrays[1:first_weight])
        weights = dense(arrays[first_weight:first_restart])
        restart = dense(arrays[first_restart:]) if len(arrays) > first_restart else None
        self._keep = keep
        self._kept: Array | None = None
        self._work: tuple[Array | None, Array | None] = None, None
        schedule = options.schedule
        dtype = x.dtype
        first, second, _ = x.shape
        state_shape = D, _, H = initial[0].shape
        # What no row reaches must read as zero.
        self._make: Callable[..., Array] = np.empty
        make: Callable[..., Array] = np.empty
        if schedule is not None:
            self._make = partial(schedule.empty, batch_first=options.batch_first)
            make = partial(schedule.empty, batch_first=options.batch_first, of_rows=True)
        self._y = self._c = None
        outputs = []
        if options.sequences or options.steps:
            self._y = make((first, second, D * H), dtype)
            outputs.append(self._y)
        if options.steps and n_states > 1:
            self._c = make((first, second, D * H), dtype)
            outputs.append(self._c)
        self._final = tuple([np.empty(state_shape, dtype) for _ in initial])
        self._outputs = [*outputs, *self._final]
        self._layer: Any = None
        if not (first and second) or (schedule is not None and schedule.steps == 0):
            return
        whole = self._y is not None and (options.memory is None or not keep)
        self._segment = 0 if whole else _segment(cells, x, options, keep, self._y is None)
        kernel, variant, name = _kernel_of(cells[0])
        self._layer = _extension().Layer(
            kernel, variant, name, backend.get_num_threads(), options.batch_first, rows(x),
            weights, initial, self._y, None if schedule is None else schedule.native, restart,
            self._segment, _packed(cells, weights),
        )

    def note_segments(self, decision: backend.Decision) -> None:
        """Let ``why`` say in how many segments the layer runs, where there are several."""
        layer = self._layer
        if layer is not None and layer.n_segments > 1:
            note_segments(decision, layer.n_segments, self._segment, "all but the last run")

    def forward(self) -> list[Array]:
        """y and c of every step, where they are wanted, and the final states."""
        layer = self._layer
        if layer is None:
            for start, end in zip(self._initial, self._final, strict=True):
                end[...] = start
            return self._outputs

        def vector(size: int) -> Array | None:
            return np.empty(size, self._final[0].dtype) if size else None

        if self._keep:
            self._kept = vector(layer.kept_size())
        if layer.n_segments > 1 or self._y is None:
            # The native object works in these until its last backward pass.
            self._work = vector(layer.between_size()), vector(layer.outputs_size())
        between, outputs = self._work
        layer.forward(self._final, self._kept, self._c, between, outputs)
        return self._outputs

    def backward(
        self,
        d_outputs: Sequence[Array | None],
        inputs: Sequence[Tensor | None],
        needs: Sequence[bool],
        overwrite: bool,
        d_states: Sequence[Array] = (),
    ) -> list[Array | None]:
        """Gradients of the inputs, from those of what `forward` returned.

        All that flows into each state at every step is left in `d_states`, arrays like y.
        """
        layer, states = self._layer, len(self._initial)
        restarts = 1 + states + self._n_weights
        # What every direction writes whole need not be cleared first; sums begin at zero.
        make = np.zeros if layer is None else self._make
        grads: list[Array | None] = []
        for tensor, need in zip(inputs, needs, strict=True):
            if need and tensor is not None:
                array = tensor._data
                grads.append(make(array.shape, array.dtype))
            else:
                grads.append(None)
            if layer is not None:
                make = np.zeros if len(grads) >= restarts else np.empty
        given = list(d_outputs)
        d_y = given.pop(0) if self._y is not None else None
        d_c = given.pop(0) if self._c is not None else None
        if layer is None:
            for d_initial, d_end in zip(grads[1:], given, strict=False):
                if d_initial is not None and d_end is not None:
                    d_initial[...] = d_end
            return grads
        kept = self._kept
        layer.backward(
            kept,
            None if d_y is None else rows(d_y),
            dense(given),
            kept if kept is None or overwrite else np.empty_like(kept),
            grads[0],
            tuple(grads[1 + states : restarts]),
            tuple(grads[1 : 1 + states]),
            None if d_c is None else rows(d_c),
            tuple(grads[restarts:]) or None,
            *d_states,
        )
        return grads


def _segment(
    cells: Sequence[Cell], x: Array, options: Options, keep: bool, drops_outputs: bool
) -> int:
    """Steps of a segment; 0: all."""
    cell, D = cells[0], len(cells)
    T, N = x.shape[options.batch_first], x.shape[1 - options.batch_first]
    if options.schedule is not None:
        T = options.schedule.steps
    row = N * cell.hidden_size * x.itemsize
    sizes = N, cell.input_size, cell.hidden_size
    together: int = _extension().steps_together(*_kernel_of(cell), *sizes)
    if not keep:
        # Outputs that nobody wants live in a small buffer.
        steps = max(SHORTEST_SEGMENT, OUTPUTS_BUFFER // row)
        return -(-steps // together) * together if drops_outputs else 0
    if options.memory is None:
        return 0

    def segment_bytes(steps: int) -> int:
        outputs = D * steps * row if drops_outputs else 0
        return outputs + stored_bytes(cell, steps, N, D)

    return together * segment_within(
        options.memory, -(-T // together), lambda blocks: segment_bytes(min(T, blocks * together)),
        D * len(cell.state_names) * row,
    )


class FusedLayer(Function):
    """One layer in one or both directions.

    Inputs: x, each initial state (D, N, H), then w_ih, w_hh, b_ih, b_hh per direction, and where a
    restart begins, as the initial states, where that is given.
    Outputs: y and, where they are wanted, c of every step; then each final state (D, N, H). Without
    sequences there is no y.
    """

    @staticmethod
    def forward(ctx: Any, *arrays: Array | None, **params: Any) -> tuple[Array, ...]:
        ctx.cells, ctx.n_states = params["cells"], params["n_states"]
        ctx.options = params["options"]
        ctx.call = _Call(
            ctx.cells, ctx.n_states, ctx.options, arrays, keep=any(ctx.needs_input_grad)
        )
        ctx.call.note_segments(params["decision"])
        ctx.consumed = False
        return tuple(ctx.call.forward())

    @staticmethod
    def backward(ctx: Any, *d_outputs: Tensor | None) -> tuple[Tensor | None, ...]:
        if is_grad_enabled():
            return _backward_on_tape(ctx, d_outputs)
        if ctx.consumed:
            raise GraphError(
                "an earlier backward pass through this layer was interrupted after it had begun to "
                "overwrite what the forward pass kept; run the forward pass again"
            )
        ctx.consumed = not ctx.retain_graph
        seen = ctx.options.seen
        d_states = () if seen is None else seen.room(ctx.options.batch_first)
        grads = ctx.call.backward(
            [None if t is None else t._data for t in d_outputs],
            ctx.inputs,
            ctx.needs_input_grad,
            overwrite=ctx.consumed,
            d_states=d_states,
        )
        if seen is not None:
            seen.add(d_states, ctx.options.batch_first)
        return tuple([None if g is None else wrap(g) for g in grads])


def _backward_on_tape(
    ctx: Any, d_outputs: Sequence[Tensor | None]
) -> tuple[Tensor | None, ...]:
    """Gradients that can be differentiated again: run the layer once more on the tape."""
    cells, n_states, options = ctx.cells, ctx.n_states, ctx.options
    backend.record(
        f"{type(cells[0]).__name__} backward", "python", "create_graph: recomputed on the tape"
    )
    # Under aliases: a gradient of this layer alone, though an input may depend on its weights.
    inputs: list[Any] = [None if t is None else Alias.apply(t) for t in ctx.inputs]
    stand_ins = []
    first = 1 + n_states
    for cell in cells:
        weights = zip(WEIGHTS, inputs[first : first + len(WEIGHTS)], strict=True)
        stand_in = cell.with_tensors(dict(weights))
        # The forward pass drew nothing, whatever mode the cell is in by now.
        stand_in.training = False
        stand_ins.append(stand_in)
        first += len(WEIGHTS)
    state, restart = tuple(inputs[1 : 1 + n_states]), tuple(inputs[first:]) or None
    wants_y = options.sequences or options.steps
    options = replace(options, sequences=wants_y)
    result = tape.run_layer(stand_ins, inputs[0], state, restart, options)
    outputs = [result.y] if wants_y else []
    outputs += [*(result.steps or ())[1:], *result.final]
    return tape.gradients(outputs, d_outputs, inputs, ctx.needs_input_grad)


def _extension() -> Any:
    extension = backend.native()
    if extension is None:
        raise BackendError("the native extension is not loaded")
    return extension


def _kernel_of(cell: Cell) -> tuple[Any, str, str]:
    return type(cell).kernel, cell.kernel_variant, backend.DTYPE_NAMES[cell.dtype]
