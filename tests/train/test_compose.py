"""The compose task: both heads against what they should be, and pieces one can play."""

import dataclasses
import itertools
import json

import numpy as np
import pytest

import rnnkit as rk
from rnnkit.data import RaggedBatches, notes_roll, piano_roll, read_midi
from rnnkit.errors import ArgumentError, ShapeError
from rnnkit.train import RunError, RunFolder
from rnnkit.train.chorales import generated_chorales
from rnnkit.train.models.composer import END, FrameComposer, NoteComposer, last_frames, spell
from rnnkit.train.tasks.compose import ComposeSettings, ComposeTask, chord_names

SMALL = {"hidden": 24, "epochs": 3, "validations": 3, "batch": 4, "lr": 0.02}
CHORDS = ([48, 60, 64, 67], [53, 60, 65, 69], [55, 59, 62, 67])


def patterns(count=12):
    """Pieces of three chords in turn, of different lengths."""
    return [piano_roll([CHORDS[(t + n) % 3] for t in range(9 + n % 4)]) for n in range(count)]


def batch_of(pieces, head):
    sequences = [spell(piece) for piece in pieces] if head == "notes" else pieces
    return RaggedBatches(sequences, batch_size=len(pieces), shuffle=False, bucket=False).batch(0)


def write_json(path, parts):
    pitches = {
        name: [[[21 + int(k) for k in np.flatnonzero(f)] for f in piece] for piece in pieces]
        for name, pieces in parts.items()
    }
    path.write_text(json.dumps(pitches))
    return path


def test_frames_are_spelt_upward():
    roll = piano_roll([[60, 48], [], [108]])
    tokens = spell(roll)
    assert tokens.tolist() == [27, 39, END, END, 87, END]
    before = np.array([END, *tokens[:-1]])
    assert last_frames(before[:, None]).shape == (6, 1, 88)
    expected = [[], [], [], [27, 39], [], []]
    assert [np.flatnonzero(f).tolist() for f in last_frames(before[:, None])[:, 0]] == expected
    # Rows do not touch one another, whatever the first has in its padding.
    both = np.stack([before, np.array([END, 5, END, 7, 8, END])], 1)
    found = last_frames(both)
    assert np.array_equal(found[:, :1], last_frames(before[:, None]))
    assert [np.flatnonzero(f).tolist() for f in found[:, 1]] == [[], [], [5], [5], [5], [7, 8]]


def test_pieces_are_dealt_unless_there_are_both_a_training_and_a_validation_part():
    settings, pieces = ComposeSettings(**SMALL), patterns()

    def counts(**parts):
        parts = ComposeTask(parts, settings, source="songs").parts
        return {name: len(found) for name, found in parts.items()}

    assert counts(train=pieces[:7], valid=pieces[7:9]) == {"training": 7, "validation": 2}
    dealt = {"training": 10, "validation": 1, "test": 1}
    assert counts(train=pieces) == counts(valid=pieces) == counts(all=pieces) == dealt
    assert counts(train=pieces, valid=[pieces[0][:1]]) == dealt  # nothing to predict in it
    assert counts(all=[pieces[0][:2]] * 3) == {"training": 1, "validation": 1, "test": 1}
    with pytest.raises(ArgumentError, match=r"songs: expected 3 pieces of 2 frames or more, .* 2$"):
        counts(all=[*pieces[:2], pieces[2][:1]])


@pytest.mark.parametrize("training", [True, False])
def test_the_loss_of_frames_is_the_sum_over_keys_and_the_mean_over_frames(training):
    rk.manual_seed(0)
    pieces = patterns(3)
    model = FrameComposer(hidden=6, rates=np.full(88, 0.1)).train(training)
    assert np.allclose(model.head.bias.data, np.log(1 / 9), atol=1e-6)
    found = model.loss(batch_of(pieces, "frames"))
    total, count = 0.0, 0
    for piece in pieces:
        with rk.no_grad():
            before = np.concatenate([np.zeros((1, 88), np.float32), piece[:-1]])
            logits = model(before[:, None])[0].data[:, 0].astype(np.float64)
        each = np.logaddexp(0, logits) - piece * logits
        first = 0 if training else 1
        total += each[first:].sum()
        count += len(piece) - first
    assert found.count == count
    assert found.value.item() == pytest.approx(total / count, rel=1e-5)


