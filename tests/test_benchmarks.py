"""The benchmark suite itself: what it times, compares, refuses and reports."""

import json
import os
import subprocess
import sys
from dataclasses import replace
from importlib import import_module
from pathlib import Path

import numpy as np
import pytest

import rnnkit as rk

ROOT = Path(__file__).resolve().parent.parent


@pytest.fixture
def suite(monkeypatch):
    """Imports a module of the benchmarks, which are not part of the installed package."""
    monkeypatch.syspath_prepend(ROOT)
    before = rk.get_backend()
    yield lambda name: import_module(f"benchmarks.{name}")
    rk.set_backend(before)


@pytest.fixture
def native():
    if not rk.config()["native"]:
        if os.environ.get("RNNKIT_REQUIRE_NATIVE") == "1":
            pytest.fail("the native extension is not built")
        pytest.skip("the native extension is not built")


def run(*arguments):
    return subprocess.run(
        [sys.executable, "-m", "benchmarks", *arguments],
        cwd=ROOT,
        capture_output=True,
        text=True,
        check=False,
    )


def test_a_tiny_run_prints_and_writes_everything(native, tmp_path):
    figures, picture = tmp_path / "figures.json", tmp_path / "picture.png"
    result = run(
        "--tiny", "--only", "lstm,rnn", "--threads", "1,2", "--dtype", "float32,float64",
        "--json", str(figures), "--plot", str(picture),
    )  # fmt: skip
    assert result.returncode == 0, result.stderr
    for words in ("LSTM", "RNN tanh", "N2 T4 I3 H5", "training", "geometric mean"):
        assert words in result.stdout
    assert "GRU" not in result.stdout
    assert picture.read_bytes().startswith(b"\x89PNG")
    found = json.loads(figures.read_text())
    keys = [
        (row["threads"], row["cell"], row["dtype"], row["shape_text"], row["mode"])
        for row in found["rows"]
    ]
    assert len(keys) == len(set(keys)) == 2 * 2 * 2 * 2 * 2
    assert [machine["threads"] for machine in found["machines"]] == [1, 2]
    assert [machine["rnnkit"]["num_threads"] for machine in found["machines"]] == [1, 2]
    for row in found["rows"]:
        assert set(row["seconds"]) == {"native", "python"}
        spread = row["seconds"]["native"]
        assert 0 < spread["low"] <= spread["median"] <= spread["high"]
        assert row["speedup_over"]["python"]["median"] > 0


def test_wrong_options_are_refused_in_one_line():
    for arguments, words in [
        (("--only", "lstn"), "'lstn' is none of"),
        (("--threads", "0"), "expected numbers from 1, or 'all', got '0'"),
        (("--dtype", "float16"), "'float16' is none of float32, float64"),
        (("--peers", "numpy"), "'numpy' is none of torch"),
    ]:
        result = run("--tiny", *arguments)
        assert result.returncode == 2
        assert words in result.stderr.splitlines()[-1]


def test_a_missing_peer_is_named(native):
    try:
        import torch  # noqa: F401
    except ImportError:
        result = run("--tiny", "--peers", "torch", "--threads", "1")
        assert result.returncode == 1
        assert "not installed: torch" in result.stderr
        assert "Traceback" not in result.stderr
    else:
        pytest.skip("PyTorch is installed here")


@pytest.mark.parametrize("mode", ["forward", "training"])
@pytest.mark.parametrize("cell", ["rnn", "gru", "lstm"])
def test_pytorch_is_a_side_that_agrees(suite, native, cell, mode):
    pytest.importorskip("torch")
    problem = suite("problem").Problem(cell, suite("problem").Shape(3, 5, 4, 7))
    sides = suite("sides").make_sides(problem, ["torch"], 1)
    assert [side.name for side in sides] == ["native", "python", "torch"]
    suite("sides").check_sides(problem, sides, mode)


