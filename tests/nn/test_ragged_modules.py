"""nn's recurrent modules called with lengths and restarts; merged directions; memory budgets."""

import re
import warnings

import numpy as np
import pytest
from random_numbers import numbers

import rnnkit as rk
from rnnkit import nn
from rnnkit.errors import ArgumentError, DTypeError, ShapeError
from rnnkit.nn.recurrent import MERGES
from rnnkit.recurrent.memory import MemoryBudgetWarning

MODULES = {"rnn": nn.RNN, "gru": nn.GRU, "lstm": nn.LSTM}
EACH = pytest.mark.parametrize("kind", MODULES)
T, N, I, H = 6, 4, 3, 5
LENGTHS = [4, 6, 0, 1]


pytestmark = pytest.mark.usefixtures("path")


def resets(*shape):
    return np.random.default_rng(9).random(shape) < 0.3


def states_for(module, *shape, seed=0):
    count = 2 if isinstance(module, nn.LSTM) else 1
    random = np.random.default_rng([seed, *shape])
    made = [rk.tensor(random.standard_normal(shape), requires_grad=True) for _ in range(count)]
    return tuple(made) if count > 1 else made[0]


def flat(*results):
    """Every tensor in nested tuples and dicts, in order."""
    found = []
    for result in results:
        if isinstance(result, dict):
            result = tuple(result.values())
        found += flat(*result) if isinstance(result, tuple) else [result]
    return found


def with_gradients(module, outputs, *inputs):
    """Arrays of the outputs, and of all gradients of a weighted sum of them."""
    outputs = flat(outputs)
    random = np.random.default_rng(17)
    loss = sum((each * random.standard_normal(each.shape)).sum() for each in outputs)
    gradients = rk.grad(loss, [*flat(inputs), *module.parameters()], allow_unused=True)
    return [None if each is None else each.detach().numpy() for each in (*outputs, *gradients)]


def assert_close(actual, expected, rtol=1e-11):
    for a, b in zip(actual, expected, strict=True):
        assert (a is None) == (b is None)
        if a is not None:
            np.testing.assert_allclose(a, b, rtol, 1e-12)


def assert_same_bits(actual, expected):
    for a, b in zip(actual, expected, strict=True):
        assert (None if a is None else a.tobytes()) == (None if b is None else b.tobytes())


def one_layer_of(module, layer, inputs, **options):
    """A module of one layer that has the weights of a layer of another."""
    single = type(module)(inputs, H, bidirectional=True, dtype="float64", **options)
    own = {k: v for k, v in module.named_parameters() if f"_l{layer}" in k}
    for name, parameter in own.items():
        setattr(single, name.replace(f"_l{layer}", "_l0"), parameter)
    return single


@EACH
@pytest.mark.parametrize(("layers", "batch_first"), [(1, False), (3, True)])
@pytest.mark.parametrize("merge", MERGES)
def test_merging_is_what_it_is_by_hand(kind, merge, layers, batch_first):
    """Stacked layers too, with lengths, restarts, and the states of every step."""
    module = MODULES[kind](
        I, H, layers, bidirectional=True, batch_first=batch_first, merge=merge, dtype="float64"
    )
    leading = (N, T) if batch_first else (T, N)
    x = rk.tensor(numbers(*leading, I), requires_grad=True)
    state = states_for(module, 2 * layers, N, H)
    restart = states_for(module, 2 * layers, N, H, seed=1)
    call = {"lengths": LENGTHS, "reset": resets(*leading)}
    found = with_gradients(
        module,
        module(x, state, reset_state=restart, return_steps=True, **call),
        x, state, restart,
    )  # fmt: skip

    y, finals, steps, outputs_of = x, [], [], []
    packed = isinstance(state, tuple)
    for layer in range(layers):
        single = one_layer_of(module, layer, y.shape[-1], batch_first=batch_first)
        part = slice(2 * layer, 2 * layer + 2)
        own, back = (
            tuple(each[part] for each in given) if packed else given[part]
            for given in (state, restart)
        )
        both, final, every = single(y, own, reset_state=back, return_steps=True, **call)
        finals.append(flat(final))
        steps.append(every)
        outputs_of.append(both)
        forward, reverse = both[..., :H], both[..., H:]
        y = {
            "concat": both,
            "separate": both,
            "sum": forward + reverse,
            "mean": (forward + reverse) / 2,
        }[merge]
    final = tuple(rk.cat(list(parts), 0) for parts in zip(*finals, strict=True))
    states = [name for name in steps[0] if name != "y"]
    every = {name: tuple(each[name][0] for each in steps) for name in states}
    every["y"] = tuple(outputs_of[:-1])
    outputs = ((forward, reverse) if merge == "separate" else y), final, every
    assert_close(found, with_gradients(module, outputs, x, state, restart))


