"""What a key of ``x[key]`` picks of each row, and what its gradient puts where."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, NamedTuple

import numpy as np

from rnnkit.errors import TraceError
from rnnkit.recurrent.program.trace import mixes, where

if TYPE_CHECKING:
    from collections.abc import Iterable

    from rnnkit.autograd.tensor import Array
    from rnnkit.recurrent.program.values import Shape


class Picked(NamedTuple):
    """What a key of integers, slices and at most one array of indices picks of a row.

    Attributes:
        starts, steps, sizes: of the slices, by axis of the row.
        taken: the axis that the array stands for, and its indices one after the other.
        shape: of a row of what is picked.
    """

    starts: Shape
    steps: Shape
    sizes: Shape
    taken: tuple[int, Array] | None
    shape: Shape


def picked(name: str, key: Any, shape: Shape, rows: int) -> Picked:
    """What a key of a batch of so many rows picks.

    Raises:
        TraceError: it is not the same of each row, or more than a program can take; ``name`` is the
            operation for the message.
    """
    items = list(key) if isinstance(key, tuple) else [key]
    items = [each.item() if _is_number(each) else each for each in items]
    arrays = [i for i, item in enumerate(items) if isinstance(item, np.ndarray)]
    array: Any = items[arrays[0]] if arrays else None
    for i in arrays:
        items[i] = slice(None)
    if Ellipsis in items:
        at = items.index(Ellipsis)
        used = sum(item is not None for item in items) - 1
        items[at : at + 1] = [slice(None)] * (len(shape) + 1 - used)
        arrays = [i if i < at else i + len(shape) - used for i in arrays]
    items += [slice(None)] * (len(shape) + 1 - sum(item is not None for item in items))
    first = items[0]
    whole = (None, 0), (None, rows), (None, 1)  # a stop beyond these rows is not beyond any
    if arrays[:1] == [0] or not isinstance(first, slice) or not all(
        each in allowed
        for each, allowed in zip((first.start, first.stop, first.step), whole, strict=True)
    ):
        raise mixes(name)
    beside = all(item is None or isinstance(item, slice) for item in items)  # else axes move
    if len(arrays) > 1 or (
        arrays and (array.dtype.kind not in "biu" or not array.size or not beside)
    ):
        raise TraceError(
            f"{where()}: {name} with arrays of indices in a program: only one, beside slices"
        )
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
