"""nn.RNN, nn.GRU, nn.LSTM and nn.Recurrent: names, layers, directions, states, dropout, copies."""

import copy
import pickle
import warnings

import numpy as np
import pytest
from random_numbers import numbers

import rnnkit as rk
from rnnkit import nn
from rnnkit.errors import ArgumentError, DTypeError, ShapeError

MODULES = {"rnn": (nn.RNN, 1), "gru": (nn.GRU, 3), "lstm": (nn.LSTM, 4)}
EACH = pytest.mark.parametrize("kind", MODULES)


pytestmark = pytest.mark.usefixtures("path")


def initial_state(module, *shape, dtype=np.float64):
    count = 2 if isinstance(module, nn.LSTM) else 1
    states = [rk.tensor(numbers(*shape, k + 1, dtype=dtype)[..., k]) for k in range(count)]
    return states[0] if count == 1 else tuple(states)


def arrays(*results):
    """Every tensor in nested tuples, as arrays in order."""
    found = []
    for result in results:
        if isinstance(result, tuple):
            found += arrays(*result)
        else:
            found.append(result.detach().numpy())
    return found


def assert_equal(actual, expected, **tolerance):
    for a, b in zip(arrays(*actual), arrays(*expected), strict=True):
        if tolerance:
            np.testing.assert_allclose(a, b, **tolerance)
        else:
            np.testing.assert_array_equal(a, b)


@EACH
def test_names_and_shapes_of_the_parameters_are_those_of_pytorch(kind):
    make, gates = MODULES[kind]
    module = make(5, 3, num_layers=2, bidirectional=True)
    G = gates * 3
    expected = {}
    for layer, size in enumerate((5, 6)):
        for suffix in ("", "_reverse"):
            expected |= {
                f"weight_ih_l{layer}{suffix}": (G, size),
                f"weight_hh_l{layer}{suffix}": (G, 3),
                f"bias_ih_l{layer}{suffix}": (G,),
                f"bias_hh_l{layer}{suffix}": (G,),
            }
    found = {name: value.shape for name, value in module.state_dict().items()}
    assert list(found.items()) == list(expected.items())
    assert list(dict(module.named_parameters())) == list(expected)
    assert list(module.children()) == []
    bare = make(5, 3, bias=False)
    assert list(bare.state_dict()) == ["weight_ih_l0", "weight_hh_l0"]


@EACH
def test_default_initialisation_is_uniform_within_one_over_root_h(kind):
    make, _ = MODULES[kind]
    for parameter in make(40, 25, num_layers=2).parameters():
        assert 0.1 < np.abs(parameter.data).max() <= 0.2
        assert abs(parameter.data.mean()) < 0.06


def test_positional_arguments_are_in_the_order_of_pytorch():
    lstm = nn.LSTM(5, 3, 2, False, True, 0.5, True)
    gru = nn.GRU(5, 3, 2, False, True, 0.5, True)
    rnn = nn.RNN(5, 3, 2, "relu", False, True, 0.5, True)
    for module in (lstm, gru, rnn):
        values = (module.input_size, module.hidden_size, module.num_layers, module.bias)
        assert values == (5, 3, 2, False)
        assert (module.batch_first, module.dropout, module.bidirectional) == (True, 0.5, True)
    assert rnn.nonlinearity == "relu"
    assert gru.reset_after


def test_repr_reads_like_pytorch():
    options = {"num_layers": 2, "batch_first": True, "dropout": 0.1, "bidirectional": True}
    assert repr(nn.LSTM(64, 128)) == "LSTM(64, 128)"
    assert repr(nn.GRU(4, 8, bias=False, **options)) == (
        "GRU(4, 8, num_layers=2, bias=False, batch_first=True, dropout=0.1, bidirectional=True)"
    )
    assert repr(nn.RNN(4, 8, nonlinearity="relu")) == "RNN(4, 8, nonlinearity=relu)"
    assert repr(nn.GRU(4, 8, reset_after=False)) == "GRU(4, 8, reset_after=False)"
    recurrent = nn.Recurrent(nn.LSTMCell(4, 8), num_layers=2)
    assert repr(recurrent) == "Recurrent(LSTMCell(4, 8), num_layers=2)"
    assert "(0): LSTM(4, 8)" in repr(nn.Sequential(nn.LSTM(4, 8)))


