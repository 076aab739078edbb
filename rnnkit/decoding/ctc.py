"""Labels from the log probabilities of a network trained with CTC."""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import TYPE_CHECKING, Any, NamedTuple

import numpy as np

from rnnkit.checks import check_callable, check_size
from rnnkit.errors import ArgumentError
from rnnkit.losses.ctc import check_log_probs
from rnnkit.recurrent.schedule import check_lengths

if TYPE_CHECKING:
    from numpy.typing import ArrayLike

    from rnnkit.autograd import Tensor
    from rnnkit.autograd.tensor import Array


class Labelling(NamedTuple):
    """A labelling that a search has found.

    Attributes:
        labels: int64 (S,), without blanks.
        log_probability: of all its alignments that the search has seen: that of the labelling, or
            less where some were given up on the way.
        score: what it was ranked by: log_probability and what a scorer gave its labels.
    """

    labels: Array
    log_probability: float
    score: float


def ctc_greedy(
    log_probs: ArrayLike | Tensor, lengths: ArrayLike | Tensor | None = None, blank: int = 0
) -> tuple[list[Array], Array]:
    """The labels of the most probable alignment ("best path decoding", Graves et al. 2006, section
    3.2). Another labelling can be the more probable one, having more alignments.

    Args:
        log_probs: (T, N, C), or (T, C) for one row.
        lengths: (N,) frames of each row, from 0 to T; None: T. Others are not read.
        blank: the id of blank.

    Returns:
        the labels of each row, N arrays int64 (S,) without repeats and blanks, and the log
        probability of each row's alignment, float64 (N,).

    Raises:
        ShapeError: log_probs has not 2 or 3 axes or no symbols; lengths not one for each row.
        DTypeError: log_probs is not float32 or float64, lengths not integer.
        ArgumentError: a NaN or +inf in a frame that is read; a length or blank out of range.
    """
    x, frames = _check(log_probs, lengths, blank)
    best = x.argmax(axis=2)
    every = np.arange(len(x))[:, None] < frames
    highest = np.take_along_axis(x, best[:, :, None], 2)[:, :, 0]
    labels = []
    for n, length in enumerate(frames):
        row = best[:length, n].astype(np.int64)
        new = np.ones(length, bool)
        new[1:] = row[1:] != row[:-1]
        labels.append(row[new & (row != blank)])
    return labels, np.where(every, highest, 0).sum(axis=0, dtype=np.float64)


def ctc_beam_search(
    log_probs: ArrayLike | Tensor,
    lengths: ArrayLike | Tensor | None = None,
    blank: int = 0,
    beam_width: int = 10,
    top: int = 1,
    scorer: Callable[[tuple[int, ...], int], float] | None = None,
) -> list[list[Labelling]]:
    """The most probable labellings, by a search over prefixes.

    A. Hannun, A. Maas, D. Jurafsky and A. Ng, "First-pass large vocabulary continuous speech
    recognition using bi-directional recurrent DNNs", 2014, algorithm 1: of each prefix the
    alignments that end in blank and those that end in its last label are counted apart, so that all
    alignments of one labelling are added up. A prefix that falls out of the beam keeps its own for
    as long as the prefix that is one label shorter is in the beam. With a beam that holds every
    prefix the search is exact.

    Args:
        log_probs, lengths, blank: as in `ctc_greedy`.
        beam_width: prefixes that are kept from one frame to the next.
        top: how many labellings of each row are wanted.
        scorer: ``scorer(prefix, label)``, a log score added when a prefix (a tuple of labels) is
            made longer by a label: a language model's log probability with a factor, a bonus for
            each label, ``-inf`` for what must not be. It is called once for each prefix and label.

    Returns:
        for each row its labellings, best first: `top` of them, or fewer where the beam held fewer
        or no more have a probability above 0.

    Raises:
        ShapeError, DTypeError: as in `ctc_greedy`.
        ArgumentError: as in `ctc_greedy`; beam_width or top below 1, top above beam_width; a
            score that is NaN or +inf.
    """
    x, frames = _check(log_probs, lengths, blank)
    check_size("beam_width", beam_width)
    check_size("top", top)
    if scorer is not None:
        check_callable("scorer", scorer)
    if top > beam_width:
        raise ArgumentError(f"top: expected at most beam_width, {beam_width}, got {top}")
    found = []
    for n, length in enumerate(frames):
        beam = _Beam(x.shape[2], blank, beam_width, scorer)
        for t in range(length):
            beam.step(x[t, n].astype(np.float64))
        found.append(beam.best(top))
    return found


def _check(log_probs: Any, lengths: Any, blank: int) -> tuple[Array, Array]:
    """(T, N, C) and (N,)"""
    x = check_log_probs(log_probs, blank)[0].data
    T, N, _ = x.shape
    given = np.full(N, T) if lengths is None else lengths
    frames = check_lengths(given, T, N, of="the frames of log_probs")
    wrong = ~(x < np.inf) & (np.arange(T)[:, None] < frames)[:, :, None]
    if wrong.any():
        t, n, symbol = (int(i) for i in np.argwhere(wrong)[0])
        raise ArgumentError(
            f"log_probs: expected log probabilities, got {x[t, n, symbol]} for symbol {symbol} in "
            f"frame {t} of row {n}"
        )
    return x, frames


