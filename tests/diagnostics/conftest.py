"""Fixtures for the tests of the diagnostics."""

import pytest

import rnnkit as rk


@pytest.fixture(params=["python", "native"])
def path(request):
    """The name of a backend; the native one where the extension is built."""
    if request.param == "native" and not rk.config()["native"]:
        pytest.skip("the native extension is not built")
    with rk.backend(request.param):
        yield request.param