@EACH
@pytest.mark.parametrize("bidirectional", [False, True])
def test_layers_are_runs_one_after_the_other(kind, bidirectional):
    make, _ = MODULES[kind]
    D = 2 if bidirectional else 1
    stacked = make(4, 5, 3, bidirectional=bidirectional, dtype="float64")
    state = initial_state(stacked, 3 * D, 2, 5)
    y, final = stacked(numbers(6, 2, 4), state)
    states = state if isinstance(state, tuple) else (state,)
    x, finals = rk.tensor(numbers(6, 2, 4)), []
    for layer in range(3):
        single = make(x.shape[-1], 5, bidirectional=bidirectional, dtype="float64")
        names = [name for name in stacked.state_dict() if f"_l{layer}" in name]
        single.load_state_dict(
            {name.replace(f"_l{layer}", "_l0"): stacked.state_dict()[name] for name in names}
        )
        part = tuple(each[layer * D : (layer + 1) * D] for each in states)
        x, end = single(x, part if len(part) > 1 else part[0])
        finals.append(end if isinstance(end, tuple) else (end,))
    joined = tuple(rk.cat(list(parts)) for parts in zip(*finals, strict=True))
    assert_equal((y, final), (x, joined if len(joined) > 1 else joined[0]))


@EACH
def test_batch_first_swaps_the_axes_of_x_and_y_only(kind):
    make, _ = MODULES[kind]
    module = make(4, 5, 2, bidirectional=True, dtype="float64")
    twin = make(4, 5, 2, bidirectional=True, batch_first=True, dtype="float64")
    twin.load_state_dict(module.state_dict())
    state = initial_state(module, 4, 3, 5)
    y, final = module(numbers(6, 3, 4), state)
    z, end = twin(numbers(6, 3, 4).swapaxes(0, 1), state)
    assert z.shape == (3, 6, 10)
    assert_equal((z.swapaxes(0, 1), end), (y, final), rtol=1e-13, atol=1e-15)


@EACH
@pytest.mark.parametrize("batch_first", [False, True])
def test_one_sequence_without_a_batch(kind, batch_first):
    make, _ = MODULES[kind]
    module = make(4, 5, 2, batch_first=batch_first, bidirectional=True, dtype="float64")
    x = numbers(6, 4)
    y, final = module(x)
    assert y.shape == (6, 10)
    assert all(end.shape == (4, 5) for end in arrays(final))
    batch = 0 if batch_first else 1
    z, end = module(np.expand_dims(x, batch))
    ends = tuple(e.squeeze(1) for e in end) if isinstance(end, tuple) else end.squeeze(1)
    assert_equal((y, final), (z.squeeze(batch), ends))
    again, _ = module(x, final)
    assert again.shape == (6, 10)
    assert not np.array_equal(arrays(again)[0], arrays(y)[0])


@EACH
def test_without_a_state_it_starts_from_zero(kind):
    make, _ = MODULES[kind]
    module = make(4, 5, 2, bidirectional=True, dtype="float64")
    zeros = np.zeros((4, 3, 5))
    state = (zeros, zeros) if kind == "lstm" else zeros
    assert_equal(module(numbers(6, 3, 4)), module(numbers(6, 3, 4), state))


@EACH
def test_the_final_state_is_the_output_at_the_ends(kind):
    make, _ = MODULES[kind]
    y, final = make(4, 5, bidirectional=True, dtype="float64")(numbers(6, 3, 4))
    h = arrays(final)[0]
    np.testing.assert_array_equal(h[0], y.detach().numpy()[-1, :, :5])
    np.testing.assert_array_equal(h[1], y.detach().numpy()[0, :, 5:])


@EACH
def test_recurrent_with_the_cell_is_the_module(kind):
    make, _ = MODULES[kind]
    module = make(4, 5, 2, bidirectional=True, dtype="float64")
    cell = {"rnn": nn.RNNCell, "gru": nn.GRUCell, "lstm": nn.LSTMCell}[kind]
    general = nn.Recurrent(cell(4, 5, dtype="float64"), 2, bidirectional=True)
    general.load_state_dict(module.state_dict())
    assert_equal(general(numbers(6, 3, 4)), module(numbers(6, 3, 4)))


