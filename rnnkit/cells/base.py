"""What a recurrent cell is: parameters, the names of its states, and one ``step``.

Notation, here and in every cell: N batch, I input size, H hidden size.
"""

from __future__ import annotations

import copy
from collections.abc import Callable, Mapping, Sequence
from typing import TYPE_CHECKING, Any, ClassVar

import numpy as np

from rnnkit import ops, rng
from rnnkit.autograd import Tensor, as_tensor
from rnnkit.autograd.checks import check_real_dtype, check_tensor
from rnnkit.cells import noise
from rnnkit.checks import check_bool, check_elements, check_probability, check_size
from rnnkit.errors import ArgumentError, DTypeError, ShapeError
from rnnkit.module import PARAMETER, Module, Parameter

if TYPE_CHECKING:
    from typing import Self, TypeVar

    AnyCell = TypeVar("AnyCell", bound="Cell")
    State = tuple[Tensor, ...]

CELLS: dict[str, type[Cell]] = {}
"""Every cell that rnnkit ships and that has been imported, by name.

As ``rnnkit.cells.CELLS`` it has them all; the contract tests and the benchmarks go over it.
"""


EQUATIONS = frozenset((
    "step", "draw", "gate_values", "from_input", "from_hidden", "drop_hidden", "zone_out",
    "_next_c",
))
"""A fused kernel stands for one set of equations, and what they draw: who overrides any of these
leaves the kernel."""


def register_cell(name: str) -> Callable[[type[AnyCell]], type[AnyCell]]:
    """Class decorator: enters a shipped cell into ``CELLS``."""

    def enter(cell: type[AnyCell]) -> type[AnyCell]:
        CELLS[name] = cell
        return cell

    return enter


