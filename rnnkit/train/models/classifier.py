"""One class for a whole sequence."""

from __future__ import annotations

from typing import Any

import numpy as np

from rnnkit import nn
from rnnkit.autograd import Tensor
from rnnkit.checks import check_choice, check_size
from rnnkit.losses import cross_entropy
from rnnkit.module import Module
from rnnkit.ops import cat
from rnnkit.train.models.recurrent_encoder import RecurrentEncoder
from rnnkit.train.objective import Loss

POOLINGS = ("last", "mean", "max", "attention", "mean+max")


class SequenceClassifier(Module):
    """Recurrent layers, one vector for each row by pooling, dropout, linear head.

    Args:
        size: how many ids there are with ``symbols``, else the features of a step.
        classes: how many classes.
        pooling: "last" (each direction's last output), "mean", "max", "mean+max", or "attention"
            (a mean with learnt weights).
        encoder: by keyword ``symbols`` (whether x holds ids, (T, N), or features, (T, N, size)),
            which must be given, and ``cell="lstm"``, ``layers=1``, ``hidden=128``,
            ``embedding=32``, ``dropout=0.0``, ``bidirectional=True``.

    ``class_weights``, (classes,) or None, is a factor of each class's losses. It is set from
    outside, is no parameter and is not saved.
    """

    class_weights: np.ndarray | None = None

    def __init__(
        self, size: int, classes: int, *, pooling: str = "mean+max", **encoder: Any
    ) -> None:
        """Raises ArgumentError for a ``pooling`` or a ``cell`` that there is not, or a size below
        1."""
        super().__init__()
        check_choice("pooling", pooling, POOLINGS)
        check_size("classes", classes)
        self.pooling = pooling
        self.encoder = RecurrentEncoder(size, **encoder)
        width = self.encoder.size_out
        self.attention = nn.AttentionPool(width, width) if pooling == "attention" else None
        self.head = nn.Linear(2 * width if pooling == "mean+max" else width, classes)
        self._mean, self._max = nn.MeanPool(), nn.MaxPool()

    def forward(self, x: Any, lengths: Any = None) -> Tensor:
        """The scores (N, classes) of x; ``lengths``, (N,): the steps of each row, or all."""
        y = self.encoder(x, lengths, return_sequences=self.pooling != "last")
        if self.pooling == "mean":
            y = self._mean(y, lengths)
        elif self.pooling == "max":
            y = self._max(y, lengths)
        elif self.pooling == "mean+max":
            y = cat([self._mean(y, lengths), self._max(y, lengths)], -1)
        elif self.attention is not None:
            y = self.attention(y, lengths)
        scores: Tensor = self.head(y)
        return scores

    def loss(self, batch: Any, state: Any = None) -> Loss:
        """The mean cross entropy, in nats, of ``batch.targets``, (N,) class ids; "accuracy"."""
        scores = self(batch.inputs, batch.lengths)
        count = len(batch.targets)
        total = cross_entropy(scores, batch.targets, self.class_weights, reduction="sum")
        right = int((scores.data.argmax(-1) == batch.targets).sum())
        return Loss(total / count, count, None, {"accuracy": float(right)})
