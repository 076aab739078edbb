"""Who is compared: sides that compute the same, and those that do not."""

from dataclasses import replace
from types import SimpleNamespace

import numpy as np
import pytest
from benchmark_tools import PEERS, small

import rnnkit as rk


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
