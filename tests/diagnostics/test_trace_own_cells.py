"""What a trace records of cells of one's own, whatever their outputs and states are."""

from contextlib import nullcontext

import numpy as np
import pytest

import rnnkit as rk
from rnnkit import nn
from rnnkit.cells import Cell, LSTMCell
from rnnkit.module import Parameter


class Leaky(Cell):
    """Its output is not its state, its states have several shapes, and it draws."""

    state_names = ("h", "m")
    gate_names = ("a",)

    def __init__(self, input_size, hidden_size):
        super().__init__(input_size, hidden_size)
        self.w = Parameter(np.full((hidden_size, input_size), 0.4))

    @property
    def state_shapes(self):
        return (self.hidden_size,), (2, self.hidden_size)

    def draw(self, steps, batch):
        return (rk.tensor(rk.generator().random((steps, batch, self.hidden_size))),)

    def gate_values(self, x, state, noise):
        return (rk.sigmoid(rk.linear(x, self.w) + noise),)

    def step(self, x, state, noise):
        h, m = state
        (a,) = self.gate_values(x, state, noise)
        h = a * h + (1 - a)
        m = m * 0.5 + rk.stack([h, a], 1)
        return h * 2 + m[:, 0], (h, m)


def test_a_cell_of_ones_own_takes_part():
    net = nn.Recurrent(Leaky(2, 3), bidirectional=True)
    x = rk.tensor(np.random.default_rng(0).standard_normal((5, 2, 2)))
    rk.manual_seed(5)
    with rk.diagnostics.trace(net, probe=True) as trace:
        y, _ = net(x, lengths=[5, 3])
        y.sum().backward()
    rk.manual_seed(5)
    noise = [rk.generator().random((5, 2, 3)) for _ in range(2)]
    for layer, drawn in zip(trace, noise, strict=True):
        assert layer.states["m"].shape == layer.d_states["m"].shape == (5, 2, 2, 3)
        a = 1 / (1 + np.exp(-(x.numpy() @ np.full((2, 3), 0.4) + drawn)))
        a[3:, 1] = 0
        np.testing.assert_allclose(layer.gates["a"], a, rtol=1e-12)
        h, m = layer.states["h"], layer.states["m"]
        order = np.arange(5)[::-1] if layer.reverse else np.arange(5)
        last, before = order[-1], order[-2]
        np.testing.assert_allclose(h[last, 0], a[last, 0] * h[before, 0] + 1 - a[last, 0])
        np.testing.assert_allclose(m[last, 0, 0], 0.5 * m[before, 0, 0] + h[last, 0])
        # At its last step, h goes to y twice as itself and once by way of m.
        np.testing.assert_allclose(layer.d_states["h"][last, 0], 3)
        np.testing.assert_allclose(layer.d_states["m"][before, 0], [[1.5] * 3, [0] * 3])
        # The probe's: d_h is passed on by a alone, from a norm of 1 (m takes no part in h).
        assert layer.probe.row_norms()[last, 0] == pytest.approx(1)
        np.testing.assert_allclose(
            layer.probe.d_states["h"][before, 0],
            layer.probe.d_states["h"][last, 0] * a[last, 0],
        )


class InHeads(Leaky):
    """Its gate has an axis of heads."""

    def gate_values(self, x, state, noise):
        (a,) = super().gate_values(x, state, noise)
        return (rk.stack([a, 1 - a], 2),)

    def step(self, x, state, noise):
        (a,) = self.gate_values(x, state, noise)
        h = a[:, :, 0] * state[0]
        return h, (h, state[1])


def test_gates_of_more_axes_in_a_ragged_batch():
    net = nn.Recurrent(InHeads(2, 3))
    x = np.random.default_rng(0).standard_normal((5, 4, 2))
    rk.manual_seed(5)
    with rk.diagnostics.trace(net) as trace:
        net(x, lengths=[5, 3, 0, 1])
    rk.manual_seed(5)
    a = 1 / (1 + np.exp(-(x @ np.full((2, 3), 0.4) + rk.generator().random((5, 4, 3)))))
    expected = np.stack([a, 1 - a], 3)
    expected[np.arange(5)[:, None] >= [5, 3, 0, 1]] = 0
    np.testing.assert_allclose(trace["l0"].gates["a"], expected, rtol=1e-12)


