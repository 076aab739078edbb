"""The file from which a run goes on as if nothing had happened.

Everything is in one file, so that it is from one moment: arrays in the safetensors format, and the
rest as JSON among its notes, or in an array of its bytes where it is long. It is replaced in one
rename, so the last good one always survives.
"""

from __future__ import annotations

import contextlib
import errno
import fcntl
import json
import os
import time
from collections.abc import Iterator, Mapping
from typing import Any

import numpy as np

from rnnkit.checks import check_number
from rnnkit.data.atomic import remove_partial_files, write_atomically
from rnnkit.train.errors import RunError
from rnnkit.train.nest import pack, unpack
from rnnkit.train.tensor_file import NOTES, TensorFile, encode

NAME = "checkpoint.safetensors"

_FORMAT = 1
_NOTE = "rnnkit"
# Notes are part of the header, whose size is limited; that of an array is not.
_LONGEST_NOTE = 1 << 20


class Checkpoints:
    """Where and how often a trainer saves all it needs to go on.

    It does so when the time or the number of steps has passed, after each validation that is the
    best so far, on Ctrl-C and at the end.
    """

    def __init__(
        self,
        folder: str | os.PathLike[str],
        *,
        every_seconds: float | None = 30.0,
        every_steps: int | None = None,
    ) -> None:
        """``folder`` is made where it is missing. Raises ArgumentError for an interval that is not
        positive; None switches one off."""
        for name, value in (("every_seconds", every_seconds), ("every_steps", every_steps)):
            if value is not None:
                check_number(name, value, above_low=True)
        self.folder = os.fspath(folder)
        self.path = os.path.join(self.folder, NAME)
        self.every_seconds = every_seconds
        self.every_steps = every_steps
        self._saved_at = time.monotonic()
        self._saved_step = 0

    def due(self, step: int) -> bool:
        """Whether one is to be saved after step number ``step``."""
        if self.every_steps is not None and step - self._saved_step >= self.every_steps:
            return True
        passed = time.monotonic() - self._saved_at
        return self.every_seconds is not None and passed >= self.every_seconds

    def begin(self, step: int) -> None:
        """Count from step number ``step`` and from now."""
        self._saved_at = time.monotonic()
        self._saved_step = step

    def save(self, step: int, nest: Mapping[str, Any]) -> None:
        """Replace the checkpoint by ``nest``. On an error the one before is still there.

        Raises ArgumentError naming what cannot be saved, or when there are too many arrays;
        DTypeError for an array of a dtype that the file cannot hold; OSError.
        """
        packed, arrays = pack({"format": _FORMAT, **nest}, taken=(_NOTE, NOTES))
        text = json.dumps(packed)
        notes = {_NOTE: text}
        if len(text) > _LONGEST_NOTE:
            arrays[_NOTE] = np.frombuffer(text.encode(), np.uint8)
            notes = {}
        write_atomically(self.path, encode(arrays, notes))
        self.begin(step)

    @contextlib.contextmanager
    def sole_use(self) -> Iterator[None]:
        """Make the folder, tidy it, and keep other trainers out of it for as long as this runs.

        Raises RunError when one is already there. A process that is killed leaves no lock behind.
        """
        os.makedirs(self.folder, exist_ok=True)
        handle = os.open(self.folder, os.O_RDONLY)
        try:
            try:
                fcntl.flock(handle, fcntl.LOCK_EX | fcntl.LOCK_NB)
            except OSError as error:
                # Some file systems have no locks; training does without.
                if error.errno in (errno.EWOULDBLOCK, errno.EACCES):
                    raise RunError(f"{self.folder}: another process is training there") from None
            remove_partial_files(self.folder)
            yield
        finally:
            os.close(handle)


def find_checkpoint(path: str | os.PathLike[str]) -> str | None:
    """The checkpoint that ``path`` is, or that is in the folder ``path``; None if it has none yet.

    Raises RunError when there is nothing at ``path``.
    """
    name = os.fspath(path)
    if os.path.isdir(name):
        name = os.path.join(name, NAME)
        return name if os.path.exists(name) else None
    if not os.path.exists(name):
        raise RunError(f"{name}: no such run folder or checkpoint")
    return name


def read_checkpoint(path: str, model: Mapping[str, np.ndarray]) -> dict[str, Any]:
    """What `Checkpoints.save` was given, for a model whose ``state_dict()`` is ``model``.

    The whole file is checked before any of its arrays is allocated. Raises RunError, in one line
    that names the file, when it is damaged or that of another model.
    """
    with TensorFile(path) as file:
        if not file.has_checksum or (_NOTE not in file.notes and _NOTE not in file.entries):
            raise RunError(f"{path}: not a checkpoint")
        _check_model(path, file, model)
        try:
            note = file.notes.get(_NOTE)
            packed = json.loads(file.read(_NOTE).tobytes() if note is None else note)
            if not isinstance(packed, dict) or packed.get("format") != _FORMAT:
                raise RunError(f"{path}: expected a checkpoint of format {_FORMAT}")
            nest: dict[str, Any] = unpack(packed, file.read)
        except (ValueError, RecursionError) as error:
            if isinstance(error, RunError):
                raise
            raise RunError(f"{path}: damaged: {error}") from None
        except KeyError as error:
            raise RunError(f"{path}: damaged: there is no array {error}") from None
    return nest


def _check_model(path: str, file: TensorFile, model: Mapping[str, np.ndarray]) -> None:
    saved = {
        name.removeprefix("model/"): entry
        for name, entry in file.entries.items()
        if name.startswith("model/")
    }
    for name in sorted(saved.keys() ^ model.keys()):
        what = "lacks" if name in model else "has an unknown"
        raise RunError(f"{path}: of another model: it {what} {name}")
    for name, array in model.items():
        entry = saved[name]
        if entry.shape != array.shape or entry.dtype != array.dtype:
            raise RunError(
                f"{path}: of another model: {name}: expected {array.dtype} {array.shape}, "
                f"got {entry.dtype} {entry.shape}"
            )
