"""What ``import rnnkit`` offers, and what it does not load."""

import subprocess
import sys

import pytest

import rnnkit as rk

# Modules that NumPy itself does not need: each would cost start-up time.
HEAVY = (
    "argparse", "asyncio", "concurrent", "dataclasses", "importlib.metadata", "json", "logging",
    "multiprocessing", "numpy.random", "pathlib", "subprocess", "tempfile", "threading",
)  # fmt: skip


def run(code):
    done = subprocess.run(
        [sys.executable, "-c", code], capture_output=True, text=True, timeout=60, check=True
    )
    return done.stdout.split()


def test_importing_rnnkit_loads_no_heavy_module():
    loaded = f"print(*[name for name in {HEAVY!r} if name in sys.modules])"
    alone = run(f"import sys, numpy; {loaded}")
    assert set(run(f"import sys, rnnkit; {loaded}")) <= set(alone)


def test_only_the_engine_is_imported_at_once():
    loaded = run(
        "import sys, rnnkit; print(*{n.split('.')[1] for n in sys.modules if n[:7] == 'rnnkit.'})"
    )
    assert set(loaded) == {"errors", "checks", "forks", "autograd", "ops", "rng"}


def test_every_public_name_exists():
    assert [name for name in rk.__all__ if getattr(rk, name, None) is None] == []
    assert set(rk.__all__) <= set(dir(rk))


def test_backend_is_a_package_and_a_context_manager():
    code = """
import rnnkit as rk
with rk.backend("python"):
    import rnnkit.backend
    from rnnkit.backend import why
    assert rk.get_backend() == "python"
    assert rk.why is why
with rk.backend("auto"):
    print(rk.get_backend())
"""
    assert run(code) == ["auto"]


def test_unknown_attributes_are_named():
    with pytest.raises(AttributeError, match="module 'rnnkit' has no attribute 'nonsense'"):
        rk.nonsense  # noqa: B018
    for package in (rk.cells, rk.data, rk.train):
        message = f"module '{package.__name__}' has no attribute 'nonsense'"
        with pytest.raises(AttributeError, match=message):
            package.nonsense  # noqa: B018
        assert {*package.__all__} <= {*dir(package)}
