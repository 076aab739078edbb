"""The fused path: the whole loop over time, forward and backward, in one native call a direction.

What a training step keeps for its backward pass, per direction: the gates after their
nonlinearities and one more row of hidden size, both padded to whole vectors, as ``stored_bytes``
tells; the RNN keeps nothing beyond its output. Under ``no_grad`` nothing is kept.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from operator import attrgetter
from typing import TYPE_CHECKING, Any
from weakref import WeakKeyDictionary, WeakValueDictionary

import numpy as np

from rnnkit import backend
from rnnkit.autograd import is_grad_enabled
from rnnkit.autograd.function import Alias
from rnnkit.autograd.tensor import wrap
from rnnkit.autograd.unchangeable import is_unchangeable
from rnnkit.errors import BackendError
from rnnkit.recurrent import tape
from rnnkit.recurrent.memory import note_segments, segment_within
from rnnkit.recurrent.node import LayerNode
from rnnkit.recurrent.options import Result

if TYPE_CHECKING:
    from rnnkit.autograd import Tensor
    from rnnkit.autograd.tensor import Array
    from rnnkit.cells import Cell
    from rnnkit.cells.base import State
    from rnnkit.recurrent.held import Held
    from rnnkit.recurrent.observe import LayerRun
    from rnnkit.recurrent.options import Options

WEIGHTS = ("weight_ih", "weight_hh", "bias_ih", "bias_hh")
_weight_tensors = attrgetter(*WEIGHTS)

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
    held: Sequence[Held],
) -> Result:
    """As ``recurrent.run_checked_layer``; the state is not None.

    Args:
        decision: for ``why()``.
        held: by the cells as they are now.
    """
    inputs: list[Tensor | None] = [x, *state]
    for d, cell in enumerate(cells):
        of_cell = held[d]
        if of_cell.weights is None:
            of_cell.weights = _weight_tensors(cell)
        inputs += of_cell.weights
    if restart is not None:
        inputs += restart
    keep = is_grad_enabled() and True in [t is not None and t._requires_grad for t in inputs]
    arrays = [None if t is None else t._data for t in inputs]
    layer = _native_layer(cells, held, arrays, len(state), options, keep)
    if keep and layer.n_segments > 1:
        note_segments(decision, layer.n_segments, layer.segment, "all but the last run")
    outputs = [wrap(array) for array in layer.forward(keep)]
    if keep:
        FusedLayer(layer, cells, inputs, len(state), options, len(outputs)).made(outputs)
        if options.seen is not None:
            _note_needed(cells, inputs, len(state), options.seen)
    final = tuple(outputs[-len(state) :])
    y = outputs[0]
    if not options.sequences:
        D, N, H = final[0].shape  # a built-in cell's output is its h
        y = tape.last_outputs(
            final[0].transpose(0, 1).reshape(N, D * H), options, x.shape[options.batch_first]
        )
    steps = (outputs[0], *outputs[1 : -len(state)]) if options.steps else None
    return Result(y, final, steps)


def weights_of(cell: Cell) -> tuple[Array | None, ...]:
    """w_ih, w_hh, b_ih and b_hh as the kernels take them; the biases may be None."""
    arrays = [None if t is None else t.data for t in _weight_tensors(cell)]
    dense: tuple[Array | None, ...] = _extension().dense(arrays)
    return dense


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


def _native_layer(
    cells: Sequence[Cell],
    held: Sequence[Held],
    arrays: Sequence[Array | None],
    n_states: int,
    options: Options,
    keep: bool,
) -> Any:
    """The native object that runs one layer over one sequence."""
    x: Any = arrays[0]
    initial = tuple(arrays[1 : 1 + n_states])
    first_restart = 1 + n_states + len(cells) * len(WEIGHTS)
    weights = tuple(arrays[1 + n_states : first_restart])
    restart = tuple(arrays[first_restart:]) or None
    schedule = options.schedule
    wants_y = options.sequences or options.steps
    if not x.size or (schedule is not None and schedule.steps == 0):
        return _NoSteps(arrays, n_states, wants_y + (options.steps and n_states > 1))
    segment = 0
    if not wants_y or (keep and options.memory is not None):
        segment = _segment(cells, x, options, keep, not wants_y)
    first = held[0]
    return _extension().Layer(
        first.kernel, first.kernel_variant, first.dtype_name, backend.get_num_threads(),
        options.batch_first, x, initial, weights, wants_y, options.steps,
        None if schedule is None else schedule.native, restart, segment, _packed(cells, weights),
    )


def _note_needed(
    cells: Sequence[Cell], inputs: Sequence[Tensor | None], n_states: int, seen: LayerRun
) -> None:
    """Say of which states gradients are recorded: all of a direction's depend on all it takes."""
    required = [t is not None and t._requires_grad for t in inputs]
    first, count = 1 + n_states, len(WEIGHTS)
    given = any(required[:first] + required[first + len(cells) * count :])
    for d, direction in enumerate(seen.directions):
        if given or any(required[first + d * count : first + (d + 1) * count]):
            direction.need(cells[d].state_names)


