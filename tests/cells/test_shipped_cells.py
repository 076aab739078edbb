"""Every shipped cell without a fused kernel: its equations, and what ``nn.Recurrent`` offers it."""

import ast
import copy
import inspect
import pickle
import subprocess
import sys
import textwrap

import by_hand
import numpy as np
import pytest

import rnnkit as rk
from rnnkit import nn
from rnnkit.cells import CELLS
from rnnkit.errors import ArgumentError, DTypeError, ShapeError

T, N, I, H = 5, 3, 4, 7
NAMES = sorted(name for name, cell in CELLS.items() if cell.kernel is None)
VARIANTS = [
    pytest.param(name, options, id="-".join([name, *map(str, options.values())]))
    for name in NAMES
    for options in CELLS[name].variants
]


def make(name, options, dtype="float64", seed=3, **more):
    """A cell whose parameters are all distinct, each moved a little from where it begins."""
    rk.manual_seed(seed)
    cell = CELLS[name](I, H, dtype=dtype, **options, **more)
    random = np.random.default_rng(seed)
    for key, parameter in cell.named_parameters():
        moved = parameter.data + 0.1 * random.standard_normal(parameter.shape)
        # 0.05 of a period is over too soon for a few steps to see.
        parameter.data[...] = 0.6 + (moved - 0.05) if key == "open" else moved
    return cell


def states_of(cell, random, *leading):
    """Initial states that are not zero: a normaliser is positive, a clock counts."""
    states = []
    for name, shape in zip(cell.state_names, cell.state_shapes, strict=True):
        drawn = random.standard_normal((*leading, *shape))
        if name in ("n", "z"):
            drawn = np.abs(drawn) + 0.5
        if name in ("t", "clock"):
            drawn = np.floor(2 * random.random((*leading, *shape)))
            if name == "clock":
                drawn = np.minimum(drawn, cell.period.data - 1)
        states.append(drawn.astype(cell.dtype))
    return tuple(states)


def numpy(tensor):
    return tensor.detach().numpy()


def by_steps(cell, x, state, reverse=False):
    """Outputs (T, N, H) and the final state of a cell's own steps."""
    outputs = []
    for t in reversed(range(len(x))) if reverse else range(len(x)):
        y, state = cell.step(x[t], state)
        outputs.append(y)
    return rk.stack(outputs[::-1] if reverse else outputs), state


@pytest.mark.parametrize(("name", "options"), VARIANTS)
def test_steps_follow_the_equations(name, options):
    random = np.random.default_rng(5)
    cell = make(name, options)
    W = by_hand.Weights(cell)
    expected = state = states_of(cell, random, N)
    state = tuple(map(rk.tensor, state))
    for x in random.standard_normal((4, N, I)):
        y, state = cell.step(rk.tensor(x), state)
        right, *expected = getattr(by_hand, name)(W, x, *expected)
        np.testing.assert_allclose(numpy(y), right, rtol=1e-12, atol=1e-12)
        for key, actual, value in zip(cell.state_names, state, expected, strict=True):
            np.testing.assert_allclose(numpy(actual), value, rtol=1e-12, atol=1e-12, err_msg=key)


def test_the_simple_recurrent_unit_of_one_size_needs_no_fourth_product():
    rk.manual_seed(0)
    cell = CELLS["sru"](6, 6, dtype="float64")
    assert cell.weight_ih.shape == (18, 6)
    x, c = np.random.default_rng(0).standard_normal((2, 3, 6))
    y, (new,) = cell.step(rk.tensor(x), (rk.tensor(c),))
    right_y, right_c = by_hand.sru(by_hand.Weights(cell), x, c)
    np.testing.assert_allclose(numpy(y), right_y, rtol=1e-13)
    np.testing.assert_allclose(numpy(new), right_c, rtol=1e-13)


@pytest.mark.parametrize(("name", "options"), VARIANTS)
def test_without_bias_is_with_a_bias_of_zero(name, options):
    if "bias" not in inspect.signature(CELLS[name].__init__).parameters:
        assert not any("bias" in key for key in make(name, options).state_dict())
        return
    bare, cell = make(name, options, bias=False), make(name, options, bias=True)
    names = {key for key in cell.state_dict() if "bias" in key}
    assert names
    assert set(bare.state_dict()) == set(cell.state_dict()) - names
    zeros = {key: np.zeros_like(cell.state_dict()[key]) for key in names}
    cell.load_state_dict(zeros | bare.state_dict())
    random = np.random.default_rng(2)
    x, state = rk.tensor(random.standard_normal((N, I))), states_of(cell, random, N)
    state = tuple(map(rk.tensor, state))
    for actual, expected in zip(bare.step(x, state)[1], cell.step(x, state)[1], strict=True):
        np.testing.assert_allclose(numpy(actual), numpy(expected), rtol=1e-14, atol=1e-14)


