"""Threads that go back at the same time, through one retained graph or to shared parameters."""

from __future__ import annotations

from concurrent.futures import ThreadPoolExecutor
from threading import Event, get_ident
from types import SimpleNamespace

import numpy as np
import pytest

import rnnkit as rk
from rnnkit import cells, nn

LAYERS = {
    "fused": lambda memory: nn.LSTM(3, 4, memory=memory),
    "program": lambda memory: nn.Recurrent(cells.IndRNNCell(3, 4), memory=memory),
    "program with a graph before it": lambda memory: nn.Recurrent(
        cells.QRNNCell(3, 4), memory=memory
    ),
}


@pytest.mark.parametrize("memory", ["full", "4KB"])
@pytest.mark.parametrize("make", LAYERS.values(), ids=LAYERS)
@pytest.mark.filterwarnings("ignore::rnnkit.recurrent.memory.MemoryBudgetWarning")
def test_of_one_layer(make, memory):
    rng = np.random.default_rng(0)
    module = make(memory)
    x = rk.tensor(rng.normal(size=(150, 40, 3)).astype(np.float32), requires_grad=True)
    y, _ = module(x)
    d_y = rk.tensor(rng.normal(size=y.shape).astype(np.float32))
    wanted = [[x, *module.parameters()], [x], list(module.parameters())]

    def gradients(inputs):
        return [d.data for d in rk.grad(y, inputs, d_y, retain_graph=True)]

    expected = [gradients(inputs) for inputs in wanted]
    with ThreadPoolExecutor(3) as threads:
        found = list(threads.map(gradients, wanted * 5))
    for own, right in zip(found, expected * 5, strict=True):
        for a, b in zip(own, right, strict=True):
            np.testing.assert_array_equal(a, b)


def test_gradients_of_several_threads_add_up():
    weight = rk.zeros(300, 300, requires_grad=True)

    def learn(_):
        for _ in range(25):
            (weight * 1.0).sum().backward()

    with ThreadPoolExecutor(4) as threads:
        list(threads.map(learn, range(8)))
    np.testing.assert_array_equal(weight.grad.numpy(), np.full((300, 300), 200.0))


class Doubled(rk.Function):
    @staticmethod
    def forward(ctx, x):
        return x * 2

    @staticmethod
    def backward(ctx, d_y):
        return d_y * 2


@pytest.mark.parametrize("of", ["layer", "function"])
def test_a_child_goes_back_though_a_thread_of_its_parent_was_doing_so(
    of, native, in_child, monkeypatch
):
    x = rk.randn(5, 2, 3).requires_grad_()
    y = nn.LSTM(3, 4)(x)[0] if of == "layer" else Doubled.apply(x)
    d_y = rk.randn(*y.shape)
    original = y.grad_fn._layer.backward if of == "layer" else Doubled.backward
    (expected,) = rk.grad(y, x, d_y, retain_graph=True)
    inside, forked = Event(), Event()

    def slow(*args):
        if get_ident() != parent:
            inside.set()
            forked.wait()
        return original(*args)

    def go_back():
        return rk.grad(y, x, d_y, retain_graph=True)[0].numpy()

    def in_two_threads():
        with ThreadPoolExecutor(1) as other:
            forked.set()
            for found in (go_back(), other.submit(go_back).result()):
                np.testing.assert_array_equal(found, expected.numpy())

    parent = get_ident()
    if of == "layer":
        monkeypatch.setattr(y.grad_fn, "_layer", SimpleNamespace(backward=slow))
    else:
        monkeypatch.setattr(Doubled, "backward", staticmethod(slow))
    with ThreadPoolExecutor(1) as other:
        waiting = other.submit(go_back)
        inside.wait()
        try:
            in_child(in_two_threads)
        finally:
            forked.set()
        np.testing.assert_array_equal(waiting.result(), expected.numpy())
