"""Shared by all tests: every test starts from the same random numbers."""

import gc
from pathlib import Path

import pytest

import rnnkit as rk

ROOT = Path(__file__).resolve().parent.parent


def pytest_configure():
    """What was compiled would be tested in place of Python that has changed since.

    That is so of a checkout alone: the times of an installed package are those of its installation.
    """
    package = Path(rk.__file__).resolve().parent
    if package.parent != ROOT:
        return
    for compiled in package.rglob("*.so"):
        source = compiled.with_name(compiled.name.partition(".")[0] + ".py")
        if source.exists() and source.stat().st_mtime > compiled.stat().st_mtime:
            raise pytest.UsageError(
                f"{source} has changed since it was compiled: delete {compiled.name}, and it is "
                "interpreted; `make` compiles all of them again"
            )


@pytest.fixture(autouse=True, scope="module")
def _garbage_is_that_of_the_module():
    """Thousands of tests and their reports stay till the end: a collection need not visit them."""
    gc.collect()
    gc.freeze()


@pytest.fixture(autouse=True)
def _same_random_numbers():
    rk.manual_seed(0)
