"""Shared by all tests: every test starts from the same random numbers."""

from pathlib import Path

import pytest

import rnnkit as rk


def pytest_configure():
    """What was compiled would be tested in place of Python that has changed since."""
    for compiled in Path(rk.__file__).parent.rglob("*.so"):
        source = compiled.with_name(compiled.name.partition(".")[0] + ".py")
        if source.exists() and source.stat().st_mtime > compiled.stat().st_mtime:
            raise pytest.UsageError(
                f"{source} has changed since it was compiled: delete {compiled.name}, and it is "
                "interpreted; `make` compiles all of them again"
            )


@pytest.fixture(autouse=True)
def _same_random_numbers():
    rk.manual_seed(0)
