"""Standard MIDI files: the bytes of a tiny piece, the way back, and files that are none."""

import struct

import numpy as np
import pytest

from rnnkit.data import Note, midi, midi_bytes, notes_roll, read_midi, roll_notes, write_midi
from rnnkit.errors import ArgumentError, ShapeError

PIECE = [Note(0, 480, 60), Note(480, 96, 64, 100), Note(0, 576, 67, 80, 1)]
TEMPO = bytes.fromhex("00 ff 51 03 07 a1 20")  # 500,000 microseconds
END = bytes.fromhex("00 ff 2f 00")
HEAD = bytes.fromhex("4d 54 68 64 00 00 00 06")


def track(body):
    return b"MTrk" + struct.pack(">I", len(body)) + body


def file(*tracks, format=0, ticks=480):
    return HEAD + struct.pack(">HHH", format, len(tracks), ticks) + b"".join(map(track, tracks))


def test_the_bytes_of_format_0():
    body = TEMPO + bytes.fromhex(
        "00 90 3c 50"  # at 0: middle C
        "00 91 43 50"  # and G on the second channel
        "83 60 80 3c 00"  # 480 later: C ends before
        "00 90 40 64"  # E begins
        "60 80 40 00"  # 96 later
        "00 81 43 00"
    )
    assert midi_bytes(PIECE) == file(body + END)


def test_the_bytes_of_format_1():
    first = bytes.fromhex("00 90 3c 50 83 60 80 3c 00 00 90 40 64 60 80 40 00")
    second = bytes.fromhex("00 91 43 50 84 40 81 43 00")
    expected = file(TEMPO + END, first + END, second + END, format=1)
    assert midi_bytes(PIECE, format=1) == expected


@pytest.mark.parametrize("format", [0, 1])
def test_written_and_read_again(tmp_path, format):
    rng = np.random.default_rng(0)
    notes, free = [], {}
    for _ in range(200):
        pitch, channel = int(rng.integers(128)), int(rng.integers(16))
        start = free.get((pitch, channel), 0) + int(rng.integers(0, 70000))
        duration = int(rng.integers(1, 40000))
        free[pitch, channel] = start + duration
        notes.append(Note(start, duration, pitch, int(rng.integers(1, 128)), channel))
    path = tmp_path / "piece.mid"
    write_midi(path, notes, ticks=96, tempo=75, format=format)
    found = read_midi(path)
    assert sorted(found.notes) == sorted(notes)
    assert (found.ticks, found.tempo) == (96, 75)


@pytest.mark.parametrize("format", [0, 1])
def test_a_key_struck_again_keeps_the_length_of_its_second_note(tmp_path, format):
    other = Note(0, 100, 61)
    notes = [Note(5, 20, 60), Note(0, 10, 60), Note(5, 7, 60, 90), Note(0, 9, 60, 40, 1), other]
    write_midi(tmp_path / "piece.mid", notes, format=format)
    expected = [Note(0, 5, 60), other, Note(0, 9, 60, 40, 1), Note(5, 20, 60)]
    assert read_midi(tmp_path / "piece.mid").notes == expected


def test_a_reader_of_other_programs_files(tmp_path):
    body = bytes.fromhex(
        "00 ff 03 02 41 42"  # a name
        "00 f0 02 01 f7"  # system exclusive
        "00 c0 05"  # another instrument
        "00 90 3c 40"
        "0a 40 40"  # running status: E
        "0a 3c 00"  # velocity 0 ends C
        "05 40 30"  # E is struck again
        "00 a0 40 10"  # aftertouch
        "05 b0 40 7f"  # pedal
    )
    path = tmp_path / "other.mid"
    path.write_bytes(file(body + END) + b"XFIH\x00\x00\x00\x01!")
    found = read_midi(path)
    assert found.notes == [Note(0, 20, 60, 64), Note(10, 15, 64, 64), Note(25, 5, 64, 48)]
    assert found.tempo == 120.0


@pytest.mark.parametrize(
    ("data", "message"),
    [
        (b"", "it does not begin with MThd"),
        (b"RIFF....", "it does not begin with MThd"),
        (HEAD + b"\0\0", "it ends too early"),
        (file(END, format=2), "expected format 0 or 1, got 2"),
        (file(END, ticks=0x8000 + 25), "not in parts of a quarter note"),
        (file(TEMPO + END)[:-3], "it ends too early"),
        (file(TEMPO + END)[: -len(END)], "it ends too early"),  # cut between two events
        (file(b"\x00\x90\x3c"), "it ends too early"),
        (file(b"\x00\x3c\x40"), "data bytes where an event should begin"),
        # A meta event ends a running status.
        (file(b"\x00\x90\x3c\x40" + TEMPO + b"\x00\x3c\x00"), "data bytes where an event should"),
        (file(b"\x00\x90\xbc\x40"), "a data byte above 127"),
        (file(b"\x00\xf4"), "0xf4, which no file may hold"),
        (file(b"\x80\x80\x80\x80\x00"), "longer than four bytes"),
        (file(b"\x00\xff\x01\x7f"), "it ends too early"),
    ],
)
def test_damaged_files_are_named(tmp_path, data, message):
    path = tmp_path / "bad.mid"
    path.write_bytes(data)
    with pytest.raises(ArgumentError, match=message) as error:
        read_midi(path)
    assert str(error.value).startswith(f"{path}: not a MIDI file: ")


def test_a_file_of_any_size_is_not_read_whole(tmp_path, monkeypatch):
    path = tmp_path / "a.mid"
    path.write_bytes(file(TEMPO + END))
    monkeypatch.setattr(midi, "_LIMIT", path.stat().st_size)
    assert read_midi(path).tempo == 120.0
    path.write_bytes(path.read_bytes() + b"!")
    with pytest.raises(ArgumentError, match=rf"a\.mid: larger than {midi._LIMIT} bytes"):
        read_midi(path)