@pytest.mark.parametrize(("name", "options"), VARIANTS)
def test_two_layers_in_both_directions(name, options):
    random = np.random.default_rng(7)
    cell = make(name, options)
    layers = 1 if options.get("timed") else 2
    with rk.no_grad():
        module = nn.Recurrent(cell, layers, bidirectional=True)
        x = rk.tensor(random.standard_normal((T, N, I)))
        states = tuple(map(rk.tensor, states_of(cell, random, layers * 2, N)))
        y, final = module(x, cell.pack_state(states))
        expected = x
        for layer, cells in enumerate(module._layers):
            outputs = []
            for direction, each in enumerate(cells):
                at = layer * 2 + direction
                begin = tuple(state[at] for state in states)
                output, end = by_steps(each, expected, begin, reverse=direction == 1)
                outputs.append(output)
                for got, value in zip(cell.unpack_state(final), end, strict=True):
                    np.testing.assert_allclose(numpy(got)[at], numpy(value), rtol=1e-13, atol=1e-15)
            expected = rk.cat(outputs, -1)
    assert y.shape == (T, N, 2 * cell.output_size)
    np.testing.assert_allclose(numpy(y), numpy(expected), rtol=1e-13, atol=1e-15)


@pytest.mark.parametrize(("name", "options"), VARIANTS)
def test_lengths_and_resets_are_separate_sequences(name, options):
    random = np.random.default_rng(9)
    module = nn.Recurrent(make(name, options))
    x = random.standard_normal((T, N, I))
    reset = np.zeros((T, N), bool)
    reset[2, 1] = True
    with rk.no_grad():
        y, final = module(rk.tensor(x), lengths=[4, 5, 2], reset=reset)
        pieces = [(0, 0, 4), (1, 0, 2), (1, 2, 5), (2, 0, 2)]
        for row, begin, end in pieces:
            alone, last = module(rk.tensor(x[begin:end, row : row + 1]))
            np.testing.assert_allclose(
                numpy(y)[begin:end, row], numpy(alone)[:, 0], rtol=1e-12, atol=1e-14
            )
        assert not numpy(y)[4:, 0].any()
        # The last piece is the whole of row 2.
        cell = module._layers[0][0]
        for got, value in zip(cell.unpack_state(final), cell.unpack_state(last), strict=True):
            np.testing.assert_allclose(numpy(got)[:, 2], numpy(value)[:, 0], rtol=1e-12, atol=1e-14)


@pytest.mark.parametrize("name", ["delta_net", "exp_rnn", "qrnn", "slstm"])
def test_gradients_through_layers_directions_and_ragged_rows(name):
    """The states with more axes, with other sizes and with a limit at zero."""
    rk.manual_seed(2)
    cell = CELLS[name](2, 2, dtype="float64")
    with rk.backend("python"):
        module = nn.Recurrent(cell, 2, bidirectional=True)
        random = np.random.default_rng(3)
        x = rk.tensor(random.standard_normal((3, 2, 2)), requires_grad=True)
        states = [rk.tensor(each, requires_grad=True) for each in states_of(cell, random, 4, 2)]
        reset = np.array([[0, 0], [0, 0], [1, 0]], bool)

        def run(x, *tensors):
            state = cell.pack_state(tensors[: len(states)])
            y, final = module(x, state, lengths=[3, 2], reset=reset)
            return y, *cell.unpack_state(final)

        assert rk.gradcheck(run, [x, *states, *module.parameters()], atol=1e-7, rtol=1e-5)


@pytest.mark.parametrize(("name", "options"), VARIANTS)
def test_a_stream_gives_the_same_as_the_sequence(name, options):
    module = nn.Recurrent(make(name, options, "float32"), 1 if options.get("timed") else 2)
    x = np.random.default_rng(1).standard_normal((T, N, I)).astype(np.float32)
    stepper = module.stream(N)
    with rk.no_grad():
        y, _ = module(rk.tensor(x))
    steps = np.stack([stepper(x[t]) for t in range(T)])
    assert steps.dtype == np.float32
    np.testing.assert_allclose(steps, numpy(y), rtol=1e-6, atol=1e-6)


