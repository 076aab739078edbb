"""Fixtures for the tests of the native extension."""

import pytest

import rnnkit as rk

EXTENSION = rk.backend.native()


@pytest.fixture(params=[] if EXTENSION is None else EXTENSION.isa_supported())
def isa(request):
    """The name of an instruction set, which is in force."""
    before = EXTENSION.isa_in_use()
    EXTENSION.choose_isa(request.param)
    yield request.param
    EXTENSION.choose_isa(before)
