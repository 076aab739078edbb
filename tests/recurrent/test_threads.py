"""Threads of Python that share a module, or a stream, at the same time."""

from __future__ import annotations

import sys
from concurrent.futures import ThreadPoolExecutor
from threading import Barrier, Event, get_ident

import numpy as np
import pytest

import rnnkit as rk
from rnnkit import nn, rng
from rnnkit.errors import TraceError
from rnnkit.recurrent import checkpoint
from rnnkit.recurrent.program.traced import TRACING, TracedStep


@pytest.fixture
def impatient():
    """The interpreter changes threads as often as it can."""
    before = sys.getswitchinterval()
    sys.setswitchinterval(1e-6)
    yield
    sys.setswitchinterval(before)


def at_once(*tasks):
    """What the tasks return, each in a thread of its own, begun together."""
    begun = Barrier(len(tasks))

    def run(task):
        begun.wait()
        return task()

    with ThreadPoolExecutor(len(tasks)) as threads:
        return [each.result() for each in [threads.submit(run, task) for task in tasks]]


def test_first_steps_of_a_traced_cell(native, impatient):
    """Tracing, and making the backward program, are done by one thread at a time."""
    x = rk.randn(5, 3, 4)
    for _ in range(15):
        module = nn.LSTM(4, 5, peephole=True)

        def gradient(module=module):
            y, _ = module(x)
            return rk.grad(y.sum(), [module.weight_hh_l0])[0].numpy()

        first, second = at_once(gradient, gradient)
        np.testing.assert_array_equal(first, second)


def test_a_child_traces_though_a_thread_of_its_parent_was_tracing(native, in_child):
    x, module = rk.randn(5, 3, 4), nn.LSTM(4, 5, peephole=True)
    tracing, forked = Event(), Event()

    def trace():
        with TRACING:
            tracing.set()
            forked.wait()

    with ThreadPoolExecutor(1) as other:
        other.submit(trace)
        tracing.wait()
        try:
            in_child(lambda: module(x))
        finally:
            forked.set()


def test_a_child_draws_from_where_it_is_though_a_thread_of_its_parent_was_drawing(in_child):
    """A run within a budget draws from elsewhere where another thread's has begun at one place."""
    drawing, forked = Event(), Event()

    def draw():
        with checkpoint._drawing_alone():
            drawing.set()
            forked.wait()

    def begins_at(state):
        with checkpoint._drawing_alone() as begin:
            assert begin == state

    with ThreadPoolExecutor(1) as other:
        other.submit(draw)
        drawing.wait()
        try:
            before = rng.get_state()
            in_child(lambda: begins_at(before))
        finally:
            forked.set()


def test_a_child_that_is_forked_while_a_step_is_traced_goes_on_with_it(in_child):
    with TRACING:
        in_child(TRACING.release)  # as at the end of the trace


@pytest.mark.parametrize("change", ["freeze", "unfreeze"])
def test_a_cell_is_traced_while_another_thread_freezes_its_module(native, change):
    class Slow(Noisy):
        def step(self, x, state, noise):
            other.submit(getattr(module, change)).result()
            return super().step(x, state, noise)

    module = nn.Recurrent(Slow(4, 5, np.zeros))
    if change == "unfreeze":
        module.freeze()
    with ThreadPoolExecutor(1) as other:
        module(rk.randn(2, 3, 4))
    assert rk.why()[-1].path == "program"


def test_a_module_trains_while_its_streams_evaluate(native, impatient):
    module = nn.LSTM(5, 16, num_layers=2, zoneout=0.3)
    x = np.random.default_rng(0).standard_normal((30, 4, 5)).astype(np.float32)
    steppers = [module.stream(4) for _ in range(2)]
    expected = module.stream(4)(x)

    def act(stepper):
        found = []
        for _ in range(30):
            stepper.reset()
            found.append(stepper(x))
        return found

    def learn():
        inputs = rk.tensor(x)
        return [module(inputs)[0].numpy() for _ in range(30)]

    *streamed, trained = at_once(*[lambda s=s: act(s) for s in steppers], learn)
    for found in (y for each in streamed for y in each):
        np.testing.assert_array_equal(found, expected)
    with rk.no_grad():
        evaluated = module.eval()(rk.tensor(x))[0].numpy()
    assert not any(np.array_equal(y, evaluated) for y in trained)


@pytest.mark.parametrize("options", [{}, {"peephole": True}], ids=["fused", "program"])
def test_a_stream_serves_one_thread_at_a_time(native, options):
    stepper = nn.LSTM(32, 128, num_layers=2, **options).stream(8)
    x = np.zeros((400, 8, 32), np.float32)

    def longer_and_longer():
        refused = []
        for steps in range(100, 400, 10):
            try:
                assert stepper(x[:steps]).shape == (steps, 8, 128)
            except RuntimeError as error:
                refused.append(str(error))
        return refused

    for _ in range(20):
        first, second = at_once(longer_and_longer, longer_and_longer)
        if first or second:  # they have met
            break
    (message,) = set(first + second)
    assert message.startswith("a stepper serves one thread at a time: another is in a call of it")
    assert stepper(x[:1]).shape == (1, 8, 128)  # it goes on


