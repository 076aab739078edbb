"""Standard MIDI files: notes written so that any player plays them, and read back.

After "Standard MIDI Files 1.0" (MIDI Manufacturers Association, 1988). Times are in ticks. What is
written are notes and one tempo; reading skips all other events.
"""

from __future__ import annotations

import os
import struct
from collections.abc import Iterable, Iterator
from typing import Any, NamedTuple

import numpy as np

from rnnkit.checks import check_bool, check_integer, check_list, check_number, check_size
from rnnkit.data.atomic import write_atomically
from rnnkit.data.readers.piano_rolls import KEYS, LOWEST
from rnnkit.data.readers.text import opened
from rnnkit.errors import ArgumentError, ShapeError

_LIMIT = 64 << 20
_LONGEST = (1 << 28) - 1  # of a number of variable length
_NOTE_OFF, _NOTE_ON, _META = 0x80, 0x90, 0xFF
_END_OF_TRACK, _TEMPO = 0x2F, 0x51
_BYTES_AFTER = {0x8: 2, 0x9: 2, 0xA: 2, 0xB: 2, 0xC: 1, 0xD: 1, 0xE: 2}
_MICROSECONDS = 60_000_000  # a minute


class Note(NamedTuple):
    """One key held down.

    Attributes:
        start: ticks from the beginning.
        duration: ticks, 1 or more.
        pitch: 0 to 127; 60 is middle C.
        velocity: 1 to 127.
        channel: 0 to 15.
    """

    start: int
    duration: int
    pitch: int
    velocity: int = 80
    channel: int = 0


class Midi(NamedTuple):
    """What a file holds.

    Attributes:
        notes: in the order of start, channel, pitch and duration.
        ticks: in a quarter note.
        tempo: quarter notes a minute, the first in the file; 120 where it names none.
    """

    notes: list[Note]
    ticks: int
    tempo: float


def write_midi(
    path: str | os.PathLike[str],
    notes: Iterable[Note],
    *,
    ticks: int = 480,
    tempo: float = 120.0,
    format: int = 0,
) -> None:
    """Write a standard MIDI file, or leave the one at ``path`` as it was; arguments and errors as
    ``midi_bytes``, and OSError."""
    data = midi_bytes(notes, ticks=ticks, tempo=tempo, format=format)
    write_atomically(os.fspath(path), data)


def midi_bytes(
    notes: Iterable[Note], *, ticks: int = 480, tempo: float = 120.0, format: int = 0
) -> bytes:
    """The content of a standard MIDI file.

    Args:
        notes: in any order. One whose key is struck again while it sounds ends there, as
            ``read_midi`` has it; of those that begin together on a key the longest is written.
        ticks: in a quarter note, 1 to 32767.
        tempo: quarter notes a minute, 4 to 1,000,000 (the file holds whole microseconds).
        format: 0, all in one track; or 1, a track for the tempo and one for each channel in use.

    Raises:
        ArgumentError: one of these, or a note, is out of range.
    """
    check_integer("ticks", ticks, 1, 32767)
    check_number("tempo", tempo, 4, 1_000_000)
    format = check_integer("format", format, 0, 1)
    known = [_checked(note) for note in check_list("notes", notes, "several notes")]
    duration = round(_MICROSECONDS / tempo)
    first = [(0, bytes((_META, _TEMPO, 3)) + duration.to_bytes(3, "big"))]
    if format == 0:
        tracks = [[*first, *_events(known)]]
    else:
        channels = sorted({note.channel for note in known})
        tracks = [first, *(_events([n for n in known if n.channel == c]) for c in channels)]
    head = struct.pack(">4sIHHH", b"MThd", 6, format, len(tracks), ticks)
    return head + b"".join(map(_track, tracks))


