"""Running a cell over a sequence, forward and back through time.

layer.py    checks the arguments, asks ``rnnkit.backend`` for the path
options.py  how a layer is to be run, beyond its cells, its input and its state
schedule.py  ragged batches, and rows whose state restarts on the way
tape.py     the pure-Python path: the cell's step, recorded on the tape
held.py     what a cell holds, found out once for as long as it holds the same things
native.py   the fused kernels: the whole loop in C
node.py     what the tape records of a layer that runs natively
program/    any other cell: its step traced, and run natively over time
packed.py   ragged batches without their padding, in PyTorch's layout
memory.py   how much the forward pass may keep; checkpoint.py keeps to it on the pure-Python path
stream.py   step by step, with a state that is carried
observe.py  what is seen of a layer while it runs, for those who want to look
"""

from rnnkit.recurrent.layer import run_checked_layer, run_layer
from rnnkit.recurrent.stream import Stepper

__all__ = ["Stepper", "run_checked_layer", "run_layer"]
