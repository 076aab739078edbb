"""A frozen layer prepares its weights once, and computes what it computed before, bit for bit."""

from __future__ import annotations

import copy
import itertools
import pickle
from concurrent.futures import ThreadPoolExecutor

import numpy as np
import pytest
from recurrent_contract import (
    FUSED,
    PROGRAMS,
    SMALL_SIZES,
    Case,
    assert_same_bits,
    forward,
    forward_backward,
    fused_cases,
    make_layer,
    make_ragged,
)

import rnnkit as rk
from rnnkit import nn
from rnnkit.recurrent.program import prepared as preparing


@pytest.fixture
def packings(native, monkeypatch):
    """The weights that were packed so far."""
    made = []
    extension = rk.backend.native()
    packed = extension.PackedWeights

    def pack(*arguments):
        made.append(arguments[-1])
        return packed(*arguments)

    monkeypatch.setattr(extension, "PackedWeights", pack)
    return made


def a_module(**options):
    rk.manual_seed(3)
    return nn.LSTM(5, 7, **options).eval()


def outputs(module, seed=0):
    x = np.random.default_rng(seed).standard_normal((4, 3, 5), np.float32)
    with rk.no_grad():
        y, (h, c) = module(rk.as_tensor(x))
    return [each.numpy() for each in (y, h, c)]


def assert_equal(actual, expected):
    for a, b in zip(actual, expected, strict=True):
        np.testing.assert_array_equal(a, b)


