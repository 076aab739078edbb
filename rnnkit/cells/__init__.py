"""Recurrent cells, one file each: the equations, once, as ``step``.

A new cell is a new file here, with ``@register_cell``, and one line below: the contract tests
then pick it up by themselves.
"""

from rnnkit.cells.base import CELLS, Cell, GatedCell
from rnnkit.cells.gru import GRUCell
from rnnkit.cells.lstm import LSTMCell
from rnnkit.cells.rnn import RNNCell

__all__ = ["CELLS", "Cell", "GRUCell", "GatedCell", "LSTMCell", "RNNCell"]
