"""Named arrays and notes in one file, in the safetensors format; nothing in it is believed.

The format (https://github.com/huggingface/safetensors): 8 bytes with the length of the header,
little-endian; the header, JSON: for each array its dtype, shape and place, and under
"__metadata__" the notes, texts by name; then the arrays, in C order, little-endian, without gaps.

A checksum is the first of the notes, so that damage that leaves the form intact is found as well:
it is over all bytes that come after it. Files of other programs have none and are read without.
"""

from __future__ import annotations

import json
import math
import os
import zlib
from collections.abc import Iterable, Iterator, Mapping
from typing import Any, NamedTuple

import numpy as np

from rnnkit.checks import fits_an_array
from rnnkit.errors import ArgumentError, DTypeError
from rnnkit.train.errors import RunError

_DTYPES: dict[str, np.dtype[Any]] = {
    "F64": np.dtype("<f8"),
    "F32": np.dtype("<f4"),
    "F16": np.dtype("<f2"),
    "I64": np.dtype("<i8"),
    "I32": np.dtype("<i4"),
    "I16": np.dtype("<i2"),
    "I8": np.dtype("i1"),
    "U64": np.dtype("<u8"),
    "U32": np.dtype("<u4"),
    "U16": np.dtype("<u2"),
    "U8": np.dtype("u1"),
    "BOOL": np.dtype("?"),
}
_NAMES = {dtype: name for name, dtype in _DTYPES.items()}
NOTES = "__metadata__"  # no array can have this name
_CHECKSUM = "crc32"
# What stands before the checksum, and how long that is.
_OPENING = json.dumps({NOTES: {_CHECKSUM: ""}}).encode()[:-3]
_DIGITS = 8
_HEADER_LIMIT = 16 << 20
_BLOCK = 1 << 20


def encode(arrays: Mapping[str, np.ndarray], notes: Mapping[str, str]) -> list[Any]:
    """The buffers that make the file, in order.

    Arrays with larger items come first, so that each lies on a multiple of its item's size. Raises
    DTypeError naming an array it cannot hold, and ArgumentError for a header that `TensorFile`
    would refuse: notes that are too long, or too many arrays.
    """
    entries: dict[str, Any] = {}
    buffers: list[Any] = []
    end = 0
    for name, array in sorted(arrays.items(), key=lambda item: (-item[1].itemsize, item[0])):
        dtype = array.dtype.newbyteorder("<")
        if dtype not in _NAMES:
            raise DTypeError(f"{name}: {array.dtype} cannot be saved")
        begin, end = end, end + array.nbytes
        entries[name] = {
            "dtype": _NAMES[dtype], "shape": list(array.shape), "data_offsets": [begin, end]
        }  # fmt: skip
        # The memory of an array is not in C order whatever its strides say.
        buffers.append(np.ascontiguousarray(array, dtype).reshape(-1).view(np.uint8).data)
    unknown = "0" * _DIGITS
    header = json.dumps({NOTES: {_CHECKSUM: unknown, **notes}, **entries}).encode()
    header += b" " * (-len(header) % 8)
    rest = header[len(_OPENING) + _DIGITS :]
    header = _OPENING + _checksum(rest, buffers).encode() + rest
    if len(header) > _HEADER_LIMIT:
        of_notes = sum(map(len, notes.values()))
        raise ArgumentError(
            f"arrays, notes: expected a header of at most {_HEADER_LIMIT} bytes, got {len(header)} "
            f"with the entries of {len(entries)} arrays and notes of {of_notes} characters"
        )
    return [len(header).to_bytes(8, "little"), header, *buffers]


class Entry(NamedTuple):
    """An array of a file: what it is and where it begins."""

    dtype: np.dtype
    shape: tuple[int, ...]
    begin: int


