"""What each primitive of the engine is on rows: the only place that knows both.

A rule is called as ``rule(tracer, values, params)``, with at least one value that has rows, and
gives a value or, where the primitive has several outputs, a tuple of them.
"""

from __future__ import annotations

import math
from functools import reduce
from typing import TYPE_CHECKING, Any

import numpy as np

from rnnkit.errors import TraceError
from rnnkit.recurrent.program.picks import Picked, counted, picked, rounds
from rnnkit.recurrent.program.trace import mixes, moves, where
from rnnkit.recurrent.program.values import ROWS_FIRST, ROWS_LAST

if TYPE_CHECKING:
    from collections.abc import Sequence

    from rnnkit.autograd.tensor import Array
    from rnnkit.recurrent.program.trace import Rule, Tracer
    from rnnkit.recurrent.program.values import Shape, Value

RULES: dict[str, Rule] = {}


def rule(*names: str) -> Any:
    """Enters a function as the rule of these primitives."""

    def enter(function: Any) -> Any:
        for name in names:
            RULES[name] = function
        return function

    return enter


def need_rows_first(name: str, *values: Value) -> None:
    for value in values:
        if value.rows == ROWS_LAST:
            raise mixes(name)


# ---- elementwise


def aligned(t: Tracer, name: str, values: list[Value]) -> list[Value]:
    """Values that broadcast against each other as rows."""
    need_rows_first(name, *values)
    ndim = {len(v.shape) for v in values if v.rows}
    if len(ndim) > 1:
        axes_of = sorted(n + 1 for n in ndim)
        raise TraceError(f"{where()}: {name} broadcasts tensors of {axes_of} axes")
    (axes,) = ndim
    return [v if v.rows else without_batch(t, name, v, axes) for v in values]


def without_batch(t: Tracer, name: str, value: Value, axes: int) -> Value:
    """An operand without rows that stands beside rows of so many axes."""
    if len(value.shape) <= axes:
        return value
    if len(value.shape) > axes + 1:
        raise TraceError(f"{where()}: {name} broadcasts rows against an axis before the batch")
    if value.shape[0] == 1:
        return _reshaped(t, value, value.shape[1:])
    # Made for the batch, such as zeros((N, H)): fine where all of its rows are the same.
    tensor = t.tensor_of.get(value)
    if tensor is not None and value.shape[0] == t.rows and not tensor._requires_grad:
        array = tensor._data
        if id(tensor) not in t.calls and (array == array[:1]).all():
            return t.constant(array[0], array.dtype)
    raise TraceError(f"{where()}: {name} takes a tensor {value.shape} that is not from the batch")


def _reshaped(t: Tracer, value: Value, shape: Shape) -> Value:
    """A value without rows in another shape."""
    from rnnkit.autograd.primitive import PRIMITIVES

    out = t._without_rows(PRIMITIVES["reshape"], [value], {"shape": shape})
    assert not isinstance(out, tuple)
    return out


def elementwise(t: Tracer, name: str, values: list[Value], dtype: Any = None) -> Value:
    values = aligned(t, name, values)
    try:
        shape = np.broadcast_shapes(*[v.shape for v in values])
    except ValueError as error:
        raise TraceError(f"{where()}: {name}: {error}") from None
    if dtype is None:
        name, dtype = _arithmetic(t, name, values)
    return t.emit(name, values, shape, dtype=dtype)


def _arithmetic(t: Tracer, name: str, values: list[Value]) -> tuple[str, Any]:
    """What an operation on numbers is for operands of these dtypes, and the dtype it gives."""
    dtypes = [v.dtype for v in (values[1:] if name == "where" else values)]
    if all(dtype == t.dtype for dtype in dtypes):
        return name, t.dtype
    if all(dtype == np.bool_ for dtype in dtypes) and name in _OF_TRUTH:
        return _OF_TRUTH[name], np.bool_
    if all(dtype.kind in "biu" for dtype in dtypes) and name in _OF_INTEGERS:
        result = np.result_type(*dtypes)
        if result.kind != "b":
            return name, result
    got = ", ".join(dict.fromkeys(dtype.name for dtype in dtypes))
    raise TraceError(f"{where()}: {name} of {got} in a program of {t.dtype}")


