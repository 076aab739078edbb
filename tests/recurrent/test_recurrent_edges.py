"""Empty sequences and batches, wrong arguments, NaN and infinities, read-only arrays."""

import numpy as np
import pytest
from recurrent_contract import (
    assert_same_bits,
    cases,
    forward,
    forward_backward,
    fused_cases,
    make_layer,
)

import rnnkit as rk
from rnnkit import backend
from rnnkit.cells import Cell, GRUCell, LSTMCell, RNNCell
from rnnkit.errors import ArgumentError, BackendError, DTypeError, ShapeError
from rnnkit.module import Parameter
from rnnkit.recurrent import run_layer


@pytest.mark.parametrize(("directions", "batch_first"), [(1, True), (2, False)])
@pytest.mark.parametrize("case", cases((0, 3, 4, 5), (0, 0, 2, 3)), ids=str)
def test_an_empty_sequence_hands_the_state_through(path, case, directions, batch_first):
    layer = make_layer(case.with_(directions=directions, batch_first=batch_first))
    results = forward_backward(layer, path)
    N, features = case.sizes[1], layer.cells[0].output_size
    leading = (N, 0) if batch_first else (0, N)
    assert results.pop("y").shape == (*leading, directions * features)
    assert results.pop("d_x").shape == layer.inputs["x"].shape
    for name in case.states:
        assert_same_bits({name: results.pop(f"{name}n")}, {name: layer.inputs[f"{name}0"]})
        d_final = layer.d_outputs[f"d_{name}n"]
        assert_same_bits({name: results.pop(f"d_{name}0")}, {name: d_final})
    assert all(not gradient.any() for gradient in results.values())


@pytest.mark.parametrize("directions", [1, 2])
@pytest.mark.parametrize("case", cases((4, 0, 3, 5)), ids=str)
def test_an_empty_batch(path, case, directions):
    layer = make_layer(case.with_(directions=directions))
    results = forward_backward(layer, path)
    cell = layer.cells[0]
    assert results["y"].shape == (4, 0, directions * cell.output_size)
    for name, row in zip(case.states, cell.state_shapes, strict=True):
        assert results[f"{name}n"].shape == (directions, 0, *row)
    for name, weight in layer.weights().items():
        assert results[f"d_{name}"].shape == weight.shape
        assert not results[f"d_{name}"].any()


@pytest.mark.parametrize("case", cases((0, 3, 4, 5), (4, 0, 3, 5)), ids=str)
def test_the_gradient_of_an_empty_output_is_zero_and_there(path, case):
    layer = make_layer(case)
    y, _ = run_layer(layer.cells, rk.as_tensor(layer.inputs["x"]))
    y.sum().backward()
    for weight in layer.weights().values():
        assert weight.grad is not None
        assert not weight.grad.numpy().any()


@pytest.mark.parametrize("case", cases((6, 5, 4, 7), directions=2), ids=str)
def test_nan_stays_in_its_row_and_its_time(path, case):
    layer = make_layer(case)
    clean = forward(layer, path)
    t, row, features = 2, 3, layer.cells[0].output_size
    layer.inputs["x"][t, row, 1] = np.nan
    dirty = forward(layer, path)
    reached = np.zeros((6, 5, 2 * features), bool)
    reached[t:, row, :features] = True
    reached[: t + 1, row, features:] = True
    np.testing.assert_array_equal(np.isnan(dirty["y"]), reached)
    np.testing.assert_array_equal(dirty["y"][~reached], clean["y"][~reached])
    for name in case.states:
        expected = np.zeros(clean[f"{name}n"].shape, bool)
        expected[:, row] = True
        np.testing.assert_array_equal(np.isnan(dirty[f"{name}n"]), expected)


@pytest.mark.parametrize("case", [
    case for case in fused_cases((3, 3, 4, 7)) if case.options.get("nonlinearity") != "relu"
], ids=str)
def test_saturated_gates_pass_finite_gradients_back(path, case):
    """Infinity times the zeros that pad a row of gates is NaN, and stays in the padding."""
    layer = make_layer(case)
    layer.inputs["x"][2, 1, 2] = np.inf
    with np.errstate(invalid="ignore"):
        found = forward_backward(layer, path)
    for name in case.states:
        assert np.isfinite(found[f"d_{name}0"]).all()
        assert found[f"d_{name}0"].any()


