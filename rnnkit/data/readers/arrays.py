"""NumPy's files, from anybody: checked from their headers before anything is allocated.

A ``.npy`` header says which dtype and shape follow, a ``.npz`` directory how large its members
are. Both may lie. What they say is held against what is there and against a limit first, and
objects, which NumPy keeps as pickles that run code when they are read, are refused.
"""

from __future__ import annotations

import math
import os
import struct
import zipfile
import zlib
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from typing import BinaryIO, NamedTuple

import numpy as np
from numpy.lib import format as npy

from rnnkit.checks import (
    check_bool,
    check_integer,
    check_list,
    check_number,
    fits_an_array,
)
from rnnkit.data.readers.text import opened
from rnnkit.errors import ArgumentError

LIMIT = 4 << 30  # bytes of one file's arrays, unless told otherwise
_MOST_MEMBERS = 10_000
_DAMAGE = (
    zipfile.BadZipFile,
    zlib.error,
    struct.error,
    EOFError,
    ValueError,  # of zipfile, for member offsets that are nonsense
    NotImplementedError,  # for features of archives that no Python knows
    RuntimeError,  # for members that are encrypted
    OSError,
)


class _Header(NamedTuple):
    dtype: np.dtype
    shape: tuple[int, ...]
    fortran: bool
    length: int  # bytes of the header itself

    @property
    def bytes(self) -> int:
        return math.prod(self.shape) * self.dtype.itemsize


def read_array(
    path: str | os.PathLike[str],
    *,
    kinds: str = "biuf",
    shape: Sequence[int | None] | None = None,
    finite: bool = True,
    limit: int = LIMIT,
) -> np.ndarray:
    """The array of a ``.npy`` file, in memory and in the machine's byte order.

    Args:
        kinds: the dtype kinds to accept: b bool, i and u integers, f floating, U text.
        shape: sizes the array must have, None for any; by default any shape.
        finite: whether to refuse NaN and infinity.
        limit: the most bytes to allocate.

    Raises:
        ArgumentError: in one line that names the file, when it is missing, is no such file, is
            truncated or larger than its header says, or holds something that is not accepted.
            Another argument that makes no sense is refused by its name.
    """
    _check_accepted(kinds, finite, limit)
    if shape is not None:
        shape = [
            None if size is None else check_integer(f"shape[{i}]", size, 0)
            for i, size in enumerate(check_list("shape", shape, "sizes, or None for any"))
        ]
    name = os.fspath(path)
    with opened(name) as file:
        array = _read(file, name, os.fstat(file.fileno()).st_size, kinds, limit)
    return _checked(array, name, shape, finite)


def read_arrays(
    path: str | os.PathLike[str],
    *,
    kinds: str = "biuf",
    finite: bool = True,
    limit: int = LIMIT,
) -> dict[str, np.ndarray]:
    """The arrays of a ``.npz`` file by name; arguments and errors as of ``read_array``.

    ``limit`` holds for all arrays together, and for what they unpack to.
    """
    _check_accepted(kinds, finite, limit)
    name = os.fspath(path)
    arrays: dict[str, np.ndarray] = {}
    with opened(name) as file, _damage_named(name), zipfile.ZipFile(file) as archive:
        members = archive.infolist()
        if len(members) > _MOST_MEMBERS:
            raise ArgumentError(f"{name}: {len(members)} arrays; expected at most {_MOST_MEMBERS}")
        size = sum(member.file_size for member in members)
        if size > limit:
            raise ArgumentError(f"{name}: unpacks to {size} bytes; the limit is {limit}")
        for member in members:
            key = member.filename.removesuffix(".npy")
            if key == member.filename or key in arrays:
                raise ArgumentError(f"{name}: damaged: unexpected member {member.filename!r}")
            if member.compress_type not in (zipfile.ZIP_STORED, zipfile.ZIP_DEFLATED):
                raise ArgumentError(f"{name}: damaged: compression that NumPy does not write")
            with archive.open(member) as packed:
                own = f"{name}: array {key!r}"
                array = _read(packed, own, member.file_size, kinds, limit)  # type: ignore[arg-type]
                if packed.read(1):  # reaching the end is what checks the member's CRC
                    raise ArgumentError(f"{own}: damaged: longer than the directory says")
                arrays[key] = _checked(array, own, None, finite)
    return arrays


def map_array(path: str | os.PathLike[str], *, kinds: str = "biuf") -> np.ndarray:
    """The array of a ``.npy`` file, mapped read-only: read from the disk where it is touched.

    Header and size are checked as by ``read_array``; values are not.
    """
    _check_accepted(kinds)
    name = os.fspath(path)
    with opened(name) as file:
        header = _read_header(file, name)
        _check(header, name, os.fstat(file.fileno()).st_size, kinds, None)
        if not header.bytes:
            return np.zeros(header.shape, header.dtype)
        order = "F" if header.fortran else "C"
        mapped = np.memmap(file, header.dtype, "r", header.length, header.shape, order)  # type: ignore[call-overload]
        return np.asarray(mapped)


