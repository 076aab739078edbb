"""Programs of cells whose parameters, attributes and containers change between calls."""

from argparse import Namespace
from dataclasses import dataclass, field
from types import SimpleNamespace
from typing import Any
from zlib import crc32

import numpy as np
import pytest
from own_cells import Own, check, data

import rnnkit as rk
from rnnkit import nn, ops
from rnnkit.recurrent import run_layer
from rnnkit.recurrent.program.run import MOST_SETTINGS, _traced

pytestmark = pytest.mark.usefixtures("native")


def test_parameters_and_attributes_change_between_calls():
    cell = Own()
    ys = [check(cell)]
    cell.U.data[...] *= 0.5
    ys.append(check(cell))
    cell.U = nn.Parameter(np.full((5, 5), 0.3, np.float32))
    ys.append(check(cell))
    cell.factor = 2.0
    ys.append(check(cell))
    cell.shift[0] = 0.7
    ys.append(check(cell))
    cell.eval()
    ys.append(check(cell))
    cell.b.requires_grad_(False)
    np.testing.assert_array_equal(check(cell), ys[-1])
    cell.train()
    np.testing.assert_array_equal(check(cell), ys[-2])
    for i, one in enumerate(ys):
        for other in ys[:i]:
            assert np.abs(one - other).max() > 1e-3


@pytest.mark.parametrize("size", [1009, 2026])
def test_no_size_in_a_container_is_taken_for_the_batch(size):
    class Tables(Own):
        def __init__(self):
            super().__init__()
            table = np.random.default_rng(0).standard_normal((size, 5)).astype("float32")
            self.tables = [rk.tensor(table, requires_grad=True)]

        def step(self, x, state):
            table = ops.tanh(self.tables[0])
            weights = ops.softmax((x @ self.W.T + state[0] @ self.U.T) @ table.T, -1)
            h = weights @ table + self.b
            return h, (h,)

    cell = Tables()
    check(cell, table=cell.tables[0])


def test_what_stands_in_slots_is_there_for_the_trace():
    class Slotted(Own):
        __slots__ = ("gain",)

        def __init__(self):
            super().__init__()
            object.__setattr__(self, "gain", 0.5)

        def step(self, x, state):
            y, states = super().step(x * self.gain, state)
            return y, states

    check(Slotted())


@dataclass
class Factors:
    one: float = 1.0
    more: list = field(default_factory=lambda: [1.0])
    inner: Any = None


@dataclass(slots=True)
class Fixed:
    one: float = 1.0


@pytest.mark.parametrize("kind", [Factors, Fixed, SimpleNamespace, Namespace])
def test_what_dataclasses_and_namespaces_hold_changes_between_calls(kind):
    class Configured(Own):
        def __init__(self):
            super().__init__()
            self.config = kind(one=1.0)
            if kind is Factors:
                self.config.inner = [self.config, Fixed()]

        def step(self, x, state):
            c = self.config
            h = ops.tanh(c.one * x @ self.W.T + state[0] @ self.U.T + self.b)
            if kind is Factors:
                h = h * c.more[0] + c.inner[1].one
            return h, (h,)

    cell = Configured()
    ys = [check(cell)]
    cell.config.one = 2.0
    ys.append(check(cell))
    if kind is Factors:
        cell.config.more[0] = 0.5
        ys.append(check(cell))
        cell.config.inner[1].one = 0.5
        ys.append(check(cell))
    for i, one in enumerate(ys):
        for other in ys[:i]:
            assert np.abs(one - other).max() > 1e-3


def test_a_setting_that_moves_on_and_on_leaves_few_traces_behind():
    module = nn.GRU(3, 4, zoneout=0.5)
    (cell,) = module.layers[0]
    for step in range(MOST_SETTINGS + 5):
        cell.zoneout = (0.5 - 0.01 * step,)
        module(rk.zeros(2, 1, 3))
    assert len(_traced[cell]) == MOST_SETTINGS