@pytest.mark.parametrize("dtype", ["float32", "float64"])
@pytest.mark.parametrize("value", [np.inf, -np.inf, np.nan])
@pytest.mark.parametrize("where", ["x", "h0"])
@pytest.mark.parametrize("case", fused_cases((5, 3, 4, 7)), ids=str)
def test_both_paths_treat_infinities_alike(case, where, value, dtype, native):
    layer = make_layer(case.with_(dtype=dtype))
    layer.inputs[where][0, 1, 2] = value
    with np.errstate(invalid="ignore"):
        expected = forward(layer, "python")
    actual = forward(layer, "native")
    tolerance = 1e-5 if dtype == "float32" else 1e-10
    for name, array in expected.items():
        np.testing.assert_allclose(actual[name], array, tolerance, tolerance, err_msg=name)
    if where == "x" and np.isinf(value) and case.options.get("nonlinearity") != "relu":
        assert np.isfinite(actual["y"]).all()


@pytest.mark.parametrize("dtype", ["float32", "float64"])
def test_both_paths_let_gradients_through_units_of_relu_that_are_nan(dtype, native):
    results = {}
    for path in ("python", "native"):
        layer = rk.nn.RNN(3, 20, nonlinearity="relu", dtype=dtype)
        for parameter in layer.parameters():
            parameter.data.fill(0.1)
        h0 = rk.tensor(np.zeros((1, 2, 20)), dtype, requires_grad=True)
        layer.weight_hh_l0.data[:] = 0
        layer.bias_ih_l0.data[3] = np.nan
        layer.bias_ih_l0.data[4] = -9
        with rk.backend(path):
            y, _ = layer(rk.tensor(np.ones((1, 2, 3)), dtype), h0)
            y.backward(rk.tensor(np.full((1, 2, 20), 2.0), dtype))
        results[path] = layer.bias_ih_l0.grad.tolist()
        assert np.isnan(y.numpy()[..., 3]).all()
    assert results["python"] == results["native"] == [4.0] * 4 + [0.0] + [4.0] * 15


@pytest.mark.parametrize("case", cases((4, 3, 5, 7), directions=2), ids=str)
def test_read_only_arrays(path, case):
    layer = make_layer(case)
    expected = forward_backward(layer, path)
    for array in (*layer.inputs.values(), *layer.d_outputs.values()):
        array.flags.writeable = False
    for weight in layer.weights().values():
        weight.data.flags.writeable = False
    assert_same_bits(forward_backward(layer, path), expected)


def f32(*shape):
    return np.ones(shape, np.float32)


WRONG_ARRAYS = {
    "rank 2": (f32(5, 4), None, ShapeError, r"x: expected axes \(T, N, I\), got shape \(5, 4\)"),
    "rank 4": (f32(1, 5, 3, 4), None, ShapeError, r"x: expected axes \(T, N, I\)"),
    "features": (f32(5, 3, 6), None, ShapeError, r"x: expected 4 features .* \(5, 3, 6\)"),
    "integers": (np.ones((5, 3, 4), int), None, DTypeError, "x: expected float32.* got int64"),
    "precision": (np.ones((5, 3, 4)), None, DTypeError, "x: expected float32.* got float64"),
    "a list": ([[[1.0] * 4]], None, DTypeError, "x: expected a Tensor .* got list"),
    "half": (f32(5, 3, 4).astype(np.float16), None, DTypeError, "float16"),
    "state count": (f32(5, 3, 4), (f32(1, 3, 2),), ArgumentError, r"state: .*\(h, c\), got 1"),
    "state alone": (f32(5, 3, 4), f32(1, 3, 2), ArgumentError, r"state: .*\(h, c\), got ndarray"),
    "state rank": (
        f32(5, 3, 4), (f32(3, 2), f32(1, 3, 2)), ShapeError,
        r"h: expected shape \(1, 3, 2\), got \(3, 2\)",
    ),
    "state batch": (
        f32(5, 3, 4), (f32(1, 3, 2), f32(1, 4, 2)), ShapeError,
        r"c: expected shape \(1, 3, 2\), got \(1, 4, 2\)",
    ),
    "state size": (
        f32(5, 3, 4), (f32(1, 3, 3), f32(1, 3, 2)), ShapeError, r"h: expected shape \(1, 3, 2\)",
    ),
    "state directions": (
        f32(5, 3, 4), (f32(2, 3, 2), f32(2, 3, 2)), ShapeError, r"h: expected shape \(1, 3, 2\)",
    ),
    "state precision": (
        f32(5, 3, 4), (f32(1, 3, 2), np.ones((1, 3, 2))), DTypeError, "c: expected float32",
    ),
}  # fmt: skip


