"""A recurrent language model: the probability of the next character at every position."""

from __future__ import annotations

from typing import Any

from rnnkit import nn
from rnnkit.autograd.tensor import Tensor
from rnnkit.checks import check_bool, check_choice, check_probability, check_size
from rnnkit.losses import linear_cross_entropy
from rnnkit.module import Module
from rnnkit.nn.recurrent import MOST_LAYERS
from rnnkit.train.objective import Loss

CELLS = {"rnn": nn.RNN, "gru": nn.GRU, "lstm": nn.LSTM}


def check_layers(layers: int, hidden: int, embedding: int, dropout: float) -> None:
    """What recurrent models have in common, by the names of their own arguments."""
    check_size("layers", layers, MOST_LAYERS)
    check_size("hidden", hidden)
    check_size("embedding", embedding)
    check_probability("dropout", dropout)


class LanguageModel(Module):
    """Embedding, stacked recurrent layers, linear head.

    The state is whatever the recurrent module returns; give it back to go on where a call ended.
    """

    def __init__(
        self,
        vocabulary_size: int,
        *,
        cell: str = "lstm",
        layers: int = 1,
        hidden: int = 256,
        embedding: int = 64,
        dropout: float = 0.0,
        tied: bool = False,
    ) -> None:
        """``dropout`` acts on the embedding, between the layers and before the head.

        With ``tied`` the head and the embedding share their weights (Press and Wolf 2017, arXiv
        1608.05859; Inan et al. 2017, arXiv 1611.01462), drawn as a head's are. Where ``hidden``
        differs from ``embedding`` a linear layer without bias, ``projection``, stands between.

        Raises ArgumentError when ``cell`` is not one of "rnn", "gru" and "lstm", or another
        argument is out of range.
        """
        super().__init__()
        check_choice("cell", cell, CELLS)
        check_size("vocabulary_size", vocabulary_size)
        check_layers(layers, hidden, embedding, dropout)
        check_bool("tied", tied)
        self.embedding = nn.Embedding(vocabulary_size, embedding)
        self.recurrent = CELLS[cell](
            embedding, hidden, num_layers=layers, dropout=dropout if layers > 1 else 0.0
        )
        self.projection: nn.Linear | None = None
        if tied and hidden != embedding:
            self.projection = nn.Linear(hidden, embedding, bias=False)
        self.head = nn.Linear(embedding if tied else hidden, vocabulary_size)
        if tied:
            # Not the other way round: with N(0, 1) for weights the scores would be huge at first.
            self.embedding.weight = self.head.weight
        self.dropout = nn.Dropout(dropout)

    def forward(self, ids: Any, state: Any = None) -> tuple[Tensor, Any]:
        """``ids``: (T, N) integers. Returns logits (T, N, V) and the state after the last one."""
        y, state = self._features(ids, state)
        return self.head(y), state

    def loss(self, batch: Any, state: Any = None) -> Loss:
        """The mean cross entropy, in nats, of ``batch.targets`` given ``batch.inputs``, (T, N) ids.

        The logits exist a chunk of rows at a time.
        """
        y, state = self._features(batch.inputs, state)
        head = self.head
        value = linear_cross_entropy(y, head.weight, batch.targets, head.bias)
        return Loss(value, batch.targets.size, state)

    def _features(self, ids: Any, state: Any) -> tuple[Tensor, Any]:
        y, state = self.recurrent(self.dropout(self.embedding(ids)), state)
        y = self.dropout(y)
        return y if self.projection is None else self.projection(y), state
