"""Products over more axes of a row than a program's own have: made of these, part by part.

A program multiplies a row by a matrix that is the same for all rows, and two matrices of a row.
``slots @ W``, ``W @ columns``, ``linear`` on (N, S, K) and products of more axes (heads, blocks)
are written in these, with ordinary tensor operations, so that their gradients are too.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np

from rnnkit import ops
from rnnkit.errors import TraceError
from rnnkit.recurrent.program.trace import TracedArray, where
from rnnkit.recurrent.program.values import ROWS_LAST

if TYPE_CHECKING:
    from rnnkit.autograd import Tensor
    from rnnkit.recurrent.program.trace import Tracer
    from rnnkit.recurrent.program.values import Shape, Value


def is_in_parts(name: str, operands: list[Value]) -> bool:
    """Whether a product, ``linear`` or ``matmul``, is none of a program's own."""
    a, b = operands[:2]
    if any(v.rows == ROWS_LAST for v in operands):
        return False  # refused, or a sum over the batch
    if name == "linear":
        return a.rows is not None and len(a.shape) > 1 and not any(v.rows for v in operands[1:])
    axes = len(a.shape), len(b.shape)
    return axes != ((2, 2) if a.rows and b.rows else (1, 2)) or not a.rows


def shape_of(t: Tracer, name: str, operands: list[Value]) -> Shape:
    """Of a row of the product.

    Raises:
        TraceError: it is not one row after the other.
    """
    a, b = operands[:2]
    if name == "linear":
        return (*a.shape[:-1], b.shape[0])
    left, right = [(t.rows, *v.shape) if v.rows else v.shape for v in (a, b)]
    axes = max(len(left), len(right))
    for value, shape in ((a, left), (b, right)):
        if value.rows and (len(shape) < axes or axes < 3):
            raise TraceError(f"{where()}: matmul mixes rows of the batch")
        if not value.rows and len(shape) == axes and axes > 2 and shape[0] not in (1, t.rows):
            raise TraceError(f"{where()}: matmul broadcasts rows against an axis before the batch")
    lead = np.broadcast_shapes(left[:-2], right[:-2])
    return (*lead[1:], left[-2], right[-1])


def in_parts(t: Tracer, name: str, operands: tuple[Tensor, ...]) -> Tensor:
    """A product that ``is_in_parts`` and has a ``shape_of`` a row."""
    if name == "linear":
        return _linear(*operands)
    axes = max(each.ndim for each in operands)
    a, b = (_without_batch(t, each, axes) for each in operands)
    return _matmul(a, b)


def _rows(x: Tensor) -> bool:
    data: Any = x._data
    return type(data) is TracedArray and data.value.rows is not None


def _without_batch(t: Tracer, x: Tensor, axes: int) -> Tensor:
    """An operand as rows, or without an axis that stands beside the batch."""
    if _rows(x) or x.ndim < axes:
        return x
    return x[0] if x.shape[0] == 1 else t.same_rows("matmul", x)


def _linear(x: Tensor, weight: Tensor, bias: Tensor | None = None) -> Tensor:
    if x.ndim == 2:
        return ops.linear(x, weight, bias)
    return ops.stack([_linear(part, weight, bias) for part in ops.unbind(x, 1)], 1)


def _matmul(a: Tensor, b: Tensor) -> Tensor:
    """Each has rows or, without them, at most as many axes as a row of the other."""
    first, second = _rows(a), _rows(b)
    left, right = a.ndim - first, b.ndim - second
    axes = max(left, right)
    if axes > 2:
        lefts = ops.unbind(a, int(first)) if left == axes else (a,)
        rights = ops.unbind(b, int(second)) if right == axes else (b,)
        n = max(len(lefts), len(rights))
        parts = [_matmul(lefts[i % len(lefts)], rights[i % len(rights)]) for i in range(n)]
        return ops.stack(parts, 1)
    if first and second:
        return ops.matmul(a, b)
    if first:
        return ops.stack([ops.matmul(row, b) for row in ops.unbind(a, 1)], 1)
    return ops.stack([ops.linear(column, a) for column in ops.unbind(b, 2)], 2)
