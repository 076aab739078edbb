"""Recurrent dropout and zoneout: equations, masks, statistics, seeds, modes."""

from inspect import signature

import numpy as np
import pytest
from cell_equations import BY_HAND

import rnnkit as rk
from rnnkit.cells import CELLS, GRUCell, LSTMCell, RNNCell
from rnnkit.recurrent import run_layer

T, N, I, H = 5, 3, 2, 4
NOISY = {"recurrent_dropout": 0.4, "zoneout": 0.3}
VARIANTS = [
    pytest.param(name, options, id="-".join([name, *(f"{k}={v}" for k, v in options.items())]))
    for name in BY_HAND
    for options in CELLS[name].variants
]
NOISES = [
    pytest.param(noise, id="-".join(noise))
    for noise in ({"recurrent_dropout": 0.4}, {"zoneout": 0.3}, NOISY)
]


def make(name, options, directions=1):
    cells = [CELLS[name](I, H, dtype="float64", **options) for _ in range(directions)]
    random = np.random.default_rng(7)
    for cell in cells:
        for parameter in cell.parameters():
            parameter.data[...] = random.normal(0, 0.7, parameter.shape)
    x = random.standard_normal((T, N, I))
    state = tuple(random.standard_normal((directions, N, *row)) for row in cells[0].state_shapes)
    return cells, x, state


def zoned(keep, old, new):
    return keep * old + (1 - keep) * new


def masks_of(cell, drawn):
    """What a run drew: the mask of h, and one of every state; None where there is none."""
    drawn = [mask.numpy() for mask in drawn]
    seen = drawn.pop(0)[0] if cell.recurrent_dropout else None
    return seen, [drawn.pop(0) if p else None for p in cell.zoneout]


def run_by_hand(cell, name, x, state, drawn, lengths, reset, reverse):
    """The outputs (T, N, features) and the final states, row by row and step by step."""
    seen_mask, keeps = masks_of(cell, drawn)
    y = np.zeros((T, N, cell.output_size))
    final = [each.copy() for each in state]
    for n in range(N):
        steps = range(lengths[n])
        s = [each[n : n + 1] for each in state]
        for t in reversed(steps) if reverse else steps:
            begins = t + 1 if reverse else t
            if begins < lengths[n] and reset[begins, n]:
                s = [np.zeros_like(each) for each in s]
            seen = s[0] if seen_mask is None else s[0] * seen_mask[n]
            new = BY_HAND[name](cell, x[t, n : n + 1], *s, seen=seen)
            s = [
                after if keep is None else np.where(keep[t, n] == 1, before, after)
                for before, after, keep in zip(s, new, keeps, strict=True)
            ]
            y[t, n] = s[0][0]
        for end, each in zip(final, s, strict=True):
            end[n] = each[0]
    return y, final


@pytest.mark.parametrize("noise", NOISES)
@pytest.mark.parametrize(("name", "options"), VARIANTS)
def test_a_run_in_training_follows_the_equations(name, options, noise):
    cells, x, state = make(name, options | noise, directions=2)
    lengths, reset = np.array([5, 0, 3]), np.zeros((T, N), bool)
    reset[[2, 1, 4], [0, 2, 2]] = True
    rk.manual_seed(11)
    drawn = [cell.draw(T, N) for cell in cells]
    rk.manual_seed(11)
    y, final = run_layer(
        cells, x, tuple(map(rk.tensor, state)), lengths=lengths, reset=reset
    )
    outputs, finals = [], []
    for d, cell in enumerate(cells):
        one, ends = run_by_hand(
            cell, name, x, [each[d] for each in state], drawn[d], lengths, reset, d == 1
        )
        outputs.append(one)
        finals.append(ends)
    np.testing.assert_allclose(
        y.detach().numpy(), np.concatenate(outputs, -1), rtol=1e-12, atol=1e-14
    )
    for end, parts in zip(final, zip(*finals, strict=True), strict=True):
        np.testing.assert_allclose(end.detach().numpy(), np.stack(parts), rtol=1e-12, atol=1e-14)


