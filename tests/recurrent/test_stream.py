"""Streams: equal to the whole sequence bit for bit, however it is cut."""

from __future__ import annotations

import copy
import pickle
import tracemalloc

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


@pytest.mark.parametrize("N", [1, 2])
@pytest.mark.parametrize("kind", ["RNN", "GRU", "LSTM"])
def test_threads_share_a_step_whose_weights_leave_a_cache(native, threads, kind, N):
    module = getattr(nn, kind)(5, 530 if kind == "RNN" else 310).eval()
    x = sequence(6, N)
    threads(1)
    expected, final = whole(module, x)
    for count in (2, 3):
        threads(count)
        stepper = module.stream(batch_size=N)
        outputs = [stepper(step) for step in x]
        np.testing.assert_array_equal(np.stack(outputs), expected)
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
    stepper.state = tuple(saved.values())
    np.testing.assert_array_equal(stepper(x[3:]), first[3:])
    with pytest.raises(ShapeError):
        stepper.state = [each[:, :1] for each in saved.values()]


def test_savez_keeps_a_stream_for_another_day(path, make, tmp_path):
    module = make()
    x = sequence(6, 2)
    stepper = module.stream(2)
    stepper(x[:4])
    np.savez(tmp_path / "stream.npz", **stepper.state_dict())
    expected = stepper(x[4:])
    later = module.stream(2)
    with np.load(tmp_path / "stream.npz") as saved:
        later.load_state_dict(saved)
    np.testing.assert_array_equal(later(x[4:]), expected)


@pytest.mark.parametrize("rows", [[1, 3], np.array([False, True, False, True]), [3, 1, 1]])
def test_some_rows_restart_and_the_others_go_on(path, make, rows):
    module = make()
    x = sequence(9, 4)
    reset = np.zeros((9, 4), bool)
    reset[5, [1, 3]] = True
    with rk.no_grad():
        expected = module(x, reset=reset)[0].numpy()
    stepper = module.stream(4)
    first = stepper(x[:5])
    stepper.reset(rows=rows)
    np.testing.assert_array_equal(np.concatenate([first, stepper(x[5:])]), expected)
    stepper.reset(rows=[])
    stepper.reset(rows=np.zeros(4, bool))
    assert all(each.any(axis=-1).all() for each in stepper.state)


def test_some_rows_restart_from_a_state_given(path):
    module = nn.LSTM(5, 6, num_layers=2)
    x = sequence(6, 3)
    begin = tuple(np.random.default_rng(k).standard_normal((2, 3, 6)).astype("f4") for k in (2, 3))
    reset = np.zeros((6, 3), bool)
    reset[3, 2] = True
    with rk.no_grad():
        expected = module(x, reset=reset, reset_state=begin)[0].numpy()
    stepper = module.stream(3)
    first = stepper(x[:3])
    stepper.reset(begin, rows=rk.tensor([2]))
    np.testing.assert_array_equal(np.concatenate([first, stepper(x[3:])]), expected)


@pytest.mark.parametrize(
    ("rows", "error", "message"),
    [
        ([2], ArgumentError, r"rows: expected from 0 to 1, got \[2\]"),
        ([-1], ArgumentError, "rows: expected from 0 to 1"),
        ([True], ShapeError, "rows: expected 2 bools"),
        ([1.0], DTypeError, "rows: expected bools or integers, got float64"),
        ([[1]], ShapeError, "rows: expected one axis"),
    ],
)
def test_wrong_rows_leave_the_state_where_it_was(path, rows, error, message):
    stepper = nn.GRU(5, 6).stream(2)
    stepper(np.ones((2, 5), np.float32))
    before = stepper.state[0].copy()
    with pytest.raises(error, match=message):
        stepper.reset(rows=rows)
    np.testing.assert_array_equal(stepper.state[0], before)


