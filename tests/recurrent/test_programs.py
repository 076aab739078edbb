"""Programs: cells without a fused kernel run natively, and compute what the tape does."""


import numpy as np
import pytest
from recurrent_contract import (
    FUSED,
    PROGRAMS,
    WAYS,
    Case,
    assert_close,
    assert_same_bits,
    check_native_equals_tape,
    forward,
    forward_backward,
    function_of_everything,
    garbled,
    last_layer,
    make_layer,
    make_ragged,
    paired_cases,
    rounding,
    without_kernel,
)

import rnnkit as rk
from rnnkit.errors import GraphError
from rnnkit.recurrent import run_layer
from rnnkit.recurrent.held import held_by
from rnnkit.recurrent.program import obstacle

pytestmark = pytest.mark.usefixtures("native")

BOTH = pytest.mark.parametrize("dtype", ["float32", "float64"])
EACH = pytest.mark.parametrize(("name", "options"), PROGRAMS)
PLAIN_AND_WAYS = {"plain": {}, **WAYS}
SIZES = [(4, 3, 5, 7), (5, 2, 3, 17), (2, 7, 13, 33), (6, 5, 4, 16)]
EVERYTHING = {"lengths": "mixed", "reset": True, "reset_state": True, "return_steps": True}


# ---- native equals tape


@EACH
def test_they_run_as_programs(name, options):
    layer = make_layer(Case(name, options, (2, 3, 4, 5), 2))
    assert layer.cells[0].kernel is None
    assert obstacle(layer.cells, list(map(held_by, layer.cells))) is None
    forward(layer, "native")
    if name != "exp_rnn":  # whose matrix exponential is all that is remembered
        assert last_layer().path == "program"