@pytest.mark.parametrize(("name", "options"), VARIANTS)
def test_single_precision_stays_single(name, options):
    """A constant of another dtype would turn the whole step into float64."""
    cell = make(name, options, "float32")
    double = make(name, options)
    for key, parameter in double.named_parameters():
        parameter.data[...] = dict(cell.named_parameters())[key].data
    random = np.random.default_rng(4)
    x, state = random.standard_normal((N, I)).astype("f"), states_of(cell, random, N)
    y, new = cell.step(rk.tensor(x), tuple(map(rk.tensor, state)))
    exact, exact_new = double.step(
        rk.tensor(x.astype(float)), tuple(rk.tensor(each.astype(float)) for each in state)
    )
    for actual, expected in zip((y, *new), (exact, *exact_new), strict=True):
        assert actual.dtype == np.float32
        np.testing.assert_allclose(numpy(actual), numpy(expected), rtol=2e-4, atol=2e-4)


@pytest.mark.parametrize(("name", "options"), VARIANTS)
def test_called_like_a_pytorch_cell(name, options):
    random = np.random.default_rng(6)
    cell = make(name, options)
    x, states = random.standard_normal((N, I)), states_of(cell, random, N)
    result = cell.unpack_state(cell(x, cell.pack_state(states)))
    _, expected = cell.step(rk.tensor(x), tuple(map(rk.tensor, states)))
    one = cell.unpack_state(cell(x[1], cell.pack_state([state[1] for state in states])))
    for actual, value, single in zip(result, expected, one, strict=True):
        np.testing.assert_array_equal(numpy(actual), numpy(value))
        np.testing.assert_allclose(numpy(single), numpy(value)[1], rtol=1e-12, atol=1e-14)
    zeros = cell.pack_state([np.zeros_like(state) for state in states])
    for a, b in zip(cell.unpack_state(cell(x)), cell.unpack_state(cell(x, zeros)), strict=True):
        np.testing.assert_array_equal(numpy(a), numpy(b))


@pytest.mark.parametrize(("name", "options"), VARIANTS)
def test_an_empty_sequence_and_an_empty_batch(name, options):
    random = np.random.default_rng(8)
    cell = make(name, options)
    module = nn.Recurrent(cell)
    state = states_of(cell, random, 1, N)
    y, final = module(rk.zeros(0, N, I, dtype="float64"), cell.pack_state(state))
    assert y.shape == (0, N, cell.output_size)
    for got, value in zip(cell.unpack_state(final), state, strict=True):
        np.testing.assert_array_equal(numpy(got), value)
    y, _ = module(rk.zeros(T, 0, I, dtype="float64"))
    assert y.shape == (T, 0, cell.output_size)
    y.sum().backward()
    for parameter in module.parameters():
        assert parameter.grad is None or not parameter.grad.numpy().any()


@pytest.mark.parametrize(("name", "options"), VARIANTS)
def test_renew_makes_another_cell_of_the_kind(name, options):
    cell = CELLS[name](I, H, **options).to(np.float64)
    size = I if options.get("timed") else 6
    other = cell.renew(size)
    assert type(other) is type(cell)
    assert (other.input_size, other.hidden_size, other.dtype) == (size, H, np.dtype("float64"))
    assert other.state_shapes == cell.state_shapes
    for key in cell.variants[0]:
        assert getattr(other, key) == getattr(cell, key)
    assert all(buffer.dtype == np.float64 for buffer in other.buffers())
    drawn = [key for key, value in other.state_dict().items() if np.unique(value).size > 1]
    assert not any(
        np.array_equal(other.state_dict()[key], cell.state_dict()[key])
        for key in drawn
        if size == I or "ih" not in key
    )


