"""The examples run as scripts, at small sizes; the slow tests hold them to what they say."""

import argparse
import gzip
import re
import runpy
import sys
import zipfile
from pathlib import Path

import numpy as np
import pytest
from numpy.testing import assert_array_equal

from rnnkit.data import read_midi

EXAMPLES = Path(__file__).resolve().parent.parent / "examples"
SMALL = {
    "adding_problem.py": ["--steps", "9", "--hidden", "4", "--updates", "3"],
    "copy_memory.py": ["--steps", "5", "--hidden", "8", "--updates", "3"],
    "digits.py": [],
    "draw_digits.py": ["--epochs", "1"],
    "language_model.py": ["--hidden", "8", "--epochs", "0.04"],
    "mnist_pixels.py": ["--hidden", "4", "--epochs", "0.02", "--tested", "50"],
    "mnist_rows.py": ["--hidden", "4", "--epochs", "0.1"],
    "music.py": ["--epochs", "1", "--frames", "8"],
    "names.py": ["--epochs", "1"],
    "pen_digits.py": ["--epochs", "1"],
    "series.py": ["--updates", "2", "--networks", "1"],
    "splice_junctions.py": ["--epochs", "1", "--folds", "2"],
    "strip_captions.py": ["--hidden", "8", "--updates", "2", "--test-strips", "40"],
    "temporal_order.py": ["--steps", "20", "--hidden", "8", "--updates", "3"],
    "translate.py": ["--hidden", "8", "--epochs", "0.3", "--numbers", "600"],
    "vanishing_gradients.py": ["--steps", "9", "--hidden", "4", "--batch", "3", "--updates", "3"],
    "video_tagging.py": ["--hidden", "4", "--updates", "2", "--test-clips", "10"],
    "vowel_strings.py": ["--updates", "5", "--strings", "3"],
    "vowels.py": ["--epochs", "1"],
}


HELPERS = {"torch_twins.py"}  # of other examples, nothing by themselves


def source(name):
    return (EXAMPLES / name).read_text(encoding="utf-8")


def run(monkeypatch, name, arguments):
    monkeypatch.setattr(sys, "argv", [name, *arguments])
    # As the interpreter does for a script: examples find the files beside them.
    monkeypatch.syspath_prepend(str(EXAMPLES))
    return runpy.run_path(str(EXAMPLES / name), run_name="__main__")


def parts_of(monkeypatch, name):
    """What a script defines, by name, without running it."""
    monkeypatch.syspath_prepend(str(EXAMPLES))
    return runpy.run_path(str(EXAMPLES / name))


def test_every_example_is_tested():
    assert {path.name for path in EXAMPLES.glob("*.py")} == set(SMALL) | HELPERS


def test_the_table_names_what_there_is():
    table = (EXAMPLES / "README.md").read_text(encoding="utf-8")
    assert set(re.findall(r"\b[a-z_]+\.py\b", table)) == set(SMALL) | HELPERS
    assert set(re.findall(r"--[a-z]+", table)) <= {"--data", "--seed", "--help"} | {
        option for name in SMALL for option in re.findall(r'"(--[a-z]+)"', source(name))
    }


@pytest.mark.parametrize("name", SMALL)
def test_it_runs(name, monkeypatch, tmp_path, capsys):
    monkeypatch.chdir(tmp_path)
    run(monkeypatch, name, SMALL[name])
    assert capsys.readouterr().out


def test_splice_junctions_reads_both_formats(monkeypatch, tmp_path):
    read = parts_of(monkeypatch, "splice_junctions.py")["read_sequences"]
    first, second = "ACGT" * 15, "N" + "GATTACA" * 8 + "DRS"
    (tmp_path / "splice.data").write_text(f"IE,   X-1,     {first}\nN,Y-2,  {second}\n")
    cells = [",".join(letters) for letters in (first, second)]
    header = "% from UCI\n@relation splice\n@attribute Class {EI, IE, N}\n@data\n"
    (tmp_path / "splice.arff").write_text(f"{header}X-1,{cells[0]},IE\nY-2,{cells[1]},N\n")
    for name in ("splice.data", "splice.arff"):
        sequences, classes = read(tmp_path / name)
        assert sequences == [first, second]
        assert classes.tolist() == [1, 2]
    (tmp_path / "short.data").write_text("N,Y-2,ACGT\n")
    with pytest.raises(SystemExit, match="expected 60 of the letters"):
        read(tmp_path / "short.data")