@pytest.mark.parametrize("training", [True, False])
def test_the_loss_of_notes_is_that_of_a_frame_spelt_alone(training):
    rk.manual_seed(0)
    pieces = [*patterns(2), piano_roll([[60], [], [62, 64]])]
    model = NoteComposer(hidden=6, embedding=4).train(training)
    found = model.loss(batch_of(pieces, "notes"))
    total, count = 0.0, 0
    for piece in pieces:
        state, token, whole = None, END, np.zeros(88, np.float32)
        for t, frame in enumerate(piece):
            for wanted in spell(frame[None]):
                with rk.no_grad():
                    logits, state = model(np.array([[token]]), whole[None, None], state)
                scores = logits.data[0, 0].astype(np.float64)
                if training or t:
                    total += np.logaddexp.reduce(scores) - scores[wanted]
                token = wanted
            whole = frame
            count += training or t > 0
    assert found.count == count
    assert found.value.item() == pytest.approx(total / count, rel=1e-5)


@pytest.mark.parametrize("head", ["notes", "frames"])
def test_a_run_learns_and_what_it_composes_can_be_played(tmp_path, head):
    pieces = patterns(16)
    path = write_json(
        tmp_path / "songs.json",
        {"train": pieces[:12], "valid": pieces[12:14], "test": pieces[14:]},
    )
    settings = ComposeSettings(
        head=head, **(SMALL | {"epochs": 60}), dropout=0.0, recurrent_dropout=0.0
    )
    task = ComposeTask.prepare([path], settings)
    task.train(RunFolder.create(tmp_path / "run"))
    lines = list(task.show(RunFolder(tmp_path / "run")))
    assert lines[0].startswith("test part: ")
    assert ("upper bound" in lines[0]) == (head == "notes")
    loaded = ComposeTask.load(tmp_path / "run")
    assert loaded.evaluate()["nats/frame"] < 1.0
    own = {"length": 12, "temperature": 0.0}
    text = "".join(loaded.sample(output=str(tmp_path / "own.mid"), tempo=90, **own))
    roll = loaded.compose(**own)
    assert text.replace("\n", " | ").split(" | ") == [" ".join(c) for c in chord_names(roll)]
    known = [piano_roll([chord])[0] for chord in CHORDS]
    places = [[np.array_equal(frame, chord) for chord in known].index(True) for frame in roll[1:]]
    assert all((b - a) % 3 == 1 for a, b in itertools.pairwise(places))
    written = read_midi(tmp_path / "own.mid")
    assert written.tempo == pytest.approx(90, abs=1e-3)
    assert np.array_equal(notes_roll(written.notes, written.ticks), roll)
    assert read_midi(tmp_path / "run" / "sample.mid").notes
    # The same seed gives the same piece, whatever happens to the file.
    drawn = ["".join(loaded.sample(length=8, seed=5)) for _ in range(2)]
    assert drawn[0] == drawn[1]
    opened = loaded.compose(6, temperature=0.0, opening=pieces[0][:3])
    assert np.array_equal(opened, pieces[0][:6])
    with pytest.raises(ShapeError, match=r"opening: expected \(O, 88\), got shape \(2, 87\)"):
        loaded.compose(6, opening=np.zeros((2, 87)))
    other = write_json(tmp_path / "other.json", {"songs": pieces[14:]})
    assert loaded.evaluate([other]) == pytest.approx(loaded.evaluate(), rel=1e-5)


def test_notes_are_only_ever_drawn_upward():
    rk.manual_seed(0)
    model = NoteComposer(hidden=8, embedding=4)
    # All tokens are equally probable: 1/2 + ... + 1/89 notes a frame, which is 4.07; with no such
    # rule there would be about 55.
    for parameter in model.parameters():
        parameter.data[...] = 0.0
    roll = model.compose(200, np.random.default_rng(0))
    assert 3.6 < roll.sum() / len(roll) < 4.5
    assert np.array_equal(last_frames(spell(roll)[:, None])[-1, 0], roll[-1])


def test_temperature_sharpens_keys():
    rk.manual_seed(0)
    model = FrameComposer(hidden=8, rates=np.full(88, 0.3))
    model.head.weight.data[...] = 0.0
    counts = [
        model.compose(200, np.random.default_rng(0), temperature=t).mean() for t in (1.0, 0.5, 0.0)
    ]
    assert counts[0] == pytest.approx(0.3, abs=0.02)
    assert counts[1] == pytest.approx(0.09 / (0.09 + 0.49), abs=0.02)
    assert counts[2] == 0.0