class Cell(Module):
    """A recurrent cell: what happens to one batch in one time step.

    A subclass creates its parameters in ``__init__`` (whose first argument is ``input_size``),
    lists its states in ``state_names`` and writes ``step`` once, with ordinary tensor operations.
    ``nn.Recurrent`` then runs it over sequences, in layers and in both directions: by its fused
    kernel where it has one; else natively, as a program traced from ``step``; and on the tape where
    ``step`` cannot be traced (docs/add-a-cell.md has the rules).

    Attributes:
        input_size: I, the number of features of the input.
        hidden_size: H, the number of features of each state.
        state_names: one name per state; the first is the one that PyTorch calls the hidden state.
        kernel: name of the fused native kernel that computes exactly this ``step``, or None: it may
            run as a traced program; a cell whose options lead away from the kernel's equations sets
            it to None on the object, or has a ``FusedKernel`` decide.
        variants: the constructor options that change the equations, one dict per variant, the
            defaults first.
        gate_names: what ``gate_values`` returns, by name; empty where the cell shows no gates.
        short_name: of the class, for messages: without "Cell".
    """

    # Not among the attributes, all of which count where it is asked whether a cell has changed.
    __slots__ = ("_held",)
    _not_copied = __slots__

    short_name: ClassVar[str] = "Cell"

    state_names: ClassVar[tuple[str, ...]] = ("h",)
    gate_names: ClassVar[tuple[str, ...]] = ()
    kernel: ClassVar[str | None] = None
    variants: ClassVar[tuple[dict[str, Any], ...]] = ({},)

    _held: Any  # see recurrent/held.py
    _arguments: tuple[tuple[Any, ...], dict[str, Any]]
    _shapes: dict[str, tuple[int, ...] | None]

    def __init_subclass__(cls, **kwargs: Any) -> None:
        super().__init_subclass__(**kwargs)
        cls.short_name = cls.__name__.removesuffix("Cell")
        # Equations may come from a class beside the one with the kernel, too.
        if cls._others_than_with("kernel", *EQUATIONS):
            cls.kernel = None
        # And the gates of a parent need not be those of a new step.
        if cls._others_than_with("gate_names", "step") and not cls._others_than_with(
            "gate_names", "gate_values"
        ):
            cls.gate_names = ()

    @classmethod
    def _others_than_with(cls, name: str, *functions: str) -> bool:
        """Whether any of these functions is not that of the class which says what ``name`` is."""
        says = next(each for each in cls.__mro__ if name in each.__dict__)
        return any(getattr(cls, each, None) is not getattr(says, each, None) for each in functions)

    def __new__(cls, *args: Any, **kwargs: Any) -> Self:
        # What is known of a cell is kept by its hash, which dataclasses and any __eq__ take away.
        if cls.__hash__ is None:
            cls.__hash__ = object.__hash__
        self = super().__new__(cls)
        object.__setattr__(self, "_arguments", (args, kwargs))
        object.__setattr__(self, "_held", None)
        return self

    def __init__(self, input_size: int, hidden_size: int) -> None:
        super().__init__()
        self.input_size = check_size("input_size", input_size)
        self.hidden_size = check_size("hidden_size", hidden_size)
        self._shapes = {}

    def parameter_shapes(self) -> dict[str, tuple[int, ...] | None]:
        """Shape of each parameter that ``make_parameters`` makes; None for one that is left out."""
        return {}

    def make_parameters(self, dtype: Any) -> None:
        """Registers the parameters that ``parameter_shapes`` lists, and draws them.

        Raises:
            DTypeError: neither float32 nor float64.
        """
        dtype = check_real_dtype("dtype", dtype)
        self._shapes = self.parameter_shapes()
        for name, shape in self._shapes.items():
            if shape is not None:
                check_elements(name, shape, dtype.itemsize)
            parameter = None if shape is None else Parameter(np.zeros(shape, dtype))
            self.register_parameter(name, parameter)
        self.reset_parameters()

    def reset_parameters(self) -> None:
        """Draws every parameter from U(-1/sqrt(H), 1/sqrt(H)), unless a cell says otherwise."""
        bound = self.hidden_size**-0.5
        for parameter in self.parameters():
            parameter.data[...] = rng.generator().uniform(-bound, bound, parameter.shape)

    @property
    def kernel_variant(self) -> str:
        """Which variant of its ``kernel`` the cell's options select, as the kernel names it."""
        return "standard"

    @property
    def output_size(self) -> int:
        """Number of features of the output of ``step``: H unless a cell says otherwise."""
        return self.hidden_size

    @property
    def state_shapes(self) -> tuple[tuple[int, ...], ...]:
        """Shape of one row of each state: (H,) unless a cell says otherwise."""
        return ((self.hidden_size,),) * len(self.state_names)

    @property
    def dtype(self) -> np.dtype[Any]:
        """dtype of the parameters (float32 for a cell that has none)."""
        own = self.__dict__
        for name, kind in own["_kinds"].items():  # its own come first, and are soon found
            if kind is PARAMETER and own[name] is not None:
                return own[name]._data.dtype
        for parameter in self.parameters():
            return parameter.dtype
        return np.dtype(np.float32)

    def initial_state(self, batch: int) -> State:
        """The state before the first step: zeros (N, *shape), one for each of ``state_shapes``."""
        dtype = self.dtype
        return tuple(ops.zeros((batch, *shape), dtype=dtype) for shape in self.state_shapes)

    def initial_state_for(self, batch: int) -> State:
        """What ``initial_state`` gives for a run.

        Raises:
            ArgumentError, ShapeError, DTypeError: it is not what the cell says of its states.
        """
        prefix = f"initial_state: {type(self).__name__}: "
        return self.checked_state(prefix, self.initial_state(batch), (batch,))

    def checked_state(self, prefix: str, state: Any, axes: tuple[int, ...]) -> State:
        """The states of a batch, or of several: ``axes`` come before those of a row.

        Raises:
            ArgumentError, ShapeError, DTypeError: it is something else; the message begins with
                ``prefix``.
        """
        names = self.state_names
        if not isinstance(state, (tuple, list)) or len(state) != len(names):
            several = isinstance(state, (tuple, list))
            raise ArgumentError(
                f"{prefix or 'state: '}expected a tuple ({', '.join(names)}), got "
                + (f"{len(state)} items" if several else type(state).__name__)
            )
        return tuple(
            check_tensor(prefix + name, value, self.dtype, shape=(*axes, *shape))
            for name, value, shape in zip(names, state, self.state_shapes, strict=True)
        )

    def draw(self, steps: int, batch: int) -> tuple[Tensor, ...]:
        """What one run over a sequence draws from the library's generator: masks and noise.

        Args:
            steps: T, or 1 for a single step.
            batch: N.

        Returns:
            Tensors (T, N, ...), of which each step gets its own part, or (1, N, ...), which all
            steps share; in either, N may be 1 where all rows share it. ``step`` takes them,
            (N, ...), after the state. None by default. A cell that draws more tensors, or wider
            ones, for more steps or rows is no program.
        """
        return ()

    def drawn_for(self, steps: int, batch: int) -> tuple[Tensor, ...]:
        """What ``draw`` gives for a run, all of it with N rows.

        Raises:
            ShapeError: ``draw`` gave neither a part for each step and row nor one for all of them.
        """
        found = []
        for each in map(as_tensor, self.draw(steps, batch)):
            shape = each.shape
            if shape[:2] not in ((steps, batch), (1, batch)):
                if len(shape) < 2 or shape[0] not in (1, steps) or shape[1] != 1:
                    raise ShapeError(
                        f"draw: {type(self).__name__}: expected ({steps}, {batch}, ...), where "
                        f"either may be 1, got {shape}"
                    )
                each = ops.broadcast_to(each, (shape[0], batch, *shape[2:]))
            found.append(each)
        return tuple(found)

    def step(self, x: Tensor, state: State) -> tuple[Tensor, State]:
        """One step for a batch; a cell that defines ``draw`` takes ``(x, state, *drawn)``.

        It is traced once and then runs natively, if it works on rows of the batch alone and does
        not depend on the numbers in them.

        Args:
            x: (N, I) input of this step.
            state: one tensor (N, *shape) per state name, as ``state_shapes`` says: (N, H).

        Returns:
            The output (N, output_size) and the new state, in the order of ``state_names``.
        """
        raise NotImplementedError(f"{type(self).__name__} must define step(x, state)")

    def checked_result(self, result: Any, batch: int) -> tuple[Tensor, State]:
        """What a step has given for so many rows.

        Raises:
            ArgumentError: it is no pair of an output and as many states as the cell has. A state
                alone would be taken apart, row by row.
            ShapeError, DTypeError: an output that is not (N, output_size), a state that is not
                (N, *shape), or one that is no tensor.
        """
        names, got = self.state_names, type(result).__name__
        if isinstance(result, (tuple, list)):
            if len(result) == 2:
                output, states = result
                if isinstance(states, (tuple, list)) and len(states) == len(names):
                    self._check_rows("output", output, (batch, self.output_size))
                    for i, shape in enumerate(self.state_shapes):
                        self._check_rows(names[i], states[i], (batch, *shape))
                    return output, tuple(states)
                several = isinstance(states, (tuple, list))
                got = f"{len(states)} states" if several else f"{type(states).__name__} as states"
            else:
                got = f"{len(result)} items"
        raise ArgumentError(
            f"step: {type(self).__name__}: expected the output and a tuple of states "
            f"({', '.join(names)}{',' * (len(names) == 1)}), got {got}"
        )

    def _check_rows(self, name: str, rows: Any, shape: tuple[int, ...]) -> None:
        if isinstance(rows, Tensor) and rows.shape == shape:
            return
        what = f"step: {type(self).__name__}: {name}"
        if isinstance(rows, Tensor):
            raise ShapeError(f"{what}: expected shape {shape}, got {rows.shape}")
        raise DTypeError(f"{what}: expected a Tensor, got {type(rows).__name__}")

    @property
    def gate_ranges(self) -> Mapping[str, tuple[float, float]]:
        """The least and the greatest value of the gates that don't lie between 0 and 1."""
        return {}

    def gate_values(self, x: Tensor, state: State) -> tuple[Tensor, ...]:
        """The gates of a step after their nonlinearities, (N, H) each, as ``gate_names`` says.

        ``step`` may begin with it, or leave it to those who look at gates (``rk.diagnostics``). It
        is called as ``step`` is.
        """
        raise NotImplementedError(f"{type(self).__name__} must define gate_values(x, state)")

    def forward(self, x: Tensor, state: Any = None) -> Any:
        """Takes one step, called as PyTorch's ``nn.LSTMCell`` is.

        Args:
            x: (N, I), or (I,) for a single row.
            state: the states, each (N, H) or (H,) (see ``state_shapes``): a tensor for a cell with
                one state, a tuple for a cell with several; None starts from ``initial_state``.

        Returns:
            The new state: a tensor for a cell with one state, else a tuple.

        Raises:
            ShapeError: wrong rank or size.
            DTypeError: a dtype other than that of the parameters.
        """
        dtype = self.dtype
        x = check_tensor("x", x, dtype, {1: "(I,)", 2: "(N, I)"}, last=self.input_size)
        single = x.ndim == 1
        if single:
            x = x.unsqueeze(0)
        if state is None:
            states = self.initial_state_for(x.shape[0])
        else:
            given = self.unpack_state(state)
            batch = () if single else (x.shape[0],)
            states = tuple(
                check_tensor(name, value, dtype, shape=batch + shape)
                for name, value, shape in zip(
                    self.state_names, given, self.state_shapes, strict=True
                )
            )
            if single:
                states = tuple(value.unsqueeze(0) for value in states)
        step: Any = self.step
        drawn = [each[0] for each in self.drawn_for(1, x.shape[0])]
        _, states = self.checked_result(step(x, states, *drawn), x.shape[0])
        if single:
            states = tuple(value.squeeze(0) for value in states)
        return self.pack_state(states)

    def check_parameters(self) -> None:
        """Raises where a parameter is no longer what the native paths may rely on.

        Parameters can be replaced after construction. Those of ``parameter_shapes`` are checked
        here, before anything native is called.
        """
        dtype, own = self.dtype, self.__dict__
        for name, shape in self._shapes.items():
            parameter = own[name]
            if parameter is None:
                if shape is not None:
                    raise ShapeError(f"{name}: expected shape {shape}, got None")
                continue
            array = parameter._data
            if array.shape != shape:
                raise ShapeError(f"{name}: expected shape {shape}, got {array.shape}")
            if array.dtype is not dtype and array.dtype != dtype:
                first = next(iter(self._shapes))
                raise DTypeError(f"{name}: expected {dtype} as {first} is, got {array.dtype}")

    def unpack_state(self, state: Any, name: str = "state") -> Sequence[Any]:
        """The states that a caller gave as ``name``, as a sequence: one tensor, or several.

        Raises:
            ArgumentError: not as many states as the cell has.
        """
        names = self.state_names
        if len(names) == 1 and not isinstance(state, (tuple, list)):
            return (state,)
        if not isinstance(state, (tuple, list)) or len(state) != len(names):
            came = f"{len(state)} of them" if isinstance(state, (tuple, list)) else "one tensor"
            raise ArgumentError(
                f"{name}: {type(self).__name__} expects ({', '.join(names)}), got {came}"
            )
        return state

    def pack_state(self, states: Sequence[Tensor]) -> Any:
        """The inverse of ``unpack_state``: a bare tensor where there is only one state."""
        return states[0] if len(self.state_names) == 1 else tuple(states)

    def with_tensors(self, tensors: Mapping[str, Tensor | None]) -> Cell:
        """A copy that computes with other tensors in place of its own of these paths.

        A path names a tensor of the cell, or of a module that the cell holds ("inner.weight"). The
        copy shares everything else, and keeps the mode, training or evaluation, of this moment.
        """
        other = _with_tensors(self, tensors)
        other.__dict__.setdefault("_original", self)
        return other

    def in_evaluation(self) -> Cell:
        """A copy in evaluation mode, with the modules that the cell holds; all else is shared."""
        other: Cell = own_copy(self, training=False)
        other.__dict__.setdefault("_original", self)
        return other

    def renew(self, input_size: int) -> Cell:
        """Another cell of this kind for ``input_size`` features, with fresh parameters.

        The constructor is called again with the arguments that made this cell and the new input
        size in the first place. A cell whose constructor is laid out otherwise overrides this.
        """
        args, kwargs = self._arguments
        if args:
            args = (input_size, *args[1:])
        else:
            kwargs = {**kwargs, "input_size": input_size}
        cell = type(self)(*args, **kwargs)
        cell.to(self.dtype)
        return cell

    def extra_repr(self) -> str:
        parts = [str(self.input_size), str(self.hidden_size)]
        if getattr(self, "bias", True) is False:
            parts.append("bias=False")
        for name, usual in self.variants[0].items():
            value = getattr(self, name, usual)
            if value != usual:
                parts.append(f"{name}={value}")
        return ", ".join(parts)


