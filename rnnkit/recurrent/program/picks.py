"""What a key of ``x[key]`` picks of each row, and what its gradient puts where."""

from __future__ import annotations

import math
from typing import TYPE_CHECKING, Any, NamedTuple

import numpy as np

from rnnkit.errors import TraceError
from rnnkit.recurrent.program.trace import mixes, moves, where

if TYPE_CHECKING:
    from collections.abc import Iterable

    from rnnkit.autograd.tensor import Array
    from rnnkit.recurrent.program.values import Shape


class Picked(NamedTuple):
    """What a key of integers, slices and arrays of indices picks of a row.

    Attributes:
        starts, steps, sizes: of the slices, by axis of the row.
        taken: the axis that an array stands for, and its indices one after the other; axis None:
            indices of the elements of the whole row.
        shape: of a row of what is picked.
    """

    starts: Shape
    steps: Shape
    sizes: Shape
    taken: tuple[int | None, Array] | None
    shape: Shape


def picked(name: str, key: Any, shape: Shape, rows: int) -> Picked:
    """What a key of a batch of so many rows picks.

    Raises:
        TraceError: it is not the same of each row, or out of range; ``name`` is the operation for
            the message.
    """
    items = list(key) if isinstance(key, tuple) else [key]
    items = [each.item() if _is_number(each) else each for each in items]
    # To NumPy a truth is an axis of its own, not 0 or 1.
    items = [np.asarray(each) if isinstance(each, bool | np.bool_) else each for each in items]
    arrays = [i for i, item in enumerate(items) if isinstance(item, np.ndarray)]
    array: Any = items[arrays[0]] if arrays else None
    if arrays[:1] == [0]:
        raise mixes(name)
    is_simple = not arrays or (len(arrays) == 1 and (array.dtype.kind != "b" or array.ndim == 1))
    if not is_simple:
        return _elements(name, tuple(items), shape)
    as_given = tuple(items)
    for i in arrays:
        items[i] = slice(None)
    if Ellipsis in items:
        at = items.index(Ellipsis)
        used = sum(item is not None for item in items) - 1
        items[at : at + 1] = [slice(None)] * (len(shape) + 1 - used)
        arrays = [i if i < at else i + len(shape) - used for i in arrays]
    items += [slice(None)] * (len(shape) + 1 - sum(item is not None for item in items))
    if not _is_whole(items[0], rows):
        raise moves(name) if items[0] is None else mixes(name)
    if arrays and not all(item is None or isinstance(item, slice) for item in items):
        return _elements(name, as_given, shape)
    starts: list[int] = []
    steps, sizes, out = [], [], []
    taken = None
    for i, item in enumerate(items[1:], 1):
        if item is None:
            out.append(1)
            continue
        axis = len(starts)
        if i in arrays:
            start, step, size = 0, 1, shape[axis]
            if array.dtype.kind == "b":
                if array.shape != (size,):
                    raise TraceError(
                        f"{where()}: {name}: {array.shape} truths for an axis of {size}"
                    )
                array = np.flatnonzero(array)
            taken = axis, np.array([_in_range(name, n, size) for n in array.ravel().tolist()])
            out += array.shape
        elif isinstance(item, slice):
            start, stop, step = item.indices(shape[axis])
            size = len(range(start, stop, step))
            out.append(size)
        else:
            start, step, size = _in_range(name, int(item), shape[axis]), 1, 1
        starts.append(start)
        steps.append(step)
        sizes.append(size)
    return Picked(tuple(starts), tuple(steps), tuple(sizes), taken, tuple(out))


def _elements(name: str, key: tuple[Any, ...], shape: Shape) -> Picked:
    """What any other key picks, of which NumPy says what it is of two rows, and of three."""
    size = math.prod(shape)
    for rows in 3, 2:
        try:
            found = np.arange(rows * size).reshape(rows, *shape)[key]
        except IndexError as error:
            raise TraceError(f"{where()}: {name}: {error}") from None
        if len(found) != rows or any((found[i] != found[0] + i * size).any() for i in range(rows)):
            raise mixes(name)
    starts, steps = (0,) * len(shape), (1,) * len(shape)
    return Picked(starts, steps, shape, (None, found[0].reshape(-1)), found[0].shape)


def of_any_rows(key: Any, rows: int) -> Any:
    """A key that picks of any number of rows what this one picks of so many: ``x[: len(x)]``, and
    what ``gather`` makes of indices that are the same in every row."""
    first, *others = key if isinstance(key, tuple) and key else (key,)
    if _is_whole(first, rows):
        return slice(None), *others
    if not all(isinstance(each, np.ndarray) for each in (first, *others)) or first.size != rows:
        return key
    axes = max(each.ndim for each in (first, *others))
    if first.ndim != axes or (first.reshape(-1) != np.arange(rows)).any() or len(first) != rows:
        return key
    if any(each.ndim == axes and (each != each[:1]).any() for each in others):
        return key
    return slice(None), *[each[0] if each.ndim == axes else each for each in others]


def _is_whole(item: Any, rows: int) -> bool:
    """Whether a slice is that of all rows; a stop beyond these rows is not beyond any."""
    return isinstance(item, slice) and (
        item.start in (None, 0) and item.stop in (None, rows) and item.step in (None, 1)
    )


def _is_number(item: Any) -> bool:
    return isinstance(item, np.ndarray) and item.ndim == 0 and item.dtype.kind in "iu"


def _in_range(name: str, number: int, n: int) -> int:
    """An index, counted from the front."""
    if not -n <= number < n:
        raise TraceError(f"{where()}: {name}: index {number} is out of range for size {n}")
    return number % n


def rounds(index: Array, n: int) -> list[Array]:
    """For each of n elements of which ``index`` were taken: which of these it has been, or -1. What
    was taken more than once is so in as many rounds."""
    found: list[Array] = []
    for i, of in enumerate(index.tolist()):
        free = next((each for each in found if each[of] < 0), None)
        if free is None:
            free = np.full(n, -1)
            found.append(free)
        free[of] = i
    return found


def counted(places: Iterable[Picked], shape: Shape) -> Array:
    """How many slices each element of a row is in."""
    times = np.zeros(shape, np.intp)
    for place in places:
        stops = [a + step * n for a, step, n in zip(*place[:3], strict=True)]
        keys = zip(place.starts, stops, place.steps, strict=True)
        times[tuple([slice(a, b if b >= 0 else None, step) for a, b, step in keys])] += 1
    return times
