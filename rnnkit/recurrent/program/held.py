"""What a cell holds: found out once, for as long as it holds the same things."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any
from weakref import ref

from rnnkit.module import Module
from rnnkit.recurrent.program.settings import is_lasting, settings_of
from rnnkit.recurrent.program.traced import tensors_of

if TYPE_CHECKING:
    from rnnkit.cells import Cell
    from rnnkit.errors import TraceError
    from rnnkit.recurrent.program.run import DirectionOfLayer
    from rnnkit.recurrent.program.traced import TracedStep


class Held:
    """The settings and the tensors of a cell.

    Attributes:
        settings: see ``settings_of``.
        tensors: see ``tensors_of``.
        step: the traced step, or why there is none; None: nobody has asked yet.
        layers: of the most usual kinds, what their runs have in common.
    """

    __slots__ = (
        "_cell", "_kind", "_lasts", "_modules", "_tensors", "layers", "settings", "step", "tensors"
    )

    def __init__(self, cell: Cell) -> None:
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
        self.settings = settings_of(cell)
        self.tensors = tensors_of(cell)
        self._tensors = [(t, t._data.shape, t._data.dtype) for t in self.tensors.values()]
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
            array = tensor._data
            if array.dtype is not dtype or array.shape != shape:
                return False
        return True


def held_by(cell: Cell) -> Held:
    """As it is now."""
    # Empty in a cell that ``Cell.__new__`` did not make, as those of pickles of protocol 0 and 1.
    held: Held | None = getattr(cell, "_held", None)
    if held is None or not held.is_of(cell):
        held = Held(cell)
        object.__setattr__(cell, "_held", held)
    return held


def _with_inner(module: Module) -> list[Module]:
    found = [module]
    for name, value in vars(module).items():
        if isinstance(value, Module) and name != "_original":
            found += _with_inner(value)
    return found
