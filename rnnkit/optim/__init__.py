"""Optimisers that update parameters in place, their averages, and learning rate schedules."""

from rnnkit.optim import lr_scheduler
from rnnkit.optim.adadelta import Adadelta
from rnnkit.optim.adagrad import Adagrad
from rnnkit.optim.adam import Adam, AdamW
from rnnkit.optim.adam_variants import Adamax, NAdam, RAdam
from rnnkit.optim.ema import EMA
from rnnkit.optim.groups import parameter_groups
from rnnkit.optim.lbfgs import LBFGS
from rnnkit.optim.optimizer import Optimizer
from rnnkit.optim.rmsprop import RMSprop
from rnnkit.optim.sgd import SGD

__all__ = [
    "EMA",
    "LBFGS",
    "SGD",
    "Adadelta",
    "Adagrad",
    "Adam",
    "AdamW",
    "Adamax",
    "NAdam",
    "Optimizer",
    "RAdam",
    "RMSprop",
    "lr_scheduler",
    "parameter_groups",
]