_OF_TRUTH = {
    "add": "logical_or", "mul": "logical_and", "maximum": "logical_or", "minimum": "logical_and",
    "where": "where",
}
_OF_INTEGERS = {"add", "sub", "mul", "neg", "abs", "square", "maximum", "minimum", "where"}


def _enter_elementwise(names: str, dtype: Any = None) -> None:
    def make(name: str) -> Rule:
        return lambda t, values, params: elementwise(t, name, values, dtype)

    for name in names.split():
        RULES[name] = make(name)


_enter_elementwise(
    "add sub mul div neg square power sqrt exp expm1 log log1p sin cos tanh sigmoid relu softplus "
    "abs sign floor maximum minimum where"
)
_enter_elementwise(
    "equal not_equal less less_equal greater greater_equal logical_and logical_or logical_xor "
    "logical_not isnan isfinite",
    np.bool_,
)


@rule("clip")
def _clip(t: Tracer, values: list[Value], params: dict[str, Any]) -> Value:
    bounds = [t.constant(params["low"]), t.constant(params["high"])]
    return elementwise(t, "clip", [*values, *bounds])


@rule("clone")
def _clone(t: Tracer, values: list[Value], params: dict[str, Any]) -> Value:
    return values[0]


@rule("astype")
def _astype(t: Tracer, values: list[Value], params: dict[str, Any]) -> Value:
    (x,) = values
    need_rows_first("astype", x)
    if x.dtype.kind not in "biu" or params["dtype"] != t.dtype:
        raise TraceError(f"{where()}: astype from {x.dtype} to {params['dtype']} in a program")
    # Truth is 1 and 0 already, and an integer a number of the program's dtype.
    return t.emit("copy", [x], x.shape, dtype=t.dtype)


# ---- views


def _row_shape(t: Tracer, name: str, shape: Shape, size: int) -> Shape:
    """The shape of a row, of a shape whose first axis is the batch; one size may be -1."""
    if not shape or shape[0] not in (t.rows, -1):
        raise moves(name) if t.rows in shape else mixes(name)
    row = list(shape[1:])
    if -1 in row:
        rest = -math.prod(row)
        row[row.index(-1)] = size // rest if rest else 0
    if math.prod(row) != size:
        raise mixes(name)
    return tuple(row)


@rule("reshape")
def _reshape(t: Tracer, values: list[Value], params: dict[str, Any]) -> Value:
    (x,) = values
    need_rows_first("reshape", x)
    shape = _row_shape(t, "reshape", tuple(params["shape"]), x.size)
    return shaped(t, x, shape)


@rule("permute")
def _permute(t: Tracer, values: list[Value], params: dict[str, Any]) -> Value:
    (x,) = values
    axes = params["axes"]
    if axes == (1, 0) and len(x.shape) == 1:
        rows = ROWS_LAST if x.rows == ROWS_FIRST else ROWS_FIRST
        if x.rows == ROWS_LAST:
            assert x.of is not None
            return x.of.inputs[0]
        return t.emit("turn", [x], x.shape, rows=rows)
    need_rows_first("permute", x)
    if axes[0] != 0:
        raise moves("permute")
    order = tuple([axis - 1 for axis in axes[1:]])
    return t.emit("permute", [x], tuple([x.shape[i] for i in order]), axes=order)


@rule("flip")
def _flip(t: Tracer, values: list[Value], params: dict[str, Any]) -> Value:
    (x,) = values
    need_rows_first("flip", x)
    if 0 in params["axes"]:
        raise mixes("flip")
    return t.emit("flip", [x], x.shape, axes=tuple([axis - 1 for axis in params["axes"]]))


@rule("broadcast_to")
def _broadcast_to(t: Tracer, values: list[Value], params: dict[str, Any]) -> Value:
    (x,) = values
    need_rows_first("broadcast_to", x)
    shape = tuple(params["shape"])
    if not x.rows:  # for the batch: an invariant as rows
        x = without_batch(t, "broadcast_to", x, len(shape) - 1)
        x = t.emit("copy", [x], x.shape)
        lead = (1,) * (len(shape) - 1 - len(x.shape))
        x = shaped(t, x, (*lead, *x.shape))
    if len(shape) != len(x.shape) + 1 or shape[0] != t.rows:
        raise mixes("broadcast_to")
    return x if x.shape == shape[1:] else t.emit("broadcast", [x], shape[1:], shape=shape[1:])