@pytest.mark.parametrize(("x", "state", "kind", "message"), WRONG_ARRAYS.values(), ids=WRONG_ARRAYS)
def test_wrong_arrays(path, x, state, kind, message):
    with pytest.raises(kind, match=message):
        run_layer((LSTMCell(4, 2),), x, state)


def test_wrong_cells(path):
    x = f32(5, 3, 4)
    with_a_step_of_its_own, of_other_states = GRUCell(4, 2), Follows(4, 2)
    with_a_step_of_its_own.step = GRUCell(4, 2).step
    of_other_states.width = 2
    for cells, message in [
        ((), "expected .forward,. or .forward, reverse."),
        ((LSTMCell(4, 2),) * 3, "expected .forward,. or .forward, reverse."),
        (("lstm",), "cells: expected Cell objects, got str"),
        ((LSTMCell(4, 2), GRUCell(4, 2)), "LSTMCell and GRUCell"),
        ((LSTMCell(4, 2), LSTMCell(4, 3)), "hidden_size .* 2 and 3"),
        ((LSTMCell(4, 2), LSTMCell(4, 2, bias=False)), "bias .* True and False"),
        ((LSTMCell(4, 2), LSTMCell(4, 2, dtype="float64")), "dtype"),
        ((GRUCell(4, 2), GRUCell(4, 2, reset_after=False)), "reset_after"),
        ((RNNCell(4, 2), RNNCell(4, 2, nonlinearity="relu")), "nonlinearity"),
        ((LSTMCell(4, 2), LSTMCell(4, 2, peephole=True)), "peephole .* False and True"),
        ((LSTMCell(4, 3), LSTMCell(4, 3, proj_size=1)), "proj_size .* 0 and 1"),
        ((LSTMCell(4, 2, cell_clip=1), LSTMCell(4, 2)), "cell_clip .* 1.0 and None"),
        ((GRUCell(4, 2, zoneout=0.5), GRUCell(4, 2)), r"zoneout .* \(0.5,\) and \(0.0,\)"),
        ((GRUCell(4, 2), GRUCell(4, 2, recurrent_dropout=0.5)), "recurrent_dropout .* 0.0 and"),
        ((GRUCell(4, 2), GRUCell(4, 2).eval()), "training .* True and False"),
        ((GRUCell(4, 2), with_a_step_of_its_own), "kernel .* gru and None"),
        ((Follows(4, 2), of_other_states), r"state_shapes .* \(\(4,\),\) and \(\(2,\),\)"),
    ]:
        with pytest.raises(ArgumentError, match=message):
            run_layer(cells, x)


@pytest.mark.parametrize(
    ("make", "name", "value"),
    [
        (lambda: rk.nn.GRU(5, 7, bidirectional=True), "reset_after", False),
        (lambda: rk.nn.RNN(5, 7, bidirectional=True), "nonlinearity", "relu"),
        (lambda: rk.nn.LSTM(5, 7, bidirectional=True), "cell_clip", 0.01),
    ],
)
def test_an_option_of_one_direction_alone_counts(native, make, name, value):
    module = make()
    setattr(module.layers[0][1], name, value)
    x = rk.randn(6, 3, 5)
    y = module(x)[0].data
    with rk.backend("python"):
        np.testing.assert_allclose(y, module(x)[0].data, rtol=1e-5, atol=1e-6)


class Follows(Cell):
    """Its state is the input before."""

    state_names = ("last",)

    def __init__(self, input_size, hidden_size):
        super().__init__(input_size, hidden_size)
        self.width = input_size
        self.make_parameters("float32")

    def parameter_shapes(self):
        return {"weight": (self.hidden_size, self.input_size)}

    @property
    def state_shapes(self):
        return ((self.width,),)

    def step(self, x, state):
        return (x + state[0]) @ self.weight.T, (x,)


