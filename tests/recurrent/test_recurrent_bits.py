"""The native path gives the same bits whatever the threads, the batch or the cuts in time."""

import os
import subprocess
import sys
import threading
from pathlib import Path

import numpy as np
import pytest
from recurrent_contract import (
    assert_same_bits,
    forward,
    forward_backward,
    fused_cases,
    make_layer,
)

import rnnkit as rk
from rnnkit.recurrent import run_layer

pytestmark = pytest.mark.usefixtures("native")

BOTH = pytest.mark.parametrize("dtype", ["float32", "float64"])


@BOTH
@pytest.mark.parametrize(
    "case",
    fused_cases(
        (3, 2, 5, 7),
        (6, 64, 33, 64),
        (8, 17, 40, 130),
        (5, 1, 300, 256),
        (1, 1, 300, 260),
        (4, 33, 20, 31),
        # Fewer features than threads, of which each has some.
        (60, 40, 1, 48),
        (40, 70, 2, 40),
        directions=2,
    ),
    ids=str,
)
def test_any_number_of_threads(case, dtype, threads):
    layer = make_layer(case.with_(dtype=dtype))
    threads(1)
    expected = forward_backward(layer, "native")
    for count in (2, 3):
        threads(count)
        assert_same_bits(forward_backward(layer, "native"), expected)


@pytest.mark.parametrize("case", fused_cases((100, 32, 16, 64), dtype="float32"), ids=str)
def test_any_number_of_threads_in_a_ragged_batch(case, threads):
    # Longer than a chunk of steps, so that one thread may be in the next chunk before the other.
    layer = make_layer(case)
    T, N, _, _ = case.sizes
    lengths = np.random.default_rng(1).integers(1, T + 1, N)

    def run():
        y, state = run_layer(layer.cells, layer.inputs["x"], lengths=lengths)
        with rk.no_grad():
            inference, _ = run_layer(layer.cells, layer.inputs["x"], lengths=lengths)
        found = {"y": y, "h": state[0], "y of inference": inference}
        return {name: tensor.detach().numpy() for name, tensor in found.items()}

    threads(1)
    expected = run()
    threads(2)
    for _ in range(20):
        assert_same_bits(run(), expected)


@pytest.mark.parametrize(
    "case", fused_cases((110, 40, 64, 64), (110, 40, 64, 16), dtype="float32"), ids=str
)
def test_threads_that_share_out_a_panel_of_weight_gradients(case, threads):
    """More threads than processors: some come late, and others take their pieces of it."""
    layer = make_layer(case)
    threads(1)
    expected = forward_backward(layer, "native")
    for count in (2, 3, 5):
        threads(count)
        for _ in range(4):
            assert_same_bits(forward_backward(layer, "native"), expected)


@BOTH
@pytest.mark.parametrize("case", fused_cases((4, 13, 9, 17), (3, 40, 5, 64), directions=2), ids=str)
def test_a_row_does_not_depend_on_the_rest_of_its_batch(case, dtype):
    layer = make_layer(case.with_(dtype=dtype))
    whole = forward_backward(layer, "native")
    N = case.sizes[1]
    for rows in (slice(0, 1), slice(5, 6), slice(2, 9), slice(N - 1, N)):
        part = make_layer(layer.case)
        part.inputs = {name: array[:, rows] for name, array in layer.inputs.items()}
        part.d_outputs = {name: array[:, rows] for name, array in layer.d_outputs.items()}
        by_row = [*case.outputs, *(f"d_{name}" for name in layer.inputs)]
        actual = forward_backward(part, "native")
        assert_same_bits(
            {name: actual[name] for name in by_row},
            {name: whole[name][:, rows] for name in by_row},
        )


@BOTH
@pytest.mark.parametrize(
    "case", fused_cases((20, 1, 5, 33), (12, 7, 16, 16), (9, 33, 3, 5)), ids=str
)
@pytest.mark.parametrize("cut", [1, 5, 8])
def test_a_sequence_in_two_pieces_with_carried_state(case, cut, dtype):
    layer = make_layer(case.with_(dtype=dtype))
    whole = forward(layer, "native")
    x = layer.inputs["x"]
    pieces = []
    for piece in (x[:cut], x[cut:]):
        layer.inputs["x"] = piece
        results = forward(layer, "native")
        pieces.append(results["y"])
        layer.inputs |= {f"{name}0": results[f"{name}n"] for name in case.states}
    results["y"] = np.concatenate(pieces)
    assert_same_bits(results, whole)


