"""What is known of a cell from an earlier call holds only while the cell is the same."""

from __future__ import annotations

import copy
import gc
import pickle
from dataclasses import dataclass
from weakref import ref

import numpy as np
import pytest
from recurrent_contract import last_layer

import rnnkit as rk
from rnnkit import nn
from rnnkit.errors import ShapeError, TraceError
from rnnkit.recurrent import run_layer
from rnnkit.recurrent.held import held_by


class Inner(nn.Module):
    def __init__(self):
        super().__init__()
        self.slope = 1.0
        self.shift = rk.tensor(np.zeros(3, np.float32))


class Sloped(rk.Cell):
    def __init__(self, input_size, hidden_size):
        super().__init__(input_size, hidden_size)
        self.scale = 0.5
        self.inner = Inner()
        self.factors = [1.0, 2.0]
        self.make_parameters("float32")
        self.lift = 0.75

    def parameter_shapes(self):
        return {"weight": (self.hidden_size, self.input_size)}

    def step(self, x, state):
        h = rk.tanh(
            x @ self.weight.T + self.scale * state[0] * self.inner.slope
            + self.inner.shift + sum(self.factors)
        )
        h = h + sum(getattr(self, name, 0.0) for name in ("lift", "more"))
        return h, (h,)


class Plain(Sloped):
    """Nothing in it can change but by another object."""

    def __init__(self, input_size, hidden_size):
        super().__init__(input_size, hidden_size)
        self.factors = (1.0, 2.0)


class Doubled(Plain):
    def step(self, x, state):
        return super().step(2 * x, state)


def set_weight(cell):
    cell.weight.data = cell.weight.data * 2


def another_weight(cell):
    cell.weight = nn.Parameter(np.ones((3, 3), np.float32))


def rename(cell):
    scale = cell.scale
    del cell.scale
    cell.scale = scale * 3


CHANGES = {
    "a number": lambda cell: setattr(cell, "scale", 0.25),
    "the sign of zero": lambda cell: setattr(cell, "scale", -0.0),
    "a number of an inner module": lambda cell: setattr(cell.inner, "slope", 3.0),
    "a tensor of an inner module": lambda cell: setattr(
        cell.inner, "shift", rk.tensor(np.ones(3, np.float32))
    ),
    "another inner module": lambda cell: setattr(cell, "inner", Inner()),
    "the numbers of a parameter": set_weight,
    "another parameter": another_weight,
    "another order": rename,
    "a tuple": lambda cell: setattr(cell, "factors", (0.5,)),
    "an attribute more": lambda cell: setattr(cell, "more", 0.25),
    "an attribute fewer": lambda cell: delattr(cell, "lift"),
    "another class": lambda cell: setattr(cell, "__class__", Doubled),
    "past __setattr__": lambda cell: vars(cell).update(scale=0.75),
}


def run(module, x):
    with rk.backend("native"):
        return module(x)[0].numpy()


def expected(module, x):
    with rk.backend("python"):
        return module(x)[0].numpy()


@pytest.mark.parametrize("change", CHANGES.values(), ids=CHANGES)
@pytest.mark.parametrize("kind", [Plain, Sloped])
def test_a_change_is_seen(native, kind, change):
    x = np.random.default_rng(0).standard_normal((4, 2, 3)).astype(np.float32)
    cell = kind(3, 3)
    module = nn.Recurrent(cell)
    run(module, x)
    change(cell)
    np.testing.assert_allclose(run(module, x), expected(module, x), rtol=1e-5, atol=1e-6)


@pytest.mark.parametrize("direction", [0, 1])
@pytest.mark.parametrize(("kind", "option", "value"), [
    (nn.RNN, "nonlinearity", "relu"), (nn.GRU, "reset_after", False), (nn.LSTM, "cell_clip", 0.1),
])  # fmt: skip
def test_a_kernel_runs_for_both_directions_or_for_none(native, kind, option, value, direction):
    x = np.random.default_rng(0).standard_normal((4, 2, 3)).astype(np.float32)
    module = kind(3, 5, bidirectional=True)
    before = run(module, x)
    assert last_layer().path == "fused"
    setattr(module.layers[0][direction], option, value)
    after = run(module, x)
    assert last_layer().path == "program"
    changed = slice(5 * direction, 5 * direction + 5)
    assert np.abs(after - before)[..., changed].max() > 1e-3
    np.testing.assert_allclose(after, expected(module, x), rtol=1e-5, atol=1e-6)


