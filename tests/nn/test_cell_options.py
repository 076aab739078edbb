"""The options of the recurrent modules: names, layers, directions, lengths, seeds, modes, paths."""

import copy
import pickle

import numpy as np
import pytest
from random_numbers import numbers

import rnnkit as rk
from rnnkit import nn, optim
from rnnkit.errors import ArgumentError

MODULES = {"rnn": nn.RNN, "gru": nn.GRU, "lstm": nn.LSTM}
EACH = pytest.mark.parametrize("kind", MODULES)
OUTSIDE = {"input_dropout": 0.3, "weight_dropout": 0.4}  # of the cell: the fused kernel still runs
INSIDE = {"recurrent_dropout": 0.4, "zoneout": 0.3}
EVERY = {"proj_size": 3, "peephole": True, "coupled": True, "cell_clip": 0.4}


def states_of(result):
    return result if isinstance(result, tuple) else (result,)


def arrays(y, final):
    return [each.detach().numpy() for each in (y, *states_of(final))]


def outputs_and_gradients(module, seed, *args, **kwargs):
    """y, the final states and the gradients of every parameter, of a run from a seed."""
    rk.manual_seed(seed)
    y, final = module(*args, **kwargs)
    module.zero_grad()
    (y.square().sum() + sum(state.sum() for state in states_of(final))).backward()
    return arrays(y, final) + [each.grad.numpy() for each in module.parameters()]


def assert_equal(actual, expected, **tolerance):
    for a, b in zip(actual, expected, strict=True):
        if tolerance:
            np.testing.assert_allclose(a, b, **tolerance)
        else:
            np.testing.assert_array_equal(a, b)


def layer_paths():
    return [each.path for each in rk.why() if " layer " in each.op]


# The LSTM's equations


def test_names_and_shapes_of_the_parameters():
    module = nn.LSTM(5, 4, num_layers=2, bidirectional=True, proj_size=3, peephole=True)
    expected = {}
    for layer, size in enumerate((5, 6)):
        for suffix in ("", "_reverse"):
            shapes = {
                "weight_ih": (16, size), "weight_hh": (16, 3), "bias_ih": (16,), "bias_hh": (16,),
                "weight_hr": (3, 4), "weight_ci": (4,), "weight_cf": (4,), "weight_co": (4,),
            }  # fmt: skip
            expected |= {f"{name}_l{layer}{suffix}": shape for name, shape in shapes.items()}
    found = {name: value.shape for name, value in module.state_dict().items()}
    assert list(found.items()) == list(expected.items())
    coupled = nn.LSTM(5, 4, bias=False, coupled=True, peephole=True).state_dict()
    assert {name: value.shape for name, value in coupled.items()} == {
        "weight_ih_l0": (12, 5), "weight_hh_l0": (12, 4), "weight_cf_l0": (4,), "weight_co_l0": (4,)
    }  # fmt: skip


def test_proj_size_is_where_pytorch_has_it():
    module = nn.LSTM(5, 4, 2, True, False, 0.0, False, 3)
    assert module.proj_size == 3


def test_repr():
    module = nn.LSTM(5, 4, 2, bias=False, proj_size=3, peephole=True, cell_clip=2, **OUTSIDE)
    assert repr(module) == (
        "LSTM(5, 4, proj_size=3, num_layers=2, bias=False, peephole=True, cell_clip=2.0, "
        "input_dropout=0.3, weight_dropout=0.4)"
    )
    assert repr(nn.GRU(5, 4, **INSIDE)) == "GRU(5, 4, recurrent_dropout=0.4, zoneout=0.3)"
    assert repr(nn.LSTM(5, 4, 3, coupled=True, zoneout=(0.1, 0))) == (
        "LSTM(5, 4, num_layers=3, zoneout=(0.1, 0.0), coupled=True)"
    )


@pytest.mark.parametrize("merge", ["concat", "sum"])
@pytest.mark.parametrize("backend", ["python", "auto"])
def test_projected_layers_are_runs_one_after_the_other(backend, merge):
    options = {"bidirectional": True, "merge": merge, "dtype": "float64", **EVERY}
    stacked = nn.LSTM(4, 5, 2, **options)
    h, c, x = numbers(4, 2, 3), numbers(4, 2, 5), numbers(6, 2, 4)
    lengths = [6, 3]
    with rk.backend(backend):
        y, (h_n, c_n) = stacked(x, (h, c), lengths=lengths)
        inputs, ends = x, []
        for layer in range(2):
            single = nn.LSTM(inputs.shape[-1], 5, **options)
            names = [name for name in stacked.state_dict() if f"_l{layer}" in name]
            single.load_state_dict(
                {name.replace(f"_l{layer}", "_l0"): stacked.state_dict()[name] for name in names}
            )
            part = slice(2 * layer, 2 * layer + 2)
            inputs, end = single(inputs, (h[part], c[part]), lengths=lengths)
            ends.append(end)
    assert y.shape == (6, 2, 3 if merge == "sum" else 6)
    assert h_n.shape == (4, 2, 3)
    assert c_n.shape == (4, 2, 5)
    expected = [rk.cat(list(parts)) for parts in zip(*ends, strict=True)]
    assert_equal(arrays(y, (h_n, c_n)), arrays(inputs, tuple(expected)))