def original_of(cell: Cell) -> Cell:
    """The cell that a copy (``with_tensors``, ``in_evaluation``) was made of; else itself."""
    original: Cell = vars(cell).get("_original", cell)
    return original


def _with_tensors(module: Any, tensors: Mapping[str, Tensor | None]) -> Any:
    other = copy.copy(module)
    parts: dict[str, dict[str, Tensor | None]] = {}
    for path, tensor in tensors.items():
        head, _, rest = path.partition(".")
        if rest:
            parts.setdefault(head, {})[rest] = tensor
        else:
            other.__dict__[head] = tensor
    for head, inner in parts.items():
        other.__dict__[head] = _with_tensors(getattr(module, head), inner)
    return other


def own_copy(module: Any, **changes: Any) -> Any:
    """A copy with the same tensors, to which others can be assigned, and to its parts as well.

    ``changes`` are attributes that all of them get.
    """
    other = copy.copy(module)
    other.__dict__.update(changes)
    for name, part in vars(module).items():
        if isinstance(part, Module) and name != "_original":
            other.__dict__[name] = own_copy(part, **changes)
    return other


class FusedKernel:
    """A ``kernel`` of gated cells with options: None where an object's options lead away from it.

    Read on the class it is the name of the kernel. A regulariser leads away from the kernel only
    while it acts, so that a cell may be on the kernel in evaluation and a program in training; an
    equation that was put on the object always does.
    """

    def __init__(self, name: str) -> None:
        self._name = name

    def __get__(self, cell: GatedCell | None, owner: type[GatedCell]) -> str | None:
        if cell is None:
            return self._name
        own = cell.__dict__
        if any(own["zoneout"]) or (own["recurrent_dropout"] and own["training"]):
            return None
        for name in EQUATIONS:
            if name in own:
                return None
        return self._name if cell.is_plain else None


