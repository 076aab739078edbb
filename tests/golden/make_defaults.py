"""Makes defaults.json: the default values of PyTorch's for every name that rnnkit has as well.

Needs a virtual environment with PyTorch and NumPy (made with torch 2.13), and rnnkit for its names:

    python -m venv peer && peer/bin/pip install torch numpy
    PYTHONPATH=. peer/bin/python tests/golden/make_defaults.py
"""

from __future__ import annotations

import inspect
import json
from importlib import import_module
from pathlib import Path

import torch

MODULES = [
    "autograd",
    "nn",
    "nn.functional",
    "nn.init",
    "nn.utils",
    "nn.utils.rnn",
    "optim",
    "optim.lr_scheduler",
]
# They take *args; what they were given by default is in their attributes.
RECURRENT = {
    "RNN": ["num_layers", "nonlinearity", "bias", "batch_first", "dropout", "bidirectional"],
    "GRU": ["num_layers", "bias", "batch_first", "dropout", "bidirectional"],
    "LSTM": ["num_layers", "bias", "batch_first", "dropout", "bidirectional", "proj_size"],
}


def defaults(function) -> dict[str, object]:
    """The options of ``function`` whose default can be written down."""
    try:
        parameters = inspect.signature(function).parameters
    except (TypeError, ValueError):
        return {}
    plain = (bool, int, float, str, tuple, type(None))
    return {
        name: parameter.default
        for name, parameter in parameters.items()
        if isinstance(parameter.default, plain) and name not in ("dtype", "device")
    }


found: dict[str, dict[str, object]] = {}
for module in MODULES:
    ours, theirs = import_module(f"rnnkit.{module}"), import_module(f"torch.{module}")
    for name in sorted({*dir(ours)} & {*dir(theirs)}):
        here, there = getattr(ours, name), getattr(theirs, name)
        if name.startswith("_") or not str(getattr(here, "__module__", "")).startswith("rnnkit"):
            continue
        known = inspect.signature(here).parameters
        shared = {option: value for option, value in defaults(there).items() if option in known}
        if shared:
            found[f"{module}.{name}"] = shared
for name, options in RECURRENT.items():
    layer = getattr(torch.nn, name)(2, 3)
    found[f"nn.{name}"] = {option: getattr(layer, option) for option in options}
lines = ",\n".join(f"{json.dumps(name)}: {json.dumps(found[name])}" for name in sorted(found))
(Path(__file__).parent / "defaults.json").write_text(f"{{\n{lines}\n}}\n")