@pytest.mark.parametrize("batch_first", [False, True])
def test_last_outputs_and_states_of_every_step_of_a_projection(batch_first):
    module = nn.LSTM(4, 5, 2, batch_first=batch_first, bidirectional=True, dtype="float64", **EVERY)
    x, lengths = numbers(6, 3, 4), np.array([4, 6, 0])
    reset = np.zeros((6, 3), bool)
    reset[2, 1] = True
    x, reset = (x.swapaxes(0, 1), reset.T) if batch_first else (x, reset)
    y, (h, c), steps = module(x, lengths=lengths, reset=reset, return_steps=True)
    time = 1 if batch_first else 0
    assert [each.shape[-1] for each in (*steps["h"], *steps["c"])] == [6, 6, 10, 10]
    np.testing.assert_array_equal(steps["h"][1].detach().numpy(), y.detach().numpy())
    every_c = np.moveaxis(steps["c"][1].detach().numpy(), time, 0)
    np.testing.assert_array_equal(every_c[5, 1, :5], c.detach().numpy()[2, 1])
    np.testing.assert_array_equal(every_c[0, :2, 5:], c.detach().numpy()[3, :2])
    last, _ = module(x, lengths=lengths, reset=reset, return_sequences=False)
    assert last.shape == (3, 6)
    np.testing.assert_array_equal(last.detach().numpy()[:2, :3], h.detach().numpy()[2, :2])
    assert not last.detach().numpy()[2].any()


def test_a_clipped_cell_state_passes_no_gradient():
    module = nn.LSTM(2, 3, cell_clip=0.25, dtype="float64")
    c0 = rk.tensor(np.array([[[9.0, 0.01, -9.0]]]), requires_grad=True)
    for parameter in module.parameters():
        parameter.data *= 0.1
    y, (_, c) = module(numbers(1, 1, 2), (np.zeros((1, 1, 3)), c0))
    np.testing.assert_array_equal(c.detach().numpy()[0, 0, ::2], [0.25, -0.25])
    (y.sum() + c.sum()).backward()
    np.testing.assert_array_equal(c0.grad.numpy()[0, 0] != 0, [False, True, False])


@pytest.mark.parametrize(
    "copy_of", [copy.deepcopy, lambda module: pickle.loads(pickle.dumps(module))]
)
def test_copies_keep_their_options(copy_of):
    module = nn.LSTM(4, 5, 2, dtype="float64", **EVERY, **OUTSIDE, **INSIDE)
    twin = copy_of(module)
    results = [outputs_and_gradients(each, 5, numbers(3, 2, 4)) for each in (module, twin)]
    assert_equal(*results)
    assert_equal(
        arrays(*twin.eval()(numbers(3, 2, 4))), arrays(*module.eval()(numbers(3, 2, 4)))
    )


def test_an_optimiser_step_with_everything_on():
    module = nn.LSTM(4, 5, 2, dtype="float64", **EVERY, **OUTSIDE, **INSIDE)
    before = module.state_dict()
    outputs_and_gradients(module, 1, numbers(6, 3, 4))
    optim.SGD(module.parameters(), lr=0.1).step()
    assert all(np.any(before[name] != value) for name, value in module.state_dict().items())


# Regularisers


@EACH
@pytest.mark.parametrize("batch_first", [False, True])
def test_dropped_inputs_are_inputs_times_one_mask(kind, batch_first):
    options = {"num_layers": 2, "batch_first": batch_first, "bidirectional": True}
    module = MODULES[kind](4, 5, **options, input_dropout=0.5, dtype="float64")
    x = numbers(3, 6, 4) if batch_first else numbers(6, 3, 4)
    rk.manual_seed(8)
    y, final = module(x)
    rk.manual_seed(8)
    masks = [
        rk.dropout(rk.ones((3, 1, size) if batch_first else (1, 3, size), dtype="float64"), 0.5)
        for size in (4, 10)
    ]
    inputs, ends = rk.tensor(x), []
    for layer, size in enumerate((4, 10)):
        single = MODULES[kind](size, 5, 1, batch_first=batch_first, bidirectional=True)
        single.to("float64").load_state_dict({
            name.replace(f"_l{layer}", "_l0"): value
            for name, value in module.state_dict().items()
            if f"_l{layer}" in name
        })
        inputs, end = single(inputs * masks[layer])
        ends.append(states_of(end))
    expected = tuple(rk.cat(list(parts)) for parts in zip(*ends, strict=True))
    assert_equal(arrays(y, final), arrays(inputs, expected))


