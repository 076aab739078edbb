"""The benchmark suite itself: what it times, compares, refuses and reports."""

import gc
import json
import os
import subprocess
import sys
import weakref
from dataclasses import replace
from importlib import import_module
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pytest

import rnnkit as rk

ROOT = Path(__file__).resolve().parent.parent
PEERS = {"torch": ["torch"], "jax": ["jax"], "onnxruntime": ["onnxruntime", "onnx"]}


@pytest.fixture
def suite(monkeypatch):
    """Imports a module of the benchmarks, which are not part of the installed package."""
    monkeypatch.syspath_prepend(ROOT)
    backend, threads = rk.get_backend(), rk.get_num_threads()
    yield lambda name: import_module(f"benchmarks.{name}")
    rk.set_backend(backend)
    rk.set_num_threads(threads)


@pytest.fixture
def native():
    if not rk.config()["native"]:
        if os.environ.get("RNNKIT_REQUIRE_NATIVE") == "1":
            pytest.fail("the native extension is not built")
        pytest.skip("the native extension is not built")


@pytest.fixture
def clock(suite, monkeypatch):
    """Time that passes only where a test says so."""
    now = [0.0]

    def advance(seconds):
        now[0] += seconds

    fake = SimpleNamespace(perf_counter=lambda: now[0], sleep=advance)
    monkeypatch.setattr(suite("timing"), "time", fake)
    return advance


def run(*arguments):
    return subprocess.run(
        [sys.executable, "-m", "benchmarks", *arguments],
        cwd=ROOT,
        capture_output=True,
        text=True,
        check=False,
    )


def small(suite, cell="rnn", shape=(2, 3, 4, 5), **options):
    return suite("problem").Problem(cell, suite("problem").Shape(*shape), **options)


def spread(value):
    return {"median": value, "low": value, "high": value}


def cells_row(mode="training", over=None, **changes):
    """A row as the cells suite emits it, for what comes after."""
    return {
        "suite": "cells",
        "threads": 2,
        "cell": "gru",
        "label": "GRU",
        "mode": mode,
        "dtype": "float32",
        "source": "grid",
        "shape": {"N": 64, "T": 25, "I": 512, "H": 512},
        "shape_text": "N64 T25 I512 H512",
        "seconds": {"native": spread(1.0), **{name: spread(r) for name, r in (over or {}).items()}},
        "speedup_over": {name: spread(ratio) for name, ratio in (over or {}).items()},
        "setting": {},
        "settings": {},
        "left_out": {},
        "compile_seconds": {},
        "rounds": 3,
        **changes,
    }


# What a run writes


def test_a_tiny_run_prints_and_writes_everything(native, tmp_path):
    figures, pictures, tables = tmp_path / "f.json", tmp_path / "pictures", tmp_path / "t.md"
    result = run(
        "--tiny", "--only", "cells,limits,lstm,rnn", "--threads", "1,2", "--dtype",
        "float32,float64", "--json", str(figures), "--plot", str(pictures),
        "--markdown", str(tables),
    )  # fmt: skip
    assert result.returncode == 0, result.stderr
    for words in ("LSTM", "RNN tanh", "N2 T4 I3 H5", "training", "geometric means", "Targets"):
        assert words in result.stdout
        assert words in tables.read_text()
    assert "GRU forward" not in result.stdout
    assert (pictures / "speedup.png").read_bytes().startswith(b"\x89PNG")
    found = json.loads(figures.read_text())
    rows = [row for row in found["rows"] if row["suite"] == "cells"]
    keys = [
        (row["threads"], row["cell"], row["dtype"], row["shape_text"], row["mode"]) for row in rows
    ]
    assert len(keys) == len(set(keys)) == 2 * 2 * 2 * 2 * 2
    assert [machine["threads"] for machine in found["machines"]] == [1, 2]
    assert [machine["rnnkit"]["num_threads"] for machine in found["machines"]] == [1, 2]
    config = rk.config()
    has_unit = "amx" in config["isa_supported"] and config["isa_in_use"] == "avx512"
    for row in rows:
        sides = {"native", "python"}
        sides |= {"native on 1 thread"} if row["threads"] > 1 else set()
        if has_unit and row["dtype"] == "float32" and row["mode"] == "training":
            sides.add("native on amx")
        assert set(row["seconds"]) == sides
        times = row["seconds"]["native"]
        assert 0 < times["low"] <= times["median"] <= times["high"]
        assert row["speedup_over"]["python"]["median"] > 0
    limits = [row for row in found["rows"] if row["suite"] == "limits"]
    assert {row["threads"] for row in limits} == {1, 2}
    if "missing" not in limits[0]:
        assert all(row["limits"]["bound"] in ("fma", "read") for row in rows)
        assert (pictures / "roofline.png").exists()


def test_every_other_suite_runs_tiny(native, tmp_path):
    figures = tmp_path / "figures.json"
    names = ["stream", "matmul", "results", "language", "scaling", "footprint"]
    result = run(
        "--tiny", "--only", ",".join(names), "--threads", "2", "--json", str(figures),
        "--plot", str(tmp_path),
    )  # fmt: skip
    assert result.returncode == 0, result.stderr
    rows = json.loads(figures.read_text())["rows"]
    by_suite = {name: [row for row in rows if row["suite"] == name] for name in names}
    assert {row["cell"] for row in by_suite["stream"]} == {"rnn", "gru", "lstm"}
    assert {row["kind"] for row in by_suite["matmul"]} == {"large", "skinny", "in turns"}
    assert not any(row["failing"] for row in by_suite["results"])
    for row in by_suite["language"]:
        steps, seconds, losses = zip(*row["curves"]["native"], strict=True)
        assert list(steps) == sorted(steps)
        assert 0 == seconds[0] < seconds[-1]
        assert losses[-1] < losses[0]
    assert {row["axis"] for row in by_suite["scaling"]} == {"T", "H", "N", "threads"}
    kinds = {(row["kind"], row["name"]) for row in by_suite["footprint"]}
    assert kinds >= {("import", "rnnkit"), ("import", "numpy"), ("size", "rnnkit")}
    (memory,) = [row for row in by_suite["footprint"] if row["kind"] == "memory"]
    assert 0 < memory["results"] < memory["before"] < memory["peak"]
    for picture in ("scaling.png", "language.png"):
        assert (tmp_path / picture).read_bytes().startswith(b"\x89PNG")
    assert not (tmp_path / "speedup.png").exists()


