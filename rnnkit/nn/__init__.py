"""Layers: modules with PyTorch's names, parameters and default initialisation."""

from rnnkit.cells import GRUCell, LSTMCell, RNNCell
from rnnkit.module import Module, Parameter
from rnnkit.nn import init, utils
from rnnkit.nn.activations import Identity, ReLU, Sigmoid, Tanh
from rnnkit.nn.adaptive_softmax import AdaptiveLogSoftmaxWithLoss
from rnnkit.nn.containers import ModuleList, Sequential
from rnnkit.nn.dropout import Dropout
from rnnkit.nn.embedding import Embedding
from rnnkit.nn.linear import Linear
from rnnkit.nn.normalization import LayerNorm
from rnnkit.nn.recurrent import GRU, LSTM, RNN, Recurrent

__all__ = [
    "GRU",
    "LSTM",
    "RNN",
    "AdaptiveLogSoftmaxWithLoss",
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