def test_the_options_of_a_piece_by_default(tmp_path):
    write_midi(tmp_path / "a.mid", PIECE)
    written = (tmp_path / "a.mid").read_bytes()
    assert written == midi_bytes(PIECE) == midi_bytes(PIECE, ticks=480, tempo=120.0, format=0)
    roll = np.eye(3, 88)
    assert roll_notes(roll) == roll_notes(roll, 480, tie=True, velocity=80)
    assert np.array_equal(notes_roll(PIECE), notes_roll(PIECE, 480))


def test_every_cut_of_a_file_is_noticed_or_harmless(tmp_path):
    whole, path = midi_bytes(PIECE, format=1), tmp_path / "cut.mid"
    for length in range(len(whole)):
        path.write_bytes(whole[:length])
        with pytest.raises(ArgumentError):
            read_midi(path)


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"ticks": 0}, "ticks: expected an integer from 1 to 32767, got 0"),
        ({"tempo": 3}, r"tempo: expected a number >= 4 and <= 1e\+06, got 3"),
        ({"tempo": float("nan")}, "tempo: expected"),
        ({"tempo": "x"}, "tempo: expected .*, got 'x'"),
        ({"format": 2}, "format: expected an integer from 0 to 1"),
        ({"notes": [Note(0, 1, 128)]}, "pitch: expected an integer from 0 to 127, got 128"),
        ({"notes": [Note(0, 1, 60, 128)]}, "velocity: expected an integer from 1 to 127, got 128"),
        ({"notes": [Note(0, 1, 60, 0)]}, "velocity: expected an integer from 1 to 127, got 0"),
        ({"notes": [Note(0, 1, 60, 80, 16)]}, "channel: expected an integer from 0 to 15, got 16"),
        ({"notes": [Note(0, 0, 60)]}, "duration: expected an integer from 1 to"),
        (
            {"notes": [Note(0, 1 << 28, 60)]},
            "duration: expected an integer from 1 to 268435455, got 268435456",
        ),
        (
            {"notes": [Note(1 << 28, 1, 60)]},
            "start: expected an integer from 0 to 268435455, got 268435456",
        ),
        ({"notes": [Note(0.5, 1, 60)]}, "start: expected an integer"),
    ],
)
def test_what_no_file_can_hold_is_refused(options, message):
    with pytest.raises(ArgumentError, match=message):
        midi_bytes(**{"notes": PIECE, **options})


def test_the_largest_that_a_file_can_hold(tmp_path):
    longest = (1 << 28) - 1
    notes = [Note(0, longest, 127, 127), Note(longest, longest, 0, 1)]
    for ticks, tempo in ((32767, 4.0), (1, 1e6)):
        write_midi(tmp_path / "a.mid", notes, ticks=ticks, tempo=tempo)
        assert read_midi(tmp_path / "a.mid") == (notes, ticks, tempo)


def test_rolls_become_notes_and_back():
    roll = np.zeros((4, 88), np.float32)
    roll[:, 39] = [1, 1, 0, 1]
    roll[1, 87] = 1
    held = [Note(0, 200, 60), Note(100, 100, 108), Note(300, 100, 60)]
    assert roll_notes(roll, 100) == held
    struck = roll_notes(roll, 100, tie=False, velocity=3)
    assert struck[:2] == [Note(0, 100, 60, 3), Note(100, 100, 60, 3)]
    assert len(struck) == 4
    for notes in (held, struck):
        assert np.array_equal(notes_roll(notes, 100), roll)
    # Less than half of a frame does not count, half of one does.
    assert notes_roll([Note(40, 110, 60)], 100)[:, 39].tolist() == [1, 1]
    assert notes_roll([Note(60, 80, 60)], 100)[:, 39].tolist() == [0, 0]
    assert notes_roll([]).shape == (0, 88)
    with pytest.raises(ShapeError, match="roll: expected"):
        roll_notes(np.zeros((3, 87)))
    both = notes_roll([Note(0, 1, 21), Note(0, 1, 108)], 1)
    assert np.argwhere(both).tolist() == [[0, 0], [0, 87]]
    for pitch in (20, 109):
        with pytest.raises(ArgumentError, match=f"pitches from 21 to 108, got {pitch}"):
            notes_roll([Note(0, 1, pitch)])


@pytest.mark.parametrize("dtype", [np.int16, np.uint8])
def test_small_numpy_integers_are_the_same_notes(dtype):
    largest = np.iinfo(dtype).max
    notes = [Note(3, 4, 60, 80, 3), Note(largest - 9, largest, 60, 80, 3)]
    small = [Note(*map(dtype, note)) for note in notes]
    assert midi_bytes(small) == midi_bytes(notes)
    assert np.array_equal(notes_roll(small, 4), notes_roll(notes, 4))


@pytest.mark.parametrize("velocity", [0, 128, 0.5])
def test_velocities_are_those_of_midi(velocity):
    with pytest.raises(ArgumentError, match=r"^velocity: expected an integer from 1 to 127, got"):
        roll_notes(np.ones((2, 88)), velocity=velocity)


@pytest.mark.parametrize("ticks", [0, -1, 480.5])
def test_ticks_are_positive_integers(ticks):
    for call in (
        lambda: midi_bytes([], ticks=ticks),
        lambda: notes_roll(PIECE, ticks),
        lambda: roll_notes(np.ones((2, 88)), ticks),
    ):
        with pytest.raises(ArgumentError, match=r"^ticks: expected (an int|at least 1).*, got"):
            call()