@EACH
@pytest.mark.parametrize("merge", ["concat", "separate"])
def test_the_last_outputs_of_each_direction(kind, merge):
    module = MODULES[kind](I, H, 2, bidirectional=True, merge=merge, dtype="float64")
    x = rk.tensor(numbers(T, N, I), requires_grad=True)
    whole, _ = module(x, lengths=LENGTHS)
    last, _ = module(x, lengths=LENGTHS, return_sequences=False)
    ends = np.maximum(np.array(LENGTHS) - 1, 0)
    forward, reverse = whole if merge == "separate" else (whole[..., :H], whole[..., H:])
    expected = [forward.numpy()[ends, range(N)], reverse.numpy()[0]]
    found = [each.numpy() for each in last] if merge == "separate" else (
        [last.numpy()[:, :H], last.numpy()[:, H:]]
    )
    for a, b in zip(found, expected, strict=True):
        np.testing.assert_array_equal(a, b)


def test_merging_sums_the_last_outputs_of_each_direction():
    for merge, factor in (("sum", 1.0), ("mean", 0.5)):
        module = nn.GRU(I, H, bidirectional=True, merge=merge, dtype="float64")
        twin = nn.GRU(I, H, bidirectional=True, dtype="float64")
        twin.load_state_dict(module.state_dict())
        x = numbers(T, N, I)
        both = twin(x, lengths=LENGTHS, return_sequences=False)[0].numpy()
        found = module(x, lengths=LENGTHS, return_sequences=False)[0].numpy()
        np.testing.assert_array_equal(found, (both[:, :H] + both[:, H:]) * factor)


def test_one_direction_has_nothing_to_merge():
    x = numbers(T, N, I)
    plain = nn.GRU(I, H, 2, dtype="float64")
    for merge in MERGES:
        module = nn.GRU(I, H, 2, merge=merge, dtype="float64")
        module.load_state_dict(plain.state_dict())
        y, _ = module(x)
        np.testing.assert_array_equal(y.numpy(), plain(x)[0].numpy())


@EACH
@pytest.mark.parametrize("batch_first", [False, True])
@pytest.mark.parametrize("return_sequences", [True, False])
def test_one_sequence_without_a_batch(kind, batch_first, return_sequences):
    module = MODULES[kind](
        I, H, 2, bidirectional=True, batch_first=batch_first, dtype="float64"
    )
    batch = 0 if batch_first else 1
    x, flags = numbers(T, I), resets(T)
    restart = states_for(module, 4, H)
    call = {"return_sequences": return_sequences, "return_steps": True}
    y, final, steps = module(x, lengths=4, reset=flags, reset_state=restart, **call)
    several = tuple(each.unsqueeze(1) for each in flat(restart))
    z, ends, every = module(
        np.expand_dims(x, batch),
        lengths=[4],
        reset=np.expand_dims(flags, batch),
        reset_state=several if len(several) > 1 else several[0],
        **call,
    )
    assert y.shape == ((T, 2 * H) if return_sequences else (2 * H,))
    np.testing.assert_array_equal(
        y.numpy(), z.numpy().squeeze(batch if return_sequences else 0)
    )
    for a, b in zip(flat(final), flat(ends), strict=True):
        np.testing.assert_array_equal(a.numpy(), b.numpy().squeeze(1))
    for a, b in zip(flat(steps), flat(every), strict=True):
        assert a.shape == (T, 2 * H)
        np.testing.assert_array_equal(a.numpy(), b.numpy().squeeze(batch))
    again, _ = module(x, lengths=[4], reset=flags, reset_state=restart, **call)[:2]
    np.testing.assert_array_equal(again.numpy(), y.numpy())
    part, _ = module(x[:4], reset=flags[:4], reset_state=restart)
    if return_sequences:
        np.testing.assert_allclose(y.numpy()[:4], part.numpy(), rtol=1e-12)
        assert not y.numpy()[4:].any()


@EACH
def test_layers_read_nothing_from_the_padding(kind):
    module = MODULES[kind](I, H, 3, bidirectional=True, dtype="float64")
    x = numbers(T, N, I)
    clean = module(x, lengths=LENGTHS)
    dirty = x.copy()
    dirty[np.arange(T)[:, None] >= LENGTHS] = np.nan
    found = rk.tensor(dirty, requires_grad=True)
    outputs = module(found, lengths=LENGTHS)
    assert_same_bits([each.numpy() for each in flat(outputs)], [e.numpy() for e in flat(clean)])
    flat(outputs)[0].sum().backward()
    assert np.isfinite(found.grad.numpy()).all()
    assert all(np.isfinite(each.grad.numpy()).all() for each in module.parameters())


@EACH
def test_every_layers_states_are_named(kind):
    module = MODULES[kind](I, H, 2, bidirectional=True, dtype="float64")
    y, final, steps = module(numbers(T, N, I), lengths=LENGTHS, return_steps=True)
    below = steps.pop("y")
    assert list(steps) == (["h", "c"] if kind == "lstm" else ["h"])
    assert all(len(each) == 2 for each in steps.values())
    np.testing.assert_array_equal(below[0].numpy(), steps["h"][0].numpy())
    assert len(below) == 1
    np.testing.assert_array_equal(steps["h"][1].numpy(), y.numpy())
    h = flat(final)[0].numpy()
    for row, length in enumerate(LENGTHS):
        for layer in range(2):
            every = steps["h"][layer].numpy()[:, row]
            ends = (every[length - 1, :H], every[0, H:]) if length else np.zeros((2, H))
            np.testing.assert_array_equal(h[2 * layer : 2 * layer + 2, row], ends)


