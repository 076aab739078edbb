"""What classifying and tagging have in common: sequences into features of every step."""

from __future__ import annotations

from typing import Any

from rnnkit import nn
from rnnkit.autograd import Tensor
from rnnkit.checks import check_bool, check_choice, check_size
from rnnkit.module import Module
from rnnkit.train.models.language_model import CELLS, check_layers


class RecurrentEncoder(Module):
    """Embedding of symbols, or features as they are; then stacked recurrent layers.

    Called as ``y = encoder(x, lengths)``:
        x: (T, N) integer ids with ``symbols``, else (T, N, size) float32.
        lengths: (N,) the steps of each row; None: all T.
        y: (T, N, size_out), or with ``return_sequences=False`` (N, size_out), each direction's
            last; dropout acted on it, and on the embedding.
    """

    def __init__(
        self,
        size: int,
        *,
        symbols: bool,
        cell: str = "lstm",
        layers: int = 1,
        hidden: int = 128,
        embedding: int = 32,
        dropout: float = 0.0,
        bidirectional: bool = True,
    ) -> None:
        """``size``: how many ids there are with ``symbols``, else the features of a step.

        Raises ArgumentError when ``cell`` is not one of "rnn", "gru" and "lstm", or another
        argument is out of range.
        """
        super().__init__()
        check_choice("cell", cell, CELLS)
        check_size("size", size)
        check_layers(layers, hidden, embedding, dropout)
        symbols = check_bool("symbols", symbols)
        bidirectional = check_bool("bidirectional", bidirectional)
        self.embedding = nn.Embedding(size, embedding) if symbols else None
        self.recurrent = CELLS[cell](
            embedding if symbols else size,
            hidden,
            num_layers=layers,
            dropout=dropout if layers > 1 else 0.0,
            bidirectional=bidirectional,
        )
        self.dropout = nn.Dropout(dropout)
        self.size_out = hidden * (2 if bidirectional else 1)

    def forward(self, x: Any, lengths: Any = None, *, return_sequences: bool = True) -> Tensor:
        if self.embedding is not None:
            x = self.dropout(self.embedding(x))
        y = self.recurrent(x, lengths=lengths, return_sequences=return_sequences)[0]
        y = self.dropout(y)
        assert isinstance(y, Tensor)
        return y