def test_a_change_within_a_list_is_seen(native):
    x = np.ones((4, 2, 3), np.float32)
    module = nn.Recurrent(Sloped(3, 3))
    before = run(module, x)
    module.layers[0][0].factors[0] = -5.0
    after = run(module, x)
    assert not np.array_equal(after, before)
    np.testing.assert_allclose(after, expected(module, x), rtol=1e-5, atol=1e-6)


def test_it_is_found_out_once():
    cell = Plain(3, 3)
    held = held_by(cell)
    assert held_by(cell) is held
    cell.weight.data[...] = 0
    assert held_by(cell) is held
    cell.eval()
    assert held_by(cell) is not held
    assert held_by(Sloped(3, 3)) is not None


def test_a_tensor_of_another_shape_or_dtype_is_another():
    cell = Plain(3, 3)
    for array in (np.zeros((2, 3), np.float32), np.zeros((2, 3))):
        held = held_by(cell)
        cell.inner.shift.data = array
        assert held_by(cell) is not held


def test_a_parameter_that_no_longer_fits_is_refused():
    cell = Plain(3, 3)
    held_by(cell)
    cell.weight.data = np.zeros((2, 3), np.float32)
    with pytest.raises(ShapeError, match=r"weight: expected shape \(3, 3\), got \(2, 3\)"):
        held_by(cell)


@pytest.mark.parametrize(
    "copied",
    [
        copy.copy,
        copy.deepcopy,
        lambda cell: pickle.loads(pickle.dumps(cell)),
        lambda cell: pickle.loads(pickle.dumps(cell, protocol=0)),
    ],
    ids=["copy", "deepcopy", "pickle", "pickle of protocol 0"],
)
def test_a_copy_finds_out_for_itself(native, copied):
    x = np.ones((4, 2, 3), np.float32)
    cell = Plain(3, 3)
    run(nn.Recurrent(cell), x)
    twin = copied(cell)
    twin.scale = 0.125
    for each in (twin, cell):
        module = nn.Recurrent(each)
        np.testing.assert_allclose(run(module, x), expected(module, x), rtol=1e-5, atol=1e-6)
        assert held_by(each).is_of(each)


def test_a_cell_with_a_constructor_of_its_own_finds_out_too(native):
    class Bare(Plain):
        def __new__(cls, *args):
            return object.__new__(cls)

    x = np.ones((4, 2, 3), np.float32)
    module = nn.Recurrent(Bare(3, 3))
    np.testing.assert_allclose(run(module, x), expected(module, x), rtol=1e-5, atol=1e-6)


@dataclass
class Dataclass(rk.Cell):
    input_size: int
    hidden_size: int

    def __post_init__(self):
        super().__init__(self.input_size, self.hidden_size)
        self.make_parameters("float32")

    def parameter_shapes(self):
        return {"weight": (self.hidden_size, self.input_size)}

    def step(self, x, state):
        h = rk.tanh(x @ self.weight.T - state[0])
        return h, (h,)


def test_a_dataclass_may_be_a_cell(native):
    """Two of the same sizes are equal, and each has weights of its own."""
    x = np.ones((4, 2, 3), np.float32)
    cells = [Dataclass(3, 3), Dataclass(3, 3)]
    assert cells[0] == cells[1]
    modules = [nn.Recurrent(cell).eval().freeze() for cell in cells]
    for module in modules * 2:
        np.testing.assert_allclose(run(module, x), expected(module, x), rtol=1e-5, atol=1e-6)


@pytest.mark.parametrize("copied", [copy.copy, copy.deepcopy])
def test_a_cell_that_was_never_run_can_be_copied_whatever_made_it(copied):
    cell = pickle.loads(pickle.dumps(Plain(3, 3), protocol=0))  # past __new__
    assert copied(cell).scale == cell.scale
    assert pickle.loads(pickle.dumps(cell)).scale == cell.scale


