"""What a step of one's own may take and return as a program."""

import copy
from contextlib import nullcontext

import numpy as np
import pytest
from own_cells import Own, check, data
from recurrent_contract import last_layer

import rnnkit as rk
from rnnkit import cells, nn, ops
from rnnkit.autograd.primitive import PRIMITIVES
from rnnkit.errors import ArgumentError, DTypeError, ShapeError
from rnnkit.ops import linear
from rnnkit.recurrent import run_layer
from rnnkit.recurrent.held import held_by
from rnnkit.recurrent.program import obstacle

pytestmark = pytest.mark.usefixtures("native")


def test_a_tensor_that_the_step_takes_from_elsewhere_has_its_gradient():
    outside = rk.tensor(np.random.default_rng(3).standard_normal(5), requires_grad=True)

    class Captures(Own):
        def step(self, x, state):
            (h,) = state
            h = (x @ self.W.T + h @ self.U.T + outside.exp() * h * outside + self.b).tanh()
            return h, (h,)

    cell = Captures(dtype="float64")
    y = check(cell, "float64", outside=outside)
    outside.data[...] *= -1
    assert np.abs(check(cell, "float64", outside=outside) - y).max() > 1e-3
    outside.requires_grad_(False)
    check(cell, "float64", outside=outside)
    cell.factor = 0.5  # traced anew, while the tensor needs no gradient
    check(cell, "float64", outside=outside)
    outside.requires_grad_()
    check(cell, "float64", outside=outside)


def _scaled(U):
    with rk.no_grad():
        return U / (U * U).sum().sqrt()


def _without_history(function, *tensors):
    with rk.no_grad():
        return function(*tensors)


CUT = {
    "x": lambda c, x, h: linear(x.detach(), c.W) + h @ c.U.T,
    "a parameter": lambda c, x, h: linear(x, c.W.detach()) + linear(h, c.U.T.detach()) @ c.U,
    "a parameter in a list": lambda c, x, h: linear(x, c.W) * c.row[0].detach() + c.row[0] * h,
    "x, in one of two": lambda c, x, h: linear(x.detach(), c.W) + 2 * linear(x, c.W) + h,
    "x, in a factor": lambda c, x, h: linear(x * x.detach(), c.W) + linear(x * x, c.W) + h,
    "tanh of x": lambda c, x, h: linear(x.tanh().detach(), c.W) + x.tanh() @ c.W.T + h @ c.U.T,
    "a product of x": lambda c, x, h: _without_history(linear, x, c.W) + h @ c.U.T,
    "what is made of a product": lambda c, x, h: (
        linear(_without_history(rk.tanh, linear(x, c.W)), c.U) + h * c.b
    ),
    "a weight": lambda c, x, h: x @ c.W.T + linear(h, _scaled(c.U)),
    "a weight of x": lambda c, x, h: linear(x, _scaled(c.W)) + h @ c.U.T,
    "a factor": lambda c, x, h: linear(x, c.W) * _without_history(rk.tanh, c.U).sum() + h @ c.U.T,
    "a weight that is used beside": lambda c, x, h: linear(x, c.W) + h @ (c.U + _scaled(c.U)),
    "the state": lambda c, x, h: linear(x, c.W) + linear(h.detach(), c.U),
}


@pytest.mark.parametrize("name", CUT)
def test_what_a_step_does_without_recording_gets_no_gradient(name):
    class Cut(Own):
        def step(self, x, state):
            h = (CUT[name](self, x, state[0]) + self.b).tanh()
            return h, (h,)

    cell = Cut(dtype="float64")
    cell.row = [cell.b]
    assert obstacle([cell], [held_by(cell)]) is None
    for parameter in cell.parameters():
        parameter.data[...] *= 0.7  # it has been traced: a tensor that is detached is no constant
    found = []
    for backend in ("native", "python"):
        x = rk.tensor(data("float64"), requires_grad=True)
        with rk.backend(backend):
            y, _ = run_layer((cell,), x)
        assert last_layer().path == ("program" if backend == "native" else "python")
        (y * y).sum().backward()
        tensors = [x, cell.W, cell.U, cell.b]
        found.append([0 if each.grad is None else each.grad.numpy() for each in tensors])
        cell.zero_grad()
    for actual, expected in zip(*found, strict=True):
        np.testing.assert_allclose(actual, expected, rtol=1e-11, atol=1e-12)


