"""Truncated backpropagation through time, against its definition written out step by step."""

from itertools import pairwise

import numpy as np
import pytest
from random_numbers import numbers

import rnnkit as rk
from rnnkit import nn, optim
from rnnkit.errors import ArgumentError, DTypeError, ShapeError
from rnnkit.nn.utils import detach_state, tbptt

T, N, I, H = 13, 3, 4, 5
MODULES = {
    "rnn": lambda **kw: nn.RNN(I, H, **kw),
    "gru": lambda **kw: nn.GRU(I, H, num_layers=2, **kw),
    "lstm": lambda **kw: nn.LSTM(I, H, num_layers=2, **kw),
}
# k1, k2: without and with overlap, overlaps that do and do not end at a chunk's end, all of it.
STEPS = [(1, 1), (4, 4), (4, 5), (4, 6), (4, 8), (3, 11), (5, 13), (1, 20), (13, 13), (20, 20)]


@pytest.fixture(params=MODULES)
def make(request):
    return MODULES[request.param]


def initial_state(module, seed=0, requires_grad=True):
    count = len(module._layers[0][0].state_names)
    states = [
        rk.tensor(numbers(module.num_layers, N, H, seed=seed + k), requires_grad=requires_grad)
        for k in range(count)
    ]
    return states[0] if count == 1 else tuple(states)


def as_tuple(state):
    return state if isinstance(state, tuple) else (state,)


def loss_of(y, targets):
    return (y.tanh() * targets).sum()


def gradients(module, state):
    leaves = [*module.parameters(), *as_tuple(state)]
    found = [None if each.grad is None else each.grad.data.copy() for each in leaves]
    for each in leaves:
        each.grad = None
    return found


def by_hand(module, x, targets, state, k1, k2, lengths=None, reset=None, update=None):
    """For each chunk: its outputs and gradients; one cell's step after another on the tape."""
    cells = [layer[0] for layer in module._layers]
    given = as_tuple(state)
    held = {}
    results = []
    for newest in range(0, T, k1):
        end = min(newest + k1, T)
        begin, loss, outputs = max(0, end - k2), 0.0, []
        first = [tuple(each[layer] for each in given) for layer in range(len(cells))]
        now = held[begin] if begin else first
        for t in range(begin, end):
            value, after = rk.tensor(x[t]), []
            there = np.bool_(True) if lengths is None else (t < lengths)[:, None]
            for cell, before in zip(cells, now, strict=True):
                if reset is not None:
                    begins = reset[t][:, None] & there
                    before = tuple(rk.where(begins, 0.0, each) for each in before)
                value, new = cell.step(value, before)
                after.append(
                    tuple(rk.where(there, a, b) for a, b in zip(new, before, strict=True))
                )
            now = after
            if t >= newest:
                value = rk.where(there, value, 0.0)
                outputs.append(value.data)
                loss = loss + loss_of(value, targets[t])
            held[t + 1] = [tuple(each.detach() for each in layer) for layer in now]
        loss.backward()
        results.append((np.stack(outputs), gradients(module, state)))
        if update is not None:
            update(module, results[-1][1])
    return results


def by_tbptt(module, x, targets, state, k1, k2, update=None, **options):
    time = 1 if module.batch_first else 0
    results = []
    for y, steps, _ in tbptt(module, x, state, k1=k1, k2=k2, **options):
        chosen = targets[:, steps] if time else targets[steps]
        loss_of(y, chosen).backward()
        results.append((y.data.swapaxes(0, time), gradients(module, state)))
        if update is not None:
            update(module, results[-1][1])
    return results


def descend(module, found):
    for parameter, gradient in zip(module.parameters(), found, strict=False):
        parameter.data -= 0.05 * gradient


def assert_equal(actual, expected):
    assert len(actual) == len(expected)
    for (y, found), (wanted_y, wanted) in zip(actual, expected, strict=True):
        np.testing.assert_allclose(y, wanted_y, rtol=1e-12, atol=1e-13)
        for a, b in zip(found, wanted, strict=True):
            assert (a is None) == (b is None)
            if a is not None:
                np.testing.assert_allclose(a, b, rtol=1e-10, atol=1e-12)


@pytest.mark.parametrize(("k1", "k2"), STEPS)
def test_each_chunks_gradient_is_the_definitions(path, make, k1, k2):
    module = make(dtype="float64")
    state = initial_state(module)
    x, targets = numbers(T, N, I), numbers(T, N, H, seed=1)
    expected = by_hand(module, x, targets, state, k1, k2)
    assert_equal(by_tbptt(module, x, targets, state, k1, k2), expected)


@pytest.mark.parametrize(("k1", "k2"), [(4, 4), (4, 6), (3, 11), (4, 20)])
def test_with_an_update_after_each_chunk(path, make, k1, k2):
    x, targets = numbers(T, N, I), numbers(T, N, H, seed=1)
    results = []
    for run in (by_tbptt, by_hand):
        rk.manual_seed(0)
        module = make(dtype="float64")
        results.append(run(module, x, targets, initial_state(module), k1, k2, update=descend))
        assert len(results[-1]) > 2
    assert_equal(*results)


