"""Batches as they are: rows of several lengths, restarts, last outputs, states of every step."""

import re
from itertools import pairwise

import numpy as np
import pytest
from recurrent_contract import (
    FUSED,
    SMALL_SIZES,
    VARIANTS,
    WAYS,
    Case,
    assert_close,
    assert_same_bits,
    check_native_equals_tape,
    error,
    forward,
    forward_backward,
    function_of_everything,
    garbled,
    make_ragged,
    paired_cases,
)

import rnnkit as rk
from rnnkit import nn
from rnnkit.cells import CELLS, LSTMCell
from rnnkit.errors import ArgumentError, DTypeError, ShapeError
from rnnkit.recurrent import run_layer
from rnnkit.recurrent.schedule import make_schedule

BOTH = pytest.mark.parametrize("dtype", ["float32", "float64"])
EACH = pytest.mark.parametrize(("name", "options"), VARIANTS)
# Where test_programs.py asks the same of every cell without a fused kernel.
FUSED_ONES = pytest.mark.parametrize(("name", "options"), FUSED)
EVERYTHING = {"lengths": "mixed", "reset": True, "reset_state": True, "return_steps": True}


# ---- native equals tape, and both the finite differences


@BOTH
@pytest.mark.parametrize("directions", [1, 2])
@pytest.mark.parametrize("way", WAYS)
@FUSED_ONES
def test_native_equals_tape(native, name, options, way, directions, dtype):
    """Sizes and layouts take turns; the slow test below has all pairs.

    Not the layer of one unit and one row: its gradients are single numbers, some of which cancel.
    """
    number = [*WAYS].index(way) + FUSED.index((name, options))
    sizes = [*SMALL_SIZES[1:], (9, 13, 13, 33)][number % 5]
    case = Case(name, options, sizes, directions, dtype, batch_first=number % 4 > 1)
    check_native_equals_tape(make_ragged(case, **WAYS[way]))


@FUSED_ONES
def test_native_equals_tape_where_equal_lengths_end_before_the_arrays(native, name, options):
    """Restarts of the reverse direction are counted from the rows' own end."""
    layer = make_ragged(Case(name, options, (6, 5, 3, 4), 2), lengths="equal", reset=True)
    check_native_equals_tape(layer)


@FUSED_ONES
def test_native_equals_tape_for_more_rows_than_are_taken_together(native, name, options):
    """Of a ragged batch, whose steps all begin with what is a whole number of such rows."""
    layer = make_ragged(Case(name, options, (20, 16, 2, 3), dtype="float64"), lengths="equal")
    layer.call["lengths"][3] = 17
    check_native_equals_tape(layer)


@pytest.mark.slow
@pytest.mark.parametrize(
    ("case", "way"),
    paired_cases(
        FUSED,
        [(1, 1, 2, 3), *SMALL_SIZES[1:], (9, 13, 13, 33), (30, 40, 6, 40), (6, 3, 300, 256)],
        WAYS,
    ),
    ids=str,
)
def test_native_equals_tape_in_all_pairs_of_options(native, case, way):
    for seed in (0, 1):
        check_native_equals_tape(make_ragged(case, **WAYS[way], seed=seed))


@pytest.mark.parametrize("way", ["everything", "lengths, reset_state, last only, steps"])
@FUSED_ONES
def test_gradients(path, name, options, way):
    number = FUSED.index((name, options))
    case = Case(name, options, (3, 2, 1, 2), 2, batch_first=number % 2 == 1)
    layer = make_ragged(case, **WAYS.get(way, EVERYTHING))
    run, inputs = function_of_everything(layer)
    assert rk.gradcheck(run, inputs, atol=1e-7, rtol=1e-5)


@pytest.mark.parametrize("way", ["everything", "last only"])
@FUSED_ONES
def test_gradients_of_gradients(path, name, options, way):
    layer = make_ragged(Case(name, options, (3, 2, 1, 1), 2), **WAYS.get(way, EVERYTHING))
    run, inputs = function_of_everything(layer)
    assert rk.gradgradcheck(run, inputs, atol=1e-7, rtol=1e-5, fast_mode=True)
    if path == "native":
        assert any("create_graph: recomputed on the tape" in each.reason for each in rk.why())


