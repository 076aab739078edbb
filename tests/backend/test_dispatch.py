"""Which path is taken, and what is said about it."""

from __future__ import annotations

import re
import subprocess
import sys
import threading

import numpy as np
import pytest

import rnnkit as rk
from rnnkit import nn
from rnnkit.backend import native
from rnnkit.errors import ArgumentError, BackendError


def run_python(code: str, **env: str) -> subprocess.CompletedProcess[str]:
    import os

    return subprocess.run(
        [sys.executable, "-W", "always", "-c", code],
        capture_output=True, text=True, timeout=120, check=False, env={**os.environ, **env},
    )


def step() -> None:
    nn.GRU(3, 4)(rk.zeros(2, 1, 3))


@pytest.mark.usefixtures("native")
def test_auto_takes_the_fused_kernel_and_says_why():
    with rk.backend("auto"):
        step()
    last = rk.why(1)[0]
    assert last.path == "fused"
    assert "fused gru kernel" in last.reason
    assert "T=2 N=1 I=3 H=4" in last.op
    assert last.path in repr(last)


def test_python_can_be_asked_for():
    with rk.backend("python"):
        step()
    last = rk.why(1)[0]
    assert last.path == "python"
    assert "is in force" in last.reason


class Doubling(rk.Cell):
    def step(self, x, state):
        h = x[:, : self.hidden_size] * 2 + state[0]
        return h, (h,)


class Reading(rk.Cell):
    """Looks at numbers, as no program can."""

    def step(self, x, state):
        h = x[:, : self.hidden_size] * float(x.data.max() > 0) + state[0]
        return h, (h,)


def test_a_cell_without_a_kernel_runs_as_a_program_and_says_so():
    with rk.backend("auto"):
        nn.Recurrent(Doubling(4, 3))(rk.ones(2, 1, 4))
    assert rk.why(1)[0].path == ("python" if native() is None else "program")


def test_a_cell_that_cannot_be_traced_runs_in_python_and_says_why():
    with rk.backend("auto"):
        nn.Recurrent(Reading(4, 3))(rk.ones(2, 1, 4))
    assert rk.why(1)[0].path == "python"
    if native() is not None:
        reason = r"test_dispatch\.py:\d+: the numbers of a tensor are read"
        assert re.search(reason, rk.why(1)[0].reason)
        with rk.backend("native"), pytest.raises(BackendError, match=reason):
            nn.Recurrent(Reading(4, 3))(rk.ones(2, 1, 4))


def test_contexts_nest_and_restore():
    before = rk.get_backend()
    with rk.backend("python"):
        with rk.backend("auto"):
            assert rk.get_backend() == "auto"
        assert rk.get_backend() == "python"
        with pytest.raises(ZeroDivisionError), rk.backend("auto"):
            raise ZeroDivisionError
        assert rk.get_backend() == "python"
    assert rk.get_backend() == before


def test_a_context_is_this_threads_only():
    seen = []
    with rk.backend("python"):
        thread = threading.Thread(target=lambda: seen.append(rk.get_backend()))
        thread.start()
        thread.join()
    assert seen == [rk.get_backend()]


def test_set_backend_is_for_the_process():
    before = rk.get_backend()
    try:
        rk.set_backend("python")
        assert rk.get_backend() == "python"
    finally:
        rk.set_backend(before)


@pytest.mark.parametrize("choose", [rk.backend, rk.set_backend])
def test_an_unknown_backend_is_named(choose):
    with pytest.raises(ArgumentError, match="auto, native, python, got 'gpu'"):
        choose("gpu")


@pytest.mark.parametrize(
    ("variable", "value", "message"),
    [
        ("RNNKIT_BACKEND", "gpu", "expected one of auto, native, python, got 'gpu'"),
        ("RNNKIT_NUM_THREADS", "zero", "a whole number from 1 to 256, got 'zero'"),
        ("RNNKIT_NUM_THREADS", "0", "a whole number from 1 to 256, got '0'"),
        ("RNNKIT_ISA", "mmx", "expected one of"),
        ("RNNKIT_KEEP_MEMORY", "yes", "must be 0 or 1, got 'yes'"),
    ],
)
def test_bad_environment_variables_are_named(variable, value, message):
    if variable == "RNNKIT_ISA" and native() is None:
        pytest.skip("the native extension is not built")
    done = run_python("import rnnkit as rk; rk.config()", **{variable: value})
    assert done.returncode != 0
    last = done.stderr.strip().splitlines()[-1]
    assert variable in last
    assert message in last