RETURNED = {
    "its state, cloned": lambda y, h, c: (y, (y, h.clone())),
    "its state, in another shape and back": lambda y, h, c: (y, (y, h.reshape(-1, 5, 1)[:, :, 0])),
    "an output without history": lambda y, h, c: (y.detach(), (y, c)),
    "a state without history": lambda y, h, c: (y, (y.detach(), c + y)),
}


@pytest.mark.parametrize("looks", [False, True])
@pytest.mark.parametrize("sequences", [False, True])
@pytest.mark.parametrize("name", RETURNED)
def test_what_a_step_returns_may_have_the_value_of_another_tensor(name, sequences, looks):
    class Returns(Own):
        state_names = ("h", "c")

        def step(self, x, state):
            h, c = state
            y = (x @ self.W.T + h @ self.U.T * c + self.b).tanh()
            return RETURNED[name](y, h, c)

    net = nn.Recurrent(Returns(dtype="float64"))
    found = []
    for backend in ("native", "python"):
        x = rk.tensor(data("float64"), requires_grad=True)
        trace = rk.diagnostics.trace(net) if looks else nullcontext()
        with rk.backend(backend), trace:
            state = rk.ones(1, x.shape[1], 5, dtype="float64", requires_grad=True)
            y, (_, c) = net(x, (state, 2 * state), return_sequences=sequences)
            assert last_layer().path == ("program" if backend == "native" else "python")
            ((y * y).sum() + (c * c).sum()).backward()
        tensors = [x, state, *net.parameters()]
        found.append([0 if each.grad is None else each.grad.numpy() for each in tensors])
        net.zero_grad()
    for actual, expected in zip(*found, strict=True):
        np.testing.assert_allclose(actual, expected, rtol=1e-11, atol=1e-12)


@pytest.mark.parametrize("with_history", [False, True])
def test_gradients_of_gradients_of_tensors_from_elsewhere(with_history):
    """Also where they reach the layer on a second way, by its input."""
    origin = rk.tensor(np.random.default_rng(3).standard_normal(5), requires_grad=True)
    outside = 2 * origin if with_history else origin
    inner = nn.Linear(5, 5, dtype="float64")

    class Captures(Own):
        def __init__(self, **more):
            super().__init__(**more)
            self.others = [inner]  # a list registers nothing

        def step(self, x, state):
            h = (x @ self.W.T + self.others[0](state[0]) * outside.exp() + outside).tanh()
            return h, (h,)

    cell = Captures(dtype="float64")
    tensors = [origin, inner.weight, inner.bias, cell.W]
    found = []
    for backend in ("native", "python"):
        with rk.backend(backend):
            y, (h,) = run_layer((cell,), rk.tensor(data("float64")) * outside[:3])
            assert last_layer().path == ("program" if backend == "native" else "python")
            first = rk.grad((y * y).sum() + h.sum(), tensors, create_graph=True)
            norm = sum((each * each).sum() for each in first)
            second = rk.grad(norm, tensors, retain_graph=True)  # outside's history is used again
            found.append([*first, *second])
    for actual, expected in zip(*found, strict=True):
        np.testing.assert_allclose(actual.numpy(), expected.numpy(), rtol=1e-9, atol=1e-10)


def test_tensors_that_are_held_twice():
    class Tied(Own):
        def __init__(self, **more):
            super().__init__(**more)
            self.V = self.U
            self.inner = nn.Linear(5, 5, dtype="float64")
            self.other = nn.Linear(5, 5, dtype="float64")
            self.other.weight = self.inner.weight

        def step(self, x, state):
            (h,) = state
            h = (x @ self.W.T + (h @ self.U.T + self.b).tanh() @ self.V).tanh()
            return self.other(self.inner(h)), (h,)

    cell = Tied(dtype="float64")
    together = check(cell, "float64")
    cell.V = nn.Parameter(0.5 * cell.U.data)
    cell.other.weight = nn.Parameter(-cell.inner.weight.data)
    assert np.abs(check(cell, "float64") - together).max() > 1e-3
    cell.V = cell.U
    cell.other = cell.inner
    check(cell, "float64")