# ---- what lengths mean


@pytest.mark.parametrize("value", [np.nan, np.inf])
@pytest.mark.parametrize("return_sequences", [True, False])
@FUSED_ONES
def test_what_stands_in_the_padding_reaches_nothing(path, name, options, return_sequences, value):
    number = FUSED.index((name, options))
    case = Case(name, options, (6, 5, 3, 7), 2, "float32", batch_first=number % 2 == 0)
    layer = make_ragged(case, **EVERYTHING, return_sequences=return_sequences)
    dirty, padding = garbled(layer, value)
    assert padding.any()
    with np.errstate(all="raise"):
        found = forward_backward(dirty, path)
    clean, _ = garbled(layer, 0.0)
    assert_same_bits(found, forward_backward(clean, path))
    assert not found["d_x"][padding].any()
    assert np.isfinite(found["d_x"]).all()
    for each in layer.outputs:
        if each.endswith("_steps") or (each == "y" and return_sequences):
            assert not found[each][padding].any()


@pytest.mark.parametrize("value", [np.nan, np.inf])
@EACH
def test_what_is_not_finite_in_a_row_without_steps_reaches_no_gradient(path, name, options, value):
    cell = CELLS[name](3, 5, dtype="float64", **options)
    random = np.random.default_rng(0)
    x = rk.tensor(random.standard_normal((4, 3, 3)), requires_grad=True)
    states = [random.standard_normal((1, 3, *shape)) for shape in cell.state_shapes]
    found = []
    for first in (value, 0.5):
        for each in states:
            each[:, 1] = first
        given = [rk.tensor(each, requires_grad=True) for each in states]
        y, _ = run_layer((cell,), x, given, lengths=[4, 0, 2])
        found.append(rk.grad(y.sum(), [x, *given, *cell.parameters()]))
    for dirty, clean in zip(*found, strict=True):
        np.testing.assert_array_equal(dirty.data, clean.data)


@FUSED_ONES
def test_infinite_weights_meet_no_padding(native, name, options):
    cell = CELLS[name](3, 5, dtype="float64", **options)
    cell.weight_ih.data[0] = np.inf  # of a gate that it drives to its end
    data = np.random.default_rng(0).uniform(0.5, 1, (4, 3, 3))
    states = [np.full((1, 3, *shape), 0.5) for shape in cell.state_shapes]
    found = []
    for backend in ("native", "python"):
        x = rk.tensor(data, requires_grad=True)
        with rk.backend(backend), np.errstate(invalid="ignore"):
            y, final = run_layer((cell,), x, states, lengths=[4, 0, 2])
            d = rk.grad(final[0].sum(), [x, *cell.parameters()])
        found.append([each.data for each in (y, *final, *d)])
    for actual, expected in zip(*found, strict=True):
        np.testing.assert_allclose(actual, expected, rtol=1e-9, atol=1e-12)
    assert np.isfinite(found[1][-1]).any()


@pytest.mark.parametrize("lengths", [None, [0, 0], [2, 1]])
@FUSED_ONES
def test_where_no_row_restarts_a_restart_has_a_gradient(path, name, options, lengths):
    cell = CELLS[name](3, 5, **options)
    start = [rk.zeros((1, 2, *shape)).requires_grad_() for shape in cell.state_shapes]
    for T in (0, 3):
        x, reset = rk.ones((T, 2, 3)), np.zeros((T, 2), bool)
        given = lengths if T and lengths else None
        y, final = run_layer(
            (cell,), x, None, lengths=given, reset=reset, reset_state=tuple(start)
        )
        assert all(each.requires_grad for each in (y, *final))
        for d in rk.grad([y.sum(), final[0].sum()], start):
            assert not d.data.any()


