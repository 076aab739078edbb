"""The thread pool as a user meets it: fork, several Python threads, Ctrl-C."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import threading
import time

import numpy as np
import pytest

import rnnkit as rk
from rnnkit import nn
from rnnkit.cells import CELLS

pytestmark = pytest.mark.usefixtures("native")


@pytest.fixture(autouse=True)
def two_threads():
    before = rk.get_num_threads()
    rk.set_num_threads(2)
    yield
    rk.set_num_threads(before)


def work(seed: int = 0, T: int = 30, N: int = 16, H: int = 48) -> list[np.ndarray]:
    """A training step large enough for two threads."""
    rng = np.random.default_rng(seed)
    rk.manual_seed(seed)
    model = nn.LSTM(H, H)
    x = rk.tensor(rng.standard_normal((T, N, H)).astype(np.float32))
    with rk.backend("native"):
        y, _ = model(x)
        y.sum().backward()
    return [y.numpy(), *[p.grad.numpy() for p in model.parameters()]]


def assert_same(a: list[np.ndarray], b: list[np.ndarray]) -> None:
    for left, right in zip(a, b, strict=True):
        np.testing.assert_array_equal(left, right)


@pytest.mark.parametrize("threads", [1, 3, 7])
def test_more_threads_than_processors_give_the_same_bits(threads):
    expected = work()
    rk.set_num_threads(threads)
    assert_same(work(), expected)


def test_several_python_threads_at_once():
    rk.manual_seed(0)
    model = nn.GRU(40, 40)
    x = rk.tensor(np.random.default_rng(0).standard_normal((40, 16, 40)).astype(np.float32))
    with rk.no_grad():
        expected = model(x)[0].numpy()
    wrong = []

    def run() -> None:
        with rk.no_grad():
            for _ in range(20):
                if not np.array_equal(model(x)[0].numpy(), expected):
                    wrong.append(1)

    threads = [threading.Thread(target=run) for _ in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(timeout=60)
        assert not thread.is_alive()
    assert not wrong


def test_after_a_fork_the_child_has_its_own_pool(in_child):
    expected = work()
    in_child(lambda: assert_same(work(), expected))
    assert_same(work(), expected)


FORK_IN_A_HANDLER = """
import os, signal
import numpy as np, rnnkit as rk
from rnnkit import nn
rk.set_num_threads(2)
model, children = nn.LSTM(8, {H}), []
x = rk.randn(10_000, {N}, 8)

def fork(*_):
    children.append(os.fork())
    if not children[-1]:
        print("nested", np.array_equal(model(x[:1000])[0].numpy(), start), flush=True)

signal.signal(signal.SIGALRM, fork)
with rk.backend("native"), rk.no_grad():
    start = model(x[:1000])[0].numpy()
    for _ in range(20):  # the signal may come before the run, or behind it
        signal.setitimer(signal.ITIMER_REAL, 0.01)
        try:
            y = model(x)[0].numpy()
        except RuntimeError as error:
            print(error, np.array_equal(model(x[:1000])[0].numpy(), start), flush=True)
            os._exit(3)
        signal.setitimer(signal.ITIMER_REAL, 0)
        if children and not children[-1]:
            os._exit(0)
        if children and os.waitstatus_to_exitcode(os.waitpid(children.pop(), 0)[1]) == 3:
            print("parent", np.array_equal(y[:1000], start))
            break
"""


@pytest.mark.skipif(not hasattr(os, "fork"), reason="needs fork")
@pytest.mark.parametrize(("N", "H"), [(16, 64), (1, 256)])
def test_a_child_forked_in_a_signal_handler_leaves_the_run(N, H):
    result = subprocess.run(
        [sys.executable, "-W", "ignore", "-c", FORK_IN_A_HANDLER.format(N=N, H=H)],
        capture_output=True, text=True, timeout=60,
    )
    assert result.stdout.splitlines()[-3:] == [
        "nested True",
        "a signal handler forked during a native run, which the child cannot finish True",
        "parent True",
    ], result.stderr


def end_alarms(former):
    """Put the handler back. One that is due would set the timer again, which would then end all."""
    signal.signal(signal.SIGALRM, signal.SIG_IGN)
    signal.setitimer(signal.ITIMER_REAL, 0)
    signal.signal(signal.SIGALRM, former)


LONG_RUN = """
import signal
import numpy as np, rnnkit as rk
from rnnkit import nn
signal.signal(signal.SIGINT, signal.default_int_handler)  # ignored in what a shell has put behind
rk.set_num_threads(2)
model = nn.LSTM(8, {H})
x = rk.zeros({T}, {N}, 8)
with rk.backend("native"), rk.no_grad():
    model(x[:3])
    print("ready", flush=True)
    try:
        model(x)
        print("finished")
    except KeyboardInterrupt:
        y, _ = model(x[:3])
        print("interrupted", bool(np.isfinite(y.numpy()).all()))
