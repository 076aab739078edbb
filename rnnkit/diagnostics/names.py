"""What the layers of a module are called."""

from __future__ import annotations

from typing import TYPE_CHECKING

from rnnkit.cells.base import original_of
from rnnkit.errors import ArgumentError
from rnnkit.module import Module
from rnnkit.nn import Recurrent

if TYPE_CHECKING:
    from collections.abc import Sequence

    from rnnkit.cells import Cell


class Names:
    """Names of layers by their cells: those of a module, or any, as they come.

    A layer of a module is called as the end of its parameters: "l0", "encoder.l1"; others by their
    kind and number: "LSTM 0".
    """

    def __init__(self, module: Module | None) -> None:
        """Raises ArgumentError where the module has no recurrent layer."""
        self._names: dict[Cell, str] = {}
        self._any = module is None
        if module is None:
            return
        if not isinstance(module, Module):
            raise ArgumentError(f"module: expected a Module, got {type(module).__name__}")
        for path, each in module.named_modules():
            if isinstance(each, Recurrent):
                for layer, cells in enumerate(each.layers):
                    self._names[cells[0]] = f"{path}.l{layer}" if path else f"l{layer}"
        if not self._names:
            raise ArgumentError(f"module: {type(module).__name__} has no recurrent layer")

    def __contains__(self, cells: Sequence[Cell]) -> bool:
        return self._any or original_of(cells[0]) in self._names

    def of(self, cells: Sequence[Cell]) -> str:
        first = original_of(cells[0])
        if first not in self._names:
            kind = type(first).__name__.removesuffix("Cell")
            self._names[first] = f"{kind} {len(self._names)}"
        return self._names[first]


def of_direction(name: str, reverse: bool) -> str:
    return f"{name}_reverse" if reverse else name