def test_parts_of_a_file(tmp_path):
    pieces = patterns(30)
    settings = ComposeSettings(**SMALL)
    named = ComposeTask({"train": pieces[:5], "val": pieces[5:8]}, settings, source="x")
    assert {name: len(part) for name, part in named.parts.items()} == {
        "training": 5, "validation": 3,
    }  # fmt: skip
    assert len(named.held_out()) == 3
    dealt = ComposeTask({"all": pieces}, settings, source="x")
    assert {name: len(part) for name, part in dealt.parts.items()} == {
        "training": 24, "validation": 3, "test": 3,
    }  # fmt: skip
    with pytest.raises(ArgumentError, match=r"x: expected 3 pieces .* got 2"):
        ComposeTask({"all": [*pieces[:2], pieces[0][:1]]}, settings, source="x")


def test_without_a_file_there_are_generated_chorales():
    pieces = generated_chorales(20)
    assert all((frame.sum() == 4) for piece in pieces for frame in piece)
    assert min(map(len, pieces)) >= 32
    assert not np.array_equal(pieces[0][:8], pieces[1][:8])
    assert np.array_equal(pieces[3], generated_chorales(20)[3])
    # Every piece ends on its tonic, the three tones of a major chord above it.
    for piece in pieces:
        pitches = 21 + np.flatnonzero(piece[-1])
        assert {(pitch - pitches[0]) % 12 for pitch in pitches} == {0, 4, 7}
    task = ComposeTask.prepare([], ComposeSettings(**SMALL))
    assert "generated" in task.note
    assert "120 training, 15 validation, 15 test" in task.summary()


def test_the_first_chords_are_named():
    assert chord_names(piano_roll([[60, 61, 21], []])) == [["A0", "C4", "C#4"], ["rest"]]
    octave = "C3 C#3 D3 Eb3 E3 F3 F#3 G3 Ab3 A3 Bb3 B3".split()  # noqa: SIM905
    assert chord_names(piano_roll([range(48, 60)])) == [octave]


@pytest.mark.parametrize("training", ["train", "training"])
@pytest.mark.parametrize("validation", ["valid", "validation", "val", "dev"])
def test_parts_are_known_by_their_usual_names(tmp_path, training, validation):
    parts = {"test": patterns(1), validation: patterns(2), training: patterns(4)}
    path = write_json(tmp_path / "songs.json", parts)
    task = ComposeTask.prepare([path], ComposeSettings(**SMALL))
    found = {name: len(pieces) for name, pieces in task.parts.items()}
    assert found == {"training": 4, "validation": 2, "test": 1}


def test_settings_follow_the_head():
    """What is left open, as --help says it."""
    notes, frames = ComposeSettings(), ComposeSettings(head="frames", dropout=0.0)
    assert (notes.cell, notes.hidden, notes.lr) == ("lstm", 200, 0.004)
    assert (frames.cell, frames.hidden, frames.lr) == ("gru", 300, 0.003)
    assert (notes.input_dropout, notes.recurrent_dropout, notes.dropout) == (0.2, 0.3, 0.5)
    assert (frames.input_dropout, frames.recurrent_dropout, frames.dropout) == (0.1, 0.3, 0.0)
    assert ComposeSettings(head="frames").dropout == 0.6
    assert ComposeSettings.from_dict(notes.as_dict()) == notes
    for options in ({"head": "keys"}, {"cell": "rnn"}, {"hidden": 0}, {"dropout": 1.0}):
        with pytest.raises(ArgumentError, match=f"^{next(iter(options))}: expected"):
            dataclasses.replace(notes, **options)


def test_a_run_resumes_on_the_same_pieces_only(tmp_path):
    path = write_json(tmp_path / "songs.json", {"train": patterns(4), "valid": patterns(2)})
    task = ComposeTask.prepare([path], ComposeSettings(**SMALL))
    task.train(RunFolder.create(tmp_path / "run"))
    folder = RunFolder(tmp_path / "run")
    record = folder.load_settings()
    assert ComposeTask.reopen(record).record() == record
    for name, value in (("hidden", 60000), ("head", "frames"), ("layers", 2)):
        changed = json.loads(json.dumps(record))
        changed["settings"][name] = value
        folder.save_settings(changed)
        with pytest.raises(RunError, match="its shapes do not fit"):
            ComposeTask.load(folder.path)
    folder.save_settings(record)
    with pytest.raises(ArgumentError, match="length: expected 1 or more, got 0"):
        ComposeTask.load(folder.path).sample(length=0)
    with pytest.raises(ArgumentError, match="temperature: expected a number >= 0"):
        ComposeTask.load(folder.path).sample(temperature=-1.0)
    write_json(path, {"train": patterns(5), "valid": patterns(2)})
    with pytest.raises(RunError, match="has changed since the run began"):
        ComposeTask.load(folder.path).evaluate()