def test_sequences_and_programs_run_tiny(native, tmp_path):
    figures = tmp_path / "figures.json"
    result = run(
        "--tiny", "--only", "sequences,programs,rnn,lstm", "--threads", "2", "--json", str(figures)
    )
    assert result.returncode == 0, result.stderr
    rows = json.loads(figures.read_text())["rows"]
    sequences = [row for row in rows if row["suite"] == "sequences"]
    timed = [(r["what"], r["cell"], r["mode"]) for r in sequences if r["kind"] == "time"]
    modes = ("forward", "training")
    uneven = {(w, c, m) for w in ("ragged", "resets") for c in ("rnn", "lstm") for m in modes}
    assert len(timed) == len(set(timed))
    assert set(timed) == uneven | {("memory budget", "lstm", "training")}
    for row in sequences:
        if row["kind"] == "time":
            assert set(row["seconds"]) == {"native", row["without"]}
            assert row["speedup_over"] == {}
            assert 0 < row["share"]["low"] <= row["share"]["median"] <= row["share"]["high"]
    (memory,) = [row for row in sequences if row["kind"] == "memory"]
    assert 0 < memory["before"] < memory["peak"]
    programs = [row for row in rows if row["suite"] == "programs"]
    planned = [row["cell"] for row in programs if row["kind"] == "planning"]
    assert len(planned) == len(set(planned)) == 6
    for row in programs:
        assert row["path"] in ("program", "python")
        assert row["reason"]
        if row["kind"] == "time":
            fused = {"fused"} if row["cell"] in ("own lstm", "own gru") else set()
            assert set(row["seconds"]) == {"native", "python"} | fused
    for words in ("full batch", "no resets", "memory=full", "SLSTM", "Paths: "):
        assert words in result.stdout


def test_saved_figures_of_several_runs_are_reported_together(suite, capsys, tmp_path):
    machine = suite("machine").describe(2, [])
    paths = []
    for cell, label in (("gru", "GRU"), ("lstm", "LSTM")):
        rows = [cells_row(cell=cell, label=label, over={"torch": 7.0})]
        paths.append(tmp_path / f"{cell}.json")
        paths[-1].write_text(json.dumps({"machines": [machine], "rows": rows, "took": []}))
    assert suite("cli").main(["--load", *map(str, paths)]) == 0
    out = capsys.readouterr().out
    assert out.count(machine["cpu"]) == 1
    assert [line.split()[0] for line in out.splitlines() if "N64 T25" in line][:2] == [
        "GRU",
        "LSTM",
    ]
    assert "GRU and RNN training step vs PyTorch" in out


def test_what_is_no_saved_figures_is_said(suite, capsys, tmp_path):
    no_rows = {"machines": [], "rows": 3, "took": []}
    no_row = {"machines": [suite("machine").describe(2, [])], "rows": [{"suite": "cells"}],
              "took": []}  # fmt: skip
    for text in ("[]", "{}", "x", json.dumps(no_rows), json.dumps(no_row)):
        (tmp_path / "x.json").write_text(text)
        assert suite("cli").main(["--load", str(tmp_path / "x.json")]) == 1
        assert capsys.readouterr().err.startswith("benchmarks: ")


def test_a_failed_comparison_ends_in_an_error_and_the_rest_is_reported(suite, capsys, monkeypatch):
    records = [
        {"machine": suite("machine").describe(2, [])},
        cells_row(over={"torch": 7.0}),
        {"suite": "cells", "threads": 2, "failed": "y of torch differs"},
    ]
    monkeypatch.setattr(suite("cli"), "measure", lambda options: iter(records))
    assert suite("cli").main(["--tiny", "--threads", "2"]) == 1
    out, err = capsys.readouterr()
    assert "7.00x" in out
    assert err.splitlines()[-1] == "benchmarks: cells: y of torch differs"


@pytest.mark.skipif(not Path("/dev/full").exists(), reason="there is no full device")
def test_what_cannot_be_written_is_said_in_one_line(suite, capsys, monkeypatch):
    records = [{"machine": suite("machine").describe(2, [])}, cells_row(over={"torch": 7.0})]
    monkeypatch.setattr(suite("cli"), "measure", lambda options: iter(records))
    assert suite("cli").main(["--tiny", "--threads", "2", "--json", "/dev/full"]) == 1
    out, err = capsys.readouterr()
    assert "7.00x" in out
    assert err.splitlines()[-1].startswith("benchmarks: [Errno 28]")


# What is asked for


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        (("--only", "lstn"), "'lstn' is none of limits, cells"),
        (("--only", ","), "expected some of limits, cells"),
        (("--threads", "0"), "expected numbers from 1 to 256, or 'all', got '0'"),
        (("--threads", "300"), "expected numbers from 1 to 256, or 'all', got '300'"),
        (("--dtype", "float16"), "'float16' is none of float32, float64"),
        (("--peers", "numpy"), "'numpy' is none of torch"),
        (("--quick", "--full"), "not allowed with argument"),
        (("--json", "nowhere/x.json"), "'nowhere/x.json' is a folder, or in none that"),
        (("--markdown", "."), "'.' is a folder"),
        (("--plot", __file__), "is no folder"),
        (("--plot", f"{__file__}/pictures"), "is no folder"),
        (("--load", "x.json", "--only", "gru", "--tiny"), "--tiny, --only can't go with it"),
    ],
)
def test_wrong_options_are_refused_in_one_line(suite, capsys, arguments, words):
    with pytest.raises(SystemExit) as caught:
        suite("cli").main(list(arguments))
    assert caught.value.code == 2
    assert words in capsys.readouterr().err.splitlines()[-1]