def read_midi(path: str | os.PathLike[str]) -> Midi:
    """The notes of a standard MIDI file of format 0 or 1.

    A note that is struck again while it sounds ends there; one that no event ends, ends with its
    track. Raises ArgumentError, in one line that names the file, for what is none or is cut short.
    """
    name = os.fspath(path)
    with opened(name) as file:
        data = file.read(_LIMIT + 1)
    if len(data) > _LIMIT:
        raise ArgumentError(f"{name}: larger than {_LIMIT} bytes")
    try:
        return _parse(data)
    except (IndexError, struct.error):
        raise ArgumentError(f"{name}: not a MIDI file: it ends too early") from None
    except ArgumentError as error:
        raise ArgumentError(f"{name}: not a MIDI file: {error}") from None


def roll_notes(
    roll: Any, ticks: int = 480, *, tie: bool = True, velocity: int = 80
) -> list[Note]:
    """The notes of a piano roll (T, 88), each frame ``ticks`` long.

    With ``tie`` a key that is on in several frames in a row is one long note; else it is struck
    anew in each. Raises ShapeError when the roll is not (T, 88), ArgumentError when ``ticks`` is no
    positive integer or ``velocity`` not from 1 to 127.
    """
    ticks = check_size("ticks", ticks)
    check_integer("velocity", velocity, 1, 127)
    tie = check_bool("tie", tie)
    keys = np.asarray(roll)
    if keys.ndim != 2 or keys.shape[1] != KEYS:
        raise ShapeError(f"roll: expected (T, {KEYS}), got {keys.shape}")
    on = keys > 0.5
    begins = on.copy()
    if tie:
        begins[1:] &= ~on[:-1]
    notes = []
    for frame, key in np.argwhere(begins).tolist():
        length = 1
        while tie and frame + length < len(on) and on[frame + length, key]:
            length += 1
        notes.append(Note(frame * ticks, length * ticks, LOWEST + key, velocity))
    return notes