@pytest.mark.parametrize("batch_first", [False, True])
@pytest.mark.parametrize(("k1", "k2"), [(4, 4), (4, 6), (3, 11)])
def test_lengths_and_resets(path, make, k1, k2, batch_first):
    module = make(dtype="float64", batch_first=batch_first)
    state = initial_state(module)
    x, targets = numbers(T, N, I), numbers(T, N, H, seed=1)
    lengths = np.array([6, 0, 13])
    reset = np.zeros((T, N), bool)
    reset[[0, 3, 4, 8, 9, 7], [2, 0, 2, 2, 2, 0]] = True
    expected = by_hand(module, x, targets, state, k1, k2, lengths, reset)
    if batch_first:
        x, targets, reset = (each.swapaxes(0, 1) for each in (x, targets, reset))
    found = by_tbptt(module, x, targets, state, k1, k2, lengths=lengths, reset=reset)
    assert_equal(found, expected)


def test_it_truncates():
    """What the tests above rely on: another k2 gives another gradient."""
    module = nn.GRU(I, H, dtype="float64")
    x, targets = numbers(T, N, I), numbers(T, N, H, seed=1)
    state = initial_state(module)
    last = [by_tbptt(module, x, targets, state, 4, k2)[-1][1][0] for k2 in (4, 5, 8, 13)]
    for a, b in pairwise(last):
        assert np.abs(a - b).max() > 1e-6


@pytest.mark.parametrize("k1", [1, 4, 13, 30])
def test_gradients_add_up_to_full_backpropagation(path, make, k1):
    module = make(dtype="float64")
    state = initial_state(module)
    x, targets = numbers(T, N, I), numbers(T, N, H, seed=1)
    y, final = module(x, state)
    loss_of(y, targets).backward()
    whole = gradients(module, state)
    chunks = []
    for chunk in tbptt(module, x, state, k1=k1, k2=max(k1, T)):
        loss_of(chunk.y, targets[chunk.steps]).backward()
        chunks.append(chunk)
    summed = gradients(module, state)
    for a, b in zip(summed, whole, strict=True):
        np.testing.assert_allclose(a, b, rtol=1e-10, atol=1e-12)
        if k1 >= T:
            np.testing.assert_array_equal(a, b)
    for a, b in zip(as_tuple(chunks[-1].state), as_tuple(final), strict=True):
        np.testing.assert_array_equal(a.data, b.data)
        assert not a.requires_grad


def test_outputs_and_states_have_the_bits_of_the_whole_run(path, make):
    module = make()
    x = numbers(T, N, I).astype("f4")
    y, final = module(x)
    for k1, k2 in STEPS:
        chunks = list(tbptt(module, x, k1=k1, k2=k2))
        np.testing.assert_array_equal(np.concatenate([c.y.data for c in chunks]), y.data)
        assert [c.steps.start for c in chunks] == list(range(0, T, k1))
        for a, b in zip(as_tuple(chunks[-1].state), as_tuple(final), strict=True):
            np.testing.assert_array_equal(a.data, b.data)


def test_a_reset_state_and_a_single_sequence(path):
    module = nn.LSTM(I, H, 2, dtype="float64", batch_first=True)
    x, reset = numbers(T, I), np.zeros(T, bool)
    reset[[2, 7]] = True
    begin = (numbers(2, H), numbers(2, H, seed=1))
    y, final = module(x, lengths=11, reset=reset, reset_state=begin)
    chunks = list(tbptt(module, x, k1=3, k2=5, lengths=11, reset=reset, reset_state=begin))
    np.testing.assert_array_equal(np.concatenate([c.y.data for c in chunks]), y.data)
    for a, b in zip(chunks[-1].state, final, strict=True):
        np.testing.assert_array_equal(a.data, b.data)


class Tagger(nn.Module):
    """Embedding, cells, head: what a user's module looks like."""

    def __init__(self):
        super().__init__()
        self.embedding = nn.Embedding(9, 12)
        self.recurrent = nn.GRU(12, 24)
        self.head = nn.Linear(24, 9)

    def forward(self, ids, state=None, **options):
        y, state = self.recurrent(self.embedding(ids), state, **options)
        return self.head(y), state


def test_a_model_around_the_layer_learns():
    model = Tagger()
    optimizer = optim.Adam(model.parameters(), lr=0.01)
    ids = np.random.default_rng(0).integers(0, 9, (60, 4))
    before = np.concatenate([np.zeros((2, 4), int), ids[:-2]])  # say what came two steps ago
    losses = []
    for _ in range(25):
        for logits, steps, _ in tbptt(model, ids, k1=5, k2=8):
            loss = rk.losses.cross_entropy(logits, before[steps])
            optimizer.zero_grad()
            loss.backward()
            optimizer.step()
            losses.append(loss.item())
    assert np.mean(losses[-12:]) < 0.3 * np.mean(losses[:12])