def cut(
    t: Tracer, x: Value, starts: Sequence[int], steps: Sequence[int], sizes: Sequence[int]
) -> Value:
    if tuple(sizes) == x.shape and not any(starts) and all(step == 1 for step in steps):
        return x
    return t.emit("slice", [x], tuple(sizes), starts=tuple(starts), steps=tuple(steps))


@rule("split")
def _split(t: Tracer, values: list[Value], params: dict[str, Any]) -> tuple[Value, ...]:
    (x,) = values
    need_rows_first("split", x)
    axis = params["axis"] - 1
    if axis < 0:
        raise mixes("split")
    parts, start = [], 0
    for size in params["sections"]:
        starts = [0] * len(x.shape)
        sizes = list(x.shape)
        starts[axis], sizes[axis] = start, size
        parts.append(cut(t, x, starts, [1] * len(x.shape), sizes))
        start += size
    return tuple(parts)


@rule("unbind")
def _unbind(t: Tracer, values: list[Value], params: dict[str, Any]) -> tuple[Value, ...]:
    (x,) = values
    axis = params["axis"] - 1
    sections = (1,) * x.shape[axis]
    parts = _split(t, values, {"sections": sections, "axis": axis + 1})
    shape = x.shape[:axis] + x.shape[axis + 1 :]
    return tuple([t.emit("reshape", [part], shape, shape=shape) for part in parts])


def shaped(t: Tracer, x: Value, shape: Shape) -> Value:
    return x if x.shape == shape else t.emit("reshape", [x], shape, shape=shape)


def _take(t: Tracer, x: Value, axis: int, index: Array) -> Value:
    """Elements ``index`` of x along an axis; zero for -1."""
    shape = (*x.shape[:axis], len(index), *x.shape[axis + 1 :])
    return t.emit("take", [x], shape, axis=axis, index=index)


@rule("getitem")
def _getitem(t: Tracer, values: list[Value], params: dict[str, Any]) -> Value:
    (x,) = values
    need_rows_first("getitem", x)
    place = picked("getitem", params["key"], x.shape, t.rows)
    part = cut(t, x, place.starts, place.steps, place.sizes)
    if place.taken is not None:
        axis, index = place.taken
        if axis is None:
            part, axis = shaped(t, part, (part.size,)), 0
        part = _take(t, part, axis, index)
    return shaped(t, part, place.shape)


@rule("put")
def _put(t: Tracer, values: list[Value], params: dict[str, Any]) -> Value:
    need_rows_first("put", *values)
    shape = tuple(params["shape"])[1:]
    parts: list[Value] = []
    places: list[Picked] = []
    for value, key in zip(values, params["keys"], strict=True):
        if not value.rows:
            raise mixes("put")
        if not value.size:
            continue
        place = picked("put", key, shape, t.rows)
        if place.taken is None:
            part = shaped(t, value, place.sizes)
        else:
            axis, index = place.taken
            whole, at = (shape, axis) if axis is not None else ((math.prod(shape),), 0)
            sizes = list(place.sizes) if axis is not None else list(whole)
            sizes[at] = len(index)
            part = _given_back(t, shaped(t, value, tuple(sizes)), at, index, whole[at])
            part = part if axis is not None else shaped(t, part, shape)
        parts.append(part)
        places.append(place)
    if not parts:
        return with_rows(t, "put", t.constant(np.zeros(shape)), shape)
    times = counted(places, shape)
    if (times <= 1).all():
        return _joined(t, parts, places, shape, bool(times.all()))
    each = [
        _joined(t, [part], [place], shape, place.sizes == shape)
        for part, place in zip(parts, places, strict=True)
    ]
    return reduce(lambda total, one: elementwise(t, "add", [total, one]), each)


