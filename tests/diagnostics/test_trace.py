"""What a trace records: the same on both paths, and what the equations and the tape say."""

import math
from contextlib import nullcontext
from threading import Thread

import numpy as np
import pytest

import rnnkit as rk
from rnnkit import nn
from rnnkit.cells import LSTMCell
from rnnkit.diagnostics.decay import factor_per_step, norms_of_rows
from rnnkit.errors import ArgumentError, GraphError, ShapeError
from rnnkit.recurrent import observe

T, N, I, H = 7, 5, 3, 6
KINDS = {
    "rnn": lambda **more: nn.RNN(I, H, dtype="float64", **more),
    "rnn_relu": lambda **more: nn.RNN(I, H, nonlinearity="relu", dtype="float64", **more),
    "gru": lambda **more: nn.GRU(I, H, dtype="float64", **more),
    "gru_before": lambda **more: nn.GRU(I, H, reset_after=False, dtype="float64", **more),
    "lstm": lambda **more: nn.LSTM(I, H, dtype="float64", **more),
}
CALLS = {
    "plain": ({}, {}),
    "bidirectional": ({"bidirectional": True, "num_layers": 2}, {}),
    "batch_first": ({"batch_first": True, "bidirectional": True}, {}),
    "lengths": ({"bidirectional": True, "num_layers": 2}, {"lengths": True}),
    "resets": ({"bidirectional": True}, {"reset": True, "reset_state": True}),
    "everything": (
        {"batch_first": True, "bidirectional": True, "memory": 12_000},
        {"lengths": True, "reset": True, "return_steps": True},
    ),
    "last": ({"num_layers": 2, "bidirectional": True}, {"return_sequences": False}),
    "merged": ({"num_layers": 2, "bidirectional": True, "merge": "sum"}, {"lengths": True}),
}


def arguments(net, call, random):
    """x, initial states and the options of a call, the same for the same generator."""
    batch_first = net.batch_first
    x = random.standard_normal((N, T, I) if batch_first else (T, N, I))
    cells = [cell for cells in net.layers for cell in cells]
    names = cells[0].state_names

    def states():
        given = [rk.tensor(random.standard_normal((len(cells), N, H))) for _ in names]
        return given[0] if len(given) == 1 else tuple(given)

    state, more = states(), dict(call)
    if "lengths" in more:
        more["lengths"] = np.array([4, 7, 0, 5, 1])
    if "reset" in more:
        reset = random.random((T, N)) < 0.3
        more["reset"] = reset.T if batch_first else reset
    if "reset_state" in more:
        more["reset_state"] = states()
    return rk.tensor(x), state, more


def total(outputs, random):
    """A loss that all outputs are part of, each with weights of its own."""
    if isinstance(outputs, dict):
        outputs = list(outputs.values())
    if isinstance(outputs, (tuple, list)):
        return sum(total(each, random) for each in outputs)
    return (outputs * rk.tensor(random.standard_normal(outputs.shape))).sum()


def run(kind, case, seed=0, traced=True):
    """The module, its trace or None, and all that training sees: outputs and gradients."""
    build, call = CALLS[case]
    rk.manual_seed(seed)
    if "memory" in build and rk.get_backend() == "python":
        build = build | {"memory": 40_000}  # a step on the tape is objects too
    net = KINDS[kind](**build)
    random = np.random.default_rng(seed)
    for parameter in net.parameters():
        parameter.data[...] = random.normal(0, 0.5, parameter.shape)
    x, state, more = arguments(net, call, random)
    x.requires_grad_()
    trace = rk.diagnostics.trace(net, probe=True)
    if traced:
        with trace:
            outputs = net(x, state, **more)
    else:
        outputs = net(x, state, **more)
    loss = total(outputs, random)
    loss.backward()
    seen = [loss.detach(), x.grad, *[parameter.grad for parameter in net.parameters()]]
    return net, trace, [each.numpy().copy() for each in seen]


