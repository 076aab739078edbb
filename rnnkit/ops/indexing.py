"""Ops that pick elements: slices, fancy indexing, rows of a table."""

from __future__ import annotations

import operator
from types import EllipsisType
from typing import TYPE_CHECKING, Any, NamedTuple

import numpy as np

from rnnkit.autograd.dtypes import supported_dtype
from rnnkit.autograd.node import PartialGradient
from rnnkit.autograd.primitive import Primitive, primitive
from rnnkit.autograd.tensor import Tensor, plain_array, wrap
from rnnkit.checks import check_bool, check_fits, check_integer
from rnnkit.errors import ArgumentError, ShapeError
from rnnkit.ops.elementwise import where
from rnnkit.ops.operands import any_tensor, one_axis, real
from rnnkit.ops.operands import ids as integer_array
from rnnkit.ops.shape import clone

if TYPE_CHECKING:
    from collections.abc import Callable

    import numpy.typing as npt

    from rnnkit.autograd.tensor import Array

_BLOCK = 1 << 18
_FIXED = (int, type(None))
_BASIC = (int, slice, EllipsisType, type(None), np.integer)


def _is_basic(key: Any) -> bool:
    """Whether NumPy answers `key` with a view, in which no element can appear twice."""
    items = key if isinstance(key, tuple) else (key,)
    return all(isinstance(item, _BASIC) and not isinstance(item, bool) for item in items)


def _plain_key(key: Any) -> Any:
    """A key free of Tensors and lists, and of arrays that the caller may change later."""
    if isinstance(key, tuple):
        return tuple([_plain_key(item) for item in key])
    if isinstance(key, slice):
        start, stop, step = key.start, key.stop, key.step
        if type(start) in _FIXED and type(stop) in _FIXED and type(step) in _FIXED:
            return key
        # What cannot be an index is left for NumPy to refuse.
        bounds = [operator.index(b) if hasattr(b, "__index__") else b for b in (start, stop, step)]
        return slice(*bounds)
    if isinstance(key, Tensor):
        return key._data.copy()
    if isinstance(key, list | range):
        array = plain_array("key", [_plain_key(item) for item in key])
        return array if array.size else array.astype(np.intp)
    return key.copy() if isinstance(key, np.ndarray) else key


# ---- rows of a table, which kernels may pick and add

_take_kernel: Callable[[Array, Array], Array | None] | None = None
_add_kernel: Callable[[Array, Array, Array], bool] | None = None


def set_row_kernels(
    take: Callable[[Array, Array], Array | None] | None,
    add: Callable[[Array, Array, Array], bool] | None,
) -> tuple[Any, Any]:
    """Have rows picked and added by these kernels (None: by NumPy); returns the former two.

    ``take(table, ids)`` gets a table (V, E) and integers (...), and returns a new array
    ``table[ids]`` or None. ``add(table, ids, rows)`` gets integers (n,) and rows (n, E), adds rows
    to those of the table one after the other, and returns True; or it changes nothing and returns
    False. None and False leave the call to NumPy, as they must where an id is out of range or
    negative. The dtype is any, and memory may be strided.
    """
    global _take_kernel, _add_kernel
    former = _take_kernel, _add_kernel
    _take_kernel, _add_kernel = take, add
    return former


def _pick(x: Array, key: Any) -> Array:
    if (
        _take_kernel is not None
        and type(key) is np.ndarray
        and x.ndim == 2
        and key.dtype.kind in "iu"
    ):
        rows = _take_kernel(x, key)
        if rows is not None:
            return rows
    return x[key]


