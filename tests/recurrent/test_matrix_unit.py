"""Gradients formed on the processor's matrix unit: as exact, and with the same promises of bits."""

import numpy as np
import pytest
from recurrent_contract import (
    WAYS,
    Case,
    assert_close,
    assert_same_bits,
    check_native_equals_tape,
    error,
    forward_backward,
    fused_cases,
    make_layer,
    make_ragged,
    rounding,
)

import rnnkit as rk

# (T, N, I, H), large enough for the unit, the first two with several blocks of steps.
LOOP = (9, 33, 300, 250)
NO_LOOP = (40, 8, 290, 260)  # the rows are too few for a loop on the unit
MANY_ROWS = (2, 300, 280, 250)  # a step has more of them than a block
FEW_FEATURES = (5, 17, 3, 365)
SHAPES = (LOOP, NO_LOOP, MANY_ROWS, FEW_FEATURES)


@pytest.fixture(autouse=True)
def unit(native):
    """The extension, on the matrix unit; skips where the processor has none."""
    extension = rk.backend.native()
    if "amx" not in extension.isa_supported():
        pytest.skip("this processor, or this build, has no matrix unit")
    before = extension.isa_in_use()
    extension.choose_isa("amx")
    yield extension
    extension.choose_isa(before)


def without_unit(unit, layer):
    unit.choose_isa("avx512")
    try:
        return forward_backward(layer, "native")
    finally:
        unit.choose_isa("amx")


def gradients(results):
    return {name: array for name, array in results.items() if name.startswith("d_")}


@pytest.mark.parametrize("case", fused_cases(*SHAPES, dtype="float32"), ids=str)
def test_gradients_are_those_of_the_tape(case, unit):
    layer = make_layer(case)
    check_native_equals_tape(layer)
    forward_backward(layer, "native")
    assert rk.why(1)[0].reason == f"fused {case.cell} kernel, amx"


@pytest.mark.parametrize("way", WAYS)
@pytest.mark.parametrize(
    "case", fused_cases(LOOP, NO_LOOP, dtype="float32", directions=2), ids=str
)
def test_ragged_and_restarting_batches(case, way, unit):
    layer = make_ragged(case, **WAYS[way])
    assert_close(forward_backward(layer, "native"), without_unit(unit, layer), rounding(case))


@pytest.mark.parametrize("case", fused_cases(LOOP, NO_LOOP, dtype="float32"), ids=str)
def test_outputs_are_the_same_and_gradients_as_accurate(case, unit):
    layer = make_layer(case)
    on, off = forward_backward(layer, "native"), without_unit(unit, layer)
    exact = forward_backward(layer.in_double_precision(), "python")
    assert_same_bits(*({n: r[n] for n in case.outputs} for r in (on, off)))
    for name in ("d_x", "d_0.weight_ih", "d_0.weight_hh"):
        assert on[name].tobytes() != off[name].tobytes(), f"{name}: the unit did not run"
        assert error(on[name], exact[name]) <= 1.5 * error(off[name], exact[name]), name


def test_whole_numbers_are_exact(unit):
    # All products and sums are whole numbers that floats have: what is taken twice or not shows.
    case = Case("rnn", {"nonlinearity": "relu"}, (3, 24, 290, 250), dtype="float32")
    layer = make_layer(case)
    random = np.random.default_rng(3)
    for parameter in layer.weights().values():
        parameter.data[...] = random.random(parameter.shape) < 0.01
    for array in layer.inputs.values():
        array[...] = random.integers(0, 2, array.shape)
    for array in layer.d_outputs.values():
        array[...] = random.integers(-9999, 10_000, array.shape)
    on, off = forward_backward(layer, "native"), without_unit(unit, layer)
    assert max(np.abs(array).max() for array in off.values()) > 1 << 16
    for name, array in off.items():
        assert np.array_equal(on[name], array), name


@pytest.mark.parametrize("case", fused_cases(*SHAPES, dtype="float32"), ids=str)
def test_any_number_of_threads(case, unit, threads):
    layer = make_ragged(case, lengths="mixed") if case.sizes == LOOP else make_layer(case)
    threads(1)
    expected = forward_backward(layer, "native")
    for count in (2, 3, 5):
        threads(count)
        assert_same_bits(forward_backward(layer, "native"), expected)


@pytest.mark.filterwarnings("ignore::rnnkit.recurrent.memory.MemoryBudgetWarning")
@pytest.mark.parametrize("way", ["plain", "lengths, reset_state, last only, steps"])
@pytest.mark.parametrize(
    "case", fused_cases((40, 16, 300, 250), (70, 8, 290, 260), dtype="float32"), ids=str
)
def test_any_budget_of_memory(case, way, unit):
    layer = make_ragged(case, **WAYS.get(way, {}))
    expected = forward_backward(layer, "native")
    for budget in (1_500_000, 1):
        assert_same_bits(forward_backward(layer.with_(memory=budget), "native"), expected)
    if case.cell != "rnn":
        assert "segments of" in rk.why()[-1].reason


def test_segments_are_whole_blocks_of_steps(unit):
    T, N, I, H = 40, 8, 290, 260
    together = unit.steps_together("lstm", "standard", "float32", N, I, H)
    assert together == 32
    assert unit.steps_together("lstm", "standard", "float64", N, I, H) == 1
    assert unit.steps_together("lstm", "standard", "float32", N, 5, 7) == 1

    def zeros(*shape):
        return np.zeros(shape, np.float32)

    weights = zeros(4 * H, I), zeros(4 * H, H), zeros(4 * H), zeros(4 * H)
    arrays = zeros(T, N, I), (zeros(1, N, H), zeros(1, N, H)), weights
    with pytest.raises(ValueError, match="segment: expected a multiple of 32 steps, got 20"):
        unit.Layer("lstm", "standard", "float32", 1, False, *arrays, segment=20)


@pytest.mark.parametrize("case", fused_cases(LOOP, dtype="float32"), ids=str)
@pytest.mark.parametrize("value", [np.nan, np.inf])
def test_what_is_not_finite_stays_with_its_row_and_in_the_sums(case, value, unit):
    layer = make_layer(case)
    expected = forward_backward(layer, "native")
    layer.d_outputs["d_y"][4, 20] = value
    found = forward_backward(layer, "native")
    for name in ("d_x", "d_h0"):
        others = np.arange(case.sizes[1]) != 20
        assert_same_bits({name: found[name][:, others]}, {name: expected[name][:, others]})
        assert not np.isfinite(found[name][:, 20]).all(), name
    assert not np.isfinite(found["d_0.weight_hh"]).all()


def test_numbers_of_every_size_that_floats_have(unit):
    # Far from subnormal numbers, which the unit takes for zero, gradients scale exactly.
    layer = make_layer(Case("gru", {}, LOOP, dtype="float32"))
    whole = gradients(forward_backward(layer, "native"))
    for power in (-60, 60):
        for array in layer.d_outputs.values():
            array *= np.float32(2.0**power)
        scaled = gradients(forward_backward(layer, "native"))
        for array in layer.d_outputs.values():
            array *= np.float32(2.0**-power)
        assert_same_bits(scaled, {n: array * np.float32(2.0**power) for n, array in whole.items()})
