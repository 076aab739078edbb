"""What the suite reports of what was measured."""

from types import SimpleNamespace

from benchmark_tools import ROOT, cells_row, spread


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
