"""The walk back over the tape: results, what it keeps, what it frees, and how it scales."""

import gc
import threading
import time
import weakref

import numpy as np
import pytest

import rnnkit as rk
from rnnkit import PRIMITIVES
from rnnkit.errors import ArgumentError, DTypeError, GraphError, ShapeError

DEEP = 100_000


def leaf(*values):
    return rk.tensor(values, requires_grad=True)


def weights(size):
    """Distinct small whole numbers: float32 sums of them are exact, and no two places are alike."""
    return (np.arange(size) % 7 - 3).astype(np.float32)


# ---- values


def test_gradients_add_up_over_all_uses_of_a_tensor():
    x = leaf(2.0, 3.0)
    y = x * x + x.exp() * 2.0 - x
    y.backward(rk.tensor([1.0, 10.0]))
    np.testing.assert_allclose(
        x.grad.data, (2 * x.data + 2 * np.exp(x.data) - 1) * [1, 10], rtol=1e-6
    )


def test_a_gradient_given_as_a_number_takes_the_dtype():
    x = rk.tensor([2.0], dtype="float64", requires_grad=True)
    x.sum().backward(3.0)
    assert x.grad.item() == 3.0


def test_a_leaf_frozen_before_backward_gets_no_gradient():
    a, b = leaf(2.0), leaf(3.0)
    y = a * b
    a.requires_grad_(False)
    y.backward()
    assert a.grad is None
    assert b.grad.item() == 2.0


def test_two_backward_passes_accumulate():
    x = leaf(2.0)
    (x * 3.0).backward()
    (x * 4.0).backward()
    assert x.grad.item() == 7.0


def test_backward_of_a_leaf_is_the_gradient_itself():
    x = leaf(1.0, 2.0)
    x.backward(rk.tensor([3.0, 4.0]))
    assert x.grad.tolist() == [3.0, 4.0]


def test_gradient_may_be_an_array():
    x = leaf(1.0, 2.0)
    (x * 2.0).backward(np.float32([3.0, 4.0]))
    assert x.grad.tolist() == [6.0, 8.0]


def test_diamonds_are_visited_once():
    """2^60 paths lead from the result to the leaf."""
    x = leaf(1.0)
    y = x
    for _ in range(60):
        y = (y + y) * 0.5
    y.backward()
    assert x.grad.item() == 1.0


def test_creation_order_decides_not_use_order():
    x = leaf(3.0)
    early = x * 2.0
    late = x * 5.0
    (late * early + early).backward()
    assert x.grad.item() == 2 * 10 * 3.0 + 2


def test_only_the_needed_rules_run(monkeypatch):
    calls = []
    mul = PRIMITIVES["mul"]
    rules = tuple(
        lambda *args, i=i, rule=rule: (calls.append(i), rule(*args))[1]
        for i, rule in enumerate(mul.rules)
    )
    monkeypatch.setattr(mul, "rules", rules)
    a, b = leaf(2.0), rk.tensor([3.0])
    (a * b).backward()
    assert calls == [0]
    calls.clear()
    c = leaf(5.0)
    rk.grad(a * c, c)
    assert calls == [1]


def test_branches_without_a_gradient_are_skipped():
    x = leaf(1.0, 2.0)
    first, second = x.unbind()
    (first * 3.0).backward()
    assert x.grad.tolist() == [3.0, 0.0]
    assert second.requires_grad


# ---- depth and width


def test_deep_graph():
    x = leaf(1.0, 2.0)
    y = x
    for _ in range(DEEP):
        y = y * 1.0
    started = time.perf_counter()
    y.backward(rk.tensor([3.0, 4.0]))
    assert time.perf_counter() - started < 20
    assert x.grad.tolist() == [3.0, 4.0]


@pytest.mark.parametrize("kept", ["graph is dropped", "graph is walked and kept"])
def test_deep_graph_is_freed_without_recursion(kept):
    def build():
        y = leaf(1.0)
        for _ in range(DEEP):
            y = y + 1.0
        if kept == "graph is walked and kept":
            y.backward(retain_graph=True)

    # A thread's stack is the smaller one.
    worker = threading.Thread(target=build)
    worker.start()
    worker.join()


