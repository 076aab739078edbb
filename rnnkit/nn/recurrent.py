"""Any cell as a module: layers and directions stacked over the recurrent primitive.

Notation: T time, N batch, I input, H hidden, L layers, D directions (1 or 2).
"""

from __future__ import annotations

from dataclasses import replace
from typing import TYPE_CHECKING, Any

from rnnkit import ops
from rnnkit.autograd.checks import check_tensor
from rnnkit.cells import Cell
from rnnkit.cells.base import own_copy
from rnnkit.cells.noise import dropout_mask
from rnnkit.checks import check_bool, check_integer, check_probability, check_size
from rnnkit.errors import ArgumentError, warn
from rnnkit.module import Module
from rnnkit.recurrent import Stepper, run_checked_layer
from rnnkit.recurrent.held import held_by
from rnnkit.recurrent.memory import bytes_of
from rnnkit.recurrent.options import PLAIN, Options
from rnnkit.recurrent.packed import PackedSequence, Packing
from rnnkit.recurrent.schedule import make_schedule

if TYPE_CHECKING:
    from collections.abc import Iterator
    from typing import Self

    from rnnkit.autograd import Tensor
    from rnnkit.recurrent.held import Held
    from rnnkit.recurrent.options import Result
    from rnnkit.recurrent.program.show import Listing
    from rnnkit.recurrent.schedule import Schedule

MOST_LAYERS = 10_000  # each is made in Python: more are a mistake, and would fill the memory
MERGES = ("concat", "sum", "mean", "separate")

# Of an input, by its rank, without and with `batch_first`.
AXES = {2: "(T, I)", 3: "(T, N, I)"}, {2: "(T, I)", 3: "(N, T, I)"}


