"""The recursions of CTC in NumPy: a loop over frames, each for all rows and states at once.

csrc/kernels/ctc.h has the equations, and does the same row by row. Here blanks b (N, S+1) and
labels y (N, S) are two arrays as there, S being the most labels of a row; those that a shorter row
has not are log 0 throughout.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np

if TYPE_CHECKING:
    from rnnkit.autograd.tensor import Array


@dataclass(frozen=True, slots=True)
class LabelledRows:
    """Checked labels of N rows.

    Attributes:
        labels: int64 (N, S), blank behind a row's own.
        kept: bool (N, S), whether a label is the row's own.
        input_lengths: int64 (N,) number of frames.
        target_lengths: int64 (N,) number of labels.
        blank: the id of blank.
    """

    labels: Array
    kept: Array
    input_lengths: Array
    target_lengths: Array
    blank: int

    @property
    def may_skip(self) -> Array:
        """bool (N, S): whether a label may follow the one before it with no blank in between."""
        other = np.zeros(self.labels.shape, bool)
        other[:, 1:] = self.labels[:, 1:] != self.labels[:, :-1]
        return other

    def active(self, T: int) -> Array:
        """bool (T, N): whether a frame is one of its row."""
        return np.arange(T)[:, None] < self.input_lengths


class _Frames:
    """What both recursions look up."""

    def __init__(self, x: Array, rows: LabelledRows) -> None:
        self.x, self.rows = x, rows
        self.every = np.arange(x.shape[1])[:, None]
        self.nothing = x.dtype.type(-np.inf)
        self.lowest = np.finfo(x.dtype).min
        self.no_skip = np.where(rows.may_skip, x.dtype.type(0), self.nothing)
        self.active = rows.active(len(x))

    def states(self) -> tuple[Array, Array]:
        """Blanks and labels, all log 0."""
        N, S = self.rows.labels.shape
        return np.full((N, S + 1), self.nothing), np.full((N, S), self.nothing)

    def shown(self, t: int) -> tuple[Array, Array]:
        """The log probabilities of frame t: (N, 1) of blank, (N, S) of the labels."""
        x = self.x[t]
        of_labels = np.where(self.rows.kept, x[self.every, self.rows.labels], self.nothing)
        return x[:, self.rows.blank, None], of_labels

    def largest(self, b: Array, y: Array) -> Array:
        """(N, 1) the largest of each row, or the least of all numbers where that is log 0."""
        top = b.max(axis=1, keepdims=True, initial=self.lowest)
        return np.maximum(top, y.max(axis=1, keepdims=True, initial=self.lowest))


def losses_in_numpy(x: Array, rows: LabelledRows, keep: bool) -> tuple[Array, Any]:
    """(T, N, C) -> losses (N,), and alphas of all frames, (T, N, S+1) and (T, N, S), or None."""
    T, N, _ = x.shape
    S = rows.labels.shape[1]
    frames = _Frames(x, rows)
    alphas = (np.empty((T, N, S + 1), x.dtype), np.empty((T, N, S), x.dtype)) if keep else None
    b, y = frames.states()
    b[:, 0] = 0
    top, taken_off = np.zeros((N, 1), x.dtype), np.zeros(N)
    spoiled = np.zeros(N, bool)
    y_before = np.full((N, S + 1), frames.nothing)
    for t in range(T):
        active = frames.active[t]
        of_blank, of_labels = frames.shown(t)
        fine = (of_blank[:, 0] < np.inf) & (of_labels < np.inf).all(axis=1)
        spoiled |= active & ~fine
        y_before[:, 1:] = y
        to_b = np.logaddexp(b, y_before) - top + of_blank
        to_y = np.logaddexp(np.logaddexp(y, b[:, :S]), y_before[:, :S] + frames.no_skip)
        to_y = to_y - top + of_labels
        taken_off += np.where(active, top[:, 0], 0)
        b = np.where(active[:, None], to_b, b)
        y = np.where(active[:, None], to_y, y)
        top = frames.largest(b, y)
        if alphas is not None:
            alphas[0][t], alphas[1][t] = b, y
    every, last = np.arange(N), rows.target_lengths
    y_before[:, 1:] = y
    losses = -(taken_off + np.logaddexp(b[every, last], y_before[every, last]))
    losses[spoiled] = np.nan
    return losses.astype(x.dtype), alphas


def gradient_in_numpy(
    d_losses: Array, x: Array, rows: LabelledRows, losses: Array, alphas: tuple[Array, Array]
) -> Array:
    """(N,), (T, N, C) -> (T, N, C), with the losses and alphas of `losses_in_numpy`."""
    T, N, _ = x.shape
    S = rows.labels.shape[1]
    frames = _Frames(x, rows)
    d_x = np.zeros(x.shape, x.dtype)
    wanted = d_losses != 0
    defined = wanted & np.isfinite(losses)
    b, y = frames.states()
    top = np.zeros((N, 1), x.dtype)
    y_next = np.full((N, S + 1), frames.nothing)
    no_skip = np.full((N, S), frames.nothing)
    no_skip[:, : S - 1] = frames.no_skip[:, 1:] if S else 0
    for t in reversed(range(T)):
        ending = np.flatnonzero(rows.input_lengths == t + 1)
        b[ending, rows.target_lengths[ending]] = 0
        top[ending] = 0
        of_blank, of_labels = frames.shown(t)
        y_next[:, :S] = y
        from_b = np.logaddexp(b, y_next) - top
        from_y = np.logaddexp(np.logaddexp(y, b[:, 1:]), y_next[:, 1:] + no_skip) - top
        of_row = (defined & frames.active[t])[:, None]
        share_b, share_y = from_b + alphas[0][t], from_y + alphas[1][t]
        base = frames.largest(share_b, share_y)
        share_b, share_y = np.exp(share_b - base), np.exp(share_y - base)
        of_all = share_b.sum(axis=1) + share_y.sum(axis=1)
        scale = np.where(of_row, (-d_losses / of_all)[:, None], 0)
        d_x[t, :, rows.blank] = np.where(of_row, scale * share_b, 0).sum(axis=1)
        np.add.at(
            d_x[t], (frames.every, rows.labels), np.where(of_row, scale * share_y, 0)
        )
        b = np.where(frames.active[t][:, None], from_b + of_blank, b)
        y = np.where(frames.active[t][:, None], from_y + of_labels, y)
        top = frames.largest(b, y)
    d_x[frames.active & (wanted & ~defined)] = np.nan
    return d_x
