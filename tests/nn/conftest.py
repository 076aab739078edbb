"""Fixtures for the tests of modules."""

import pytest

import rnnkit as rk


@pytest.fixture(params=["python", "auto"])
def path(request):
    """The tape, and the best path there is for each module."""
    with rk.backend(request.param):
        yield request.param