def test_a_missing_peer_is_named_and_left_out(suite, capsys, monkeypatch):
    cli, asked = suite("cli"), []
    monkeypatch.setattr(cli, "missing_packages", lambda peer: ["onnx"] if "onnx" in peer else [])
    monkeypatch.setattr(cli, "measure", lambda options: asked.append(options) or iter(()))
    cli.main(["--tiny", "--threads", "1", "--peers", "torch,onnxruntime"])
    assert asked[0].peers == ["torch"]
    assert "onnxruntime is left out: not installed: onnx" in capsys.readouterr().err


@pytest.mark.parametrize(
    ("only", "suites"),
    [
        (
            [],
            [
                *("limits", "cells", "stream", "matmul", "results", "language", "scaling"),
                *("footprint", "sequences", "programs"),
            ],
        ),
        (["--only", "gru"], ["cells", "stream", "results", "scaling", "sequences"]),
        (["--only", "programs"], ["programs"]),
        (["--only", "stream,gru"], ["stream"]),
        (["--only", "footprint,limits"], ["limits", "footprint"]),
    ],
)
def test_cells_alone_run_the_suites_that_go_by_cell(suite, monkeypatch, only, suites):
    cli, asked = suite("cli"), []
    monkeypatch.setattr(cli, "measure", lambda options: asked.append(options) or iter(()))
    cli.main([*only, "--threads", "1,2"])
    assert asked[-1].suites == suites
    every = [s for s in suites if s in ("limits", "cells")]
    assert [options.suites for options in asked[:-1]] == ([every] if every else [])
    assert asked[-1].cells == [name for name in only[-1:] for name in ("gru",) if name in only[-1]]


def test_a_broken_peer_is_named_and_left_out(native, tmp_path, monkeypatch):
    (tmp_path / "torch.py").write_text("print('hello')\nraise ImportError('no libtorch')\n")
    monkeypatch.setenv("PYTHONPATH", str(tmp_path), prepend=os.pathsep)
    figures = tmp_path / "figures.json"
    result = run(
        "--tiny", "--only", "cells,rnn", "--threads", "1", "--peers", "torch", "--json",
        str(figures),
    )  # fmt: skip
    assert result.returncode == 0, result.stderr
    assert "benchmarks: torch is left out: ImportError: no libtorch" in result.stderr
    assert len(json.loads(figures.read_text())["rows"]) == 4


def test_a_suite_that_fails_does_not_end_the_others(suite, capfd, native, monkeypatch):
    worker, records = suite("worker"), []

    def fail(options, emit):
        raise RuntimeError("no more")

    options = {"threads": 1, "size": "tiny", "dtypes": ["float32"], "peers": [], "cells": ["rnn"],
               "suites": ["stream", "results"]}  # fmt: skip
    monkeypatch.setattr(worker, "_emitter", lambda: records.append)
    monkeypatch.setattr(worker.sys, "argv", ["worker", json.dumps(options)])
    monkeypatch.setattr(suite("suite_stream"), "run", fail)
    assert worker.main() == 0
    failed = {"suite": "stream", "threads": 1, "failed": "RuntimeError: no more"}
    assert failed in records
    assert sum(record.get("suite") == "results" for record in records) == 4
    assert "RuntimeError: no more" in capfd.readouterr().err


# Who is compared


@pytest.mark.parametrize("mode", ["forward", "training"])
@pytest.mark.parametrize("cell", ["rnn", "gru", "lstm"])
@pytest.mark.parametrize("peer", PEERS)
def test_a_peer_is_a_side_that_agrees(suite, native, peer, cell, mode):
    for package in PEERS[peer]:
        pytest.importorskip(package)
    problem = small(suite, cell, (3, 5, 4, 7))
    first = suite("sides").rnnkit_side(problem, "native", 1)
    sides = suite("sides").peer_sides(problem, [peer], 1)
    assert [side.name for side in sides] == [peer]
    if mode == "forward" or sides[0].train:
        suite("sides").check_sides(problem, [first, *sides], mode)


def user_cells():
    return ["own lstm", "own gru", "layernorm-lstm", "peephole-lstm", "indrnn", "own slstm"]


@pytest.mark.parametrize("cell", user_cells())
def test_a_user_cell_agrees_with_its_fused_twin_and_the_python_path(suite, native, cell):
    programs = suite("suite_programs")
    assert cell in suite("program_cells").PROGRAM_CELLS
    problem = small(suite, cell, (3, 5, 4, 7))
    sides = programs._sides(problem, SimpleNamespace(threads=1, peers=[]))
    has_twin = cell in suite("program_cells").FUSED_TWIN
    names = ["native", "fused", "python"] if has_twin else ["native", "python"]
    assert [side.name for side in sides] == names
    for mode in ("forward", "training"):
        suite("sides").check_sides(problem, sides, mode)
        assert programs.path_of(problem, mode, 1)["path"] in ("program", "python")


@pytest.mark.parametrize("cell", user_cells())
@pytest.mark.parametrize("peer", ["torch", "jax"])
def test_a_user_cell_is_the_same_in_a_peer(suite, native, peer, cell):
    pytest.importorskip(peer)
    problem = small(suite, cell, (3, 5, 4, 7))
    first = suite("sides").rnnkit_side(problem, "python")
    (side,) = suite("sides").peer_sides(problem, [peer], 1)
    suite("sides").check_sides(problem, [first, side], "training")


