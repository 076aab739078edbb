"""Optimisers that update parameters in place, and schedules of their learning rates."""

from rnnkit.optim import lr_scheduler
from rnnkit.optim.adagrad import Adagrad
from rnnkit.optim.adam import Adam, AdamW
from rnnkit.optim.optimizer import Optimizer
from rnnkit.optim.rmsprop import RMSprop
from rnnkit.optim.sgd import SGD

__all__ = ["SGD", "Adagrad", "Adam", "AdamW", "Optimizer", "RMSprop", "lr_scheduler"]
