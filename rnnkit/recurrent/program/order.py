"""What running sums and products along a row are, and what depends on the order of its elements.

An order is found without branches: where an element goes is the number of those that come before
it, which are compared with it one by one, and what stands in a place is a sum over all that might,
of which all but one are 0. That is exact, and takes n * n comparisons of n elements.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np

from rnnkit.errors import TraceError
from rnnkit.recurrent.program.picks import of_any_rows
from rnnkit.recurrent.program.rows import (
    RULES,
    cut,
    elementwise,
    need_rows_first,
    reduced,
    row_axes,
    rule,
    shaped,
    with_rows,
)
from rnnkit.recurrent.program.trace import mixes, where
from rnnkit.recurrent.program.values import VIEWS

if TYPE_CHECKING:
    from rnnkit.recurrent.program.trace import Rule, Tracer
    from rnnkit.recurrent.program.values import Shape, Value

__all__ = ["RULES"]

MOST_COMPARED = 128 * 128
"""Comparisons for an order. More take longer than the tape with its sorting."""


# ---- running sums and products


def _part(t: Tracer, x: Value, axis: int, start: int, size: int) -> Value:
    """Elements from ``start`` on along an axis."""
    starts, sizes = [0] * len(x.shape), list(x.shape)
    starts[axis], sizes[axis] = start, size
    return cut(t, x, starts, [1] * len(x.shape), sizes)


def _elements(t: Tracer, x: Value, axis: int) -> list[Value]:
    return [_part(t, x, axis, i, 1) for i in range(x.shape[axis])]


@rule("cumsum")
def _cumsum(t: Tracer, values: list[Value], params: dict[str, Any]) -> Value:
    """Sums of two elements, then of four, and so on: they round less than one by one."""
    need_rows_first("cumsum", *values)
    (axis,) = row_axes("cumsum", params["axis"])
    (x,) = values
    if x.dtype == np.bool_:
        x = t.emit("copy", [x], x.shape, dtype=np.int64)
    n, by = x.shape[axis], 1
    while by < n:
        later, sooner = _part(t, x, axis, by, n - by), _part(t, x, axis, 0, n - by)
        parts = [_part(t, x, axis, 0, by), elementwise(t, "add", [later, sooner])]
        x = t.emit("cat", parts, x.shape, axis=axis)
        by *= 2
    return x


@rule("cumprod")
def _cumprod(t: Tracer, values: list[Value], params: dict[str, Any]) -> Value:
    """One by one: products of some in the middle might overflow where those from the first on do
    not."""
    need_rows_first("cumprod", *values)
    (axis,) = row_axes("cumprod", params["axis"])
    first, *others = _elements(t, values[0], axis)
    found = [first]
    for each in others:
        found.append(elementwise(t, "mul", [found[-1], each]))
    return _joined(t, found, values[0].shape, axis)


@rule("recurrence")
def _recurrence(t: Tracer, values: list[Value], params: dict[str, Any]) -> Value:
    """y_t = a_t y_{t-1} + b_t"""
    need_rows_first("recurrence", *values)
    (axis,) = row_axes("recurrence", params["axis"])
    shape = next(value.shape for value in values if value.rows)
    factors, (first, *others) = [
        _elements(t, with_rows(t, "recurrence", each, shape), axis) for each in values
    ]
    found = [first]
    for factor, each in zip(factors[1:], others, strict=True):
        found.append(elementwise(t, "add", [elementwise(t, "mul", [factor, found[-1]]), each]))
    return _joined(t, found, shape, axis)


def _joined(t: Tracer, parts: list[Value], shape: Shape, axis: int) -> Value:
    return parts[0] if len(parts) == 1 else t.emit("cat", parts, shape, axis=axis)


# ---- positions


def _counts(t: Tracer, axes: int, axis: int, n: int) -> Value:
    """0, 1, 2, ... along one of so many axes."""
    shape = [1] * axes
    shape[axis] = n
    return t.constant(np.arange(n).reshape(shape), np.int64)


def _first_that(name: str, extreme: str) -> Rule:
    def find(t: Tracer, values: list[Value], params: dict[str, Any]) -> Value:
        need_rows_first(name, *values)
        if params["axis"] is None:
            raise mixes(name)
        (axis,) = row_axes(name, params["axis"])
        (x,) = values
        n = x.shape[axis]
        best = reduced(t, extreme, x, (axis,), True)
        found = elementwise(t, "equal", [x, best], np.bool_)
        if x.dtype.kind == "f":  # any NaN is the best, and equal to none
            nan = elementwise(t, "isnan", [x], np.bool_)
            found = elementwise(t, "logical_or", [found, nan], np.bool_)
        places = [found, _counts(t, len(x.shape), axis, n), t.constant(n, np.int64)]
        place = elementwise(t, "where", places)
        first = reduced(t, "reduce_min", place, (axis,), params["keepdims"])
        return _known(t, first, n)

    return find


RULES["argmax"] = _first_that("argmax", "reduce_max")
RULES["argmin"] = _first_that("argmin", "reduce_min")


def _known(t: Tracer, place: Value, n: int) -> Value:
    """A value that is a place among n elements."""
    root = place
    while root.of is not None and root.of.name in VIEWS:
        root = root.of.inputs[0]
    t.places[root] = n
    return place


def _is_within(t: Tracer, index: Value, n: int) -> bool:
    """Whether indices are known to be places among n elements."""
    root = index
    while root.of is not None and (root.of.name in VIEWS or root.of.name == "copy"):
        root = root.of.inputs[0]
    tensor = t.tensor_of.get(root)
    if tensor is not None:
        return bool(((tensor._data >= 0) & (tensor._data < n)).all())
    return t.places.get(root, n + 1) <= n


def _pairs(shape: Shape, axis: int, n: int, m: int) -> Shape:
    """The shape of a row with n and m elements, beside each other, in place of an axis."""
    return (*shape[:axis], n, m, *shape[axis + 1 :])


def _refuse_many(name: str, count: int) -> None:
    if count > MOST_COMPARED:
        raise TraceError(
            f"{where()}: {name} of so many elements cannot be part of a program: it would take "
            f"{count} comparisons, more than {MOST_COMPARED}"
        )


def _comes_before(t: Tracer, a: Value, b: Value, descending: bool) -> Value:
    """Where an element is less than another, or greater; NaN is the greatest."""
    name = "greater" if descending else "less"
    found = elementwise(t, name, [a, b], np.bool_)
    if a.dtype.kind != "f":
        return found
    nan, other = [elementwise(t, "isnan", [x], np.bool_) for x in (a, b)]
    if not descending:
        nan, other = other, nan
    number = elementwise(t, "logical_not", [other], np.bool_)
    nan = elementwise(t, "logical_and", [nan, number], np.bool_)
    return elementwise(t, "logical_or", [found, nan], np.bool_)


@rule("argsort")
def _argsort(t: Tracer, values: list[Value], params: dict[str, Any]) -> Value:
    need_rows_first("argsort", *values)
    (axis,) = row_axes("argsort", params["axis"])
    (x,) = values
    n, axes, down = x.shape[axis], len(x.shape) + 1, params["descending"]
    _refuse_many("argsort", n * n)
    own = shaped(t, x, _pairs(x.shape, axis, n, 1))
    other = shaped(t, x, _pairs(x.shape, axis, 1, n))
    # Equal elements keep their order: one of those before goes first unless this one has to.
    earlier = np.tri(n, k=-1, dtype=bool).reshape(n, n, *[1] * (axes - axis - 2))
    after = _comes_before(t, own, other, down)
    goes_first = elementwise(t, "where", [
        t.constant(earlier, np.bool_),
        elementwise(t, "logical_not", [after], np.bool_),
        _comes_before(t, other, own, down),
    ])
    place = reduced(t, "reduce_sum", goes_first, (axis + 1,), True, np.dtype(np.int64))
    at = elementwise(t, "equal", [place, _counts(t, axes, axis + 1, n)], np.bool_)
    order = _picked(t, at, _counts(t, axes, axis, n), axis)
    return _known(t, order, n)


def _picked(t: Tracer, which: Value, x: Value, axis: int) -> Value:
    """The elements of x that are chosen, one along an axis at most."""
    chosen = elementwise(t, "where", [which, x, t.constant(0, x.dtype)])
    return reduced(t, "reduce_sum", chosen, (axis,), False, x.dtype)


def _places(t: Tracer, index: Value, axis: int, n: int) -> Value:
    """Which of n elements each index names: (..., m, n, ...)."""
    m = index.shape[axis]
    _refuse_many("gather", n * m)
    if not _is_within(t, index, n):
        raise TraceError(
            f"{where()}: gather by indices that are computed cannot be part of a program, unless "
            "argsort, argmax, argmin, sort or topk gave them"
        )
    own = shaped(t, index, _pairs(index.shape, axis, m, 1))
    counts = t.constant(np.arange(n).reshape(n, *[1] * (len(index.shape) - axis - 1)), index.dtype)
    return elementwise(t, "equal", [own, counts], np.bool_)


@rule("gather")
def _gather(t: Tracer, values: list[Value], params: dict[str, Any]) -> Any:
    x, index = values
    need_rows_first("gather", *values)
    (axis,) = row_axes("gather", params["axis"])
    if not index.rows:
        return RULES["getitem"](t, [x], {"key": _constant_key(t, index, axis)})
    x = with_rows(t, "gather", x, x.shape if x.rows else x.shape[1:])
    n = x.shape[axis]
    sizes = [n if i == axis else size for i, size in enumerate(index.shape)]
    x = cut(t, x, [0] * len(sizes), [1] * len(sizes), sizes)
    if x.dtype == np.bool_:
        x = t.emit("copy", [x], x.shape, dtype=np.int64)
    x = shaped(t, x, _pairs(x.shape, axis, 1, n))
    found = _picked(t, _places(t, index, axis, n), x, axis + 1)
    if values[0].dtype == np.bool_:
        found = elementwise(t, "not_equal", [found, t.constant(0, found.dtype)], np.bool_)
    return found


def _constant_key(t: Tracer, index: Value, axis: int) -> Any:
    """The key of elements that numbers name along an axis, which are the same in every row."""
    tensor = t.tensor_of.get(index)
    if tensor is None:
        raise TraceError(f"{where()}: gather by indices that are computed from parameters")
    key: list[Any] = list(np.ogrid[tuple([slice(n) for n in index.shape])])
    key[axis + 1] = tensor._data
    return of_any_rows(tuple(key), t.rows)


@rule("scatter")
def _scatter(t: Tracer, values: list[Value], params: dict[str, Any]) -> Any:
    x, index = values
    need_rows_first("scatter", *values)
    (axis,) = row_axes("scatter", params["axis"])
    if not index.rows:
        keys = (_constant_key(t, index, axis),)
        return RULES["put"](t, [x], {"keys": keys, "shape": params["shape"]})
    shape = tuple(params["shape"])[1:]
    x = with_rows(t, "scatter", x, index.shape)
    own = shaped(t, x, _pairs(x.shape, axis, x.shape[axis], 1))
    part = _picked(t, _places(t, index, axis, shape[axis]), own, axis)
    if part.shape == shape:
        return part
    at = ((0,) * len(shape), (1,) * len(shape))
    return t.emit("put", [part], shape, places=(at,), whole=False)


@rule("one_hot")
def _one_hot(t: Tracer, values: list[Value], params: dict[str, Any]) -> Value:
    need_rows_first("one_hot", *values)
    (ids,) = values
    n, dtype = params["num_classes"], np.dtype(params["dtype"])
    if not _is_within(t, ids, n) or dtype not in (t.dtype, np.bool_):
        raise TraceError(
            f"{where()}: one_hot of ids that are computed, unless argsort, argmax or argmin gave "
            f"them, or one of {dtype} in a program of {t.dtype}"
        )
    own = shaped(t, ids, (*ids.shape, 1))
    found = elementwise(t, "equal", [own, t.constant(np.arange(n), ids.dtype)], np.bool_)
    return found if dtype == np.bool_ else t.emit("copy", [found], found.shape, dtype=t.dtype)