@BOTH
@EACH
def test_final_states_are_those_at_each_rows_own_end(path, name, options, dtype):
    layer = make_ragged(Case(name, options, (6, 7, 3, 5), 2, dtype), "mixed", return_steps=True)
    found = forward(layer, path)
    lengths = layer.call["lengths"]
    assert 0 in lengths
    assert 6 in lengths
    for n, length in enumerate(lengths):
        for state in layer.case.states:
            final, steps = found[f"{state}n"][:, n], found[f"{state}_steps"][:, n]
            if length == 0:
                np.testing.assert_array_equal(final, layer.inputs[f"{state}0"][:, n])
            else:
                width = final.shape[-1]
                np.testing.assert_array_equal(final[0], steps[length - 1, :width])
                np.testing.assert_array_equal(final[1], steps[0, width:])
    np.testing.assert_array_equal(found["y"], found["h_steps"])


@EACH
def test_the_last_output_is_that_at_each_rows_own_end(path, name, options):
    layer = make_ragged(Case(name, options, (6, 7, 3, 5), 2), "mixed", reset=True)
    whole = forward(layer, path)
    last = forward(layer.with_(return_sequences=False), path)
    width = layer.cells[0].output_size
    expected = np.zeros((7, 2 * width))
    for n, length in enumerate(layer.call["lengths"]):
        if length:
            expected[n] = [*whole["y"][length - 1, n, :width], *whole["y"][0, n, width:]]
    np.testing.assert_array_equal(last["y"], expected)
    assert_same_bits({k: last[k] for k in ("hn",)}, {k: whole[k] for k in ("hn",)})


def row_of(layer, found, n, length):
    """What belongs to one row of a batch, as it is without the others and without padding."""
    parts = {}
    for name, array in found.items():
        if name.startswith(("d_0.", "d_1.")):
            continue
        if name == "y" and not layer.call.get("return_sequences", True):
            parts[name] = array[n]
        elif name in ("y", "d_x") or name.endswith("_steps"):
            parts[name] = array[:length, n]
        else:
            parts[name] = array[:, n]
    return parts


def alone(layer, n, length):
    """The same layer called with one row, all of whose steps are real."""
    call = {k: v for k, v in layer.call.items() if k != "lengths"}
    if "reset" in call:
        call["reset"] = call["reset"][:length, n : n + 1]
    twin = layer.with_()
    twin.call = call

    def part(name, array):
        if name in ("x", "d_y", "d_h_steps", "d_c_steps") and array.ndim == 3:
            return array[:length, n : n + 1]
        return array[n : n + 1] if array.ndim == 2 else array[:, n : n + 1]

    twin.inputs = {name: part(name, array) for name, array in layer.inputs.items()}
    twin.d_outputs = {name: part(name, array) for name, array in layer.d_outputs.items()}
    return twin


@BOTH
@pytest.mark.parametrize("return_sequences", [True, False])
@EACH
def test_a_row_is_what_it_is_alone_and_without_padding(
    path, name, options, return_sequences, dtype
):
    """On the native path to the bit, gradients too; the reverse direction begins at its own end."""
    case = Case(name, options, (7, 9, 5, 19), 2, dtype)
    layer = make_ragged(case, **EVERYTHING, return_sequences=return_sequences)
    whole = forward_backward(layer, path)
    lengths = layer.call["lengths"]
    for n in np.unique(lengths, return_index=True)[1]:
        single = alone(layer, n, lengths[n])
        found = row_of(single, forward_backward(single, path), 0, lengths[n])
        expected = row_of(layer, whole, n, lengths[n])
        if path == "native":
            assert_same_bits(found, expected)
        else:
            assert_close(found, expected, 1e-5 if dtype == "float32" else 1e-12)


