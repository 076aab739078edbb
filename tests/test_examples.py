"""The examples run as scripts, at small sizes; the slow tests hold them to what they say."""

import argparse
import gzip
import runpy
import sys
import zipfile
from pathlib import Path

import numpy as np
import pytest
from numpy.testing import assert_array_equal

EXAMPLES = Path(__file__).resolve().parent.parent / "examples"
SMALL = {
    "digits.py": [],
    "language_model.py": ["--hidden", "8", "--epochs", "0.04"],
    "mnist_pixels.py": ["--hidden", "4", "--epochs", "0.02", "--tested", "50"],
    "mnist_rows.py": ["--hidden", "4", "--epochs", "0.1"],
    "series.py": ["--updates", "2", "--networks", "1"],
    "strip_captions.py": ["--hidden", "8", "--updates", "2", "--test-strips", "40"],
    "translate.py": ["--hidden", "8", "--epochs", "0.3", "--numbers", "600"],
    "vanishing_gradients.py": ["--steps", "9", "--hidden", "4", "--batch", "3", "--updates", "3"],
    "video_tagging.py": ["--hidden", "4", "--updates", "2", "--test-clips", "10"],
}


HELPERS = {"torch_twins.py"}  # of other examples, nothing by themselves


def run(monkeypatch, name, arguments):
    monkeypatch.setattr(sys, "argv", [name, *arguments])
    # As the interpreter does for a script: examples find the files beside them.
    monkeypatch.syspath_prepend(str(EXAMPLES))
    return runpy.run_path(str(EXAMPLES / name), run_name="__main__")


def test_every_example_is_tested():
    assert {path.name for path in EXAMPLES.glob("*.py")} == set(SMALL) | HELPERS


@pytest.mark.parametrize("name", SMALL)
def test_it_runs(name, monkeypatch, tmp_path, capsys):
    monkeypatch.chdir(tmp_path)
    run(monkeypatch, name, SMALL[name])
    assert capsys.readouterr().out


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


def example(monkeypatch, name):
    """An example's functions, without its run."""
    monkeypatch.syspath_prepend(str(EXAMPLES))
    return runpy.run_path(str(EXAMPLES / name), run_name="example")


def test_digits_are_read_from_mnist_s_own_files(monkeypatch, tmp_path):
    digits = example(monkeypatch, "digits.py")
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
    spelled = example(monkeypatch, "translate.py")["spelled"]
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
    read_sentences = example(monkeypatch, "translate.py")["read_sentences"]
    text = "Go.\tVa !\tCC-BY\nOne two three four.\tUn deux trois quatre.\n"
    plain, packed = tmp_path / "fra.txt", tmp_path / "fra-eng.zip"
    plain.write_text(text, encoding="utf-8")
    with zipfile.ZipFile(packed, "w") as archive:
        archive.writestr("fra.txt", text)
    for path in (plain, packed):
        options = argparse.Namespace(data=str(path), longest=3)
        assert read_sentences(options) == [("go.", "va !")]


def test_what_moves_in_a_clip_stays_on_the_canvas(monkeypatch):
    video = example(monkeypatch, "video_tagging.py")
    random = np.random.default_rng(0)
    paths = np.stack([video["flight"](random, 40) for _ in range(50)])
    assert paths.min() == 0
    assert paths.max() == video["CANVAS"] - video["SIZE"]
    # It moves on, in steps no larger than its speed and the rounding allow.
    assert 0 < np.abs(np.diff(paths, axis=1)).max() <= 3


def test_series_are_judged_by_what_came(monkeypatch, capsys):
    series = example(monkeypatch, "series.py")
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