@BOTH
@pytest.mark.parametrize("case", fused_cases((5, 6, 7, 19), directions=2), ids=str)
def test_batch_first_is_a_matter_of_layout_only(case, dtype):
    layer = make_layer(case.with_(dtype=dtype))
    expected = forward_backward(layer, "native")
    swapped = make_layer(layer.case.with_(batch_first=True))
    swapped.inputs = layer.inputs | {"x": layer.inputs["x"].swapaxes(0, 1)}
    swapped.d_outputs = layer.d_outputs | {"d_y": layer.d_outputs["d_y"].swapaxes(0, 1)}
    actual = forward_backward(swapped, "native")
    by_row = [*case.outputs, *(f"d_{name}" for name in layer.inputs)]
    for name in ("y", "d_x"):
        actual[name] = actual[name].swapaxes(0, 1)
    assert_same_bits(
        {name: actual[name] for name in by_row}, {name: expected[name] for name in by_row}
    )


@BOTH
@pytest.mark.parametrize("case", fused_cases((5, 6, 7, 19), directions=2), ids=str)
def test_the_reverse_direction_is_the_forward_one_on_the_reversed_sequence(case, dtype):
    layer = make_layer(case.with_(dtype=dtype))
    both = forward(layer, "native")
    H = case.sizes[3]
    alone = make_layer(layer.case.with_(directions=1))
    alone.cells = layer.cells[1:]
    alone.inputs = {name: array[1:] for name, array in layer.inputs.items()}
    alone.inputs["x"] = layer.inputs["x"][::-1]
    expected = forward(alone, "native")
    assert_same_bits({"y": both["y"][::-1, :, H:]}, {"y": expected.pop("y")})
    assert_same_bits({name: both[name][1:] for name in expected}, expected)


@pytest.mark.parametrize("case", fused_cases((6, 5, 7, 19)), ids=str)
def test_a_run_repeats_itself(case):
    layer = make_layer(case.with_(dtype="float32"))
    expected = forward_backward(layer, "native")
    for _ in range(3):
        assert_same_bits(forward_backward(layer, "native"), expected)


def test_callers_on_several_threads_at_once(threads):
    threads(2)
    layers = [make_layer(case.with_(dtype="float32")) for case in fused_cases((8, 17, 40, 130))]
    expected = [forward_backward(layer, "native") for layer in layers]
    wrong = []

    def work(number):
        for _ in range(20):
            actual = forward_backward(layers[number], "native")
            try:
                assert_same_bits(actual, expected[number])
            except AssertionError as error:
                wrong.append(error)

    workers = [threading.Thread(target=work, args=(number,)) for number in range(len(layers))]
    for worker in workers:
        worker.start()
    for worker in workers:
        worker.join()
    assert not wrong


FORK = """
import os
import rnnkit as rk
from recurrent_contract import Case, assert_same_bits, forward_backward, make_layer

rk.set_num_threads(2)
layer = make_layer(Case("lstm", sizes=(8, 32, 40, 128), dtype="float32"))
expected = forward_backward(layer, "native")
child = os.fork()
if child == 0:
    assert_same_bits(forward_backward(layer, "native"), expected)
    os._exit(7)
assert_same_bits(forward_backward(layer, "native"), expected)
assert os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]) == 7
"""


@pytest.mark.skipif(not hasattr(os, "fork"), reason="this system has no fork")
def test_a_forked_child_computes_the_same():
    here = Path(__file__).parent
    root = Path(rk.__file__).parent.parent
    result = subprocess.run(
        [sys.executable, "-W", "ignore", "-c", FORK],
        env=os.environ | {"PYTHONPATH": os.pathsep.join([str(root), str(here)])},
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
    )
    assert result.returncode == 0, result.stderr
