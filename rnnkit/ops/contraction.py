"""Sums of products over axes that are named by letters."""

from __future__ import annotations

import string
from collections import Counter
from math import prod
from typing import TYPE_CHECKING, Any

import numpy as np

from rnnkit.autograd.grad_mode import state
from rnnkit.autograd.primitive import Primitive, primitive
from rnnkit.errors import ArgumentError, ShapeError
from rnnkit.ops.elementwise import mul
from rnnkit.ops.indexing import getitem
from rnnkit.ops.linalg import matmul
from rnnkit.ops.operands import real, same_dtype
from rnnkit.ops.reductions import sum
from rnnkit.ops.shape import permute, reshape

if TYPE_CHECKING:
    from rnnkit.autograd.tensor import Array, Tensor

_DOTS = "..."

# Of two operands or more, where that is no product of two matrices. No letter comes twice in one of
# them, and each is also in another one or in the output: then the same holds for the products that
# are the derivatives.
_einsum: Primitive = primitive(
    "einsum",
    lambda *xs, inputs, output: np.einsum(f"{','.join(inputs)}->{output}", *xs, optimize=True),
)


def _d_einsum(
    needs: list[bool], d_y: Tensor, _: None, *xs: Tensor, inputs: tuple[str, ...], output: str
) -> list[Tensor | None]:
    def gradient(i: int) -> Tensor:
        others = (output, *inputs[:i], *inputs[i + 1 :])
        made: Tensor = _einsum(d_y, *xs[:i], *xs[i + 1 :], inputs=others, output=inputs[i])
        return made

    return [gradient(i) if need else None for i, need in enumerate(needs)]


_einsum.defvjp_joint(_d_einsum)


def einsum(subscripts: str, *operands: Tensor | Array) -> Tensor:
    """Sum of products over the axes whose letters the output does not have (PyTorch's einsum).

    ``einsum("tnh,snh->nts", q, k)`` are the products of all pairs of steps. Without ``->`` the
    output has the letters that come once, in alphabetical order. A letter that comes twice in one
    operand takes its diagonal; ``...`` stands for any further axes, which come first in an output
    that is not given. Axes of one letter are of one size, or 1.

    Args:
        subscripts: letters for the axes of each operand, commas between; spaces do not count.
        operands: tensors of one float dtype.

    Raises:
        ArgumentError: `subscripts` that cannot be read, or that are not of so many operands.
        ShapeError: an operand has another number of axes, or two axes of a letter do not fit.
        DTypeError: an operand is not of floats, or the dtypes differ.
    """
    inputs, output = _parsed(subscripts, len(operands))
    xs = [real("einsum", x) for x in same_dtype("einsum", *operands)]
    inputs, output = _without_dots(subscripts, inputs, output, [x.ndim for x in xs])
    sizes = _sizes(subscripts, inputs, xs)
    for i, x in enumerate(xs):
        xs[i], inputs[i] = _of_full_axes(x, inputs[i], sizes)
    for i, x in enumerate(xs):
        elsewhere = output + "".join(inputs[:i] + inputs[i + 1 :])
        alone = [axis for axis, letter in enumerate(inputs[i]) if letter not in elsewhere]
        if alone:
            xs[i] = sum(x, alone)
            inputs[i] = "".join([letter for letter in inputs[i] if letter in elsewhere])
    if len(xs) == 1:
        return _permuted(xs[0], inputs[0], output)
    # What is traced, on the rows of a batch, is taken apart by who knows which axis these are on.
    if len(xs) == 2 and state.tracer is None:
        (a, b), (left, right) = xs, inputs
        if _is_product(left, right, output):
            return _product(a, b, left, right, output)
    made: Tensor = _einsum(*xs, inputs=tuple(inputs), output=output)
    return made


def _is_product(left: str, right: str, output: str) -> bool:
    """Whether two operands, prepared as `einsum` does, are multiplied as matrices or in pairs.

    What is left are dot products along axes of two operands of the same letters, such as
    ``ni,ni->n``: as matrices, of one row and of one column, they would be many small ones.
    """
    return set(left) != set(right) or set(left) == set(output)


def _product(a: Tensor, b: Tensor, left: str, right: str, output: str) -> Tensor:
    if output and output[0] not in left:
        a, b, left, right = b, a, right, left  # a batch that comes first then stays there
    summed = "".join([one for one in left if one not in output])
    if not summed:
        return mul(_spread(a, left, output), _spread(b, right, output))
    shared = "".join([one for one in output if one in left and one in right])
    rows = "".join([one for one in output if one not in right])
    columns = "".join([one for one in output if one not in left])
    sizes = dict(zip(left + right, a.shape + b.shape, strict=True))

    def shape(*groups: str) -> list[int]:
        return [sizes[one] for group in groups for one in group]

    inner, width = [prod(shape(group)) for group in (summed, columns)]
    # Without shared axes matmul takes rows of several axes as they are.
    height = [prod(shape(rows))] if shared else shape(rows)
    a = reshape(_permuted(a, left, shared + rows + summed), [*shape(shared), *height, inner])
    b = reshape(_permuted(b, right, shared + summed + columns), [*shape(shared), inner, width])
    y = reshape(matmul(a, b), shape(shared, rows, columns))
    return _permuted(y, shared + rows + columns, output)