def test_no_cell_is_kept_alive(native):
    """Copies with dropped weights come and go with each call."""
    x = np.ones((4, 2, 3), np.float32)
    cell = Plain(3, 3)
    run(nn.Recurrent(cell), x)
    gc.disable()
    try:
        twin = cell.with_tensors({"weight": nn.Parameter(np.ones((3, 3), np.float32))})
        with rk.backend("native"):
            y, _ = run_layer([twin], x)
        y.sum().backward()
        del y
        gone = ref(twin)
        del twin
        assert gone() is None
    finally:
        gc.enable()


class Peeks(Plain):
    """Its step reads numbers: it is no program."""

    def step(self, x, state):
        h = rk.tanh(x @ self.weight.T) * float(state[0].data.sum() < 1e9)
        return h, (h,)


def test_why_there_is_no_program_is_kept_without_the_ways_it_was_told(native):
    module = nn.Recurrent(Peeks(3, 3))
    for _ in range(3):
        module(np.ones((4, 2, 3), np.float32))
    reason = held_by(module.layers[0][0]).step
    assert isinstance(reason, TraceError)
    assert reason.__traceback__ is None
    assert reason.__context__ is None
    assert reason.__cause__ is None


class InOtherWays(rk.Cell):
    """Its parameters stand in a row as well, and a bound method and a function work with them."""

    def __init__(self, input_size, hidden_size):
        super().__init__(input_size, hidden_size)
        self.inner = nn.Linear(input_size, hidden_size, dtype="float64")
        self.scale = nn.Parameter(np.linspace(0.5, 2.0, hidden_size))
        self.row = [{"of the state": self.scale}, self.inner]
        self.taken = self._taken
        self.squashed = lambda a: rk.tanh(a * self.scale)

    def _taken(self, x):
        return self.inner(x) + self.row[1](x * x)

    def step(self, x, state):
        h = self.squashed(self.taken(x) + state[0] * self.row[0]["of the state"])
        return h, (h,)


def test_tensors_that_a_step_comes_by_in_other_ways_than_by_attributes():
    cell = InOtherWays(3, 3)
    former = cell.scale
    x = rk.tensor(np.random.default_rng(0).standard_normal((4, 2, 3)), requires_grad=True)

    def results(backend):
        named = [x, former, *cell.parameters()]
        with rk.backend(backend):
            y, _ = run_layer((cell,), x)
            first = rk.grad((y * y).sum(), named, create_graph=True)
            second = rk.grad(sum([(each * each).sum() for each in first]), named)
        return [y, *first, *second]

    for _ in range(2):
        for native, tape in zip(results("native"), results("python"), strict=True):
            np.testing.assert_allclose(native.numpy(), tape.numpy(), rtol=1e-9, atol=1e-12)
        cell.scale = nn.Parameter(-former.data)  # the row keeps the former


def test_what_a_bound_method_counts_is_no_program():
    class Counting(Sloped):
        def __init__(self, *sizes):
            super().__init__(*sizes)
            self.counted, self.count = 0, self._count

        def _count(self, x):
            self.counted += 1
            return x

        def step(self, x, state):
            return super().step(self.count(x), state)

    cell = Counting(2, 3)
    run_layer((cell,), rk.ones(4, 2, 2))
    assert cell.counted == 4
    assert "the step changes attributes: counted" in rk.why()[-1].reason


def test_a_layer_within_a_step_is_no_constant():
    class Within(rk.Cell):
        def __init__(self, input_size, hidden_size):
            super().__init__(input_size, hidden_size)
            self.layer = nn.Recurrent(rk.cells.MGUCell(input_size, hidden_size))

        def step(self, x, state):
            y, _ = self.layer(rk.ones(2, 1, self.input_size))
            h = rk.tanh(y[-1] * x[:, :1] + state[0])
            return h, (h,)

    network, x = nn.Recurrent(Within(2, 3)).eval(), rk.ones(4, 2, 2)
    for _ in range(3):
        with rk.no_grad():
            y, _ = network(x)
            with rk.backend("python"):
                expected, _ = network(x)
        np.testing.assert_allclose(y.numpy(), expected.numpy(), rtol=1e-5, atol=1e-6)
        for parameter in network.parameters():
            parameter.data[...] *= 0.6
