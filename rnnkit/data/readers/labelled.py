"""Labelled sequences: what classifying and tagging are learnt from.

A file holds one example a line (CSV with a header, or JSON Lines) or arrays (``.npz``).

=========== ==================================== ==============================================
            CSV columns, cells                   JSON Lines names, values
=========== ==================================== ==============================================
the input,  ``text``: a text                     ``text``: a text
one of      ``tokens``: words between spaces     ``tokens``: list of texts
            ``sequence``: numbers between spaces ``sequence``: list of numbers, or of lists of C
the output, ``label``: a name                    ``label``: a text or whole number
one of      ``labels``: names between spaces     ``labels``: list of those, one for each step
=========== ==================================== ==============================================

Other columns and names are left alone. The steps of a text are its characters. In a ``.npz`` the
array ``sequences`` is (R, T) or (R, T, C) numbers, ``lengths`` (R,) says how many of the T steps
count (all, where it is missing) and ``labels`` is (R,) or (R, T), whole numbers or texts.
"""

from __future__ import annotations

import os
from collections.abc import Callable
from typing import Any, NamedTuple

import numpy as np

from rnnkit.data.readers.arrays import read_arrays
from rnnkit.data.readers.json_lines import numbered_objects
from rnnkit.data.readers.table import parse_numbers, read_text_table
from rnnkit.data.readers.text import read_text
from rnnkit.errors import ArgumentError

_INPUTS = ("text", "tokens", "sequence")
_OUTPUTS = ("label", "labels")


class Labelled(NamedTuple):
    """R sequences with their labels.

    Attributes:
        kind: "text", "tokens" or "sequence".
        sequences: texts; lists of texts; or arrays, float64 (T_i, C) or int64 (T_i,).
        labels: texts, or lists of texts where there is one for each step.
        per_step: which of the two.
    """

    kind: str
    sequences: list[Any]
    labels: list[Any]
    per_step: bool


def read_labelled(path: str | os.PathLike[str], *, labels: bool = True) -> Labelled:
    """The labelled sequences of a file, by its ending: ``.csv``, ``.tsv``, ``.jsonl``, ``.npz``.

    Without ``labels`` only the inputs are read, and the labels are an empty list, whether the file
    has any or not; the lines of a ``.txt`` then are texts.

    Whole numbers alone, without C, come as int64 ids (T_i,), other numbers as float64 (T_i, C),
    C = 1 where the file has lists of plain numbers; labels that are numbers come as their digits.

    Raises ArgumentError, naming the file and the line or row, when an input or label is missing,
    empty, of another kind than the first one's or not as described above.
    """
    name = os.fspath(path)
    ending = os.path.splitext(name)[1].lower()
    outputs = _OUTPUTS if labels else ()
    if ending == ".npz":
        return _from_arrays(name, labels)
    if ending in (".jsonl", ".ndjson"):
        examples = numbered_objects(name)
        if not examples:
            raise ArgumentError(f"{name}: no examples in it")
        return _from_examples(examples, _json_input, _json_labels, outputs)
    if ending == ".txt" and not labels:
        lines = read_text(name).removesuffix("\n").split("\n")
        examples = [(f"{name}:{number}", {"text": line}) for number, line in enumerate(lines, 1)]
        return _from_examples(examples, _json_input, _json_labels, ())
    if ending in (".csv", ".tsv"):
        table = read_text_table(name, header=True, delimiter="\t" if ending == ".tsv" else None)
        assert table.names is not None
        for column in (*_INPUTS, *_OUTPUTS):
            if table.names.count(column) > 1:
                raise ArgumentError(f"{name}: several columns {column!r}")
        examples = [
            (f"{name}:{line}", dict(zip(table.names, row, strict=True)))
            for line, row in zip(table.lines, table.rows, strict=True)
        ]
        if not examples:
            raise ArgumentError(f"{name}: no rows below the header")
        return _from_examples(examples, _cell_input, _cell_labels, outputs)
    kinds = ".csv, .tsv, .jsonl or .npz" if labels else ".csv, .tsv, .jsonl, .npz or .txt"
    raise ArgumentError(f"{name}: expected a {kinds} file")


def _from_examples(
    examples: list[tuple[str, dict[str, Any]]],
    read_input: Callable[[str, Any, str], Any],
    read_labels: Callable[[str, Any, str], Any],
    outputs: tuple[str, ...],
) -> Labelled:
    where, first = examples[0]
    kind = _one_of(first, _INPUTS, where)
    output = _one_of(first, outputs, where) if outputs else None
    sequences, labels = [], []
    for where, fields in examples:
        for key in (kind, output):
            if key is not None and key not in fields:
                raise ArgumentError(f"{where}: no {key!r}, which the first example has")
        sequence = read_input(kind, fields[kind], f"{where}: {kind!r}")
        if not len(sequence):
            raise ArgumentError(f"{where}: {kind!r} is empty")
        sequences.append(sequence)
        if output is None:
            continue
        label = read_labels(output, fields[output], f"{where}: {output!r}")
        if output == "labels" and len(label) != len(sequence):
            raise ArgumentError(
                f"{where}: expected {len(sequence)} labels, one for each step, got {len(label)}"
            )
        labels.append(label)
    if kind == "sequence":
        sequences = _numbers_alike(sequences, [where for where, _ in examples])
    return Labelled(kind, sequences, labels, output == "labels")


def _one_of(fields: dict[str, Any], names: tuple[str, ...], where: str) -> str:
    found = [name for name in names if name in fields]
    if len(found) != 1:
        raise ArgumentError(
            f"{where}: expected one of {', '.join(names)}, "
            f"got {', '.join(found or fields) or 'nothing'}"
        )
    return found[0]


