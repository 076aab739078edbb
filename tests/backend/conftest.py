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


@pytest.fixture
def every_isa():
    """Goes over the names of the instruction sets, each in force in its turn."""
    before = EXTENSION.isa_in_use()

    def each():
        for name in EXTENSION.isa_supported():
            EXTENSION.choose_isa(name)
            yield name

    yield each
    EXTENSION.choose_isa(before)