def test_a_window_holds_the_letters_around_a_step(monkeypatch):
    windows = parts_of(monkeypatch, "splice_junctions.py")["windows"]
    x = windows("AC" + "G" * 56 + "TD").reshape(60, 5, 4)
    assert x[0].tolist() == [[0] * 4, [0] * 4, [1, 0, 0, 0], [0, 1, 0, 0], [0, 0, 1, 0]]
    np.testing.assert_allclose(x[59, 2], [1 / 3, 0, 1 / 3, 1 / 3], rtol=1e-6)  # A, G or T
    assert not x[59, 3:].any()


def write_unipen(path, digits):
    """``digits``: (label, strokes), strokes of points."""
    lines = ['.LEXICON "0" "1"']
    for label, strokes in digits:
        lines += [f'.SEGMENT DIGIT 0 ? "{label}"', ".COMMENT 8 12 224"]
        for stroke in strokes:
            lines += [".PEN_DOWN", *(f" {x}  {y}" for x, y in stroke), ".PEN_UP", ".DT 100"]
    path.write_text("\n".join(lines) + "\n")


def test_pen_digits_reads_unipen(monkeypatch, tmp_path):
    parts = parts_of(monkeypatch, "pen_digits.py")
    bar, stroke = [(0, 5), (10, 5)], [(0, 20), (4, 0), (6, 2)]
    write_unipen(tmp_path / "digits", [(7, [stroke, bar]), (1, [stroke])])
    digits, labels = parts["read_digits"](tmp_path / "digits")
    assert labels.tolist() == [7, 1]
    assert [read.tolist() for read in digits[0]] == [[list(p) for p in s] for s in (stroke, bar)]
    points = parts["as_points"](digits[0])  # 10 wide, 20 high
    expected = [[-0.25, 0.5, 1], [-0.05, -0.5, 0], [0.05, -0.4, 0], [-0.25, -0.25, 1],
                [0.25, -0.25, 0]]  # fmt: skip
    np.testing.assert_allclose(points, expected, atol=1e-6)


def test_drawing_undoes_what_movements_are(monkeypatch):
    parts = parts_of(monkeypatch, "draw_digits.py")
    points = np.array([[0.1, 0.5, 1], [0.2, 0.1, 0], [-0.3, 0.2, 1], [0, 0, 0]], np.float32)
    movements = parts["as_movements"](points, 0.05)
    assert movements[:, 2:].tolist() == [[0, 0], [1, 0], [0, 0], [1, 1]]
    np.testing.assert_allclose(parts["as_points"](movements, 0.05), points, atol=1e-6)


@pytest.mark.parametrize("name", ["pen_digits.py", "draw_digits.py"])
def test_digits_are_read_from_files(name, monkeypatch, tmp_path, capsys):
    monkeypatch.chdir(tmp_path)
    digits = [(k % 10, [[(k, 9), (k % 7, 1), (8, k % 5)]]) for k in range(40)]
    write_unipen(tmp_path / "pendigits-orig.tra", digits)
    write_unipen(tmp_path / "pendigits-orig.tes", digits[:10])
    run(monkeypatch, name, ["--data", str(tmp_path), "--epochs", "1"])
    assert "%" in capsys.readouterr().out


