"""What else than tensors a cell's step may depend on: the cell's attributes as they are now."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any
from weakref import ref

import numpy as np

from rnnkit.autograd import Tensor
from rnnkit.module import Module

_NOT_OF_STEPS = ("_kinds", "_arguments", "_shapes", "_original")


def settings_of(module: Module) -> tuple[Any, ...]:
    """The attributes of a module and its submodules; equal ones give equal steps.

    Of a tensor that counts which the module holds: shape and dtype. Lists, dicts and arrays count
    with what is in them, any other object as itself.
    """
    found: list[Any] = []
    for name, value in vars(module).items():
        if name in _NOT_OF_STEPS:
            continue
        if isinstance(value, Module):
            found.append((name, settings_of(value)))
        elif isinstance(value, Tensor):
            array = value._data
            found.append((name, array.shape, array.dtype.char))
        elif (kind := type(value)) is int or kind is bool or kind is str:
            found.append((name, (kind, value)))
        else:
            found.append((name, _setting(value)))
    return tuple(found)


def changed(before: tuple[Any, ...], after: tuple[Any, ...]) -> list[str]:
    """Names of the attributes in which settings differ."""
    former, latter = dict(_named(before)), dict(_named(after))
    names = [*former, *[name for name in latter if name not in former]]
    return [name for name in names if former.get(name) != latter.get(name)]


def _named(settings: tuple[Any, ...]) -> Iterator[tuple[str, Any]]:
    for name, *setting in settings:
        yield name, setting


def _setting(value: Any) -> Any:
    kind = type(value)
    if kind is float:
        return kind, value.hex()  # -0.0 is not 0.0
    if value is None or kind in (bool, int, str):
        return kind, value
    if isinstance(value, (tuple, list)):
        return kind, tuple([_setting(item) for item in value])
    if isinstance(value, dict):
        return kind, tuple([(_setting(key), _setting(item)) for key, item in value.items()])
    if isinstance(value, (np.ndarray, np.generic)):
        return kind, value.shape, value.dtype.str, value.tobytes()
    return _Itself(value)


class _Itself:
    """Equal for the same object alone, also when that is gone and another has its ``id``."""

    __slots__ = ("_get", "_id")

    def __init__(self, value: Any) -> None:
        self._id = id(value)
        try:
            self._get: Any = ref(value)
        except TypeError:
            self._get = lambda: value

    def __hash__(self) -> int:
        return self._id

    def __eq__(self, other: object) -> bool:
        if not isinstance(other, _Itself) or self._id != other._id:
            return False
        value = self._get()
        return value is not None and value is other._get()


@contextmanager
def unchanged(module: Module) -> Iterator[None]:
    """Gives a module and its submodules the attributes again that they had before."""
    modules = list(_all_of(module))
    before = [dict(vars(each)) for each in modules]
    try:
        yield
    finally:
        for each, attributes in zip(modules, before, strict=True):
            now = vars(each)
            for name in [name for name in now if name not in attributes]:
                del now[name]
            for name, value in attributes.items():
                if name not in now or now[name] is not value:
                    now[name] = value


def _all_of(module: Module) -> Iterator[Module]:
    yield module
    for value in list(vars(module).values()):
        if isinstance(value, Module):
            yield from _all_of(value)