def _given_back(t: Tracer, part: Value, axis: int, index: Array, n: int) -> Value:
    """The gradient of what ``_take`` took from, n elements along the axis."""
    given = [_take(t, part, axis, each) for each in rounds(index, n)]
    return reduce(lambda total, one: elementwise(t, "add", [total, one]), given)


def _joined(
    t: Tracer, parts: list[Value], places: list[Picked], shape: Shape, whole: bool
) -> Value:
    """Parts that do not overlap in their places and, unless they are the ``whole``, zeros."""
    cuts = [i for i, n in enumerate(shape) if any(place.sizes[i] != n for place in places)]
    forward = all(step == 1 for place in places for step in place.steps)
    if whole and forward and len(cuts) <= 1:
        if not cuts:
            return parts[0]
        order = sorted(range(len(parts)), key=lambda i: places[i].starts[cuts[0]])
        return t.emit("cat", [parts[i] for i in order], shape, axis=cuts[0])
    at = tuple([(place.starts, place.steps) for place in places])
    return t.emit("put", parts, shape, places=at, whole=whole)


def with_rows(t: Tracer, name: str, value: Value, shape: Shape) -> Value:
    """A part of what is joined, as rows."""
    if value.rows:
        return value
    value = without_batch(t, name, value, len(shape))
    return t.emit("copy", [value], shape)


@rule("cat")
def _cat(t: Tracer, values: list[Value], params: dict[str, Any]) -> Value:
    need_rows_first("cat", *values)
    axis = params["axis"] - 1
    if axis < 0:
        raise mixes("cat")
    parts = [
        with_rows(t, "cat", v, v.shape[1:] if v.shape[:1] == (t.rows,) else v.shape)
        for v in values
    ]
    parts = [p for p in parts if p.size] or parts[:1]
    if len(parts) == 1:
        return parts[0]
    shape = list(parts[0].shape)
    shape[axis] = sum(p.shape[axis] for p in parts)
    return t.emit("cat", parts, tuple(shape), axis=axis)


@rule("stack")
def _stack(t: Tracer, values: list[Value], params: dict[str, Any]) -> Value:
    axis = params["axis"] - 1
    need_rows_first("stack", *values)
    if axis < 0:
        raise moves("stack")
    parts = []
    for value in values:
        row = value.shape if value.rows or value.shape[:1] != (t.rows,) else value.shape[1:]
        value = with_rows(t, "stack", value, row)
        shape = (*row[:axis], 1, *row[axis:])
        parts.append(t.emit("reshape", [value], shape, shape=shape))
    return _cat(t, parts, {"axis": axis + 1})


# ---- reductions


def reduced(
    t: Tracer, name: str, x: Value, axes: Shape, keepdims: bool, dtype: Any = None
) -> Value:
    """``name`` over axes of a row."""
    kept = tuple([1 if i in axes else n for i, n in enumerate(x.shape)])
    out = t.emit(name, [x], kept, dtype=dtype, axes=tuple(sorted(axes)))
    return out if keepdims else _without_axes(t, out, axes)


def _without_axes(t: Tracer, x: Value, axes: Shape) -> Value:
    """A value without those of its axes, which have size 1."""
    shape = tuple([n for i, n in enumerate(x.shape) if i not in axes])
    return t.emit("reshape", [x], shape, shape=shape)


def row_axes(name: str, axes: Any) -> Shape:
    axes = (axes,) if isinstance(axes, int) else tuple(axes)
    if 0 in axes:
        raise mixes(name)
    return tuple([axis - 1 for axis in axes])


@rule("sum")
def _sum(t: Tracer, values: list[Value], params: dict[str, Any]) -> Value:
    (x,) = values
    need_rows_first("sum", x)
    dtype = np.dtype(np.int64) if x.dtype == np.bool_ else None  # of truths: how many there are
    return reduced(t, "reduce_sum", x, row_axes("sum", params["axis"]), params["keepdims"], dtype)


@rule("any")
def _any(t: Tracer, values: list[Value], params: dict[str, Any]) -> Value:
    need_rows_first("any", *values)
    x = values[0]
    found = elementwise(t, "not_equal", [x, t.constant(0, x.dtype)], np.bool_)
    return elementwise(t, "not_equal", _counted(t, "any", found, params), np.bool_)


