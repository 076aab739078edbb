"""Running a cell over a sequence, forward and back through time.

layer.py    checks the arguments, asks ``rnnkit.backend`` for the path
tape.py     the pure-Python path: the cell's step, recorded on the tape
native.py   the native path: the whole loop in C
memory.py   how much the forward pass may keep; checkpoint.py keeps to it on the pure-Python path
stream.py   step by step, with a state that is carried, on either path
"""

from rnnkit.recurrent.layer import run_checked_layer, run_layer
from rnnkit.recurrent.stream import Stepper

__all__ = ["Stepper", "run_checked_layer", "run_layer"]