@pytest.mark.parametrize(("name", "options"), VARIANTS)
def test_in_evaluation_zoneout_is_its_expectation_and_nothing_is_drawn(name, options):
    (cell,), x, state = make(name, options | NOISY)
    cell.eval()
    before = rk.generator().bit_generator.state
    assert cell.draw(T, N) == ()
    _, final = run_layer((cell,), x[:1], tuple(map(rk.tensor, state)))
    assert rk.generator().bit_generator.state == before
    new = BY_HAND[name](cell, x[0], *(each[0] for each in state))
    for end, old, after in zip(final, state, new, strict=True):
        np.testing.assert_allclose(
            end.detach().numpy()[0], zoned(0.3, old[0], after), rtol=1e-12, atol=1e-14
        )


def test_zoneout_of_one_of_the_states_only():
    for zoneout in ((0.6, 0), (0, 0.6)):
        (cell,), x, state = make("lstm", {"zoneout": zoneout})
        (mask,) = cell.draw(T, N)
        assert mask.shape == (T, N, H)
        h, c = (rk.tensor(each[0]) for each in state)
        _, new = cell.step(rk.tensor(x[0]), (h, c), mask[0])
        plain = BY_HAND["lstm"](cell, x[0], *(each[0] for each in state))
        for p, old, after, found in zip(zoneout, state, plain, new, strict=True):
            keep = mask.numpy()[0] if p else 0
            np.testing.assert_allclose(found.detach().numpy(), zoned(keep, old[0], after))


GRADIENTS = [
    ("lstm", NOISY),
    ("lstm", {"recurrent_dropout": 0.4, "zoneout": (0.2, 0.5)} | CELLS["lstm"].variants[-1]),
    ("gru", NOISY),
    ("gru", {"reset_after": False, **NOISY}),
    ("rnn", NOISY),
    ("rnn", {"nonlinearity": "relu", "zoneout": 0.5}),
]


@pytest.mark.parametrize("training", [True, False])
@pytest.mark.parametrize(("name", "options"), GRADIENTS)
def test_gradients(name, options, training):
    cells, x, state = make(name, options, directions=2)
    for cell in cells:
        cell.train(training)
    weights = [parameter for cell in cells for parameter in cell.parameters()]
    inputs = [rk.tensor(array[:3, :2], requires_grad=True) for array in (x,)]
    inputs += [rk.tensor(array[:, :2], requires_grad=True) for array in state]
    reset = np.zeros((3, 2), bool)
    reset[1, 1] = True

    def run(x, *rest):
        rk.manual_seed(2)
        state = rest[: len(inputs) - 1]
        y, final = run_layer(cells, x, state, lengths=[3, 2], reset=reset)
        return y, *final

    assert rk.gradcheck(run, [*inputs, *weights], atol=1e-7, rtol=1e-5)


def test_gradients_of_gradients():
    (cell,), x, state = make("lstm", NOISY)
    inputs = [rk.tensor(x[:2, :1], requires_grad=True)]
    inputs += [rk.tensor(each[:, :1], requires_grad=True) for each in state]

    def run(x, h, c, *weights):
        rk.manual_seed(2)
        y, final = run_layer((cell,), x, (h, c))
        return y, *final

    assert rk.gradgradcheck(run, [*inputs, cell.weight_hh], atol=1e-7, rtol=1e-5)


@pytest.mark.parametrize("dtype", ["float32", "float64"])
def test_masks_are_as_likely_as_they_should_be(dtype):
    cell = LSTMCell(2, 50, recurrent_dropout=0.25, zoneout=(0.1, 0.6), dtype=dtype)
    rk.manual_seed(1)
    seen, *keeps = (mask.numpy() for mask in cell.draw(20, 40))
    assert seen.shape == (1, 40, 50)
    assert seen.dtype == keeps[0].dtype == np.dtype(dtype)
    assert set(np.unique(seen)) == {0, np.dtype(dtype).type(1 / 0.75)}
    # Six standard deviations of a mean over 2,000 and over 40,000 draws.
    assert abs((seen == 0).mean() - 0.25) < 6 * (0.25 * 0.75 / 2000) ** 0.5
    for keep, p in zip(keeps, (0.1, 0.6), strict=True):
        assert keep.shape == (20, 40, 50)
        assert set(np.unique(keep)) == {0, 1}
        assert abs(keep.mean() - p) < 6 * (p * (1 - p) / 40_000) ** 0.5
        assert abs(keep[0].mean() - p) < 6 * (p * (1 - p) / 2000) ** 0.5
    both = (keeps[0] * keeps[1]).mean()
    assert abs(both - 0.06) < 6 * (0.06 / 40_000) ** 0.5
    assert not np.array_equal(keeps[0][0], keeps[0][1])