@rule("all")
def _all(t: Tracer, values: list[Value], params: dict[str, Any]) -> Value:
    need_rows_first("all", *values)
    missing = elementwise(t, "logical_not", values, np.bool_)
    return elementwise(t, "equal", _counted(t, "all", missing, params), np.bool_)


def _counted(t: Tracer, name: str, truth: Value, params: dict[str, Any]) -> list[Value]:
    """How many there are, and none."""
    axes = row_axes(name, params["axis"])
    total = reduced(t, "reduce_sum", truth, axes, params["keepdims"], np.dtype(np.int64))
    return [total, t.constant(0, np.int64)]


def _extreme(name: str) -> Rule:
    def rule(t: Tracer, values: list[Value], params: dict[str, Any]) -> Value:
        need_rows_first(name, *values)
        axes = row_axes(name, params["axis"])
        return reduced(t, f"reduce_{name}", values[0], axes, params["keepdims"])

    return rule


RULES["max"], RULES["min"] = _extreme("max"), _extreme("min")


@rule("norm")
def _norm(t: Tracer, values: list[Value], params: dict[str, Any]) -> Value:
    (x,) = values
    need_rows_first("norm", x)
    axes, one = row_axes("norm", params["axis"]), t.constant(1)
    # Shares of the largest element, of which no square overflows, and not all vanish.
    largest = reduced(t, "reduce_max", elementwise(t, "abs", [x]), axes, True)
    some = elementwise(t, "greater", [largest, t.constant(0)], np.bool_)
    finite = elementwise(t, "isfinite", [largest], np.bool_)
    ordinary = elementwise(t, "logical_and", [some, finite], np.bool_)
    unit = elementwise(t, "where", [ordinary, largest, one])
    share = elementwise(t, "div", [x, unit])
    total = reduced(t, "reduce_sum", elementwise(t, "square", [share]), axes, True)
    length = elementwise(t, "mul", [elementwise(t, "sqrt", [total]), unit])
    return length if params["keepdims"] else _without_axes(t, length, axes)


def mean_of(t: Tracer, x: Value, axes: Shape, keepdims: bool) -> Value:
    count = math.prod([x.shape[axis] for axis in axes])
    total = reduced(t, "reduce_sum", x, axes, keepdims)
    return elementwise(t, "div", [total, t.constant(count)])


@rule("mean")
def _mean(t: Tracer, values: list[Value], params: dict[str, Any]) -> Value:
    (x,) = values
    need_rows_first("mean", x)
    return mean_of(t, x, row_axes("mean", params["axis"]), params["keepdims"])


@rule("sum_to")
def _sum_to(t: Tracer, values: list[Value], params: dict[str, Any]) -> Value:
    (x,) = values
    need_rows_first("sum_to", x)
    shape = tuple(params["shape"])
    row = shape
    of_rows = len(shape) == len(x.shape) + 1 and shape[0] == t.rows
    if of_rows or (len(shape) == len(x.shape) + 1 and shape[0] == 1):
        row = shape[1:]
    elif len(shape) > len(x.shape):
        raise mixes("sum_to")
    lead = len(x.shape) - len(row)
    axes = tuple([
        i for i, n in enumerate(x.shape) if i < lead or (row[i - lead] == 1 and n != 1)
    ])
    if axes:
        x = reduced(t, "reduce_sum", x, axes, True)
    x = shaped(t, x, row)
    if of_rows:
        return x
    if not t.backward:
        raise mixes("sum_to")
    total = t.emit("sum_rows", [x], x.shape, rows=None)
    return total if shape == row else _reshaped(t, total, shape)


def softmax_parts(t: Tracer, x: Value, axis: int) -> tuple[Value, Value, Value]:
    """x minus its maximum, the exponential of that, and its sum."""
    top = reduced(t, "reduce_max", x, (axis,), True)
    shifted = elementwise(t, "sub", [x, top])
    y = elementwise(t, "exp", [shifted])
    return shifted, y, reduced(t, "reduce_sum", y, (axis,), True)