@pytest.mark.parametrize("mode", ["forward", "training"])
@pytest.mark.parametrize("cell", ["rnn", "gru", "lstm"])
def test_only_pytorch_takes_a_ragged_batch_and_agrees(suite, native, cell, mode):
    for package in ("torch", "jax", "onnxruntime", "onnx"):
        pytest.importorskip(package)
    problem = small(suite, cell, (5, 7, 4, 6), ragged=True)
    first = suite("sides").rnnkit_side(problem, "native", 1)
    sides = suite("sides").peer_sides(problem, list(PEERS), 1)
    assert [side.name for side in sides] == ["torch"]
    suite("sides").check_sides(problem, [first, *sides], mode)
    for other in (replace(problem, reset_rate=0.5), replace(problem, last_only=True)):
        assert suite("sides").peer_sides(other, list(PEERS), 1) == []


@pytest.mark.parametrize("how", [{"ragged": True}, {"reset_rate": 0.3}, {"last_only": True}])
def test_uneven_problems_are_those_that_were_asked_for(suite, native, how):
    plain = small(suite, "gru", (5, 8, 3, 4))
    problem = replace(plain, **how)
    sides = [suite("sides").rnnkit_side(p, "native", 1) for p in (problem, plain)]
    expected, full = (side.to_numpy(side.train()) for side in sides)
    assert (expected[0].shape == (5, 4)) == problem.last_only
    # The weights' gradients are the last four; none may be those of the plain problem.
    for a, b in zip(expected[-4:], full[-4:], strict=True):
        assert a.shape == b.shape
        assert not np.allclose(a, b, rtol=1e-3)
    python = suite("sides").rnnkit_side(problem, "python")
    suite("sides").check_sides(problem, [sides[0], python], "training")


def test_lengths_are_uniform_and_unsorted(suite):
    lengths = small(suite, shape=(32, 100, 2, 2), ragged=True).lengths
    assert 1 <= lengths.min() <= 4
    assert 97 <= lengths.max() <= 100
    assert lengths.mean() == pytest.approx(50.5, abs=0.5)
    assert 0 < (np.diff(lengths) > 0).sum() < 31
    assert small(suite).lengths is None


def test_a_wrong_result_with_lengths_is_not_timed(suite, native, monkeypatch):
    sequences, rows = suite("suite_sequences"), []

    def wrong(problem, backend, *rest):
        side = suite("sides").rnnkit_side(problem, backend, *rest)
        if backend == "python" or not problem.ragged:
            return side
        return replace(side, to_numpy=lambda a: [1.01 * each.detach().numpy() for each in a])

    monkeypatch.setattr(sequences, "rnnkit_side", wrong)
    sequences.run(SimpleNamespace(cells=["rnn"], size="tiny", threads=1, peers=[]), rows.append)
    assert ["failed" in row for row in rows] == [True, False, True, False]
    assert "ragged" in rows[0]["failed"]


def test_a_cell_is_planned_anew_in_every_round(suite, native, monkeypatch):
    programs, kinds = suite("suite_programs"), []
    steps = programs._step_seconds

    def record(module, problem):
        kinds.append(type(module._layers[0][0]))
        return steps(module, problem)

    monkeypatch.setattr(programs, "_step_seconds", record)
    row = programs._planning("indrnn", SimpleNamespace(size="tiny", threads=1))
    assert [kinds.count(kind) for kind in dict.fromkeys(kinds)] == [4, 4, 4]
    assert row["first"]["median"] > 0
    assert row["planning"]["median"] < row["first"]["median"]


@pytest.mark.parametrize("cell", ["rnn", "gru", "lstm"])
@pytest.mark.parametrize("peer", PEERS)
def test_a_peer_steps_as_rnnkit_does(suite, native, peer, cell):
    for package in PEERS[peer]:
        pytest.importorskip(package)
    problem = small(suite, cell, (1, 6, 5, 5))
    expected = suite("suite_stream").rnnkit_stepper(problem, 1).run()
    for stepper in suite("sides").peer_module(peer).make_steppers(problem, 1):
        np.testing.assert_allclose(stepper.run(), expected, atol=1e-6)
        np.testing.assert_array_equal(stepper.run(), stepper.run())


@pytest.mark.parametrize("cell", ["rnn", "gru", "lstm"])
def test_rnnkit_steps_carry_their_state_and_reset(suite, native, cell):
    problem = small(suite, cell, (2, 6, 4, 5))
    stepper = suite("suite_stream").rnnkit_stepper(problem, 1)
    with rk.no_grad():
        y, _ = problem.make_module()(rk.tensor(problem.inputs["x"]))
    for _ in range(2):
        np.testing.assert_array_equal(stepper.run(), y.numpy())


@pytest.mark.parametrize("mode", ["forward", "training"])
def test_a_side_that_computes_something_else_is_not_timed(suite, mode):
    problem = small(suite, "gru")
    side = suite("sides").rnnkit_side(problem, "python")

    def wrong(arrays):
        first, *rest = (array.detach().numpy() for array in arrays)
        return [first * np.float32(1.001), *rest]

    other = replace(side, name="other", to_numpy=wrong)
    suite("sides").check_sides(problem, [side, side], mode)
    with pytest.raises(AssertionError, match="y of other differs from that of python"):
        suite("sides").check_sides(problem, [side, other], mode)


def test_a_result_with_nan_does_not_pass_for_equal(suite):
    problem = small(suite)
    side = suite("sides").rnnkit_side(problem, "python")
    broken = replace(
        side,
        name="broken",
        to_numpy=lambda arrays: [np.full_like(a.detach().numpy(), np.nan) for a in arrays],
    )
    with pytest.raises(AssertionError, match="broken"):
        suite("sides").check_sides(problem, [side, broken], "forward")