@pytest.mark.parametrize("way", [{}, {"return_steps": True}, {"lengths": [4, 0, 2]}], ids=str)
@pytest.mark.parametrize("backend", ["native", "python"])
def test_a_cell_without_states(backend, way):
    class Pointwise(Own):
        state_names = ()

        def step(self, x, state):
            assert state == ()
            return (x @ self.W.T + self.b).tanh(), ()

    cell = Pointwise(dtype="float64")
    x = rk.tensor(data("float64"), requires_grad=True)
    with rk.backend(backend):
        y, final, *steps = run_layer((cell,), x, **way)
    assert last_layer().path == ("program" if backend == "native" else "python")
    assert final == ()
    assert steps == [()] * ("return_steps" in way)
    expected = rk.tanh(x @ cell.W.T + cell.b)
    if "lengths" in way:
        expected = rk.where(np.arange(4)[:, None, None] < np.array([[4], [0], [2]]), expected, 0.0)
    np.testing.assert_allclose(y.numpy(), expected.numpy(), rtol=1e-12)
    tensors = [x, cell.W, cell.b]
    found, right = [rk.grad((each * each).sum(), tensors) for each in (y, expected)]
    for actual, wanted in zip(found, right, strict=True):
        np.testing.assert_allclose(actual.numpy(), wanted.numpy(), rtol=1e-11, atol=1e-12)


class Measured(Own):
    """Nothing reads its second state, whose derivative is infinite where the first is zero."""

    state_names = ("h", "size", "total")

    @property
    def state_shapes(self):
        return (self.hidden_size,), (1,), (self.hidden_size,)

    def step(self, x, state):
        before, _, total = state
        h = (x @ self.W.T + before @ self.U.T).tanh()
        size = (h * h).sum(-1, keepdims=True).sqrt()
        return h + 0.5 * before, (h, size, total + 1 / (1 + h * h).sqrt())


RESET = np.arange(12).reshape(4, 3) % 5 == 4


@pytest.mark.parametrize(
    "way", [{}, {"lengths": [4, 1, 3]}, {"reset": RESET}, {"return_steps": True}, {"memory": 1}],
    ids=["plain", "lengths", "reset", "steps", "memory"],
)
@pytest.mark.filterwarnings("ignore:memory")
@pytest.mark.parametrize("wanted", ["y", "h", "total", "y total", "h total"])
def test_a_state_without_influence_sends_nothing_back(wanted, way):
    """Not even zeros: times infinity they are not numbers."""
    numbers = data("float64")
    numbers[:2] = 0
    cell = Measured(dtype="float64")
    found = []
    for backend in ("native", "python"):
        x = rk.tensor(numbers, requires_grad=True)
        with rk.backend(backend):
            y, (h, _, total), *_ = run_layer((cell,), x, **way)
        assert last_layer().path == ("program" if backend == "native" else "python")
        outputs = {"y": y, "h": h, "total": total}
        loss = sum((outputs[name] * outputs[name]).sum() for name in wanted.split())
        found.append([each.numpy() for each in rk.grad(loss, [x, cell.W, cell.U])])
    assert all(np.isfinite(each).all() for each in found[0])
    for actual, expected in zip(*found, strict=True):
        np.testing.assert_allclose(actual, expected, rtol=1e-11, atol=1e-12)


def test_one_graph_from_some_outputs_and_from_others():
    cell = Measured(dtype="float64")
    found = []
    for backend in ("native", "python"):
        x = rk.tensor(data("float64"), requires_grad=True)
        with rk.backend(backend):
            y, states, steps = run_layer((cell,), x, return_steps=True)
        assert last_layer().path == ("program" if backend == "native" else "python")
        outputs = [y, *states, *steps]
        sums = [(each * each).sum() for each in outputs]
        for loss in (*sums, sum(sums), sums[0] + sums[3], *reversed(sums)):
            found.append(rk.grad(loss, [x, cell.W, cell.U], retain_graph=True))
    half = len(found) // 2
    for actual, expected in zip(found[:half], found[half:], strict=True):
        for a, b in zip(actual, expected, strict=True):
            np.testing.assert_allclose(a.numpy(), b.numpy(), rtol=1e-10, atol=1e-11)