@pytest.mark.parametrize(("name", "options"), VARIANTS)
def test_states_are_saved_and_copies_are_independent(name, options):
    random = np.random.default_rng(10)
    layers = 1 if options.get("timed") else 2
    module = nn.Recurrent(make(name, options), layers, bidirectional=True)
    other = nn.Recurrent(make(name, options, seed=11), layers, bidirectional=True)
    x = rk.tensor(random.standard_normal((T, N, I)))
    y = numpy(module(x)[0])
    assert not np.allclose(numpy(other(x)[0]), y)
    other.load_state_dict(module.state_dict())
    np.testing.assert_array_equal(numpy(other(x)[0]), y)
    twin = pickle.loads(pickle.dumps(copy.deepcopy(module)))
    for parameter in module.parameters():
        parameter.data[...] = 0.25
    np.testing.assert_array_equal(numpy(twin(x)[0]), y)


@pytest.mark.parametrize("name", NAMES)
def test_replaced_parameters_are_checked(name):
    for change, kind, message in [
        (lambda array: array[..., :0], ShapeError, "expected shape"),
        (lambda array: array.astype(np.float64), DTypeError, "expected"),
    ]:
        cell = CELLS[name](I, H, **({"bias": True} if hasattr(CELLS[name](1, 1), "bias") else {}))
        first, *_, last = cell.state_dict()
        assert first != last
        getattr(cell, last).data = change(getattr(cell, last).data)
        with pytest.raises(kind, match=f"{last}: {message}"):
            nn.Recurrent(cell)(rk.zeros(T, N, I))


@pytest.mark.parametrize("name", NAMES)
def test_a_step_looks_at_no_values(name):
    """Nothing in a step may depend on numbers that are known only when it runs."""
    kind = CELLS[name]
    looked = {"data", "_data", "numpy", "item", "tolist", "detach"}
    for cls in kind.__mro__[: kind.__mro__.index(rk.Cell)]:
        for method, function in vars(cls).items():
            if inspect.isfunction(function) and method not in ("__init__", "reset_parameters"):
                tree = ast.parse(textwrap.dedent(inspect.getsource(function)))
                used = {node.attr for node in ast.walk(tree) if isinstance(node, ast.Attribute)}
                assert not used & looked, f"{cls.__name__}.{method}"


@pytest.mark.parametrize("name", NAMES)
def test_a_file_opens_with_its_equations_and_their_source(name):
    text = sys.modules[CELLS[name].__module__].__doc__
    assert "=" in text
    assert "arXiv" in text or "NeurIPS" in text


def test_the_cells_are_loaded_when_they_are_used():
    code = (
        "import sys, rnnkit.nn, rnnkit as rk\n"
        "loaded = lambda: sorted(m for m in sys.modules if m.startswith('rnnkit.cells.'))\n"
        "print(loaded())\n"
        "rk.cells.SRUCell; print('rnnkit.cells.sru' in loaded(), 'rnnkit.cells.lmu' in loaded())\n"
        "print(len(rk.cells.CELLS), 'rnnkit.cells.lmu' in loaded())\n"
    )
    command = [sys.executable, "-c", code]
    result = subprocess.run(command, capture_output=True, text=True, check=True)
    loaded, one, every = result.stdout.splitlines()
    names = ("base", "gru", "lstm", "noise", "rnn")
    assert loaded == str([f"rnnkit.cells.{name}" for name in names])
    assert one == "True False"
    assert every == f"{len(CELLS)} True"
    assert set(rk.cells.__all__) <= set(dir(rk.cells))
    with pytest.raises(AttributeError, match="no attribute 'LTSMCell'"):
        _ = rk.cells.LTSMCell


def test_every_exported_cell_is_registered():
    exported = {getattr(rk.cells, name) for name in rk.cells.__all__ if name.endswith("Cell")}
    assert exported - {rk.cells.Cell, rk.cells.GatedCell} == set(CELLS.values())


