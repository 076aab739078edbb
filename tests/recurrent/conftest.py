"""Fixtures for the tests of the recurrent primitive."""

import os

import pytest

import rnnkit as rk


@pytest.fixture
def native():
    """Needs the native extension: skips without it, unless it is required to be there."""
    configuration = rk.config()
    if not configuration["native"]:
        reason = f"the native extension is not built: {configuration['native_error']}"
        if os.environ.get("RNNKIT_REQUIRE_NATIVE") == "1":
            pytest.fail(reason)
        pytest.skip(reason)


@pytest.fixture(params=["python", "native"])
def path(request):
    """The name of a backend; the native one under the conditions of ``native``."""
    if request.param == "native":
        request.getfixturevalue("native")
    with rk.backend(request.param):
        yield request.param