def test_a_training_step_gives_every_gradient(suite):
    side = suite("sides").rnnkit_side(small(suite, "lstm"), "python")
    arrays = side.to_numpy(side.train())
    assert [array.shape for array in arrays] == [
        *((3, 2, 5), (1, 2, 5), (1, 2, 5)),
        *((3, 2, 4), (1, 2, 5), (1, 2, 5)),
        *((20, 4), (20, 5), (20,), (20,)),
    ]


@pytest.mark.parametrize(
    ("what", "words"),
    [
        ("forward", "forward of other fails: OSError: no device"),
        ("compile", "forward of other fails: OSError: no device"),
        ("few", "of other has 1 results in place of 2: y, hn"),
        ("float64", "y of other is float64, that of native float32"),
    ],
)
def test_a_side_that_breaks_ends_its_own_comparison(suite, native, what, words):
    def broken(*arguments):
        raise OSError("no device")

    problem = small(suite)
    side = suite("sides").rnnkit_side(problem, "native", 1)
    changes = {
        "forward": {"forward": broken},
        "compile": {"compile": broken},
        "few": {"to_numpy": lambda tensors: side.to_numpy(tensors)[:1]},
        "float64": {"to_numpy": lambda tensors: [t.numpy().astype(float) for t in tensors]},
    }
    other = replace(side, name="other", **changes[what])
    plan = suite("timing").AT_ONCE
    with pytest.raises(suite("sides").DisagreementError, match=words):
        suite("comparison").compare_sides(problem, "forward", [side, other], plan)


# How it is timed


def test_sides_take_turns_in_an_order_that_changes_from_round_to_round(suite):
    timing = suite("timing")
    calls = []

    def entry(name):
        return timing.Entry(
            name, lambda: calls.append(name), prepare=lambda: calls.append(f"prepare {name}")
        )

    plan = replace(timing.AT_ONCE, min_rounds=20)
    found = timing.compare([entry(name) for name in "abc"], plan)
    assert {name: len(values) for name, values in found.seconds.items()} == dict.fromkeys("abc", 20)
    turns = "".join([call[-1] for call in calls[9:] if call.startswith("prepare")])
    rounds = [turns[i : i + 3] for i in range(0, 60, 3)]
    assert all(sorted(each) == list("abc") for each in rounds)
    # Nobody always begins, or always comes after the same one.
    assert {each[0] for each in rounds} == set("abc")
    pairs = {each[i : i + 2] for each in rounds for i in (0, 1)}
    assert len(pairs) == 6


def test_the_best_setting_counts_and_a_beaten_one_leaves(suite, clock):
    timing = suite("timing")
    plan = timing.Plan(sample_seconds=0.0, budget_seconds=100.0, settle_seconds=0.0)
    calls = []

    def entry(name, setting, seconds):
        return timing.Entry(name, lambda: (clock(seconds), calls.append(setting)), setting)

    found = timing.compare(
        [
            entry("native", "", 1.0),
            entry("peer", "beaten", 4.0),
            entry("peer", "best", 2.0),
            entry("peer", "near", 2.25),
        ],
        plan,
    )
    assert found.setting["peer"] == "best"
    assert set(found.seconds["peer"]) == {2.0}
    assert found.settings["peer"] == {"beaten": 4.0, "best": 2.0, "near": 2.25}
    assert found.ratios_to("native") == {"peer": spread(2.0)}
    assert calls.count("beaten") == 2 + timing.KNOCKOUT_ROUNDS
    assert calls.count("best") == calls.count("near") == 2 + len(found.seconds["native"])


def test_who_is_too_slow_is_called_once_and_left_out_but_never_the_first(suite, clock):
    timing = suite("timing")
    plan = timing.Plan(0.0, 0.0, settle_seconds=0.0, too_slow=5.0)
    calls = []
    entries = [
        timing.Entry(name, lambda n=name, s=seconds: (clock(s), calls.append(n)))
        for name, seconds in (("native", 6.0), ("slow", 7.0), ("quick", 1.0))
    ]
    found = timing.compare(entries, plan)
    assert found.left_out == {"slow": 7.0}
    assert calls.count("slow") == 1
    assert set(found.seconds) == {"native", "quick"}


def test_nobody_is_timed_while_the_garbage_of_another_is_collected(suite):
    class Node:
        pass

    garbage, found = [], []

    def leave_a_cycle():
        node = Node()
        node.itself = node
        garbage.append(weakref.ref(node))

    timing = suite("timing")
    look = timing.Entry("native", lambda: found.append(sum(n() is not None for n in garbage)))
    gc.disable()
    try:
        timing.compare([look, timing.Entry("other", leave_a_cycle)], timing.AT_ONCE)
    finally:
        gc.enable()
    assert len(garbage) > 3
    assert set(found) == {0}
    assert gc.get_freeze_count() == 0


def test_a_sample_lasts_as_long_as_planned_and_gauges_are_read_every_round(suite, clock):
    timing = suite("timing")
    calls = []
    entry = timing.Entry("native", lambda: (clock(0.125), calls.append(1)))
    plan = timing.Plan(sample_seconds=1.0, budget_seconds=0.0, settle_seconds=0.0)
    found = timing.compare([entry], plan, {"limit": lambda: 3.0})
    assert len(calls) == 2 + plan.min_rounds * 8
    assert found.seconds["native"] == [0.125] * 5
    assert found.readings == {"limit": [3.0] * 5}


def test_the_spread_is_the_median_and_the_quartiles(suite):
    found = suite("timing").Spread.of([5.0, 1.0, 2.0, 3.0, 4.0])
    assert (found.low, found.median, found.high) == (2.0, 3.0, 4.0)


