"""Who is told of gradients on their way: hooks, and tensors that keep what arrives."""

import numpy as np
import pytest

import rnnkit as rk
from rnnkit.errors import DTypeError, GraphError, ShapeError


def leaf(*values):
    return rk.tensor(values, requires_grad=True)


def shares(a, b):
    return np.shares_memory(a.data, b.data)


def test_a_hook_sees_the_whole_gradient_once():
    x = leaf(1.0)
    seen = []
    x.register_hook(lambda g: seen.append(g.item()))
    (x * 2.0 + x * 3.0).backward()
    assert seen == [5.0]


def test_a_hook_may_replace_the_gradient():
    x = leaf(2.0)
    y = x * 3.0
    y.register_hook(lambda g: g * 10.0)
    x.register_hook(lambda g: g + 1.0)
    y.backward()
    assert x.grad.item() == 31.0


def test_hooks_run_in_order_until_removed():
    x = leaf(2.0)
    calls = []
    handles = [x.register_hook(lambda g, i=i: calls.append(i)) for i in range(3)]
    handles[1].remove()
    handles[1].remove()
    (x * 1.0).backward()
    assert calls == [0, 2]


@pytest.mark.parametrize("make", [lambda: leaf(2.0), lambda: leaf(2.0) * 1.0])
def test_a_hook_is_not_removed_by_the_handle_of_an_earlier_one(make):
    x = make()
    calls = []
    earlier = x.register_hook(lambda g: calls.append("earlier"))
    earlier.remove()
    x.register_hook(lambda g: calls.append("later"))
    earlier.remove()
    (x * 1.0).backward()
    assert calls == ["later"]


def test_hook_on_one_output_of_several():
    x = leaf(1.0, 2.0)
    first, second = x.unbind()
    second.register_hook(lambda g: g * 5.0)
    (first + second).backward()
    assert x.grad.tolist() == [1.0, 5.0]


def test_hooks_act_in_grad_and_in_double_backward():
    x = leaf(2.0)
    y = x * x
    y.register_hook(lambda g: g * 3.0)
    (first,) = rk.grad(y, x, create_graph=True)
    (second,) = rk.grad(first, x)
    assert (first.item(), second.item()) == (12.0, 6.0)


@pytest.mark.parametrize(
    ("result", "error"),
    [(np.ones(1), DTypeError), (rk.ones(2), ShapeError), (rk.ones(1, dtype="float64"), DTypeError)],
)
def test_a_hook_must_return_a_fitting_gradient(result, error):
    x = leaf(2.0)
    x.register_hook(lambda g: result)
    with pytest.raises(error, match="hook"):
        (x * 1.0).backward()


def test_hook_without_a_gradient_is_refused():
    with pytest.raises(GraphError, match="register_hook"):
        rk.ones(1).register_hook(lambda g: g)


def test_retain_grad_keeps_the_gradient_of_a_result():
    x = leaf(2.0)
    y = x * 3.0
    y.retain_grad()
    other = y + x
    (other * 2.0).backward()
    assert y.grad.tolist() == [2.0]
    assert other.grad is None
    assert not shares(y.grad, x.grad)


@pytest.mark.parametrize("create_graph", [False, True])
def test_retained_gradients_add_up_over_passes_as_those_of_leaves_do(create_graph):
    x = leaf(2.0)
    y = x * 3.0
    y.retain_grad()
    z = y * y
    z.backward(retain_graph=True, create_graph=create_graph)
    first = y.grad
    z.backward(retain_graph=True)
    assert (y.grad.tolist(), first.tolist()) == ([24.0], [12.0])
    assert x.grad.tolist() == [72.0]


def test_grad_leaves_retained_gradients_alone():
    x = leaf(2.0)
    y = x * 3.0
    y.retain_grad()
    assert rk.grad(y * y, [x, y])[1].tolist() == [12.0]
    assert y.grad is None


@pytest.mark.parametrize("create_graph", [False, True])
def test_retained_gradients_do_not_share_memory(create_graph):
    x = leaf(2.0)
    a, b = x * 2.0, x * 3.0
    a.retain_grad()
    b.retain_grad()
    given = rk.ones(1)
    (a + b).backward(given, create_graph=create_graph)
    assert not shares(a.grad, b.grad)
    assert not shares(a.grad, given)


def test_retain_grad_with_create_graph():
    x = leaf(2.0)
    y = x * x
    y.retain_grad()
    (y * y).backward(create_graph=True)
    (second,) = rk.grad(y.grad, x)
    assert second.item() == 8.0


def test_retain_grad_without_a_gradient_is_refused():
    with pytest.raises(GraphError, match="retain_grad"):
        rk.ones(1).retain_grad()


@pytest.mark.parametrize("walk", ["backward", "grad"])
def test_a_gradient_is_handed_out_without_the_history_that_a_hook_gave_it(walk):
    """Also where nothing else can refer to it, so that it is not copied."""
    x, scale = rk.ones(3, requires_grad=True), rk.full((3,), 5.0, requires_grad=True)

    def scaled(gradient):
        with rk.enable_grad():
            return gradient * scale

    x.register_hook(scaled)
    y = (x * 2.0).sum()
    if walk == "backward":
        y.backward()
        found = x.grad
    else:
        (found,) = rk.grad(y, x)
    assert found.tolist() == [10.0] * 3
    assert not found.requires_grad
    assert found.grad_fn is None
    assert scale.grad is None
