"""Layers: modules with PyTorch's names, parameters and default initialisation."""

from rnnkit.cells import GRUCell, LSTMCell, RNNCell
from rnnkit.module import Module, Parameter
from rnnkit.nn import functional, init, utils
from rnnkit.nn.activations import (
    Flatten,
    Identity,
    LogSoftmax,
    ReLU,
    Sigmoid,
    Softmax,
    Softplus,
    Tanh,
)
from rnnkit.nn.adaptive_softmax import AdaptiveLogSoftmaxWithLoss
from rnnkit.nn.attention import AdditiveAttention, MultiplicativeAttention
from rnnkit.nn.containers import ModuleDict, ModuleList, ParameterList, Sequential
from rnnkit.nn.conv import AvgPool1d, Conv1d, MaxPool1d
from rnnkit.nn.dropout import Dropout
from rnnkit.nn.embedding import Embedding
from rnnkit.nn.linear import Linear
from rnnkit.nn.loss import (
    BCELoss,
    BCEWithLogitsLoss,
    CrossEntropyLoss,
    CTCLoss,
    GaussianNLLLoss,
    HuberLoss,
    KLDivLoss,
    L1Loss,
    MSELoss,
    NLLLoss,
    PoissonNLLLoss,
    SmoothL1Loss,
)
from rnnkit.nn.normalization import BatchNorm1d, LayerNorm
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
    "BCELoss",
    "BCEWithLogitsLoss",
    "BatchNorm1d",
    "CTCLoss",
    "Conv1d",
    "CrossEntropyLoss",
    "Dropout",
    "Embedding",
    "EncoderDecoder",
    "Flatten",
    "GRUCell",
    "GaussianNLLLoss",
    "HuberLoss",
    "Identity",
    "KLDivLoss",
    "L1Loss",
    "LSTMCell",
    "LastPool",
    "LayerNorm",
    "Linear",
    "LogSoftmax",
    "MSELoss",
    "MaxPool",
    "MaxPool1d",
    "MeanPool",
    "Module",
    "ModuleDict",
    "ModuleList",
    "MultiplicativeAttention",
    "NLLLoss",
    "Parameter",
    "ParameterList",
    "PoissonNLLLoss",
    "RNNCell",
    "ReLU",
    "Recurrent",
    "Sequential",
    "Sigmoid",
    "SmoothL1Loss",
    "Softmax",
    "Softplus",
    "Tanh",
    "functional",
    "init",
    "utils",
]
