"""Streams of traced cells: the bits of the whole sequence, whatever is computed before the loop."""

from __future__ import annotations

import numpy as np
import pytest

import rnnkit as rk
from rnnkit import nn, ops

T, N, SIZE = 9, 3, 7


class Base(rk.Cell):
    """What it draws is there in evaluation mode too, and the same at every step."""

    steps_share = True

    def __init__(self, input_size, hidden_size, dtype):
        super().__init__(input_size, hidden_size)
        normal = np.random.default_rng(hidden_size).normal
        for name, columns in (("W", input_size), ("U", hidden_size), ("V", SIZE)):
            matrix = normal(size=(hidden_size, columns)).astype(dtype)
            setattr(self, name, nn.Parameter(0.4 * matrix))
        self.b = nn.Parameter(normal(size=hidden_size).astype(dtype))
        self.mask = rk.tensor(np.linspace(-1, 1, SIZE).astype(dtype))

    def noise(self, steps, batch):
        steps = 1 if self.steps_share else steps
        rows = np.linspace(0.2, 1.5, batch).astype(self.dtype)
        return self.mask * rk.tensor(rows[:, None]) * rk.ones(steps, 1, 1, dtype=self.dtype)


class Products(Base):
    def step(self, x, state):
        h = (x @ self.W.T + self.b + state[0] @ self.U.T).tanh()
        return h, (h,)


class OfTransposed(Base):
    """Of a matrix that is computed, and not as it lies."""

    def step(self, x, state):
        h = (x @ (self.W * 0.5).T + rk.ops.linear(state[0], self.U, self.b)).tanh()
        return h + x.sum(-1, keepdims=True), (h,)


class More(Base):
    """A product of a product, so that neither is one of an input of every step alone."""

    def step(self, x, state):
        z = (x @ self.W.T).tanh() @ self.U
        h = (z + state[0] @ self.U.T).tanh()
        return h, (h,)


class Nothing(Base):
    """Nothing is computed before the loop."""

    def step(self, x, state):
        h = (x + state[0] @ self.U.T).tanh()
        return h, (h,)


class Drawn(Base):
    def draw(self, steps, batch):
        return (self.noise(steps, batch),)

    def step(self, x, state, noise):
        h = (x @ self.W.T + state[0] @ self.U.T + noise * self.b).tanh()
        return h, (h,)


class DrawnAtEveryStep(Drawn):
    steps_share = False


class ProductOfDrawn(Drawn):
    def step(self, x, state, noise):
        h = (noise @ self.V.T + x @ self.W.T + state[0] @ self.U.T).tanh()
        return h + noise, (h,)


class MoreOfDrawn(ProductOfDrawn):
    steps_share = False

    def step(self, x, state, noise):
        h = ((x * noise) @ self.W.T + state[0] @ self.U.T).tanh()
        return h, (h,)


CELLS = [
    Products, OfTransposed, More, Nothing, Drawn, DrawnAtEveryStep, ProductOfDrawn, MoreOfDrawn,
]


def sequence(dtype):
    return np.random.default_rng(1).standard_normal((T, N, SIZE)).astype(dtype)


def whole(module, x):
    with rk.no_grad():
        y, final = module.eval()(x)
    assert rk.why(1)[0].path == "program"
    return y.numpy(), final.numpy()


@pytest.mark.parametrize("n_threads", [1, 2])
@pytest.mark.parametrize("dtype", ["float32", "float64"])
@pytest.mark.parametrize("cell", CELLS)
def test_steps_and_blocks_have_the_bits_of_the_whole_sequence(threads, cell, dtype, n_threads):
    module = nn.Recurrent(cell(SIZE, SIZE, dtype), num_layers=2)
    x = sequence(dtype)
    threads(n_threads)
    expected, final = whole(module, x)
    for cut in ([1] * T, [2, 1, 5, 1], [T], [3, 3, 3]):
        stepper, start = module.stream(N), 0
        assert rk.why(1)[0].path == "program"
        out = np.full((T, N, 2 * SIZE), np.nan, dtype)
        for steps in cut:
            part = out[start : start + steps, :, 1 : 1 + SIZE]
            block = x[start : start + steps]
            stepper(*(block[0], part[0]) if steps == 1 else (block, part))
            start += steps
        np.testing.assert_array_equal(out[..., 1 : 1 + SIZE], expected)
        np.testing.assert_array_equal(stepper.state[0], final)
        assert np.isnan(out[..., [0, *range(SIZE + 1, 2 * SIZE)]]).all()