def test_the_cell_given_is_the_first_layer_and_shares_its_parameters():
    cell = nn.GRUCell(4, 5)
    module = nn.Recurrent(cell, num_layers=2)
    assert module.weight_ih_l0 is cell.weight_ih
    cell.weight_ih.data[...] = 0
    assert not module.state_dict()["weight_ih_l0"].any()


@EACH
def test_dropout_acts_between_layers_in_training_only(kind):
    make, _ = MODULES[kind]
    module = make(4, 5, 2, dropout=0.5, dtype="float64")
    x = numbers(6, 3, 4)
    first, second = (module(x)[0].detach().numpy() for _ in range(2))
    assert not np.array_equal(first, second)
    rk.manual_seed(3)
    first = module(x)[0].detach().numpy()
    rk.manual_seed(3)
    np.testing.assert_array_equal(module(x)[0].detach().numpy(), first)
    module.eval()
    plain = make(4, 5, 2, dtype="float64")
    plain.load_state_dict(module.state_dict())
    assert_equal(module(x), plain(x))


def test_dropping_everything_silences_what_the_second_layer_reads():
    module = nn.RNN(3, 4, 2, nonlinearity="relu", dropout=1.0, dtype="float64")
    y, _ = module(numbers(5, 2, 3))
    module.eval()
    module.weight_ih_l1.data[...] = 0
    silent, _ = module(numbers(5, 2, 3))
    np.testing.assert_array_equal(y.detach().numpy(), silent.detach().numpy())


def test_dropout_on_a_single_layer_warns():
    with pytest.warns(UserWarning, match="num_layers is 1") as record:
        nn.LSTM(3, 4, dropout=0.2)
    assert record[0].filename == __file__
    with pytest.warns(UserWarning, match="num_layers is 1") as record:
        nn.Recurrent(nn.LSTMCell(3, 4), dropout=0.2)
    assert record[0].filename == __file__
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        nn.LSTM(3, 4, 2, dropout=0.2)


@EACH
@pytest.mark.parametrize(
    "copy_of", [copy.deepcopy, lambda module: pickle.loads(pickle.dumps(module))]
)
def test_copies_keep_their_layers_and_their_parameters_together(kind, copy_of):
    make, _ = MODULES[kind]
    module = make(4, 5, 2, bidirectional=True, dtype="float64")
    twin = copy_of(module)
    x = numbers(6, 3, 4)
    assert_equal(twin(x), module(x))
    before = module(x)
    for parameter in twin.parameters():
        parameter.data[...] = 0
    assert not twin(x)[0].detach().numpy().any()
    assert_equal(module(x), before)


@EACH
def test_what_a_shallow_copy_is_given_is_not_the_originals(kind):
    make, _ = MODULES[kind]
    module = make(4, 5, 2, bidirectional=True, dtype="float64")
    x = numbers(6, 3, 4)
    before = module(x)
    twin = copy.copy(module)
    assert twin.weight_ih_l1_reverse is module.weight_ih_l1_reverse
    assert_equal(twin(x), before)
    for name, parameter in module.named_parameters():
        setattr(twin, name, nn.Parameter(np.zeros_like(parameter.data)))
    twin.eval()
    assert not twin(x)[0].detach().numpy().any()
    assert_equal(module(x), before)
    assert module.layers[0][0].training


@EACH
def test_a_parameter_may_be_replaced(kind):
    make, _ = MODULES[kind]
    module = make(4, 5, dtype="float64")
    new = nn.Parameter(np.zeros_like(module.weight_hh_l0.data))
    module.weight_hh_l0 = new
    x = numbers(1, 3, 4)
    expected, _ = module(x)
    state = initial_state(module, 1, 3, 5)
    if kind == "lstm":
        state = (state[0], rk.zeros(1, 3, 5, dtype="float64"))
        np.testing.assert_array_equal(
            module(x, state)[0].detach().numpy(), expected.detach().numpy()
        )
    y, _ = module(x, state)
    y.sum().backward()
    assert module.weight_hh_l0 is new
    assert new.grad is not None


def test_a_parameter_is_what_its_layer_computes_with_however_it_came():
    module = nn.GRU(4, 5, num_layers=2)
    new = nn.Parameter(np.zeros((15, 5), np.float32))
    module.register_parameter("weight_hh_l1", new)
    module(numbers(6, 3, 4, dtype="float32"))[0].sum().backward()
    assert new.grad is not None
    with pytest.raises(AttributeError, match="weight_hh_l1: a cell computes with it"):
        del module.weight_hh_l1
    assert module.weight_hh_l1 is new
    module.note = 1
    del module.note