def notes_roll(notes: Iterable[Note], ticks: int = 480) -> np.ndarray:
    """The piano roll (T, 88), float32, of notes in frames of ``ticks``: a key is on in a frame when
    it sounds for half of it or longer. Raises ArgumentError for a pitch that is not on the piano
    and for ``ticks`` that are no positive integer.
    """
    ticks = check_size("ticks", ticks)
    known = [_checked(note) for note in check_list("notes", notes, "several notes")]
    length = max((-(-(note.start + note.duration) // ticks) for note in known), default=0)
    roll = np.zeros((length, KEYS), np.float32)
    for note in known:
        key = note.pitch - LOWEST
        if not 0 <= key < KEYS:
            raise ArgumentError(
                f"notes: expected pitches from {LOWEST} to {LOWEST + KEYS - 1}, got {note.pitch}"
            )
        end = note.start + note.duration
        for frame in range(note.start // ticks, -(-end // ticks)):
            sounding = min(end, (frame + 1) * ticks) - max(note.start, frame * ticks)
            roll[frame, key] = max(roll[frame, key], 2 * sounding >= ticks)
    return roll


def _checked(note: Note) -> Note:
    try:
        note = Note(*note)
    except TypeError:
        raise ArgumentError(f"notes: expected Notes, got {note!r:.40}") from None
    for name, least, largest in (
        ("start", 0, _LONGEST), ("duration", 1, _LONGEST), ("pitch", 0, 127),
        ("velocity", 1, 127), ("channel", 0, 15),
    ):  # fmt: skip
        check_integer(f"notes: {name}", getattr(note, name), least, largest)
    return Note(*map(int, note))  # NumPy's small integers would overflow in the sums made of them


def _events(notes: Iterable[Note]) -> list[tuple[int, bytes]]:
    """(time, message), sorted; what ends at a moment ends before what begins there."""
    events = []
    struck: dict[tuple[int, int], int] = {}  # (channel, pitch): when it is struck next
    # From the last to the first; of those that begin together the longest is first.
    for note in sorted(notes, key=lambda note: (-note.start, -note.duration)):
        start, duration, pitch, velocity, channel = note
        again = struck.get((channel, pitch), start + duration)
        if again == start:
            continue
        struck[channel, pitch] = start
        # An end after that would be taken for the end of the note that has begun by then.
        end = min(start + duration, again)
        events.append((start, 1, bytes((_NOTE_ON | channel, pitch, velocity))))
        events.append((end, 0, bytes((_NOTE_OFF | channel, pitch, 0))))
    return [(time, message) for time, _, message in sorted(events)]


def _track(events: Iterable[tuple[int, bytes]]) -> bytes:
    body, now = bytearray(), 0
    for time, message in events:
        body += _variable(time - now) + message
        now = time
    body += bytes((0, _META, _END_OF_TRACK, 0))
    return struct.pack(">4sI", b"MTrk", len(body)) + bytes(body)


def _variable(number: int) -> bytes:
    """Seven bits a byte, the highest first; all but the last byte have the eighth bit set."""
    found = [number & 0x7F]
    while number := number >> 7:
        found.append(number & 0x7F | 0x80)
    return bytes(reversed(found))


def _parse(data: bytes) -> Midi:
    if data[:4] != b"MThd":
        raise ArgumentError("it does not begin with MThd")
    size, format, count, ticks = struct.unpack_from(">IHHH", data, 4)
    if size < 6 or format not in (0, 1):
        raise ArgumentError(f"expected format 0 or 1, got {format}")
    if not 1 <= ticks < 1 << 15:
        raise ArgumentError("its times are not in parts of a quarter note")
    notes: list[Note] = []
    tempo: float | None = None
    place = 8 + size
    for _ in range(count):
        kind, size = struct.unpack_from(">4sI", data, place)
        body = data[place + 8 : place + 8 + size]
        if len(body) < size:
            raise IndexError
        place += 8 + size
        if kind != b"MTrk":
            continue
        held: dict[tuple[int, int], tuple[int, int]] = {}  # (channel, pitch): (start, velocity)
        now = 0
        for now, status, message in _messages(body):
            if status == _META and message[0] == _TEMPO and len(message) == 4:
                if tempo is None:
                    tempo = _MICROSECONDS / max(int.from_bytes(message[1:], "big"), 1)
            elif status >> 4 in (0x8, 0x9):
                where = (status & 0xF, message[0])
                _release(notes, held, where, now)
                if status & 0xF0 == _NOTE_ON and message[1]:
                    held[where] = (now, message[1])
        for where in list(held):
            _release(notes, held, where, now)
    notes.sort(key=lambda note: (note.start, note.channel, note.pitch, note.duration))
    return Midi(notes, ticks, 120.0 if tempo is None else tempo)


def _release(
    notes: list[Note],
    held: dict[tuple[int, int], tuple[int, int]],
    where: tuple[int, int],
    now: int,
) -> None:
    start, velocity = held.pop(where, (now, 0))
    if now > start:
        notes.append(Note(start, now - start, where[1], velocity, where[0]))


def _messages(body: bytes) -> Iterator[tuple[int, int, bytes]]:
    """(time, status, what follows it) of a track's events up to its end; a meta event's kind is the
    first byte of what follows."""
    place = now = running = 0
    while place < len(body):
        delta, place = _read_variable(body, place)
        now += delta
        status = body[place]
        if status >= 0x80:
            place += 1
        elif running:
            status = running
        else:
            raise ArgumentError("data bytes where an event should begin")
        if status >= 0xF0:
            running = 0
            begin = place
            if status == _META:
                place += 1
            elif status not in (0xF0, 0xF7):
                raise ArgumentError(f"an event 0x{status:02x}, which no file may hold")
            length, place = _read_variable(body, place)
            message = (body[begin : begin + 1] if status == _META else b"") + _cut(
                body, place, length
            )
            place += length
            yield now, status, message
            if status == _META and message[0] == _END_OF_TRACK:
                return
        else:
            running = status
            length = _BYTES_AFTER[status >> 4]
            message = _cut(body, place, length)
            if max(message) >= 0x80:
                raise ArgumentError("a data byte above 127")
            place += length
            yield now, status, message


def _cut(body: bytes, place: int, length: int) -> bytes:
    if place + length > len(body):
        raise IndexError
    return body[place : place + length]


def _read_variable(body: bytes, place: int) -> tuple[int, int]:
    number = 0
    for count in range(4):
        byte = body[place + count]
        number = number << 7 | byte & 0x7F
        if byte < 0x80:
            return number, place + count + 1
    raise ArgumentError("a number longer than four bytes")