class _Prefix:
    """A sequence of labels, as one label more than another has."""

    __slots__ = ("children", "label", "parent", "scores")

    def __init__(self, parent: _Prefix | None, label: int) -> None:
        self.parent = parent
        self.label = label  # -1: it is the empty one
        self.children: dict[int, _Prefix] = {}
        self.scores: Array | None = None  # what the scorer says of each label behind it

    def longer(self, label: int) -> _Prefix:
        if label not in self.children:
            self.children[label] = _Prefix(self, label)
        return self.children[label]

    def labels(self) -> tuple[int, ...]:
        reverse = []
        prefix: _Prefix = self
        while prefix.parent is not None:
            reverse.append(prefix.label)
            prefix = prefix.parent
        return tuple(reversed(reverse))


class _Beam:
    """The prefixes of one row (B,), with the log probabilities of their alignments so far.

    Those of a prefix out of the beam are known as long as the one it makes longer is in it: (B, C).
    """

    def __init__(self, symbols: int, blank: int, width: int, scorer: Any) -> None:
        self.symbols, self.blank, self.width, self.scorer = symbols, blank, width, scorer
        self.prefixes = [_Prefix(None, -1)]
        self.blank_last = np.zeros(1)  # of the alignments that end in blank
        self.label_last = np.full(1, -np.inf)  # of those that end in the prefix's last label
        self.out_blank_last = np.full((1, symbols), -np.inf)
        self.out_label_last = np.full((1, symbols), -np.inf)
        self.bonus = np.zeros(1)  # what the scorer gave

    def step(self, x: Array) -> None:
        """Take one more frame, log probabilities (C,)."""
        size = len(self.prefixes)
        if not size:  # nothing was possible any more
            return
        last = np.array([prefix.label for prefix in self.prefixes])
        some = last >= 0
        total = np.logaddexp(self.blank_last, self.label_last)
        blank_last = total + x[self.blank]
        label_last = self.label_last + np.where(some, x[last], -np.inf)
        longer = total[:, None] + x
        # A label again makes a prefix longer only from behind a blank.
        longer[some, last[some]] = self.blank_last[some] + x[last[some]]
        longer[:, self.blank] = -np.inf
        out_blank_last = np.logaddexp(self.out_blank_last, self.out_label_last) + x[self.blank]
        out_label_last = np.logaddexp(self.out_label_last + x, longer)
        shorter = self._shorter()
        inside = shorter >= 0
        places = shorter[inside], last[inside]
        label_last[inside] = np.logaddexp(label_last[inside], longer[places])
        out_label_last[places] = -np.inf
        bonus = np.repeat(self.bonus[:, None], self.symbols, axis=1)
        if self.scorer is not None:
            bonus += np.stack([self._scores(prefix) for prefix in self.prefixes])
        ranks = np.logaddexp(blank_last, label_last) + self.bonus
        out_ranks = np.logaddexp(out_blank_last, out_label_last) + bonus
        chosen = _highest(np.concatenate([ranks, out_ranks.ravel()]), self.width)

        stay, come = chosen[chosen < size], chosen[chosen >= size] - size
        self.prefixes = [self.prefixes[i] for i in stay] + [
            self.prefixes[i].longer(int(label))
            for i, label in zip(*divmod(come, self.symbols), strict=True)
        ]
        self.blank_last = np.concatenate([blank_last[stay], out_blank_last.ravel()[come]])
        self.label_last = np.concatenate([label_last[stay], out_label_last.ravel()[come]])
        self.bonus = np.concatenate([self.bonus[stay], bonus.ravel()[come]])
        inside[stay] = False  # of those in the beam, what is left are those that leave it
        places = shorter[inside], last[inside]
        out_blank_last[places], out_label_last[places] = blank_last[inside], label_last[inside]
        out_blank_last.ravel()[come] = out_label_last.ravel()[come] = -np.inf
        nothing = np.full((len(come), self.symbols), -np.inf)
        self.out_blank_last = np.concatenate([out_blank_last[stay], nothing])
        self.out_label_last = np.concatenate([out_label_last[stay], nothing])

    def _shorter(self) -> Array:
        """(B,) the place in the beam of the prefix that each makes longer, -1: not there."""
        places = {id(prefix): i for i, prefix in enumerate(self.prefixes)}
        return np.array([places.get(id(prefix.parent), -1) for prefix in self.prefixes])

    def _scores(self, prefix: _Prefix) -> Array:
        if prefix.scores is None:
            labels = prefix.labels()
            prefix.scores = np.zeros(self.symbols)
            for label in range(self.symbols):
                if label != self.blank:
                    score = float(self.scorer(labels, label))
                    if not score < math.inf:
                        raise ArgumentError(
                            f"scorer: expected a number or -inf, got {score} for {label} behind "
                            f"{labels}"
                        )
                    prefix.scores[label] = score
        return prefix.scores

    def best(self, top: int) -> list[Labelling]:
        total = np.logaddexp(self.blank_last, self.label_last)
        return [
            Labelling(
                np.array(self.prefixes[i].labels(), np.int64),
                float(total[i]),
                float(total[i] + self.bonus[i]),
            )
            for i in _highest(total + self.bonus, top)
        ]


def _highest(ranks: Array, count: int) -> Array:
    """The places of so many of the highest, highest first, without those that are impossible.

    The first of equals comes first, so that results do not depend on how a sort treats them.
    """
    if count < len(ranks):
        least = np.partition(ranks, len(ranks) - count)[len(ranks) - count]
        places = np.flatnonzero(ranks >= least)
    else:
        places = np.arange(len(ranks))
    places = places[np.argsort(-ranks[places], kind="stable")][:count]
    return places[ranks[places] > -np.inf]
