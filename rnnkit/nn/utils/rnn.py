"""Ragged batches, padded and packed, with the names, semantics and layouts of PyTorch's
``torch.nn.utils.rnn``.

All of it is differentiable. The recurrent modules need none of it for ragged batches: a padded
batch with ``lengths=`` takes rows in any order, and rows of no steps at all. T is the number of
steps, N that of rows, * any further axes.
"""

from __future__ import annotations

import math
from collections.abc import Iterable
from typing import Any

import numpy as np

from rnnkit import ops
from rnnkit.autograd import Tensor, as_tensor
from rnnkit.autograd.tensor import wrap
from rnnkit.checks import check_bool, check_fits, check_integer
from rnnkit.errors import ArgumentError, DTypeError, ShapeError
from rnnkit.recurrent.packed import PackedSequence, Packing, pad_rows
from rnnkit.recurrent.schedule import check_lengths

__all__ = [
    "PackedSequence",
    "pack_padded_sequence",
    "pack_sequence",
    "pad_packed_sequence",
    "pad_sequence",
    "unpad_sequence",
]


def pad_sequence(
    sequences: Iterable[Any], batch_first: bool = False, padding_value: float = 0.0
) -> Tensor:
    """Sequences of several lengths side by side, filled up at their ends.

    Args:
        sequences: Tensors or arrays (L_n, *) of one dtype, alike in all axes but the first; of ids
            as well.
        batch_first: whether the result is (N, T, *).
        padding_value: what stands past the end of a sequence.

    Returns:
        (T, N, *), T the longest L_n.

    Raises:
        ArgumentError: no sequences, or a padding value that the dtype does not hold.
        ShapeError: sequences that differ in other axes than the first, or have none.
        DTypeError: several dtypes, or something that is no Tensor or array.
    """
    batch_first = check_bool("batch_first", batch_first)
    each = _check_sequences(sequences)
    lengths = [len(sequence) for sequence in each]
    N, T = len(each), max(lengths)
    times = np.concatenate([np.arange(length) for length in lengths])
    rows = np.repeat(np.arange(N), lengths)
    positions = rows * T + times if batch_first else times * N + rows
    leading = (N, T) if batch_first else (T, N)
    return pad_rows(ops.cat(each, 0), positions, leading, padding_value)


def unpad_sequence(padded_sequences: Any, lengths: Any, batch_first: bool = False) -> list[Tensor]:
    """The inverse of ``pad_sequence``: a list of N tensors (L_n, *).

    Args:
        padded_sequences: (T, N, *), or (N, T, *) with ``batch_first``.
        lengths: (N,) integers from 0 to T.

    Raises:
        ShapeError, DTypeError, ArgumentError: an argument of another shape or dtype, or a length
            out of range.
    """
    batch_first = check_bool("batch_first", batch_first)
    padded = _check_padded("padded_sequences", padded_sequences, batch_first)
    T, N = _sizes(padded, batch_first)
    steps = check_lengths(lengths, T, N, of="the steps of padded_sequences")
    rows = padded.unbind(0 if batch_first else 1)
    return [row[: int(length)] for row, length in zip(rows, steps, strict=True)]


def pack_padded_sequence(
    input: Any, lengths: Any, batch_first: bool = False, enforce_sorted: bool = True
) -> PackedSequence:
    """A padded batch without its padding.

    Args:
        input: (T, N, *), or (N, T, *) with ``batch_first``.
        lengths: (N,) integers from 1 to T: an array, a Tensor or a sequence. As in PyTorch, a row
            of no steps is refused, since the packed layout could not tell where it was; use the
            modules' ``lengths=``, which takes it.
        enforce_sorted: whether to refuse lengths that grow from one row to the next. False sorts
            the rows by length, and what is computed comes back in the caller's order.

    Raises:
        ShapeError, DTypeError: an argument of another shape or dtype.
        ArgumentError: a length out of range, lengths that are not sorted, or no rows.
    """
    batch_first = check_bool("batch_first", batch_first)
    enforce_sorted = check_bool("enforce_sorted", enforce_sorted)
    padded = _check_padded("input", input, batch_first)
    T, N = _sizes(padded, batch_first)
    if N == 0:
        raise ArgumentError(f"input: expected at least one row, got shape {padded.shape}")
    steps = check_lengths(lengths, T, N, smallest=1, of="the steps of input")
    order = None
    if not enforce_sorted:
        order = np.argsort(-steps, kind="stable")
        steps = steps[order]
    elif (np.diff(steps) > 0).any():
        raise ArgumentError(
            "lengths: expected the longest row first and no row longer than the one before, got "
            f"{steps.tolist()}; pass enforce_sorted=False for rows in any order"
        )
    # Rows that have step t, for each t: those whose length exceeds it.
    batch_sizes = N - np.searchsorted(steps[::-1], np.arange(steps[0]), side="right")
    data = Packing(batch_sizes, order, T).pack(padded, batch_first)
    return PackedSequence(data, batch_sizes, order)


