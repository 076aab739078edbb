"""A recurrent language model: the probability of the next character at every position."""

from __future__ import annotations

from typing import Any

from rnnkit import nn
from rnnkit.autograd.tensor import Tensor
from rnnkit.errors import ArgumentError
from rnnkit.losses import linear_cross_entropy
from rnnkit.module import Module
from rnnkit.train.objective import Loss

CELLS = {"rnn": nn.RNN, "gru": nn.GRU, "lstm": nn.LSTM}


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
    ) -> None:
        """``dropout`` acts on the embedding, between the layers and before the head.

        Raises ArgumentError when ``cell`` is not one of "rnn", "gru" and "lstm".
        """
        super().__init__()
        if cell not in CELLS:
            raise ArgumentError(f"cell: expected one of {', '.join(CELLS)}, got {cell!r}")
        self.embedding = nn.Embedding(vocabulary_size, embedding)
        self.recurrent = CELLS[cell](
            embedding, hidden, num_layers=layers, dropout=dropout if layers > 1 else 0.0
        )
        self.head = nn.Linear(hidden, vocabulary_size)
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
        return self.dropout(y), state
