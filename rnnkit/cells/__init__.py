"""Recurrent cells, one file each: the equations, once, as ``step``.

A new cell is a new file here, with ``@register_cell``, and its line in each list below: the
contract tests then pick it up by themselves. All but the three of ``nn`` are imported when they are
first used.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from rnnkit.cells.base import Cell, GatedCell
from rnnkit.cells.gru import GRUCell
from rnnkit.cells.lstm import LSTMCell
from rnnkit.cells.rnn import RNNCell

if TYPE_CHECKING:
    from rnnkit.cells.base import CELLS
    from rnnkit.cells.clockwork import ClockworkRNNCell
    from rnnkit.cells.delta_net import DeltaNetCell
    from rnnkit.cells.exp_rnn import ExpRNNCell
    from rnnkit.cells.ind_rnn import IndRNNCell
    from rnnkit.cells.layer_norm_gru import LayerNormGRUCell
    from rnnkit.cells.layer_norm_lstm import LayerNormLSTMCell
    from rnnkit.cells.li_gru import LiGRUCell
    from rnnkit.cells.linear_attention import LinearAttentionCell
    from rnnkit.cells.lmu import LMUCell
    from rnnkit.cells.lru import LRUCell
    from rnnkit.cells.mgu import MGUCell
    from rnnkit.cells.min_gru import MinGRUCell
    from rnnkit.cells.min_lstm import MinLSTMCell
    from rnnkit.cells.multiplicative_lstm import MultiplicativeLSTMCell
    from rnnkit.cells.nested_lstm import NestedLSTMCell
    from rnnkit.cells.phased_lstm import PhasedLSTMCell
    from rnnkit.cells.qrnn import QRNNCell
    from rnnkit.cells.rms_norm_lstm import RMSNormLSTMCell
    from rnnkit.cells.slstm import SLSTMCell
    from rnnkit.cells.sru import SRUCell

# class -> the file it is in
_LAZY = {
    "ClockworkRNNCell": "clockwork",
    "DeltaNetCell": "delta_net",
    "ExpRNNCell": "exp_rnn",
    "IndRNNCell": "ind_rnn",
    "LMUCell": "lmu",
    "LRUCell": "lru",
    "LayerNormGRUCell": "layer_norm_gru",
    "LayerNormLSTMCell": "layer_norm_lstm",
    "LiGRUCell": "li_gru",
    "LinearAttentionCell": "linear_attention",
    "MGUCell": "mgu",
    "MinGRUCell": "min_gru",
    "MinLSTMCell": "min_lstm",
    "MultiplicativeLSTMCell": "multiplicative_lstm",
    "NestedLSTMCell": "nested_lstm",
    "PhasedLSTMCell": "phased_lstm",
    "QRNNCell": "qrnn",
    "RMSNormLSTMCell": "rms_norm_lstm",
    "SLSTMCell": "slstm",
    "SRUCell": "sru",
}

__all__ = [
    "CELLS",
    "Cell",
    "ClockworkRNNCell",
    "DeltaNetCell",
    "ExpRNNCell",
    "GRUCell",
    "GatedCell",
    "IndRNNCell",
    "LMUCell",
    "LRUCell",
    "LSTMCell",
    "LayerNormGRUCell",
    "LayerNormLSTMCell",
    "LiGRUCell",
    "LinearAttentionCell",
    "MGUCell",
    "MinGRUCell",
    "MinLSTMCell",
    "MultiplicativeLSTMCell",
    "NestedLSTMCell",
    "PhasedLSTMCell",
    "QRNNCell",
    "RMSNormLSTMCell",
    "RNNCell",
    "SLSTMCell",
    "SRUCell",
]


def __getattr__(name: str) -> Any:
    from importlib import import_module

    if name == "CELLS":
        for file in _LAZY.values():
            import_module(f"rnnkit.cells.{file}")
        value: Any = import_module("rnnkit.cells.base").CELLS
    elif name in _LAZY:
        value = getattr(import_module(f"rnnkit.cells.{_LAZY[name]}"), name)
    else:
        raise AttributeError(f"module 'rnnkit.cells' has no attribute {name!r}")
    globals()[name] = value
    return value


def __dir__() -> list[str]:
    return sorted({*globals(), *__all__})