def test_layers_have_states_of_the_same_shapes(path):
    message = r"cell: Follows: .*\(\(3,\),\) and, for 4 features of input, \(\(4,\),\)"
    with pytest.raises(ArgumentError, match=message):
        rk.nn.Recurrent(Follows(3, 4), num_layers=2)
    assert rk.nn.Recurrent(Follows(4, 4), num_layers=2)(rk.zeros(2, 2, 4))[0].shape == (2, 2, 4)


def test_parameters_that_no_longer_fit(path):
    for name, value, kind, message in [
        ("weight_hh", f32(8, 3), ShapeError, r"weight_hh: expected shape \(8, 2\), got \(8, 3\)"),
        ("bias_ih", f32(1), ShapeError, r"bias_ih: expected shape \(8,\), got \(1,\)"),
        ("bias_hh", np.ones(8), DTypeError, "bias_hh: expected float32 .* got float64"),
    ]:
        cell = LSTMCell(4, 2)
        getattr(cell, name).data = value
        for cells in ((cell,), (LSTMCell(4, 2), cell)):
            with pytest.raises(kind, match=message):
                run_layer(cells, f32(5, 3, 4))
    cell = LSTMCell(4, 2)
    cell.bias_hh = None
    with pytest.raises(ShapeError, match=r"bias_hh: expected shape \(8,\), got None"):
        run_layer((cell,), f32(5, 3, 4))
    cell = LSTMCell(4, 2, bias=False)
    cell.bias_hh = Parameter(f32(8))
    with pytest.raises(ShapeError, match=r"bias_hh: expected shape None, got \(8,\)"):
        run_layer((cell,), f32(5, 3, 4))


class Leaky(Cell):
    """h' = (h + tanh(x)) / 2: a cell without a kernel."""

    def step(self, x, state):
        h = 0.5 * (state[0] + x.tanh())
        return h, (h,)


class Gazing(Leaky):
    """Looks at the numbers of its input, as no program can."""

    def step(self, x, state):
        assert not np.isnan(x.numpy()).any()
        return super().step(x, state)


@pytest.mark.parametrize("sizes", [(0, 3), (4, 0), (0, 0)])
def test_a_step_that_names_the_batch_and_leaves_a_size_open(path, sizes):
    class Heads(Cell):
        def step(self, x, state):
            N = x.shape[0]
            h = (x.reshape(N, 2, -1) * state[0].reshape(N, 2, -1).flip(1)).reshape(N, -1)
            return h, (h,)

    with rk.backend(path):
        y, (h,) = run_layer((Heads(4, 4),), rk.zeros(*sizes, 4))
    assert y.shape == (*sizes, 4)
    assert h.shape == (1, sizes[1], 4)


def test_a_cell_without_a_kernel_runs_on_the_tape():
    x = np.random.default_rng(0).standard_normal((6, 2, 3)).astype(np.float32)
    with rk.backend("python"):
        expected, _ = run_layer((Leaky(3, 3),), x)
    h = np.zeros((2, 3), np.float32)
    for t in range(6):
        h = (h + np.tanh(x[t])) / 2
        np.testing.assert_allclose(expected.numpy()[t], h, rtol=1e-6)


def test_forcing_native_on_a_cell_that_cannot_be_traced_raises(native):
    with rk.backend("native"), pytest.raises(BackendError, match=r"Gazing layer T=6 .* no fused"):
        run_layer((Gazing(3, 3),), f32(6, 2, 3))
    with rk.backend("auto"):
        run_layer((Gazing(3, 3),), f32(6, 2, 3))
    decision = rk.why(1)[0]
    assert decision.path == "python"
    assert "no fused kernel" in decision.reason
    assert "no program" in decision.reason


@pytest.mark.parametrize("case", fused_cases((4, 3, 5, 7)), ids=str)
def test_why_names_the_path_taken(path, case):
    forward(make_layer(case.with_(dtype="float32")), path)
    decision = rk.why(1)[0]
    assert decision.path == ("fused" if path == "native" else "python")
    for words in ("T=4 N=3 I=5 H=7 float32", case.cell.upper()):
        assert words in decision.op


def test_wrong_arguments_never_reach_the_backend(monkeypatch):
    monkeypatch.setattr(backend, "decide", lambda **_: pytest.fail("reached the backend"))
    with pytest.raises(ShapeError):
        run_layer((LSTMCell(4, 2),), f32(5, 3, 6))
