"""How the suite times, what it holds the times against, and on which problems."""

import gc
import weakref
from dataclasses import replace
from types import SimpleNamespace

import numpy as np
import pytest
from benchmark_tools import cells_row, small, spread

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
