"""The examples run as scripts, at small sizes; the slow tests hold them to what they say."""

import runpy
import sys
from pathlib import Path

import pytest

EXAMPLES = Path(__file__).resolve().parent.parent / "examples"
SMALL = {
    "vanishing_gradients.py": ["--steps", "9", "--hidden", "4", "--batch", "3", "--updates", "3"],
}


def run(monkeypatch, name, arguments):
    monkeypatch.setattr(sys, "argv", [name, *arguments])
    return runpy.run_path(str(EXAMPLES / name), run_name="__main__")


def test_every_example_is_tested():
    assert {path.name for path in EXAMPLES.glob("*.py")} == set(SMALL)


@pytest.mark.parametrize("name", SMALL)
def test_it_runs(name, monkeypatch, tmp_path, capsys):
    monkeypatch.chdir(tmp_path)
    run(monkeypatch, name, SMALL[name])
    assert capsys.readouterr().out


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
