"""Products over more axes of a row than a program's own have: made of these, part by part.

A program multiplies a row by a matrix that is the same for all rows, and two matrices of a row.
``slots @ W``, ``W @ columns``, ``linear`` on (N, S, K), products of more axes (heads, blocks) and
``einsum`` are written in these, with ordinary tensor operations, so that their gradients are too.
"""

from __future__ import annotations

from math import prod
from typing import TYPE_CHECKING, Any

import numpy as np

from rnnkit import ops
from rnnkit.errors import TraceError
from rnnkit.recurrent.program.trace import TracedArray, mixes, where
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
    """Each has rows or, without them, at most as many axes as a row of the other.

    A single column, or row, without rows is no product for each part, but one sum over all.
    """
    first, second = _rows(a), _rows(b)
    left, right = a.ndim - first, b.ndim - second
    axes = max(left, right)
    if not second and b.shape[-1] == 1 and left > 1 and left >= right:
        return ops.sum(a * ops.transpose(b, -2, -1), -1, keepdims=True)
    if not first and a.shape[-2] == 1 and right > 1 and right >= left:
        return ops.sum(ops.transpose(a, -2, -1) * b, -2, keepdims=True)
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


# ---- einsum


def contracted(
    t: Tracer, operands: tuple[Tensor, ...], inputs: tuple[str, ...], output: str
) -> Tensor:
    """``einsum`` of two tensors or more, prepared as the op does: two after the other.

    What comes next is the first, in the order in which they are given, over a letter of which a sum
    is left; a letter is summed over as soon as no other tensor has it.

    Raises:
        TraceError: not every tensor from the batch, and the result, has the rows first.
    """
    batch = output[:1]
    waiting = []
    for x, letters in zip(operands, inputs, strict=True):
        if not _rows(x) and batch and batch in letters:
            x = t.same_rows("einsum", x)
        if letters[:1] != batch if _rows(x) else t.is_of_batch(x):
            raise mixes("einsum")
        waiting.append((x, letters))
    first = next(i for i, (x, _) in enumerate(waiting) if _rows(x))
    total, of = waiting.pop(first)
    while waiting:
        places = range(len(waiting))
        summed = [i for i in places if set(of) & set(waiting[i][1]) - set(output)]
        x, letters = waiting.pop(summed[0] if summed else 0)
        kept = "".join([output, *[each for _, each in waiting]])
        total, of = _pair(total, of, x, letters, kept)
    return ops.permute(total, [of.index(letter) for letter in output])


def _pair(a: Tensor, left: str, b: Tensor, right: str, kept: str) -> tuple[Tensor, str]:
    """Two tensors as one, summed over the letters that both have and nobody keeps; the first has
    the rows, on its first axis. With the letters of the result."""
    if _rows(b) and set(right) < set(left):
        a, left, b, right = b, right, a, left  # the matrix second, the vector first
    batch, own = left[:1], left[1:]
    both = [one for one in own if one in right]
    shared = [one for one in both if one in kept]
    summed = [one for one in both if one not in kept]
    lefts = [one for one in own if one not in right]
    rights = [one for one in right if one not in left]
    sizes = dict(zip(left + right, a.shape + b.shape, strict=True))
    of_rows = [batch] if _rows(b) else []
    if not summed or not rights:
        order = [*shared, *lefts, *rights, *summed]
        y = _laid_out(a, left, [batch, *order]) * _laid_out(b, right, [*of_rows, *order])
        over = list(range(1 + len(order) - len(summed), 1 + len(order)))
        return (ops.sum(y, over) if over else y), "".join([batch, *shared, *lefts, *rights])

    def joined(x: Tensor, letters: str, lead: list[str], *groups: list[str]) -> Tensor:
        x = _laid_out(x, letters, [*lead, *[one for group in groups for one in group]])
        shape = [prod([sizes[one] for one in group]) for group in groups]
        return ops.reshape(x, [*[sizes[one] for one in lead], *shape])

    heads, rows = [shared] * bool(shared), [lefts] * bool(lefts or shared or of_rows)
    x = joined(a, left, [batch], *heads, *rows, summed)
    y = ops.matmul(x, joined(b, right, of_rows, *heads, summed, rights))
    letters = [batch, *shared, *lefts, *rights]
    return ops.reshape(y, [sizes[one] for one in letters]), "".join(letters)


def _laid_out(x: Tensor, letters: str, wanted: list[str]) -> Tensor:
    """The axes in the order wanted, with size 1 for those that are not there."""
    x = ops.permute(x, [letters.index(one) for one in wanted if one in letters])
    sizes = iter(x.shape)
    return ops.reshape(x, [next(sizes) if one in letters else 1 for one in wanted])