def test_the_speed_up_is_the_median_of_the_ratios_of_the_rounds(suite):
    seconds = {"native": [1.0, 2.0, 4.0], "python": [10.0, 2.0, 20.0]}
    found = suite("timing").Comparison(seconds=seconds)
    assert found.ratios_to("native")["python"]["median"] == 5.0


# The machine and its limits


def test_flops_and_bytes_are_those_of_the_products(suite):
    roofline, problem = suite("roofline"), small(suite, "lstm", (2, 3, 4, 5), dtype="float64")
    w_ih, w_hh = (problem.weights[name] for name in ("weight_ih_l0", "weight_hh_l0"))
    assert roofline.flops(problem, "forward") == 2 * 2 * 3 * (w_ih.size + w_hh.size)
    assert roofline.flops(problem, "training") == 3 * roofline.flops(problem, "forward")
    assert roofline.bytes_read(problem, "forward") == 3 * w_hh.nbytes
    assert roofline.bytes_read(problem, "training") == 6 * w_hh.nbytes


def test_flops_outside_the_loops_are_those_of_the_other_products(suite):
    roofline, problem = suite("roofline"), small(suite, "lstm", (2, 3, 4, 5), dtype="float64")
    w_ih, w_hh = (problem.weights[name] for name in ("weight_ih_l0", "weight_hh_l0"))
    assert roofline.flops_outside(problem, "forward") == 2 * 2 * 3 * w_ih.size
    in_loops = roofline.flops(problem, "training") - roofline.flops_outside(problem, "training")
    assert in_loops == 2 * 2 * 3 * 2 * w_hh.size


def test_only_products_of_steps_that_are_there_count(suite):
    roofline, problem = suite("roofline"), small(suite, "indrnn", (4, 6, 3, 5), ragged=True)
    (w_ih,) = (w for w in problem.weights.values() if w.ndim == 2)
    steps = int(problem.lengths.sum())
    assert steps < 4 * 6
    assert roofline.flops(problem, "forward") == 2 * steps * w_ih.size
    assert roofline.flops(problem, "training") == roofline.flops_outside(problem, "training")


def test_at_the_peak_a_step_takes_what_its_products_take(suite):
    assert suite("roofline").at_peak(6e9, [3.0, 4.0, 5.0], [3e9] * 3)["median"] == 2.0


@pytest.mark.parametrize("mode", ["forward", "training"])
@pytest.mark.parametrize(("N", "bound"), [(1, "read"), (64, "fma")])
def test_work_at_the_limit_is_all_of_it(suite, N, bound, mode):
    roofline, problem = suite("roofline"), small(suite, "gru", (N, 3, 64, 64))
    fma, read = 1e11, 1e10
    if bound == "fma":
        twice_the_least = 2 * roofline.flops(problem, mode) / fma
    else:
        outside = roofline.flops_outside(problem, mode) / fma
        twice_the_least = outside + 2 * roofline.bytes_read(problem, mode) / read
    readings = {"fma": [fma] * 3, "read": [read] * 3}
    found = roofline.against_limits(problem, mode, [twice_the_least] * 3, readings)
    assert found["bound"] == bound
    assert found["fraction"][bound]["median"] == pytest.approx(0.5)


def test_the_limits_are_measured_with_a_compiler(suite):
    limits = suite("limits")
    try:
        machine = limits.limits(2)
    except limits.LimitsError as error:
        pytest.skip(str(error))
    assert machine.fma("float32") > 1e8
    assert machine.fma("float64") > 1e8
    assert machine.read(1000) > 1e7
    assert machine.read(1 << 20) > 1e7


def test_without_a_compiler_there_are_no_limits_and_a_reason(suite, monkeypatch):
    limits = suite("limits")
    rows = []
    monkeypatch.setenv("CC", "no-such-compiler")
    limits.limits.cache_clear()
    limits._library.cache_clear()
    try:
        assert limits.limits_or_none(1) is None
        suite("suite_limits").run(SimpleNamespace(threads=1, size="tiny"), rows.append)
    finally:
        limits.limits.cache_clear()
        limits._library.cache_clear()
    (row,) = rows
    assert "no-such-compiler can't be run" in row["missing"]
    (table,) = suite("suite_limits").tables(rows)
    assert row["missing"] in table.text()


