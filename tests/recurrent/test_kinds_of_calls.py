"""Calls of many kinds take turns on the same cells: what one call leaves behind serves no other."""

from __future__ import annotations

import copy
from itertools import product

import numpy as np
import pytest
from recurrent_contract import (
    WAYS,
    Case,
    all_pairs,
    assert_same_bits,
    forward,
    forward_backward,
    make_layer,
    make_ragged,
)

import rnnkit as rk
from rnnkit.recurrent import layer as primitive
from rnnkit.recurrent import run_layer
from rnnkit.recurrent.options import PLAIN, Options

CELLS = [
    ("lstm", {"peephole": True}),  # products before the loop
    ("gru", {"zoneout": 0.3, "recurrent_dropout": 0.2}),  # draws
    ("qrnn", {}),  # more than products before the loop, and an output that is no state
]

WAYS_HERE = ["plain", "lengths", "reset", "reset_state", "restart alone", "last only", "steps"]

WANTED = {
    "nothing": [],
    "x": ["x"],
    "some weights": ["0.weight_ih", "0.bias_ih"],
    "states": ["h0", "c0", "h_restart", "c_restart"],
    "everything": None,
}

# Each two of these options meet; of the most usual calls, all.
CALLS = [
    *all_pairs(WAYS_HERE, [*WANTED], (False, True), ("a", "b", "ab", "ba"), ("full", 1), (0, 1)),
    *product(
        ["plain", "restart alone", "steps"],
        ["everything"], (False, True), ("a", "ba"), ["full"], (0, 1),
    ),
]


@pytest.fixture
def _options_as_of_modules(monkeypatch):
    """What is kept for the most usual calls is kept for those that share their options."""

    def share(*given):
        options = Options(*given)
        return next((each for each in PLAIN.values() if each == options), options)

    monkeypatch.setattr(primitive, "Options", share)


def result(layer, wanted, is_seen):
    """What a call gives: outputs, gradients and, where it is seen, those of the states."""
    rk.manual_seed(1)
    if wanted == []:
        for cell in layer.cells:
            cell.freeze()  # what is prepared then is kept, too
        found = forward(layer, "auto")
        for cell in layer.cells:
            cell.unfreeze()
        return found
    used = None if wanted is None else ["y"]
    if not is_seen:
        return forward_backward(layer, "auto", used, wanted)
    with rk.diagnostics.trace() as seen:
        found = forward_backward(layer, "auto", used, wanted)
    for number, each in enumerate(seen.layers):
        found |= {f"{number}.{name}": array for name, array in each.d_states.items()}
    return found


@pytest.mark.usefixtures("native", "_options_as_of_modules")
@pytest.mark.filterwarnings("ignore::rnnkit.recurrent.memory.MemoryBudgetWarning")
@pytest.mark.parametrize(("name", "options"), CELLS)
def test_calls_take_turns(name, options):
    sizes = (7, 4, 3, 5)
    both = make_layer(Case(name, options, sizes, 2, "float32")).cells
    cells = dict(zip("ab", both, strict=True))
    for way, of, batch_first, order, memory, is_seen in CALLS:
        case = Case(name, options, sizes, len(order), "float32", batch_first=batch_first)
        ragged = {"reset_state": True} if way == "restart alone" else WAYS.get(way, {})
        layer = make_ragged(case, **ragged).with_(memory=memory)
        layer.cells = tuple(cells[each] for each in order)
        wanted = WANTED[of]
        if wanted is not None:
            there = {*layer.inputs, *layer.weights()}
            wanted = [each for each in wanted if each in there]
        alone = layer.with_()
        alone.cells = tuple(copy.deepcopy(cell) for cell in layer.cells)
        assert_same_bits(result(layer, wanted, is_seen), result(alone, wanted, is_seen))


@pytest.mark.usefixtures("native", "_options_as_of_modules")
def test_captured_tensors_take_turns_in_what_needs_a_gradient():
    one, other = rk.tensor([2.0, 3.0]), rk.tensor([5.0, 7.0])

    class Capturing(rk.Cell):
        def step(self, x, state):
            h = one * x + other * state[0]
            return h, (h,)

    cell, x = Capturing(2, 2), rk.ones(3, 1, 2)
    d_y = rk.tensor(np.random.default_rng(0).standard_normal((3, 1, 2)).astype(np.float32))
    for wanted in ([one], [other], [one, other], [other]):
        for each in (one, other):
            each.requires_grad_(any(each is t for t in wanted))
        found = []
        for backend in ("native", "python"):
            with rk.backend(backend):
                y, _ = run_layer((cell,), x)
                found.append([d.numpy() for d in rk.grad(y, wanted, d_y)])
        np.testing.assert_allclose(*found, rtol=1e-6)


class Follows(rk.Cell):
    """Its second state is the input before."""

    state_names = ("h", "last")

    def step(self, x, state):
        h = state[0] * 0.5 + state[1]
        return h, (h, x)


@pytest.mark.usefixtures("native")
def test_a_state_that_no_row_keeps_has_nothing_behind_it():
    cell, x = Follows(2, 2), rk.ones(3, 2, 2)
    start = [rk.ones(1, 2, 2).requires_grad_() for _ in range(2)]
    for lengths in ([3, 2], [3, 0], [3, 1]):
        for backend in ("native", "python"):
            with rk.backend(backend):
                _, (h, last) = run_layer((cell,), x, start, lengths=lengths)
            assert h.requires_grad
            assert last.requires_grad == (0 in lengths), (backend, lengths)
