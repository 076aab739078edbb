"""A recurrent forecaster: what comes after a window of a series, several moments at once.

Notation: T moments of a window, N windows, C channels, K of them to forecast.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np

from rnnkit import nn
from rnnkit.autograd import Tensor, as_tensor
from rnnkit.errors import ArgumentError
from rnnkit.losses import mse_loss
from rnnkit.module import Module
from rnnkit.ops import cat
from rnnkit.train.models.language_model import CELLS
from rnnkit.train.objective import Loss


class Forecaster(Module):
    """Stacked recurrent layers read the window; a linear head names all moments that follow.

    The layers see the window less its mean, the level, and the head adds that to what it says. So
    a series whose level wanders is forecast as well high up as low down, where no window of the
    training part was. The head sees the level too, for series that return to where they were.
    """

    def __init__(
        self,
        channels: int,
        targets: Sequence[int],
        horizon: int,
        *,
        cell: str = "gru",
        layers: int = 1,
        hidden: int = 64,
        dropout: float = 0.0,
    ) -> None:
        """``targets``: the channels to forecast; ``dropout`` acts between layers and on the last
        state.

        Raises ArgumentError when ``cell`` is not one of "rnn", "gru" and "lstm".
        """
        super().__init__()
        if cell not in CELLS:
            raise ArgumentError(f"cell: expected one of {', '.join(CELLS)}, got {cell!r}")
        self.targets = np.array(targets, np.int64)
        self.horizon = horizon
        self.recurrent = CELLS[cell](
            channels, hidden, num_layers=layers, dropout=dropout if layers > 1 else 0.0
        )
        self.dropout = nn.Dropout(dropout)
        self.head = nn.Linear(hidden + channels, horizon * len(targets))

    def forward(self, window: Any) -> Tensor:
        """(T, N, C) -> (horizon, N, K)"""
        x = as_tensor(window)
        level = x.mean(0)
        y, _ = self.recurrent(x - level, return_sequences=False)
        moves = self.head(cat([self.dropout(y), level], -1))
        moves = moves.reshape(x.shape[1], self.horizon, len(self.targets)).transpose(0, 1)
        return moves + level[:, self.targets]

    def loss(self, batch: Any, state: Any = None) -> Loss:
        """The mean squared error of a batch of ``SeriesWindows``."""
        value = mse_loss(self(batch.inputs), batch.targets)
        return Loss(value, batch.inputs.shape[1])