class TensorFile:
    """A file that was checked: ``entries`` by name, ``notes``, and ``read`` for one array.

    A context manager. Nothing is allocated for an array before it is read, and a file holds as
    many bytes as its arrays claim.
    """

    def __init__(self, path: str) -> None:
        """Raises RunError naming the file and what is wrong with it; OSError if it cannot be read.
        """
        self.path = path
        self.entries: dict[str, Entry] = {}
        self.notes: dict[str, str] = {}
        self._file = open(path, "rb")  # noqa: SIM115 - closed in __exit__
        try:
            self._check()
        except BaseException:
            self._file.close()
            raise

    def __enter__(self) -> TensorFile:
        return self

    def __exit__(self, *_: object) -> None:
        self._file.close()

    def read(self, name: str) -> np.ndarray:
        """A new array with what the file holds under ``name``."""
        entry = self.entries[name]
        try:
            array = np.empty(entry.shape, entry.dtype)
        except MemoryError:
            raise RunError(
                f"{self.path}: {name}: no memory for an array of shape {entry.shape}"
            ) from None
        raw = array.reshape(-1).view(np.uint8)
        self._file.seek(entry.begin)
        if self._file.readinto(raw.data) != raw.size:
            raise self._damaged("it ends too early")
        if entry.dtype == np.bool_ and raw.size and raw.max() > 1:
            raise self._damaged(f"{name}: a boolean that is neither 0 nor 1")
        return array

    def _damaged(self, what: str) -> RunError:
        return RunError(f"{self.path}: damaged: {what}")

    def _check(self) -> None:
        size = os.fstat(self._file.fileno()).st_size
        length = int.from_bytes(self._file.read(8), "little")
        if size < 8 or length > size - 8:
            raise self._damaged("it ends too early")
        if length > _HEADER_LIMIT:
            raise self._damaged(f"a header of {length} bytes")
        raw = self._file.read(length)
        header = self._header(raw)
        notes = header.pop(NOTES, {})
        if not isinstance(notes, dict) or not all(isinstance(n, str) for n in notes.values()):
            raise self._damaged(f"{NOTES}: expected texts by name")
        data = 8 + length
        claimed = self._claims(header)
        if claimed != size - data:
            raise self._damaged(f"its arrays need {claimed} bytes, it holds {size - data}")
        self.entries = {
            name: Entry(
                _DTYPES[entry["dtype"]], tuple(entry["shape"]), data + entry["data_offsets"][0]
            )
            for name, entry in header.items()
        }
        checksum = notes.pop(_CHECKSUM, None)
        if checksum is not None:
            right = _checksum(raw[len(_OPENING) + _DIGITS :], self._blocks(data))
            if checksum != right or not raw.startswith(_OPENING + right.encode()):
                raise self._damaged("its checksum is wrong")
        self.has_checksum = checksum is not None
        self.notes = notes

    def _header(self, raw: bytes) -> dict[str, Any]:
        try:
            header = json.loads(raw, object_pairs_hook=_without_repeats)
        except (ValueError, RecursionError) as error:
            raise self._damaged(f"its header is not JSON: {error}") from None
        if not isinstance(header, dict):
            raise self._damaged("its header is not a JSON object")
        return header

    def _claims(self, header: dict[str, Any]) -> int:
        """Check every array's entry; return how many bytes they have together."""
        places = []
        for name, entry in header.items():
            if not isinstance(entry, dict) or set(entry) != {"dtype", "shape", "data_offsets"}:
                raise self._damaged(f"{name}: expected dtype, shape and data_offsets")
            dtype, shape, offsets = entry["dtype"], entry["shape"], entry["data_offsets"]
            if not isinstance(dtype, str) or dtype not in _DTYPES:
                raise self._damaged(f"{name}: dtype {dtype!r} is not supported")
            if not _are_sizes(shape) or len(shape) > 32:
                raise self._damaged(f"{name}: shape {shape!r}")
            if not _are_sizes(offsets) or len(offsets) != 2:
                raise self._damaged(f"{name}: data_offsets {offsets!r}")
            item = _DTYPES[dtype].itemsize
            if offsets[1] - offsets[0] != item * math.prod(shape):
                raise self._damaged(f"{name}: {dtype} {shape} does not fill {offsets}")
            if not fits_an_array(shape, item):
                raise self._damaged(f"{name}: shape {shape!r}")
            places.append(offsets)
        end = 0
        for begin, after in sorted(places):
            if begin != end:
                raise self._damaged("its arrays overlap or leave gaps")
            end = after
        return end

    def _blocks(self, begin: int) -> Iterator[bytes]:
        self._file.seek(begin)
        while block := self._file.read(_BLOCK):
            yield block


def _are_sizes(values: object) -> bool:
    return isinstance(values, list) and all(
        type(value) is int and 0 <= value < 1 << 62 for value in values
    )


def _without_repeats(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    values = dict(pairs)
    if len(values) != len(pairs):
        raise ValueError("a name that occurs twice")
    return values


def _checksum(header: bytes, buffers: Iterable[Any]) -> str:
    """Of what follows it: the rest of the header, and the arrays."""
    value = zlib.crc32(header)
    for buffer in buffers:
        value = zlib.crc32(buffer, value)
    return f"{value:0{_DIGITS}x}"
