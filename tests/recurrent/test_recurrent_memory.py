"""What the native path keeps: nothing per step without a graph, and the documented sizes with one.

NumPy reports its allocations to ``tracemalloc``, and the native path allocates through NumPy only.
"""

import gc
import tracemalloc

import numpy as np
import pytest
from recurrent_contract import fused_cases, make_layer

import rnnkit as rk
from rnnkit import nn
from rnnkit.recurrent import native as native_path
from rnnkit.recurrent import run_layer

pytestmark = pytest.mark.usefixtures("native")

# Numbers kept per step, row and hidden unit beside the output, as the modules' docstrings say.
DOCUMENTED = {"lstm": 5, "gru": 4, "rnn": 0}
N, I, H = 4, 8, 64
SLACK = 40_000

CASES = [
    case for directions in (1, 2) for case in fused_cases((1, N, I, H), directions=directions)
]


def measure(run):
    """(bytes still held, bytes at the peak) by what ``run`` allocates, while its result lives."""
    run()
    gc.collect()
    tracemalloc.start()
    try:
        before, _ = tracemalloc.get_traced_memory()
        result = run()
        held, peak = tracemalloc.get_traced_memory()
        del result
    finally:
        tracemalloc.stop()
    return held - before, peak - before


def prepared(case, T, dtype):
    _, *rest = case.sizes
    layer = make_layer(case.with_(sizes=(T, *rest), dtype=dtype))
    x, *state = (rk.as_tensor(array) for array in layer.inputs.values())
    return layer, x, tuple(state)


@pytest.mark.parametrize("dtype", ["float32", "float64"])
@pytest.mark.parametrize("case", CASES, ids=str)
def test_inference_keeps_nothing_per_step_beyond_the_output(case, dtype):
    peaks = []
    for T in (400, 800):
        layer, x, state = prepared(case, T, dtype)

        def run(cells=layer.cells, x=x, state=state):
            with rk.no_grad():
                return run_layer(cells, x, state)

        held, peak = measure(run)
        output = T * N * case.directions * H * np.dtype(dtype).itemsize
        assert output <= held <= output + SLACK
        peaks.append(peak - output)
    # A peak that doubled with T would mean gates of every step, if only for a while.
    assert peaks[1] <= peaks[0] + SLACK


@pytest.mark.parametrize("dtype", ["float32", "float64"])
@pytest.mark.parametrize("case", CASES, ids=str)
def test_training_keeps_what_is_documented(case, dtype):
    T = 800
    layer, x, state = prepared(case, T, dtype)
    held, _ = measure(lambda: run_layer(layer.cells, x, state))
    per_unit = 1 + DOCUMENTED[case.cell]
    expected = T * N * case.directions * H * per_unit * np.dtype(dtype).itemsize
    assert expected <= held <= 1.01 * expected + SLACK


def test_both_directions_of_a_program_keep_their_outputs_once():
    x, held = rk.randn(800, N, I), []
    for bidirectional in (False, True):
        module = nn.LSTM(I, H, peephole=True, bidirectional=bidirectional)
        held.append(measure(lambda module=module: module(x))[0])
    assert held[1] <= 2 * held[0] + SLACK


@pytest.mark.parametrize("case", CASES, ids=str)
def test_stored_bytes_tells_what_a_direction_keeps(case):
    T = 800
    layer, x, state = prepared(case, T, "float32")
    held, _ = measure(lambda: run_layer(layer.cells, x, state))
    stored = case.directions * native_path.stored_bytes(layer.cells[0], T, N)
    output = T * N * case.directions * H * 4
    assert abs(held - output - stored) <= SLACK


@pytest.mark.parametrize("case", CASES, ids=str)
def test_a_backward_pass_frees_what_was_kept(case):
    layer, x, state = prepared(case, 800, "float32")
    d_y = rk.ones(800, N, case.directions * H)
    weight = layer.cells[0].weight_ih

    def step():
        y, _ = run_layer(layer.cells, x, state)
        return y, rk.grad(y, weight, d_y)

    held, _ = measure(step)
    output = 800 * N * case.directions * H * 4
    assert held <= output + SLACK


@pytest.mark.parametrize("case", CASES, ids=str)
def test_backward_needs_no_second_copy_of_what_was_kept(case):
    """The gradients of the gates take the place of the gates, which are no longer needed."""
    layer, x, state = prepared(case, 800, "float32")
    d_y = rk.ones(800, N, case.directions * H)
    wanted = list(layer.weights().values())

    def step():
        y, _ = run_layer(layer.cells, x, state)
        return rk.grad(y, wanted, d_y)

    _, peak = measure(step)
    per_unit = 1 + max(DOCUMENTED[case.cell], 1)
    kept = 800 * N * case.directions * H * 4 * per_unit
    assert peak <= 1.05 * kept + 3 * SLACK


@pytest.mark.filterwarnings("ignore:memory")
@pytest.mark.parametrize("make", [rk.cells.LSTMCell, rk.cells.MGUCell])
@pytest.mark.parametrize("T", [2**44, 2**50, 2**58])
def test_an_endless_sequence_is_refused_at_once(make, T):
    """Strides of zero make one; a budget would go over it in millions of segments."""
    network = nn.Recurrent(make(2, 2), memory="1MB")
    x = rk.as_tensor(np.broadcast_to(np.zeros(2, np.float32), (T, 1, 2)))
    with pytest.raises((MemoryError, ValueError)):
        network(x)