@pytest.mark.parametrize("case", CALLS)
@pytest.mark.parametrize("kind", KINDS)
def test_native_records_what_the_tape_records(kind, case):
    if not rk.config()["native"]:
        pytest.skip("the native extension is not built")
    with rk.backend("native"):
        _, native, _ = run(kind, case)
    with rk.backend("python"):
        _, python, _ = run(kind, case)
    assert [layer.name for layer in native] == [layer.name for layer in python]
    assert {layer.path for layer in native} == {"fused"}
    assert {layer.path for layer in python} == {"python"}
    for ours, theirs in zip(native, python, strict=True):
        for mine, other in [(ours, theirs), (ours.probe, theirs.probe)]:
            for what in ("states", "gates", "d_states"):
                actual, expected = getattr(mine, what), getattr(other, what)
                assert list(actual) == list(expected)
                for name, array in expected.items():
                    assert array.shape == (T, N, H)
                    np.testing.assert_allclose(
                        actual[name], array, rtol=1e-11, atol=1e-13, err_msg=f"{what} {name}"
                    )
        assert list(ours.states) == list(ours.d_states) == list(ours.cell.state_names)
        assert list(ours.gates) == list(ours.cell.gate_names)
        assert all(array.any() for array in ours.d_states.values())


@pytest.mark.parametrize("case", CALLS)
@pytest.mark.parametrize("kind", KINDS)
def test_a_trace_changes_no_bit(kind, case, path):
    _, _, expected = run(kind, case, traced=False)
    _, trace, actual = run(kind, case)
    assert len(trace) > 0
    for array, other in zip(actual, expected, strict=True):
        assert array.tobytes() == other.tobytes()


def test_tracing_draws_nothing_more_than_the_run_itself(path):
    rk.manual_seed(3)
    net = nn.LSTM(I, H, 2, dropout=0.5)
    x = rk.tensor(np.ones((T, N, I), np.float32))
    rk.manual_seed(4)
    plain = net(x)[0], rk.generator().random()
    rk.manual_seed(4)
    with rk.diagnostics.trace(probe=True):
        traced = net(x)[0], rk.generator().random()
    np.testing.assert_array_equal(plain[0].detach().numpy(), traced[0].detach().numpy())
    assert plain[1] == traced[1]


@pytest.mark.parametrize("kind", KINDS)
def test_gates_lead_from_state_to_state(kind, path):
    """The equations, from recorded gates and states alone."""
    _, trace, _ = run(kind, "plain")
    layer = trace["l0"]
    gates, h = layer.gates, layer.states["h"]
    before = h[:-1]
    if kind.startswith("gru"):
        z, n = gates["z"][1:], gates["n"][1:]
        expected = (1 - z) * n + z * before
        assert gates["r"].min() > 0
        assert gates["r"].max() < 1
    elif kind == "lstm":
        c = gates["f"][1:] * layer.states["c"][:-1] + gates["i"][1:] * gates["g"][1:]
        np.testing.assert_allclose(layer.states["c"][1:], c, rtol=1e-12)
        expected = gates["o"][1:] * np.tanh(c)
    else:
        expected = gates["h"][1:]
    np.testing.assert_allclose(h[1:], expected, rtol=1e-12, atol=1e-14)