def test_nothing_is_allocated_natively(native, make):
    """Not even for a moment, but for small objects of Python: any array here would be larger."""
    N = 512
    with rk.backend("native"):
        stepper = make().stream(N)
    x = sequence(8, N)
    H = stepper.state[0].shape[-1]
    one, block = np.empty((N, H), np.float32), np.empty((8, N, H), np.float32)
    stepper(x, out=block)
    stepper(x[0], out=one)
    for inputs, out in ((x[0], one), (x, block)):
        tracemalloc.start()
        try:
            for _ in range(5):
                stepper(inputs, out=out)
            _, peak = tracemalloc.get_traced_memory()
        finally:
            tracemalloc.stop()
        assert peak < N * 5 * 4 <= min(one.nbytes, x[0].nbytes)


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


@pytest.mark.parametrize("peephole", [False, True])
def test_a_module_of_another_dtype_asks_for_another_stream(path, peephole):
    module = nn.LSTM(5, 6, peephole=peephole)
    stepper = module.stream(2)
    module.to(np.float64)
    for ask in (stepper.refresh, stepper.copy):
        with pytest.raises(DTypeError, match="expected float32, as when the stream was made"):
            ask()
    if path == "native":  # the weights are those of before
        assert stepper(sequence(2, 2)).dtype == np.float32


def test_copies_go_their_own_way_and_pickles_are_refused(path):
    stepper = nn.LSTM(5, 6).stream(2)
    x = sequence(4, 2)
    stepper(x[:2])
    others = [copy.copy(stepper), copy.deepcopy(stepper)]
    expected = stepper(x[2:])
    for other in others:
        np.testing.assert_array_equal(other(x[2:]), expected)
    with pytest.raises(TypeError, match="cannot be pickled"):
        pickle.dumps(stepper)


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
def test_a_stream_evaluates_whatever_the_mode_of_its_module(backend, options, request):
    if backend == "auto":
        request.getfixturevalue("native")
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


@pytest.mark.parametrize("layer", [0, 1])
@pytest.mark.parametrize(
    ("kind", "option"),
    [
        (nn.LSTM, {"cell_clip": 0.1}), (nn.GRU, {"reset_after": False}),
        (nn.RNN, {"nonlinearity": "relu"}),
    ],
)
def test_layers_may_have_other_options_than_each_other(path, kind, option, layer):
    module = kind(5, 7, num_layers=2)
    cell = [cell for _, cell in module.named_cells()][layer]
    for name, value in option.items():
        setattr(cell, name, value)
    x = sequence(4, 2)
    expected, _ = whole(module, x)
    np.testing.assert_allclose(module.stream(batch_size=2)(x), expected, rtol=1e-5, atol=1e-6)


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


class Delayed(rk.Cell):
    """States of several shapes, one of them the former other one, and an output of its own size."""

    state_names = ("h", "trace", "former")

    def __init__(self, input_size, hidden_size):
        super().__init__(input_size, hidden_size)
        self.inner = nn.Linear(input_size + hidden_size, hidden_size)
        self.out = nn.Linear(hidden_size, 4)

    @property
    def output_size(self):
        return 4

    @property
    def state_shapes(self):
        H = self.hidden_size
        return (H,), (2, H), (H,)

    def initial_state(self, batch):
        h, trace, former = super().initial_state(batch)
        return h + 0.25, trace, former - 1

    def draw(self, steps, batch):
        return (rk.randn(steps, batch, self.hidden_size),) if self.training else ()

    def step(self, x, state, noise=0.0):
        h, trace, former = state
        new = (self.inner(rk.cat([x, h], 1)) + noise).tanh() + 0.1 * former
        return self.out(former) + 1, (new, 0.5 * trace + rk.stack([new, h], 1), h)