@pytest.mark.parametrize("dtype", ["float32", "float64"])
@pytest.mark.parametrize("case", fused_cases(*SMALL_SIZES), ids=str)
def test_bits_of_inference_and_of_gradients(case, dtype, threads):
    """Directions and threads take turns."""
    number = SMALL_SIZES.index(case.sizes)
    layer = make_layer(case.with_(directions=1 + number % 2, dtype=dtype))
    threads(1 + number // 2 % 2)
    expected = forward(layer, "native"), forward_backward(layer, "native")
    for cell in layer.cells:
        cell.freeze()
    for _ in range(2):
        assert_same_bits(forward(layer, "native"), expected[0])
    assert_same_bits(forward_backward(layer, "native"), expected[1])


@pytest.mark.parametrize(("cell", "options"), FUSED)
def test_bits_of_ragged_rows_and_of_segments(cell, options, native):
    case = Case(cell, options, (30, 5, 6, 17), directions=2, dtype="float32")
    for way in ({}, {"return_sequences": False}):
        layer = make_ragged(case, "mixed", reset=True, reset_state=True, **way)
        for memory in ("full", 40_000):
            layer = layer.with_(memory=memory)
            expected = forward_backward(layer, "native")
            for each in layer.cells:
                each.freeze()
            assert_same_bits(forward_backward(layer, "native"), expected)
            for each in layer.cells:
                each.unfreeze()


def test_weights_are_packed_once(packings):
    module = a_module(num_layers=2, bidirectional=True).freeze()
    expected = outputs(module)
    assert len(packings) == 4
    assert_equal(outputs(module), expected)
    assert len(packings) == 4


def test_weights_that_may_change_are_packed_at_every_call(packings):
    module = a_module()
    outputs(module)
    module.freeze().unfreeze()
    outputs(module)
    # One of them is enough.
    module.freeze().bias_ih_l0.data = module.bias_ih_l0.data.copy()
    outputs(module)
    assert packings == []


def test_other_weights_are_packed_anew(packings):
    module, other = a_module().freeze(), a_module()
    before = outputs(module)
    for parameter in other.parameters():
        parameter.data *= 0.5
    expected = outputs(other)
    module.unfreeze().load_state_dict(other.state_dict())
    assert_equal(outputs(module), expected)
    assert_equal(outputs(module.freeze()), expected)
    assert not np.array_equal(before[0], expected[0])
    module.weight_hh_l0 = nn.Parameter(module.weight_hh_l0.numpy() * 2)
    other.weight_hh_l0.data *= 2
    assert_equal(outputs(module.freeze()), outputs(other))
    assert len(packings) == 3


def test_layers_of_the_same_weights_and_other_equations(packings):
    layers = [nn.RNN(5, 7, nonlinearity=name) for name in ("tanh", "relu")]
    for name, parameter in layers[0].freeze().named_parameters():
        setattr(layers[1], name, parameter)
    x = np.random.default_rng(0).standard_normal((4, 3, 5), np.float32)
    with rk.no_grad():
        for _ in range(2):
            tanh, relu = (layer(x)[0].numpy() for layer in layers)
            with rk.backend("python"):
                np.testing.assert_allclose(tanh, layers[0](x)[0].numpy(), rtol=1e-5, atol=1e-6)
                np.testing.assert_allclose(relu, layers[1](x)[0].numpy(), rtol=1e-5, atol=1e-6)
    assert len(packings) == 2


def test_another_instruction_set_packs_anew(packings, every_isa):
    module = a_module().freeze()
    outputs(module)
    for _ in every_isa():
        assert_equal(outputs(module), outputs(copy.deepcopy(module).unfreeze()))
    assert len(packings) >= len(rk.backend.native().isa_supported())


@pytest.mark.parametrize("protocol", [4, 5])
def test_a_copy_that_can_be_written_to_is_not_taken_for_a_frozen_one(protocol, packings):
    frozen = a_module().freeze()
    expected = outputs(frozen)
    # NumPy lets an array that it has read from a pickle write into the very bytes it came in.
    for module in (pickle.loads(pickle.dumps(frozen, protocol)), copy.deepcopy(frozen)):
        assert_equal(outputs(module), expected)
        module.unfreeze().weight_hh_l0.data[...] *= -1
        assert not np.array_equal(outputs(module)[0], expected[0])
    assert_equal(outputs(frozen), expected)
    # The one from the pickle was packed anew; the deep copy has the same arrays.
    assert len(packings) == 2


def test_weights_that_are_made_for_a_call_are_not_kept(packings):
    module = nn.LSTM(5, 7, weight_dropout=0.5).freeze()
    outputs(module)
    assert packings == []


def test_a_frozen_layer_still_gives_gradients(native):
    module, twin = a_module().freeze(), a_module()
    x = rk.as_tensor(np.ones((4, 3, 5), np.float32)).requires_grad_()
    for each in (module, twin):
        y, _ = each(x)
        y.sum().backward()
    np.testing.assert_array_equal(module.weight_hh_l0.grad.numpy(), twin.weight_hh_l0.grad.numpy())


# ---- programs


@pytest.fixture
def preparations(native, monkeypatch):
    """What was prepared so far: for many runs, or not."""
    made = []

    class Counted(preparing.Prepared):
        def __init__(self, *arguments):
            made.append(arguments[-1])
            super().__init__(*arguments)

    monkeypatch.setattr(preparing, "Prepared", Counted)
    return made


@pytest.mark.parametrize(("cell", "options"), PROGRAMS)
@pytest.mark.parametrize("directions", [1, 2])
def test_bits_of_programs(cell, options, directions, preparations):
    case = Case(cell, options, (9, 3, 4, 6), directions=directions, dtype="float32")
    layer = make_ragged(case, "mixed", reset=True, reset_state=True)
    for each in layer.cells:
        each.eval()
    expected = forward(layer, "native"), forward_backward(layer, "native")
    for each in layer.cells:
        each.freeze()
    preparations.clear()
    for _ in range(3):
        assert_same_bits(forward(layer, "native"), expected[0])
    assert preparations == [True] * directions
    assert_same_bits(forward_backward(layer, "native"), expected[1])
    for each in layer.cells:
        each.unfreeze()
        for parameter in each.parameters():
            parameter.data *= 0.5
    changed = forward(layer, "native")
    assert not np.array_equal(changed["y"], expected[0]["y"])
    for each in layer.cells:
        each.freeze()
    assert_same_bits(forward(layer, "native"), changed)


class Scaled(rk.Cell):
    """h' = tanh(x w + s h), where s is a tensor that the cell does not hold."""

    def __init__(self, input_size, hidden_size):
        super().__init__(input_size, hidden_size)
        self.make_parameters("float32")

    def parameter_shapes(self):
        return {"weight": (self.hidden_size, self.input_size)}

    def step(self, x, state):
        (h,) = state
        h = rk.tanh(x @ self.weight.T + SCALE * h)
        return h, (h,)


SCALE = rk.tensor(np.full(7, 0.5, np.float32))


def test_what_a_frozen_cell_takes_from_elsewhere_may_change(preparations):
    module = nn.Recurrent(Scaled(5, 7)).freeze()
    x = np.random.default_rng(0).standard_normal((4, 3, 5), np.float32)

    def run():
        with rk.no_grad():
            return module(x)[0].numpy()

    before = run()
    np.testing.assert_array_equal(run(), before)
    assert preparations == [True]
    SCALE.data *= 2
    try:
        after = run()
        with rk.backend("python"):
            np.testing.assert_allclose(after, run(), rtol=1e-5, atol=1e-6)
        assert not np.array_equal(after, before)
    finally:
        SCALE.data /= 2
    assert preparations == [True, True]


@pytest.mark.parametrize("make", [nn.GRU, lambda *sizes: nn.Recurrent(rk.cells.MGUCell(*sizes))])
def test_threads_share_a_frozen_module(make, threads):
    threads(1)
    module = make(24, 40)
    xs = np.random.default_rng(1).standard_normal((8, 6, 2, 24)).astype(np.float32)

    def run(x):
        with rk.no_grad():
            return module(x)[0].numpy()

    expected = [run(x) for x in xs]
    with ThreadPoolExecutor(4) as pool:
        for _ in range(20):
            module.unfreeze().freeze()
            assert_equal(list(pool.map(run, xs)), expected)


def test_a_frozen_program_on_another_instruction_set(every_isa):
    module = nn.Recurrent(rk.cells.MGUCell(5, 7)).freeze()
    x = np.ones((4, 3, 5), np.float32)
    for _ in itertools.chain(every_isa(), every_isa()):
        with rk.no_grad():
            thawed = copy.deepcopy(module).unfreeze()
            assert_equal([module(x)[0].numpy()], [thawed(x)[0].numpy()])
