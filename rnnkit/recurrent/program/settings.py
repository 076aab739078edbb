"""What else than tensors a cell's step may depend on: the cell's attributes as they are now."""

from __future__ import annotations

import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from functools import partial
from types import BuiltinMethodType, MethodType, SimpleNamespace
from typing import Any
from weakref import ref

import numpy as np

from rnnkit import rng
from rnnkit.autograd import Tensor
from rnnkit.module import Module

_NOT_OF_STEPS = ("_kinds", "_arguments", "_shapes", "_original")


def settings_of(module: Module) -> tuple[Any, ...]:
    """The attributes of a module and its submodules; equal ones give equal steps.

    Of a tensor that counts which the module holds: shape and dtype. Lists, sets, dicts and arrays
    count with what is in them, modules there, dataclasses and namespaces with their attributes, any
    other object as itself.
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


def tensors_in(module: Module, numbers: bool = False) -> dict[str, list[tuple[Any, ...]]]:
    """By attribute: the tensors there, whatever holds them, their arrays and, if ``numbers`` count,
    what is in those of these that can be written to."""
    found = {}
    for name, value in vars(module).items():
        if name in _NOT_OF_STEPS:
            continue
        tensors = [
            (each, each._data, hash(each._data.tobytes()) if numbers and _is_open(each) else 0)
            for each in _all_in(value)
            if isinstance(each, Tensor) and isinstance(each._data, np.ndarray)
        ]
        if tensors:
            found[name] = tensors
    return found


def other_tensors(
    before: dict[str, list[tuple[Any, ...]]], after: dict[str, list[tuple[Any, ...]]]
) -> list[str]:
    """Names of the attributes of ``before`` that have other tensors, or other numbers in them."""

    def alike(one: tuple[Any, ...], other: tuple[Any, ...]) -> bool:
        same = one[1] is other[1] or _same_numbers(one[1], other[1])
        return one[0] is other[0] and same and one[2] == other[2]

    return [
        name for name, former in before.items()
        if len(former) != len(after.get(name, ())) or not all(map(alike, former, after[name]))
    ]


def _same_numbers(one: Any, other: Any) -> bool:
    """Whether arrays have the same bytes: another thread may freeze a module while it is traced."""
    alike = one.dtype == other.dtype and one.shape == other.shape
    return alike and bool(one.tobytes() == other.tobytes())


def _named(settings: tuple[Any, ...]) -> Iterator[tuple[str, Any]]:
    for name, *setting in settings:
        yield name, setting


def _setting(value: Any, within: tuple[int, ...] = ()) -> Any:
    """What counts of an attribute, or of an item; ``within``: modules on the way there."""
    kind = type(value)
    if kind is float:
        return kind, value.hex()  # -0.0 is not 0.0
    if value is None or kind in (bool, int, str):
        return kind, value
    if isinstance(value, (tuple, list)):
        return kind, tuple([_setting(item, within) for item in value])
    if isinstance(value, (set, frozenset)):
        return kind, frozenset([_setting(item, within) for item in value])
    if isinstance(value, dict):
        items = value.items()
        return kind, tuple([(_setting(key), _setting(item, within)) for key, item in items])
    if isinstance(value, (np.ndarray, np.generic)):
        return kind, value.shape, value.dtype.str, value.tobytes()
    if isinstance(value, Module) and id(value) not in within:
        # In a container: a run is not given its tensors, so that each counts as itself.
        inside = (*within, id(value))
        return _Itself(value), tuple([
            (name, _setting(each, inside)) for name, each in vars(value).items()
            if name not in _NOT_OF_STEPS
        ])
    record = _record(value)
    if record is not None and id(value) not in within:
        inside = (*within, id(value))
        return kind, tuple([(name, _setting(each, inside)) for name, each in record.items()])
    return _Itself(value)


def is_lasting(module: Module) -> bool:
    """Whether the settings of a module, but for modules in it, are the same for as long as its
    attributes are the same objects."""
    return all(
        name in _NOT_OF_STEPS or isinstance(value, Module) or _lasts(value)
        for name, value in vars(module).items()
    )


def _lasts(value: Any) -> bool:
    if isinstance(value, (tuple, frozenset)):
        return all(_lasts(item) for item in value)
    changeable = isinstance(value, (list, set, dict, np.ndarray, Module))
    return not changeable and _record(value) is None


def _record(value: Any) -> dict[str, Any] | None:
    """The attributes of a dataclass or of a namespace; None for anything else."""
    kind = type(value)
    if not hasattr(kind, "__dataclass_fields__"):
        argparse = sys.modules.get("argparse")
        known = (SimpleNamespace,) if argparse is None else (SimpleNamespace, argparse.Namespace)
        return vars(value) if isinstance(value, known) else None
    if hasattr(value, "__dict__"):
        return vars(value)
    return {name: getattr(value, name, None) for name in kind.__dataclass_fields__}


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
def unchanged(module: Module, numbers: bool = False) -> Iterator[None]:
    """Gives a module and its submodules the attributes again that they had before, and lists, sets,
    dicts, arrays, dataclasses and namespaces there what was in them; tensors, too, if ``numbers``
    count: otherwise another thread may be training them."""
    before = [
        (each, _copied(each)) for each in _all_in(module)
        if isinstance(each, (dict, list, set, np.ndarray))
        or (numbers and isinstance(each, Tensor) and _is_open(each))
    ]
    try:
        yield
    finally:
        for each, former in before:
            _restore(each, former)


@contextmanager
def generators_unchanged(module: Module) -> Iterator[None]:
    """Gives the generators of NumPy and of Python that a module holds, or a method of, the states
    again that they had before."""
    before = [(restore, state()) for state, restore in map(_access, _generators_in(module))]
    try:
        yield
    finally:
        for restore, state in before:
            restore(state)


def _generators_in(module: Module) -> list[Any]:
    kinds: tuple[type, ...] = (
        np.random.Generator, np.random.RandomState, np.random.BitGenerator
    )
    if "random" in sys.modules:
        kinds = (*kinds, sys.modules["random"].Random)
    found = [
        value.__self__ if isinstance(value, (BuiltinMethodType, MethodType)) else value
        for value in _all_in(module)
    ]
    # What is drawn of the library's comes from another one, and other threads draw from it.
    return [each for each in found if isinstance(each, kinds) and each is not rng.generator()]


def _access(generator: Any) -> tuple[Callable[[], Any], Callable[[Any], None]]:
    """What gives a generator's state, and what sets it."""
    if isinstance(generator, np.random.RandomState):
        return generator.get_state, generator.set_state
    if hasattr(generator, "setstate"):
        return generator.getstate, generator.setstate
    bits = getattr(generator, "bit_generator", generator)
    return partial(getattr, bits, "state"), partial(setattr, bits, "state")