def test_deep_graph_of_a_double_backward():
    x = leaf(1.0)
    y = x
    for _ in range(DEEP // 10):
        y = y * 1.0
    (first,) = rk.grad(y * y, x, create_graph=True)
    (second,) = rk.grad(first, x)
    assert (first.item(), second.item()) == (2.0, 2.0)


@pytest.mark.parametrize(
    "slices",
    [
        lambda x: [x[t] for t in range(DEEP)],
        lambda x: [x[t : t + 1].squeeze(0) for t in range(DEEP)],
        lambda x: x.unbind(),
        lambda x: [piece.squeeze(0) for piece in x.split(1)],
    ],
    ids=["x[t]", "x[t:t+1]", "unbind", "split"],
)
def test_many_slices_of_one_tensor_take_linear_time(slices):
    x = rk.zeros(DEEP, 2, requires_grad=True)
    weight = weights(2 * DEEP).reshape(DEEP, 2)
    y = rk.stack(slices(x))
    started = time.perf_counter()
    y.backward(rk.tensor(weight))
    assert time.perf_counter() - started < 20
    np.testing.assert_array_equal(x.grad.data, weight)


def test_many_slices_in_a_double_backward_take_linear_time():
    x = rk.ones(DEEP // 5, 2, requires_grad=True)
    y = rk.stack([x[t] * x[t] for t in range(DEEP // 5)]).sum()
    started = time.perf_counter()
    (first,) = rk.grad(y, x, create_graph=True)
    (second,) = rk.grad((first * first).sum(), x)
    assert time.perf_counter() - started < 20
    np.testing.assert_array_equal(second.data, np.full(x.shape, 8.0))


def test_one_weight_used_many_times_takes_linear_time():
    w = leaf(1.0, 1.0)
    total = rk.stack([w] * DEEP)
    used = rk.zeros(2)
    for _ in range(1000):
        used = used + w
    (total.sum() + used.sum()).backward()
    assert w.grad.tolist() == [DEEP + 1000.0] * 2


def test_slices_and_whole_uses_mix():
    x = leaf(1.0, 2.0, 3.0)
    y = x[1] * 10.0 + (x * rk.tensor([1.0, 2.0, 3.0])).sum() + x[1:].sum() + x[[0, 0]].sum()
    y.backward()
    assert x.grad.tolist() == [3.0, 13.0, 4.0]


# ---- freeing


def test_second_backward_says_what_to_do():
    x = leaf(2.0)
    y = x.exp()
    y.backward()
    with pytest.raises(GraphError, match=r"freed.*exp.*retain_graph=True"):
        y.backward()
    assert x.grad.item() == pytest.approx(np.exp(2.0))


def test_carried_state_without_detach_says_so():
    w = leaf(2.0)
    state = rk.ones(1)
    state = (state * w).tanh()
    state.sum().backward()
    with pytest.raises(GraphError, match="detach"):
        (state * w).sum().backward()


def test_retain_graph_allows_a_second_pass():
    x = leaf(2.0)
    y = x * x
    y.backward(retain_graph=True)
    y.backward()
    assert x.grad.item() == 8.0
    with pytest.raises(GraphError):
        y.backward()


def test_backward_frees_what_the_nodes_kept():
    x = leaf(2.0)
    middle = x.exp()
    gone = weakref.ref(middle)
    y = middle.tanh()
    del middle
    assert gone() is not None
    y.backward()
    assert gone() is None


def test_arrays_are_freed_while_the_walk_goes_on():
    x = leaf(2.0)
    first = x.exp()
    second = first.tanh()
    y = second.sigmoid()
    gone = weakref.ref(second)
    first.register_hook(lambda g: dead.append(gone() is None))
    dead = []
    del first, second
    y.backward()
    assert dead == [True]


def test_graphs_hold_no_reference_cycles():
    gc.collect()
    gc.disable()
    try:
        x = leaf(1.0, 2.0)
        y = rk.cat([x.exp().sigmoid(), *x.chunk(2)])
        (g,) = rk.grad(y.sum(), x, create_graph=True)
        z = g.sum()
        gone = [weakref.ref(y), weakref.ref(z), weakref.ref(g)]
        del y, z, g
        assert [ref() for ref in gone] == [None] * 3
    finally:
        gc.enable()


def test_a_failing_rule_leaves_every_grad_alone(monkeypatch):
    x = leaf(2.0)
    y = x * 3.0 + x.exp()

    def fail(*_):
        raise RuntimeError("broken rule")

    monkeypatch.setattr(PRIMITIVES["exp"], "rules", (fail,))
    with pytest.raises(RuntimeError, match="broken rule"):
        y.backward()
    assert x.grad is None
    assert rk.is_grad_enabled()


# ---- whose array is it


def shares(a, b):
    return np.shares_memory(a.data, b.data)


def test_two_leaves_never_share_a_gradient():
    a, b = leaf(1.0, 2.0), leaf(3.0, 4.0)
    (a + b).backward(rk.ones(2))
    assert not shares(a.grad, b.grad)


@pytest.mark.parametrize("create_graph", [False, True])
def test_a_gradient_never_aliases_what_the_user_passed(create_graph):
    a, b = leaf(1.0, 2.0), leaf(3.0, 4.0)
    given = rk.ones(2)
    (a + b).backward(given, create_graph=create_graph)
    assert not shares(a.grad, given)
    assert not shares(b.grad, given)
    assert not shares(a.grad, b.grad)


def test_a_gradient_never_aliases_data():
    x = leaf(2.0, 3.0)
    (x * x.detach()).sum().backward()
    y = leaf(2.0, 3.0)
    (y * x).sum().backward()
    assert not shares(y.grad, x)
    assert not shares(x.grad, x)


def test_a_gradient_seen_by_a_hook_is_not_taken_over():
    x = leaf(1.0, 2.0)
    seen = []
    x.register_hook(lambda g: seen.append(g))
    (x * rk.tensor([2.0, 3.0])).sum().backward()
    assert not shares(x.grad, seen[0])


def test_a_grad_that_someone_holds_is_not_added_to_in_place():
    x = leaf(1.0)
    (x * 3.0).backward()
    held = x.grad
    (x * 4.0).backward()
    assert (held.item(), x.grad.item()) == (3.0, 7.0)


def test_an_array_given_as_grad_is_not_added_to_in_place():
    x = leaf(1.0)
    mine = np.ones(1, np.float32)
    x.grad = rk.as_tensor(mine)
    (x * 4.0).backward()
    assert (mine[0], x.grad.item()) == (1.0, 5.0)


def test_a_grad_of_our_own_is_added_to_in_place():
    x = leaf(1.0)
    (x * 3.0).backward()
    address = x.grad.data.ctypes.data
    (x * 4.0).backward()
    assert x.grad.data.ctypes.data == address


def test_a_fresh_gradient_is_taken_over_without_a_copy():
    addresses = []

    class Product(rk.Function):
        @staticmethod
        def forward(ctx, x):
            return x * 2

        @staticmethod
        def backward(ctx, d_y):
            made = d_y * 2.0
            addresses.append(made.data.ctypes.data)
            return made

    x = leaf(1.0, 2.0)
    Product.apply(x).backward(rk.ones(2))
    assert x.grad.data.ctypes.data == addresses[0]


@pytest.mark.parametrize(
    "fn",
    [
        lambda x: x.sum(),
        lambda x: x.T[0].sum(),
        lambda x: x.flip(0).reshape(-1)[1:].sum(),
        lambda x: rk.cat([x, x], 1).mean(),
    ],
)
def test_grad_is_writeable_contiguous_and_whole(fn):
    x = rk.ones(3, 5, requires_grad=True)
    fn(x).backward()
    assert x.grad.data.flags.writeable
    assert x.grad.data.flags.c_contiguous
    assert x.grad.shape == x.shape


def test_contributions_are_summed_without_touching_shared_ones():
    a, b = leaf(1.0), leaf(2.0)
    s = a + b
    d = rk.tensor([1.0])
    rk.stack([s, s, a, s], 0).backward(rk.tensor([[1.0], [2.0], [4.0], [8.0]]))
    assert (a.grad.item(), b.grad.item(), d.item()) == (15.0, 11.0, 1.0)


# ---- grad()


def test_grad_leaves_grad_alone():
    x = leaf(3.0)
    (d_x,) = rk.grad(x * x, x)
    assert d_x.item() == 6.0
    assert x.grad is None


def test_grad_of_several_outputs_and_inputs():
    a, b = leaf(2.0, 3.0), leaf(5.0)
    d_a, d_b = rk.grad([a * b, a.sum()], [a, b], [rk.tensor([1.0, 10.0]), None])
    assert d_a.tolist() == [6.0, 51.0]
    assert d_b.tolist() == [32.0]


def test_grad_with_respect_to_a_result():
    x = leaf(2.0)
    middle = x * x
    y = middle.exp() + x
    d_middle, d_x = rk.grad(y, [middle, x])
    assert d_middle.item() == pytest.approx(np.exp(4.0))
    assert d_x.item() == pytest.approx(1 + 4 * np.exp(4.0))


def test_grad_with_respect_to_one_output_of_several():
    x = leaf(1.0, 2.0, 3.0)
    first, second, _ = x.unbind()
    (d_second,) = rk.grad(first * second, second)
    assert d_second.item() == 1.0


def test_grad_with_respect_to_itself():
    x = leaf(1.0)
    y = x * 2.0
    d_y, d_x = rk.grad(y, [y, x], rk.tensor([3.0]))
    assert (d_y.item(), d_x.item()) == (3.0, 6.0)


def test_grad_does_not_walk_past_its_inputs():
    x = leaf(2.0)
    middle = x * x
    y = middle * 3.0
    rk.grad(y, middle)
    # Only the node between the two was freed.
    middle.backward()
    assert x.grad.item() == 4.0


def test_grad_of_an_unused_input():
    x, unused = leaf(1.0), leaf(1.0)
    with pytest.raises(GraphError, match=r"inputs\[1\] was not used"):
        rk.grad(x * 2.0, [x, unused])
    assert rk.grad(x * 2.0, [x, unused], allow_unused=True)[1] is None


def test_grad_results_do_not_share_memory():
    a, b = leaf(1.0), leaf(2.0)
    given = rk.ones(1)
    d_a, d_b, again = rk.grad(a + b, [a, b, a], given)
    assert not shares(d_a, d_b)
    assert not shares(d_a, again)
    assert not shares(d_a, given)


@pytest.mark.parametrize("twice", [False, True])
def test_grad_copies_only_what_is_shared(monkeypatch, twice):
    mul = PRIMITIVES["mul"]
    made = []

    def rule(d_y, _, a, b):
        d_a = d_y.clone()
        made.append(d_a.data.ctypes.data)
        return d_a

    monkeypatch.setattr(mul, "rules", (rule, None))
    x = leaf(1.0)
    results = rk.grad(x * 2.0, [x, x] if twice else x)
    assert results[0].data.ctypes.data == made[0]
    assert len({d_x.data.ctypes.data for d_x in results}) == len(results)


def test_third_derivative():
    x = leaf(2.0)
    y = x**5
    for _ in range(3):
        (y,) = rk.grad(y, x, create_graph=True)
    assert y.item() == pytest.approx(60 * 2.0**2)


def test_backward_with_create_graph_makes_grad_differentiable():
    x = leaf(3.0)
    (x * x * x).backward(create_graph=True)
    first = x.grad
    x.grad = None
    first.backward()
    assert (first.item(), x.grad.item()) == (27.0, 18.0)


def test_create_graph_accumulates_into_an_existing_grad():
    x = leaf(3.0)
    (x * x).backward(create_graph=True)
    (x * x).backward(create_graph=True)
    total = x.grad
    x.grad = None
    total.backward()
    assert (total.item(), x.grad.item()) == (12.0, 4.0)


def test_without_create_graph_nothing_is_recorded():
    x = leaf(3.0)
    (d_x,) = rk.grad(x * x, x)
    assert not d_x.requires_grad
    (x * x).backward()
    assert not x.grad.requires_grad


@pytest.mark.parametrize(
    ("call", "error", "text"),
    [
        (lambda x: x.detach().backward(), GraphError, "does not require a gradient"),
        (lambda x: (x * 2.0).backward(), GraphError, r"one-element.*\(2,\)"),
        (lambda x: x.backward(rk.ones(3)), ShapeError, r"expected shape \(2,\), got \(3,\)"),
        (lambda x: x.backward(rk.ones(2, dtype="float64")), DTypeError, "float32, got float64"),
        (lambda x: rk.grad(x.sum(), rk.ones(2)), GraphError, r"inputs\[0\] does not require"),
        (lambda x: rk.grad(rk.ones(1), x), GraphError, r"outputs\[0\] does not require"),
        (lambda x: rk.grad(x.sum(), [np.ones(2)]), DTypeError, r"inputs\[0\].*ndarray"),
        (lambda x: rk.grad(x.sum(), x, [None, None]), ArgumentError, r"per output \(1\), got 2"),
    ],
)
def test_errors_say_what_was_expected(call, error, text):
    with pytest.raises(error, match=text):
        call(leaf(1.0, 2.0))


def test_grad_of_nothing_is_refused():
    x = rk.ones(2).requires_grad_()
    for arguments, name in (((None, x), "outputs"), ((x.sum(), None), "inputs")):
        with pytest.raises(DTypeError, match=f"^{name}: expected a Tensor or several"):
            rk.grad(*arguments)