@pytest.mark.parametrize("kind", ["gru", "lstm"])
def test_gradients_of_states_against_finite_differences(kind, path):
    """dL/dh_t: run on from a nudged state, with everything after t to follow."""
    rk.manual_seed(1)
    net = KINDS[kind]()
    random = np.random.default_rng(2)
    x = random.standard_normal((T, N, I))
    weights = random.standard_normal((T, N, H))

    def loss_after(t, state):
        """Of the outputs from step t on, whose own output is the state's h."""
        h = state[0]
        value = (h * weights[t]).sum()
        if t + 1 < T:
            given = [rk.tensor(each[None]) for each in state]
            with rk.no_grad():
                y, _ = net(rk.tensor(x[t + 1 :]), given[0] if len(given) == 1 else tuple(given))
            value += (y.numpy() * weights[t + 1 :]).sum()
        return value

    with rk.diagnostics.trace(net) as trace:
        y, _ = net(rk.tensor(x))
        (y * rk.tensor(weights)).sum().backward()
    layer = trace["l0"]
    size = 1e-6
    for t in (0, 3, T - 1):
        state = [layer.states[name][t] for name in layer.cell.state_names]
        n, unit = t % N, (2 * t + 1) % H
        by_state = []
        for i in range(len(state)):
            nudged = []
            for sign in (1, -1):
                other = [each.copy() for each in state]
                other[i][n, unit] += sign * size
                nudged.append(loss_after(t, other))
            by_state.append((nudged[0] - nudged[1]) / (2 * size))
        assert layer.d_states["h"][t, n, unit] == pytest.approx(by_state[0], rel=1e-6)
        if kind == "lstm":
            # c_t acts on what follows, and through h_t = o tanh(c_t).
            o, c = layer.gates["o"][t, n, unit], layer.states["c"][t, n, unit]
            expected = by_state[1] + by_state[0] * o * (1 - np.tanh(c) ** 2)
            assert layer.d_states["c"][t, n, unit] == pytest.approx(expected, rel=1e-6)


def line(a, T=20, N=3, H=4, **more):
    """An RNN that multiplies its (positive) state by a, and its trace with a loss at the end."""
    net = nn.RNN(1, H, nonlinearity="relu", dtype="float64", **more)
    for name, parameter in net.named_parameters():
        parameter.data[...] = a * np.eye(H) if "weight_hh" in name else 0.3
    x = rk.tensor(np.ones((T, N, 1)))
    with rk.diagnostics.trace(net, probe=True) as trace:
        _, h = net(x)
        h.sum().backward()
    return trace


@pytest.mark.parametrize("a", [0.5, 0.9, 1.0, 1.25])
def test_the_factor_of_a_linear_network_is_its_weight(a, path):
    trace = line(a, bidirectional=True)
    for layer in trace:
        back = np.arange(20)[:: -1 if not layer.reverse else 1]
        np.testing.assert_allclose(layer.norms(), math.sqrt(12) * a**back, rtol=1e-12)
        np.testing.assert_allclose(layer.row_norms(), 2 * a ** np.outer(back, [1] * 3), rtol=1e-12)
        for each in (layer, layer.probe):
            assert each.factor() == pytest.approx(a, rel=1e-12)
            assert each.change() == pytest.approx(a**19, rel=1e-10)
        if a < 1:
            assert layer.memory_length() == pytest.approx(-1 / math.log(a))
            assert layer.memory_length(0.1) == pytest.approx(math.log(0.1) / math.log(a))
        elif a > 1:
            assert layer.memory_length() == math.inf


def test_the_probe_is_free_of_where_the_loss_is_taken(path):
    net = nn.RNN(1, 4, 2, nonlinearity="relu", dtype="float64")
    for name, parameter in net.named_parameters():
        parameter.data[...] = 0.8 * np.eye(4) if "weight_hh" in name else 0.3
    with rk.diagnostics.trace(net, probe=True) as trace:
        y, _ = net(rk.tensor(np.ones((30, 2, 1))))
        y.sum().backward()
    assert trace["l1"].factor() > 0.99  # what enters at every step piles up
    for layer in trace:
        assert layer.probe.factor() == pytest.approx(0.8, rel=1e-12)


