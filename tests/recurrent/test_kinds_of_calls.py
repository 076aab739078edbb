"""Calls of many kinds take turns on the same cells: what one call leaves behind serves no other."""

from __future__ import annotations

import copy
from itertools import product

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
    *product(["plain", "restart alone"], ["everything"], (0, 1), ("a", "ba"), ["full"], (0, 1)),
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
        return forward(layer, "auto")
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
