"""Threads of Python that share a module, or a stream, at the same time."""

from __future__ import annotations

import sys
from concurrent.futures import ThreadPoolExecutor
from threading import Barrier

import numpy as np
import pytest

import rnnkit as rk
from rnnkit import nn


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
    assert message == "a stepper serves one thread at a time: another is in a call of it"
    assert stepper(x[:1]).shape == (1, 8, 128)  # it goes on