def _permuted(x: Tensor, letters: str, wanted: str) -> Tensor:
    return x if letters == wanted else permute(x, [letters.index(letter) for letter in wanted])


def _spread(x: Tensor, letters: str, wanted: str) -> Tensor:
    """The axes in the order wanted, with size 1 for those that are not there."""
    sizes = dict(zip(letters, x.shape, strict=True))
    x = _permuted(x, letters, "".join([one for one in wanted if one in letters]))
    return reshape(x, [sizes.get(one, 1) for one in wanted])


def _parsed(subscripts: Any, count: int) -> tuple[list[str], str]:
    """The letters of each operand and of the output, ``...`` among them."""
    if not isinstance(subscripts, str):
        raise ArgumentError(f"einsum: subscripts: expected a text, got {subscripts!r}")
    left, arrow, output = subscripts.replace(" ", "").partition("->")
    inputs = left.split(",")
    for part in (*inputs, output):
        plain = part.replace(_DOTS, "", 1)
        if plain.strip(string.ascii_letters):
            raise ArgumentError(
                f"einsum: subscripts: expected letters and at most one '...' for each operand, "
                f"got {part!r} in {subscripts!r}"
            )
    if len(inputs) != count:
        raise ArgumentError(
            f"einsum: subscripts {subscripts!r} are of {len(inputs)} operands, got {count}"
        )
    letters = Counter("".join(inputs).replace(".", ""))
    if not arrow:
        dots = _DOTS if any(_DOTS in part for part in inputs) else ""
        return inputs, dots + "".join(sorted([one for one, n in letters.items() if n == 1]))
    for letter, n in Counter(output.replace(".", "")).items():
        if n > 1 or letter not in letters:
            raise ArgumentError(
                "einsum: subscripts: expected letters of the operands, each once, behind '->', "
                f"got {letter!r} in {subscripts!r}"
            )
    return inputs, output


def _without_dots(
    subscripts: str, inputs: list[str], output: str, ranks: list[int]
) -> tuple[list[str], str]:
    """The same with letters of their own in place of the dots."""
    counts = []
    for i, (part, rank) in enumerate(zip(inputs, ranks, strict=True)):
        named = len(part.replace(_DOTS, ""))
        if rank < named or (rank > named and _DOTS not in part):
            raise ShapeError(
                f"einsum: operand {i}: expected the axes {part!r} of {subscripts!r}, "
                f"got {rank} axes"
            )
        counts.append(rank - named)
    free = [one for one in string.ascii_letters if one not in subscripts]
    count = max(counts)
    if count > len(free):
        raise ArgumentError(f"einsum: {subscripts!r} leaves no letters for {count} more axes")
    dots = "".join(free[:count])
    inputs = [
        part.replace(_DOTS, dots[count - n :]) for part, n in zip(inputs, counts, strict=True)
    ]
    return inputs, output.replace(_DOTS, dots)


def _sizes(subscripts: str, inputs: list[str], xs: list[Tensor]) -> dict[str, int]:
    """The size of each letter's axes."""
    sizes: dict[str, int] = {}
    for i, (letters, x) in enumerate(zip(inputs, xs, strict=True)):
        own: dict[str, int] = {}
        for letter, size in zip(letters, x.shape, strict=True):
            known = sizes.get(letter, 1)
            if own.setdefault(letter, size) != size or (known != size and 1 not in (known, size)):
                raise ShapeError(
                    f"einsum: operand {i}: expected the size of {letter!r} in {subscripts!r} to "
                    f"be {own[letter] if own[letter] != size else known}, got shape {x.shape}"
                )
            if known == 1:
                sizes[letter] = size
    return sizes


def _of_full_axes(x: Tensor, letters: str, sizes: dict[str, int]) -> tuple[Tensor, str]:
    """The diagonals of letters that come twice, without axes of size 1 that others have longer."""
    shape = dict(zip(letters, x.shape, strict=True))
    if len(shape) < len(letters):
        grid = dict(zip(shape, np.ogrid[tuple([slice(n) for n in shape.values()])], strict=True))
        x = getitem(x, tuple([grid[letter] for letter in letters]))
    kept = {letter: n for letter, n in shape.items() if n == sizes[letter]}
    return reshape(x, tuple(kept.values())), "".join(kept)
