"""Packed sequences: the rows of a ragged batch without its padding, step after step.

The layout is PyTorch's. The rows are ordered by length, the longest first; ``data`` holds the first
steps of all rows, then the second steps of the rows that have one, and so on; ``batch_sizes`` says
how many rows take each step.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, NamedTuple

import numpy as np

from rnnkit import ops
from rnnkit.autograd import Tensor, as_tensor
from rnnkit.autograd.tensor import plain_array, wrap
from rnnkit.errors import ArgumentError, DTypeError, ShapeError

if TYPE_CHECKING:
    from collections.abc import Iterable
    from typing import Self

    from rnnkit.autograd.tensor import Array


class _Fields(NamedTuple):
    data: Tensor
    batch_sizes: Tensor
    sorted_indices: Tensor | None
    unsorted_indices: Tensor | None


class PackedSequence(_Fields):
    """A ragged batch without padding, as ``torch.nn.utils.rnn.PackedSequence``.

    ``pack_padded_sequence`` and ``pack_sequence`` make it and every recurrent module takes it. To
    compute on all steps at once, ``packed._replace(data=f(packed.data))``.

    Attributes:
        data: (sum of the lengths, *), step after step.
        batch_sizes: int64 (T,), the number of rows that take each step, never growing.
        sorted_indices: int64 (N,), the caller's row at each place in the order of lengths; None
            where the caller's order is that.
        unsorted_indices: the inverse; derived from ``sorted_indices`` where it is not given.

    The integers may be given as Tensors, arrays or sequences.

    Raises:
        DTypeError: data that is no Tensor or array, or indices that are not integers.
        ShapeError: sizes that do not fit each other.
        ArgumentError: batch sizes that grow or fall below 1, or indices that are no permutation.
    """

    __slots__ = ()

    def __new__(
        cls,
        data: Any,
        batch_sizes: Any,
        sorted_indices: Any = None,
        unsorted_indices: Any = None,
    ) -> Self:
        if not isinstance(data, (Tensor, np.ndarray)):
            raise DTypeError(f"data: expected a Tensor or an array, got {type(data).__name__}")
        data = as_tensor(data)
        sizes = _integers("batch_sizes", batch_sizes)
        if sizes.size and (sizes.min() < 1 or (np.diff(sizes) > 0).any()):
            raise ArgumentError(
                f"batch_sizes: expected numbers from 1 on that never grow, got {sizes.tolist()}"
            )
        if data.ndim == 0 or data.shape[0] != sizes.sum():
            raise ShapeError(
                f"data: expected {sizes.sum()} rows, the sum of batch_sizes, got shape {data.shape}"
            )
        indices = (
            None if sorted_indices is None else _integers("sorted_indices", sorted_indices),
            None if unsorted_indices is None else _integers("unsorted_indices", unsorted_indices),
        )
        N = int(sizes[0]) if sizes.size else 0
        for name, each in zip(cls._fields[2:], indices, strict=True):
            if each is not None and not np.array_equal(np.sort(each), np.arange(N)):
                raise ArgumentError(
                    f"{name}: expected the numbers from 0 to {N - 1} in some order, "
                    f"got {each.tolist()}"
                )
        order, places = indices
        if order is None:
            order = None if places is None else np.argsort(places)
        elif places is None:
            places = np.argsort(order)
        elif not np.array_equal(order[places], np.arange(N)):
            raise ArgumentError(
                f"unsorted_indices: expected the inverse of sorted_indices, got {places.tolist()}"
            )
        return super().__new__(
            cls,
            data,
            wrap(sizes),
            None if order is None else wrap(order.astype(np.int64)),
            None if places is None else wrap(places.astype(np.int64)),
        )

    @classmethod
    def _make(cls, iterable: Iterable[Any]) -> Self:  # type: ignore[override]
        # NamedTuple's own goes past __new__, and so would _replace, which calls it.
        return cls(*iterable)

    @property
    def lengths(self) -> Tensor:
        """int64 (N,): the steps of each row, in the caller's order."""
        return wrap(Packing(self.batch_sizes.data, _array(self.sorted_indices)).lengths)


