"""The native path computes what the tape does: outputs, final states and every gradient."""

import numpy as np
import pytest
from recurrent_contract import (
    SIZES,
    SMALL_SIZES,
    Case,
    assert_close,
    assert_same_bits,
    check_native_equals_tape,
    forward,
    forward_backward,
    fused_cases,
    make_layer,
    rounding,
)

import rnnkit as rk
from rnnkit.recurrent import run_layer

pytestmark = pytest.mark.usefixtures("native")


@pytest.mark.parametrize("dtype", ["float32", "float64"])
@pytest.mark.parametrize("case", fused_cases(*SIZES), ids=str)
def test_every_size(case, dtype):
    """Directions take turns: they share the kernels, which is what sizes are a matter of."""
    directions = 1 + SIZES.index(case.sizes) % 2
    check_native_equals_tape(make_layer(case.with_(directions=directions, dtype=dtype)))


@pytest.mark.parametrize("dtype", ["float32", "float64"])
@pytest.mark.parametrize("change", [{"bias": False}, {"batch_first": True}], ids=str)
@pytest.mark.parametrize("case", fused_cases(*SMALL_SIZES), ids=str)
def test_options(case, change, dtype):
    """Directions take turns, as above."""
    directions = 1 + SMALL_SIZES.index(case.sizes) % 2
    changed = case.with_(directions=directions, dtype=dtype, **change)
    check_native_equals_tape(make_layer(changed))


@pytest.mark.parametrize("case", fused_cases((200, 3, 5, 9), (100, 1, 32, 64)), ids=str)
def test_errors_in_single_precision_stay_small_over_long_sequences(case):
    check_native_equals_tape(make_layer(case.with_(dtype="float32")))


@pytest.mark.parametrize("dtype", ["float32", "float64"])
@pytest.mark.parametrize("case", fused_cases(*SMALL_SIZES, spread=6.0), ids=str)
def test_saturated_gates(case, dtype):
    """1 - h^2 cancels where gradients all but vanish: errors are measured against the largest."""
    layer = make_layer(case.with_(dtype=dtype))
    exact = forward_backward(layer.in_double_precision(), "python")
    largest = max(float(np.abs(array).max()) for array in exact.values())
    allowed = 1e-10 if dtype == "float64" else 15 * rounding(layer.case)
    for name, actual in forward_backward(layer, "native").items():
        assert np.abs(actual - exact[name]).max() <= allowed * largest, name


@pytest.mark.parametrize("case", fused_cases(*SMALL_SIZES[1:3], directions=2), ids=str)
def test_gradients_through_some_of_the_outputs(case):
    layer = make_layer(case)
    for used in [[name] for name in case.outputs] + [case.outputs[1:]]:
        actual = forward_backward(layer, "native", used=used)
        assert_close(actual, forward_backward(layer, "python", used=used), 1e-10)


@pytest.mark.parametrize("case", fused_cases(*SMALL_SIZES[1:3]), ids=str)
def test_gradients_of_some_of_the_inputs(case):
    layer = make_layer(case)
    everything = forward_backward(layer, "native")
    sources = [*layer.inputs, *layer.weights()]
    for wanted in [[name] for name in sources] + [sources[:1], sources[1:], sources[::2]]:
        actual = forward_backward(layer, "native", wanted=wanted)
        names = [*case.outputs, *(f"d_{name}" for name in wanted)]
        assert_same_bits(actual, {name: everything[name] for name in names})


@pytest.mark.parametrize("case", fused_cases(*SMALL_SIZES[1:4]), ids=str)
def test_recording_a_graph_does_not_change_the_outputs(case):
    layer = make_layer(case.with_(dtype="float32"))
    recorded = forward_backward(layer, "native")
    assert_same_bits(forward(layer, "native"), {name: recorded[name] for name in case.outputs})


def _scattered(array):
    """The same values with a gap after every element, along a reversed last axis."""
    buffer = np.full((*array.shape[:-1], 2 * array.shape[-1]), 99, array.dtype)
    view = buffer[..., ::-2]
    view[...] = array
    return view


def _transposed(array):
    """The same values, the first axis running fastest in memory."""
    return np.asfortranarray(array)


@pytest.mark.parametrize("arrange", [_scattered, _transposed])
@pytest.mark.parametrize("case", fused_cases(SMALL_SIZES[2], directions=2), ids=str)
def test_arrays_may_lie_in_memory_in_any_way(case, arrange):
    layer = make_layer(case)
    expected = forward_backward(layer, "native")
    layer.inputs = {name: arrange(array) for name, array in layer.inputs.items()}
    layer.d_outputs = {name: arrange(array) for name, array in layer.d_outputs.items()}
    for weight in layer.weights().values():
        weight.data = arrange(weight.data)
    assert not layer.inputs["x"].flags.c_contiguous
    assert_same_bits(forward_backward(layer, "native"), expected)


@pytest.mark.parametrize("case", fused_cases((4, 3, 5, 7), batch_first=True), ids=str)
def test_broadcast_arrays(case):
    layer = make_layer(case)
    layer.inputs["x"] = np.broadcast_to(layer.inputs["x"][:1], layer.inputs["x"].shape)
    layer.d_outputs["d_y"] = np.broadcast_to(np.float64(1.5), layer.d_outputs["d_y"].shape)
    assert_close(forward_backward(layer, "native"), forward_backward(layer, "python"), 1e-10)


@pytest.mark.parametrize("case", fused_cases((4, 3, 5, 7)), ids=str)
def test_gradients_broadcast_by_a_sum(case):
    """A loss such as y.sum() hands down gradients that are broadcast views."""
    results = []
    for backend in ("native", "python"):
        layer = make_layer(case)
        x = rk.tensor(layer.inputs["x"], requires_grad=True)
        with rk.backend(backend):
            y, _ = run_layer(layer.cells, x)
            y.sum().backward()
        grads = {name: weight.grad.numpy() for name, weight in layer.weights().items()}
        results.append({"y": y.detach().numpy(), "d_x": x.grad.numpy(), **grads})
    assert_close(*results, 1e-10)


def test_the_rounding_allowed_is_a_few_ulp():
    """Holds the tests above to what they claim."""
    small = Case("lstm", sizes=(1, 1, 1, 1), dtype="float32")
    large = Case("lstm", sizes=(100, 32, 256, 256), dtype="float32")
    ulp = float(np.finfo(np.float32).eps)
    assert rounding(small) < 8 * ulp
    assert rounding(large) < 1000 * ulp