class _NoSteps:
    """Stands for the native object where there is no step to take: the states pass through."""

    n_segments = 1

    def __init__(self, arrays: Sequence[Any], n_states: int, n_steps: int) -> None:
        self._arrays = arrays
        self._n_states = n_states
        self._n_steps = n_steps  # arrays of all steps that are wanted

    def forward(self, keep: bool) -> list[Array]:
        x, *initial = self._arrays[: 1 + self._n_states]
        D, _, H = initial[0].shape
        shape = *x.shape[:2], D * H
        steps = [np.zeros(shape, x.dtype) for _ in range(self._n_steps)]
        return [*steps, *[np.array(state, order="C") for state in initial]]

    def backward(
        self,
        d_outputs: list[Array | None],
        needs: Sequence[bool],
        overwrite: bool,
        d_steps: tuple[Array, ...] = (),
    ) -> list[Array | None]:
        grads = [
            np.zeros(array.shape, array.dtype) if need else None
            for array, need in zip(self._arrays, needs, strict=True)
        ]
        d_final = d_outputs[self._n_steps :]
        for d_initial, d_end in zip(grads[1:], d_final, strict=False):
            if d_initial is not None and d_end is not None:
                d_initial[...] = d_end
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

    steps = segment_within(
        options.memory, T, segment_bytes, D * len(cell.state_names) * row, together
    )
    return steps if steps < T else 0


class FusedLayer(LayerNode):
    """One layer in one or both directions.

    Inputs: x, each initial state (D, N, H), then w_ih, w_hh, b_ih, b_hh per direction, and where a
    restart begins, as the initial states, where that is given.
    Outputs: y and, where they are wanted, c of every step; then each final state (D, N, H). Without
    sequences there is no y.
    """

    __slots__ = ("_cells", "_layer", "_n_states", "_options")

    def __init__(
        self,
        layer: Any,
        cells: Sequence[Cell],
        inputs: Sequence[Tensor | None],
        n_states: int,
        options: Options,
        n_outputs: int,
    ) -> None:
        self.begin(inputs, n_outputs)
        self._layer = layer
        self._cells, self._n_states, self._options = tuple(cells), n_states, options

    @property
    def name(self) -> str:
        return "FusedLayer"

    def free(self) -> None:
        self.inputs = None
        self._layer = None

    def back(
        self, d_outputs: list[Array | None], needs: Sequence[bool], retain: bool
    ) -> Sequence[Array | None]:
        options = self._options
        seen = options.seen
        grads: list[Array | None]
        if seen is None:
            grads = self._layer.backward(d_outputs, needs, not retain)
        else:
            d_steps = seen.room(options.batch_first)
            grads = self._layer.backward(d_outputs, needs, not retain, d_steps)
            seen.add(d_steps, options.batch_first)
        return grads

    def back_on_tape(
        self, d_outputs: Sequence[Tensor | None], needs: Sequence[bool]
    ) -> Sequence[Tensor | None]:
        """The layer runs once more on the tape."""
        cells, n_states, options = self._cells, self._n_states, self._options
        self.note_tape(cells[0])
        assert self.inputs is not None
        # Under aliases: a gradient of this layer alone, though an input may depend on its weights.
        inputs: list[Any] = [None if t is None else Alias.apply(t) for t in self.inputs]
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
        return tape.gradients(outputs, d_outputs, inputs, needs)


def _extension() -> Any:
    extension = backend.native()
    if extension is None:
        raise BackendError("the native extension is not loaded")
    return extension


def _kernel_of(cell: Cell) -> tuple[Any, str, str]:
    return type(cell).kernel, cell.kernel_variant, backend.DTYPE_NAMES[cell.dtype]
