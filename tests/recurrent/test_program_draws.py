"""Programs of cells that draw: what they may draw, and whose generators it comes from."""

from functools import partial
from random import Random

import numpy as np
import pytest
from own_cells import Own, check, data
from recurrent_contract import last_layer

import rnnkit as rk
from rnnkit import nn
from rnnkit.errors import BackendError, ShapeError
from rnnkit.ops import linear
from rnnkit.recurrent import run_layer

pytestmark = pytest.mark.usefixtures("native")


def test_draw_may_write_to_the_tensors_of_its_cell():
    class Renewed(Own):
        def __init__(self):
            super().__init__()
            self.register_buffer("noise", rk.tensor(np.zeros(5, np.float32)))

        def draw(self, steps, batch):
            self.noise.data[...] = np.arange(5) + steps
            return ()

        def step(self, x, state):
            y, states = super().step(x, state)
            return y * self.noise, states

    check(Renewed())


def _of_library(seed):
    rk.manual_seed(seed)
    return np.random.Generator(rk.generator().bit_generator)


@pytest.mark.parametrize(
    "make",
    [
        np.random.default_rng, np.random.RandomState, Random, _of_library,
        lambda seed: [np.random.default_rng(seed).random],
        lambda seed: Random(seed).random,
    ],
)
def test_tracing_takes_nothing_from_the_generators_that_a_cell_holds(make):
    def uniform(source):
        return (source[0] if isinstance(source, list) else getattr(source, "random", source))()

    class Noisy(Own):
        def draw(self, steps, batch):
            return (rk.tensor(np.full((1, batch, 5), uniform(self.source), np.float32)),)

        def step(self, x, state, noise):
            y, states = super().step(x, state)
            return y + noise, states

    outputs = []
    for backend in ("native", "python"):
        cell = Noisy()
        cell.source = make(3)
        with rk.backend(backend):
            outputs.append(run_layer((cell,), rk.tensor(data()))[0].numpy())
    np.testing.assert_allclose(*outputs, rtol=1e-5, atol=1e-6)
    assert not np.allclose(run_layer((cell,), rk.tensor(data()))[0].numpy(), outputs[0])


def test_a_step_that_draws_from_a_generator_of_its_cell_is_no_program():
    class Noisy(Own):
        def step(self, x, state):
            y, states = super().step(x, state)
            return y * self.source.random(), states

    cell = Noisy()
    cell.source = np.random.default_rng(3)
    with pytest.raises(BackendError, match="the step is another"), rk.backend("native"):
        run_layer((cell,), rk.tensor(data()))


def test_a_mask_that_is_held_and_one_that_is_drawn():
    class Masked(Own):
        def __init__(self, **more):
            super().__init__(**more)
            self.register_buffer("mask", rk.tensor(np.array([True, False, True, True, False])))

        def draw(self, steps, batch):
            bits = rk.generator().random((steps, batch, 5)) < 0.5
            return (rk.tensor(bits), rk.tensor(bits[:1, :, :1].astype(np.float32) + 1))

        def step(self, x, state, drawn, scale):
            h = rk.where(drawn, (x @ self.W.T + state[0] @ self.U.T).tanh() * scale, state[0])
            h = rk.where(self.mask, h, self.b)
            return h, (h,)

    cell = Masked()
    found = []
    for backend in ("native", "python"):
        rk.manual_seed(5)
        with rk.backend(backend):
            y, _ = run_layer((cell,), data())
            assert last_layer().path == ("program" if backend == "native" else "python")
            found += [y, *rk.grad((y * y).sum(), [cell.W, cell.U, cell.b])]
    for actual, expected in zip(found[:4], found[4:], strict=True):
        np.testing.assert_allclose(actual.numpy(), expected.numpy(), rtol=1e-4, atol=1e-5)


class Noisy(Own):
    """Noise of any shape, times a parameter."""

    def __init__(self, *shape, trained=False, **more):
        super().__init__(**more)
        self.shape, self.trained = shape, trained

    def draw(self, steps, batch):
        sizes = {"T": steps, "N": batch}
        noise = rk.randn(*[sizes.get(each, each) for each in self.shape], dtype=self.dtype)
        return (noise * self.b if self.trained else noise,)

    def step(self, x, state, noise):
        h = (x @ self.W.T + state[0] @ self.U.T + noise * self.b + linear(noise, self.U)).tanh()
        return rk.cat([h, noise], -1)[:, 1:6], (h,)