def _cell_input(kind: str, cell: str, where: str) -> Any:
    if kind == "text":
        return cell
    return cell.split() if kind == "tokens" else np.array(parse_numbers(cell, where))


def _cell_labels(output: str, cell: str, where: str) -> Any:
    if output == "labels":
        return cell.split()
    if not cell.strip():
        raise ArgumentError(f"{where} is empty")
    return cell.strip()


def _json_input(kind: str, value: Any, where: str) -> Any:
    if kind == "text":
        if not isinstance(value, str):
            raise ArgumentError(f"{where}: expected a text, got {value!r:.40}")
        return value
    if not isinstance(value, list):
        raise ArgumentError(f"{where}: expected a list, got {value!r:.40}")
    if kind == "tokens":
        if not all(isinstance(token, str) and token for token in value):
            raise ArgumentError(f"{where}: expected texts that are not empty")
        return value
    return _json_numbers(value, where)


def _json_numbers(value: list[Any], where: str) -> np.ndarray:
    steps = value if value and isinstance(value[0], list) else [[number] for number in value]
    for place, step in enumerate(steps):
        if not isinstance(step, list) or len(step) != len(steps[0]) or not step:
            expected = len(steps[0]) or "some"
            raise ArgumentError(f"{where}: step {place}: expected {expected} numbers")
        if not all(isinstance(n, int | float) and not isinstance(n, bool) for n in step):
            raise ArgumentError(f"{where}: step {place}: expected numbers, got {step!r:.40}")
    try:
        array = np.array(steps, np.float64)
    except OverflowError:
        array = np.array([np.inf])
    if not np.isfinite(array).all():
        raise ArgumentError(f"{where}: a number is too large")
    return array if steps is value else array.reshape(-1)


def _json_labels(output: str, value: Any, where: str) -> Any:
    if output == "label":
        return _label(value, where)
    if not isinstance(value, list):
        raise ArgumentError(f"{where}: expected a list of labels, got {value!r:.40}")
    return [_label(label, where) for label in value]


def _label(value: Any, where: str) -> str:
    if isinstance(value, bool) or not isinstance(value, str | int) or value == "":
        raise ArgumentError(f"{where}: expected a text or a whole number, got {value!r:.40}")
    return str(value)


def _numbers_alike(sequences: list[np.ndarray], places: list[str]) -> list[np.ndarray]:
    """All as (T, C) of one C; or, when all are plain lists of whole numbers, as ids."""
    for where, array in zip(places, sequences, strict=True):
        if array.shape[1:] != sequences[0].shape[1:]:
            raise ArgumentError(
                f"{where}: expected steps of shape {sequences[0].shape[1:]} as in the first "
                f"example, got {array.shape[1:]}"
            )
    if sequences[0].ndim == 2:
        return sequences
    if all(map(all_whole, sequences)):
        return [array.astype(np.int64) for array in sequences]
    return [array[:, None] for array in sequences]


def all_whole(numbers: np.ndarray) -> bool:
    """Whether these float64 are whole numbers, none so large that it may stand for another."""
    return bool((numbers == np.round(numbers)).all() and (abs(numbers) < 2**53).all())


def _from_arrays(name: str, labelled: bool) -> Labelled:
    arrays = read_arrays(name, kinds="biufU")
    for key in ("sequences", "labels")[: 1 + labelled]:
        if key not in arrays:
            raise ArgumentError(f"{name}: no array {key!r}; it has {', '.join(arrays) or 'none'}")
    sequences = arrays["sequences"]
    if sequences.ndim not in (2, 3) or sequences.dtype.kind == "U" or not sequences.size:
        raise ArgumentError(
            f"{name}: sequences: expected numbers (R, T) or (R, T, C), got {sequences.dtype} "
            f"{sequences.shape}"
        )
    R, T = sequences.shape[:2]
    lengths = arrays.get("lengths", np.full(R, T))
    if lengths.shape != (R,) or lengths.dtype.kind not in "iu":
        raise ArgumentError(
            f"{name}: lengths: expected whole numbers ({R},), got {lengths.dtype} {lengths.shape}"
        )
    if lengths.min() < 1 or lengths.max() > T:
        raise ArgumentError(f"{name}: lengths: expected 1 to {T}, got {lengths.min()} to "
                            f"{lengths.max()}")
    labels = arrays["labels"] if labelled else np.zeros(R, np.int64)
    if labels.dtype.kind not in "iuU" or labels.shape not in ((R,), (R, T)):
        raise ArgumentError(
            f"{name}: labels: expected whole numbers or texts ({R},) or ({R}, {T}), got "
            f"{labels.dtype} {labels.shape}"
        )
    empty = labels == "" if labels.dtype.kind == "U" else np.zeros(labels.shape, bool)
    if labels.ndim == 2:
        empty &= np.arange(T) < lengths[:, None]
    if empty.any():
        raise ArgumentError(f"{name}: labels: {np.argwhere(empty)[0].tolist()} is empty")
    if sequences.ndim == 3 or sequences.dtype.kind == "f":
        sequences = sequences.reshape(R, T, -1).astype(np.float64)
    elif sequences.max() > np.iinfo(np.int64).max:
        raise ArgumentError(f"{name}: sequences: {sequences.max()} is too large a number")
    else:
        sequences = sequences.astype(np.int64)
    per_step = labels.ndim == 2
    return Labelled(
        "sequence",
        [row[:length] for row, length in zip(sequences, lengths, strict=True)],
        [
            [str(label) for label in row[:length]] if per_step else str(row)
            for row, length in zip(labels, lengths, strict=True)
        ]
        if labelled
        else [],
        per_step,
    )