@EACH
@pytest.mark.parametrize("memory", [1, "20KB", "1MB"])
def test_a_budget_changes_no_bit(kind, memory):
    options = {"bidirectional": True, "merge": "sum", "dtype": "float64"}
    module = MODULES[kind](I, H, 2, **options)
    short = MODULES[kind](I, H, 2, memory=memory, **options)
    short.load_state_dict(module.state_dict())
    assert f"memory={memory}" in repr(short)
    assert "memory" not in repr(module)
    for call in ({}, {"lengths": LENGTHS, "reset": resets(T, N)}, {"return_sequences": False}):
        found = []
        for each in (module, short):
            x = rk.tensor(numbers(T, N, I), requires_grad=True)
            with warnings.catch_warnings():
                warnings.simplefilter("ignore", MemoryBudgetWarning)
                found.append(with_gradients(each, each(x, **call), x))
        assert_same_bits(*found)


def test_a_budget_is_shared_by_the_layers(path):
    gru = nn.GRU(I, 32, 4, memory=1)
    with pytest.warns(MemoryBudgetWarning, match=r"a budget of 1 bytes"):
        gru(numbers(12, 8, I, dtype=np.float32))
    reasons = [each.reason for each in rk.why() if "segments of" in each.reason]
    assert len(reasons) >= 4


def test_a_cell_of_ones_own_has_all_of_it():
    class Leaky(rk.Cell):
        def __init__(self, input_size, hidden_size):
            super().__init__(input_size, hidden_size)
            self.weight = nn.Parameter(numbers(hidden_size, input_size))

        def step(self, x, state):
            h = 0.5 * state[0] + (x @ self.weight.T).tanh()
            return h, (h,)

    module = nn.Recurrent(Leaky(I, H), 2, bidirectional=True, merge="mean")
    x = rk.tensor(numbers(T, N, I), requires_grad=True)
    call = {"lengths": LENGTHS, "reset": resets(T, N), "return_steps": True}
    expected = with_gradients(module, module(x, **call), x)
    assert expected[0].shape == (T, N, H)
    assert not expected[0][4:, 0].any()
    module.memory = 1
    with pytest.warns(MemoryBudgetWarning):
        assert_same_bits(with_gradients(module, module(x, **call), x), expected)


def test_wrong_calls():
    lstm = nn.LSTM(4, 2, num_layers=2)
    x, h = np.ones((5, 3, 4), np.float32), np.ones((2, 3, 2), np.float32)
    for call, kind, message in [
        ({"lengths": [5, 6, 1]}, ArgumentError, "lengths: expected from 0 to 5, .* got 6"),
        ({"lengths": [5, -1, 1]}, ArgumentError, "lengths: .* got -1"),
        ({"lengths": [5, 5]}, ShapeError, r"lengths: expected shape \(3,\)"),
        ({"lengths": [0.5, 1, 2]}, DTypeError, "lengths: expected integers, got float64"),
        ({"reset": np.zeros((3, 5), bool)}, ShapeError, r"reset: .* \(T, N\) = \(5, 3\)"),
        ({"reset": np.zeros((5, 3))}, DTypeError, "reset: expected bool, got float64"),
        ({"reset_state": h}, ArgumentError, r"^reset_state: LSTMCell expects \(h, c\)"),
        ({"reset_state": (h, h[:1])}, ShapeError, r"reset_state: c: expected shape \(2, 3, 2\)"),
        (
            {"reset_state": (h.astype(float), h)}, DTypeError,
            "reset_state: h: expected float32",
        ),
    ]:  # fmt: skip
        with pytest.raises(kind, match=message):
            lstm(x, **call)
    with pytest.raises(ShapeError, match="lengths"):
        lstm(x[:, 0], lengths=[5, 5])
    for shape in ((4,), (5, 1), (5, 3)):
        message = re.escape(f"reset: expected shape (T,) = (5,), got {shape}")
        with pytest.raises(ShapeError, match=message):
            lstm(x[:, 0], reset=np.zeros(shape, bool))
    assert np.array_equal(lstm(x[:, 0], lengths=3)[0].data, lstm(x[:, 0], lengths=[3])[0].data)


def test_wrong_options():
    for options, message in [
        ({"merge": "max"}, "merge: expected one of concat, sum, mean, separate, got 'max'"),
        ({"merge": None}, "merge: .* got None"),
        ({"memory": "some"}, "memory: expected 'full', a number of bytes .* got 'some'"),
        ({"memory": 0}, "memory: .* got 0"),
        ({"memory": 1.5}, "memory: .* got 1.5"),
    ]:
        for make in (nn.RNN, nn.GRU, nn.LSTM):
            with pytest.raises(ArgumentError, match=message):
                make(3, 4, **options)
        with pytest.raises(ArgumentError, match=message):
            nn.Recurrent(nn.GRUCell(3, 4), **options)