class GatedCell(Cell):
    """Base of the cells whose gates are affine in the input and in the hidden state.

    Parameters, in PyTorch's layout (G gates, stacked along the first axis):
        weight_ih (G*H, I), weight_hh (G*H, H), bias_ih (G*H,), bias_hh (G*H,), all drawn from
        U(-1/sqrt(H), 1/sqrt(H)). The biases are None with ``bias=False``.

    Two regularisers, off by default. Their masks are drawn anew for each run over a sequence (a
    call of the cell itself is a run of one step), from the library's generator, so that
    ``rk.manual_seed`` repeats them on every path.
        recurrent_dropout: probability p. In training, ``weight_hh`` sees m * h in place of h; each
            element of m, one per row and unit, is 0 with probability p and else 1 / (1 - p), and
            stays the same over all steps. The state itself is left alone. Gal and Ghahramani 2016,
            "A theoretically grounded application of dropout in recurrent neural networks", arXiv
            1512.05287.
        zoneout: probability p, or one for each state. In training, each unit of a state keeps its
            old value with probability p, drawn for every step: s' = k * s + (1 - k) * new. In
            evaluation k is its expectation, p. Krueger et al. 2017, "Zoneout: regularizing RNNs by
            randomly preserving hidden activations", arXiv 1606.01305.

    Attributes:
        gates: G; ``gate_names`` are in the order in which they are stacked.
        forget_gate: name of the gate that keeps the state where it is open (1), or None.
        input_gate: name of the gate that lets new values in; None where there is none, or where it
            is 1 minus the forget gate.
        zoneout: one probability for each state.
        is_plain: whether ``step``, apart from regularisers, computes what a kernel without options
            does.
    """

    gates: int
    is_plain: bool = True
    forget_gate: ClassVar[str | None] = None
    input_gate: ClassVar[str | None] = None

    weight_ih: Parameter
    weight_hh: Parameter
    bias_ih: Parameter | None
    bias_hh: Parameter | None

    def __init__(
        self,
        input_size: int,
        hidden_size: int,
        bias: bool = True,
        *,
        recurrent_dropout: float = 0.0,
        zoneout: float | Sequence[float] = 0.0,
        dtype: Any = np.float32,
    ) -> None:
        super().__init__(input_size, hidden_size)
        self.bias = check_bool("bias", bias)
        self.recurrent_dropout = check_probability("recurrent_dropout", recurrent_dropout)
        self.zoneout = self._check_zoneout(zoneout)
        self.make_parameters(dtype)

    def _check_zoneout(self, value: Any) -> tuple[float, ...]:
        names = self.state_names
        if not isinstance(value, (tuple, list)):
            return (check_probability("zoneout", value),) * len(names)
        if len(value) != len(names):
            raise ArgumentError(
                f"zoneout: expected a probability, or one for each of ({', '.join(names)}), "
                f"got {value!r}"
            )
        return tuple([check_probability("zoneout", each) for each in value])

    def parameter_shapes(self) -> dict[str, tuple[int, ...] | None]:
        """The shape of each parameter by name; None for a name whose parameter is None."""
        rows = self.gates * self.hidden_size
        return {
            "weight_ih": (rows, self.input_size),
            "weight_hh": (rows, self.output_size),
            "bias_ih": (rows,) if self.bias else None,
            "bias_hh": (rows,) if self.bias else None,
        }

    @property
    def dtype(self) -> np.dtype[Any]:
        return self.weight_ih._data.dtype

    def draw(self, steps: int, batch: int) -> tuple[Tensor, ...]:
        """In training, the masks (1, N, H) of recurrent dropout and (T, N, H) of zoneout."""
        if not self.training:
            return ()
        dtype, drawn = self.dtype, []
        if self.recurrent_dropout:
            shape: tuple[int, ...] = (1, batch, *self.state_shapes[0])
            drawn.append(noise.dropout_mask(shape, self.recurrent_dropout, dtype))
        for p, row in zip(self.zoneout, self.state_shapes, strict=True):
            if p:
                drawn.append(noise.bernoulli((steps, batch, *row), p, dtype))
        return tuple(drawn)

    def from_input(self, x: Tensor) -> Tensor:
        """The input's share of all gates, (N, G*H)."""
        return ops.linear(x, self.weight_ih, self.bias_ih)

    def from_hidden(self, h: Tensor) -> Tensor:
        """The hidden state's share of all gates, (N, G*H)."""
        return ops.linear(h, self.weight_hh, self.bias_hh)

    def drop_hidden(self, h: Tensor, drawn: Sequence[Tensor]) -> Tensor:
        """The hidden state as the recurrent weights see it, given what ``draw`` drew."""
        return h * drawn[0] if drawn and self.recurrent_dropout else h

    def zone_out(self, old: State, new: State, drawn: Sequence[Tensor]) -> State:
        """The state after a step from ``old`` that computed ``new``."""
        if not any(self.zoneout):
            return new
        keeps = iter(drawn[1:] if self.recurrent_dropout else drawn)
        states = []
        for p, before, after in zip(self.zoneout, old, new, strict=True):
            if p:
                keep = next(keeps) if drawn else p
                after = keep * before + (1 - keep) * after
            states.append(after)
        return tuple(states)

    def extra_repr(self) -> str:
        words = [super().extra_repr()]
        if self.recurrent_dropout:
            words.append(f"recurrent_dropout={self.recurrent_dropout}")
        if any(self.zoneout):
            one = len(set(self.zoneout)) == 1
            words.append(f"zoneout={self.zoneout[0] if one else self.zoneout}")
        return ", ".join(words)