@pytest.mark.parametrize("merge", ["concat", "sum", "mean", "separate"])
def test_states_of_any_shape_and_every_merge(merge):
    module = nn.Recurrent(Delayed(5, 3), num_layers=2, merge=merge)
    x = sequence(7, 3)
    expected, final = whole(module.eval(), x)
    stepper = module.train().stream(3)
    assert [each.shape for each in stepper.state] == [(2, 3, 3), (2, 3, 2, 3), (2, 3, 3)]
    found = np.concatenate([stepper(x[0])[None], stepper(x[1:4])])
    saved, other = stepper.state_dict(), stepper.copy()
    np.testing.assert_array_equal(np.concatenate([found, stepper(x[4:])]), expected)
    for own, end in zip(stepper.state, final, strict=True):
        np.testing.assert_array_equal(own, end)
    np.testing.assert_array_equal(other(x[4:]), expected[4:])
    other.load_state_dict(saved)
    other.reset(rows=[1])
    begun = module.stream(3)
    for own, kept, start in zip(other.state, saved.values(), begun.state, strict=True):
        np.testing.assert_array_equal(own[:, [0, 2]], kept[:, [0, 2]])
        np.testing.assert_array_equal(own[:, 1], start[:, 1])


def test_a_stream_does_not_put_the_module_into_evaluation_mode():
    module = nn.Recurrent(Delayed(5, 3), num_layers=2)
    x = sequence(4, 2)
    stepper = module.stream(2)
    stepper(x)
    assert module.training
    first, second = (module(x)[0].detach().numpy() for _ in range(2))
    assert not np.array_equal(first, second)  # the noise of training is back


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


def test_a_tensor_with_an_out_gives_the_out(path):
    stepper, out = nn.GRU(5, 6).stream(2), np.zeros((2, 6), np.float32)
    assert stepper(rk.randn(2, 5), out=out) is out
    assert out.any()


def test_what_is_no_cells_makes_no_stepper():
    for cells in ([], [nn.Linear(2, 2)]):
        with pytest.raises(ArgumentError, match="cells: expected the Cells of one layer or more"):
            rk.recurrent.Stepper(cells)


@pytest.mark.parametrize("options", [{}, {"peephole": True}], ids=str)
def test_an_out_that_is_part_of_the_state(path, options):
    module = nn.LSTM(5, 6, num_layers=2, **options)
    x = rk.randn(4, 3, 5).data
    stepper, other = module.stream(3), module.stream(3)
    for step in x[:2]:
        expected = other(step)
        h, c = (each.copy() for each in other.state)
        stepper(step, out=stepper.state[0][-1])  # which it is after the step anyway
        np.testing.assert_array_equal(stepper.state[0][-1], expected)
        np.testing.assert_array_equal(stepper.state[0], h)
        np.testing.assert_array_equal(stepper.state[1], c)
    expected = other(x[2:])
    np.testing.assert_array_equal(stepper(x[2:], out=stepper.state[1]), expected)
    np.testing.assert_array_equal(stepper.state[0], other.state[0])


@pytest.mark.parametrize("options", [{}, {"num_layers": 2}, {"peephole": True}])
@pytest.mark.parametrize("shift", [-1, 0, 1])
def test_an_out_that_shares_memory_with_the_input(path, options, shift):
    module = nn.LSTM(6, 6, **options)
    x = np.random.default_rng(0).standard_normal((300, 4, 6)).astype(np.float32)
    expected = module.stream(4)(x)
    memory = np.zeros((302, 4, 6), np.float32)
    memory[1:-1] = x
    out = memory[1 + shift : 301 + shift]
    np.testing.assert_array_equal(module.stream(4)(memory[1:-1], out=out), expected)
    one = np.zeros((6, 6), np.float32)
    one[1:5] = x[0]
    stepped = module.stream(4)(one[1:5], out=one[1 + shift : 5 + shift])
    np.testing.assert_array_equal(stepped, expected[0])