class Packing:
    """Where the rows of packed data stand in a padded batch.

    Attributes:
        T, N: steps and rows of the padded batch; T may exceed the longest row.
        lengths: int64 (N,), in the caller's order.
    """

    def __init__(self, batch_sizes: Array, order: Array | None, T: int | None = None) -> None:
        self.T = len(batch_sizes) if T is None else T
        self.N = int(batch_sizes[0]) if len(batch_sizes) else 0
        self._times, places = np.nonzero(np.arange(self.N) < batch_sizes[:, None])
        self._rows = places if order is None else order[places]
        self.lengths = np.bincount(self._rows, minlength=self.N).astype(np.int64)

    @classmethod
    def of(cls, packed: PackedSequence, T: int | None = None) -> Packing:
        """That of a packed sequence."""
        return cls(packed.batch_sizes.data, _array(packed.sorted_indices), T)

    def pack(self, x: Tensor, batch_first: bool) -> Tensor:
        """The steps that rows have, (sum of the lengths, *), of x (T, N, *) or (N, T, *)."""
        rest = x.shape[2:]
        rows = x.reshape(self.T * self.N, *rest) if rest else x.reshape(self.T * self.N)
        return rows[self._positions(batch_first)]

    def pad(self, data: Tensor, batch_first: bool, value: float = 0.0) -> Tensor:
        """The inverse: (T, N, *) or (N, T, *), ``value`` past the end of a row."""
        return pad_rows(data, self._positions(batch_first), self._leading(batch_first), value)

    def pack_results(
        self, packed: PackedSequence, results: Any, batch_first: bool, return_sequences: bool
    ) -> Any:
        """What a module gave for the padded batch, as the caller with a packed one expects it."""

        def pack(padded: Any) -> Any:
            if isinstance(padded, tuple):
                return tuple([pack(each) for each in padded])
            return packed._replace(data=self.pack(padded, batch_first))

        y, final, *steps = results
        if return_sequences:
            y = pack(y)
        return y, final, *[{name: pack(each) for name, each in one.items()} for one in steps]

    def _leading(self, batch_first: bool) -> tuple[int, int]:
        return (self.N, self.T) if batch_first else (self.T, self.N)

    def _positions(self, batch_first: bool) -> Array:
        if batch_first:
            return self._rows * self.T + self._times
        return self._times * self.N + self._rows


def pad_rows(data: Tensor, positions: Array, leading: tuple[int, int], value: float) -> Tensor:
    """Rows (R, *) at ``positions`` (R,) of a batch (*leading, *) in C order, ``value`` elsewhere.

    Raises:
        ArgumentError: a value that the dtype of the data does not hold.
    """
    rest = data.shape[1:]
    filler = _filler(value, data.dtype)
    if not len(positions):
        padding = ops.broadcast_to(filler, (*leading, *rest))
        # Part of the graph all the same: a gradient of no rows is there, and empty.
        return padding + data.sum() if data.requires_grad else padding
    # Padding reads the first row, and where() hands it no gradient.
    source = np.zeros(leading, np.int64)
    there = np.zeros(leading, np.bool_)
    source.reshape(-1)[positions] = np.arange(len(positions))
    there.reshape(-1)[positions] = True
    return ops.where(there.reshape(*leading, *[1] * len(rest)), data[source], filler)


def _filler(value: float, dtype: np.dtype[Any]) -> Tensor:
    # Beside integers a Python float would make everything float32.
    try:
        filler = np.asarray(value if dtype.kind == "f" else int(value), dtype)
    except (OverflowError, TypeError, ValueError):
        filler = None
    if filler is None or filler.ndim or (dtype.kind != "f" and filler != value):
        raise ArgumentError(f"padding_value: expected a number that {dtype} holds, got {value!r}")
    return wrap(filler)


def _integers(name: str, value: Any) -> Array:
    array = plain_array(name, value)
    if array.size and array.dtype.kind not in "iu":
        raise DTypeError(f"{name}: expected integers, got {array.dtype}")
    if array.ndim != 1:
        raise ShapeError(f"{name}: expected 1 axis, got shape {array.shape}")
    return array.astype(np.int64)


def _array(indices: Tensor | None) -> Array | None:
    return None if indices is None else indices.data
