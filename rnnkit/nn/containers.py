"""Modules made of a row of modules; the children are named "0", "1", ..."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, overload

from rnnkit.module import MODULE, Module

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator
    from typing import Self


class _ModuleRow(Module):
    """A Module whose children can be counted, indexed, sliced and appended."""

    def __init__(self, modules: Iterable[Module] = ()) -> None:
        super().__init__()
        self.extend(modules)

    def append(self, module: Module) -> Self:
        """Add ``module`` at the end; return self. Raises TypeError for what is not a Module."""
        name = str(len(self))
        if not isinstance(module, Module):
            raise TypeError(
                f"{type(self).__name__}[{name}]: expected a Module, got {type(module).__name__}"
            )
        self.add_module(name, module)
        return self

    def extend(self, modules: Iterable[Module]) -> Self:
        """Add ``modules`` at the end; return self."""
        for module in modules:
            self.append(module)
        return self

    def __len__(self) -> int:
        return len(self._row())

    def __iter__(self) -> Iterator[Module]:
        return iter(self._row())

    @overload
    def __getitem__(self, index: int) -> Module: ...
    @overload
    def __getitem__(self, index: slice) -> Self: ...
    def __getitem__(self, index: int | slice) -> Module | Self:
        """Return one child, or for a slice a row of the same kind that shares the children."""
        if not isinstance(index, slice):
            return self._row()[index]
        part = type(self).__new__(type(self))
        Module.__init__(part)
        part.training = self.training
        return part.extend(self._row()[index])

    def __setitem__(self, index: int, module: Module) -> None:
        setattr(self, str(range(len(self))[index]), module)

    def _row(self) -> list[Module]:
        # Not children(): a module that stands in two places is there twice.
        return [module for _, module in self._own(MODULE)]


class Sequential(_ModuleRow):
    """Calls its modules one after the other, each with the result of the one before."""

    def __init__(self, *modules: Module) -> None:
        super().__init__(modules)

    def forward(self, x: Any) -> Any:
        for module in self:
            x = module(x)
        return x


class ModuleList(_ModuleRow):
    """A list of modules whose parameters are the list's own; it is not called itself."""