def test_lengths_and_resets_weigh_in_on_no_factor(path):
    net = nn.RNN(1, 4, nonlinearity="relu", dtype="float64", bidirectional=True)
    for name, parameter in net.named_parameters():
        parameter.data[...] = 0.7 * np.eye(4) if "weight_hh" in name else 0.3
    x = np.full((12, 4, 1), 1.0)
    lengths = [12, 5, 0, 9]
    x[9:, 3] = np.nan  # in the padding
    reset = np.zeros((12, 4), bool)
    reset[4, 0] = reset[7, 3] = reset[11, 1] = True
    scale = rk.tensor(np.array([1.0, 1e3, 1.0, 1e-6])[:, None])
    with rk.diagnostics.trace(net) as trace:
        _, h = net(rk.tensor(x), lengths=lengths, reset=reset)
        (h * scale).sum().backward()
    forward, reverse = trace
    for layer in trace:
        assert layer.factor() == pytest.approx(0.7, rel=1e-12)
        assert layer.longest == 8  # row 0 from its reset on
        d_h = layer.d_states["h"]
        assert not d_h[:, 2].any()
        assert not d_h[5:, 1].any()
        assert np.isfinite(layer.gates["h"]).all()
        assert not layer.gates["h"][9:, 3].any()
    np.testing.assert_array_equal(forward.d_states["h"][:4, 0], 0)  # cut off by the reset
    np.testing.assert_allclose(forward.row_norms()[4, 0], 2 * 0.7**7, rtol=1e-12)
    np.testing.assert_array_equal(reverse.d_states["h"][4:, 0], 0)
    np.testing.assert_allclose(reverse.row_norms()[3, 0], 2 * 0.7**3, rtol=1e-12)
    assert list(forward.lengths) == lengths


def test_the_fit_leaves_out_zeros():
    norms = 0.5 ** np.arange(6)[::-1, None] * np.array([[1.0, 100.0]])
    sequences = np.broadcast_to(np.arange(2), (6, 2))
    assert factor_per_step(norms, sequences, False) == pytest.approx(0.5)
    assert factor_per_step(norms, sequences, True) == pytest.approx(2)
    norms[:3, 0] = 0
    norms[1, 1] = np.inf
    assert factor_per_step(norms, sequences, False) == pytest.approx(0.5)
    norms[:, 1] = 0
    norms[:5] = 0
    assert factor_per_step(norms, sequences, False) == 0
    assert math.isnan(factor_per_step(norms, sequences, True))  # nothing comes before
    assert math.isnan(factor_per_step(norms * 0, sequences, False))
    assert math.isnan(factor_per_step(norms[:1], sequences[:1], False))


def test_norms_of_tiny_and_huge_numbers():
    array = np.array([[[3e-200, 4e-200], [3e200, 4e200], [0, 0], [np.inf, 1], [np.nan, 1]]])
    norms = norms_of_rows(array)[0]
    np.testing.assert_allclose(norms[:3], [5e-200, 5e200, 0], rtol=1e-15)
    assert norms[3] == np.inf
    assert np.isnan(norms[4])


def test_where_all_is_lost_at_once(path):
    layer = line(0.0)["l0"]
    assert layer.factor() == layer.change() == layer.memory_length() == 0


def test_saturation_counts_values_near_the_ends(path):
    cell = LSTMCell(1, 2, dtype="float64")
    for parameter in cell.parameters():
        parameter.data[...] = 0
    #                    i            f           g            o
    cell.bias_ih.data[:] = [9.0, 0.0, -9.0, -9.0, 1.48, -1.46, 2.94, 2.95]
    net = nn.Recurrent(cell)
    with rk.diagnostics.trace(net) as trace:
        net(rk.tensor(np.zeros((3, 2, 1))), lengths=[3, 1])
    layer = trace["l0"]
    assert layer.saturation() == {"i": (0, 0.5), "f": (1, 0), "g": (0, 0.5), "o": (0, 0.5)}
    assert layer.saturation(0.052)["g"] == (0.5, 0.5)
    with pytest.raises(ArgumentError, match="margin"):
        layer.saturation(0.5)


def test_a_dead_relu_is_saturated_low(path):
    net = nn.RNN(1, 4, nonlinearity="relu")
    for parameter in net.parameters():
        parameter.data[...] = 0
    net.bias_ih_l0.data[:] = [-1, 2, 0.5, 0]
    with rk.diagnostics.trace(net) as trace:
        net(rk.tensor(np.zeros((3, 2, 1), np.float32)))
    assert trace["l0"].saturation() == {"h": (0.5, 0)}


