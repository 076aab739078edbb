"""Shared by all tests: every test starts from the same random numbers; and both paths."""

import gc
import os
import signal
import time
import warnings
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
                f"{source} has changed since it was compiled: `make interpreted` takes away what "
                "is compiled of Python, `make` compiles it again"
            )


@pytest.fixture(autouse=True, scope="module")
def _garbage_is_that_of_the_module():
    """Thousands of tests and their reports stay till the end: a collection need not visit them."""
    gc.collect()
    gc.freeze()


@pytest.fixture(autouse=True)
def _same_random_numbers():
    rk.manual_seed(0)


@pytest.fixture
def native():
    """Needs the native extension: skips without it, unless it is required to be there."""
    configuration = rk.config()
    if not configuration["native"]:
        reason = f"the native extension is not built: {configuration['native_error']}"
        if os.environ.get("RNNKIT_REQUIRE_NATIVE") == "1":
            pytest.fail(reason)
        pytest.skip(reason)


@pytest.fixture
def in_child():
    """Runs a function in a forked child; fails where it raises there, or hangs."""
    if not hasattr(os, "fork"):
        pytest.skip("needs fork")

    def run(function):
        with warnings.catch_warnings():
            warnings.filterwarnings("ignore", ".*multi-threaded.*", DeprecationWarning)
            child = os.fork()
        if child == 0:
            status = 1
            try:
                function()
                status = 0
            finally:
                os._exit(status)
        deadline = time.monotonic() + 60
        while time.monotonic() < deadline:
            done, status = os.waitpid(child, os.WNOHANG)
            if done:
                assert os.waitstatus_to_exitcode(status) == 0
                return
            time.sleep(0.01)
        os.kill(child, signal.SIGKILL)
        os.waitpid(child, 0)
        pytest.fail("the child hung")

    return run


@pytest.fixture(params=["python", "native"])
def path(request):
    """The name of a backend; the native one under the conditions of ``native``."""
    if request.param == "native":
        request.getfixturevalue("native")
    with rk.backend(request.param):
        yield request.param


@pytest.fixture
def every_isa(native):
    """Goes over the names of the instruction sets, each in force in its turn."""
    extension = rk.backend.native()
    before = extension.isa_in_use()

    def each():
        for name in extension.isa_supported():
            extension.choose_isa(name)
            yield name

    yield each
    extension.choose_isa(before)
