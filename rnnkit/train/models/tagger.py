"""One class for every step of a sequence."""

from __future__ import annotations

from typing import Any

import numpy as np

from rnnkit import nn
from rnnkit.autograd import Tensor
from rnnkit.checks import check_size
from rnnkit.losses import cross_entropy
from rnnkit.module import Module
from rnnkit.train.models.recurrent_encoder import RecurrentEncoder
from rnnkit.train.objective import Loss


class SequenceTagger(Module):
    """Recurrent layers, dropout, linear head at every step.

    Args:
        size: how many ids there are with ``symbols``, else the features of a step.
        classes: how many classes.
        encoder: by keyword ``symbols`` (whether x holds ids, (T, N), or features, (T, N, size)),
            which must be given, and ``cell="lstm"``, ``layers=1``, ``hidden=128``,
            ``embedding=32``, ``dropout=0.0``, ``bidirectional=True``.

    ``class_weights`` is that of `SequenceClassifier`.
    """

    class_weights: np.ndarray | None = None

    def __init__(self, size: int, classes: int, **encoder: Any) -> None:
        """Raises ArgumentError for a ``cell`` that there is not, or a size below 1."""
        super().__init__()
        check_size("classes", classes)
        self.encoder = RecurrentEncoder(size, **encoder)
        self.head = nn.Linear(self.encoder.size_out, classes)

    def forward(self, x: Any, lengths: Any = None) -> Tensor:
        """The scores (T, N, classes) of x; ``lengths``, (N,): the steps of each row, or all."""
        scores: Tensor = self.head(self.encoder(x, lengths))
        return scores

    def loss(self, batch: Any, state: Any = None) -> Loss:
        """The mean cross entropy, in nats, of ``batch.targets``, (T, N) class ids; "accuracy".

        Both are over the valid steps; past a row's end stands -100.
        """
        scores = self(batch.inputs, batch.lengths)
        count = int(batch.lengths.sum())
        total = cross_entropy(scores, batch.targets, self.class_weights, reduction="sum")
        right = int((scores.data.argmax(-1) == batch.targets).sum())
        return Loss(total / count, count, None, {"accuracy": float(right)})