def _add_rows(table: Array, rows: Array, values: Array) -> None:
    """``table[rows] += values`` for a 2-d table, counting repeated rows as often as they occur.

    Each row's values are added in the order in which they come, so that the result is always the
    same. NumPy's ufunc.at is fast only where both operands are flat, hence the flat positions,
    made for a block of rows at a time.
    """
    if _add_kernel is not None and _add_kernel(table, rows, values):
        return
    width = table.shape[1]
    flat = table.reshape(-1)
    columns = np.arange(width)
    block = max(1, _BLOCK // width)
    for start in range(0, len(rows), block):
        part = slice(start, start + block)
        positions = rows[part, None] * width + columns
        np.add.at(flat, positions.reshape(-1), values[part].reshape(-1))


def _leading_rows(key: Any, shape: tuple[int, ...]) -> Array | None:
    """For a key of integer arrays on the first axes, the rows it names; else None.

    Rows counted from the end stay negative: so are their flat positions, which come out right.
    """
    items = key if isinstance(key, tuple) else (key,)
    if not all(isinstance(i, np.ndarray) and i.dtype.kind in "iu" for i in items):
        return None
    if len(items) == 1:
        return items[0].reshape(-1).astype(np.intp)
    lead = shape[: len(items)]
    return np.ravel_multi_index(np.broadcast_arrays(*items), lead, mode="wrap").reshape(-1)


def _add_at(total: Array, key: Any, values: Array) -> None:
    """``total[key] += values``, where elements that `key` names twice are added twice."""
    if _is_basic(key):
        total[key] += values
        return
    rows = _leading_rows(key, total.shape)
    if rows is None:
        rows = np.arange(total.size).reshape(total.shape)[key].reshape(-1)
        width = 1
    else:
        n_axes = len(key) if isinstance(key, tuple) else 1
        width = int(np.prod(total.shape[n_axes:], dtype=np.intp))
    if width and rows.size:
        _add_rows(total.reshape(-1, width), rows, values.reshape(-1, width))


def _put_array(*parts: Array, keys: tuple[Any, ...], shape: tuple[int, ...]) -> Array:
    total = np.zeros(shape, parts[0].dtype)
    for part, key in zip(parts, keys, strict=True):
        _add_at(total, key, part)
    return total


_put = primitive("put", _put_array)
_put.defvjp_joint(
    lambda needs, d_y, _, *parts, keys, shape: [
        _getitem(d_y, key=key) if need else None for need, key in zip(needs, keys, strict=True)
    ]
)


class _Part(PartialGradient):
    """The gradient of the elements that one key picked."""

    __slots__ = ("d_y", "key", "shape")

    def __init__(self, d_y: Tensor, key: Any, shape: tuple[int, ...]) -> None:
        self.d_y = d_y
        self.key = key
        self.shape = shape

    def combine(self, parts: list[_Part]) -> Tensor:
        keys = tuple([part.key for part in parts])
        return _put(*[part.d_y for part in parts], keys=keys, shape=self.shape)


# ---- picking

_getitem: Primitive = primitive("getitem", _pick)
_getitem.defvjp(lambda d_y, _, x, key: _Part(d_y, key, x._data.shape))


def getitem(x: Tensor, key: Any) -> Tensor:
    """``x[key]`` as in NumPy: integers, slices, None, ``...``, integer and bool arrays or Tensors.

    Slices and integers give views, arrays give copies. Elements picked twice get both gradients.

    Raises:
        IndexError: the key does not fit the shape.
    """
    return _getitem(x, key=key if isinstance(key, int) else _plain_key(key))


def _key_along(index: Array, axis: int) -> tuple[Any, ...]:
    """The key of the elements that indices name along an axis, in their place on the others."""
    grid: list[Any] = list(np.ogrid[tuple([slice(n) for n in index.shape])])
    grid[axis] = index
    return tuple(grid)


def _gather_array(x: Array, index: Array, axis: int) -> Array:
    length = x.shape[axis]
    if index.size and (index.min() < 0 or index.max() >= length):
        wrong = index[(index < 0) | (index >= length)].flat[0]
        raise IndexError(f"gather: index: expected values in [0, {length}), got {wrong}")
    return x[_key_along(index, axis)]


_gather: Primitive = primitive("gather", _gather_array)
_scatter: Primitive = primitive(
    "scatter",
    lambda x, index, axis, shape: _put_array(x, keys=(_key_along(index, axis),), shape=shape),
)
_gather.defvjp(
    lambda d_y, _, x, index, axis: _scatter(d_y, index, axis=axis, shape=x._data.shape), None
)
_scatter.defvjp(lambda d_y, _, x, index, axis, shape: _gather(d_y, index, axis=axis), None)


def gather(x: Tensor, axis: int, index: Tensor | npt.ArrayLike) -> Tensor:
    """``out[i][j] = x[index[i][j]][j]`` for axis 0, and so on for each axis (PyTorch's gather).

    Args:
        index: integers with as many axes as `x`; other axes may be shorter than those of `x`.

    Returns:
        a tensor of the shape of `index`.

    Raises:
        ShapeError: `index` has another number of axes, or is longer on another axis.
        IndexError: an index is out of range; none counts from the end.
    """
    x = any_tensor(x)
    axis = one_axis("gather", axis, x.ndim)
    picked = integer_array("gather", index)
    if picked.ndim != x.ndim:
        raise ShapeError(f"gather: index: expected {x.ndim} axes, got shape {picked.shape}")
    if any(
        i != axis and n > m for i, (n, m) in enumerate(zip(picked.shape, x.shape, strict=True))
    ):
        raise ShapeError(f"gather: index of shape {picked.shape} exceeds a tensor of {x.shape}")
    return _gather(x, index if isinstance(index, Tensor) else wrap(picked.copy()), axis=axis)


def _argsort_array(x: Array, axis: int, descending: bool) -> Array:
    if not descending:
        return np.argsort(x, axis, kind="stable")
    # From the back of what is sorted from the back: equal ones keep their order.
    backward = np.argsort(np.flip(x, axis), axis, kind="stable")
    return np.ascontiguousarray(x.shape[axis] - 1 - np.flip(backward, axis))


_argsort: Primitive = primitive("argsort", _argsort_array, differentiable=False)


def argsort(
    x: Tensor, axis: int = -1, descending: bool = False, stable: bool = True
) -> Tensor:
    """Where the elements of `sort` are: int64, of the shape of `x`."""
    x = any_tensor(x)
    descending = check_bool("argsort: descending", descending)
    return _argsort(x, axis=one_axis("argsort", axis, x.ndim), descending=descending)


class Sort(NamedTuple):
    """What `sort` returns."""

    values: Tensor
    indices: Tensor


def sort(x: Tensor, axis: int = -1, descending: bool = False, stable: bool = True) -> Sort:
    """The elements along `axis` in order, the smallest first, and where they were.

    NaN counts as larger than any number. The values are differentiable.

    Args:
        descending: the largest first.
        stable: equal elements keep their order, whatever this is.

    Returns:
        ``(values, indices)``, both of the shape of `x`.
    """
    x = any_tensor(x)
    axis = one_axis("sort", axis, x.ndim)
    indices = argsort(x, axis, descending)
    return Sort(gather(x, axis, indices), indices)


class TopK(NamedTuple):
    """What `topk` returns."""

    values: Tensor
    indices: Tensor


def topk(x: Tensor, k: int, axis: int = -1, largest: bool = True) -> TopK:
    """The `k` largest elements along `axis`, the largest first, and where they are.

    Of equal ones the first comes first; NaN counts as larger than any number. The values are
    differentiable.

    Args:
        k: from 0 to the length of the axis.
        largest: False for the smallest, the smallest first.

    Returns:
        ``(values, indices)``, both of the shape of `x` with k elements along `axis`.

    Raises:
        ArgumentError: there are not so many elements along `axis`.
    """
    x = any_tensor(x)
    axis = one_axis("topk", axis, x.ndim)
    length = x.shape[axis]
    k = check_integer("topk: k", k, 0, length)
    order = _argsort(x, axis=axis, descending=check_bool("topk: largest", largest))
    indices = clone(getitem(order, (*(slice(None),) * axis, slice(k))))  # the rest is not kept
    return TopK(gather(x, axis, indices), indices)


def masked_fill(x: Tensor, mask: Tensor | npt.ArrayLike, value: float | Tensor) -> Tensor:
    """`x` with `value` where `mask` holds; no gradient reaches what is replaced.

    Args:
        mask: bools that can be broadcast to the shape of `x`.
        value: a number, or a tensor without axes.

    Raises:
        DTypeError: `mask` is not of bools.
        ShapeError: `mask` does not fit `x`, or `value` has axes.
    """
    x = any_tensor(x)
    chosen = any_tensor(mask, "masked_fill: mask")
    if not isinstance(value, int | float) and any_tensor(value, "masked_fill: value").ndim:
        raise ShapeError("masked_fill: value: expected a number, got an array; see where()")
    y = where(chosen, value, x)
    if y.shape != x.shape:
        raise ShapeError(
            f"masked_fill: mask of shape {chosen.shape} cannot be broadcast to that of x, {x.shape}"
        )
    return y


def embedding(
    ids: Tensor | npt.ArrayLike, weight: Tensor, padding_idx: int | None = None
) -> Tensor:
    """Rows of a table: ``weight[ids]``.

    Args:
        ids: integers of any shape, each in [0, V).
        weight: (V, E).
        padding_idx: a row that never receives a gradient; negative counts from the end.

    Returns:
        (*ids.shape, E).

    Raises:
        ShapeError: `weight` is not 2-d.
        DTypeError: `ids` are not integers.
        ArgumentError: an id or `padding_idx` is out of range.
    """
    weight = real("embedding", weight)
    if weight.ndim != 2:
        raise ShapeError(f"embedding: weight: expected (V, E), got {weight.shape}")
    rows = integer_array("embedding", ids, "ids").copy()
    n_rows = weight.shape[0]
    if rows.size and (rows.min() < 0 or rows.max() >= n_rows):
        wrong = rows[(rows < 0) | (rows >= n_rows)].flat[0]
        raise ArgumentError(f"embedding: ids: expected values in [0, {n_rows}), got {wrong}")
    picked = _getitem(weight, key=rows)
    if padding_idx is None:
        return picked
    padding_idx = check_integer("embedding: padding_idx", padding_idx, -n_rows, n_rows - 1)
    padding = wrap((rows == padding_idx % n_rows)[..., None])
    return where(padding, picked.detach(), picked)


def _one_hot_array(ids: Array, num_classes: int, dtype: Any) -> Array:
    if ids.size and (ids.min() < 0 or ids.max() >= num_classes):
        raise ArgumentError(
            f"one_hot: ids: expected values in [0, {num_classes}), got {ids.min()} to {ids.max()}"
        )
    return (ids[..., None] == np.arange(num_classes)).astype(dtype)


_one_hot: Primitive = primitive("one_hot", _one_hot_array, differentiable=False)


def one_hot(
    ids: Tensor | npt.ArrayLike, num_classes: int, dtype: npt.DTypeLike = np.float32
) -> Tensor:
    """1 at each id and 0 elsewhere: (*ids.shape, num_classes).

    Raises:
        DTypeError: `ids` are not integers.
        ArgumentError: an id is outside [0, num_classes), or that is no integer from 0 on, or more
            than an array can have.
    """
    rows = integer_array("one_hot", ids, "ids")
    num_classes = check_integer("one_hot: num_classes", num_classes, 0)
    check_fits("one_hot: num_classes", num_classes, 8 * max(1, rows.size))
    ids = ids if isinstance(ids, Tensor) else wrap(rows)
    return _one_hot(ids, num_classes=num_classes, dtype=supported_dtype(dtype))