@pytest.mark.parametrize("mode", ["forward", "training"])
def test_a_side_that_computes_something_else_is_not_timed(suite, mode):
    problem = suite("problem").Problem("gru", suite("problem").Shape(2, 3, 4, 5))
    side = suite("sides").rnnkit_side(problem, "python")

    def wrong(arrays):
        first, *rest = (array.detach().numpy() for array in arrays)
        return [first * np.float32(1.001), *rest]

    other = replace(side, name="other", to_numpy=wrong)
    suite("sides").check_sides(problem, [side, side], mode)
    with pytest.raises(AssertionError, match="y of other differs from that of python"):
        suite("sides").check_sides(problem, [side, other], mode)


def test_a_result_with_nan_does_not_pass_for_equal(suite):
    problem = suite("problem").Problem("rnn", suite("problem").Shape(2, 3, 4, 5))
    side = suite("sides").rnnkit_side(problem, "python")
    broken = replace(
        side,
        name="broken",
        to_numpy=lambda arrays: [np.full_like(a.detach().numpy(), np.nan) for a in arrays],
    )
    with pytest.raises(AssertionError, match="broken"):
        suite("sides").check_sides(problem, [side, broken], "forward")


def test_a_training_step_gives_every_gradient(suite):
    problem = suite("problem").Problem("lstm", suite("problem").Shape(2, 3, 4, 5))
    side = suite("sides").rnnkit_side(problem, "python")
    arrays = side.to_numpy(side.train())
    assert [array.shape for array in arrays] == [
        *((3, 2, 5), (1, 2, 5), (1, 2, 5)),
        *((3, 2, 4), (1, 2, 5), (1, 2, 5)),
        *((20, 4), (20, 5), (20,), (20,)),
    ]


def test_sides_take_turns_and_each_begins_a_round(suite):
    timing = suite("timing")
    calls = []

    def side(name):
        return (lambda: calls.append(f"prepare {name}")), (lambda: calls.append(name))

    plan = timing.Plan(sample_seconds=0.0, budget_seconds=0.0, settle_seconds=0.0)
    samples = timing.compare({"a": side("a"), "b": side("b")}, plan)
    assert {name: len(values) for name, values in samples.items()} == {"a": 3, "b": 3}
    rounds = [call for call in calls[6:] if call.startswith("prepare")]
    assert [call[-1] for call in rounds] == ["a", "b", "b", "a", "a", "b"]


def test_the_spread_is_the_median_and_the_quartiles(suite):
    spread = suite("timing").Spread.of([5.0, 1.0, 2.0, 3.0, 4.0])
    assert (spread.low, spread.median, spread.high) == (2.0, 3.0, 4.0)


def test_the_speed_up_is_the_median_of_the_ratios_of_the_rounds(suite):
    problem = suite("problem").Problem("rnn", suite("problem").Shape(1, 1, 1, 1))
    samples = {"native": [1.0, 2.0, 4.0], "python": [10.0, 2.0, 20.0]}
    row = suite("suite_cells")._row(problem, "forward", 1, samples)
    assert row["speedup_over"]["python"]["median"] == 5.0
    assert row["seconds"]["python"]["median"] == 10.0


def test_the_report_shows_times_ratios_and_their_geometric_mean(suite):
    problem = suite("problem").Problem("rnn", suite("problem").Shape(1, 2, 3, 4))
    rows = [
        suite("suite_cells")._row(problem, "forward", 2, {"native": [1.0] * 3, "python": [x] * 3})
        for x in (2.0, 8.0)
    ]
    title, table, means = suite("report").tables(rows)
    assert title.startswith("float32, 2 threads")
    assert table.splitlines()[2].split() == [
        "RNN", "forward", "N1", "T2", "I3", "H4", "1000.000", "2000.000", "2.00x", "(2.00-2.00)",
    ]  # fmt: skip
    assert means.splitlines()[2].split() == ["RNN", "forward", "4.00x"]


def test_the_grid_spans_what_it_promises(suite):
    shapes = suite("suite_cells").GRID
    assert shapes[0] == (1, 100, 16, 16)
    assert shapes[-1] == (64, 50, 512, 512)
    assert set(suite("suite_cells").QUICK_GRID) <= set(shapes)
