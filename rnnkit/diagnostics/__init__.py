"""Seeing what happens inside recurrent layers: states, gates, and the gradient on its way back.

trace.py     ``trace``: keeps everything that the layers inside it do
names.py     what layers are called
layers.py    what it keeps of one layer, and the numbers that follow from it
decay.py     how fast a gradient falls or grows over time
report.py    those numbers as a table
picture.py   and as a picture (matplotlib)
watch.py     ``watch``: warns of vanishing and exploding gradients as training goes on
"""

from rnnkit.diagnostics.layers import LayerTrace, Saturation
from rnnkit.diagnostics.report import Report, ReportLine
from rnnkit.diagnostics.trace import trace
from rnnkit.diagnostics.watch import GradientWarning, Observation, watch

__all__ = [
    "GradientWarning",
    "LayerTrace",
    "Observation",
    "Report",
    "ReportLine",
    "Saturation",
    "trace",
    "watch",
]