@pytest.mark.parametrize("peephole", [False, True])
def test_an_out_that_cannot_be_written_leaves_the_state_where_it_was(path, peephole):
    stepper = nn.LSTM(5, 6, num_layers=2, peephole=peephole).stream(2)
    fixed = np.zeros((2, 6), np.float32)
    fixed.flags.writeable = False
    for out, error, message in (
        (rk.zeros(2, 6), DTypeError, "out: expected a NumPy array, got Tensor"),
        (fixed, ArgumentError, "out: expected an array that can be written to"),
        (np.zeros((6, 2), np.float32).T, ArgumentError, "out: expected a contiguous last axis"),
    ):
        with pytest.raises(error, match=message):
            stepper(np.ones((2, 5), np.float32), out=out)
    assert not any(each.any() for each in stepper.state)


def test_bad_states_and_batch_sizes(path):
    module = nn.LSTM(5, 6)
    with pytest.raises(ArgumentError, match="batch_size"):
        module.stream(0)
    stepper = module.stream(2)
    with pytest.raises(ArgumentError, match=r"state: LSTMCell expects \(h, c\), got 1 of them"):
        stepper.reset([stepper.state[0]])
    with pytest.raises(ArgumentError, match=r"state: LSTMCell expects \(h, c\), got one tensor"):
        stepper.reset(stepper.state[0])
    with pytest.raises(ShapeError, match="c: expected shape"):
        stepper.reset([stepper.state[0], np.zeros((1, 3, 6), np.float32)])
    with pytest.raises(ArgumentError, match="expected h, c, got h"):
        stepper.load_state_dict({"h": stepper.state[0]})


def test_a_stream_goes_on_from_what_the_module_returned(path, make):
    module, x = make(), sequence(6, 2)
    module.eval()
    expected = module(x)[0].numpy()
    stepper = module.stream(2)
    stepper.reset(module(x[:4])[1])
    np.testing.assert_array_equal(stepper(x[4:]), expected[4:])


def test_results_for_any_memory(path, make):
    stepper, x = make().stream(2), sequence(3, 2)
    expected = stepper(x)
    unaligned = np.zeros(expected.nbytes + 1, np.uint8)[1:].view(np.float32).reshape(expected.shape)
    for out in (unaligned, np.zeros_like(expected, dtype=">f4")):
        stepper.reset()
        assert stepper(x, out=out) is out
        np.testing.assert_array_equal(out, expected)


class Swapped(rk.Cell):
    """Its states change places; the output is one of them as it was."""

    state_names = ("a", "b")

    def step(self, x, state):
        a, b = state
        return a, (b, a + x)


def test_states_that_change_places(path):
    module = nn.Recurrent(Swapped(3, 3))
    x = np.random.default_rng(0).standard_normal((6, 2, 3)).astype(np.float32)
    with rk.backend(path):
        stepper = module.stream(2)
        y = np.stack([stepper(step) for step in x])
        expected, final = module(x)
    np.testing.assert_array_equal(y, expected.numpy())
    for own, each in zip(stepper.state, final, strict=True):
        np.testing.assert_array_equal(own, each.numpy())


def test_one_feature_is_contiguous_whatever_its_stride(path):
    with rk.backend(path):
        stepper, other = nn.LSTM(3, 1).stream(2), np.zeros((2, 3), np.float32)
        expected = stepper(np.ones((2, 3), np.float32))
        stepper.reset()
        out = stepper(np.ones((2, 3), np.float32), out=other[:, 1:2][:, ::2])
    np.testing.assert_array_equal(out, expected)
    np.testing.assert_array_equal(other[:, 1:2], expected)
    assert not other[:, ::2].any()


@pytest.mark.parametrize("cell", [
    lambda: nn.LSTMCell(3, 4), lambda: nn.LSTMCell(3, 4, peephole=True),
], ids=["fused", "program"])  # fmt: skip
def test_parameters_that_no_longer_fit(path, cell):
    with rk.backend("python" if path == "python" else "auto"):
        module = nn.Recurrent(cell(), num_layers=2)
        stepper = module.stream()
        module.layers[1][0].bias_hh.data = np.ones(1, np.float32)
        message = r"bias_hh: expected shape \(16,\), got \(1,\)"
        for act in (module.stream, stepper.refresh, stepper.copy):
            with pytest.raises(ShapeError, match=message):
                act()