def test_a_seed_gives_the_same_masks_on_every_path_and_in_both_precisions():
    found = []
    for backend in ("python", "auto"):
        for dtype in ("float32", "float64"):
            cell = LSTMCell(2, 33, recurrent_dropout=0.5, zoneout=0.5, dtype=dtype)
            rk.manual_seed(9)
            with rk.backend(backend):
                found.append([mask.numpy().astype(np.float64) for mask in cell.draw(7, 5)])
            found[-1].append(rk.generator().bit_generator.state)
    for other in found[1:]:
        for a, b in zip(found[0][:-1], other[:-1], strict=True):
            np.testing.assert_array_equal(a, b)
        assert other[-1] == found[0][-1]


@pytest.mark.parametrize("kind", [RNNCell, GRUCell, LSTMCell])
def test_a_regulariser_leaves_the_kernel_only_while_it_acts(kind):
    name = kind.kernel
    assert name is not None
    dropped, zoned_out = kind(3, 4, recurrent_dropout=0.5), kind(3, 4, zoneout=0.5)
    assert dropped.kernel is None
    assert zoned_out.kernel is None
    assert dropped.eval().kernel == name
    assert zoned_out.eval().kernel is None
    assert dropped.train().kernel is None
    assert kind(3, 4, recurrent_dropout=0.0, zoneout=0).kernel == name


@pytest.mark.parametrize("options", [o for o in LSTMCell.variants if o], ids=str)
def test_other_equations_have_no_kernel(options):
    assert LSTMCell(3, 4, **options).eval().kernel is None


def test_the_extremes():
    (cell,), x, state = make("lstm", {"zoneout": 1.0})
    h, c = (rk.tensor(each[0]) for each in state)
    for _ in (cell, cell.eval()):
        for new, old in zip(cell(x[0], (h, c)), (h, c), strict=True):
            np.testing.assert_array_equal(new.detach().numpy(), old.numpy())
    (cell,), x, state = make("gru", {"recurrent_dropout": 1.0})
    h = rk.tensor(state[0][0])
    deaf = cell(x[0], h)
    cell.weight_hh.data[...] = 0
    np.testing.assert_array_equal(deaf.detach().numpy(), cell.eval()(x[0], h).detach().numpy())


def test_a_call_of_the_cell_is_a_run_of_one_step():
    (cell,), x, state = make("gru", NOISY)
    h = rk.tensor(state[0][0])
    rk.manual_seed(3)
    drawn = [mask[0] for mask in cell.draw(1, N)]
    expected = cell.step(rk.tensor(x[0]), (h,), *drawn)[0].detach().numpy()
    rk.manual_seed(3)
    np.testing.assert_array_equal(cell(x[0], h).detach().numpy(), expected)
    assert not np.array_equal(cell(x[0], h).detach().numpy(), expected)
    rk.manual_seed(3)
    assert cell(x[0, 0], h[0]).shape == (H,)


def test_the_mode_may_change_between_a_fused_forward_and_its_second_derivative():
    found = []
    for backend in ("python", "auto"):
        (cell,), x, _ = make("gru", {"recurrent_dropout": 0.5})
        tensor = rk.tensor(x, requires_grad=True)
        with rk.backend(backend):
            y, _ = run_layer((cell.eval(),), tensor)
            cell.train()
            (d_x,) = rk.grad(y.square().sum(), tensor, create_graph=True)
            found.append(rk.grad(d_x.square().sum(), cell.weight_hh)[0].numpy())
    np.testing.assert_allclose(found[1], found[0], rtol=1e-10)


@pytest.mark.parametrize("name", CELLS)
def test_a_cell_whose_step_takes_no_masks_has_no_such_option(name):
    kind = CELLS[name]
    if "drawn" in signature(kind.step).parameters:
        kind(I, H, **NOISY)
        return
    for option, p in NOISY.items():
        with pytest.raises(TypeError, match=option):
            kind(I, H, **{option: p})