def test_sizes_that_are_read_lie_in_the_memory_they_stand_for(suite):
    limits = suite("limits")
    for threads in (1, 2):
        sizes = limits.typical_sizes(threads)
        assert list(sizes) == ["L1", "L2", "L3", "DRAM"]
        assert list(sizes.values()) == sorted(sizes.values())
        for memory in ("L1", "L2"):
            assert limits.level_of(sizes[memory] // threads) == memory
        assert limits.level_of(sizes["DRAM"]) == "DRAM"


# The shapes


def test_the_grid_spans_what_it_promises(suite):
    grid = suite("grid")
    assert grid.GRID[0] == (1, 100, 16, 16)
    assert grid.GRID[-1] == (16, 25, 1024, 1024)
    assert len(set(grid.GRID)) == len(grid.GRID) == 16
    assert set(grid.QUICK_GRID) <= set(grid.GRID)


def test_deepbench_problems_are_those_that_fit_in_a_minute(suite):
    cells = suite("suite_cells")
    options = SimpleNamespace(size="full", cells=["lstm"], dtypes=["float32"])
    found = {
        problem.shape: modes
        for problem, modes in cells.problems(options)
        if problem.source == "DeepBench"
    }
    assert found[(16, 25, 512, 512)] == ("forward", "training")
    assert found[(1, 50, 1536, 1536)] == ("forward",)
    assert found[(32, 25, 2048, 2048)] == ("forward",)  # its training step does not fit
    assert (128, 25, 4096, 4096) not in found
    assert cells.grid_rows([cells_row(source="DeepBench")]) == []


# Language models


def test_the_corpora_are_seeded_and_within_their_vocabulary(suite):
    task = suite("language_task")
    for make, vocabulary in ((task.characters, 65), (task.words, 1000)):
        ids = make(vocabulary, 20_000)
        assert ids.shape == (20_000,)
        assert ids.min() >= 0
        assert vocabulary // 2 < ids.max() < vocabulary
        make.cache_clear()
        np.testing.assert_array_equal(make(vocabulary, 20_000), ids)
    # There is something to learn: a word narrows down the one after it.
    ids = task.words(100, 50_000)
    counts = np.zeros((100, 100))
    np.add.at(counts, (ids[:-1], ids[1:]), 1)
    assert (counts > 0).sum(axis=1).mean() < 10


def test_a_trainer_that_learns_something_else_is_not_timed(suite, native, monkeypatch):
    language = suite("suite_language")

    class Other(language.RnnkitTrainer):
        name = "other"

        def step(self, window):
            return 1.01 * super().step(window)

    task = suite("language_task").TINY
    monkeypatch.setattr(language, "peer_trainer", lambda peer, task, threads: Other(task, threads))
    with pytest.raises(AssertionError, match=r"a loss of other differs from rnnkit's by 1.0e-02"):
        language._check(task, 2, ["other"], 1)


def test_the_time_to_a_loss_is_read_between_two_validations(suite):
    seconds_to = suite("suite_language")._seconds_to
    curve = [(0, 0.0, 5.0), (10, 2.0, 4.0), (20, 4.0, 3.0)]
    assert seconds_to(3.5, curve) == 3.0
    assert seconds_to(3.0, curve) == 4.0
    assert seconds_to(6.0, curve) == 0.0
    assert seconds_to(2.0, curve) == float("inf")


@pytest.mark.parametrize("name", ["TINY", "TINY_CHARACTERS"])
def test_pytorch_trains_the_same_model(suite, native, name):
    pytest.importorskip("torch")
    task = getattr(suite("language_task"), name)
    deviation = suite("suite_language")._check(task, 5, ["torch"], 1)
    assert deviation["torch"] < 1e-5


# What is reported


def test_the_report_shows_times_ratios_and_their_geometric_mean(suite):
    rows = [cells_row(over={"python": ratio}) for ratio in (2.0, 8.0)]
    table, means = suite("suite_cells").tables(rows)
    assert table.title.startswith("Cells, float32, 2 threads")
    assert table.text().splitlines()[4].split() == [
        "GRU", "training", "N64", "T25", "I512", "H512", "1000.000", "-", "2000.000", "2.00x",
        "(2.00-2.00)",
    ]  # fmt: skip
    assert means.body == [["GRU", "training", "4.00x (min 2.00)"]]
    assert means.markdown().splitlines()[2:4] == [
        "| label | mode | over python |",
        "| --- | --- | ---: |",
    ]


def test_who_was_too_slow_shows_how_slow(suite):
    rows = [cells_row(over={"python": 2.0}), cells_row(left_out={"python": 9.0})]
    table, _ = suite("suite_cells").tables(rows)
    assert table.body[1][-2:] == ["> 9000.000", "-"]


def test_targets_stand_next_to_what_was_measured(suite):
    rows = [
        cells_row(cell="gru", over={"torch": 6.0, "native on 1 thread": 1.9}),
        cells_row(cell="rnn", label="RNN tanh", over={"torch": 5.0}),
        cells_row(cell="lstm", label="LSTM", over={"torch": 1.0, "native on 1 thread": 1.7}),
        cells_row(cell="lstm", dtype="float64", over={"torch": 4.0}),
        cells_row(cell="gru", source="DeepBench", over={"torch": 0.1}),
        cells_row(cell="gru", threads=1, over={"torch": 0.1}),
    ]
    lines = {line[0]: line for line in suite("targets").summary(rows).body}
    assert lines["GRU and RNN training step vs PyTorch"][2:] == [
        "mean 5.48x, least 5.00x (RNN tanh training N64 T25 I512 H512)", "yes", "",
    ]  # fmt: skip
    assert lines["LSTM training step vs PyTorch"][3] == "NO"
    assert lines["float64 training step vs PyTorch"][2].startswith("mean 4.00x")
    assert lines["all threads over one, N >= 16, H >= 128"][2].startswith("least 1.70x (LSTM")
    assert lines["all threads over one, any shape"][3] == "yes"
    assert lines["inference vs ONNX Runtime"][2:] == ["not measured", "-", ""]


def test_sequences_are_held_to_their_targets(suite):
    def timed(what, share, **changes):
        return cells_row(suite="sequences", kind="time", what=what, share=spread(share), **changes)

    def memory(T, peak):
        shape = {"N": 8, "T": T, "I": 32, "H": 256}
        return {"suite": "sequences", "kind": "memory", "shape": shape, "peak": peak,
                "label": "LSTM", "shape_text": f"T{T}", "memory": "1MB"}  # fmt: skip

    rows = [
        timed("ragged", 0.5, over={"torch": 4.0}),
        timed("ragged", 0.7, over={"torch": 2.5}),
        timed("resets", 1.04),
        memory(100_000, 500e6),
        memory(1000, 900e6),
    ]
    lines = {line[0]: line for line in suite("targets").summary(rows).body}
    place = "(GRU training N64 T25 I512 H512)"
    assert lines["lengths uniform on 1..T vs all of T"][2:] == [
        f"most 0.70x {place}, median 0.60x", "NO", "",
    ]  # fmt: skip
    assert lines["lengths uniform on 1..T vs PyTorch, packed"][2].startswith("least 2.50x")
    assert lines["restarts at 1 of 20 steps vs none"][3] == "yes"
    assert lines["a memory budget vs none"][3] == "-"
    assert lines["LSTM N8 T100000 H256, training step"][2:] == [
        "most 500 MB (LSTM T100000, memory=1MB), median 500 MB", "yes", "",
    ]  # fmt: skip


def test_programs_are_held_to_their_targets(suite):
    def timed(N, H, over, **changes):
        shape = {"N": N, "T": 50, "I": H, "H": H}
        return cells_row(
            suite="programs", kind="time", path="program", shape=shape, over=over, **changes
        )

    rows = [
        timed(1, 64, {"torch": 11.0, "jax": 4.0, "python": 29.0, "fused": 0.5}, cell="own lstm"),
        timed(32, 256, {"torch": 1.5, "jax": 1.5, "python": 2.5, "fused": 0.5}, cell="own lstm"),
        timed(32, 256, {"torch": 0.5, "fused": 0.1}, mode="forward"),
        timed(32, 256, {"fused": 0.1}, cell="own gru"),
        {"suite": "programs", "kind": "planning", "path": "program", "label": "A",
         "planning": spread(0.021)},
        {"suite": "programs", "kind": "planning", "path": "python", "label": "B",
         "planning": spread(0.5)},
    ]  # fmt: skip
    lines = {line[0]: line for line in suite("targets").summary(rows).body}
    assert lines["own cell, N <= 16, H <= 64, vs PyTorch's loop"][3] == "yes"
    assert lines["own cell, N >= 32, H >= 256, vs PyTorch's loop"][2].startswith("least 1.50x")
    assert lines["own cell vs JAX's scan"][2].startswith("mean 2.45x, least 1.50x")
    assert lines["own cell vs JAX's scan"][3] == "yes"
    assert lines["own cell vs Python, N 1, H 64"][3] == "NO"
    assert lines["own cell vs Python, N >= 32, H >= 256"][3] == "yes"
    assert lines["own LSTM vs fused, N >= 32, H >= 256"][2:] == [
        "most 2.00x (GRU N64 T25 I512 H512, path program), median 2.00x", "NO", "",
    ]  # fmt: skip
    assert lines["own LSTM vs fused, N 1, H 64"][3] == "yes"
    assert lines["tracing and planning an own cell"][2:] == [
        "most 21.0 ms (A), median 21.0 ms", "NO", "",
    ]  # fmt: skip


def test_a_target_tells_what_the_peak_of_the_machine_would_allow(suite):
    def row(speedup, at_peak, **changes):
        return cells_row(over={"torch": speedup}, at_peak={"torch": spread(at_peak)}, **changes)

    rows = [
        row(1.2, 1.9, cell="lstm", label="LSTM"),
        row(1.4, 1.5, cell="lstm", label="LSTM", shape_text="N1"),
        row(1.0, 1.1, suite="programs", kind="time", path="program", cell="own slstm"),
        row(1.3, 9.0, suite="sequences", kind="time", what="ragged", share=spread(0.5)),
        row(1.3, 1.25, suite="language", title="words: 10"),
    ]
    lines = {line[0]: line for line in suite("targets").summary(rows).body}
    assert lines["LSTM training step vs PyTorch"][4] == "1.50x (LSTM training N1)"
    assert lines["own cell, N >= 32, H >= 256, vs PyTorch's loop"][4].startswith("1.10x (GRU N64")
    assert lines["lengths uniform on 1..T vs PyTorch, packed"][4].startswith("9.00x (GRU training")
    assert lines["language model end to end vs PyTorch"][4] == "1.25x (words)"


def test_fractions_of_the_limits_are_held_to_their_targets(suite):
    def limits(fraction, weights=1 << 20):
        return {"fraction": {"fma": spread(fraction), "read": spread(fraction)}, "weights": weights}

    one = {"N": 1, "T": 100, "I": 128, "H": 128}
    in_l2 = suite("limits").caches()[2]
    rows = [
        cells_row("forward", limits=limits(0.85)),
        cells_row("training", limits=limits(0.65)),
        cells_row("forward", shape=one, limits=limits(0.7, in_l2), threads=1),
        cells_row("forward", shape=one, limits=limits(0.1, 64), threads=1),
    ]
    lines = {line[0]: line for line in suite("targets").summary(rows).body}
    assert lines["N >= 32, H >= 256, forward"][3] == "yes"
    assert lines["N >= 32, H >= 256, training step"][2].startswith("least 65 %")
    assert lines["N >= 32, H >= 256, training step"][3] == "NO"
    assert lines["batch 1, weights in L2, 1 thread"][2].startswith("least 70 %")


def test_a_broken_promise_of_equal_bits_is_shown_with_its_shape(suite, native, monkeypatch):
    results, rows = suite("suite_results"), []
    monkeypatch.setattr(results, "_any_threads", lambda problem, threads: problem.shape.N == 1)
    options = SimpleNamespace(cells=["rnn"], dtypes=["float32"], size="tiny", threads=1)
    results.run(options, rows.append)
    assert [row["failing"] for row in rows] == [["N2 T4 I3 H5"], ["N2 T4 I3 H5"], [], []]
    (table,) = results.tables(rows)
    assert table.body[0][3] == "fails on N2 T4 I3 H5"
    assert "2 of 4 claims hold" in str(suite("targets").summary(rows).body)


def test_the_installed_size_leaves_out_what_is_not_installed(suite):
    counted = suite("suite_footprint").installed_bytes("rnnkit")
    sources = sum(path.stat().st_size for path in (ROOT / "rnnkit").rglob("*.py"))
    everything = sum(p.stat().st_size for p in (ROOT / "rnnkit").rglob("*") if p.is_file())
    assert sources < counted < everything
    assert suite("suite_footprint").installed_bytes("numpy") > 1e6