def test_wrong_options():
    C = rk.cells
    for make_cell, kind, message in [
        (lambda: C.IndRNNCell(3, 4, nonlinearity="sin"), ArgumentError, "'relu' or 'tanh', got"),
        (lambda: C.IndRNNCell(3, 4, 1), ArgumentError, "bias: expected a bool, got 1"),
        (lambda: C.LiGRUCell(3, 4, normalized=1), ArgumentError, "normalized: expected a bool"),
        (lambda: C.MinGRUCell(3, 4, positive=1), ArgumentError, "positive: expected a bool"),
        (lambda: C.SLSTMCell(3, 4, forget="log"), ArgumentError, "forget: expected 'sigmoid' or"),
        (lambda: C.DeltaNetCell(3, 4, key_size=0), ArgumentError, "key_size: expected at least 1"),
        (lambda: C.LRUCell(3, 4, state_size=2.0), ArgumentError, "state_size: expected an int"),
        (lambda: C.LRUCell(3, 4, r_min=0.9, r_max=0.5), ArgumentError, "r_min, r_max: expected"),
        (lambda: C.LRUCell(3, 4, max_phase=0), ArgumentError, "max_phase: expected a number > 0"),
        (lambda: C.LRUCell(3, 4, max_phase=np.nan), ArgumentError, "max_phase: expected a num"),
        (lambda: C.LRUCell(3, 4, r_max=1.5), ArgumentError, "r_max: expected .* >= 0 and <= 1"),
        (lambda: C.LRUCell(3, 4, r_min="0"), ArgumentError, "r_min: expected a number .* got '0'"),
        (lambda: C.LRUCell(3, 4, r_max=True), ArgumentError, "r_max: expected a number"),
        (lambda: C.LRUCell(3, 4, max_phase="1"), ArgumentError, "max_phase: expected a number"),
        (lambda: C.LMUCell(3, 4, window=0), ArgumentError, "window: expected a number > 0"),
        (lambda: C.LMUCell(3, 4, window=1e-320), ArgumentError, "window: expected a longer one"),
        (lambda: C.LMUCell(3, 4, window=1e-307), ArgumentError, "window: expected a longer one"),
        (lambda: C.LMUCell(3, 4, window=np.inf), ArgumentError, "window: expected .* < inf, got"),
        (lambda: C.LMUCell(3, 4, window="32"), ArgumentError, "window: expected .* got '32'"),
        (lambda: C.LMUCell(3, 4, window=True), ArgumentError, "window: expected a number"),
        (lambda: C.LMUCell(3, 4, order=True), ArgumentError, "order: expected an int"),
        (lambda: C.ClockworkRNNCell(3, 4, periods=(2, 2)), ArgumentError, "periods: .* ascending"),
        (lambda: C.ClockworkRNNCell(3, 4, periods=()), ArgumentError, "periods: .* ascending"),
        (lambda: C.ClockworkRNNCell(3, 4, periods=(0, 1)), ArgumentError, "periods: expected at"),
        (lambda: C.ClockworkRNNCell(3, 4, periods=2), ArgumentError, "periods: expected several"),
        (lambda: C.PhasedLSTMCell(1, 4, timed=True), ArgumentError, "input_size: expected the"),
        (lambda: C.PhasedLSTMCell(3, 4, periods=(0, 1)), ArgumentError, "periods: expected a num"),
        (lambda: C.PhasedLSTMCell(3, 4, periods=(2, 1)), ArgumentError, "periods: expected two as"),
        (lambda: C.PhasedLSTMCell(3, 4, periods=3.0), ArgumentError, "periods: expected two asc"),
        (lambda: C.PhasedLSTMCell(3, 4, periods="12"), ArgumentError, "periods: expected two asc"),
        (lambda: C.PhasedLSTMCell(3, 4, periods=("1", 2)), ArgumentError, "periods: expected a n"),
        (lambda: C.PhasedLSTMCell(3, 4, leak=True), ArgumentError, "leak: expected a number"),
        (lambda: C.PhasedLSTMCell(3, 4, leak="0"), ArgumentError, "leak: expected a number"),
        (lambda: C.PhasedLSTMCell(3, 4, periods=(1, np.inf)), ArgumentError, "periods: expected"),
        (lambda: C.PhasedLSTMCell(3, 4, timed=True).renew(5), ArgumentError, "timed: the layers"),
        (lambda: C.PhasedLSTMCell(3, 4, leak=float("nan")), ArgumentError, "leak: expected a num"),
        (lambda: C.LayerNormLSTMCell(3, 4, eps=-1), ArgumentError, "eps: expected a number >= 0"),
        (lambda: C.RMSNormLSTMCell(3, 4, eps=-1), ArgumentError, "eps: expected a number >= 0"),
        (lambda: C.LiGRUCell(3, 4, eps="x"), ArgumentError, "eps: expected a number >= 0"),
        (lambda: C.LiGRUCell(3, 4, eps=-1), ArgumentError, "eps: expected a number >= 0"),
        (lambda: C.SRUCell(3, 4, dtype=np.float16), DTypeError, "float32 or float64, got float16"),
    ]:
        with pytest.raises(kind, match=message):
            make_cell()
