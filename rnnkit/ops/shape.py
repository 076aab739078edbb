"""Ops that move elements without changing them."""

from __future__ import annotations

from math import prod
from typing import TYPE_CHECKING, Any

import numpy as np

from rnnkit.autograd.dtypes import supported_dtype
from rnnkit.autograd.primitive import Primitive, primitive
from rnnkit.autograd.tensor import Tensor, wrap
from rnnkit.checks import check_integer, check_list
from rnnkit.errors import ArgumentError, ShapeError
from rnnkit.ops.operands import any_tensor, many_axes, one_axis, same_dtype, sizes
from rnnkit.ops.sums import sum_array

if TYPE_CHECKING:
    from collections.abc import Sequence

    import numpy.typing as npt

    from rnnkit.autograd.tensor import Array, Axis

_clone = primitive("clone", lambda x: x.copy())
_clone.defvjp(lambda d_y, _, x: d_y)

_astype = primitive("astype", lambda x, dtype: x.astype(dtype))
_astype.defvjp(lambda d_y, _, x, dtype: _astype(d_y, dtype=x.dtype))


def clone(x: Tensor) -> Tensor:
    """A copy of `x` that is part of the graph."""
    return _clone(any_tensor(x))


def astype(x: Tensor, dtype: npt.DTypeLike) -> Tensor:
    """`x` converted to another dtype; `x` itself where it has that dtype already.

    Between float types the gradient is converted back. An integer result has no gradient.

    Raises:
        DTypeError: `dtype` is not supported.
    """
    x = any_tensor(x)
    wanted = supported_dtype(dtype)
    if x._data.dtype == wanted:
        return x
    if wanted.kind != "f":
        return wrap(x._data.astype(wanted))
    return _astype(x, dtype=wanted)


def _sum_to_array(x: Array, shape: tuple[int, ...]) -> Array:
    lead = x.ndim - len(shape)
    if lead and x.shape[lead:] == shape:  # a bias, most of the time
        return np.asarray(sum_array(x, tuple(range(lead))))
    axes = tuple(
        i for i, size in enumerate(x.shape) if i < lead or (shape[i - lead] == 1 and size != 1)
    )
    total = sum_array(x, axes) if axes else x
    return np.asarray(total).reshape(shape)


_broadcast_to = primitive("broadcast_to", np.broadcast_to)
_broadcast_to.defvjp(lambda d_y, _, x, shape: sum_to(d_y, x._data.shape))

_sum_to = primitive("sum_to", _sum_to_array)
_sum_to.defvjp(lambda d_y, _, x, shape: _broadcast_to(d_y, shape=x._data.shape))


def broadcast_to(x: Tensor, shape: Sequence[int]) -> Tensor:
    """`x` repeated along new leading axes and axes of size 1, without copying."""
    x = any_tensor(x)
    wanted = sizes("broadcast_to", (shape,))
    return x if x._data.shape == wanted else _broadcast_to(x, shape=wanted)


def expand(x: Tensor, *shape: int | Sequence[int]) -> Tensor:
    """Like `broadcast_to`; -1 keeps an axis as it is."""
    x = any_tensor(x)
    wanted = sizes("expand", shape)
    lead = len(wanted) - x.ndim
    if any(size == -1 and i < lead for i, size in enumerate(wanted)):
        raise ShapeError(f"expand: -1 for a new leading axis in {wanted}")
    return broadcast_to(
        x, [x.shape[i - lead] if size == -1 else size for i, size in enumerate(wanted)]
    )


def repeat(x: Tensor, *times: int | Sequence[int]) -> Tensor:
    """`x` laid out ``times[i]`` times along axis i, new leading axes first: ``numpy.tile``.

    Raises:
        ShapeError: there are fewer numbers than axes, or one is negative.
    """
    x = any_tensor(x)
    counts = sizes("repeat", times, "times")
    lead = len(counts) - x.ndim
    if lead < 0 or min(counts, default=0) < 0:
        raise ShapeError(
            f"repeat: expected {x.ndim} or more numbers of 0 or more, one for each axis of shape "
            f"{x.shape}, got {counts}"
        )
    shape = (1,) * lead + x.shape
    pairs = list(zip(counts, shape, strict=True))
    # An axis that is laid out once stays as it is: it may be the batch of a step that is traced.
    apart = reshape(x, [size for count, n in pairs for size in ((1, n) if count != 1 else (n,))])
    laid_out = broadcast_to(
        apart, [size for count, n in pairs for size in ((count, n) if count != 1 else (n,))]
    )
    return reshape(laid_out, [count * n for count, n in pairs])


def sum_to(x: Tensor, shape: tuple[int, ...]) -> Tensor:
    """Sum over the axes along which `shape` would be broadcast to the shape of `x`.

    The adjoint of `broadcast_to`: every rule of a broadcasting op ends with it.
    """
    return x if x._data.shape == shape else _sum_to(x, shape=shape)