def test_environment_variables_choose():
    code = "import rnnkit as rk; print(rk.get_backend(), rk.get_num_threads())"
    done = run_python(code, RNNKIT_BACKEND="python", RNNKIT_NUM_THREADS="3")
    assert done.stdout.split() == ["python", "3"]


@pytest.mark.parametrize("variable", ["RNNKIT_KEEP_MEMORY", "MALLOC_TRIM_THRESHOLD_"])
def test_malloc_is_left_alone_where_the_user_says_so(variable):
    code = "import rnnkit as rk; print(rk.config()['keeps_freed_memory'])"
    assert run_python(code, **{variable: "0"}).stdout.split() == ["False"]


FAULTS = """
import resource
import numpy as np
import rnnkit as rk

lstm, x = rk.nn.LSTM(100, 100), rk.tensor(np.ones((100, 2, 100), np.float32))


def steps(n):
    for _ in range(n):
        rk.grad(lstm(x)[0], list(lstm.parameters()), rk.ones(100, 2, 100))


steps(5)
before = resource.getrusage(resource.RUSAGE_SELF).ru_minflt
steps(20)
faults = resource.getrusage(resource.RUSAGE_SELF).ru_minflt - before
print(rk.config()["keeps_freed_memory"], faults)
"""


def test_a_training_step_reuses_the_memory_of_the_one_before():
    if native() is None:
        pytest.skip("the native extension is not built")
    pytest.importorskip("resource")
    kept, faults = run_python(FAULTS).stdout.split()
    if kept == "False":
        pytest.skip("this malloc cannot be asked to keep memory")
    assert int(faults) < 20  # a step that maps its memory anew meets two hundred


@pytest.mark.parametrize("n", [0, -1, 257, 1.5, "2", True])
def test_set_num_threads_refuses(n):
    with pytest.raises(ArgumentError, match=r"^n: expected an integer from 1 to 256, got"):
        rk.set_num_threads(n)


def test_config_tells_what_runs():
    config = rk.config()
    assert config["rnnkit"] == rk.__version__
    assert config["num_threads"] == rk.get_num_threads()
    assert config["native"] is (native() is not None)
    if config["native"]:
        assert config["isa_in_use"] in config["isa_supported"]
        assert set(config["isa_supported"]) <= set(config["isa_built"])
        assert "generic" in config["isa_built"]
        assert config["native_error"] is None


WITHOUT_EXTENSION = """
import sys, warnings
sys.modules["rnnkit.backend._native"] = None
import numpy as np
import rnnkit as rk
from rnnkit import nn
"""


def test_without_the_extension_python_runs_and_says_so_once():
    code = WITHOUT_EXTENSION + """
with warnings.catch_warnings(record=True) as caught:
    warnings.simplefilter("always")
    for _ in range(3):
        y, h = nn.GRU(3, 4)(rk.ones(2, 1, 3))
assert len(caught) == 1, caught
assert "native extension could not be loaded" in str(caught[0].message)
assert rk.why(1)[0].path == "python"
assert rk.config()["native"] is False and rk.config()["native_error"]
y.sum().backward()
print("done")
"""
    done = run_python(code, RNNKIT_BACKEND="auto")
    assert done.stdout.strip() == "done", done.stderr


def test_without_the_extension_native_raises_the_reason():
    code = WITHOUT_EXTENSION + """
try:
    nn.GRU(3, 4)(rk.ones(2, 1, 3))
except rk.errors.BackendError as error:
    print(error)
"""
    done = run_python(code, RNNKIT_BACKEND="native")
    assert "the native extension could not be loaded" in done.stdout, done.stderr


@pytest.mark.usefixtures("native")
def test_paths_agree():
    rk.manual_seed(3)
    model = nn.LSTM(5, 6)
    x = rk.tensor(np.random.default_rng(0).standard_normal((4, 2, 5)).astype(np.float32))
    results = []
    for name in ("python", "native"):
        with rk.backend(name):
            results.append(model(x)[0].numpy())
    np.testing.assert_allclose(*results, rtol=1e-5, atol=1e-6)
