"""The benchmark suite as it is run: what it writes, takes and refuses."""

import json
import os
from pathlib import Path

import pytest
from benchmark_tools import cells_row, run

import rnnkit as rk

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
    assert {row["cell"] for row in by_suite["stream"]} == {
        "rnn", "gru", "lstm",
        "own lstm", "own gru", "layernorm-lstm", "peephole-lstm", "indrnn", "own slstm",
    }  # fmt: skip
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
