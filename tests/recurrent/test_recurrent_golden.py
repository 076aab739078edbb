"""PyTorch's outputs and gradients, loaded by name: from files, and live where it is installed."""

import json
from pathlib import Path

import numpy as np
import pytest
from recurrent_contract import error

import rnnkit as rk
from rnnkit import nn

GOLDEN = Path(__file__).parent.parent / "golden"
MODULES = {"rnn": nn.RNN, "gru": nn.GRU, "lstm": nn.LSTM}
WEIGHTS = ("weight", "bias")


def golden_cases(*files):
    for cell in files:
        with np.load(GOLDEN / f"recurrent_{cell}.npz") as file:
            for case in json.loads(str(file["cases"])):
                prefix = f"{case['name']}/"
                arrays = {
                    key.removeprefix(prefix): file[key] for key in file if key.startswith(prefix)
                }
                yield pytest.param(cell, case, arrays, id=f"{cell}-{case['name']}")


def run_module(module, arrays, lengths=None):
    """Outputs and gradients of an rnnkit module, under the names of the golden files."""
    states = [name for name in ("h", "c") if f"{name}0" in arrays]
    inputs = {
        name: rk.tensor(arrays[name], requires_grad=True)
        for name in ("x", *(f"{name}0" for name in states))
    }
    x, *state = inputs.values()
    y, final = module(x, state[0] if len(state) == 1 else tuple(state), lengths=lengths)
    final = final if isinstance(final, tuple) else (final,)
    outputs = dict(zip(("y", *(f"{name}n" for name in states)), (y, *final), strict=True))
    wanted = inputs | dict(module.named_parameters())
    gradients = rk.grad(
        list(outputs.values()),
        list(wanted.values()),
        [rk.tensor(arrays[f"d_{name}"]) for name in outputs],
    )
    named = {f"d_{name}": value for name, value in zip(wanted, gradients, strict=True)}
    return {name: value.detach().numpy() for name, value in (outputs | named).items()}


def assert_equal_to(arrays, results, tolerance):
    for name, actual in results.items():
        assert actual.dtype == arrays[name].dtype
        assert error(actual, arrays[name]) <= tolerance, name


def check_golden(module, case, arrays):
    weights = {name: value for name, value in arrays.items() if name.split("_")[0] in WEIGHTS}
    module.load_state_dict(weights)
    tolerance = 1e-12 if case["dtype"] == "float64" else 2e-6
    assert_equal_to(arrays, run_module(module, arrays, case.get("lengths")), tolerance)


@pytest.mark.parametrize(("cell", "case", "arrays"), list(golden_cases(*MODULES)))
def test_a_pytorch_state_dict_gives_pytorch_outputs_and_gradients(path, cell, case, arrays):
    check_golden(MODULES[cell](**case["options"], dtype=case["dtype"]), case, arrays)


@pytest.mark.parametrize("backend", ["python", "auto"])
@pytest.mark.parametrize(("cell", "case", "arrays"), list(golden_cases("projected")))
def test_a_projected_lstm_is_that_of_pytorch(backend, cell, case, arrays):
    with rk.backend(backend):
        check_golden(nn.LSTM(**case["options"], dtype=case["dtype"]), case, arrays)


@pytest.mark.parametrize("cell", MODULES)
@pytest.mark.parametrize("lengths", [None, [4, 9, 1, 6, 9]], ids=["whole", "ragged"])
@pytest.mark.parametrize("dtype", ["float32", "float64"])
def test_live_pytorch_agrees(path, cell, lengths, dtype):
    check_live(cell, dtype, lengths)


@pytest.mark.filterwarnings("ignore:LSTM with projections is not supported with oneDNN")
@pytest.mark.parametrize("backend", ["python", "auto"])
@pytest.mark.parametrize("dtype", ["float32", "float64"])
def test_live_pytorch_agrees_on_projections(backend, dtype):
    with rk.backend(backend):
        check_live("lstm", dtype, None, proj_size=7)


def check_live(cell, dtype, lengths, **more):
    torch = pytest.importorskip("torch")
    options = {"num_layers": 2, "bidirectional": True, "batch_first": True, **more}
    ours = MODULES[cell](11, 13, **options, dtype=dtype)
    classes = {"rnn": torch.nn.RNN, "gru": torch.nn.GRU, "lstm": torch.nn.LSTM}
    theirs = classes[cell](11, 13, **options, dtype=getattr(torch, dtype))
    theirs.load_state_dict({k: torch.from_numpy(v) for k, v in ours.state_dict().items()})
    states = ("h", "c") if cell == "lstm" else ("h",)
    random = np.random.default_rng(5)
    features = {"h": more.get("proj_size", 13), "c": 13}
    shapes = {"x": (5, 9, 11), "d_y": (5, 9, 2 * features["h"])}
    for name in states:
        shapes |= {f"{name}0": (4, 5, features[name]), f"d_{name}n": (4, 5, features[name])}
    arrays = {k: random.standard_normal(shape).astype(dtype) for k, shape in shapes.items()}

    inputs = {
        name: torch.from_numpy(arrays[name]).requires_grad_()
        for name in ("x", *(f"{name}0" for name in states))
    }
    x, *state = inputs.values()
    given = state[0] if len(state) == 1 else tuple(state)
    if lengths is None:
        y, final = theirs(x, given)
    else:
        rnn = torch.nn.utils.rnn
        packed = rnn.pack_padded_sequence(
            x, torch.tensor(lengths), batch_first=True, enforce_sorted=False
        )
        y, final = theirs(packed, given)
        y, _ = rnn.pad_packed_sequence(y, batch_first=True, total_length=9)
    final = final if isinstance(final, tuple) else (final,)
    outputs = dict(zip(("y", *(f"{name}n" for name in states)), (y, *final), strict=True))
    wanted = inputs | dict(theirs.named_parameters())
    gradients = torch.autograd.grad(
        list(outputs.values()),
        list(wanted.values()),
        [torch.from_numpy(arrays[f"d_{name}"]) for name in outputs],
    )
    arrays |= {name: value.detach().numpy() for name, value in outputs.items()}
    arrays |= {f"d_{k}": v.numpy() for k, v in zip(wanted, gradients, strict=True)}
    found = run_module(ours, arrays, lengths)
    assert_equal_to(arrays, found, 5e-6 if dtype == "float32" else 1e-12)