@EACH
def test_dropped_weights_are_drawn_for_each_layer_and_direction(kind):
    options = {"num_layers": 2, "bidirectional": True, "dtype": "float64"}
    module = MODULES[kind](4, 5, **options, weight_dropout=0.5)
    plain = MODULES[kind](4, 5, **options)
    found = outputs_and_gradients(module, 8, numbers(6, 3, 4))
    rk.manual_seed(8)
    weights, masks = module.state_dict(), {}
    for name in weights:
        if name.startswith("weight_hh"):
            masks[name] = rk.dropout(rk.ones(weights[name].shape, dtype="float64"), 0.5).numpy()
            weights[name] = weights[name] * masks[name]
    assert len({mask.tobytes() for mask in masks.values()}) == 4
    plain.load_state_dict(weights)
    expected = outputs_and_gradients(plain, 8, numbers(6, 3, 4))
    for number, name in enumerate(weights, start=len(expected) - len(weights)):
        expected[number] = expected[number] * masks.get(name, 1)
    assert_equal(found, expected, rtol=1e-13, atol=1e-15)


@EACH
def test_the_fused_kernel_runs_with_inputs_and_weights_dropped(kind):
    module = MODULES[kind](4, 5, 2, bidirectional=True, dropout=0.2, dtype="float64", **OUTSIDE)
    results, states = [], []
    for backend in ("python", "native"):
        with rk.backend(backend):
            more = {"lengths": [6, 2, 4], "reset": numbers(6, 3) > 0.8}
            results.append(outputs_and_gradients(module, 3, numbers(6, 3, 4), **more))
            states.append(rk.generator().bit_generator.state)
            assert layer_paths()[-2:] == ["fused" if backend == "native" else "python"] * 2
    assert_equal(*results, rtol=1e-9, atol=1e-12)
    assert states[0] == states[1]


@EACH
def test_double_backward_sees_the_dropped_weights(kind):
    module = MODULES[kind](2, 3, dtype="float64", **OUTSIDE)
    found = []
    for backend in ("python", "native"):
        with rk.backend(backend):
            rk.manual_seed(4)
            x = rk.tensor(numbers(3, 2, 2), requires_grad=True)
            y, _ = module(x)
            (d_x,) = rk.grad(y.square().sum(), x, create_graph=True)
            found.append(rk.grad(d_x.square().sum(), module.weight_hh_l0)[0].numpy())
    np.testing.assert_allclose(found[1], found[0], rtol=1e-9, atol=1e-12)


@EACH
@pytest.mark.parametrize("backend", ["python", "auto"])
@pytest.mark.parametrize("dtype", ["float32", "float64"])
def test_a_seed_repeats_a_run_bit_for_bit(kind, backend, dtype):
    module = MODULES[kind](4, 5, 2, bidirectional=True, dtype=dtype, **OUTSIDE, **INSIDE)
    x = numbers(6, 3, 4, dtype=dtype)
    with rk.backend(backend):
        first, again, other = (outputs_and_gradients(module, seed, x) for seed in (6, 6, 7))
    assert_equal(again, first)
    assert not np.array_equal(other[0], first[0])


@EACH
def test_two_calls_draw_two_masks(kind):
    for options in (*({name: p} for name, p in (OUTSIDE | INSIDE).items()), OUTSIDE | INSIDE):
        module = MODULES[kind](4, 5, dtype="float64", **options)
        first, second = (module(numbers(6, 3, 4))[0].detach().numpy() for _ in range(2))
        assert not np.array_equal(first, second), options


@EACH
def test_in_evaluation_nothing_is_dropped_and_the_fused_kernel_runs(kind):
    options = {"recurrent_dropout": 0.5, **OUTSIDE}
    module = MODULES[kind](4, 5, 2, bidirectional=True, dtype="float64", **options)
    plain = MODULES[kind](4, 5, 2, bidirectional=True, dtype="float64")
    plain.load_state_dict(module.state_dict())
    x = numbers(6, 3, 4)
    module.eval()
    before = rk.generator().bit_generator.state
    with rk.backend("native"):
        assert_equal(arrays(*module(x)), arrays(*plain(x)))
    assert rk.generator().bit_generator.state == before
    assert not np.array_equal(module.train()(x)[0].detach().numpy(), plain(x)[0].detach().numpy())