@pytest.mark.parametrize("way", ["fused", "python"])
def test_a_child_refuses_a_stream_that_a_thread_of_its_parent_was_in(native, in_child, way):
    """Its state there may be that of some of the layers."""

    class Waits(rk.Cell):
        def step(self, x, state):
            if get_ident() != parent:
                forked.wait()
            return x, (x,)

    parent, forked = get_ident(), Event()
    if way == "fused":
        module, steps = nn.LSTM(16, 16, num_layers=2), 200_000  # it is in there for a while
    else:
        module, steps = nn.Recurrent(Waits(16, 16)), 1
    message = "another is in a call of it, or was when this process was forked"
    with rk.backend("python" if way == "python" else "native"):
        stepper, new = module.stream(1), module.stream(1)
    x = np.zeros((steps, 1, 16), np.float32)

    def refused():
        with pytest.raises(RuntimeError, match=message):
            stepper(x[0])
        assert new(x[0]).shape == (1, 16)

    with ThreadPoolExecutor(1) as other:
        waiting = other.submit(stepper, x)
        try:
            while not waiting.done():
                try:
                    stepper(x[0])
                except RuntimeError:
                    break
            in_child(refused)
        finally:
            forked.set()
        waiting.result()
    stepper(x[0])


class Noisy(rk.Cell):
    """Adds noise, with what it has held on to since it was made."""

    state_names = ("h",)

    def __init__(self, input_size, hidden_size, noise):
        super().__init__(input_size, hidden_size)
        self.noise = noise
        self.make_parameters("float32")

    def parameter_shapes(self):
        return {"weight": (self.hidden_size, self.input_size)}

    def draw(self, steps, batch):
        return (rk.tensor(self.noise((steps, batch, self.hidden_size), np.float32)),)

    def step(self, x, state, noise):
        (h,) = state
        h = (rk.ops.linear(x, self.weight) + h + noise).tanh()
        return h, (h,)


@pytest.mark.parametrize("held", ["the library's", "the generator", "a method"])
def test_a_cell_is_traced_while_another_thread_draws(native, impatient, held):
    """It is not refused for what the other draws, and the other's draws are not taken back."""
    generator = rk.generator()
    noise = {
        "the library's": lambda *a: rk.generator().standard_normal(*a),
        "the generator": lambda *a: generator.standard_normal(*a),
        "a method": generator.standard_normal,
    }[held]
    x = rk.randn(2, 3, 4)
    cells = [Noisy(4, 5, noise) for _ in range(20)]
    rk.manual_seed(3)
    expected = rk.rand(20_000).numpy()
    rk.manual_seed(3)
    done = Event()

    def trace():
        try:
            for cell in cells:
                TracedStep(cell)
        finally:
            done.set()

    def draw():
        found = []
        while not done.is_set() and len(found) < 10_000:
            found.append(rk.rand(1).item())
        return found

    _, drawn = at_once(trace, draw)
    drawn += rk.rand(10_000).numpy().tolist()
    np.testing.assert_array_equal(drawn, expected[: len(drawn)])
    y, _ = nn.Recurrent(cells[0])(x)
    assert rk.why()[-1].path == "program"
    assert not np.array_equal(y.numpy(), nn.Recurrent(cells[0])(x)[0].numpy())


def test_a_step_that_draws_from_what_it_holds_is_noticed():
    class Draws(Noisy):
        def step(self, x, state, noise):
            self.noise((2,))
            return super().step(x, state, noise)

    generator = rk.generator()
    for held in (generator.random, lambda *a: generator.random(*a)):
        before = rng.get_state()
        with pytest.raises(TraceError, match="the step draws from the generator"):
            TracedStep(Draws(4, 5, held))
        # Its weights have been drawn from the library's generator, nothing else.
        after = rng.get_state()
        rng.set_state(before)
        Draws(4, 5, held)
        assert rng.get_state() == after


def test_draws_that_are_repeated_are_seen_by_no_other_thread():
    """A layer with a budget of memory runs its steps again backward, with what they have drawn."""
    seen = []

    class Drops(rk.Cell):
        def step(self, x, state):
            seen.append(other.submit(rng.get_state).result())
            h = rk.ops.dropout(x + state[0], 0.4)
            return h, (h,)

    module = nn.Recurrent(Drops(4, 4), memory=30_000)
    with ThreadPoolExecutor(1) as other, rk.backend("python"):
        y, _ = module(rk.randn(50, 3, 4).requires_grad_())
        after = rng.get_state()
        seen.clear()
        y.sum().backward()
    assert seen
    assert all(state == after for state in seen)
    assert rng.get_state() == after


def test_budgets_of_memory_in_two_threads_draw_other_masks():
    class Drops(rk.Cell):
        def step(self, x, state):
            both.wait()
            h = rk.ops.dropout(x, 0.5)
            return h, (h,)

    both, x = Barrier(2), rk.ones(50, 3, 4, requires_grad=True)

    def run():
        with rk.backend("python"):
            return nn.Recurrent(Drops(4, 4), memory=15_000)(x)[0].numpy()

    masks = [*at_once(run, run), *at_once(run, run)]
    for i, one in enumerate(masks):
        for other in masks[:i]:
            assert not np.array_equal(one, other)


def test_a_budget_of_memory_repeats_its_own_draws_alone():
    """Not those that another thread has drawn between two of them."""

    class Drops(rk.Cell):
        def step(self, x, state):
            other.submit(rk.rand, 1).result()
            h = rk.ops.dropout(x, 0.4)
            return h, (h,)

    x = rk.randn(50, 3, 4).requires_grad_()
    with ThreadPoolExecutor(1) as other, rk.backend("python"):
        y, _ = nn.Recurrent(Drops(4, 4), memory=20_000)(x)
        y.sum().backward()
    np.testing.assert_array_equal(x.grad.numpy() != 0, y.numpy() != 0)
