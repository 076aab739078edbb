"""Layers: modules with PyTorch's names, parameters and default initialisation."""

from rnnkit.cells import GRUCell, LSTMCell, RNNCell
from rnnkit.module import Module, Parameter
from rnnkit.nn import init, utils
from rnnkit.nn.activations import Identity, ReLU, Sigmoid, Tanh
from rnnkit.nn.adaptive_softmax import AdaptiveLogSoftmaxWithLoss
from rnnkit.nn.attention import AdditiveAttention, MultiplicativeAttention
from rnnkit.nn.containers import ModuleList, Sequential
from rnnkit.nn.conv import AvgPool1d, Conv1d, MaxPool1d
from rnnkit.nn.dropout import Dropout
from rnnkit.nn.embedding import Embedding
from rnnkit.nn.linear import Linear
from rnnkit.nn.normalization import LayerNorm
from rnnkit.nn.pooling import AttentionPool, LastPool, MaxPool, MeanPool
from rnnkit.nn.recurrent import Recurrent
from rnnkit.nn.rnn_gru_lstm import GRU, LSTM, RNN
from rnnkit.nn.seq2seq import EncoderDecoder

__all__ = [
    "GRU",
    "LSTM",
    "RNN",
    "AdaptiveLogSoftmaxWithLoss",
    "AdditiveAttention",
    "AttentionPool",
    "AvgPool1d",
    "Conv1d",
    "Dropout",
    "Embedding",
    "EncoderDecoder",
    "GRUCell",
    "Identity",
    "LSTMCell",
    "LastPool",
    "LayerNorm",
    "Linear",
    "MaxPool",
    "MaxPool1d",
    "MeanPool",
    "Module",
    "ModuleList",
    "MultiplicativeAttention",
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
