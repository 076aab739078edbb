"""Options have PyTorch's names, and what they are when nobody gives them is PyTorch's, too."""

import inspect
import json
from importlib import import_module
from pathlib import Path

import pytest

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
