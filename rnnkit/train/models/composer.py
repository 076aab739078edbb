"""Recurrent composers: which keys sound next, given all frames so far.

Notation: T frames (or tokens), N pieces, 88 keys. There are two ways to say how probable a frame
is. ``FrameComposer`` gives every key a probability of its own. ``NoteComposer`` spells the frame,
note after note, so that the notes of a chord know of each other.
"""

from __future__ import annotations

from typing import Any

import numpy as np

from rnnkit import nn
from rnnkit.autograd import Tensor, as_tensor, no_grad
from rnnkit.data.ragged import IGNORED
from rnnkit.data.readers.piano_rolls import KEYS
from rnnkit.decoding.sampling import check_temperature, choose
from rnnkit.errors import ArgumentError, ShapeError
from rnnkit.losses import cross_entropy, frame_nll
from rnnkit.module import Module, evaluating
from rnnkit.ops import cat
from rnnkit.train.objective import Loss

END = KEYS  # the token that ends a frame

_CELLS = {"gru": nn.GRU, "lstm": nn.LSTM}


class Composer(Module):
    """What both have: dropout on the inputs, recurrent layers, dropout, a linear head.

    The first frame of a piece is learnt as all others are, after silence. In evaluation it is
    given and not counted, as in the published figures.
    """

    def __init__(
        self,
        inputs: int,
        outputs: int,
        *,
        cell: str,
        layers: int,
        hidden: int,
        input_dropout: float,
        recurrent_dropout: float,
        dropout: float,
    ) -> None:
        super().__init__()
        if cell not in _CELLS:
            raise ArgumentError(f"cell: expected one of {', '.join(_CELLS)}, got {cell!r}")
        self.input_dropout = nn.Dropout(input_dropout)
        self.recurrent = _CELLS[cell](
            inputs,
            hidden,
            num_layers=layers,
            dropout=dropout if layers > 1 else 0.0,
            recurrent_dropout=recurrent_dropout,
        )
        self.dropout = nn.Dropout(dropout)
        self.head = nn.Linear(hidden, outputs)

    def _run(self, x: Tensor, state: Any, lengths: Any) -> tuple[Tensor, Any]:
        y, state = self.recurrent(self.input_dropout(x), state, lengths=lengths)
        return self.head(self.dropout(y)), state

    def loss(self, batch: Any, state: Any = None) -> Loss:
        """The mean loss of a frame, in nats."""
        raise NotImplementedError

    def compose(
        self,
        length: int,
        rng: np.random.Generator,
        *,
        temperature: float = 1.0,
        opening: np.ndarray | None = None,
    ) -> np.ndarray:
        """A piece of ``length`` frames, (length, 88) float32 of zeros and ones.

        ``temperature`` divides the scores: 1 draws what the model believes, less is more cautious.
        ``opening``: (O, 88) frames to begin with; else the piece begins as those learnt from do.
        The same ``rng`` state gives the same piece.

        Raises ArgumentError when a number is out of range, ShapeError for another opening.
        """
        if length < 1:
            raise ArgumentError(f"length: expected 1 or more, got {length}")
        if opening is not None and np.shape(opening)[1:] != (KEYS,):
            raise ShapeError(f"opening: expected (O, {KEYS}), got shape {np.shape(opening)}")
        check_temperature(temperature)
        piece = np.zeros((length, KEYS), np.float32)
        given = 0 if opening is None else min(len(opening), length)
        if opening is not None:
            piece[:given] = opening[:given]
        with no_grad(), evaluating(self):
            self._compose(piece, given, temperature, rng)
        return piece

    def _compose(
        self, piece: np.ndarray, given: int, temperature: float, rng: np.random.Generator
    ) -> None:
        """Fill the frames from ``given`` on."""
        raise NotImplementedError