class Stepwise(Own):
    """An equation h' = f(x, h), integrated by ``n`` steps of Runge and Kutta."""

    n = 12

    def step(self, x, state):
        (h,) = state
        for _ in range(self.n):
            k1 = self.slope(x, h)
            k2 = self.slope(x, h + 0.5 / self.n * k1)
            k3 = self.slope(x, h + 0.5 / self.n * k2)
            k4 = self.slope(x, h + 1.0 / self.n * k3)
            h = h + 1.0 / (6 * self.n) * (k1 + 2.0 * k2 + 2.0 * k3 + k4)
        return h, (h,)

    def slope(self, x, h):
        return (x @ self.W.T + h @ self.U.T + self.b).tanh() - 0.1 * h


class Summing(Own):
    """With a parameter for each of many terms."""

    def __init__(self, terms):
        super().__init__(dtype="float64")
        for i in range(terms):
            term = np.random.default_rng(i).standard_normal(5)
            self.register_parameter(f"w{i}", nn.Parameter(term))
        self.terms = terms

    def step(self, x, state):
        h = x @ self.W.T + state[0] @ self.U.T
        h = sum([(h * getattr(self, f"w{i}")).sin() for i in range(self.terms)], self.b)
        return h, (h,)


def test_many_parameters():
    check(Summing(90), "float64")


def test_a_number_that_comes_often_is_held_once():
    check(Stepwise(dtype="float64"), "float64")


def test_what_is_computed_twice_of_parameters_is_shared_with_its_gradient():
    class Twice(Own):
        def step(self, x, state):
            (h,) = state
            h = h @ (2.0 * self.U) * (0.1 * self.b.tanh()) + h * (0.1 * self.b.detach().tanh())
            h = h + linear(x * (0.5 * self.W[0]), self.W) + linear(x * (0.5 * self.W[0]), self.W)
            h = h * (self.alike[0] * self.b) + (0.1 * self.b.tanh()) - h * (self.alike[1] * self.b)
            return h.sin(), (h @ (2.0 * self.U),)

    cell = Twice(dtype="float64")
    cell.alike = rk.tensor(np.float64(0.5)), rk.tensor(np.float64(0.5))
    before = check(cell, "float64")
    cell.alike[1].data[...] = 2.0  # these were alike by chance
    assert np.abs(check(cell, "float64") - before).max() > 1e-3


def test_long_arrays_of_indices_are_told_apart():
    """Also where NumPy's text of them, which leaves out the middle, is the same."""
    first = np.arange(1200)
    second = np.r_[first[:10], first[10:-10][::-1], first[-10:]]

    class Shuffled(Own):
        def step(self, x, state):
            h = (x @ self.W.T + state[0] @ self.U * self.b[first]).tanh()
            return h, (h * self.b[second],)

    cell = Shuffled(H=1200, dtype="float64")
    cell.U.data[...] /= 40
    check(cell, "float64")


def test_no_size_of_a_cell_passes_for_that_of_the_batch():
    """Whatever number of rows a trace begins with."""
    from rnnkit.recurrent.program.trace import FEWEST_ROWS, numbers_of_rows

    assert numbers_of_rows([3, 5]) == (1009, 1013)
    assert numbers_of_rows([2 * FEWEST_ROWS, 1019]) == (1013, 1021)

    class Scaled(Own):
        def __init__(self, I, H):
            super().__init__(I, H, "float64")
            self.U.data[...] /= 40
            self.scale = nn.Parameter(np.linspace(0.1, 1.0, I))

        def step(self, x, state):
            h = (x * self.scale @ self.W.T / 40 + state[0] @ self.U.T * self.b).tanh()
            return h, (h,)

    for I, H in [(1009, 5), (1013, 5), (3, 1009), (3, 1013), (2018, 5)]:
        cell = Scaled(I, H)
        x = rk.tensor(np.random.default_rng(0).standard_normal((3, 2, I)))
        found = []
        for backend in ("native", "python"):
            with rk.backend(backend):
                y, (h,) = run_layer((cell,), x)
                wanted = [cell.W, cell.U, cell.b, cell.scale]
                found.append([y, *rk.grad((y * y).sum() + h.sum(), wanted)])
        for actual, expected in zip(*found, strict=True):
            np.testing.assert_allclose(actual.numpy(), expected.numpy(), rtol=1e-9, atol=1e-11)