@rule("softmax")
def _softmax(t: Tracer, values: list[Value], params: dict[str, Any]) -> Value:
    (axis,) = row_axes("softmax", params["axis"])
    _, y, total = softmax_parts(t, values[0], axis)
    return elementwise(t, "div", [y, total])


@rule("log_softmax")
def _log_softmax(t: Tracer, values: list[Value], params: dict[str, Any]) -> Value:
    (axis,) = row_axes("log_softmax", params["axis"])
    shifted, _, total = softmax_parts(t, values[0], axis)
    return elementwise(t, "sub", [shifted, elementwise(t, "log", [total])])


@rule("logsumexp")
def _logsumexp(t: Tracer, values: list[Value], params: dict[str, Any]) -> Value:
    (x,) = values
    axes = row_axes("logsumexp", params["axis"])
    top = reduced(t, "reduce_max", x, axes, True)
    finite = elementwise(t, "isfinite", [top], np.bool_)
    shift = elementwise(t, "where", [finite, top, t.constant(0)])
    y = elementwise(t, "exp", [elementwise(t, "sub", [x, shift])])
    total = reduced(t, "reduce_sum", y, axes, True)
    out = elementwise(t, "add", [elementwise(t, "log", [total]), shift])
    return out if params["keepdims"] else _without_axes(t, out, axes)


@rule("layer_norm")
def _layer_norm(t: Tracer, values: list[Value], params: dict[str, Any]) -> tuple[Value, ...]:
    x = values[0]
    need_rows_first("layer_norm", *values)
    n_axes = params["n_axes"]
    if n_axes > len(x.shape):
        raise mixes("layer_norm")
    axes = tuple(range(len(x.shape) - n_axes, len(x.shape)))
    center = mean_of(t, x, axes, True)
    y = elementwise(t, "sub", [x, center])
    variance = mean_of(t, elementwise(t, "mul", [y, y]), axes, True)
    spread = elementwise(t, "add", [variance, t.constant(params["eps"])])
    scale = elementwise(t, "div", [t.constant(1), elementwise(t, "sqrt", [spread])])
    y = elementwise(t, "mul", [y, scale])
    for name, value in zip(("mul", "add"), values[1:], strict=False):
        y = elementwise(t, name, [y, value])
    return y, center, scale


# ---- products


def product(t: Tracer, x: Value, weight: Value, transposed: bool) -> Value:
    """A row times a matrix, (K, M) or, transposed, (M, K)."""
    size = weight.shape[0 if transposed else 1]
    return t.emit("product", [x, weight], (size,), transposed=transposed)


@rule("linear")
def _linear(t: Tracer, values: list[Value], params: dict[str, Any]) -> Value:
    x, weight = values[:2]
    need_rows_first("linear", x)
    if any(value.rows for value in values[1:]):
        raise mixes("linear")
    if len(x.shape) != 1:
        raise TraceError(f"{where()}: linear of a row of {len(x.shape)} axes in a program")
    y = product(t, x, weight, True)
    return elementwise(t, "add", [y, values[2]]) if len(values) > 2 else y


@rule("matmul")
def _matmul(t: Tracer, values: list[Value], params: dict[str, Any]) -> Value:
    a, b = values
    if a.rows == ROWS_LAST and b.rows == ROWS_FIRST and len(b.shape) == 1:
        if not t.backward:
            raise mixes("matmul")
        assert a.of is not None
        return t.emit("outer", [a.of.inputs[0], b], (a.shape[0], b.shape[0]), rows=None)
    if b.rows == ROWS_LAST and not a.rows and len(a.shape) == 2:
        assert b.of is not None
        y = product(t, b.of.inputs[0], a, True)
        return t.emit("turn", [y], y.shape, rows=ROWS_LAST)
    need_rows_first("matmul", a, b)
    if a.rows and not b.rows and len(a.shape) == 1 and len(b.shape) == 2:
        return product(t, a, b, False)
    if a.rows and b.rows and len(a.shape) == len(b.shape) == 2:
        return t.emit("row_product", [a, b], (a.shape[0], b.shape[1]))
    raise TraceError(f"{where()}: matmul of {a.shape} and {b.shape} (axes of a row) in a program")
