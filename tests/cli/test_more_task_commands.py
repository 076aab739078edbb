"""The commands for forecasts, translations and compositions, as a user meets them."""

import json
import re

import numpy as np
import pytest
from commands import assert_one_line_error, rnnkit

from rnnkit.cli.options import as_typed
from rnnkit.data import read_midi
from rnnkit.errors import ArgumentError
from rnnkit.train.options import settings_options
from rnnkit.train.tasks.forecast import ForecastSettings

FEW = ["--hidden", "8", "--epochs", "1", "--validations", "1"]


@pytest.fixture(scope="module")
def place(tmp_path_factory):
    """Data of all three kinds."""
    folder = tmp_path_factory.mktemp("more")
    random = np.random.default_rng(0)
    walk = np.cumsum(random.normal(size=120)) + 50
    rows = [f"d{t},{value!r}" for t, value in enumerate(walk.tolist())]
    (folder / "price.csv").write_text("\n".join(["day,price", *rows]) + "\n")
    words = [" ".join(random.choice(["a", "b", "c"], 4)) for _ in range(60)]
    (folder / "cost.csv").write_text("\n".join(["day,cost", *rows]) + "\n")
    (folder / "low").write_text("\n".join(words) + "\n")
    (folder / "high").write_text("\n".join(word.upper() for word in words) + "\n")
    pieces = [[[48 + t % 3, 60 + n % 5] for t in range(9)] for n in range(12)]
    (folder / "songs.json").write_text(json.dumps(pieces))
    return folder


def run(place, *arguments, **options):
    result = rnnkit(*arguments, cwd=place, **options)
    assert result.returncode == 0, result.stderr
    return result


def test_forecast(place):
    options = ["--window", "8", "--horizon", "3", "--season", "5", "--lr", "1e-6"]
    trained = run(place, "train", "forecast", "price.csv", *FEW, *options, "--output", "f")
    assert "price.csv: 120 moments of 1 column, 3 of price forecast from 8" in trained.stderr
    for rival in ("network", "naive", "drift", r"seasonal naive \(5\)"):
        assert re.search(rf"^  {rival} +\d", trained.stdout, re.M)
    assert "the network LOSES to " in trained.stdout
    lines = run(place, "predict", "f", "price.csv").stdout.splitlines()
    assert [json.loads(line)["step"] for line in lines] == [1, 2, 3]
    measured = run(place, "evaluate", "f", "--json")
    assert json.loads(measured.stdout)["network mase"] > 0
    assert "price: the network LOSES to " in measured.stderr
    assert "nothing left to do" in run(place, "resume", "f").stderr
    (place / "vast.csv").write_text("day,price\n" + "".join(f"{i},{i}e299\n" for i in range(40)))
    for arguments, message in (
        (["evaluate", "f", "vast.csv"], "vast.csv: series: not finite or too large: transformed"),
        (["predict", "f", "vast.csv"], "vast.csv: not finite or too large: transformed, expected"),
        (["predict", "f", "cost.csv"], "cost.csv: no column 'price'; the columns are day, cost"),
        (["predict", "f", "-"], "expected a CSV file or an array"),
        (["train", "forecast", "price.csv", "--log", "--target", "day"], "no column 'day'"),
    ):
        result = rnnkit(*arguments, cwd=place, input="")
        assert message in assert_one_line_error(result)


def test_only_the_option_that_an_error_is_about_is_named_as_it_is_typed():
    known = settings_options(ForecastSettings)
    about = "a.csv: log: expected numbers above 0 in column 'x: log: missing'"
    assert str(as_typed(ArgumentError(about), known)) == about.replace("log", "--log", 1)
    assert str(as_typed(ArgumentError(about), known, "rnnkit train")) == about
    hint = "a.csv: decimal=',' or missing='carry'; hidden=3, other='x'"
    assert str(as_typed(ArgumentError(hint), known, "rnnkit train")) == (
        "a.csv: rnnkit train --decimal , or rnnkit train --missing carry; hidden=3, other='x'"
    )


def test_what_a_file_lacks_names_the_options_as_they_are_typed(place):
    """Also where they are those of another command, with which the run was trained."""
    (place / "week.csv").write_text("day,price\n" + "".join(f"{i},{i % 7}\n" for i in range(40)))
    run(place, "train", "forecast", "week.csv", *FEW, "--window", "4", "--horizon", "2",
        "--target", "price", "--output", "g")  # fmt: skip
    (place / "gap.csv").write_text("day,price\n" + "1,2\n" * 40 + "1,\n")
    (place / "comma.csv").write_text("day;price\n" + "1;2,5\n" * 40)
    train = ["train", "forecast"]
    for arguments, message in (
        ([*train, "gap.csv"], "gap.csv:42: column 'price': no value (''); --missing carry takes "),
        (["predict", "g", "gap.csv"], "no value (''); rnnkit train --missing carry takes the last"),
        (["evaluate", "g", "gap.csv"], "no value (''); rnnkit train --missing carry takes the "),
        ([*train, "comma.csv"], "got '2,5'; with --decimal , it is one"),
        ([*train, "week.csv", "--log"], "week.csv: --log: expected numbers above 0, got 0"),
        ([*train, "price.csv", "--difference", "90"], "price.csv: --difference: expected less"),
        (["train", "translate", "low", "high", "--max-words", "1"], "--max-words: all pairs are"),
    ):
        assert message in assert_one_line_error(rnnkit(*arguments, cwd=place)), arguments