def test_vowels_reads_its_format(monkeypatch, tmp_path):
    read = parts_of(monkeypatch, "vowels.py")["read_utterances"]
    utterances = [np.random.default_rng(k).normal(size=(2 + k % 3, 12)) for k in range(18)]
    rows = [np.concatenate([u, np.ones((1, 12))]) for u in utterances]
    np.savetxt(tmp_path / "ae.train", np.concatenate(rows))
    found, whose = read(tmp_path / "ae.train", [2] * 9)
    assert whose.tolist() == [k // 2 for k in range(18)]
    for a, b in zip(found, utterances, strict=True):
        np.testing.assert_allclose(a, b, rtol=1e-6)
    with pytest.raises(SystemExit, match="expected 9 utterances, got 18"):
        read(tmp_path / "ae.train", [1] * 9)


def test_neighbours_in_a_string_are_different_speakers(monkeypatch):
    parts = parts_of(monkeypatch, "vowel_strings.py")
    utterances = [np.full((2, 12), k, np.float32) for k in range(18)]
    batches = parts["FreshStrings"]((utterances, np.arange(18) // 2), batch_size=16, seed=3)
    batch, again = batches.batch(5), batches.batch(5)
    np.testing.assert_array_equal(batch.inputs, again.inputs)
    for n, count in enumerate(batch.target_lengths):
        speakers = batch.inputs[: batch.lengths[n] : 2, n, 0] // 2
        assert batch.targets[:count, n].tolist() == (speakers + 1).tolist()
        assert (np.diff(speakers) != 0).all()
    assert not np.array_equal(batches.batch(6).inputs, batch.inputs)


def test_names_are_read_by_language(monkeypatch, tmp_path):
    parts = parts_of(monkeypatch, "names.py")
    (tmp_path / "Elvish.txt").write_text("\u00c9arwen\nNen\u00eb\n", encoding="utf-8")
    (tmp_path / "Dwarvish.txt").write_text("Gr\u00f3r\n", encoding="utf-8")
    names, languages = parts["read_names"](tmp_path)
    assert languages == ["Dwarvish", "Elvish", "Elvish"]
    assert [parts["plain"](name) for name in names] == ["gror", "earwen", "nene"]


def test_music_composes_a_file_that_can_be_played(monkeypatch, tmp_path, capsys):
    midi = tmp_path / "c.mid"
    run(monkeypatch, "music.py", ["--epochs", "2", "--frames", "12", "--midi", str(midi)])
    notes = read_midi(midi).notes
    assert min(note.start for note in notes) == 0
    assert max(note.start + note.duration for note in notes) <= 12 * 480
    spell = parts_of(monkeypatch, "music.py")["spell"]
    roll = np.zeros((2, 88), np.float32)
    roll[0, [3, 40]], roll[1, 7] = 1, 1
    steps = spell(roll)
    assert steps[:, 0].tolist() == [88, 3, 40, 88, 7, 88]
    assert [np.flatnonzero(chord).tolist() for chord in steps[:, 1:]] == [
        [], [], [], [3, 40], [3, 40], [7],
    ]  # fmt: skip


def test_the_problems_ask_for_what_their_inputs_hold(monkeypatch):
    adding = parts_of(monkeypatch, "adding_problem.py")["Adding"](11, 7).batch(4)
    number, mark = adding.inputs[..., 0], adding.inputs[..., 1]
    assert (mark.sum(0) == 2).all()
    np.testing.assert_allclose((number * mark).sum(0), adding.targets[:, 0], rtol=1e-6)

    copy = parts_of(monkeypatch, "copy_memory.py")["CopyMemory"](6, 5).batch(2)
    assert copy.inputs.shape == copy.targets.shape == (26, 5)
    np.testing.assert_array_equal(copy.targets[-10:], copy.inputs[:10])
    assert not copy.targets[:-10].any()
    assert not copy.inputs[10:15].any()
    assert (copy.inputs[15:] == 9).all()

    order = parts_of(monkeypatch, "temporal_order.py")["TemporalOrder"](100, 50).batch(1)
    for n, (length, kind) in enumerate(zip(order.lengths, order.targets, strict=True)):
        row = order.inputs[:length, n]
        first, second = np.flatnonzero(row >= 6)
        assert 100 <= length <= 110
        assert 10 <= first + 1 <= 20
        assert 50 <= second + 1 <= 60
        assert kind == 2 * (row[first] - 6) + row[second] - 6
        assert (row[0], row[-1]) == (0, 1)


@pytest.mark.parametrize("name", ["adding_problem.py", "draw_digits.py"])
def test_pictures_may_be_left_out(name, monkeypatch, tmp_path, capsys):
    monkeypatch.chdir(tmp_path)
    monkeypatch.setitem(sys.modules, "matplotlib", None)
    monkeypatch.setitem(sys.modules, "matplotlib.figure", None)
    run(monkeypatch, name, SMALL[name])
    assert "no picture" in capsys.readouterr().out
    assert not list(tmp_path.iterdir())


# Of what `main` returns with no options at all.
LEARNT = {
    "adding_problem.py": lambda loss: max(loss["IRNN"], loss["LSTM"], loss["GRU"]) < 0.01
    and loss["RNN"] > 0.1,
    "copy_memory.py": lambda found: found["ExpRNN"]["accuracy"] > 0.99,
    "draw_digits.py": lambda legible: legible > 0.9,
    "music.py": lambda nll: nll["chords as words"] < nll["key by key"] < nll["independent keys"],
    "names.py": lambda accuracy: accuracy > 0.8,
    "pen_digits.py": lambda accuracy: accuracy > 0.97,
    "splice_junctions.py": lambda accuracy: accuracy > 0.95,
    "temporal_order.py": lambda found: found["LSTM"] > 0.99 and found["RNN"] < 0.5,
    "vowel_strings.py": lambda rates: max(rates) < 0.1,
    "vowels.py": lambda accuracy: accuracy > 0.95,
}


@pytest.mark.slow
@pytest.mark.parametrize("name", LEARNT)
def test_without_options_it_learns(name, monkeypatch, tmp_path, capsys):
    monkeypatch.chdir(tmp_path)
    main = parts_of(monkeypatch, name)["main"]
    monkeypatch.setattr(sys, "argv", [name])
    assert LEARNT[name](main())


@pytest.mark.parametrize("budget", [[], ["seconds"]])
@pytest.mark.parametrize("name", ["language_model.py", "translate.py"])
def test_a_twin_in_pytorch_is_trained_beside_it(name, budget, monkeypatch, tmp_path, capsys):
    pytest.importorskip("torch")
    monkeypatch.chdir(tmp_path)
    run(monkeypatch, name, [*SMALL[name], "--torch", *budget])
    assert "PyTorch: " in capsys.readouterr().out


@pytest.mark.parametrize("drawn", [True, False])
def test_vanishing_gradients_show_a_picture_or_a_table(drawn, monkeypatch, tmp_path, capsys):
    if drawn:
        pytest.importorskip("matplotlib")
    else:
        monkeypatch.setitem(sys.modules, "matplotlib", None)
        monkeypatch.setitem(sys.modules, "matplotlib.figure", None)
    picture = tmp_path / "p.png"
    arguments = [*SMALL["vanishing_gradients.py"], "--picture", str(picture)]
    variables = run(monkeypatch, "vanishing_gradients.py", arguments)
    out = capsys.readouterr().out
    assert picture.exists() == drawn
    assert ("install matplotlib" in out) != drawn
    # Nothing is lost by an identity, much by a plain RNN, and stretched weights are warned of.
    factors = {name: before.factor() for name, (before, _, _) in variables["results"].items()}
    assert factors["RNN"] < 0.9 < factors["IRNN"] < 1.1
    assert variables["norm"] > 1 >= variables["clipped"]


@pytest.mark.slow
def test_simple_networks_fail_where_gated_ones_learn(monkeypatch, tmp_path, capsys):
    variables = run(
        monkeypatch, "vanishing_gradients.py", ["--picture", str(tmp_path / "picture.png")]
    )
    loss = {name: final for name, (_, _, final) in variables["results"].items()}
    baseline = variables["BASELINE"]
    assert min(loss["RNN"], loss["RNN orthogonal"]) > 0.9 * baseline
    assert max(loss["IRNN"], loss["GRU"], loss["LSTM"], loss["LSTM chrono"]) < baseline / 4
    assert "exploding gradient" in capsys.readouterr().out


def test_digits_are_read_from_mnist_s_own_files(monkeypatch, tmp_path):
    digits = parts_of(monkeypatch, "digits.py")
    random = np.random.default_rng(0)
    images = random.integers(0, 256, (3, 28, 28), np.uint8)
    labels = np.array([7, 0, 4], np.uint8)
    for part, pack in (("train", gzip.compress), ("t10k", bytes)):
        suffix = ".gz" if part == "train" else ""
        image_file = tmp_path / f"{part}-images-idx3-ubyte{suffix}"
        image_file.write_bytes(pack(b"\0\0\x08\x03" + bytes(12) + images.tobytes()))
        label_file = tmp_path / f"{part}-labels-idx1-ubyte{suffix}"
        label_file.write_bytes(pack(b"\0\0\x08\x01" + bytes(4) + labels.tobytes()))
    for found in digits["load"](tmp_path):
        assert_array_equal(np.rint(found.images * 255), images)
        assert_array_equal(found.labels, labels)
    label_file.unlink()
    with pytest.raises(SystemExit, match="t10k-labels-idx1-ubyte"):
        digits["load"](tmp_path)


def test_numbers_are_spelled_as_they_are_in_french(monkeypatch):
    spelled = parts_of(monkeypatch, "translate.py")["spelled"]
    for number, english, french in (
        (0, "zero", "zéro"),
        (16, "sixteen", "seize"),
        (21, "twenty one", "vingt et un"),
        (71, "seventy one", "soixante et onze"),
        (77, "seventy seven", "soixante dix-sept"),
        (80, "eighty", "quatre-vingts"),
        (81, "eighty one", "quatre-vingt un"),
        (91, "ninety one", "quatre-vingt onze"),
        (100, "one hundred", "cent"),
        (200, "two hundred", "deux cents"),
        (1201, "one thousand two hundred one", "mille deux cent un"),
        (80300, "eighty thousand three hundred", "quatre-vingt mille trois cents"),
    ):
        assert spelled(number, "English") == english
        assert spelled(number, "French") == french


def test_pairs_are_read_from_the_archive_and_from_the_file_in_it(monkeypatch, tmp_path):
    read_sentences = parts_of(monkeypatch, "translate.py")["read_sentences"]
    text = "Go.\tVa !\tCC-BY\nOne two three four.\tUn deux trois quatre.\n"
    plain, packed = tmp_path / "fra.txt", tmp_path / "fra-eng.zip"
    plain.write_text(text, encoding="utf-8")
    with zipfile.ZipFile(packed, "w") as archive:
        archive.writestr("fra.txt", text)
    for path in (plain, packed):
        options = argparse.Namespace(data=str(path), longest=3)
        assert read_sentences(options) == [("go.", "va !")]


def test_what_moves_in_a_clip_stays_on_the_canvas(monkeypatch):
    video = parts_of(monkeypatch, "video_tagging.py")
    random = np.random.default_rng(0)
    paths = np.stack([video["flight"](random, 40) for _ in range(50)])
    assert paths.min() == 0
    assert paths.max() == video["CANVAS"] - video["SIZE"]
    # It moves on, in steps no larger than its speed and the rounding allow.
    assert 0 < np.abs(np.diff(paths, axis=1)).max() <= 3


def test_series_are_judged_by_what_came(monkeypatch, capsys):
    series = parts_of(monkeypatch, "series.py")
    kind = series["KINDS"][0]
    options = argparse.Namespace(updates=1, networks=1, seed=0)
    values = np.log(series["PASSENGERS"])[:, None]
    found = series["backtest"](values, kind, options)
    first, h = len(values) * 2 // 3, kind.horizon
    origins = range(first, len(values) - h + 1)
    assert_array_equal(found["truth"], np.stack([values[t : t + h, 0] for t in origins]))
    assert_array_equal(found["naive"], np.stack([values[t - 1].repeat(h) for t in origins]))
    assert_array_equal(found["seasonal"], np.stack([values[t - 12 : t, 0] for t in origins]))
    # One small step from the seasonal guess with the mean growth: by months, not by mistakes.
    assert np.abs(found["network"] - found["seasonal"] - 0.12).max() < 0.1
    for network, verdict in ((found["truth"], "beats every guess"), (found["naive"], "Do not use")):
        series["report"](kind, {**found, "network": network}, len(values))
        assert verdict in capsys.readouterr().out
