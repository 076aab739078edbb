"""Streams: equal to the whole sequence bit for bit, however it is cut."""

from __future__ import annotations

import numpy as np
import pytest

import rnnkit as rk
from rnnkit import nn
from rnnkit.errors import ArgumentError, DTypeError, ShapeError

MODULES = {
    "lstm": lambda **kw: nn.LSTM(5, 7, **kw),
    "lstm, two layers": lambda **kw: nn.LSTM(5, 19, num_layers=2, **kw),
    "lstm, three layers, no bias": lambda **kw: nn.LSTM(5, 33, num_layers=3, bias=False, **kw),
    "gru": lambda **kw: nn.GRU(5, 40, **kw),
    "gru, reset before": lambda **kw: nn.GRU(5, 21, num_layers=2, reset_after=False, **kw),
    "rnn": lambda **kw: nn.RNN(5, 70, num_layers=2, **kw),
    "rnn, relu": lambda **kw: nn.RNN(5, 6, nonlinearity="relu", **kw),
}


@pytest.fixture(params=MODULES)
def make(request):
    return MODULES[request.param]


def sequence(T: int, N: int, dtype: str = "float32") -> np.ndarray:
    return np.random.default_rng(1).standard_normal((T, N, 5)).astype(dtype)


def whole(module, x):
    with rk.no_grad():
        y, final = module(x)
    final = final if isinstance(final, tuple) else (final,)
    return y.numpy(), [each.numpy() for each in final]


@pytest.mark.parametrize("dtype", ["float32", "float64"])
@pytest.mark.parametrize("N", [1, 2, 3, 17])
def test_steps_and_blocks_equal_the_whole_sequence(path, make, dtype, N):
    module = make(dtype=dtype)
    x = sequence(9, N, dtype)
    expected, final = whole(module, x)
    for cut in ([1] * 9, [2, 1, 5, 1], [9]):
        stepper = module.stream(batch_size=N)
        outputs, start = [], 0
        for steps in cut:
            block = x[start : start + steps]
            outputs.append(stepper(block[0])[None] if steps == 1 else stepper(block))
            start += steps
        np.testing.assert_array_equal(np.concatenate(outputs), expected)
        for own, end in zip(stepper.state, final, strict=True):
            np.testing.assert_array_equal(own, end)


def test_it_says_which_path_runs(path):
    nn.GRU(5, 6).stream()
    last = rk.why(1)[0]
    assert last.path == ("fused" if path == "native" else "python")
    assert "GRU stream N=1 I=5 H=6 L=1" in last.op


def test_reset_copy_save_and_restore(path, make):
    module = make()
    x = sequence(6, 2)
    stepper = module.stream(2)
    first = stepper(x)
    stepper.reset()
    np.testing.assert_array_equal(stepper(x), first)

    stepper.reset()
    stepper(x[:3])
    saved, other = stepper.state_dict(), stepper.copy()
    np.testing.assert_array_equal(stepper(x[3:]), first[3:])
    np.testing.assert_array_equal(other(x[3:]), first[3:])
    stepper.load_state_dict(saved)
    np.testing.assert_array_equal(stepper(x[3:]), first[3:])
    stepper.reset([saved[name] for name in saved])
    np.testing.assert_array_equal(stepper(x[3:]), first[3:])


def test_out_is_written_and_results_are_otherwise_new(path):
    stepper = nn.LSTM(5, 6).stream()
    x = sequence(4, 1)
    out = np.empty((1, 6), np.float32)
    assert stepper(x[0], out=out) is out
    a, b = stepper(x[1]), stepper(x[2])
    assert not np.shares_memory(a, b)
    stepper.reset()
    again = np.concatenate([stepper(step) for step in x[:3]])
    np.testing.assert_array_equal(again, np.concatenate([out, a, b]))


def test_tensors_give_tensors_without_a_graph(path):
    y = nn.LSTM(5, 6).stream()(rk.tensor(sequence(1, 1)[0], requires_grad=True))
    assert isinstance(y, rk.Tensor)
    assert not y.requires_grad


def test_layouts_that_are_not_contiguous(path):
    module = nn.GRU(5, 6)
    x = sequence(8, 3)
    expected = module.stream(3)(x)
    np.testing.assert_array_equal(module.stream(3)(np.asfortranarray(x)), expected)
    np.testing.assert_array_equal(module.stream(3)(x[:, ::-1])[:, ::-1], expected)
    wide = np.zeros((8, 3, 12), np.float32)
    assert module.stream(3)(x, out=wide[..., 3:9]).base is not None
    np.testing.assert_array_equal(wide[..., 3:9], expected)


def test_new_weights_are_taken_by_refresh(path):
    module = nn.LSTM(5, 6)
    x = sequence(2, 1)
    stepper = module.stream()
    module.weight_ih_l0.data *= 2
    stepper.refresh()
    np.testing.assert_array_equal(stepper(x), whole(module, x)[0])