MADE_FOR_THE_BATCH = {
    "a column of ones": lambda x: ops.cat([x, rk.ones(x.shape[0], 1, dtype=x.dtype)], 1),
    "a column between": lambda x: ops.cat(
        [x[:, :1], ops.full((x.shape[0], 2), 0.5, dtype=x.dtype), x[:, 1:2]], 1
    ),
    "a part of a stack": lambda x: ops.stack([x, rk.ones(*x.shape, dtype=x.dtype)], 1)[:, :, :2]
    .reshape(-1, 4),
    "what is added": lambda x: ops.cat([x, x[:, :1]], 1) + rk.ones(x.shape[0], 4, dtype=x.dtype),
    "what a matrix multiplies": lambda x: x[:, :1]
    * (MATRIX @ rk.ones(x.shape[0], 4, 1, dtype=x.dtype)).reshape(-1, 4),
    "an operand of einsum": lambda x: x[:, :1]
    * ops.einsum("ab,nb->na", MATRIX, rk.ones(x.shape[0], 4, dtype=x.dtype)),
}  # fmt: skip
MATRIX = rk.tensor(np.arange(16.0).reshape(4, 4) / 8)


@pytest.mark.parametrize("name", MADE_FOR_THE_BATCH)
def test_what_is_made_for_the_batch_before_a_product(name):
    class Prepared(Own):
        def step(self, x, state):
            x = MADE_FOR_THE_BATCH[name](x)
            h = (ops.linear(x, self.W) + state[0] @ self.U.T + self.b).tanh()
            return h, (h,)

    cell = Prepared(I=4, dtype="float64")
    cell.input_size = 3
    check(cell, "float64")
    steps = nn.Recurrent(cell).stream(3)(data("float64"))
    y, _ = run_layer((cell,), data("float64"))
    np.testing.assert_array_equal(steps, y.numpy())


def test_a_product_before_the_loop_has_its_gradient_by_every_view():
    """Also by one that is all of it."""

    class Viewed(Own):
        def step(self, x, state):
            x = ops.linear(x, self.W)
            h = (x + x.reshape(-1, 5) * x[:, :5] + (state[0] * self.b.reshape(5)) @ self.U.T).tanh()
            return h, (h,)

    check(Viewed(dtype="float64"), "float64")


def test_nothing_warns_of_a_logarithm_of_zero():
    """Neither tracing, which has no numbers, nor a run of numbers that are zero."""

    class Powers(Own):
        def step(self, x, state):
            h = (x @ self.W.T + state[0] @ self.U.T).tanh()
            h = 0.5**h + (h * h + 1.0) * self.b**0.5 + self.b ** (h * h + 1.0)
            return h, (h,)

    cell = Powers(dtype="float64")
    cell.b.data[...] = [1.0, 2.0, 0.5, 0.25, 3.0]
    check(cell, "float64")
    cell.b.data[0] = 0.0
    with rk.backend("native"):
        y, _ = run_layer((cell,), data("float64"))
        y.sum().backward()
    assert np.isfinite(y.numpy()).all()


WRONG_STATES = {
    "another width": (lambda N: (rk.zeros(N, 4),), ShapeError, r"h: expected shape \(3, 5\)"),
    "one row": (lambda N: (rk.zeros(1, 5),), ShapeError, r"h: expected shape \(3, 5\)"),
    "another dtype": (lambda N: (rk.zeros(N, 5, dtype="float64"),), DTypeError, "h: expected"),
    "too many": (lambda N: (rk.zeros(N, 5),) * 2, ArgumentError, r"expected a tuple \(h\), got 2"),
    "no tuple": (lambda N: rk.zeros(N, 5), ArgumentError, r"expected a tuple \(h\), got Tensor"),
}