@pytest.mark.parametrize("batch_first", [False, True])
@pytest.mark.parametrize("memory", ["full", "segments"])
@pytest.mark.parametrize(("T", "N", "H"), [(37, 9, 5), (9, 3, 300)])  # rows, units for each thread
@pytest.mark.parametrize("kind", ["RNN", "GRU", "LSTM"])
@pytest.mark.filterwarnings("ignore:memory")  # segments as short as can be
def test_what_no_row_reaches_is_zero(threads, kind, T, N, H, memory, batch_first):
    """Whatever was in the memory, and in either direction."""
    lengths = np.arange(N) * (T - 3) // (N - 1)
    x = rk.tensor(np.ones((N, T, 4) if batch_first else (T, N, 4)), requires_grad=True)
    module = getattr(nn, kind)(4, H, batch_first=batch_first, bidirectional=True, dtype="float64")
    module.memory = 1 if memory == "segments" else "full"
    for count in (1, 2):
        threads(count)
        filled = [np.full((T * N * 2 * H + 8,), np.nan) for _ in range(4)]
        del filled  # for others to have
        y, _, steps = module(x, lengths=lengths, return_steps=True)
        (d_x,) = rk.grad(y.sum(), x)
        shown = {"y": y, "d_x": d_x, **{name: of[0] for name, of in steps.items() if of}}
        assert ("c" in shown) == (kind == "LSTM")
        for name, tensor in shown.items():
            by_row = tensor.data if batch_first else tensor.data.swapaxes(0, 1)
            for row, length in zip(by_row, lengths, strict=True):
                assert not row[length:].any(), name
                assert row[:length].all(), name


@BOTH
@pytest.mark.parametrize(
    "way", ["lengths", "lengths, reset", "lengths, reset_state, last only, steps"]
)
@EACH
def test_more_padding_changes_no_bit(native, name, options, way, dtype):
    """Neither of the outputs nor of any gradient, the weights' among them."""
    layer = make_ragged(Case(name, options, (7, 9, 5, 19), 2, dtype), **WAYS[way])
    layer.call["lengths"] = np.minimum(layer.call["lengths"], 6)
    expected = forward_backward(layer, "native")
    random = np.random.default_rng(0)

    def longer(array):
        filling = random.standard_normal((4, *array.shape[1:]))
        return np.concatenate([array, filling.astype(array.dtype)])

    wider = layer.with_()
    wider.inputs = layer.inputs | {"x": longer(layer.inputs["x"])}
    by_step = [key for key, a in layer.d_outputs.items() if len(a) == 7 and a.ndim == 3]
    wider.d_outputs = layer.d_outputs | {key: longer(layer.d_outputs[key]) for key in by_step}
    if "reset" in layer.call:
        filling = random.random((4, 9)) < 0.5
        wider.call = layer.call | {"reset": np.concatenate([layer.call["reset"], filling])}
    found = forward_backward(wider, "native")
    for key in ["d_x", *[each.removeprefix("d_") for each in by_step]]:
        assert not found[key][7:].any()
        found[key] = found[key][:7]
    assert_same_bits(found, expected)


@BOTH
@EACH
def test_the_order_of_the_rows_does_not_matter(native, name, options, dtype):
    layer = make_ragged(Case(name, options, (7, 9, 5, 19), 2, dtype), **EVERYTHING)
    expected = forward_backward(layer, "native")
    order = np.random.default_rng(3).permutation(9)
    twin = layer.with_(lengths=layer.call["lengths"][order], reset=layer.call["reset"][:, order])
    twin.inputs = {key: array[:, order] for key, array in layer.inputs.items()}
    twin.d_outputs = {key: array[:, order] for key, array in layer.d_outputs.items()}
    found = forward_backward(twin, "native")
    of_rows = [key for key in found if not key.startswith(("d_0.", "d_1."))]
    assert_same_bits(
        {key: found[key] for key in of_rows}, {key: expected[key][:, order] for key in of_rows}
    )


@EACH
def test_lengths_that_are_all_t_change_nothing(path, name, options):
    layer = make_ragged(Case(name, options, (5, 4, 3, 7), 2), reset=True, return_steps=True)
    full = layer.with_(lengths=[5] * 4)
    assert_same_bits(forward_backward(full, path), forward_backward(layer, path))


# ---- what resets mean