def test_quantiles_are_those_of_the_rows_that_have_the_step(path):
    _, trace, _ = run("lstm", "lengths")
    layer = trace["l0"]
    rows = layer.row_norms()
    low, middle = layer.quantiles([0, 0.5])
    assert low[6] == middle[6] == rows[6, 1]
    np.testing.assert_allclose(middle[3], np.median(rows[3, [0, 1, 3]]))
    np.testing.assert_allclose(layer.norms(), np.sqrt((rows**2).sum(1)))
    with pytest.raises(ArgumentError, match=r"q: expected a number >= 0 and <= 1, got 2\.0"):
        layer.quantiles([0.5, 2.0])


@pytest.mark.filterwarnings("error")
def test_quantiles_of_gradients_that_are_infinite_are_infinite():
    net = nn.RNN(1, 1, bias=False, nonlinearity="relu", dtype="float64")
    x = rk.tensor(np.ones((1, 3, 1)))
    with rk.diagnostics.trace(net) as trace:
        y, _ = net(x)
    y.backward(rk.tensor(np.array([1.0, np.inf, np.inf]).reshape(1, 3, 1)))
    assert trace["l0"].quantiles([0, 0.25, 0.5, 1])[:, 0].tolist() == [1.0, *[np.inf] * 3]


@pytest.mark.parametrize("sizes", [(0, 3, 1), (6, 0, 1)])
def test_nothing_to_run_is_nothing_to_see(path, sizes):
    net = nn.GRU(1, 3)
    with rk.diagnostics.trace(net) as trace, rk.diagnostics.watch(net) as watch:
        _, h = net(rk.zeros(*sizes), rk.zeros(1, sizes[1], 3).requires_grad_())
        h.sum().backward()
    if sizes[0]:
        assert math.isnan(trace["l0"].factor())
        assert trace["l0"].norms().shape == sizes[:1]
    assert not any(seen.verdict for seen in watch.history)
    assert "l0" in str(trace.report())


def test_layers_with_dropped_weights_are_seen_under_their_names(path):
    net = nn.RNN(1, 3, num_layers=2, weight_dropout=0.5)
    with rk.diagnostics.trace(net) as trace, rk.diagnostics.watch(net, vanishing=0) as watch:
        net(rk.randn(6, 2, 1))[0].sum().backward()
    with rk.diagnostics.trace() as unnamed:
        for _ in range(2):
            net(rk.randn(6, 2, 1))
    assert [layer.name for layer in trace.layers] == ["l0", "l1"]
    assert sorted(seen.name for seen in watch.history) == ["l0", "l1"]
    assert {layer.name for layer in unnamed.layers} == {"RNN 0", "RNN 1"}


def test_backward_passes_add_up(path):
    net = nn.GRU(2, 3, dtype="float64")
    with rk.diagnostics.trace(net) as trace:
        y, _ = net(rk.tensor(np.random.default_rng(0).standard_normal((4, 2, 2))))
    assert not trace["l0"].d_states
    y[2].sum().backward(retain_graph=True)
    first = trace["l0"].d_states["h"].copy()
    assert not first[3].any()
    y[2].sum().backward()
    np.testing.assert_allclose(trace["l0"].d_states["h"], 2 * first, rtol=1e-12)


def test_a_pass_that_is_itself_recorded_is_seen(path):
    seen = []
    for create_graph in (False, True):
        rk.manual_seed(0)
        net = nn.LSTM(2, 3, dtype="float64", bidirectional=True)
        x = rk.tensor(np.random.default_rng(0).standard_normal((4, 2, 2)), requires_grad=True)
        with rk.diagnostics.trace(net) as trace:
            y, _ = net(x)
        rk.grad((y * y).sum(), x, create_graph=create_graph)
        seen.append(trace)
    for plain, recorded in zip(*seen, strict=True):
        for name in ("h", "c"):
            np.testing.assert_allclose(
                recorded.d_states[name], plain.d_states[name], rtol=1e-11, atol=1e-14
            )