@pytest.mark.parametrize("way", PLAIN_AND_WAYS)
@EACH
def test_native_equals_tape(name, options, way):
    """Sizes, dtypes, layouts and directions take turns; the slow test below has all pairs."""
    number = [*PLAIN_AND_WAYS].index(way) + PROGRAMS.index((name, options))
    dtype = ("float64", "float32")[number // 4 % 2]
    case = Case(name, options, SIZES[number % 4], 1 + number % 2, dtype)
    layer = make_ragged(case.with_(batch_first=number % 3 > 0), **PLAIN_AND_WAYS[way])
    check_native_equals_tape(layer)


@pytest.mark.parametrize(
    "sizes",
    [(1, 1, 2, 3), (3, 1, 2, 13), (2, 2, 17, 4), (3, 4, 3, 16), (2, 8, 7, 5), (2, 31, 3, 11),
     (3, 40, 2, 15)],
    ids=str,
)  # fmt: skip
@EACH
def test_every_size(name, options, sizes):
    number = PROGRAMS.index((name, options)) + sizes[1]
    case = Case(name, options, sizes, 1 + number % 2, ("float32", "float64")[number % 3 % 2])
    check_native_equals_tape(make_layer(case))


@pytest.mark.slow
@pytest.mark.parametrize(
    ("case", "way"),
    paired_cases(
        PROGRAMS, [*SIZES, (1, 1, 2, 3), (9, 13, 13, 33), (12, 40, 6, 40)], PLAIN_AND_WAYS
    ),
    ids=str,
)
def test_native_equals_tape_in_all_pairs_of_options(case, way):
    check_native_equals_tape(make_ragged(case, **PLAIN_AND_WAYS[way]))


@BOTH
@pytest.mark.parametrize("way", ["plain", "lengths, reset_state, last only, steps"])
@pytest.mark.parametrize("sizes", [(3, 1, 2, 1), *SIZES], ids=str)
@pytest.mark.parametrize(("name", "options"), FUSED)
def test_programs_equal_fused_kernels(name, options, sizes, way, dtype):
    layer = make_ragged(Case(name, options, sizes, 2, dtype), **PLAIN_AND_WAYS[way])
    expected = forward_backward(layer, "native")
    assert last_layer().path == "fused"
    actual = forward_backward(without_kernel(layer), "native")
    assert last_layer().path == "program"
    tolerance = 1e-12 if dtype == "float64" else 2 * rounding(layer.case)
    assert_close(actual, expected, tolerance)


# ---- gradients


@EACH
def test_gradients(name, options):
    """Against finite differences; ways and directions take turns."""
    number = PROGRAMS.index((name, options))
    H = max(2, 1 + options.get("proj_size", 0))
    case = Case(name, options, (3, 2, 2, H), 1 + (number % 5 == 0), batch_first=number % 3 == 0)
    layer = make_ragged(case, **[EVERYTHING, *list(WAYS.values())[-3:]][number % 4])
    run, inputs = function_of_everything(layer)
    with rk.backend("native"):
        assert rk.gradcheck(run, inputs, atol=1e-6, rtol=1e-5)


@pytest.mark.parametrize("name", ["mgu", "min_lstm", "delta_net"])
def test_gradients_of_gradients_come_from_the_tape(name):
    layer = make_ragged(Case(name, {}, (2, 2, 1, 2)), **EVERYTHING)
    run, inputs = function_of_everything(layer)
    with rk.backend("native"):
        assert rk.gradgradcheck(run, inputs, atol=1e-6, rtol=1e-5)
    assert last_layer().path == "program"
    assert any("create_graph: recomputed on the tape" in each.reason for each in rk.why())


@EACH
def test_a_graph_that_is_kept_gives_the_same_twice(name, options):
    layer = make_layer(Case(name, options, (4, 3, 5, 7)))
    inputs = {key: rk.tensor(each, requires_grad=True) for key, each in layer.inputs.items()}
    wanted = [*inputs.values(), *layer.weights().values()]
    with rk.backend("native"):
        outputs = layer.run(inputs)
        total = sum((each * each).sum() for each in outputs.values())
        first, second = [
            rk.grad(total, wanted, retain_graph=True, allow_unused=True) for _ in range(2)
        ]
        third = rk.grad(total, wanted, allow_unused=True)
        for each, again, last in zip(first, second, third, strict=True):
            if each is not None:
                np.testing.assert_array_equal(again.numpy(), each.numpy())
                np.testing.assert_array_equal(last.numpy(), each.numpy())
        with pytest.raises(GraphError):
            rk.grad(total, wanted, allow_unused=True)


@EACH
def test_gradients_of_some_of_the_inputs_through_some_of_the_outputs(name, options):
    layer = make_layer(Case(name, options, (3, 3, 5, 7), 2))
    sources = [*layer.inputs, *layer.weights()]
    initial = [key for key in layer.inputs if key != "x"]
    for wanted in (["x"], initial, initial[:1], sources[1:], sources[::2], sources[-1:]):
        actual = forward_backward(layer, "native", ["y"], wanted)
        assert_close(actual, forward_backward(layer, "python", ["y"], wanted), 1e-11)
    for used in [[each] for each in layer.outputs]:
        actual = forward_backward(layer, "native", used=used)
        assert_close(actual, forward_backward(layer, "python", used=used), 1e-11)


@pytest.mark.parametrize("lengths", [None, (3, 1), (0, 3)])
@pytest.mark.parametrize(
    "name", ["clockwork", "phased_lstm", "linear_attention", "qrnn", "layer_norm_gru"]
)
def test_what_depends_on_nothing_that_needs_a_gradient_needs_none(name, lengths):
    """As on the tape: the clock of a phased LSTM, say, depends on no parameter."""
    layer = make_layer(Case(name, {}, (3, 2, 4, 5), 1, "float32"))
    (cell,) = layer.cells
    x, *states = map(rk.tensor, layer.inputs.values())
    parameters = list(cell.parameters())
    kinds = set()
    for wanted in (parameters, [x], *[[state] for state in states]):
        for tensor in (*parameters, x, *states):
            tensor.requires_grad_(any(tensor is each for each in wanted))
        found, gradients = [], []
        for backend in ("native", "python"):
            rk.manual_seed(3)
            with rk.backend(backend):
                y, final, steps = run_layer((cell,), x, states, lengths=lengths, return_steps=True)
            assert last_layer().path == ("program" if backend == "native" else "python")
            outputs = [each for each in (y, *final, *steps) if each.requires_grad]
            found.append([each.requires_grad for each in (y, *final, *steps)])
            d = rk.grad(outputs, wanted, [each * each for each in outputs], allow_unused=True)
            gradients.append([np.float32(0) if each is None else each.numpy() for each in d])
        assert found[0] == found[1]
        kinds.update(found[0])
        for actual, expected in zip(*gradients, strict=True):
            np.testing.assert_allclose(actual, expected, rtol=1e-4, atol=1e-5)
    assert kinds == ({True} if name == "layer_norm_gru" else {True, False})


@BOTH
@EACH
def test_recording_a_graph_does_not_change_the_outputs(name, options, dtype):
    layer = make_layer(Case(name, options, (4, 3, 5, 7), 2, dtype))
    recorded = forward_backward(layer, "native")
    assert_same_bits(forward(layer, "native"), {key: recorded[key] for key in layer.outputs})


# ---- bits


@EACH
def test_any_number_of_threads(name, options, threads):
    number = PROGRAMS.index((name, options))
    way = [{}, WAYS["lengths, reset_state, last only, steps"]][number % 2]
    layer = make_ragged(Case(name, options, (24, 33, 20, 70), 2, "float32"), **way)
    threads(1)
    expected = forward_backward(layer, "native")
    for count in (2, 5):
        threads(count)
        assert_same_bits(forward_backward(layer, "native"), expected)


@BOTH
@EACH
def test_a_row_does_not_depend_on_the_rest_of_its_batch(name, options, dtype):
    layer = make_layer(Case(name, options, (4, 13, 9, 17), 2, dtype))
    whole = forward(layer, "native")
    for rows in (slice(0, 1), slice(5, 6), slice(2, 9), slice(12, 13)):
        part = layer.with_()
        part.inputs = {key: array[:, rows] for key, array in layer.inputs.items()}
        expected = {key: array[:, rows] for key, array in whole.items()}
        assert_same_bits(forward(part, "native"), expected)


@BOTH
@EACH
def test_a_row_does_not_depend_on_its_padding(name, options, dtype):
    layer = make_ragged(Case(name, options, (7, 6, 5, 9), 2, dtype), **EVERYTHING)
    layer.call["lengths"] = np.minimum(layer.call["lengths"], 5)
    whole = forward(layer, "native")
    cut = layer.with_(reset=layer.call["reset"][:5])
    cut.inputs = layer.inputs | {"x": layer.inputs["x"][:5]}
    expected = {
        key: array if key.endswith("n") and key != "n_steps" else array[:5]
        for key, array in whole.items()
    }
    assert_same_bits(forward(cut, "native"), expected)


@EACH
def test_what_stands_in_the_padding_reaches_nothing(name, options):
    number = PROGRAMS.index((name, options))
    case = Case(name, options, (6, 5, 3, 7), 2, "float32", batch_first=number % 2 == 0)
    layer = make_ragged(case, **EVERYTHING, return_sequences=number % 3 > 0)
    clean, padding = garbled(layer, 0.0)
    assert padding.any()
    expected = forward_backward(clean, "native")
    for value in (np.nan, np.inf):
        found = forward_backward(garbled(layer, value)[0], "native")
        assert_same_bits(found, expected)
        assert not found["d_x"][padding].any()


# ---- arrays


@pytest.mark.parametrize("sizes", [(0, 3, 2, 4), (4, 0, 2, 4), (0, 0, 2, 4)], ids=str)
@EACH
def test_nothing_to_run(name, options, sizes):
    layer = make_ragged(Case(name, options, sizes, 2), return_steps=True)
    found = forward_backward(layer, "native")
    assert_same_bits(found, forward_backward(layer, "python"))


@EACH
def test_arrays_may_lie_in_memory_in_any_way(name, options):
    layer = make_layer(Case(name, options, (4, 3, 5, 7), 2))
    expected = forward_backward(layer, "native")

    def scattered(array):
        buffer = np.full((*array.shape[:-1], 2 * array.shape[-1]), 99, array.dtype)
        view = buffer[..., ::-2]
        view[...] = array
        view.flags.writeable = False
        return view

    for arrange in (scattered, np.asfortranarray):
        layer.inputs = {key: arrange(array) for key, array in layer.inputs.items()}
        layer.d_outputs = {key: arrange(array) for key, array in layer.d_outputs.items()}
        assert_close(forward_backward(layer, "native"), expected, 1e-12)