@BOTH
@EACH
def test_resets_are_separate_runs(path, name, options, dtype):
    """Of every piece: outputs, states and gradients, in both directions."""
    T, N, H = 8, 5, 19
    case = Case(name, options, (T, N, 3, H), 2, dtype)
    layer = make_ragged(case, reset=True, reset_state=True, return_steps=True)
    cuts = [0, 3, 4, 7, T]
    flags = np.zeros((T, N), bool)
    flags[[0, *cuts[1:-1]]] = True
    layer.call["reset"] = flags
    found = forward_backward(layer, path)
    compare = assert_same_bits if path == "native" else (
        lambda a, b: assert_close(a, b, 1e-5 if dtype == "float32" else 1e-12)
    )
    for first, end in pairwise(cuts):
        piece = layer.with_(reset=None)
        piece.inputs, piece.d_outputs = {"x": layer.inputs["x"][first:end]}, {}
        ends = {}
        for state in case.states:
            begin = layer.inputs[f"{state}_restart"].copy()
            # The reverse direction of the last piece begins from the initial state.
            if end == T:
                begin[1] = layer.inputs[f"{state}0"][1]
            piece.inputs[f"{state}0"] = begin
            d_final = np.zeros_like(layer.d_outputs[f"d_{state}n"])
            if end == T:
                d_final[0] = layer.d_outputs[f"d_{state}n"][0]
            if first == 0:
                d_final[1] = layer.d_outputs[f"d_{state}n"][1]
            ends[f"d_{state}n"] = d_final
            key = f"d_{state}_steps"
            piece.d_outputs[key] = layer.d_outputs[key][first:end]
        piece.d_outputs |= ends | {"d_y": layer.d_outputs["d_y"][first:end]}
        by_step = ["y", "d_x", *[f"{state}_steps" for state in case.states]]
        actual = forward_backward(piece, path)
        compare(
            {key: actual[key] for key in by_step}, {key: found[key][first:end] for key in by_step}
        )
        for state in case.states:
            if end == T:
                compare({"n": actual[f"{state}n"][:1]}, {"n": found[f"{state}n"][:1]})
                compare({"0": actual[f"d_{state}0"][1:]}, {"0": found[f"d_{state}0"][1:]})
            if first == 0:
                compare({"n": actual[f"{state}n"][1:]}, {"n": found[f"{state}n"][1:]})


@pytest.mark.parametrize("given", [True, False])
@EACH
def test_no_gradient_passes_a_reset(path, name, options, given):
    T, N, H = 7, 4, 5
    layer = make_ragged(Case(name, options, (T, N, 3, H), 2), "mixed", True, reset_state=given)
    layer.call["lengths"] = np.array([7, 5, 0, 4])
    flags = np.zeros((T, N), bool)
    flags[3] = True
    layer.call["reset"] = flags
    for state in layer.case.states:
        layer.d_outputs[f"d_{state}n"][...] = 0
    d_y, width = layer.d_outputs["d_y"].copy(), layer.cells[0].output_size

    layer.d_outputs["d_y"] = np.where(np.arange(T)[:, None, None] < 3, 0, d_y)
    layer.d_outputs["d_y"][:, :, width:] = 0
    found = forward_backward(layer, path)
    assert not found["d_x"][:3].any()
    assert found["d_x"][3:, 0].all(axis=-1).all()
    for state in layer.case.states:
        assert not found[f"d_{state}0"].any()
        if given:
            assert found[f"d_{state}_restart"][0, [0, 1, 3]].any(axis=-1).all()
            assert not found[f"d_{state}_restart"][0, 2].any()
            assert not found[f"d_{state}_restart"][1].any()

    layer.d_outputs["d_y"] = np.where(np.arange(T)[:, None, None] < 3, d_y, 0)
    layer.d_outputs["d_y"][:, :, :width] = 0
    found = forward_backward(layer, path)
    assert not found["d_x"][3:].any()
    assert found["d_x"][:3, [0, 1, 3]].all(axis=-1).all()
    for state in layer.case.states:
        assert not found[f"d_{state}0"].any()
        if given:
            assert found[f"d_{state}_restart"][1, [0, 1, 3]].any(axis=-1).all()
            assert not found[f"d_{state}_restart"][0].any()


@EACH
def test_a_reset_of_one_row_leaves_the_others_alone(native, name, options):
    layer = make_ragged(Case(name, options, (6, 5, 3, 19), 2, "float32"))
    plain = forward_backward(layer, "native")
    flags = np.zeros((6, 5), bool)
    flags[2:4, 1] = True
    found = forward_backward(layer.with_(reset=flags), "native")
    others = [0, 2, 3, 4]
    for key in ("y", "d_x", "hn", "d_h0"):
        assert_same_bits({key: found[key][:, others]}, {key: plain[key][:, others]})
        assert error(found[key][:, 1], plain[key][:, 1]) > 0.01