def _check_accepted(kinds: str, finite: bool = True, limit: int = LIMIT) -> None:
    if not isinstance(kinds, str) or not set(kinds) <= set("biufU"):
        raise ArgumentError(f"kinds: expected some of the letters of 'biufU', got {kinds!r}")
    check_bool("finite", finite)
    check_number("limit", limit)


def _read(file: BinaryIO, name: str, size: int, kinds: str, limit: int) -> np.ndarray:
    header = _read_header(file, name)
    _check(header, name, size, kinds, limit)
    array = np.empty(math.prod(header.shape), header.dtype)
    memory = memoryview(array.view(np.uint8).data)
    begin = 0
    while begin < len(memory):
        piece = file.read(min(1 << 20, len(memory) - begin))
        if not piece:
            raise ArgumentError(f"{name}: truncated: {len(memory) - begin} bytes are missing")
        memory[begin : begin + len(piece)] = piece
        begin += len(piece)
    array = array.reshape(header.shape, order="F" if header.fortran else "C")
    native = header.dtype.newbyteorder("=")
    return np.ascontiguousarray(array, native).reshape(header.shape)


def _read_header(file: BinaryIO, name: str) -> _Header:
    try:
        begin = file.tell()
        version = npy.read_magic(file)
        if version not in ((1, 0), (2, 0)):
            raise ArgumentError(f"{name}: .npy version {version}; expected 1.0 or 2.0")
        read = npy.read_array_header_1_0 if version == (1, 0) else npy.read_array_header_2_0
        shape, fortran, dtype = read(file)
        return _Header(dtype, shape, fortran, file.tell() - begin)
    except ArgumentError:
        raise
    except Exception as error:  # the header is a Python literal: it can fail in any of its ways
        reason = " ".join(str(error).split())[:100] or type(error).__name__
        raise ArgumentError(f"{name}: not an .npy array, or damaged: {reason}") from None


def _check(header: _Header, name: str, size: int, kinds: str, limit: int | None) -> None:
    """Hold a header against what is accepted and against the bytes that are there."""
    dtype, shape = header.dtype, header.shape
    if dtype.hasobject:
        raise ArgumentError(f"{name}: holds Python objects, which are not read; save plain arrays")
    if dtype.kind not in kinds or dtype.names or dtype.shape or not dtype.itemsize:
        raise ArgumentError(f"{name}: dtype {dtype} is not accepted here")
    vast = 0 in shape and not fits_an_array(shape, dtype.itemsize)
    if len(shape) > 32 or any(n < 0 for n in shape) or vast:
        raise ArgumentError(f"{name}: damaged: shape {shape}")
    if limit is not None and header.bytes > limit:
        raise ArgumentError(f"{name}: {shape} takes {header.bytes} bytes; the limit is {limit}")
    there = size - header.length
    if header.bytes != there:
        what = "truncated" if there < header.bytes else "damaged"
        raise ArgumentError(
            f"{name}: {what}: {shape} of {dtype} takes {header.bytes} bytes, {there} are there"
        )


def _checked(
    array: np.ndarray, name: str, shape: Sequence[int | None] | None, finite: bool
) -> np.ndarray:
    if shape is not None and (
        array.ndim != len(shape)
        or any(n not in (None, m) for n, m in zip(shape, array.shape, strict=True))
    ):
        wanted = ", ".join("any" if n is None else str(n) for n in shape)
        raise ArgumentError(f"{name}: expected shape ({wanted}), got {array.shape}")
    if finite and array.dtype.kind == "f" and not np.isfinite(array).all():
        place = tuple(int(i) for i in np.argwhere(~np.isfinite(array))[0])
        raise ArgumentError(f"{name}: not a finite number at {list(place)}: {array[place]}")
    if array.dtype.kind == "U":
        points = np.atleast_1d(array).view(np.uint32)
        if ((points > 0x10FFFF) | ((points >= 0xD800) & (points < 0xE000))).any():
            raise ArgumentError(f"{name}: damaged: it holds numbers that are no characters")
    return array


@contextmanager
def _damage_named(name: str) -> Iterator[None]:
    try:
        yield
    except ArgumentError:
        raise
    except _DAMAGE as error:
        reason = " ".join(str(error).split())[:100] or type(error).__name__
        raise ArgumentError(f"{name}: not an .npz archive, or damaged: {reason}") from None
