"""Corpora larger than memory: tokenised once, then mapped from the disk."""

from __future__ import annotations

import contextlib
import hashlib
import json
import os
from collections.abc import Iterator
from typing import Any, BinaryIO

import numpy as np
from numpy.lib import format as npy

from rnnkit.checks import check_size
from rnnkit.data.atomic import atomic_file, write_atomically
from rnnkit.data.readers.arrays import map_array
from rnnkit.data.readers.text import PIECE, opened, stream_text
from rnnkit.data.vocabulary import Codec
from rnnkit.errors import ArgumentError

_FORMAT = 1
_SAMPLE = 1 << 20  # bytes hashed at each end of a file
_LARGEST_RECORD = 1 << 16


class MappedCorpus:
    """The ids of a text file of any size, read from the disk where they are touched.

    The first ``open`` tokenises the file piece by piece and writes the ids to a ``.npy`` file
    beside a small JSON record, both atomically; later ones find them. They are made again when the
    text's size, time of change, beginning or end is another than the record says, or the ids' file
    has another size, beginning or end than was written. A vocabulary has files of its own, so
    runs with different ones do not undo each other's.

    A batch of ``ContinuousBatches`` reads its own streams' stretches and no more.

    Attributes:
        ids: (L,) uint16, or int32 for more than 65,536 ids; read-only, for ``ContinuousBatches``
            and ``split_by_position``.
        path: the text.
        cache: the file of the ids.
        rebuilt: whether this ``open`` had to tokenise.
    """

    def __init__(self, ids: np.ndarray, path: str, cache: str, rebuilt: bool) -> None:
        """``open`` makes them."""
        self.ids = ids
        self.path = path
        self.cache = cache
        self.rebuilt = rebuilt

    def __len__(self) -> int:
        """How many ids there are."""
        return len(self.ids)

    def __repr__(self) -> str:
        return f"MappedCorpus({self.path!r}, {len(self)} ids of {self.ids.dtype})"

    @classmethod
    def open(
        cls,
        path: str | os.PathLike[str],
        vocabulary: Codec,
        *,
        folder: str | os.PathLike[str] | None = None,
        piece: int = PIECE,
    ) -> MappedCorpus:
        """The ids of the UTF-8 text at ``path``.

        Args:
            vocabulary: of characters or words; ``stream_text`` goes over a large file to make one.
            folder: where the ids are kept; beside the text by default.
            piece: bytes of text in memory at a time.

        Raises:
            ArgumentError: the text is missing, empty or no UTF-8 text, as ``read_text`` says it;
                ``piece`` is no positive integer.
            OSError: the ids cannot be written.
        """
        name = os.fspath(path)
        piece = check_size("piece", piece)
        described = json.dumps(vocabulary.record(), sort_keys=True).encode()
        digest = hashlib.sha256(described).hexdigest()
        with opened(name) as file:
            source = _describe(file)
        parent = os.fspath(folder) if folder is not None else os.path.dirname(name)
        base = os.path.join(parent, f"{os.path.basename(name)}.{digest[:12]}")
        cache, record = base + ".npy", base + ".json"
        wanted = {"format": _FORMAT, "vocabulary": digest, "source": source}
        ids = _open_cache(cache, record, wanted)
        if ids is not None:
            return cls(ids, name, cache, False)
        # Old ids under a new record, or the reverse, must never be taken for a whole.
        with contextlib.suppress(FileNotFoundError):
            os.unlink(record)
        os.makedirs(parent or ".", exist_ok=True)
        dtype = np.dtype(np.uint16 if len(vocabulary) <= 1 << 16 else np.int32)
        with atomic_file(cache) as file:
            _write_ids(file, dtype, (vocabulary.encode(text) for text in _pieces(name, piece)))
        with opened(cache) as file:
            wanted["ids"] = {"dtype": dtype.name, **_describe(file, timed=False)}
        with opened(name) as file:
            if _describe(file) != source:
                raise ArgumentError(f"{name}: changed while it was read; try again")
        write_atomically(record, json.dumps(wanted, indent=2).encode() + b"\n")
        return cls(map_array(cache, kinds="iu"), name, cache, True)


def _pieces(path: str, piece: int) -> Iterator[str]:
    """The text in pieces cut after white space, so that no word is cut in two; a stretch of more
    than ``piece`` characters without any is cut all the same."""
    held = ""
    for text in stream_text(path, piece):
        text = held + text
        cut = len(text)
        while cut and not text[cut - 1].isspace():
            cut -= 1
        if not cut and len(text) > piece:
            cut = len(text)
        held = text[cut:]
        if cut:
            yield text[:cut]
    if held:
        yield held


def _write_ids(file: BinaryIO, dtype: np.dtype, pieces: Iterator[np.ndarray]) -> None:
    """A ``.npy`` file of the pieces, one after the other; the header is set right at the end."""
    _write_header(file, dtype, 0)
    begin, count = file.tell(), 0
    for ids in pieces:
        file.write(ids.astype(dtype).tobytes())
        count += len(ids)
    file.seek(0)
    _write_header(file, dtype, count)
    # NumPy leaves room in a header for the first axis to grow.
    assert file.tell() == begin
    file.seek(0, os.SEEK_END)


def _write_header(file: BinaryIO, dtype: np.dtype, count: int) -> None:
    descr = npy.dtype_to_descr(dtype)
    header = {"descr": descr, "fortran_order": False, "shape": (count,)}
    npy.write_array_header_1_0(file, header)


def _open_cache(cache: str, record: str, wanted: dict[str, Any]) -> np.ndarray | None:
    """The ids of a cache that is whole and of the wanted text; None where it is not."""
    try:
        with open(record, "rb") as file:
            found = json.loads(file.read(_LARGEST_RECORD))
        if not isinstance(found, dict) or any(found.get(key) != wanted[key] for key in wanted):
            return None
        with open(cache, "rb") as file:
            now = _describe(file, timed=False)
        ids = map_array(cache, kinds="iu")
    except (OSError, ValueError, RecursionError):  # an ArgumentError is a ValueError
        return None
    if ids.ndim != 1 or found.get("ids") != {"dtype": ids.dtype.name, **now}:
        return None
    return ids


def _describe(file: BinaryIO, timed: bool = True) -> dict[str, Any]:
    """What tells a file from another without reading it whole."""
    status = os.fstat(file.fileno())
    ends = hashlib.sha256(file.read(_SAMPLE))
    file.seek(max(0, status.st_size - _SAMPLE))
    ends.update(file.read(_SAMPLE))
    found = {"size": status.st_size, "ends": ends.hexdigest()}
    return {**found, "mtime": status.st_mtime_ns} if timed else found
