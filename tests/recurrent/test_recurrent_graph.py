"""The recurrent primitive as a node of the graph: retained, freed, shared, partly recorded."""

import gc
import weakref
from types import SimpleNamespace

import numpy as np
import pytest
from recurrent_contract import Case, assert_close, cases, forward_backward, make_layer

import rnnkit as rk
from rnnkit import nn
from rnnkit.errors import GraphError
from rnnkit.recurrent import run_layer

ONE = cases((4, 3, 5, 7), directions=2)


@pytest.mark.parametrize("case", ONE, ids=str)
def test_a_retained_graph_gives_the_same_gradients_again(path, case):
    layer = make_layer(case)
    x = rk.tensor(layer.inputs["x"], requires_grad=True)
    y, _ = run_layer(layer.cells, x)
    wanted = [x, *layer.weights().values()]
    d_y = rk.tensor(layer.d_outputs["d_y"])
    first = rk.grad(y, wanted, d_y, retain_graph=True)
    second = rk.grad(y, wanted, d_y, retain_graph=True)
    third = rk.grad(y, wanted, d_y)
    for one, two, three in zip(first, second, third, strict=True):
        np.testing.assert_array_equal(one.numpy(), two.numpy())
        np.testing.assert_array_equal(one.numpy(), three.numpy())


@pytest.mark.parametrize("case", ONE, ids=str)
def test_a_freed_graph_says_so(path, case):
    layer = make_layer(case)
    y, _ = run_layer(layer.cells, rk.tensor(layer.inputs["x"]))
    loss = y.sum()
    loss.backward()
    with pytest.raises(GraphError, match="retain_graph"):
        loss.backward()


@pytest.mark.parametrize("case", ONE, ids=str)
def test_gradients_of_two_uses_of_the_weights_add_up(path, case):
    layers = [make_layer(case, seed) for seed in (0, 1)]
    layers[1].cells = layers[0].cells
    total = None
    for layer in layers:
        x, *state = (rk.tensor(array) for array in layer.inputs.values())
        y, _ = run_layer(layer.cells, x, tuple(state))
        loss = (y * rk.tensor(layer.d_outputs["d_y"])).sum()
        total = loss if total is None else total + loss
    total.backward()
    alone = [forward_backward(layer, path, used=["y"]) for layer in layers]
    for name, weight in layers[0].weights().items():
        expected = alone[0][f"d_{name}"] + alone[1][f"d_{name}"]
        np.testing.assert_allclose(weight.grad.numpy(), expected, rtol=1e-10, atol=1e-12)


@pytest.mark.parametrize("case", ONE, ids=str)
def test_gradients_accumulate_over_backward_passes(path, case):
    layer = make_layer(case)
    weight = layer.cells[0].weight_hh
    grads = []
    for _ in range(3):
        run_layer(layer.cells, rk.tensor(layer.inputs["x"]))[0].sum().backward()
        grads.append(weight.grad.numpy().copy())
    np.testing.assert_allclose(grads[1], 2 * grads[0], rtol=1e-12)
    np.testing.assert_allclose(grads[2], 3 * grads[0], rtol=1e-12)


@pytest.mark.parametrize("case", ONE, ids=str)
def test_only_what_requires_a_gradient_gets_one(path, case):
    layer = make_layer(case)
    weights = list(layer.weights().values())
    for weight in weights[1:]:
        weight.requires_grad_(False)
    x = rk.tensor(layer.inputs["x"])
    y, final = run_layer(layer.cells, x)
    assert y.requires_grad
    (y.sum() + sum(state.sum() for state in final)).backward()
    assert weights[0].grad is not None
    assert x.grad is None
    assert all(weight.grad is None for weight in weights[1:])


@pytest.mark.parametrize("case", ONE, ids=str)
def test_nothing_is_recorded_without_need(path, case):
    layer = make_layer(case)
    x = rk.tensor(layer.inputs["x"], requires_grad=True)
    with rk.no_grad():
        y, final = run_layer(layer.cells, x)
    assert not any(tensor.requires_grad for tensor in (y, *final))
    for weight in layer.weights().values():
        weight.requires_grad_(False)
    y, final = run_layer(layer.cells, x.detach())
    assert not any(tensor.requires_grad for tensor in (y, *final))


