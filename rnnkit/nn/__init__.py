"""Layers: modules with PyTorch's names, parameters and default initialisation."""

from ..cells import GRUCell, LSTMCell, RNNCell
from ..module import Module, Parameter
from . import init, utils
from .activations import Identity, ReLU, Sigmoid, Tanh
from .containers import ModuleList, Sequential
from .dropout import Dropout
from .embedding import Embedding
from .linear import Linear
from .normalization import LayerNorm
from .recurrent import GRU, LSTM, RNN, Recurrent

__all__ = [
    "GRU",
    "LSTM",
    "RNN",
    "Dropout",
    "Embedding",
    "GRUCell",
    "Identity",
    "LSTMCell",
    "LayerNorm",
    "Linear",
    "Module",
    "ModuleList",
    "Parameter",
    "RNNCell",
    "ReLU",
    "Recurrent",
    "Sequential",
    "Sigmoid",
    "Tanh",
    "init",
    "utils",
]