@EACH
def test_to_another_precision_and_back(kind):
    make, _ = MODULES[kind]
    module = make(4, 5, 2)
    x = numbers(6, 3, 4)
    single = module(x.astype(np.float32))[0]
    assert single.dtype == np.float32
    module.to(np.float64)
    double = module(x)[0]
    assert double.dtype == np.float64
    np.testing.assert_allclose(single.detach().numpy(), double.detach().numpy(), atol=1e-5)


@EACH
def test_an_optimiser_step_changes_the_outputs(kind):
    make, _ = MODULES[kind]
    module = make(4, 5, dtype="float64")
    losses = []
    for _ in range(5):
        y, _ = module(numbers(6, 3, 4))
        loss = y.square().mean()
        losses.append(loss.item())
        module.zero_grad()
        loss.backward()
        for parameter in module.parameters():
            parameter.data -= 0.5 * parameter.grad.data
    assert losses == sorted(losses, reverse=True)
    assert losses[-1] < 0.9 * losses[0]


def f32(*shape):
    return np.ones(shape, np.float32)


def test_wrong_inputs():
    lstm = nn.LSTM(4, 2, num_layers=2)
    h = f32(2, 3, 2)
    another = type("Tensor", (), {"__module__": "torch"})()
    for x, state, kind, message in [
        (f32(4), None, ShapeError, r"x: expected axes \(T, I\) or \(T, N, I\), got shape \(4,\)"),
        (f32(5, 3, 6), None, ShapeError, r"x: expected 4 features .* \(5, 3, 6\)"),
        (np.ones((5, 3, 4)), None, DTypeError, "x: expected float32 .* got float64"),
        (np.ones((5, 3, 4), int), None, DTypeError, "x: expected float32 .* got int64"),
        ([[1.0]], None, DTypeError, "x: expected a Tensor or a NumPy array, got list"),
        (another, None, DTypeError, "x: expected a Tensor or a NumPy array, got torch.Tensor"),
        (f32(5, 3, 4), h, ArgumentError, r"state: LSTMCell expects \(h, c\), got one tensor"),
        (f32(5, 3, 4), (h, h[:1]), ShapeError, r"c: expected shape \(2, 3, 2\), got \(1, 3, 2\)"),
        (f32(5, 4), (h, h), ShapeError, r"h: expected shape \(2, 2\), got \(2, 3, 2\)"),
        (f32(5, 3, 4), (h, h.astype(float)), DTypeError, "c: expected float32 .* got float64"),
    ]:
        with pytest.raises(kind, match=message):
            lstm(x, state)
    with pytest.raises(ShapeError, match=r"\(N, T, I\)"):
        nn.GRU(4, 2, batch_first=True)(f32(1, 5, 3, 4))
    with pytest.raises(ShapeError, match="reset: expected"):
        lstm(f32(5, 4), reset=True)


def test_wrong_options():
    cell = nn.LSTMCell(3, 4)
    for make, kind, message in [
        (lambda: nn.LSTM(0, 4), ArgumentError, "input_size: expected at least 1, got 0"),
        (lambda: nn.GRU(3, "4"), ArgumentError, "hidden_size: expected an int, got '4'"),
        (lambda: nn.RNN(3, 4, 0), ArgumentError, "num_layers: expected at least 1, got 0"),
        (lambda: nn.RNN(3, 4, 1, True), ArgumentError, "nonlinearity: expected 'tanh' or 'relu'"),
        (lambda: nn.LSTM(3, 4, 2, 1), ArgumentError, "bias: expected a bool, got 1"),
        (lambda: nn.LSTM(3, 4, batch_first="no"), ArgumentError, "batch_first: expected a bool"),
        (lambda: nn.LSTM(3, 4, 2, dropout=1.5), ArgumentError, "dropout: .* 0 to 1, got 1.5"),
        (lambda: nn.LSTM(3, 4, 2, dropout=True), ArgumentError, "dropout: .* got True"),
        (lambda: nn.LSTM(3, 4, bidirectional=2), ArgumentError, "bidirectional: expected a bool"),
        (lambda: nn.LSTM(3, 4, dtype="int8"), DTypeError, "dtype: expected float32 or float64"),
        (lambda: nn.Recurrent("lstm"), ArgumentError, "cell: expected a Cell object, got str"),
        (lambda: nn.Recurrent(nn.LSTMCell), ArgumentError, "cell: expected a Cell object"),
        (lambda: nn.Recurrent(cell, 2.0), ArgumentError, "num_layers: expected an int, got 2.0"),
        (lambda: nn.LSTM(3, 4, merge=np.ones(2)), ArgumentError, "merge: expected one of concat"),
        (lambda: nn.LSTM(3, 4, memory=np.ones(2)), ArgumentError, "memory: expected 'full'"),
        (lambda: nn.LSTM(3, 4, proj_size=np.ones(2)), ArgumentError, "proj_size: expected an int"),
        (
            lambda: nn.LSTM(3, 4)(rk.zeros(2, 1, 3), return_sequences="no"), ArgumentError,
            "return_sequences: expected a bool",
        ),
        (
            lambda: nn.LSTM(3, 4)(rk.zeros(2, 1, 3), return_steps=2), ArgumentError,
            "return_steps: expected a bool",
        ),
    ]:
        with pytest.raises(kind, match=message):
            make()