def _all_in(start: Any) -> Iterator[Any]:
    """All that a module, or anything else, leads to; of modules, dataclasses and namespaces their
    attributes."""
    seen: set[int] = set()
    stack: list[Any] = [start]
    while stack:
        value = stack.pop()
        is_module = isinstance(value, Module)
        if is_module or _record(value) is not None:
            value = getattr(value, "__dict__", None)
        if id(value) in seen:
            continue
        seen.add(id(value))
        if is_module:
            stack += [each for name, each in value.items() if name not in _NOT_OF_STEPS]
        elif isinstance(value, dict):
            stack += value.values()
        elif isinstance(value, (list, tuple, set, frozenset)):
            stack += value
        yield value


def _is_open(tensor: Tensor) -> bool:
    return bool(tensor._data.flags.writeable)


def _copied(value: Any) -> Any:
    if isinstance(value, np.ndarray):
        return value.copy()
    if isinstance(value, Tensor):
        return value._data, value._data.copy()
    kind = next(kind for kind in (dict, list, set) if isinstance(value, kind))
    return kind(value)


def _restore(value: Any, former: Any) -> None:
    """Only what differs is touched: another thread may be reading."""
    if isinstance(value, dict):
        for name in [name for name in value if name not in former]:
            del value[name]
        for name, each in former.items():
            if name not in value or value[name] is not each:
                value[name] = each
    elif isinstance(value, list):
        if [id(each) for each in value] != [id(each) for each in former]:
            value[:] = former
    elif isinstance(value, set):
        value &= former
        value |= former
    elif isinstance(value, Tensor):
        array, numbers = former
        if value._data is not array:
            value._data = array
        if array.tobytes() != numbers.tobytes():
            array[...] = numbers
    elif value.tobytes() != former.tobytes():
        value[...] = former