class Recurrent(Module):
    """Runs any ``rk.Cell`` over sequences, in layers and in one or both directions.

    A cell runs by its fused kernel or, where it has none, as a program that is traced from its
    ``step`` and can be read: ``program()``. What cannot be traced runs on the tape; ``rk.why()``
    tells.

    ``cell`` becomes the forward cell of the first layer; the others are made with
    ``cell.renew(input_size)``. A layer above the first reads the outputs of the one below, both
    directions side by side (D*H features).

    Every parameter ``p`` of a cell is a parameter of this module under PyTorch's name for it:
    ``p_l{k}`` for layer k, ``p_l{k}_reverse`` for its reverse direction.

    Args:
        cell: the cell of the first layer.
        num_layers: L.
        batch_first: whether x and y are (N, T, ...) in place of (T, N, ...); never the states.
        dropout: probability of zeroing an output between two layers in training; not applied
            after the last layer.
        bidirectional: whether each layer also runs backward over time (D = 2).
        input_dropout: in training, the probability of zeroing an input feature of a layer for the
            whole sequence: one mask (1, N, I) per layer and call, the others scaled by 1 / (1 - p).
            Gal and Ghahramani 2016, arXiv 1512.05287.
        weight_dropout: in training, the probability of zeroing an element of ``weight_hh`` for the
            whole call, the others scaled by 1 / (1 - p); its own mask for each layer and direction.
            Merity, Keskar and Socher 2018, "Regularizing and optimizing LSTM language models",
            arXiv 1708.02182 (after DropConnect, Wan et al. 2013).
        merge: what becomes of a layer's two directions: "concat" (side by side, D*H features),
            "sum" or "mean" (H features), or "separate" (y is a pair; between layers as "concat").
        memory: what a training step may keep between its passes: "full"; or a budget in bytes, or a
            text such as "256MB", for what is kept besides inputs and outputs. Backward then runs
            forward again over segments of the sequence; the results have the same bits. A budget
            that cannot be met gives a ``MemoryBudgetWarning``.

    Called as ``y, state = module(x, state)``:
        x: (T, N, I), (N, T, I) with ``batch_first``, or (T, I) for one sequence without a batch.
        state: initial state, (L*D, N, H), or (L*D, H) without a batch: a tensor for a cell with one
            state, a tuple for a cell with several; None starts from the cells' ``initial_state``.
        y: the last layer's outputs (T, N, D*H), (N, T, D*H) with ``batch_first``, or (T, D*H).
        The returned state has the layout of ``state``; layer k, direction d is at index k*D + d.

    A ``PackedSequence`` (``nn.utils.rnn``) as x gives one as y, or a pair of them, and in the
    states of every step; initial and final states are in the order of the rows before packing, and
    so is ``reset``, padded to the longest row. It brings its own lengths.

    Keyword arguments of the call:
        lengths: (N,) integers from 0 to T, in any order: the steps of each row. Outputs past a
            row's end are zero, its final state is that at its end, and the reverse direction begins
            there.
        reset: (T, N) booleans, (N, T) with ``batch_first``: True where a new sequence begins. The
            state of that row restarts before the step (in the reverse direction, before the step
            that precedes it in time), and no gradient passes.
        reset_state: where it restarts, with the layout of ``state``; None: zero.
            For one sequence without a batch ``lengths`` may be a number, and ``reset`` is (T,).
        return_sequences: False gives as y only each row's last output in each direction,
            (N, D*H), zero for a row of length 0; the outputs of every step are then not kept.
        return_steps: True gives a third result: a dict of state names, to a tuple of that state
            after every step for each layer, (T, N, D*H) or (N, T, D*H), and of "y", to the outputs
            of each layer below the last, both directions side by side. All of it is differentiable.

    T = 0 gives an empty y and hands the initial state through; N = 0 gives empty arrays. NaN and
    infinities propagate. Read-only and non-contiguous arrays are fine.

    Raises:
        ShapeError: a wrong rank or size of x or of a state.
        DTypeError: integers, or a dtype other than that of the parameters.
        ArgumentError: an option or a length out of range, such as more than 10,000 layers; a wrong
            number of states; ``lengths`` beside a PackedSequence; a ``weight_dropout`` for a cell
            without ``weight_hh``; layers whose states differ in shape.
        BackendError: the native path is forced and can't run this cell; the message has the reason.
    """

    def __init__(
        self,
        cell: Cell,
        num_layers: int = 1,
        batch_first: bool = False,
        dropout: float = 0.0,
        bidirectional: bool = False,
        *,
        input_dropout: float = 0.0,
        weight_dropout: float = 0.0,
        merge: str = "concat",
        memory: str | int = "full",
    ) -> None:
        super().__init__()
        if not isinstance(cell, Cell):
            raise ArgumentError(f"cell: expected a Cell object, got {type(cell).__name__}")
        self.input_size = cell.input_size
        self.hidden_size = cell.hidden_size
        self.num_layers = check_size("num_layers", num_layers, MOST_LAYERS)
        self.batch_first = check_bool("batch_first", batch_first)
        self.dropout = check_probability("dropout", dropout)
        self.bidirectional = check_bool("bidirectional", bidirectional)
        self.input_dropout = check_probability("input_dropout", input_dropout)
        self.weight_dropout = check_probability("weight_dropout", weight_dropout)
        if self.weight_dropout and vars(cell).get("weight_hh") is None:
            raise ArgumentError(f"weight_dropout: {type(cell).__name__} has no weight_hh to drop")
        if not isinstance(merge, str) or merge not in MERGES:
            raise ArgumentError(f"merge: expected one of {', '.join(MERGES)}, got {merge!r}")
        self.merge = merge
        bytes_of(memory)
        self.memory = memory
        if self.dropout > 0 and self.num_layers == 1:
            warn(
                f"dropout={dropout} acts between layers only and num_layers is 1: "
                "nothing will be dropped"
            )
        self._layers = self._make_layers(cell)
        self._owners: dict[str, tuple[Cell, str]] = {}
        for suffix, each in self.named_cells():
            self._share_with(each, suffix)

    def __copy__(self) -> Self:
        """As of any module: with the same tensors; what is assigned to it is not the original's."""
        reduced: Any = self.__reduce_ex__(4)
        make, arguments, state = reduced[:3]
        attributes, slots = state if isinstance(state, tuple) else (state, {})
        twin: Self = make(*arguments)
        twin.__dict__.update(attributes)
        for name, value in slots.items():
            object.__setattr__(twin, name, value)
        cells = {id(cell): own_copy(cell) for _, cell in self.named_cells()}
        layers = [tuple([cells[id(cell)] for cell in layer]) for layer in self._layers]
        owners = {name: (cells[id(cell)], path) for name, (cell, path) in self._owners.items()}
        twin.__dict__.update(_layers=tuple(layers), _owners=owners)
        return twin

    @property
    def layers(self) -> tuple[tuple[Cell, ...], ...]:
        """The cells of each layer: (forward,) or (forward, reverse)."""
        return self._layers

    def _make_layers(self, cell: Cell) -> tuple[tuple[Cell, ...], ...]:
        directions = 2 if self.bidirectional else 1
        layers = []
        for layer in range(self.num_layers):
            both = 2 if self.bidirectional and self.merge not in ("sum", "mean") else 1
            size = cell.input_size if layer == 0 else both * cell.output_size
            layers.append(
                tuple(
                    cell if layer == direction == 0 else cell.renew(size)
                    for direction in range(directions)
                )
            )
            shapes = layers[layer][0].state_shapes
            if shapes != cell.state_shapes:
                raise ArgumentError(
                    f"cell: {type(cell).__name__}: expected states of the same shapes in all "
                    f"layers, got {cell.state_shapes} and, for {size} features of input, {shapes}"
                )
        return tuple(layers)

    def named_cells(self) -> Iterator[tuple[str, Cell]]:
        """Yield (suffix of its parameters' names, cell): layer by layer, forward, then reverse."""
        for layer, cells in enumerate(self._layers):
            for cell, direction in zip(cells, ("", "_reverse"), strict=False):
                yield f"_l{layer}{direction}", cell

    def reset_parameters(self) -> None:
        """Draw the parameters of all cells anew."""
        for _, cell in self.named_cells():
            cell.reset_parameters()

    def flatten_parameters(self) -> None:
        """Nothing: the weights need no layout of their own here; for code that calls it."""

    def _share_with(self, cell: Cell, suffix: str) -> None:
        """Registers what a cell holds on this module, which is the one that users see.

        The cells are not submodules, or each parameter would have a second name.
        """
        persistent = cell.state_dict()
        for name, parameter in cell.named_parameters():
            own_name = name.replace(".", "_") + suffix
            self.register_parameter(own_name, parameter)
            self._owners[own_name] = (cell, name)
        for name, buffer in cell.named_buffers():
            own_name = name.replace(".", "_") + suffix
            self.register_buffer(own_name, buffer, persistent=name in persistent)
            self._owners[own_name] = (cell, name)

    def __setattr__(self, name: str, value: Any) -> None:
        super().__setattr__(name, value)
        self._give_to_cell(name, value)

    def __delattr__(self, name: str) -> None:
        if name in self.__dict__.get("_owners", {}):
            raise AttributeError(f"{name}: a cell computes with it; assign another in its place")
        super().__delattr__(name)

    def _register(self, name: str, value: Any, kind: str) -> None:
        super()._register(name, value, kind)
        self._give_to_cell(name, value)

    def _give_to_cell(self, name: str, value: Any) -> None:
        """Has the cell compute with it, if it is a cell's that goes by this name."""
        owners = self.__dict__.get("_owners", {})
        if name in owners:
            owner, path = owners[name]
            *parents, own_name = path.split(".")
            for parent in parents:
                owner = getattr(owner, parent)
            setattr(owner, own_name, value)

    def forward(
        self,
        x: Any,
        state: Any = None,
        *,
        lengths: Any = None,
        reset: Any = None,
        reset_state: Any = None,
        return_sequences: bool = True,
        return_steps: bool = False,
    ) -> Any:
        first = self._layers[0][0]
        if isinstance(x, PackedSequence):
            if lengths is not None:
                raise ArgumentError(
                    "lengths: a PackedSequence brings its own lengths; leave this argument out"
                )
            return self._forward_packed(
                x, state, reset=reset, reset_state=reset_state,
                return_sequences=return_sequences, return_steps=return_steps,
            )
        for layer_cells in self._layers:
            for cell in layer_cells:
                if cell.training is not self.training:
                    cell.train(self.training)
        held = held_by(first)
        dtype = held.dtype
        x = check_tensor("x", x, dtype, AXES[self.batch_first], last=self.input_size)
        batch = 0 if self.batch_first else 1
        shape = x._data.shape
        single = len(shape) == 2
        if single:
            x = x.unsqueeze(batch)
            shape = x.shape
        return_sequences = check_bool("return_sequences", return_sequences)
        return_steps = check_bool("return_steps", return_steps)
        T, N = shape[1 - batch], shape[batch]
        states = self._states_of_layers("", state, held, N, single)
        restarts = self._states_of_layers("reset_state: ", reset_state, held, N, single)
        options = self._options(make_schedule(T, N, lengths, reset, self.batch_first, single))
        results: list[Result] = []
        y: Tensor = x
        for layer, cells in enumerate(self._layers):
            if layer > 0:
                y = self._input_of_next(y, cells[0])
            if layer == self.num_layers - 1 and not return_sequences:
                options = replace(options, sequences=False)
            if return_steps and not options.steps:
                options = replace(options, steps=True)
            if self.training and (self.input_dropout or self.weight_dropout):
                y, cells = self._with_dropped_inputs(y), self._with_dropped_weights(cells)
            result = run_checked_layer(
                cells, y, states[layer], restarts[layer], options,
                held if cells[0] is first else None,
            )
            results.append(result)
            y = result.y
        last = results[0].final
        if self.num_layers > 1:
            finals = [result.final for result in results]
            last = tuple([ops.cat(list(parts), 0) for parts in zip(*finals, strict=True)])
        if single:
            y = y.squeeze(0 if not return_sequences else batch)
            last = tuple([each.squeeze(1) for each in last])
        merged = self._merged(y)
        final = first.pack_state(last)
        if return_steps:
            return merged, final, self._steps_by_name(results, single)
        return merged, final

    def _forward_packed(self, x: PackedSequence, state: Any, **options: Any) -> Any:
        """A packed batch is run as a padded one with lengths, and its results are packed again."""
        dtype = self._layers[0][0].dtype
        check_tensor("x.data", x.data, dtype, {2: "(steps, I)"}, last=self.input_size)
        packing = Packing.of(x)
        padded = packing.pad(x.data, self.batch_first)
        results = self.forward(padded, state, lengths=packing.lengths, **options)
        return packing.pack_results(x, results, self.batch_first, options["return_sequences"])

    def _steps_by_name(self, results: list[Result], single: bool) -> dict[str, tuple[Tensor, ...]]:
        """By name of a state, those of every step in each layer; "y", the outputs between layers.
        """
        steps = {
            name: tuple([result.steps[i] for result in results])  # type: ignore[index]
            for i, name in enumerate(self._layers[0][0].state_names)
        }
        steps["y"] = tuple([result.y for result in results[:-1]])
        if single:
            batch = 0 if self.batch_first else 1
            steps = {k: tuple([each.squeeze(batch) for each in v]) for k, v in steps.items()}
        return steps

    def _options(self, schedule: Schedule | None) -> Options:
        if schedule is None and self.memory == "full":
            return PLAIN[self.batch_first]
        memory = bytes_of(self.memory)
        share = None if memory is None else max(1, memory // self.num_layers)
        return Options(self.batch_first, schedule, memory=share)

    def _input_of_next(self, y: Tensor, cell: Cell) -> Tensor:
        """The input of a layer above the first, from the outputs of the one below."""
        if self.merge in ("sum", "mean"):
            y = self._merged(y)
        axes = "(N, T, I)" if self.batch_first else "(T, N, I)"
        y = check_tensor("x", y, cell.dtype, {3: axes}, last=cell.input_size)
        return ops.dropout(y, self.dropout) if self.dropout > 0 and self.training else y

    def _with_dropped_inputs(self, x: Tensor) -> Tensor:
        """x times one mask for all steps."""
        if not self.input_dropout:
            return x
        first, second, features = x.shape
        shape = (first, 1, features) if self.batch_first else (1, second, features)
        return x * dropout_mask(shape, self.input_dropout, x.dtype)

    def _with_dropped_weights(self, cells: tuple[Cell, ...]) -> tuple[Cell, ...]:
        """The cells with a dropped ``weight_hh`` in place of their own."""
        p = self.weight_dropout
        if not p:
            return cells
        dropped = [ops.dropout(vars(cell)["weight_hh"], p) for cell in cells]
        return tuple(
            [cell.with_tensors({"weight_hh": w}) for cell, w in zip(cells, dropped, strict=True)]
        )

    def _merged(self, y: Tensor) -> Any:
        """Both directions as ``merge`` asks for, from both side by side."""
        if not self.bidirectional or self.merge == "concat":
            return y
        forward, reverse = y.chunk(2, -1)
        if self.merge == "separate":
            return forward, reverse
        total = forward + reverse
        return total if self.merge == "sum" else total * 0.5

    def stream(self, batch_size: int = 1) -> Stepper:
        """A stepper that owns a state and takes one step, or a block of them, at each call.

        Args:
            batch_size: N, the number of sequences that go on side by side.

        Raises:
            ArgumentError: the module is bidirectional: the reverse direction begins at the end of
                the sequence, which a stream never knows.
        """
        if self.bidirectional:
            raise ArgumentError(
                "stream: a bidirectional module cannot stream: its reverse direction begins at "
                "the end of the sequence"
            )
        return Stepper([cells[0] for cells in self._layers], batch_size)

    def program(self, layer: int = 0, direction: int = 0) -> Listing:
        """The native program of one of the cells, in the module's present mode, to be read.

        ``print(module.program())`` shows what runs before the loop, at each step forward and
        backward, and after it, what is kept between the two passes, and counts of operations. For a
        cell with a fused kernel, or one whose step cannot be traced, it says so. Nothing is
        changed, and no number is drawn.

        Args:
            layer: from 0 to L - 1.
            direction: 0 forward, 1 reverse.

        Raises:
            ArgumentError: there is no such layer or direction.
        """
        from rnnkit.recurrent.program.show import show

        for name, index, count in (
            ("layer", layer, self.num_layers), ("direction", direction, len(self._layers[0]))
        ):
            check_integer(name, index, 0, count - 1)
        cell = self._layers[layer][direction]
        former = cell.training
        try:
            cell.train(self.training)
            return show(cell)
        finally:
            cell.train(former)

    def _states_of_layers(
        self, prefix: str, state: Any, held: Held, N: int, single: bool
    ) -> list[Any]:
        """The initial state of each layer, checked; None where the cells shall choose."""
        if state is None:
            return [None] * self.num_layers
        layers = self._layers
        first, L, D = layers[0][0], len(layers), len(layers[0])
        batch = (L * D,) if single else (L * D, N)
        given = first.unpack_state(state, (prefix or "state: ")[:-2])
        checked = [
            check_tensor(prefix + name, given[i], held.dtype, shape=batch + shape)
            for i, (name, shape) in enumerate(held.states)
        ]
        if single:
            checked = [each.unsqueeze(1) for each in checked]
        if L == 1:
            return [tuple(checked)]
        return [tuple(each[k * D : (k + 1) * D] for each in checked) for k in range(L)]

    def extra_repr(self) -> str:
        cell = self._layers[0][0]
        # The built-in modules read as in PyTorch: sizes, num_layers, then the cell's own options.
        parts = [repr(cell)] if type(self) is Recurrent else cell.extra_repr().split(", ")
        sizes = 3 if getattr(cell, "proj_size", 0) else 2
        layers = [f"num_layers={self.num_layers}"] if self.num_layers != 1 else []
        own = [
            f"{name}={getattr(self, name)}"
            for name in (
                "batch_first", "dropout", "bidirectional", "input_dropout", "weight_dropout"
            )
            if getattr(self, name)
        ]
        own += [f"merge={self.merge}"] if self.merge != "concat" else []
        own += [f"memory={self.memory}"] if self.memory != "full" else []
        return ", ".join(parts[:sizes] + layers + parts[sizes:] + own)