OF_INPUTS = (Products, OfTransposed, Nothing)
"""Whose programs are given products of x and x itself, and nothing else, at every step."""


@pytest.mark.parametrize("n_threads", [1, 2])
@pytest.mark.parametrize("dtype", ["float32", "float64"])
@pytest.mark.parametrize("cell", CELLS)
def test_single_steps_have_the_bits_of_the_whole_sequence(threads, cell, dtype, n_threads):
    module = nn.Recurrent(cell(SIZE, SIZE, dtype), num_layers=3)
    x = sequence(dtype)
    threads(n_threads)
    expected, final = whole(module, x)
    stepper = module.stream(N)
    assert (stepper._native is not None) == (cell in OF_INPUTS)
    out = np.full((N, SIZE), np.nan, dtype)
    np.testing.assert_array_equal(stepper(x[0]), expected[0])
    assert stepper(x[1], out=out) is out
    np.testing.assert_array_equal(out, expected[1])
    np.testing.assert_array_equal(stepper(x[2:5]), expected[2:5])
    np.testing.assert_array_equal(stepper(rk.tensor(x[5])).numpy(), expected[5])
    np.testing.assert_array_equal(stepper(x[6:8].swapaxes(0, 1)[:, 0]), expected[6])
    for t in (7, 8):
        np.testing.assert_array_equal(stepper(x[t]), expected[t])
    np.testing.assert_array_equal(stepper.state[0], final)


def test_a_step_that_is_long_has_these_bits_too(threads):
    module = nn.Recurrent(Products(SIZE, SIZE, "float32"), num_layers=2)
    x = np.random.default_rng(2).standard_normal((4, 900, SIZE)).astype(np.float32)
    threads(2)
    expected, _ = whole(module, x)
    stepper = module.stream(900)
    for step, y in zip(x, expected, strict=True):
        np.testing.assert_array_equal(stepper(step), y)


@pytest.mark.parametrize("cell", [Products, More])
def test_an_output_that_is_in_the_way_of_a_step(native, cell):
    module = nn.Recurrent(cell(SIZE, SIZE, "float64"), num_layers=2)
    x = sequence("float64")
    expected, _ = whole(module, x)
    stepper = module.stream(N)
    stepper(x[0], out=stepper.state[0][-1])  # which it is after the step anyway
    np.testing.assert_array_equal(stepper.state[0][-1], expected[0])
    memory = x[1].copy()
    np.testing.assert_array_equal(stepper(memory, out=memory), expected[1])
    room = np.empty((N + 1, SIZE))
    room[1:] = x[2]
    np.testing.assert_array_equal(stepper(room[1:], out=room[:-1]), expected[2])
    before = stepper.state_dict()
    np.testing.assert_array_equal(stepper(x[3], out=stepper.state[0][0]), expected[3])
    stepper.load_state_dict(before)
    np.testing.assert_array_equal(stepper(x[3]), expected[3])


def test_single_steps_serve_one_thread_at_a_time(native):
    module = nn.Recurrent(Products(SIZE, SIZE, "float64"))
    x = sequence("float64")
    expected, _ = whole(module, x)
    stepper = module.stream(N)
    with stepper._in_use, pytest.raises(RuntimeError, match="one thread at a time"):
        stepper(x[0])
    np.testing.assert_array_equal(stepper(x[0]), expected[0])
    with pytest.raises(rk.errors.ShapeError, match="x: expected a batch"):
        stepper(x[0, 1:])
    np.testing.assert_array_equal(stepper(x[1]), expected[1])


def test_steps_go_on_under_another_instruction_set(native):
    extension = rk.backend.native()
    used = extension.isa_in_use()
    others = [each for each in extension.isa_supported() if each != "amx"]
    module = nn.Recurrent(Products(SIZE, SIZE, "float64"), num_layers=2)
    x = sequence("float64")
    expected, _ = whole(module, x)
    stepper = module.stream(N)
    try:
        for step, y, isa in zip(x, expected, [used, *others, *others], strict=False):
            extension.choose_isa(isa)
            np.testing.assert_allclose(stepper(step), y, rtol=1e-12)
    finally:
        extension.choose_isa(used)
    np.testing.assert_allclose(stepper.state[0][-1], y, rtol=1e-12)