@pytest.mark.parametrize("backend", ["native", "python"])
@pytest.mark.parametrize("name", WRONG_STATES)
def test_an_initial_state_must_be_what_the_cell_says(name, backend):
    give, error, message = WRONG_STATES[name]

    class Beginning(Own):
        def initial_state(self, batch):
            return give(batch)

    cell = Beginning()
    with rk.backend(backend):
        for run in (lambda: run_layer((cell,), data()), lambda: nn.Recurrent(cell).stream(3),
                    lambda: cell(data()[0])):  # fmt: skip
            with pytest.raises(error, match=f"initial_state: Beginning: {message}"):
                run()


def test_products_before_the_loop_obey_the_rules_of_the_engine(monkeypatch):
    """Whoever replaces a rule gets it, in place of the native product of that derivative."""
    linear = PRIMITIVES["linear"]
    x = rk.tensor(np.random.default_rng(0).normal(size=(4, 3, 2)), requires_grad=True)
    cell = cells.IndRNNCell(2, 5, dtype=np.float64)

    def gradients():
        y, _ = nn.Recurrent(copy.deepcopy(cell))(x)
        assert last_layer().path == "program"
        return rk.grad(y.sum(), x)[0].data

    before = gradients()
    d_x, *others = linear.rules
    thrice = (lambda d_y, _, *inputs: 3.0 * d_x(d_y, _, *inputs), *others)
    monkeypatch.setattr(linear, "rules", thrice)
    np.testing.assert_allclose(gradients(), 3 * before, rtol=1e-12)


class Numbered(Own):
    """Beside h a state that is one number in each row; of one axis, in a ``column``, or of none."""

    state_names = ("h", "n")
    column = False

    def __init__(self, input_size=3, dtype="float64"):
        super().__init__(input_size, dtype=dtype)

    @property
    def state_shapes(self):
        return ((self.hidden_size,), (1,) if self.column else ())

    def step(self, x, state):
        h, n = state
        n = n if self.column else n.unsqueeze(1)
        h = (x @ self.W.T + h @ self.U.T + self.b * n).tanh()
        n = 0.5 * n + h.square().sum(-1, keepdims=True)
        return h, (h, n if self.column else n.squeeze(1))


class Column(Numbered):
    column = True


@pytest.mark.filterwarnings("ignore:memory")
@pytest.mark.parametrize("lengths", [[4, 1, 3], [0, 0, 0]], ids=str)
@pytest.mark.parametrize("memory", ["full", 1])
@pytest.mark.parametrize("batch_first", [False, True])
@pytest.mark.parametrize("bidirectional", [False, True])
@pytest.mark.parametrize("backend", ["native", "python"])
def test_a_state_of_no_axes_is_one_of_one_element(
    backend, bidirectional, batch_first, memory, lengths
):
    found = []
    for kind in (Column, Numbered):
        network = nn.Recurrent(
            kind(), 1, batch_first, bidirectional=bidirectional, memory=memory
        )
        x = data("float64").swapaxes(0, 1) if batch_first else data("float64")
        x = rk.tensor(x, requires_grad=True)
        with rk.backend(backend), rk.diagnostics.trace(network) as seen:
            y, (h, n), steps = network(x, lengths=lengths, return_steps=True)
            last = steps["n"][0]
            outputs = [y, h, n, steps["h"][0], last]
            gradients = rk.grad(
                sum((each * each.cos()).sum() for each in outputs), [x, *network.parameters()]
            )
        shape = last.shape if kind is Column or bidirectional else (*last.shape, 1)
        assert shape == (*x.shape[:2], 1 + bidirectional)
        shown = [each for layer in seen for each in (layer.states, layer.d_states)]
        arrays = [each.data for each in (*outputs, *gradients)]
        found.append([*arrays, *[each[name] for each in shown for name in each]])
    for column, numbers in zip(*found, strict=True):
        np.testing.assert_array_equal(numbers.reshape(column.shape), column)
