"""A trace as a table and as a picture."""

import math
import sys

import numpy as np
import pytest

import rnnkit as rk
from rnnkit import nn
from rnnkit.diagnostics import Saturation
from rnnkit.errors import ArgumentError, MissingPackageError


def traced(net, T=6, N=3, lengths=None, probe=False):
    x = rk.tensor(np.random.default_rng(0).standard_normal((T, N, net.input_size)).astype("f"))
    with rk.diagnostics.trace(net, probe=probe) as trace:
        _, state = net(x, lengths=lengths)
        (state if isinstance(state, rk.Tensor) else state[0]).sum().backward()
    return trace


def test_the_report_has_the_numbers_of_the_layers(path):
    trace = traced(nn.LSTM(2, 3, bidirectional=True), lengths=[6, 2, 4], probe=True)
    report = trace.report(fraction=0.1, margin=0.2)
    names = ["l0", "l0_reverse"]
    labels = ["h", "c", "h probe", "c probe"]
    assert [(line.name, line.state) for line in report.lines] == [
        (name, label) for name in names for label in labels
    ]
    for line in report.lines:
        layer, (state, *probe) = trace[line.name], line.state.split()
        layer = layer.probe if probe else layer
        assert line.steps == 6
        assert (line.first, line.last) == (layer.norms(state)[0], layer.norms(state)[5])
        assert line.factor == layer.factor(state)
        assert line.change == pytest.approx(layer.factor(state) ** 5)
        assert line.memory == layer.memory_length(0.1, state)
        assert line.zeros == 0
        assert line.finite
    for name in names:
        assert report.saturation[name] == trace[name].saturation(0.2)


def test_the_table():
    net = nn.RNN(1, 1, nonlinearity="relu", dtype="float64")
    for parameter in net.parameters():
        parameter.data[...] = 0.5
    with rk.diagnostics.trace(net) as trace:
        _, h = net(rk.tensor(np.ones((11, 1, 1))))
        h.sum().backward()
    assert str(trace.report()).splitlines() == [
        "gradient of  steps  first step  last step  per step back  over all  memory (1/e)",
        "l0 h            11    9.77e-04   1.00e+00         0.5000  9.77e-04           1.4",
        "",
        "saturated gates: values within 5% of the low | high end",
        "l0  h 0% | 0%",
    ]
    assert "memory (0.25)" in str(trace.report(0.25))


def test_without_gradients_and_with_bad_ones():
    net = nn.GRU(1, 2)
    x = rk.tensor(np.ones((3, 2, 1), np.float32))
    with rk.diagnostics.trace(net) as trace:
        y, _ = net(x)
    (line,) = trace.report().lines
    assert (line.steps, line.finite) == (3, True)
    assert math.isnan(line.factor)
    assert str(trace.report()).splitlines()[1].split() == ["l0", "h", "3", "-", "-", "-", "-", "-"]
    y.backward(np.full(y.shape, np.inf, np.float32))
    (line,) = trace.report().lines
    assert not line.finite
    assert str(trace.report()).splitlines()[1].endswith("not finite")
    with rk.diagnostics.trace(net) as trace:
        net(x)[0][1].sum().backward()
    assert str(trace.report()).splitlines()[1].endswith("33% zero")


def test_the_plot_has_norms_and_gates(path, tmp_path):
    pytest.importorskip("matplotlib")
    trace = traced(nn.LSTM(2, 3, 2, bidirectional=True), lengths=[6, 0, 4])
    figure = trace.plot(tmp_path / "picture.png")
    assert (tmp_path / "picture.png").read_bytes().startswith(b"\x89PNG")
    norms, *gates = figure.axes
    assert norms.get_yscale() == "log"
    lines = {line.get_label().split(":")[0]: line for line in norms.get_lines()}
    assert list(lines) == [
        f"l{k}{end} {state}" for k in (0, 1) for end in ("", "_reverse") for state in "hc"
    ]
    np.testing.assert_array_equal(lines["l1 c"].get_ydata(), trace["l1"].norms("c"))
    assert [axes.get_title().split(":")[0] for axes in gates] == [*trace.latest]
    for axes in gates:
        texts = [text.get_text() for text in axes.get_legend().get_texts()]
        assert [text[0] for text in texts] == ["i", "f", "g", "o"]
        shares = [patch.get_data().values.sum() for patch in axes.patches]
        np.testing.assert_allclose(shares, 1)


@pytest.mark.parametrize("nonlinearity", ["tanh", "relu"])
def test_the_plot_of_what_has_no_gradients(nonlinearity):
    pytest.importorskip("matplotlib")
    net = nn.RNN(2, 3, nonlinearity=nonlinearity)
    with rk.diagnostics.trace(net) as trace, rk.no_grad():
        net(rk.tensor(np.ones((2, 1, 2), np.float32)))
    norms, gates = trace.plot().axes
    assert not norms.get_lines()
    assert norms.texts[0].get_text() == "no gradient has come"
    assert gates.get_title().startswith("l0: gates")


def test_nothing_to_plot_and_nothing_to_plot_with(monkeypatch):
    with rk.diagnostics.trace() as trace:
        pass
    with pytest.raises(ArgumentError, match="no recurrent layer has run"):
        trace.plot()
    trace = traced(nn.RNN(2, 3))
    monkeypatch.setitem(sys.modules, "matplotlib.figure", None)
    with pytest.raises(MissingPackageError, match=r"rnnkit\[plot\]"):
        trace.plot()


def test_saturation_of_a_layer_without_steps():
    net = nn.GRU(2, 3)
    with rk.diagnostics.trace(net) as trace:
        net(rk.tensor(np.ones((2, 1, 2), np.float32)), lengths=[0])
    report = trace.report()
    assert all(math.isnan(low) for low, _ in report.saturation["l0"].values())
    assert isinstance(report.saturation["l0"]["z"], Saturation)
    assert "r -" in str(report)
