"""Piano rolls: which of the 88 keys sound in each frame of a piece."""

from __future__ import annotations

import os
import re
from collections.abc import Iterable, Sequence
from typing import Any

import numpy as np

from rnnkit.checks import check_list
from rnnkit.data.readers.arrays import read_arrays
from rnnkit.data.readers.json_lines import read_json
from rnnkit.errors import ArgumentError

LOWEST, KEYS = 21, 88  # MIDI number of a piano's lowest key, and how many keys it has


def read_piano_rolls(path: str | os.PathLike[str]) -> dict[str, list[np.ndarray]]:
    """The pieces of a file, (T, 88) float32 of zeros and ones each, by the part they belong to.

    ``.json``: a piece is a list of frames, a frame the list of the MIDI pitches, 21 to 108, that
    sound in it. The file holds an object of named lists of pieces (``train``, ``valid``,
    ``test``), or a list of pieces or one piece, which come under the name "all".

    ``.npz``: an array ``name`` (R, T, 88) of padded pieces with the array ``name_lengths`` (R,)
    is a part; so are the arrays ``name_0``, ``name_1``, ... (T, 88) together; one array (T, 88)
    of another name is a part of one piece. All are zeros and ones.

    Raises ArgumentError that names the file and the place of what is not so.
    """
    name = os.fspath(path)
    ending = os.path.splitext(name)[1].lower()
    if ending == ".json":
        return _from_json(read_json(name), name)
    if ending == ".npz":
        return _from_arrays(read_arrays(name), name)
    raise ArgumentError(f"{name}: expected a .json or .npz file")


def piano_roll(frames: Sequence[Iterable[int]], where: str = "frames") -> np.ndarray:
    """The roll (T, 88), float32, of the MIDI pitches of each frame.

    Raises ArgumentError, beginning with ``where``, for a pitch that is not on the piano, and for
    what is no list of lists.
    """
    frames = check_list(where, frames, "a list of frames")
    roll = np.zeros((len(frames), KEYS), np.float32)
    for t, frame in enumerate(frames):
        for pitch in check_list(f"{where}: frame {t}", frame, "a list of pitches"):
            whole = isinstance(pitch, int | np.integer) and not isinstance(pitch, bool)
            if not whole or not LOWEST <= pitch < LOWEST + KEYS:
                raise ArgumentError(
                    f"{where}: frame {t}: expected pitches from {LOWEST} to {LOWEST + KEYS - 1}, "
                    f"got {pitch!r:.40}"
                )
            roll[t, pitch - LOWEST] = 1.0
    return roll


def roll_pitches(roll: np.ndarray) -> list[list[int]]:
    """The MIDI pitches of each frame of a roll (T, 88): those of keys above one half."""
    keys = np.asarray(roll)
    if keys.ndim != 2 or keys.shape[1] != KEYS:
        raise ArgumentError(f"roll: expected (T, {KEYS}), got {keys.shape}")
    return [[LOWEST + int(key) for key in np.flatnonzero(frame > 0.5)] for frame in keys]


def _from_json(value: Any, name: str) -> dict[str, list[np.ndarray]]:
    if isinstance(value, list):
        value = {"all": value if _depth(value) == 3 else [value]}
    if not isinstance(value, dict) or not value:
        raise ArgumentError(f"{name}: expected an object of lists of pieces, or a list of them")
    parts = {}
    for part, pieces in value.items():
        if not isinstance(pieces, list):
            raise ArgumentError(f"{name}: {part}: expected a list of pieces")
        parts[part] = [
            _piece(piece, f"{name}: {part}: piece {place}") for place, piece in enumerate(pieces)
        ]
    return parts


def _piece(frames: Any, where: str) -> np.ndarray:
    if not isinstance(frames, list) or not frames:
        raise ArgumentError(f"{where}: expected a list of frames")
    for t, frame in enumerate(frames):
        if not isinstance(frame, list):
            raise ArgumentError(f"{where}: frame {t}: expected a list of pitches")
    return piano_roll(frames, where)


def _depth(value: Any) -> int:
    """How deep lists are nested in ``value``, three levels at most being looked at."""
    depth = 0
    level: list[Any] = [value]
    while depth < 3 and any(isinstance(item, list) for item in level):
        depth += 1
        level = [inner for item in level if isinstance(item, list) for inner in item]
    return depth


def _from_arrays(arrays: dict[str, np.ndarray], name: str) -> dict[str, list[np.ndarray]]:
    parts: dict[str, list[np.ndarray]] = {}
    numbered: dict[str, dict[int, np.ndarray]] = {}
    for key, array in arrays.items():
        base = key.removesuffix("_lengths")
        if base != key and base in arrays:
            continue
        if array.ndim not in (2, 3) or array.shape[-1] != KEYS or not array.size:
            raise ArgumentError(
                f"{name}: {key}: expected (T, {KEYS}) or (R, T, {KEYS}), got {array.shape}"
            )
        if not ((array == 0) | (array == 1)).all():
            raise ArgumentError(f"{name}: {key}: expected zeros and ones only")
        roll = array.astype(np.float32)
        number = re.fullmatch(r"(.+)_([0-9]{1,6})", key)
        if roll.ndim == 3:
            lengths = _lengths(arrays.get(f"{key}_lengths"), roll, f"{name}: {key}_lengths")
            parts[key] = [piece[:length] for piece, length in zip(roll, lengths, strict=True)]
        elif number:
            pieces, place = numbered.setdefault(number[1], {}), int(number[2])
            if place in pieces:  # as those of "part_1" and "part_01"
                raise ArgumentError(f"{name}: {number[1]}: two pieces of the number {place}")
            pieces[place] = roll
        else:
            parts[key] = [roll]
    for part, pieces in numbered.items():
        if part in parts:
            raise ArgumentError(f"{name}: {part}: given both whole and in numbered pieces")
        parts[part] = [pieces[place] for place in sorted(pieces)]
    if not parts:
        raise ArgumentError(f"{name}: no pieces in it")
    return parts


def _lengths(lengths: np.ndarray | None, rolls: np.ndarray, where: str) -> np.ndarray:
    R, T = rolls.shape[:2]
    if lengths is None or lengths.shape != (R,) or lengths.dtype.kind not in "iu":
        raise ArgumentError(f"{where}: expected an array of {R} whole numbers")
    if lengths.min() < 1 or lengths.max() > T:
        raise ArgumentError(
            f"{where}: expected 1 to {T}, got {lengths.min()} to {lengths.max()}"
        )
    return lengths