def test_dropout_is_not_applied(path):
    module = nn.LSTM(5, 6, num_layers=2, dropout=0.9)
    x = sequence(4, 1)
    np.testing.assert_array_equal(module.stream()(x), whole(module.eval(), x)[0])


OPTIONS = {
    "dropped everywhere": {"input_dropout": 0.5, "weight_dropout": 0.5, "recurrent_dropout": 0.5},
    "zoneout": {"zoneout": (0.2, 0.5), "recurrent_dropout": 0.5},
    "other equations": {"proj_size": 3, "peephole": True, "coupled": True, "cell_clip": 0.3},
}


@pytest.mark.parametrize("backend", ["python", "auto"])
@pytest.mark.parametrize("options", OPTIONS.values(), ids=OPTIONS)
def test_a_stream_evaluates_whatever_the_mode_of_its_module(backend, options):
    module = nn.LSTM(5, 6, num_layers=2, **options)
    x = sequence(7, 3)
    with rk.backend(backend):
        stepper = module.stream(3)
        path = rk.why(1)[0].path
        actual = np.concatenate([stepper(x[0])[None], stepper(x[1:])])
        assert all(cell.training for cells in module._layers for cell in cells)
        expected, final = whole(module.eval(), x)
    if "input_dropout" in options:
        assert path == ("fused" if backend == "auto" else "python")
    np.testing.assert_array_equal(actual, expected)
    for own, end in zip(stepper.state, final, strict=True):
        np.testing.assert_array_equal(own, end)


def test_modules_within_a_cell_evaluate_too():
    class Inner(rk.Cell):
        def __init__(self, input_size, hidden_size):
            super().__init__(input_size, hidden_size)
            self.drop = nn.Dropout(0.5)

        def step(self, x, state):
            h = state[0] * 0.5 + self.drop(x)
            return h, (h,)

    module = nn.Recurrent(Inner(5, 5))
    x = sequence(4, 2)
    y = module.stream(2)(x)
    np.testing.assert_array_equal(y, whole(module.eval(), x)[0])
    assert y[0].all()


def test_a_cell_of_ones_own_streams_too():
    class Leaky(rk.Cell):
        def step(self, x, state):
            h = state[0] * 0.5 + x[:, : self.hidden_size]
            return h, (h,)

    module = nn.Recurrent(Leaky(5, 3))
    x = sequence(4, 2)
    np.testing.assert_array_equal(module.stream(2)(x), whole(module, x)[0])


def test_bidirectional_refuses_with_the_reason():
    with pytest.raises(ArgumentError, match="reverse direction begins at the end"):
        nn.GRU(5, 6, bidirectional=True).stream()


@pytest.mark.parametrize(
    ("x", "error", "message"),
    [
        (np.zeros((3, 5), np.float32), ShapeError, "x: expected a batch of 2"),
        (np.zeros((2, 4), np.float32), ShapeError, "x: expected 5 features"),
        (np.zeros(5, np.float32), ShapeError, "x: expected axes"),
        (np.zeros((0, 2, 5), np.float32), ShapeError, "at least one step"),
        (np.zeros((2, 5), np.float64), DTypeError, "x: expected float32"),
        (np.zeros((2, 5), np.int64), DTypeError, "x: expected float32"),
        ([[1.0] * 5] * 2, DTypeError, "x: expected a Tensor or a NumPy array"),
    ],
)
def test_errors_leave_the_state_where_it_was(path, x, error, message):
    stepper = nn.LSTM(5, 6).stream(2)
    stepper(np.ones((2, 5), np.float32))
    before = stepper.state_dict()
    with pytest.raises(error, match=message):
        stepper(x)
    for name, value in stepper.state_dict().items():
        np.testing.assert_array_equal(value, before[name])


@pytest.mark.parametrize("size", [(2, 7), (3, 6)])
def test_a_wrong_out(path, size):
    stepper = nn.LSTM(5, 6).stream(2)
    with pytest.raises(ShapeError, match="out: expected shape"):
        stepper(np.ones((2, 5), np.float32), out=np.zeros(size, np.float32))
    with pytest.raises(DTypeError, match="out: expected float32"):
        stepper(np.ones((2, 5), np.float32), out=np.zeros((2, 6)))


def test_bad_states_and_batch_sizes(path):
    module = nn.LSTM(5, 6)
    with pytest.raises(ArgumentError, match="batch_size"):
        module.stream(0)
    stepper = module.stream(2)
    with pytest.raises(ArgumentError, match="state: expected a tuple"):
        stepper.reset([stepper.state[0]])
    with pytest.raises(ShapeError, match="c: expected shape"):
        stepper.reset([stepper.state[0], np.zeros((1, 3, 6), np.float32)])
    with pytest.raises(ArgumentError, match="expected h, c, got h"):
        stepper.load_state_dict({"h": stepper.state[0]})
