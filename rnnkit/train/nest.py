"""Nests of numbers, texts, arrays and Tensors as JSON with the arrays beside it."""

from __future__ import annotations

from collections.abc import Callable, Collection, Mapping
from typing import Any

import numpy as np

from rnnkit.autograd import Tensor
from rnnkit.errors import ArgumentError

_ARRAY, _TENSOR, _TUPLE = "$array", "$tensor", "$tuple"


def pack(nest: Any, taken: Collection[str] = ()) -> tuple[Any, dict[str, np.ndarray]]:
    """``nest`` as JSON can hold it, and its arrays by the names that stand in their places.

    A nest is made of dicts with keys that are texts or integers, lists, tuples, None, booleans,
    numbers, texts, arrays and Tensors. An array is named by its path, or nearly so where another
    array has that name or it is among ``taken``.
    Raises ArgumentError naming the place of anything else.
    """
    arrays = dict.fromkeys(taken, np.zeros(0))
    packed = _pack(nest, "", arrays)
    for name in taken:
        del arrays[name]
    return packed, arrays


def unpack(nest: Any, read: Callable[[str], np.ndarray]) -> Any:
    """The nest that `pack` took apart; ``read`` gives an array by its name.

    Raises ArgumentError where ``nest`` is none that `pack` makes.
    """
    if isinstance(nest, list):
        return [unpack(part, read) for part in nest]
    if not isinstance(nest, dict):
        return nest
    if len(nest) == 1:
        ((mark, value),) = nest.items()
        if mark in (_ARRAY, _TENSOR) and isinstance(value, str):
            return read(value) if mark == _ARRAY else Tensor(read(value))
        if mark == _TUPLE and isinstance(value, list):
            return tuple(unpack(part, read) for part in value)
    return {_unpack_key(key): unpack(part, read) for key, part in nest.items()}


def _pack_key(key: str | int) -> str:
    """A text that tells an integer from a text, and a caller's text from a mark."""
    if isinstance(key, int):
        return f"${int(key)}"  # True is the same key as 1
    return f"${key}" if key.startswith("$") else key


def _unpack_key(key: str) -> str | int:
    if not key.startswith("$"):
        return key
    if key.startswith("$$"):
        return key[1:]
    try:
        return int(key[1:])
    except ValueError:
        raise ArgumentError(
            f"{key!r}: expected the name of an array, a list or an integer key"
        ) from None


def _pack(nest: Any, path: str, arrays: dict[str, np.ndarray]) -> Any:
    if isinstance(nest, np.generic):
        nest = nest.item()
    if nest is None or isinstance(nest, bool | int | float | str):
        return nest
    if isinstance(nest, Tensor | np.ndarray):
        name = path
        while name in arrays:  # a key with a slash in it can look like two
            name += "'"
        arrays[name] = nest.data if isinstance(nest, Tensor) else nest
        return {_TENSOR if isinstance(nest, Tensor) else _ARRAY: name}
    if isinstance(nest, Mapping):
        packed = {}
        for key, part in nest.items():
            if not isinstance(key, str | int):
                raise ArgumentError(f"{path}: the key {key!r} cannot be saved")
            packed[_pack_key(key)] = _pack(part, f"{path}/{key}" if path else str(key), arrays)
        return packed
    if type(nest) in (list, tuple):
        parts = [_pack(part, f"{path}/{place}", arrays) for place, part in enumerate(nest)]
        return parts if isinstance(nest, list) else {_TUPLE: parts}
    raise ArgumentError(f"{path}: a {type(nest).__name__} cannot be saved")