@pytest.mark.parametrize("case", cases((4, 3, 5, 7)), ids=str)
def test_a_carried_state_connects_the_graphs_of_two_pieces(path, case):
    """Backward through both pieces equals backward through the whole sequence."""
    layer = make_layer(case)
    whole = forward_backward(layer, path)
    sources = {name: rk.tensor(array, requires_grad=True) for name, array in layer.inputs.items()}
    x, *state = sources.values()
    first, middle = run_layer(layer.cells, x[:3], tuple(state))
    second, final = run_layer(layer.cells, x[3:], middle)
    wanted = sources | layer.weights()
    gradients = rk.grad(
        [rk.cat([first, second]), *final],
        list(wanted.values()),
        [rk.tensor(array) for array in layer.d_outputs.values()],
    )
    actual = {f"d_{n}": g.numpy() for n, g in zip(wanted, gradients, strict=True)}
    assert_close(actual, {name: whole[name] for name in actual}, 1e-10)


@pytest.mark.parametrize("case", cases((4, 3, 5, 7)), ids=str)
def test_a_detached_state_cuts_the_gradient(path, case):
    layer = make_layer(case)
    x = rk.tensor(layer.inputs["x"], requires_grad=True)
    _, middle = run_layer(layer.cells, x[:2])
    y, _ = run_layer(layer.cells, x[2:], tuple(state.detach() for state in middle))
    y.sum().backward()
    assert not x.grad.numpy()[:2].any()
    assert x.grad.numpy()[2:].any()


@pytest.mark.parametrize("case", cases((4, 3, 5, 7)), ids=str)
def test_the_graph_goes_away_without_the_garbage_collector(path, case):
    layer = make_layer(case)
    gc.collect()
    gc.disable()
    try:
        x = rk.tensor(layer.inputs["x"], requires_grad=True)
        hidden = x * 2
        watch = weakref.ref(hidden)
        y, final = run_layer(layer.cells, hidden)
        y.sum().backward()
        del hidden, y, final
        assert watch() is None
    finally:
        gc.enable()


PROGRAMS = [
    ("lstm", {"peephole": True}), ("gru", {"zoneout": 0.5}), ("qrnn", {}),
    ("phased_lstm", {"timed": True}),  # computes more than products before the loop
]


@pytest.mark.parametrize("memory", ["full", 1])
@pytest.mark.parametrize(("name", "options"), PROGRAMS)
@pytest.mark.filterwarnings("ignore::rnnkit.recurrent.memory.MemoryBudgetWarning")
def test_a_program_goes_away_without_the_garbage_collector(native, name, options, memory):
    layer = make_layer(Case(name, options, (40, 3, 5, 7), dtype="float32"))
    run_layer(layer.cells, layer.inputs["x"])  # what is kept of the cell itself

    def run(way):
        x = rk.tensor(layer.inputs["x"], requires_grad=True)
        y, _ = run_layer(layer.cells, x, memory=memory)
        if way == "backward":
            y.sum().backward()
        return weakref.ref(x.data)

    gc.collect()
    gc.disable()
    try:
        with rk.no_grad():
            assert run("inference")() is None
        assert run("forward")() is None
        assert run("backward")() is None
    finally:
        gc.enable()


@pytest.mark.parametrize("retain", [False, True])
@pytest.mark.parametrize(("make", "runs"), [
    (lambda: nn.LSTM(5, 7), "_layer"), (lambda: nn.LSTM(5, 7, peephole=True), "_passes"),
], ids=["fused", "program"])  # fmt: skip
def test_a_backward_pass_that_was_broken_off(native, monkeypatch, make, runs, retain):
    """It may have written over what was kept: then nothing is computed from that again."""
    module, x = make(), rk.randn(6, 2, 5)
    y, _ = module(x)
    weight = module.weight_hh_l0
    (expected,) = rk.grad(y, weight, rk.ones(*y.shape), retain_graph=True)

    def broken_off(*_):
        raise KeyboardInterrupt

    with monkeypatch.context() as patched:
        patched.setattr(y.grad_fn, runs, SimpleNamespace(backward=broken_off))
        with pytest.raises(KeyboardInterrupt):
            rk.grad(y, weight, rk.ones(*y.shape), retain_graph=retain)
    if retain:
        (actual,) = rk.grad(y, weight, rk.ones(*y.shape))
        np.testing.assert_array_equal(actual.numpy(), expected.numpy())
    else:
        with pytest.raises(GraphError, match=r"was interrupted after .* run the forward"):
            rk.grad(y, weight, rk.ones(*y.shape))


def test_a_backward_pass_may_leave_out_the_output_of_every_step(path):
    """Only one step of y is used: the others' gradients are zero, not missing."""
    layer = make_layer(Case("lstm", sizes=(5, 2, 3, 4)))
    x = rk.tensor(layer.inputs["x"], requires_grad=True)
    y, _ = run_layer(layer.cells, x)
    y[2].sum().backward()
    assert x.grad.numpy()[:3].all()
    assert not x.grad.numpy()[3:].any()