class Momentum(rk.Cell):
    """Two states of its own, a submodule and a buffer: what a user's cell may have."""

    state_names = ("h", "v")

    def __init__(self, input_size, hidden_size, decay=0.9):
        super().__init__(input_size, hidden_size)
        self.inner = nn.Linear(input_size + hidden_size, hidden_size)
        self.register_buffer("decay", rk.full((hidden_size,), decay))

    def initial_state(self, batch):
        h, v = super().initial_state(batch)
        return h + 0.5, v

    def step(self, x, state):
        h, v = state
        v = self.decay * v + self.inner(rk.cat([x, h], 1)).tanh()
        h = h + 0.1 * v
        return (2 * h if self.training else h), (h, v)


def test_a_cell_of_ones_own_in_layers_and_both_ways():
    module = nn.Recurrent(Momentum(3, 4, decay=0.5), num_layers=2, bidirectional=True)
    assert list(module.state_dict())[:2] == ["inner_weight_l0", "inner_bias_l0"]
    assert "decay_l1_reverse" in module.state_dict()
    assert module.inner_weight_l1.shape == (4, 12)
    module.eval()
    x = numbers(5, 2, 3, dtype=np.float32)
    y, (h, v) = module(x)
    assert y.shape == (5, 2, 8)
    assert h.shape == v.shape == (4, 2, 4)
    np.testing.assert_array_equal(h.detach().numpy()[2], y.detach().numpy()[-1, :, :4])
    np.testing.assert_array_equal(h.detach().numpy()[3], y.detach().numpy()[0, :, 4:])

    state = {name: value for name, value in module.state_dict().items() if "_l0" in name}
    h0, v0 = np.full((2, 4), 0.5), np.zeros((2, 4))
    for t in range(5):
        inner = np.concatenate([x[t], h0], 1) @ state["inner_weight_l0"].T + state["inner_bias_l0"]
        v0 = 0.5 * v0 + np.tanh(inner)
        h0 = h0 + 0.1 * v0
    np.testing.assert_allclose(h.detach().numpy()[0], h0, rtol=1e-5)

    twin = nn.Recurrent(Momentum(3, 4), num_layers=2, bidirectional=True).eval()
    twin.load_state_dict(module.state_dict())
    assert_equal(twin(x), (y, (h, v)))
    module.train()
    assert not np.array_equal(module(x)[0].detach().numpy(), y.detach().numpy())
    y, _ = module(x)
    y.sum().backward()
    assert all(parameter.grad is not None for parameter in module.parameters())


def test_parameters_are_drawn_anew_in_every_layer_and_direction():
    """A loop that resets all children that can be must not pass over recurrent ones."""
    lstm = nn.LSTM(3, 4, 2, bidirectional=True)
    before = lstm.state_dict()
    rk.manual_seed(1)
    lstm.reset_parameters()
    lstm.flatten_parameters()
    for name, value in lstm.state_dict().items():
        assert not np.array_equal(value, before[name]), name
        assert np.abs(value).max() <= 0.5
    first = lstm.state_dict()
    rk.manual_seed(1)
    lstm.reset_parameters()
    assert all(np.array_equal(first[name], value) for name, value in lstm.state_dict().items())