@EACH
def test_zoneout_in_evaluation_is_its_expectation(kind):
    module = MODULES[kind](4, 5, dtype="float64", zoneout=0.25).eval()
    plain = MODULES[kind](4, 5, dtype="float64")
    plain.load_state_dict(module.state_dict())
    state = tuple(numbers(1, 3, 5) for _ in ("h", "c")[: 2 if kind == "lstm" else 1])
    given = state if kind == "lstm" else state[0]
    _, final = module(numbers(1, 3, 4), given)
    _, new = plain(numbers(1, 3, 4), given)
    for end, old, after in zip(states_of(final), state, states_of(new), strict=True):
        expected = 0.25 * old + 0.75 * after.detach().numpy()
        np.testing.assert_allclose(end.detach().numpy(), expected, rtol=1e-13)


@EACH
def test_a_row_has_its_own_masks_whatever_the_lengths(kind):
    """Two equal rows differ, and a row's steps do not change when another row ends early."""
    module = MODULES[kind](4, 5, bidirectional=True, dtype="float64", **OUTSIDE, **INSIDE)
    x = np.repeat(numbers(6, 1, 4), 3, axis=1)
    rk.manual_seed(1)
    whole = module(x)[0].detach().numpy()
    assert not np.array_equal(whole[:, 0], whole[:, 1])
    rk.manual_seed(1)
    ragged = module(x, lengths=[6, 2, 6])[0].detach().numpy()
    np.testing.assert_array_equal(ragged[:, ::2], whole[:, ::2])
    np.testing.assert_array_equal(ragged[:2, 1, :5], whole[:2, 1, :5])
    assert not ragged[2:, 1].any()


def test_one_sequence_without_a_batch_and_empty_ones():
    module = nn.LSTM(4, 5, 2, dtype="float64", **EVERY, **OUTSIDE, **INSIDE)
    rk.manual_seed(1)
    y, (h, c) = module(numbers(6, 4))
    rk.manual_seed(1)
    z, _ = module(numbers(6, 4)[:, None])
    assert_equal([y.detach().numpy()], [z.detach().numpy()[:, 0]])
    assert (h.shape, c.shape) == ((2, 3), (2, 5))
    assert module(numbers(0, 2, 4))[0].shape == (0, 2, 3)
    assert module(numbers(6, 0, 4))[0].shape == (6, 0, 3)


class Scaled(rk.Cell):
    """A cell of one's own that has a weight_hh."""

    def __init__(self, input_size, hidden_size):
        super().__init__(input_size, hidden_size)
        self.weight_hh = nn.Parameter(np.ones((hidden_size, hidden_size), np.float32))

    def step(self, x, state):
        h = x[:, : self.hidden_size] + state[0] @ self.weight_hh
        return h, (h,)


def test_inputs_and_weights_of_any_cell_are_dropped():
    module = nn.Recurrent(Scaled(3, 3), weight_dropout=0.5)
    x = np.zeros((2, 1, 3), np.float32)
    x[0] = 1
    rk.manual_seed(2)
    weight = rk.dropout(rk.ones(3, 3), 0.5).numpy()
    rk.manual_seed(2)
    y = module(x)[0].detach().numpy()
    np.testing.assert_array_equal(y[1, 0], weight.sum(0))
    y = nn.Recurrent(Scaled(3, 3), input_dropout=1.0)(x)[0].detach().numpy()
    assert not y.any()


def test_wrong_options():
    class Bare(rk.Cell):
        """Has no weights."""

    for make, message in [
        (lambda: nn.LSTM(3, 4, proj_size=5), "proj_size: expected less than hidden_size"),
        (lambda: nn.LSTM(3, 4, cell_clip=-1.0), "cell_clip: expected a number > 0"),
        (lambda: nn.GRU(3, 4, input_dropout=2), "input_dropout: .* 0 to 1, got 2"),
        (lambda: nn.RNN(3, 4, weight_dropout=-0.1), "weight_dropout: .* 0 to 1, got -0.1"),
        (lambda: nn.GRU(3, 4, zoneout=(0.1, 0.2)), "zoneout: expected a probability"),
        (lambda: nn.Recurrent(Bare(3, 4), weight_dropout=0.1), "Bare has no weight_hh"),
    ]:
        with pytest.raises(ArgumentError, match=message):
            make()
