"""The gated cells inside a module, by their parameters' names, and the blocks of their gates."""

from __future__ import annotations

from collections.abc import Iterator

import numpy as np

from rnnkit.autograd import Tensor
from rnnkit.autograd.tensor import wrap
from rnnkit.cells import GatedCell
from rnnkit.errors import ArgumentError
from rnnkit.module import Module
from rnnkit.nn.recurrent import Recurrent


def gated_cells(module: Module) -> list[tuple[str, GatedCell]]:
    """Every gated cell that a module runs, layer by layer, with both directions.

    Returns:
        (name, cell), where ``name.format("weight_hh")`` is what the module calls that parameter.

    Raises:
        ArgumentError: there is none.
    """
    found = list(_walk(module)) if isinstance(module, Module) else []
    if not found:
        raise ArgumentError(
            "module: expected an RNN, GRU, LSTM, GatedCell or a module with some of them inside, "
            f"got {type(module).__name__}"
        )
    return found


def gate_blocks(tensor: Tensor | np.ndarray, gates: int) -> list[Tensor]:
    """The parts (H, ...) of a parameter (G*H, ...) that belong to each gate, sharing its memory."""
    array = tensor.data if isinstance(tensor, Tensor) else tensor
    rows = array.shape[0] // gates
    return [wrap(array[gate * rows : (gate + 1) * rows]) for gate in range(gates)]


def _walk(module: Module) -> Iterator[tuple[str, GatedCell]]:
    for path, each in module.named_modules():
        lead = f"{path}." if path else ""
        if isinstance(each, GatedCell):
            yield lead + "{}", each
        if not isinstance(each, Recurrent):
            continue
        for suffix, cell in each.named_cells():
            # A cell may have gated cells inside; the module's names have no dots.
            for inner, part in cell.named_modules():
                if isinstance(part, GatedCell):
                    middle = inner.replace(".", "_") + "_" if inner else ""
                    yield f"{lead}{middle}{{}}{suffix}", part