_reshape = primitive("reshape", lambda x, shape: x.reshape(shape))
_reshape.defvjp(lambda d_y, _, x, shape: _reshape(d_y, shape=x._data.shape))


def reshape(x: Tensor, *shape: int | Sequence[int]) -> Tensor:
    """The elements of `x` in order, in another shape; one size may be -1.

    Of no elements, -1 is what it is for any number of them: (0, 2, 3) as (0, -1) is (0, 6).
    """
    x = any_tensor(x)
    wanted = sizes("reshape", shape)
    if 0 in wanted and -1 in wanted:
        wanted = _of_no_elements(x._data.shape, wanted)
    return x if x._data.shape == wanted else _reshape(x, shape=wanted)


def _of_no_elements(shape: tuple[int, ...], wanted: tuple[int, ...]) -> tuple[int, ...]:
    """The shape that is wanted, without its -1 where the other axes say what that is."""
    size, known = [prod([n for n in each if n > 0]) for each in (shape, wanted)]
    if wanted.count(0) != shape.count(0) or wanted.count(-1) != 1 or size % known:
        return wanted
    return tuple([size // known if n == -1 else n for n in wanted])


def flatten(x: Tensor, start_axis: int = 0, end_axis: int = -1) -> Tensor:
    """Merge the axes from `start_axis` to `end_axis` (both included) into one."""
    x = any_tensor(x)
    if x.ndim == 0:
        return reshape(x, 1)
    first = one_axis("flatten", start_axis, x.ndim)
    last = one_axis("flatten", end_axis, x.ndim)
    if first > last:
        raise ArgumentError(f"flatten: start_axis {start_axis} comes after end_axis {end_axis}")
    merged = int(np.prod(x.shape[first : last + 1]))
    return reshape(x, (*x.shape[:first], merged, *x.shape[last + 1 :]))


def unsqueeze(x: Tensor, axis: int) -> Tensor:
    """Insert an axis of size 1 before `axis` (negative: counted from the end of the result)."""
    x = any_tensor(x)
    at = one_axis("unsqueeze", axis, x.ndim + 1)
    return _reshape(x, shape=(*x.shape[:at], 1, *x.shape[at:]))


def squeeze(x: Tensor, axis: Axis = None) -> Tensor:
    """Remove axes of size 1: all of them, or those among `axis`."""
    x = any_tensor(x)
    axes = many_axes("squeeze", axis, x.ndim)
    shape = tuple([size for i, size in enumerate(x.shape) if not (size == 1 and i in axes)])
    return reshape(x, shape)


_permute = primitive("permute", lambda x, axes: x.transpose(axes))


def _d_permute(d_y: Tensor, _: None, x: Tensor, axes: tuple[int, ...]) -> Tensor:
    inverse = [0] * len(axes)
    for i, axis in enumerate(axes):
        inverse[axis] = i
    return _permute(d_y, axes=tuple(inverse))


_permute.defvjp(_d_permute)


def permute(x: Tensor, *axes: int | Sequence[int]) -> Tensor:
    """Reorder the axes: axis i of the result is axis ``axes[i]`` of `x`; a view."""
    x = any_tensor(x)
    order = many_axes("permute", sizes("permute", axes, "axes"), x.ndim)
    if len(order) != x.ndim:
        raise ArgumentError(f"permute: expected {x.ndim} axes, got {len(order)}")
    return _permute(x, axes=order)


def transpose(x: Tensor, axis0: int, axis1: int) -> Tensor:
    """Exchange two axes; a view."""
    x = any_tensor(x)
    order = list(range(x.ndim))
    first = one_axis("transpose", axis0, x.ndim)
    second = one_axis("transpose", axis1, x.ndim)
    order[first], order[second] = second, first
    return _permute(x, axes=tuple(order))


def reverse_axes(x: Tensor) -> Tensor:
    """``x.T``: the axes in reverse order; a view."""
    return _permute(x, axes=tuple(range(x.ndim))[::-1])


_flip = primitive("flip", lambda x, axes: np.flip(x, axes))
_flip.defvjp(lambda d_y, _, x, axes: _flip(d_y, axes=axes))


def flip(x: Tensor, axis: Axis = None) -> Tensor:
    """Reverse the order of elements along `axis` (all axes by default); a view."""
    x = any_tensor(x)
    return _flip(x, axes=many_axes("flip", axis, x.ndim))


_cat = primitive("cat", lambda *xs, axis: np.concatenate(xs, axis))


def _d_cat(needs: list[bool], d_y: Tensor, _: None, *xs: Tensor, axis: int) -> Any:
    return _split(d_y, sections=tuple([x._data.shape[axis] for x in xs]), axis=axis)


_cat.defvjp_joint(_d_cat)

_stack = primitive("stack", lambda *xs, axis: np.stack(xs, axis))
_stack.defvjp_joint(lambda needs, d_y, _, *xs, axis: _unbind(d_y, axis=axis))


def _tensors(name: str, tensors: Sequence[Tensor]) -> tuple[Tensor, ...]:
    if isinstance(tensors, list | tuple):
        listed = list(tensors)
    else:
        listed = check_list(f"{name}: tensors", tensors, "several tensors")
    if not listed:
        raise ArgumentError(f"{name}: expected at least one tensor, got none")
    return same_dtype(name, *listed)


def cat(tensors: Sequence[Tensor], axis: int = 0) -> Tensor:
    """Join tensors along an axis they have; the other sizes must agree."""
    xs = _tensors("cat", tensors)
    return _cat(*xs, axis=one_axis("cat", axis, xs[0].ndim))


def stack(tensors: Sequence[Tensor], axis: int = 0) -> Tensor:
    """Join tensors of one shape along a new axis."""
    xs = _tensors("stack", tensors)
    return _stack(*xs, axis=one_axis("stack", axis, xs[0].ndim + 1))


def _split_array(x: Array, sections: tuple[int, ...], axis: int) -> tuple[Array, ...]:
    lead = (slice(None),) * axis
    pieces = []
    start = 0
    for n in sections:
        pieces.append(x[(*lead, slice(start, start + n))])
        start += n
    return tuple(pieces)


_split = primitive("split", _split_array)


def _d_split(
    d_ys: tuple[Tensor | None, ...], _: None, x: Tensor, sections: tuple[int, ...], axis: int
) -> Tensor:
    shape = x._data.shape
    parts = [
        wrap(np.zeros((*shape[:axis], n, *shape[axis + 1 :]), x._data.dtype)) if d is None else d
        for d, n in zip(d_ys, sections, strict=True)
    ]
    return _cat(*parts, axis=axis)


_split.defvjp(_d_split)


def _equal(length: int, size: int) -> tuple[int, ...]:
    """`length` cut into pieces of `size` and a smaller last one; one empty piece of nothing."""
    if length == 0:
        return (0,)
    whole, rest = divmod(length, size)
    return (size,) * whole + (rest,) * (rest > 0)


def split(x: Tensor, size: int | Sequence[int], axis: int = 0) -> tuple[Tensor, ...]:
    """Cut `x` along `axis` into views.

    Args:
        size: the size of each piece (the last may be smaller), or a list with the size of each.

    Raises:
        ArgumentError: the size of each piece is not positive, a listed one is negative, or those
            listed do not add up to the axis.
    """
    x = any_tensor(x)
    axis = one_axis("split", axis, x.ndim)
    length = x._data.shape[axis]
    if isinstance(size, int | np.integer):
        sections = _equal(length, check_integer("split: size", size, 1))
    else:
        sections = sizes("split", (size,), "size")
        if min(sections, default=-1) < 0 or sum(sections) != length:
            raise ArgumentError(
                f"split: size: expected sizes that add up to {length}, got {sections}"
            )
    return _split(x, sections=sections, axis=axis)


def chunk(x: Tensor, chunks: int, axis: int = 0) -> tuple[Tensor, ...]:
    """Cut `x` along `axis` into `chunks` equal views (the last ones may be smaller or missing).

    Raises:
        ArgumentError: `chunks` is no positive integer.
    """
    x = any_tensor(x)
    chunks = check_integer("chunk: chunks", chunks, 1)
    axis = one_axis("chunk", axis, x._data.ndim)
    length = x._data.shape[axis]
    return _split(x, sections=_equal(length, -(-length // chunks)), axis=axis)


def _unbind_array(x: Array, axis: int) -> tuple[Array, ...]:
    if axis:
        x = np.moveaxis(x, axis, 0)
    # Indexing a 1-d array gives scalars; the ellipsis keeps 0-d views.
    return tuple(x) if x.ndim > 1 else tuple([x[i, ...] for i in range(len(x))])


_unbind: Primitive = primitive("unbind", _unbind_array)


def _d_unbind(d_ys: tuple[Tensor | None, ...], _: None, x: Tensor, axis: int) -> Tensor:
    shape = x._data.shape
    zeros = None
    if any(d is None for d in d_ys):
        zeros = wrap(np.zeros(shape[:axis] + shape[axis + 1 :], x._data.dtype))
    return _stack(*[zeros if d is None else d for d in d_ys], axis=axis)  # type: ignore[arg-type]


_unbind.defvjp(_d_unbind)


def unbind(x: Tensor, axis: int = 0) -> tuple[Tensor, ...]:
    """The slices of `x` along `axis`, as views without that axis."""
    x = any_tensor(x)
    return _unbind(x, axis=one_axis("unbind", axis, x.ndim))