class Ahead(Cell):
    """States that depend on the input alone and go on into products."""

    state_names = ("a", "b", "z")

    def __init__(self, input_size, hidden_size):
        super().__init__(input_size, hidden_size)
        self.make_parameters("float64")

    @property
    def state_shapes(self):
        return (self.hidden_size,), (self.hidden_size,), (self.input_size,)

    def parameter_shapes(self):
        I, H = self.input_size, self.hidden_size
        return {"w": (H, I), "v": (H, H), "u": (H, H)}

    def step(self, x, state):
        former, _, z_before = state
        z = 2 * x
        b = rk.linear(x, self.w)
        a = b.tanh()
        c = rk.linear(a, self.v)
        y = c * former + rk.linear(c.tanh(), self.u) + rk.linear(b, self.v) + a
        y = y + rk.linear(z, self.w) + rk.linear(z_before, self.w) + rk.linear(a.detach(), self.u)
        return y, (a, b, z)


@pytest.mark.parametrize(
    "more", [{}, {"batch_first": True}, {"bidirectional": True}, {"memory": 1}], ids=str
)
@pytest.mark.parametrize("lengths", [None, [4, 1]])
@pytest.mark.filterwarnings("ignore:memory")
def test_gradients_of_states_by_way_of_products_before_the_loop(more, lengths):
    if not rk.config()["native"]:
        pytest.skip("the native extension is not built")
    found, outputs = [], []
    numbers = np.random.default_rng(1).standard_normal((4, 2, 3))
    for backend in ("native", "python"):
        rk.manual_seed(0)
        net = nn.Recurrent(Ahead(3, 4), **more)
        x = rk.tensor(numbers.swapaxes(0, 1) if net.batch_first else numbers, requires_grad=True)
        with rk.backend(backend), rk.diagnostics.trace(net) as trace:
            y, state = net(x, lengths=lengths)
            ((y * y).sum() + sum(each.sum() for each in state)).backward()
        assert {layer.path for layer in trace} == {
            "program" if backend == "native" else "python"
        }
        found.append([layer.d_states[name] for layer in trace for name in ("a", "b", "z")])
        outputs.append([y, x.grad, *[each.grad for each in net.parameters()]])
    for actual, expected in zip(*found, strict=True):
        assert expected.any()
        np.testing.assert_allclose(actual, expected, rtol=1e-11, atol=1e-12)
    for actual, expected in zip(*outputs, strict=True):
        np.testing.assert_allclose(actual.numpy(), expected.numpy(), rtol=1e-11, atol=1e-12)


class Window(Ahead):
    """Its input is a state."""

    state_names = ("a", "x")

    @property
    def state_shapes(self):
        return (self.hidden_size,), (self.input_size,)

    def step(self, x, state):
        a, before = state
        a = (rk.linear(x, self.w) - 2 * rk.linear(before, self.w) + rk.linear(a, self.v)).tanh()
        return a + a @ self.u, (a, x)


@pytest.mark.parametrize("more", [{}, {"batch_first": True}], ids=str)
@pytest.mark.parametrize("lengths", [None, [90, 55, 80]])
def test_an_input_that_is_a_state(more, lengths):
    """Long enough for several blocks of steps, which a trace leaves as they are."""
    if not rk.config()["native"]:
        pytest.skip("the native extension is not built")
    numbers = np.random.default_rng(1).standard_normal((90, 3, 2))
    found, outputs = [], []
    for backend, looks in (("native", True), ("native", False), ("python", True)):
        rk.manual_seed(0)
        net = nn.Recurrent(Window(2, 4), **more)
        x = rk.tensor(numbers.swapaxes(0, 1) if net.batch_first else numbers, requires_grad=True)
        trace = rk.diagnostics.trace(net)
        with rk.backend(backend), trace if looks else nullcontext():
            y, _ = net(x, lengths=lengths)
            (y * y).sum().backward()
        if looks:
            assert trace["l0"].path == ("program" if backend == "native" else "python")
            found.append(list(trace["l0"].d_states.values()))
        outputs.append([each.grad.numpy() for each in (x, *net.parameters())])
    for actual, expected in zip(*found, strict=True):
        np.testing.assert_allclose(actual, expected, rtol=1e-11, atol=1e-12)
    for looked_at, alone in zip(*outputs[:2], strict=True):
        np.testing.assert_array_equal(looked_at, alone)