def test_names(path):
    class Model(nn.Module):
        def __init__(self):
            super().__init__()
            self.encoder = nn.GRU(2, 3, 2)
            self.decoder = nn.LSTM(3, 3, bidirectional=True)

        def forward(self, x):
            return self.decoder(self.encoder(x)[0])[0]

    model, other = Model(), nn.RNN(2, 3)
    x = rk.tensor(np.zeros((2, 1, 2), np.float32))
    with rk.diagnostics.trace(model) as named, rk.diagnostics.trace() as every:
        model(x)
        other(x)
        model(x)
    names = ["encoder.l0", "encoder.l1", "decoder.l0", "decoder.l0_reverse"]
    assert [layer.name for layer in named] == names * 2
    assert named["encoder.l1"] is named.layers[5]
    assert [*every.latest] == ["GRU 0", "GRU 1", "LSTM 2", "LSTM 2_reverse", "RNN 3"]
    count = len(named)
    model(x)
    assert len(named) == count  # the context has ended
    with pytest.raises(ArgumentError, match=r"expected one of encoder\.l0"):
        named["l0"]


def test_a_trace_that_is_entered_twice_sees_each_run_once(path):
    net = nn.RNN(2, 3)
    x = rk.tensor(np.ones((2, 1, 2), np.float32))
    with rk.diagnostics.trace(net) as trace:
        with trace:
            net(x)
        assert len(trace) == 1
        net(x)
        assert len(trace) == 2
    net(x)
    assert len(trace) == 2


def test_traces_end_in_any_order(path):
    net = nn.RNN(2, 3)
    x = rk.tensor(np.ones((2, 1, 2), np.float32))
    first, second, third = (rk.diagnostics.trace(net) for _ in range(3))
    for trace in (first, second, third):
        trace.__enter__()
    for ended in (second, first, third):
        net(x)
        ended.__exit__(None, None, None)
    net(x)
    assert [len(trace) for trace in (first, second, third)] == [2, 1, 3]


def test_nobody_looks_where_no_trace_is(path, monkeypatch):
    def refuse(*arguments):
        raise AssertionError("observed without an observer")

    monkeypatch.setattr(observe, "observed", refuse)
    net = nn.LSTM(2, 3)
    net(rk.tensor(np.zeros((2, 1, 2), np.float32)))[0].sum().backward()
    with rk.diagnostics.trace(net), pytest.raises(AssertionError, match="without an observer"):
        net(rk.tensor(np.zeros((2, 1, 2), np.float32)))


def test_another_thread_is_not_seen(path):
    net = nn.LSTM(2, 3)
    with rk.diagnostics.trace(net) as trace:
        thread = Thread(target=net, args=(rk.tensor(np.zeros((2, 1, 2), np.float32)),))
        thread.start()
        thread.join()
    assert len(trace) == 0


@pytest.mark.parametrize("shape", [(0, 2, 2), (3, 0, 2)])
def test_empty_runs(shape, path):
    net = nn.LSTM(2, 3, bidirectional=True)
    with rk.diagnostics.trace(net, probe=True) as trace:
        y, _ = net(rk.tensor(np.zeros(shape, np.float32)))
        y.sum().backward()
    for layer in trace:
        assert layer.states["c"].shape == layer.d_states["c"].shape == (*shape[:2], 3)
        assert layer.probe.d_states["h"].shape == (*shape[:2], 3)
        assert layer.longest == (3 if shape[0] and shape[1] else 0)
    assert "l0_reverse c" in str(trace.report())


def test_rows_without_steps_have_gradients_of_zero(path):
    net = nn.LSTM(2, 3)
    with rk.diagnostics.trace(net) as trace:
        y, _ = net(rk.ones(4, 2, 2), lengths=[0, 0])
        y.sum().backward()
    assert list(trace["l0"].d_states) == ["h", "c"]
    np.testing.assert_array_equal(trace["l0"].d_states["c"], np.zeros((4, 2, 3)))


def test_a_direction_that_needs_no_gradient_has_none(path):
    net = nn.LSTM(2, 3, bidirectional=True)
    for name, parameter in net.named_parameters():
        parameter.requires_grad = not name.endswith("_reverse")
    with rk.diagnostics.trace(net) as trace:
        net(rk.ones(4, 2, 2))[0].sum().backward()
    assert list(trace["l0"].d_states) == ["h", "c"]
    assert list(trace["l0_reverse"].d_states) == []


