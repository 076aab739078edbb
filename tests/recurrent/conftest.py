"""Fixtures for the tests of the recurrent primitive."""

import pytest

import rnnkit as rk


@pytest.fixture
def threads(native):
    """Sets the number of threads, and puts it back after the test."""
    before = rk.get_num_threads()
    yield rk.set_num_threads
    rk.set_num_threads(before)


@pytest.fixture(params=["python", "native"])
def path(request):
    """The name of a backend; the native one under the conditions of ``native``.

    A case that no fused kernel runs gets "auto" in its place: the best path there is for it.
    """
    name = request.param
    if name == "native":
        request.getfixturevalue("native")
        case = getattr(request.node, "callspec", None)
        case = None if case is None else case.params.get("case")
        if not getattr(case, "fused", True):
            name = "auto"
    with rk.backend(name):
        yield name