def test_ids_have_a_batch_axis_or_none(path):
    model, ids = Tagger(), np.random.default_rng(0).integers(0, 9, (T, N))
    options = {"lengths": [6, 0, 13], "reset": np.eye(T, N, dtype=bool)}
    whole, _ = model(ids, **options)
    chunks = list(tbptt(model, ids, k1=4, k2=6, **options))
    for chunk in chunks:
        np.testing.assert_allclose(chunk.y.data, whole.data[chunk.steps], rtol=1e-5, atol=1e-6)
    alone, _ = model(ids[:, 2])
    for y, steps, _ in tbptt(model, ids[:, 2], k1=4):
        np.testing.assert_allclose(y.data, alone.data[steps], rtol=1e-5, atol=1e-6)


def test_a_cell_of_ones_own():
    class Twice(rk.Cell):
        state_names = ("a", "b")

        @property
        def state_shapes(self):
            return (2, 3), (self.hidden_size,)

        def __init__(self):
            super().__init__(I, H)
            self.inner = nn.Linear(I + H + 6, H + 6, dtype="float64")

        def step(self, x, state):
            a, b = state
            new = self.inner(rk.cat([x, a.reshape(-1, 6), b], 1)).tanh()
            return new[:, :H], (new[:, H:].reshape(-1, 2, 3), new[:, :H] + 0.5 * b)

    module = nn.Recurrent(Twice())
    x, targets = numbers(T, N, I), numbers(T, N, H, seed=1)
    state = tuple(
        rk.tensor(numbers(1, N, *shape), requires_grad=True) for shape in ((2, 3), (H,))
    )
    expected = by_hand(module, x, targets, state, 3, 7)
    assert_equal(by_tbptt(module, x, targets, state, 3, 7), expected)


def test_chunks_wait_until_they_are_asked_for():
    calls = []

    def module(x, state):
        calls.append(len(x))
        return rk.as_tensor(x), rk.zeros(N)

    chunks = tbptt(module, numbers(T, N), k1=4, k2=6)
    assert calls == []
    next(chunks)
    assert calls == [2, 2]
    assert [chunk.y.shape[0] for chunk in chunks] == [4, 4, 1]
    assert calls == [2, 2, 4, 2, 1, 5, 6]


WRONG = {
    "k1": ({"k1": 0}, ArgumentError, "k1: expected at least 1, got 0"),
    "k1 int": ({"k1": 2.0}, ArgumentError, "k1: expected an int"),
    "k2": ({"k1": 4, "k2": 3}, ArgumentError, "k2: expected at least k1 = 4, got 3"),
    "list": ({"k1": 4, "x": [[1.0]]}, DTypeError, "x: expected a Tensor or a NumPy array"),
    "empty": ({"k1": 4, "x": np.zeros((0, N, I))}, ArgumentError, "at least one step"),
    "number": ({"k1": 4, "x": np.array(1.0)}, ShapeError, "x: expected a time"),
    "lengths": ({"k1": 4, "lengths": [1, 2]}, ShapeError, "lengths: expected shape"),
    "long": ({"k1": 4, "lengths": [1, 2, 99]}, ArgumentError, "lengths: .* got 99"),
    "reset": ({"k1": 4, "reset": np.zeros((T, N))}, DTypeError, "reset: expected bool"),
    "one row": ({"k1": 4, "x": numbers(T, I), "lengths": [1, 2]}, ShapeError, "lengths: expected"),
    "flat": (
        {"k1": 4, "x": numbers(T, I), "reset": np.zeros((T, 2), bool)},
        ShapeError,
        r"reset: expected shape \(T,\)",
    ),
    "axis": ({"k1": 4, "batch_first": 1}, ArgumentError, "batch_first: expected a bool"),
}


@pytest.mark.parametrize("case", WRONG)
def test_wrong_arguments_are_refused_before_anything_runs(case):
    options, kind, message = WRONG[case]
    options = {"x": numbers(T, N, I), **options}
    with pytest.raises(kind, match=message):
        tbptt(nn.GRU(I, H, dtype="float64"), **options)


def test_bidirectional_modules_are_refused_with_the_reason():
    both = nn.LSTM(I, H, bidirectional=True)
    for module in (both, nn.Sequential(nn.Linear(I, I), both)):
        with pytest.raises(ArgumentError, match="reverse direction begins at the end"):
            tbptt(module, numbers(T, N, I), k1=4)
    packed = nn.utils.rnn.pack_sequence([numbers(3, I)])
    with pytest.raises(DTypeError, match="PackedSequence; pass lengths="):
        tbptt(nn.LSTM(I, H), packed, k1=4)


def test_a_detached_state_has_values_but_no_history():
    _, state = nn.LSTM(I, H)(numbers(2, N, I).astype("f4"))
    nested = {"state": [state, None], "chunk": nn.utils.Chunk(state[0], slice(2), None)._replace(
        steps=None
    )}
    found = detach_state(nested)
    for part, carried in zip(state, found["state"][0], strict=True):
        assert part.grad_fn is not None
        assert carried.grad_fn is None
        assert np.array_equal(part.data, carried.data)
    assert found["state"][1] is None
    assert type(found["chunk"]) is nn.utils.Chunk
    with pytest.raises(DTypeError, match=r"state: expected Tensors .* got str"):
        detach_state(("h",))