"""


# N = 16 splits the batch between the threads, N = 1 the hidden units.
@pytest.mark.parametrize(("T", "N", "H"), [(400_000, 16, 64), (400_000, 1, 256)])
def test_ctrl_c_stops_a_long_run(T, N, H):
    process = subprocess.Popen(
        [sys.executable, "-c", LONG_RUN.format(T=T, N=N, H=H)],
        stdout=subprocess.PIPE, text=True,
    )
    assert process.stdout is not None
    assert process.stdout.readline().strip() == "ready"
    time.sleep(0.2)
    process.send_signal(signal.SIGINT)
    out, _ = process.communicate(timeout=60)
    assert out.strip() == "interrupted True"
    assert process.returncode == 0


@pytest.mark.skipif(not hasattr(signal, "setitimer"), reason="needs setitimer")
def test_a_run_asks_seldom_where_the_answer_takes_long():
    """As where others hold the interpreter's lock; here, a signal is there each time."""
    model, x = nn.LSTM(8, 256), rk.zeros(300, 32, 8)
    taken = []

    def handle(*_: object) -> None:
        start = time.monotonic()
        time.sleep(0.01)
        taken.append(time.monotonic() - start)
        signal.setitimer(signal.ITIMER_REAL, 0.001)

    former = signal.signal(signal.SIGALRM, handle)
    try:
        with rk.backend("native"), rk.no_grad():
            model(x[:3])
            start = time.monotonic()
            signal.setitimer(signal.ITIMER_REAL, 0.001)
            model(x)
            whole = time.monotonic() - start
    finally:
        end_alarms(former)
    assert taken
    assert sum(taken) < whole / 2  # of the time between 100 chunks of steps it would be nearly all


@pytest.mark.skipif(not hasattr(signal, "setitimer"), reason="needs setitimer")
@pytest.mark.parametrize("cell", ["lstm", "mgu"])
def test_a_backward_pass_hears_signals(cell):
    """While it runs, in a fused kernel and in a program: afterwards, many are but one."""
    model, heard = nn.Recurrent(CELLS[cell](8, 64)), []

    def handle(*_: object) -> None:
        heard.append(cell)
        signal.setitimer(signal.ITIMER_REAL, 0.001)

    former = signal.signal(signal.SIGALRM, handle)
    try:
        with rk.backend("native"):
            y, _ = model(rk.zeros(6000, 16, 8))
            total = y.sum()
            time.sleep(0.11)  # longer than any pause after a question that took its time
            signal.setitimer(signal.ITIMER_REAL, 0.001)
            total.backward()
    finally:
        end_alarms(former)
    assert len(heard) > 3


@pytest.mark.skipif(not hasattr(signal, "setitimer"), reason="needs setitimer")
def test_a_program_within_a_run_has_the_bits_of_one_by_itself():
    """A signal handler that the run calls finds the pool taken: one thread has the rows of two."""
    inner, outer, found = nn.Recurrent(CELLS["mgu"](8, 64)), nn.LSTM(8, 256), []
    x = rk.tensor(np.random.default_rng(0).normal(size=(20, 16, 8)).astype(np.float32))

    def handle(*_: object) -> None:
        found.append(inner(x)[0].numpy())
        signal.setitimer(signal.ITIMER_REAL, 0.001)

    former = signal.signal(signal.SIGALRM, handle)
    try:
        with rk.backend("native"), rk.no_grad():
            expected = inner(x)[0].numpy()
            signal.setitimer(signal.ITIMER_REAL, 0.001)
            outer(rk.zeros(200, 32, 8))
    finally:
        end_alarms(former)
    assert found
    for each in found:
        np.testing.assert_array_equal(each, expected)


SIGNAL_FOR_THE_PROGRAM = """
import os, signal
import rnnkit as rk
from rnnkit import nn
rk.set_num_threads(2)
nn.LSTM(48, 48)(rk.zeros(30, 16, 48))
signal.pthread_sigmask(signal.SIG_BLOCK, {signal.SIGUSR1})  # which ends the process elsewhere
os.kill(os.getpid(), signal.SIGUSR1)
print(signal.sigwait({signal.SIGUSR1}) == signal.SIGUSR1)
"""


@pytest.mark.skipif(not hasattr(signal, "sigwait"), reason="needs sigwait")
def test_threads_of_the_pool_take_no_signals():
    result = subprocess.run(
        [sys.executable, "-c", SIGNAL_FOR_THE_PROGRAM], capture_output=True, text=True, timeout=60,
        # NumPy's own threads do take them.
        env={**os.environ, "OPENBLAS_NUM_THREADS": "1", "RNNKIT_BACKEND": "native"},
    )
    assert result.stdout == "True\n", result.stderr


def test_what_a_barrier_takes_is_measured():
    native = pytest.importorskip("rnnkit.backend._native")
    taken = native.barrier_time()
    assert 0 < taken < 1e7  # nanoseconds
    assert native.barrier_time() == taken  # not measured again so soon


FEW_THREADS = """
import os, resource
import numpy as np
import rnnkit as rk
from rnnkit import cells, nn

module = nn.Recurrent(cells.IndRNNCell(64, 64))
x = rk.tensor(np.random.default_rng(0).normal(size=(50, 64, 64)).astype("float32"))


def work():
    y, _ = module(x)
    return [y, *rk.grad(y.sum(), list(module.parameters()))]


rk.set_num_threads(1)
expected = work()
os.setuid(65534)  # for whom the limit holds
resource.setrlimit(resource.RLIMIT_NPROC, (3, 3))
rk.set_num_threads(8)
for _ in range(3):
    assert all((a.numpy() == b.numpy()).all() for a, b in zip(work(), expected, strict=True))
print("same")
"""


@pytest.mark.skipif(
    not sys.platform.startswith("linux") or os.getuid() != 0,
    reason="only root can become a user for whom threads are limited",
)
def test_fewer_threads_than_were_asked_for_give_the_same_bits():
    run = subprocess.run(
        [sys.executable, "-c", FEW_THREADS], capture_output=True, text=True, timeout=60
    )
    assert run.stdout == "same\n", run.stderr