def test_a_layer_that_fails_leaves_the_trace_in_order(path):
    net = nn.RNN(2, 3)
    with rk.diagnostics.trace(net) as trace, pytest.raises(ShapeError):
        net(rk.tensor(np.zeros((2, 1, 5), np.float32)))
    assert len(trace) == 0
    assert str(trace.report()) == "no recurrent layer has run"


def test_wrong_arguments(path):
    with pytest.raises(ArgumentError, match="module: LSTMCell has no recurrent layer"):
        rk.diagnostics.trace(LSTMCell(2, 3))
    with pytest.raises(ArgumentError, match="module: expected a Module, got int"):
        rk.diagnostics.trace(3)
    with pytest.raises(ArgumentError, match="probe: expected a bool"):
        rk.diagnostics.trace(nn.RNN(2, 3), 1)
    layer = line(0.5)["l0"]
    with pytest.raises(ArgumentError, match="state: expected one of h, got 'c'"):
        layer.row_norms("c")
    with pytest.raises(ArgumentError, match="fraction"):
        layer.memory_length(1.0)
    net = nn.RNN(2, 3)
    with rk.diagnostics.trace(net) as trace:
        net(rk.tensor(np.zeros((2, 1, 2), np.float32)))
    with pytest.raises(GraphError, match="l0: no gradient has come to h"):
        trace["l0"].factor()


@pytest.mark.parametrize("path", ["python", "auto"])
@pytest.mark.parametrize("options", [
    {"recurrent_dropout": 0.4}, {"recurrent_dropout": 0.4, "bidirectional": True}, {"zoneout": 0.3},
], ids=str)  # fmt: skip
def test_gates_are_those_of_the_masks_that_the_run_drew(path, options):
    net = nn.LSTM(I, H, dtype="float64", **options)
    rk.manual_seed(5)
    with rk.backend(path), rk.diagnostics.trace(net) as trace:
        net(rk.randn(T, N, I, dtype="float64"), lengths=[T, 3, T, 0, 1])
    for layer in trace:
        i, f, g, o = (layer.gates[name] for name in "ifgo")
        h, c = layer.states["h"], layer.states["c"]
        times = range(T - 2, -1, -1) if layer.reverse else range(1, T)
        for t in times:
            before = t + 1 if layer.reverse else t - 1
            there = (layer.sequences[[t, before]] >= 0).all(0)
            new = f[t] * c[before] + i[t] * g[t]
            kept = (c[t] == c[before]) if "zoneout" in options else np.zeros_like(c[t], bool)
            np.testing.assert_allclose(
                np.where(kept, c[t], new)[there], c[t][there], rtol=1e-9, atol=1e-12
            )
            if not kept.any():
                np.testing.assert_allclose(h[t][there], (o[t] * np.tanh(c[t]))[there], rtol=1e-9)


@pytest.mark.parametrize("options", [{}, {"recurrent_dropout": 0.4, "zoneout": 0.3}], ids=str)
@pytest.mark.parametrize(("rows", "lengths"), [(N, [0] * N), (0, None)])
def test_a_batch_without_steps_has_gates_too(path, options, rows, lengths):
    net = nn.GRU(I, H, bidirectional=True, **options)
    x, generators = rk.zeros((T, rows, I)), []
    with rk.backend(path):
        for trace in (nullcontext(), rk.diagnostics.trace(net)):
            rk.manual_seed(0)
            with trace:
                net(x, lengths=lengths)
            generators.append(rk.rng.get_state())
    assert generators[0] == generators[1]
    for layer in trace:
        assert {name: gate.shape for name, gate in layer.gates.items()} == dict.fromkeys(
            "rzn", (T, rows, H)
        )
        assert not any(gate.any() for gate in layer.gates.values())


def test_a_probe_is_there_for_those_who_asked_for_it():
    net = nn.GRU(I, H)
    with rk.diagnostics.trace(net) as plain, rk.diagnostics.trace(net, probe=True) as probing:
        net(rk.randn(T, N, I))
    assert plain.layers[0].probe is None
    assert probing.layers[0].probe.d_states["h"].any()