@EACH
def test_restarting_from_nothing_is_restarting_from_zero(path, name, options):
    layer = make_ragged(Case(name, options, (6, 5, 3, 7), 2), "mixed", True, reset_state=True)
    names = [f"{state}_restart" for state in layer.case.states]
    for key in names:
        layer.inputs[key][...] = 0
    expected = forward_backward(layer, path)
    for key in names:
        del layer.inputs[key]
        del expected[f"d_{key}"]
    assert_same_bits(forward_backward(layer, path), expected)


# ---- threads, empty batches, arguments


@pytest.mark.filterwarnings("ignore::rnnkit.recurrent.memory.MemoryBudgetWarning")
@BOTH
@pytest.mark.parametrize("way", ["lengths, reset", "lengths, reset_state, last only, steps"])
@EACH
def test_any_number_of_threads(threads, name, options, way, dtype):
    # Work enough for threads, which share rows, and units.
    for sizes in [(30, 33, 20, 70), (6, 3, 200, 260)]:
        layer = make_ragged(Case(name, options, sizes, 2, dtype), **WAYS[way])
        threads(1)
        expected = forward_backward(layer, "native")
        for count in (1, 2, 3):
            threads(count)
            for memory in ("full", 10):
                found = forward_backward(layer.with_(memory=memory), "native")
                assert_same_bits(found, expected)


@EACH
def test_threads_whose_share_of_the_rows_is_empty(threads, name, options):
    """One row has most steps: a thread has it alone, and others have none or all short ones."""
    case = Case(name, options, (120, 33, 40, 130), dtype="float32")
    layer = make_ragged(case, reset=True, reset_state=True)
    for others in ([1] * 32, [0] * 31 + [1], [0] * 31 + [120]):
        layer.call["lengths"] = np.array([*others, 120])
        threads(1)
        expected = forward_backward(layer, "native")
        for count in (2, 5):
            threads(count)
            assert_same_bits(forward_backward(layer, "native"), expected)


@pytest.mark.parametrize("sizes", [(0, 3, 2, 4), (4, 0, 2, 4), (0, 0, 2, 4)], ids=str)
@EACH
def test_nothing_to_run(path, name, options, sizes):
    T, N, _, _ = sizes
    layer = make_ragged(Case(name, options, sizes, 2), return_steps=True)
    layer.call |= {"lengths": np.zeros(N, int), "reset": np.zeros((T, N), bool), "memory": 1}
    found = forward_backward(layer, path)
    width = 2 * layer.cells[0].output_size
    assert found["y"].shape == found["h_steps"].shape == (T, N, width)
    np.testing.assert_array_equal(found["hn"], layer.inputs["h0"])
    layer.inputs["h0"][:, :1] = np.nan
    for call in ({}, {"lengths": None, "reset": None}):
        if T == 0 or "lengths" not in call:
            last = forward(layer.with_(return_sequences=False, **call), path)["y"]
            assert last.tobytes() == np.zeros((N, width)).tobytes()


@pytest.mark.parametrize("kind", [list, tuple, np.int8, np.uint16, np.int64, rk.tensor])
def test_lengths_in_any_integers(path, kind):
    layer = make_ragged(Case("gru", {}, (6, 3, 3, 5)), "mixed")
    expected = forward(layer, path)
    lengths = np.array([2, 6, 0])
    layer.call["lengths"] = lengths
    expected = forward(layer, path)
    given = lengths.astype(kind) if isinstance(kind, type) and issubclass(kind, np.generic) else (
        kind(lengths.tolist())
    )
    assert_same_bits(forward(layer.with_(lengths=given), path), expected)


