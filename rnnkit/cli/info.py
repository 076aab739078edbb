"""``rnnkit info``: how the library was built and what it uses here."""

from __future__ import annotations

import argparse
from typing import Any

import numpy as np

from rnnkit import backend, nn
from rnnkit.autograd import no_grad
from rnnkit.autograd.tensor import Tensor
from rnnkit.cli import machine


def run(arguments: argparse.Namespace) -> int:
    """Print the configuration, and the path that an LSTM takes with the reason."""
    machine.apply(arguments)
    rows = [(name.replace("_", " "), _readable(value)) for name, value in backend.config().items()]
    rows.append(("an LSTM runs", _lstm_path()))
    width = max(len(name) for name, _ in rows)
    for name, value in rows:
        print(f"{name:{width}}  {value}")
    return 0


def _readable(value: Any) -> str:
    if isinstance(value, list | tuple):
        return ", ".join(map(str, value)) or "none"
    if isinstance(value, dict):
        return ", ".join(f"{name} {item}" for name, item in value.items()) or "none"
    return "none" if value is None else str(value)


def _lstm_path() -> str:
    """Run a small one and ask: the answer is the dispatcher's own, not a guess about it."""
    with no_grad():
        nn.LSTM(4, 4)(Tensor(np.zeros((2, 1, 4), np.float32)))
    decision = backend.why(1)[-1]
    return f"on the {decision.path} path: {decision.reason}"