@pytest.mark.parametrize("batch_first", [False, True])
@pytest.mark.parametrize("lengths", [None, (2, 4, 0)])
@pytest.mark.parametrize("trained", [False, True])
@pytest.mark.parametrize("shape", [("T", "N"), (1, "N"), ("T", 1), (1, 1)], ids=str)
def test_steps_and_rows_may_share_what_is_drawn(shape, trained, lengths, batch_first):
    cell = Noisy(*shape, 5, trained=trained, dtype="float64")
    found = []
    for backend in ("native", "python"):
        rk.manual_seed(5)
        with rk.backend(backend):
            x = data("float64")
            y, (h,) = run_layer(
                (cell,), x.swapaxes(0, 1) if batch_first else x, None, batch_first, lengths=lengths
            )
            y = y.swapaxes(0, 1) if batch_first else y
            assert last_layer().path == ("program" if backend == "native" else "python")
            found.append([y, h, *rk.grad((y * y).sum() + h.sum(), [cell.W, cell.U, cell.b])])
    for actual, expected in zip(*found, strict=True):
        np.testing.assert_allclose(actual.numpy(), expected.numpy(), rtol=1e-11, atol=1e-12)
    rk.manual_seed(5)
    steps = nn.Recurrent(cell).stream(3)(data("float64"))
    if lengths is None:
        np.testing.assert_allclose(steps, found[0][0].numpy(), rtol=1e-11, atol=1e-12)


@pytest.mark.parametrize("backend", ["auto", "python"])
@pytest.mark.parametrize("shape", [(2, "N", 5), ("T", 2, 5), ("N", "T", 5), (5,)], ids=str)
def test_what_is_drawn_must_fit_the_steps_and_the_rows(shape, backend):
    with rk.backend(backend), pytest.raises(ShapeError, match=r"draw: Noisy: expected \("):
        run_layer((Noisy(*shape),), data())


class Drawing(Own):
    """With what a test draws."""

    def __init__(self, draw):
        super().__init__(dtype="float64")
        self.draw = draw

    def step(self, x, state, *drawn):
        h = (x @ self.W.T + state[0] @ self.U.T + self.b).tanh()
        return sum([each.sum(-1, keepdims=True) for each in drawn], h), (h,)


@pytest.mark.parametrize(
    "draw",
    [
        lambda T, N: tuple([rk.ones(T, N, 2, dtype="float64")] * T),
        lambda T, N: (rk.ones(T, N, T, dtype="float64"),),
        lambda T, N: (rk.ones(1, N, N, dtype="float64"),),
    ],
    ids=["more tensors", "wider for more steps", "wider for more rows"],
)
def test_what_is_drawn_otherwise_for_more_steps_or_rows_is_for_the_tape(draw):
    found = []
    for backend in ("auto", "python"):
        with rk.backend(backend):
            found.append(run_layer((Drawing(draw),), data("float64"))[0].numpy())
        assert last_layer().path == "python"
    np.testing.assert_array_equal(*found)


def test_what_is_drawn_must_be_of_the_kind_that_was_traced():
    def draw(T, N):
        return tuple([rk.ones(T, N, 2 + (T == 4), dtype="float64")] * (1 + (T == 3)))

    cell = Drawing(draw)
    network = nn.Recurrent(cell)
    with rk.backend("native"):
        run_layer((cell,), data("float64")[:2])
        for steps in (3, 4):
            for run in (partial(run_layer, (cell,)), network.stream(3)):
                with pytest.raises(ShapeError, match=r"draw: Drawing: expected rows .*, got"):
                    run(data("float64")[:steps])


@pytest.mark.parametrize("backend", ["native", "python"])
def test_arrays_may_be_drawn(backend):
    cell = Drawing(lambda T, N: (np.full((T, N, 2), 0.25),))
    tensors = Drawing(lambda T, N: (rk.tensor(np.full((1, 1, 2), 0.25)),))
    with rk.backend(backend):
        found = [run_layer((each,), data("float64"))[0].numpy() for each in (cell, tensors)]
    np.testing.assert_array_equal(*found)


def test_what_is_drawn_without_rows_may_be_truth():
    class Masked(Own):
        def draw(self, steps, batch):
            return (rk.rand(steps, batch, 5) > 0.5,)

        def step(self, x, state, mask):
            y, (h,) = super().step(x, state)
            return y, (rk.where(mask, h, 0.5 * state[0]),)

    network = nn.Recurrent(Masked())
    y, h = network(rk.zeros(4, 0, 3))
    assert y.shape == (4, 0, 5)
    (h.sum() + y.sum()).backward()
    assert network.W_l0.grad.data.shape == (5, 3)