class Random(Base):
    def draw(self, steps, batch):
        return (rk.randn(steps, batch, SIZE, dtype=self.dtype),)

    def step(self, x, state, noise):
        h = (x @ self.W.T + noise @ self.V.T + state[0] @ self.U.T).tanh()
        return h + noise, (h,)


@pytest.mark.parametrize("dtype", ["float32", "float64"])
def test_a_block_draws_what_the_whole_sequence_does(native, dtype):
    module = nn.Recurrent(Random(SIZE, SIZE, dtype), num_layers=2)
    x = sequence(dtype)
    rk.manual_seed(3)
    expected, final = whole(module, x)
    stepper = module.stream(N)
    rk.manual_seed(3)
    np.testing.assert_array_equal(stepper(x), expected)
    np.testing.assert_array_equal(stepper.state[0], final)


@pytest.mark.parametrize("cell", [Products, OfTransposed, More])
def test_weights_are_those_of_the_time_when_they_were_taken(native, cell):
    """All of them: those that are packed, and those that are not."""
    module = nn.Recurrent(cell(SIZE, SIZE, "float64"))
    x = sequence("float64")
    before, _ = whole(module, x)
    stepper = module.stream(N)
    for parameter in module.parameters():
        parameter.data *= 0.5
    after, _ = whole(module, x)
    np.testing.assert_array_equal(stepper(x[0]), before[0])
    np.testing.assert_array_equal(stepper(x[1:]), before[1:])
    stepper.refresh()
    stepper.reset()
    np.testing.assert_array_equal(stepper(x[0]), after[0])
    np.testing.assert_array_equal(stepper(x[1:]), after[1:])


def test_another_number_of_threads_is_taken_at_once(threads):
    module = nn.Recurrent(Products(SIZE, SIZE, "float64"))
    x = np.random.default_rng(0).normal(size=(64, 16, SIZE))
    expected, _ = whole(module, x)
    stepper = module.stream(16)
    for n_threads in (1, 2, 1):
        threads(n_threads)
        stepper.reset()
        np.testing.assert_array_equal(stepper(x), expected)


@pytest.mark.parametrize("dtype", ["float32", "float64"])
def test_a_run_that_keeps_values_has_the_bits_of_one_that_does_not(dtype):
    class Normed(Base):
        def step(self, x, state):  # the normalised row is kept, and is a part of a sum
            h = (x + ops.layer_norm((state[0] + x).sin(), SIZE)).tanh()
            return h @ self.U.T, (h,)

    module = nn.Recurrent(Normed(SIZE, SIZE, dtype))
    x = sequence(dtype)
    recorded = module(rk.tensor(x, requires_grad=True))
    without_outputs = module(rk.tensor(x), return_sequences=False)
    for actual, expected in zip(recorded, whole(module, x), strict=True):
        np.testing.assert_array_equal(actual.data, expected)
    np.testing.assert_array_equal(without_outputs[1].data, recorded[1].data)


@pytest.mark.parametrize("error", [OSError, RecursionError])
@pytest.mark.parametrize("mode", ["auto", "python"])
def test_refresh_decides_anew_on_the_path(native, error, mode):
    errors = [error("just now")]

    class Meeting(More):
        def step(self, x, state):
            if errors:
                raise errors.pop()
            return super().step(x, state)

    module = nn.Recurrent(Meeting(4, SIZE, np.float32))
    x = np.random.default_rng(0).standard_normal((T, N, 4)).astype(np.float32)
    with rk.backend(mode):
        stepper = module.stream(N)
    assert rk.why(1)[0].path == "python"
    errors.clear()
    begun = stepper(x[:4])
    stepper.refresh()
    assert rk.why(1)[0].path == ("python" if mode == "python" else "program")
    ended = stepper(x[4:])
    with rk.backend("native"):
        expected = module(x)[0].numpy()
    np.testing.assert_allclose(np.concatenate([begun, ended]), expected, rtol=1e-5, atol=1e-6)
    if mode == "auto":  # and has the bits of the program
        stepper.reset()
        np.testing.assert_array_equal(stepper(x), expected)