class Signs(Leaky):
    """States of several widths, of which two come from comparisons and have no gradient."""

    state_names = ("h", "a", "b")

    @property
    def state_shapes(self):
        return (self.hidden_size,), (4,), (2,)

    def step(self, x, state, noise):
        h, a, b = state
        signs = (h[:, :1] > 0).astype(h.dtype)
        h = (0.5 * h + (x + b) @ self.w.T + noise).tanh()
        return h, (h, signs + (a < 0).astype(h.dtype), signs + (b < 0).astype(h.dtype))


def test_states_without_gradients(path):
    net = nn.Recurrent(Signs(2, 3))
    rk.manual_seed(5)
    with rk.diagnostics.trace(net) as trace:
        net(rk.tensor(np.ones((4, 2, 2))))[0].sum().backward()
    assert trace["l0"].path == ("python" if path == "python" else "program")
    assert trace["l0"].d_states["h"].all()
    assert list(trace["l0"].d_states) == ["h"]
    for name, width in (("a", 4), ("b", 2)):
        assert trace["l0"].states[name].shape == (4, 2, width)


def test_a_state_that_nothing_came_back_to(path):
    net = nn.LSTM(2, 3, dtype="float64")
    with rk.diagnostics.trace(net) as trace:
        _, (_, c) = net(rk.tensor(np.ones((1, 2, 2))))
        c.sum().backward()
    np.testing.assert_array_equal(trace["l0"].d_states["h"], np.zeros((1, 2, 3)))
    np.testing.assert_array_equal(trace["l0"].d_states["c"], np.ones((1, 2, 3)))
    assert not trace["l0"].norms("h").any()


def test_a_cell_with_a_step_of_its_own_shows_no_gates_of_its_parent():
    class Clipped(LSTMCell):
        def step(self, x, state):
            y, (h, c) = super().step(x, state)
            return y, (h, rk.clip(c, -1.0, 1.0))

    class Named(Clipped):
        gate_names = LSTMCell.gate_names

        def step(self, x, state):
            return super().step(x, state)

    class Gated(LSTMCell):
        def gate_values(self, x, state):
            i, _, g, o = super().gate_values(x, state)
            return i, 1 - i, g, o

    assert (Clipped.gate_names, Clipped.kernel) == ((), None)
    assert Named.gate_names == ("i", "f", "g", "o")
    assert (Gated.gate_names, Gated.kernel) == (("i", "f", "g", "o"), None)
    net = nn.Recurrent(Clipped(2, 3))
    with rk.diagnostics.trace(net) as trace:
        net(rk.tensor(np.ones((2, 1, 2), np.float32)))[0].sum().backward()
    assert not trace["l0"].gates
    assert list(trace["l0"].d_states) == ["h", "c"]
    coupled = nn.Recurrent(Gated(2, 3))
    with rk.diagnostics.trace(coupled) as trace:
        coupled(rk.tensor(np.ones((2, 1, 2), np.float32)))
    np.testing.assert_allclose(trace["l0"].gates["f"], 1 - trace["l0"].gates["i"])


class Aside(Signs):
    """Its output does not go by way of its states."""

    def step(self, x, state, noise):
        _, after = super().step(x, state, noise)
        return (x @ self.w.T).tanh(), after


@pytest.mark.parametrize("steps", [0, 4])
def test_states_that_the_loss_does_not_depend_on(path, steps):
    net = nn.Recurrent(Aside(2, 3))
    with rk.diagnostics.trace(net) as trace:
        net(rk.ones(steps, 2, 2, dtype="float64"))[0].sum().backward()
    assert list(trace["l0"].d_states) == ["h"]
    np.testing.assert_array_equal(trace["l0"].d_states["h"], np.zeros((steps, 2, 3)))
