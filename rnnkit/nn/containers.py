"""Modules made of a row of modules or Parameters, named "0", "1", ..., or of a dict of them."""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING, Any, ClassVar, Generic, TypeVar, overload

from rnnkit.checks import check_list
from rnnkit.errors import ArgumentError
from rnnkit.module import MODULE, PARAMETER, Module, Parameter

if TYPE_CHECKING:
    from collections.abc import (
        ItemsView,
        Iterable,
        Iterator,
        KeysView,
        ValuesView,
    )
    from typing import Self


M = TypeVar("M", Module, Parameter)


class _Row(Module, Generic[M]):
    """A Module whose members can be counted, indexed, sliced and appended."""

    _kind: ClassVar[str]

    def _member(self, name: str, value: Any) -> M:
        """What is put in for ``value``. Raises TypeError where that cannot be."""
        raise NotImplementedError

    def append(self, value: Any) -> Self:
        """Add ``value`` at the end; return self. Raises TypeError for what is no member."""
        self._put(str(len(self)), value)
        return self

    def extend(self, values: Iterable[Any]) -> Self:
        """Add ``values`` at the end, or none of them if one is no member; return self."""
        first = len(self)
        members = [
            (str(i), self._member(str(i), value))
            for i, value in enumerate(check_list("values", values, "several members"), first)
        ]
        for name, member in members:
            self._check_is_apart(name, member)
        for name, member in members:
            setattr(self, name, member)
        return self

    def __len__(self) -> int:
        return len(self._row())

    def __iter__(self) -> Iterator[M]:
        return iter(self._row())

    @overload
    def __getitem__(self, index: int) -> M: ...
    @overload
    def __getitem__(self, index: slice) -> Self: ...
    def __getitem__(self, index: int | slice) -> M | Self:
        """Return one member, or for a slice a row of the same kind that shares the members."""
        if not isinstance(index, slice):
            return self._row()[index]
        part = type(self).__new__(type(self))
        Module.__init__(part)
        part.training = self.training
        return part.extend(self._row()[index])

    def __setitem__(self, index: int, value: Any) -> None:
        names = [name for name, _ in self._own(self._kind)]
        self._put(names[index], value)

    def _put(self, name: str, value: Any) -> None:
        setattr(self, name, self._member(name, value))

    def _row(self) -> list[M]:
        # Not children() or parameters(): what stands in two places is there twice.
        return [member for _, member in self._own(self._kind)]


class _ModuleRow(_Row[Module]):
    _kind = MODULE

    def __init__(self, modules: Iterable[Module] = ()) -> None:
        super().__init__()
        self.extend(check_list("modules", modules, "several Modules"))

    def _member(self, name: str, value: Any) -> Module:
        if not isinstance(value, Module):
            raise TypeError(
                f"{type(self).__name__}[{name}]: expected a Module, got {type(value).__name__}"
            )
        return value


class Sequential(_ModuleRow):
    """Calls its modules one after the other, each with the result of the one before.

    A single dict in place of modules names them as its keys do.
    """

    def __init__(self, *modules: Module | Mapping[str, Module]) -> None:
        named = modules[0] if len(modules) == 1 and isinstance(modules[0], Mapping) else None
        super().__init__(() if named is not None else modules)  # type: ignore[arg-type]
        for name, module in (named or {}).items():
            self.add_module(name, module)

    def forward(self, x: Any) -> Any:
        for module in self:
            x = module(x)
        return x


class ModuleList(_ModuleRow):
    """A list of modules whose parameters are the list's own; it is not called itself."""


class ModuleDict(Module):
    """A dict of modules whose parameters are the dict's own; it is not called itself.

    The keys are the children's names, in the order in which they came; a ``modules`` of pairs or a
    mapping fills it. Raises ArgumentError for a key that is no name of a child or is the name of an
    attribute, such as "train", and TypeError for what is not a Module.
    """

    def __init__(
        self, modules: Mapping[str, Module] | Iterable[tuple[str, Module]] | None = None
    ) -> None:
        super().__init__()
        self.update({} if modules is None else modules)

    def update(self, modules: Mapping[str, Module] | Iterable[tuple[str, Module]]) -> None:
        """Put each of ``modules`` under its key, or none of them if one cannot be put there."""
        try:
            table = dict(modules)
        except (TypeError, ValueError):
            raise ArgumentError(
                f"modules: expected a mapping or pairs of keys and Modules, got {modules!r}"
            ) from None
        for key, module in table.items():
            self._check_is_module(key, module)
            self._check_new_name(key)
            self._check_is_apart(key, module)
        for key, module in table.items():
            self.add_module(key, module)

    def __getitem__(self, key: str) -> Module:
        return self._table()[key]

    def __setitem__(self, key: str, module: Module) -> None:
        self._check_is_module(key, module)
        self.add_module(key, module)

    def _check_is_module(self, key: str, module: Any) -> None:
        if not isinstance(module, Module):
            raise TypeError(
                f"{type(self).__name__}[{key!r}]: expected a Module, got {type(module).__name__}"
            )

    def __delitem__(self, key: str) -> None:
        self.pop(key)

    def pop(self, key: str) -> Module:
        """Take out and return the module under ``key``; KeyError where there is none."""
        module = self[key]
        delattr(self, key)
        return module

    def clear(self) -> None:
        """Take out all modules."""
        for key in self.keys():
            delattr(self, key)

    def __len__(self) -> int:
        return len(self._table())

    def __iter__(self) -> Iterator[str]:
        return iter(self._table())

    def __contains__(self, key: object) -> bool:
        return key in self._table()

    def keys(self) -> KeysView[str]:
        return self._table().keys()

    def values(self) -> ValuesView[Module]:
        return self._table().values()

    def items(self) -> ItemsView[str, Module]:
        return self._table().items()

    def _table(self) -> dict[str, Module]:
        return dict(self._own(MODULE))


class ParameterList(_Row[Parameter]):
    """A list of Parameters, named "0", "1", ...; it is not called itself.

    Tensors and arrays become Parameters, as in PyTorch.
    """

    _kind = PARAMETER

    def __init__(self, values: Iterable[Any] = ()) -> None:
        super().__init__()
        self.extend(values)

    def _member(self, name: str, value: Any) -> Parameter:
        return value if isinstance(value, Parameter) else Parameter(value)
