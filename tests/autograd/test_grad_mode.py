"""no_grad and enable_grad: nesting, decorators, threads; and the silence of NumPy's warnings."""

import threading

import numpy as np
import pytest

import rnnkit as rk
from rnnkit.autograd.grad_mode import GradMode
from rnnkit.errors import ArgumentError


def recorded():
    return (rk.ones(1, requires_grad=True) * 2.0).requires_grad


def test_nesting():
    assert recorded()
    with rk.no_grad():
        assert not recorded()
        assert not rk.is_grad_enabled()
        with rk.enable_grad():
            assert recorded()
        assert not recorded()
    assert recorded()


def test_mode_is_restored_after_an_error():
    with pytest.raises(ZeroDivisionError), rk.no_grad():
        1 / 0  # noqa: B018
    assert rk.is_grad_enabled()


def test_one_object_may_be_entered_twice():
    mode = rk.no_grad()
    with mode, mode:
        assert not rk.is_grad_enabled()
    assert rk.is_grad_enabled()


def test_decorators():
    @rk.no_grad()
    def plain(depth):
        """Docs."""
        return recorded() if depth == 0 else plain(depth - 1)

    @rk.enable_grad()
    def recording():
        return recorded()

    assert plain(3) is False
    assert rk.is_grad_enabled()
    with rk.no_grad():
        assert recording() is True
    assert (plain.__name__, plain.__doc__) == ("plain", "Docs.")


def test_generators_are_not_decorated():
    with pytest.raises(ArgumentError, match="generator"):

        @rk.no_grad()
        def numbers():
            yield 1


def test_mode_belongs_to_the_thread():
    results = []
    with rk.no_grad():
        worker = threading.Thread(target=lambda: results.append(recorded()))
        worker.start()
        worker.join()
    assert results == [True]


@pytest.mark.parametrize("make", [rk.no_grad, lambda: rk.backend("python")])
def test_threads_enter_one_object_in_any_order(make):
    def mode():
        return rk.is_grad_enabled(), rk.get_backend()

    shared, found = make(), {}
    outside = {"a": (True, "native"), "b": (False, "auto")}
    inside = threading.Barrier(2, timeout=10)

    def enter(name):
        enabled, backend = outside[name]
        with GradMode(enabled), rk.backend(backend):
            if name == "b":
                inside.wait()  # enters after a
            with shared:
                if name == "a":
                    inside.wait()
                within = mode()
                inside.wait()
                if name == "b":
                    inside.wait()  # leaves after a
            found[name] = within, mode()
            if name == "a":
                inside.wait()

    threads = [threading.Thread(target=enter, args=name) for name in outside]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    with shared:
        switched = mode()
    for name, (within, after) in found.items():
        assert after == outside[name]
        assert within[make is not rk.no_grad] == switched[make is not rk.no_grad]
    assert len(found) == 2


@pytest.mark.parametrize("make", [rk.enable_grad, lambda: rk.backend("auto")])
def test_a_generator_that_another_thread_ends_leaves_its_mode_alone(make):
    def numbers():
        with make():
            yield 1

    begun = numbers()
    thread = threading.Thread(target=next, args=(begun,))
    thread.start()
    thread.join()
    with rk.no_grad(), rk.backend("python"):
        begun.close()
        assert (rk.is_grad_enabled(), rk.get_backend()) == (False, "python")
    assert (rk.is_grad_enabled(), rk.get_backend()) == (True, "auto")


@pytest.mark.parametrize("first", [0, 1])
@pytest.mark.parametrize("left_meanwhile", [False, True])
def test_generators_that_end_in_any_order_leave_the_mode_as_it_was(first, left_meanwhile):
    def numbers():
        with rk.no_grad(), rk.backend("python"):
            yield 1

    begun = [numbers(), numbers()]
    with rk.no_grad(), rk.backend("native"):
        for each in begun:
            next(each)
        if not left_meanwhile:
            begun.pop(first).close()
    for each in begun[first:] + begun[:first]:
        each.close()
    assert (rk.is_grad_enabled(), rk.get_backend()) == (True, "auto")


def test_threads_compute_at_the_same_time():
    results = []

    def work(scale):
        x = rk.full((50,), scale, requires_grad=True)
        y = x
        for _ in range(200):
            y = y * 1.0 + 0.0
        y.sum().backward()
        results.append(x.grad.data.sum())

    workers = [threading.Thread(target=work, args=(float(i),)) for i in range(8)]
    for worker in workers:
        worker.start()
    for worker in workers:
        worker.join()
    assert results == [50.0] * 8


def test_results_under_no_grad_hold_no_graph():
    x = rk.ones(1, requires_grad=True)
    with rk.no_grad():
        y = x.exp()
        pieces = rk.ones(2, requires_grad=True).unbind()
    assert y.grad_fn is None
    assert [piece.grad_fn for piece in pieces] == [None, None]


def test_numpys_own_error_state_is_left_alone():
    with np.errstate(all="raise"):
        assert (rk.tensor([0.0]) ** -1.0).item() == np.inf
        assert rk.tensor([1e38]).square().item() == np.inf
        with pytest.raises(FloatingPointError):
            np.float32([1e38]) * np.float32([1e38])