def test_another_run_among_the_arguments_is_not_taken_for_the_run(place):
    (place / "fox.txt").write_text("the quick brown fox jumps over the lazy dog. " * 30)
    few = [*FEW, "--embedding", "4", "--output"]
    run(place, "train", "fox.txt", "--batch", "2", "--length", "8", *few, "text")
    run(place, "train", "compose", "songs.json", *few, "music")
    result = rnnkit("sample", "--prompt", "text", "music", cwd=place)
    line = assert_one_line_error(result, 2)
    assert "argument RUN: 'music' goes before the options and other arguments" in line
    assert run(place, "sample", "text", "--prompt", "music", "--length", "3").stdout[:5] == "music"


def test_translate(place):
    trained = run(
        place, "train", "translate", "low", "high", *FEW, "--embedding", "4", "--output", "t"
    )
    assert re.search(r"^test part: BLEU \d+\.\d\d \(nrefs:1\|case:mixed", trained.stdout, re.M)
    pytest.importorskip("matplotlib")
    found = run(
        place, "predict", "t", "-", "--beam", "2", "--attention", "a.png", input="a b\n\nc\n"
    )
    records = [json.loads(line) for line in found.stdout.splitlines()]
    assert [record["source"] for record in records] == ["a b", "", "c"]
    ascii = {"input": "ä\n", "env": {"PYTHONIOENCODING": "ascii"}}
    assert json.loads(run(place, "predict", "t", "-", **ascii).stdout)["source"] == "ä"
    utf_8 = {"input": "ä\n", "env": {"PYTHONIOENCODING": "utf-8"}, "encoding": "utf-8"}
    assert run(place, "predict", "t", "-", **utf_8).stdout.startswith('{"source": "ä", ')
    assert (place / "a.png").exists()
    figures = run(place, "evaluate", "t", "low", "high", "--json", "--beam", "1").stdout
    assert set(json.loads(figures)) >= {"BLEU"}
    result = rnnkit("predict", "t", "-", "--beam", "0", cwd=place, input="")
    assert "argument --beam: expected 1 or more" in assert_one_line_error(result, 2)
    idle = rnnkit("predict", "t", "-", "--attention", "b.png", cwd=place, input=" \n\n")
    line = assert_one_line_error(idle, 2)
    assert "argument --attention: expected a line with words to draw, got none" in line
    assert len(idle.stdout.splitlines()) == 2
    result = rnnkit("predict", "t", "-", "--attention", "", cwd=place, input="a\n")
    assert "argument --attention: expected a path, got ''" in assert_one_line_error(result, 2)
    # A file may be called as an option is.
    result = rnnkit("predict", "t", "beam", "--beam", "2", cwd=place)
    assert "rnnkit: error: beam: cannot be read: No such" in assert_one_line_error(result)
    result = rnnkit("train", "translate", "low", "--attention", "dot", cwd=place)
    assert "argument --attention: dot needs" in assert_one_line_error(result, 2)


def test_compose(place):
    trained = run(
        place, "train", "compose", "songs.json", *FEW, "--head", "frames", "--output", "c"
    )
    assert re.search(r"^test part: \d+\.\d+ nats/frame \(sum over the 88", trained.stdout, re.M)
    assert read_midi(place / "c" / "sample.mid").tempo == pytest.approx(100)
    options = ["--length", "12", "--seed", "3", "--output", "own.mid", "--tempo", "60", "--no-tie"]
    text = run(place, "sample", "c", *options).stdout
    assert run(place, "sample", "c", *options).stdout == text
    assert len(text.replace("\n", " | ").strip(" |").split(" | ")) == 12
    piece = read_midi(place / "own.mid")
    assert piece.tempo == pytest.approx(60)
    assert {note.duration for note in piece.notes} <= {piece.ticks}
    assert "nats/frame" in run(place, "evaluate", "c").stdout
    result = rnnkit("sample", "c", "--output", "none/own.mid", cwd=place)
    assert "none/own.mid: No such file or directory" in assert_one_line_error(result)
    for option in (["--tempo", "60"], ["--no-tie"]):
        result = rnnkit("sample", "c", *option, cwd=place)
        line = assert_one_line_error(result, 2)
        assert f"argument {option[0].replace('no-', '')}: has no effect without --output" in line
    result = rnnkit("predict", "c", "songs.json", cwd=place)
    assert "which has no predict" in assert_one_line_error(result)
