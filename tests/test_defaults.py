"""Options have PyTorch's names and defaults, and a module keeps each under its name."""

import inspect
import json
from importlib import import_module
from pathlib import Path

import pytest

from rnnkit import nn

GOLDEN = json.loads((Path(__file__).parent / "golden" / "defaults.json").read_text())
NEEDED = inspect.Parameter.empty
# Where rnnkit means to differ: its default, and PyTorch's. None leaves PyTorch's softmax to guess
# the axis, with a warning; a container's None and no items are the same, as are grad's None and
# False; and what cannot do without a value asks for it.
OTHERWISE = {
    ("autograd.grad", "allow_unused"): (False, None),
    ("nn.LogSoftmax", "dim"): (-1, None),
    ("nn.ModuleList", "modules"): ((), None),
    ("nn.Parameter", "data"): (NEEDED, None),
    ("nn.ParameterList", "values"): ((), None),
    ("nn.Softmax", "dim"): (-1, None),
    ("nn.functional.log_softmax", "dim"): (-1, None),
    ("nn.functional.softmax", "dim"): (-1, None),
    ("nn.utils.rnn.PackedSequence", "batch_sizes"): (NEEDED, None),
}


@pytest.mark.parametrize("name", GOLDEN)
def test_defaults_are_pytorchs(name):
    module, _, attribute = name.rpartition(".")
    found = inspect.signature(getattr(import_module(f"rnnkit.{module}"), attribute)).parameters
    for option, theirs in GOLDEN[name].items():
        theirs = tuple(theirs) if isinstance(theirs, list) else theirs
        expected, known = OTHERWISE.get((name, option), (theirs, theirs))
        assert theirs == known, option
        assert found[option].default == expected, option
        assert isinstance(expected, bool) == isinstance(found[option].default, bool), option


LAYERS = {"num_layers": 2, "bias": False, "batch_first": True, "dropout": 0.25}
LAYERS |= {"bidirectional": True, "input_dropout": 0.1, "merge": "sum", "memory": 10_000}
REDUCED = {"reduction": "sum"}
GIVEN = {
    "AdaptiveLogSoftmaxWithLoss": ([4, 10, [2]], {"div_value": 2.0}),
    "AvgPool1d": ([2], {"stride": 1}),
    "BatchNorm1d": ([3], {"eps": 0.1, "momentum": 0.2, "affine": False}),
    "CTCLoss": ([], {"blank": 1, "zero_infinity": True, **REDUCED}),
    "Conv1d": ([2, 4, 3], {"stride": 2, "padding": 1, "dilation": 2}),
    "CrossEntropyLoss": ([], {"ignore_index": 3, "label_smoothing": 0.1, **REDUCED}),
    "Dropout": ([], {"p": 0.25}),
    "Embedding": ([4, 3], {"padding_idx": 2}),
    "Flatten": ([], {"start_dim": 2, "end_dim": 3}),
    "GRU": ([2, 3], {"reset_after": False, **LAYERS}),
    "GRUCell": ([2, 3], {"bias": False, "reset_after": False}),
    "GaussianNLLLoss": ([], {"full": True, "eps": 0.1, **REDUCED}),
    "HuberLoss": ([], {"delta": 0.5, **REDUCED}),
    "KLDivLoss": ([], {"log_target": True, **REDUCED}),
    "LSTM": ([2, 3], {"proj_size": 2, "cell_clip": 1.0, **LAYERS}),
    "LSTMCell": ([2, 3], {"bias": False, "peephole": True, "coupled": True}),
    "LayerNorm": ([3], {"eps": 0.1, "elementwise_affine": False}),
    "MaxPool1d": ([2], {"stride": 1}),
    "NLLLoss": ([], {"ignore_index": 3, **REDUCED}),
    "PoissonNLLLoss": ([], {"log_input": False, "full": True, "eps": 0.1, **REDUCED}),
    "RNN": ([2, 3], {"nonlinearity": "relu", **LAYERS}),
    "RNNCell": ([2, 3], {"bias": False, "nonlinearity": "relu"}),
    "SmoothL1Loss": ([], {"beta": 0.5, **REDUCED}),
    "Softplus": ([], {"beta": 2.0}),
}


@pytest.mark.parametrize("name", GIVEN)
def test_a_module_keeps_its_options_under_their_names(name):
    sizes, options = GIVEN[name]
    kind = getattr(nn, name)
    made, usual = kind(*sizes, **options), kind(*sizes)
    for option, value in options.items():
        assert getattr(made, option) == value, option
        default = inspect.signature(kind).parameters[option].default
        if (name, option) not in {("MaxPool1d", "stride"), ("AvgPool1d", "stride")}:
            assert getattr(usual, option) == default, option


@pytest.mark.parametrize("options", [{"peephole": True}, {"coupled": True}])
def test_an_lstm_keeps_what_its_cell_is(options):
    (name,) = options
    assert getattr(nn.LSTM(2, 3, **options), name) is True
    assert getattr(nn.LSTM(2, 3), name) is False
