"""What a program is made of: values of one step, and the operations that give them.

A value with rows has one row for each row of the batch; its shape is that of a row. A value without
rows is the same for all of them: an invariant of the loop, or a sum over the batch.
"""

from __future__ import annotations

import math
from typing import TYPE_CHECKING, Any

import numpy as np

if TYPE_CHECKING:
    Shape = tuple[int, ...]

ROWS_FIRST = "first"
ROWS_LAST = "last"


class Value:
    """
    Attributes:
        kind: "sequence" (an input of every step), "state" (before the step), "flow" (the gradient
            of a state after the step), "invariant" or "operation".
        shape: of a row; of the whole where there are no rows.
        size: elements of that.
        rows: ROWS_FIRST, ROWS_LAST (a matrix whose last axis is the batch) or None.
        serial: whether it depends on a state, so that it cannot be computed for all steps at once.
        of: the operation that gives it, or None.
        number: which of its kind.
        name: for people.
    """

    __slots__ = ("dtype", "kind", "name", "number", "of", "rows", "serial", "shape", "size")

    def __init__(
        self,
        kind: str,
        shape: Shape,
        dtype: np.dtype[Any],
        rows: str | None = ROWS_FIRST,
        *,
        serial: bool = True,
        of: Operation | None = None,
        number: int = 0,
        name: str = "",
    ) -> None:
        self.kind = kind
        self.shape = shape
        self.size = math.prod(shape)
        self.dtype = dtype
        self.rows = rows
        self.serial = serial
        self.of = of
        self.number = number
        self.name = name


class Operation:
    """One operation, on rows or on values without rows.

    Attributes:
        name: of a native operation (csrc/program.h), of a view ("reshape", "permute", "slice",
            "broadcast", "flip"), or one of

            cat, put           parts into one value, along ``axis`` or at ``places``
            take               elements ``index`` along ``axis``, zero for -1
            product            a row times a matrix, (K, M), or (M, K) if ``transposed``
            sum_rows           the sum over the batch
            outer              the sum over the batch of a_i b_j
            primitive          an engine primitive on values without rows
        inputs: values.
        params: by name; axes and shapes are those of a row.
        out: the value it gives.
    """

    __slots__ = ("inputs", "name", "out", "params")

    def __init__(self, name: str, inputs: list[Value], params: dict[str, Any]) -> None:
        self.name = name
        self.inputs = inputs
        self.params = params
        self.out: Value

    @property
    def key(self) -> tuple[Any, ...]:
        """Equal for operations that give the same value."""
        return (self.name, *[id(v) for v in self.inputs], told_apart(self.params))


def told_apart(params: Any, rows: int | None = None) -> Any:
    """What is equal, and has the same hash, for equal parameters alone.

    A number that is ``rows`` counts as the number of rows, whatever that is.
    """
    if isinstance(params, dict):
        return tuple([(name, told_apart(params[name], rows)) for name in sorted(params)])
    if isinstance(params, (list, tuple)):
        return tuple([told_apart(each, rows) for each in params])
    if isinstance(params, slice):
        return slice, told_apart([params.start, params.stop, params.step], rows)
    if isinstance(params, np.ndarray):
        return params.dtype.str, params.shape, params.tobytes()
    if params is None or isinstance(params, (int, float, str, np.generic)):
        return "rows" if rows is not None and params == rows else repr(params)  # -0.0 is not 0.0
    return params if params.__hash__ is not None else id(params)


VIEWS = frozenset({"reshape", "permute", "slice", "broadcast", "flip"})
"""Operations that give another view of their operand and move no element."""

CHEAP = frozenset({
    "add", "sub", "mul", "neg", "abs", "square", "maximum", "minimum", "relu", "where", "clip",
    "equal", "not_equal", "less", "less_equal", "greater", "greater_equal", "logical_and",
    "logical_or", "logical_xor", "logical_not", "muladd", "mulsub", "tanh_gradient",
    "sigmoid_gradient", "sign", "copy",
})
"""Operations that the backward pass rather repeats than finds kept."""