def test_what_containers_hold_changes_between_calls():
    class Parts(Own):
        def __init__(self):
            super().__init__()
            self.parts, self.more = [nn.Linear(5, 5)], {"b": rk.tensor(np.float32(0.5))}
            self.names = {"sin"}
            self.parts[0].owners = [self]  # round and round

        def step(self, x, state):
            h = self.parts[0](x @ self.W.T + state[0] @ self.U.T) + self.b * self.more["b"]
            h = ops.sin(h) if "sin" in self.names else ops.tanh(h)
            return h, (h,)

    cell = Parts()
    ys = [check(cell)]
    cell.parts[0].weight = nn.Parameter(np.eye(5, dtype=np.float32))
    ys.append(check(cell))
    cell.parts[0] = nn.Linear(5, 5)
    ys.append(check(cell))
    cell.more["b"] = rk.tensor(np.float32(-2.0))
    ys.append(check(cell))
    cell.names.clear()
    ys.append(check(cell))
    for i, one in enumerate(ys):
        for other in ys[:i]:
            assert np.abs(one - other).max() > 1e-3


def test_a_cell_moves_to_double_precision_and_back():
    cell = Own()
    single = check(cell)
    cell.to("float64")
    double = check(cell, "float64")
    assert double.dtype == np.float64
    np.testing.assert_allclose(double, single, rtol=1e-4, atol=1e-5)
    cell.to("float32")
    np.testing.assert_array_equal(check(cell), single)


def test_objects_with_the_address_of_one_that_is_gone():
    cell = Own()

    def step(x, state):
        h = x[:, :1] * 0 + state[0] * 0 + cell.made(2.0)
        return h, (h,)

    cell.step = step
    for number in range(8):
        cell.made = lambda two, number=number: two * number
        with rk.backend("native"):
            y, _ = run_layer((cell,), data())
        np.testing.assert_array_equal(y.numpy(), np.full((4, 3, 5), 2.0 * number))


def test_a_number_that_the_step_takes_from_elsewhere_may_change():
    """It is not one of the step's own, which may become part of an operation."""
    one = rk.tensor(np.float64(1.0))

    class Gated(Own):
        def step(self, x, state):
            h = ops.tanh(x @ self.W.T + state[0] @ self.U.T)
            return h, ((one - h * h) * self.b,)

    cell = Gated(dtype="float64")
    y = check(cell, "float64")
    one.data[...] = 3.0
    assert np.abs(check(cell, "float64") - y).max() > 1e-3


ALMOST_ALIKE = [
    (1, True, 1.0, "1"),
    (0, False, None, "", (), [], {}, 0.0, -0.0),
    ((1, 2), [1, 2], (2, 1), (1, True)),
    ({1, 2}, frozenset({1, 2}), {1, 3}),
    ({1: 2}, {True: 2}, {1: 3}, {1: True}, {2: 1}),
    ({"a": 1, "b": 2}, {"b": 2, "a": 1}),
    (np.zeros(4), np.zeros((2, 2)), np.zeros(4, np.int64), np.zeros(4, np.float32), np.ones(4)),
    (np.float32(1), np.float64(1)),
    (SimpleNamespace(a=1), SimpleNamespace(a=True), SimpleNamespace(b=1)),
    (rk.zeros(4), rk.zeros(2, 2), rk.zeros(4, dtype="float64"), rk.tensor([0, 0, 0, 0])),
]


@pytest.mark.parametrize("values", ALMOST_ALIKE, ids=lambda values: repr(values[0]))
def test_attributes_that_are_almost_alike_are_told_apart(values):
    class Described(Own):
        def step(self, x, state):
            value = self.value
            text = f"{value.shape} {value.dtype}" if isinstance(value, rk.Tensor) else repr(value)
            if isinstance(value, np.ndarray):
                text += f"{value.shape} {value.dtype}"
            factor = 0.2 + crc32(text.encode()) % 997 / 2000
            h = factor * ops.tanh(x @ self.W.T + state[0] @ self.U.T + self.b)
            return h, (h,)

    cell = Described()
    for value in (*values, values[0]):
        cell.value = value
        check(cell)