class FrameComposer(Composer):
    """Each key by itself, given the frames before: the model of Boulanger-Lewandowski, Bengio and
    Vincent 2012 (arXiv 1206.6392, section 3) and Bai, Kolter and Koltun 2018 (arXiv 1803.01271).
    """

    def __init__(
        self,
        *,
        cell: str = "gru",
        layers: int = 1,
        hidden: int = 300,
        input_dropout: float = 0.0,
        recurrent_dropout: float = 0.0,
        dropout: float = 0.0,
        rates: np.ndarray | None = None,
    ) -> None:
        """``rates``: (88,), how often each key sounds; the scores then begin there."""
        super().__init__(
            KEYS,
            KEYS,
            cell=cell,
            layers=layers,
            hidden=hidden,
            input_dropout=input_dropout,
            recurrent_dropout=recurrent_dropout,
            dropout=dropout,
        )
        if rates is not None:
            known = np.clip(rates, 1e-4, 1 - 1e-4)
            assert self.head.bias is not None
            self.head.bias.data[...] = np.log(known / (1 - known))

    def forward(self, frames: Any, state: Any = None, lengths: Any = None) -> tuple[Tensor, Any]:
        """``frames``: (T, N, 88). Returns the logits of the frame after each, and the state."""
        return self._run(as_tensor(frames), state, lengths)

    def loss(self, batch: Any, state: Any = None) -> Loss:
        """The negative log likelihood of a frame, in nats. ``batch.inputs``: (T, N, 88) rolls."""
        rolls, lengths = batch.inputs, batch.lengths
        before = np.concatenate([np.zeros_like(rolls[:1]), rolls[:-1]])
        logits, _ = self(before, lengths=lengths)
        if not self.training:
            logits, rolls, lengths = logits[1:], rolls[1:], lengths - 1
        return Loss(frame_nll(logits, rolls, lengths), int(lengths.sum()))

    def _compose(
        self, piece: np.ndarray, given: int, temperature: float, rng: np.random.Generator
    ) -> None:
        frame, state = np.zeros(KEYS, np.float32), None
        for t in range(len(piece)):
            logits, state = self(frame[None, None], state)
            if t >= given:
                scores = logits.data[0, 0].astype(np.float64)
                if temperature:
                    piece[t] = rng.random(KEYS) < 0.5 + 0.5 * np.tanh(0.5 * scores / temperature)
                else:
                    piece[t] = scores > 0
            frame = piece[t]


class NoteComposer(Composer):
    """Each frame as its keys upward and an end, one token at a time, given all before.

    At each step the network reads the last token and the last whole frame. A frame has one
    spelling; what the model gives to others is lost, so the sum of its tokens' losses is no less
    than the frame's negative log likelihood.
    """

    def __init__(
        self,
        *,
        embedding: int = 64,
        cell: str = "lstm",
        layers: int = 1,
        hidden: int = 200,
        input_dropout: float = 0.0,
        recurrent_dropout: float = 0.0,
        dropout: float = 0.0,
    ) -> None:
        super().__init__(
            embedding + KEYS,
            KEYS + 1,
            cell=cell,
            layers=layers,
            hidden=hidden,
            input_dropout=input_dropout,
            recurrent_dropout=recurrent_dropout,
            dropout=dropout,
        )
        self.embedding = nn.Embedding(KEYS + 1, embedding)

    def forward(
        self, tokens: Any, frames: Any, state: Any = None, lengths: Any = None
    ) -> tuple[Tensor, Any]:
        """``tokens``: (T, N) integers; ``frames``: (T, N, 88), the last whole frame at each.

        Returns the logits (T, N, 89) of the token after each, and the state.
        """
        return self._run(cat([self.embedding(tokens), as_tensor(frames)], -1), state, lengths)

    def loss(self, batch: Any, state: Any = None) -> Loss:
        """The loss of all tokens of a frame together, in nats. ``batch.inputs``: (T, N) of
        ``spell``."""
        tokens, lengths = batch.inputs, batch.lengths
        before = np.concatenate([np.full_like(tokens[:1], END), tokens[:-1]])
        ends = tokens == END
        counted = np.arange(len(tokens))[:, None] < lengths
        if not self.training:
            counted &= np.cumsum(ends, 0) - ends > 0
        logits, _ = self(before, last_frames(before), lengths=lengths)
        frames = int((ends & counted).sum())
        targets = np.where(counted, tokens, IGNORED)
        total = cross_entropy(logits, targets, reduction="sum")
        return Loss(total / max(frames, 1), frames)

    def _compose(
        self, piece: np.ndarray, given: int, temperature: float, rng: np.random.Generator
    ) -> None:
        whole, token, state = np.zeros(KEYS, np.float32), END, None
        for t in range(len(piece)):
            known = spell(piece[t : t + 1]).tolist() if t < given else None
            lowest = 0
            while True:
                logits, state = self(np.array([[token]]), whole[None, None], state)
                if known is not None:
                    token = known.pop(0)
                else:
                    scores = logits.data[0, 0].copy()
                    scores[:lowest] = -np.inf  # a frame is spelt upward
                    token = choose(scores, temperature, rng)
                if token == END:
                    break
                piece[t, token] = 1.0
                lowest = token + 1
            whole = piece[t]


def spell(roll: np.ndarray) -> np.ndarray:
    """The tokens, int64 (L,), of a roll (T, 88): each frame's keys upward, then END."""
    ended = np.c_[np.asarray(roll) > 0.5, np.ones(len(roll), bool)]
    return np.nonzero(ended)[1].astype(np.int64)


def last_frames(tokens: np.ndarray) -> np.ndarray:
    """The last whole frame at each of the tokens (T, N): (T, N, 88) float32, silence at first."""
    N = tokens.shape[1]
    ended = np.cumsum(tokens == END, 0)
    # Frame f of a row, counted from 0, is whole once f + 1 have ended.
    rolls = np.zeros((int(ended.max(initial=0)) + 2, N, KEYS), np.float32)
    steps, rows = np.nonzero(tokens != END)
    rolls[ended[steps, rows] + 1, rows, tokens[steps, rows]] = 1.0
    return rolls[ended, np.arange(N)]
