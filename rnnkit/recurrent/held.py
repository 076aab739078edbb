"""What a cell holds: found out once, for as long as it holds the same things."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, Any
from weakref import ref

from rnnkit.autograd import Tensor, arrays
from rnnkit.backend import DTYPE_NAMES
from rnnkit.module import Module
from rnnkit.recurrent.program.settings import is_lasting, settings_of

if TYPE_CHECKING:
    from rnnkit.cells import Cell
    from rnnkit.errors import TraceError
    from rnnkit.recurrent.program.direction import DirectionOfLayer
    from rnnkit.recurrent.program.traced import TracedStep


class Held:
    """A cell as it is now, its parameters checked.

    Attributes:
        short_name, hidden_size, dtype, kernel, kernel_variant: the cell's.
        dtype_name: as the kernels name it.
        states: name and shape of each state.
        tensors: all that it and its submodules hold, by path.
        weights: of a cell with a kernel, as ``recurrent/native.py`` takes them; None: nobody has
            asked yet.
        step: the traced step, or why there is none; None: nobody has asked yet.
        layers: of the most usual kinds, what runs of its program have in common.
    """

    __slots__ = (
        "_cell", "_kind", "_lasts", "_modules", "_settings", "_tensors", "dtype", "dtype_name",
        "hidden_size", "kernel", "kernel_variant", "layers", "short_name", "states", "step",
        "tensors", "weights",
    )

    def __init__(self, cell: Cell) -> None:
        cell.check_parameters()
        # Weak, as nothing here may keep alive a copy with dropped weights.
        self._cell, self._kind = ref(cell), type(cell)
        modules = _with_inner(cell)
        self._lasts = all(is_lasting(each) for each in modules)
        # Each module's attributes; that of the cell itself is found by way of the cell.
        self._modules: list[tuple[Module | None, list[str], list[Any]]] = []
        if self._lasts:
            self._modules = [
                (None if each is cell else each, list(vars(each)), list(vars(each).values()))
                for each in modules
            ]
        self.tensors = tensors_of(cell)
        self._tensors = [(t, t._data.shape, t._data.dtype) for t in self.tensors.values()]
        self._settings: tuple[Any, ...] | None = None
        self.short_name, self.hidden_size = cell.short_name, cell.hidden_size
        self.dtype = cell.dtype
        self.dtype_name = DTYPE_NAMES[self.dtype]
        self.states = tuple(zip(cell.state_names, cell.state_shapes, strict=True))
        self.kernel, self.kernel_variant = cell.kernel, cell.kernel_variant
        self.weights: tuple[Tensor | None, ...] | None = None
        self.step: TracedStep | TraceError | None = None
        self.layers: dict[Any, DirectionOfLayer] = {}

    def is_of(self, cell: Cell) -> bool:
        """Whether this is what the cell holds now."""
        if not self._lasts or self._cell() is not cell or self._kind is not type(cell):
            return False
        for module, names, values in self._modules:
            attributes = (cell if module is None else module).__dict__
            if len(attributes) != len(names):
                return False
            for i, (name, value) in enumerate(attributes.items()):
                if value is not values[i] or name is not names[i]:
                    return False
        for tensor, shape, dtype in self._tensors:
            if not arrays.fits(tensor._data, shape, dtype):
                return False
        return True

    def settings_of(self, cell: Cell) -> tuple[Any, ...]:
        """What the function of this name tells of the cell."""
        if self._settings is None:
            self._settings = settings_of(cell)
        return self._settings


def held_by(cell: Cell) -> Held:
    """As it is now.

    Raises:
        ShapeError, DTypeError: a parameter is no longer what the native paths may rely on.
    """
    # Empty in a cell that ``Cell.__new__`` did not make, as those of pickles of protocol 0 and 1.
    held: Held | None = getattr(cell, "_held", None)
    if held is None or not held.is_of(cell):
        held = Held(cell)
        object.__setattr__(cell, "_held", held)
    return held


def tensors_of(module: Module) -> dict[str, Tensor]:
    """Every tensor that a module and its submodules hold, by path."""
    found: dict[str, Tensor] = {}
    for name, value in vars(module).items():
        if isinstance(value, Tensor):
            found[name] = value
        elif isinstance(value, Module) and name != "_original":
            found |= {f"{name}.{path}": tensor for path, tensor in tensors_of(value).items()}
    return found


def common_kernel(held: Sequence[Held]) -> str | None:
    """The kernel of all of these cells; None where they have none, or another, or another variant:
    the options of some have then been changed."""
    first = held[0]
    for other in held:
        if other.kernel != first.kernel or other.kernel_variant != first.kernel_variant:
            return None
    return first.kernel


def _with_inner(module: Module) -> list[Module]:
    found = [module]
    for name, value in vars(module).items():
        if isinstance(value, Module) and name != "_original":
            found += _with_inner(value)
    return found