def test_the_callers_arrays_may_change_between_the_passes(path):
    layer = make_ragged(Case("lstm", {}, (6, 3, 3, 5), 2), "mixed", True)
    expected = forward_backward(layer, path)
    lengths, reset = layer.call["lengths"].copy(), layer.call["reset"].copy()
    inputs = {key: rk.tensor(array, requires_grad=True) for key, array in layer.inputs.items()}
    outputs = layer.with_(lengths=lengths, reset=reset).run(inputs)
    lengths[...] = 1
    reset[...] = True
    d_outputs = [rk.tensor(layer.d_outputs[f"d_{key}"]) for key in outputs]
    (d_x,) = rk.grad(list(outputs.values()), [inputs["x"]], d_outputs)
    assert_same_bits({"d_x": d_x.numpy()}, {"d_x": expected["d_x"]})


def f32(*shape):
    return np.ones(shape, np.float32)


FLAGS = np.zeros((5, 3), bool)
WRONG = {
    "too long": ({"lengths": [6, 1, 1]}, ArgumentError, "lengths: expected from 0 to 5, .* got 6"),
    "negative": ({"lengths": [1, -2, 1]}, ArgumentError, "lengths: .* got -2"),
    "too few": ({"lengths": [1, 2]}, ShapeError, r"lengths: expected shape \(3,\), .* \(2,\)"),
    "a matrix": ({"lengths": [[1], [2], [3]]}, ShapeError, r"lengths: .* got \(3, 1\)"),
    "one number": ({"lengths": 3}, ShapeError, r"lengths: .* got \(\)"),
    "fractions": ({"lengths": [1.0, 2.0, 3.0]}, DTypeError, "lengths: .* integers, got float64"),
    "yes and no": ({"lengths": [True, False, True]}, DTypeError, "lengths: .* got bool"),
    "reset turned": ({"reset": FLAGS.T}, ShapeError, r"reset: expected shape \(T, N\) = \(5, 3\)"),
    "reset flat": ({"reset": FLAGS[0]}, ShapeError, r"reset: .* got \(3,\)"),
    "reset ints": ({"reset": FLAGS.astype(int)}, DTypeError, "reset: expected bool, got int64"),
    "one restart": (
        {"reset_state": (f32(1, 3, 2),)}, ArgumentError, r"reset_state: .*\(h, c\), got 1 items"
    ),
    "bare restart": (
        {"reset_state": f32(1, 3, 2)}, ArgumentError, "reset_state: expected a tuple.*ndarray"
    ),
    "restart size": (
        {"reset_state": (f32(1, 3, 2), f32(1, 2, 2))}, ShapeError,
        r"reset_state: c: expected shape \(1, 3, 2\), got \(1, 2, 2\)",
    ),
    "restart dtype": (
        {"reset_state": (np.ones((1, 3, 2)), f32(1, 3, 2))}, DTypeError,
        "reset_state: h: expected float32",
    ),
    "no amount": ({"memory": "plenty"}, ArgumentError, "memory: expected 'full', .*'plenty'"),
    "no bytes": ({"memory": 0}, ArgumentError, "memory: expected 'full', .* got 0"),
}  # fmt: skip


@pytest.mark.parametrize(("call", "kind", "message"), WRONG.values(), ids=WRONG)
def test_wrong_arguments(path, call, kind, message):
    with pytest.raises(kind, match=message):
        run_layer((LSTMCell(4, 2),), f32(5, 3, 4), **call)


def test_wrong_resets_with_the_batch_first(path):
    with pytest.raises(ShapeError, match=re.escape("reset: expected shape (N, T) = (3, 5)")):
        run_layer((LSTMCell(4, 2),), f32(3, 5, 4), batch_first=True, reset=FLAGS)


@pytest.mark.parametrize("batch_first", [False, True])
def test_room_for_outputs_has_zeros_where_no_row_reaches(native, monkeypatch, batch_first):
    lengths = np.array([1, 4, 0])
    monkeypatch.setattr(np, "empty", lambda shape, dtype: np.full(shape, np.nan, dtype))
    shape = (3, 4, 5) if batch_first else (4, 3, 5)
    room = make_schedule(4, 3, lengths, None, False).empty(shape, np.dtype("float32"), batch_first)
    there = np.arange(4)[:, None] < lengths
    there = there.T if batch_first else there
    assert not room[~there].any()
    assert np.isnan(room[there]).all()