def pad_packed_sequence(
    sequence: PackedSequence,
    batch_first: bool = False,
    padding_value: float = 0.0,
    total_length: int | None = None,
) -> tuple[Tensor, Tensor]:
    """The inverse of ``pack_padded_sequence``: the padded batch and its lengths, int64 (N,).

    Args:
        sequence: a PackedSequence.
        batch_first: whether the batch is (N, T, *).
        padding_value: what stands past the end of a row.
        total_length: T; None: that of the longest row.

    Returns:
        The batch (T, N, *) and the lengths, in the order in which the rows were packed.

    Raises:
        DTypeError: something else than a PackedSequence.
        ArgumentError: a ``total_length`` below the longest row, or a padding value that the dtype
            does not hold.
    """
    if not isinstance(sequence, PackedSequence):
        raise DTypeError(f"sequence: expected a PackedSequence, got {type(sequence).__name__}")
    batch_first = check_bool("batch_first", batch_first)
    longest = len(sequence.batch_sizes)
    if total_length is not None:
        total_length = check_integer("total_length", total_length)
    if total_length is not None and total_length < longest:
        raise ArgumentError(
            f"total_length: expected at least {longest}, the longest row, got {total_length}"
        )
    if total_length is not None and longest:
        rows, data = int(sequence.batch_sizes.data[0]), sequence.data
        of_step = rows * math.prod(data.shape[1:]) * data.dtype.itemsize
        check_fits("total_length", total_length, of_step)
    packing = Packing.of(sequence, total_length)
    return packing.pad(sequence.data, batch_first, padding_value), wrap(packing.lengths)


def pack_sequence(sequences: Iterable[Any], enforce_sorted: bool = True) -> PackedSequence:
    """Sequences (L_n, *) of several lengths, packed; arguments and errors as in the two above.

    ``sequences`` are as in ``pad_sequence``, but none may be empty; ``enforce_sorted`` is as in
    ``pack_padded_sequence``.
    """
    each = _check_sequences(sequences)
    lengths = [len(sequence) for sequence in each]
    return pack_padded_sequence(pad_sequence(each), lengths, enforce_sorted=enforce_sorted)


def _check_sequences(sequences: Iterable[Any]) -> list[Tensor]:
    if isinstance(sequences, str) or not isinstance(sequences, Iterable):
        raise DTypeError(
            f"sequences: expected Tensors or arrays, got {sequences!r} "
            f"({type(sequences).__name__})"
        )
    each: list[Tensor] = []
    for n, value in enumerate(sequences):
        if not isinstance(value, (Tensor, np.ndarray)):
            raise DTypeError(
                f"sequences[{n}]: expected a Tensor or an array, got {type(value).__name__}"
            )
        tensor = as_tensor(value)
        if tensor.ndim == 0:
            raise ShapeError(f"sequences[{n}]: expected at least 1 axis, got a number")
        first = each[0] if each else tensor
        if tensor.shape[1:] != first.shape[1:]:
            raise ShapeError(
                f"sequences[{n}]: expected axes {first.shape[1:]} after the first, as those of "
                f"the first one, got shape {tensor.shape}"
            )
        if tensor.dtype != first.dtype:
            raise DTypeError(
                f"sequences[{n}]: expected {first.dtype} as the first one, got {tensor.dtype}"
            )
        each.append(tensor)
    if not each:
        raise ArgumentError("sequences: expected at least one, got none")
    return each


def _check_padded(name: str, value: Any, batch_first: bool) -> Tensor:
    if not isinstance(value, (Tensor, np.ndarray)):
        raise DTypeError(f"{name}: expected a Tensor or an array, got {type(value).__name__}")
    tensor = as_tensor(value)
    if tensor.ndim < 2:
        axes = "(N, T, *)" if batch_first else "(T, N, *)"
        raise ShapeError(f"{name}: expected axes {axes}, got shape {tensor.shape}")
    return tensor


def _sizes(padded: Tensor, batch_first: bool) -> tuple[int, int]:
    first, second = padded.shape[:2]
    return (second, first) if batch_first else (first, second)
