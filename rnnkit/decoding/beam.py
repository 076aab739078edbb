"""Beam search over any function that says how probable each next token is."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import TYPE_CHECKING, Any, NamedTuple

import numpy as np

from rnnkit.autograd import Tensor, no_grad
from rnnkit.autograd.tensor import plain_array
from rnnkit.checks import (
    check_callable,
    check_elements,
    check_integer,
    check_number,
    check_size,
)
from rnnkit.errors import ArgumentError, DTypeError, ShapeError

if TYPE_CHECKING:
    from numpy.typing import ArrayLike

Array = np.ndarray[Any, np.dtype[Any]]
Step = Callable[[Array, Any], tuple[Any, ...]]


class Hypothesis(NamedTuple):
    """One sequence that a search found.

    Attributes:
        tokens: int64 (L,), without the start and without the end token.
        score: the sum of the log-probabilities of the tokens, that of the end included, over the
            length penalty.
    """

    tokens: Array
    score: float


def beam_search(
    step: Step,
    state: Any,
    *,
    start: int | ArrayLike,
    end: int,
    beam_width: int,
    max_length: int,
    length_penalty: float = 0.0,
    top: int = 1,
    batch_axis: Any = 0,
) -> list[list[Hypothesis]]:
    """The most probable sequences that a search of ``beam_width`` hypotheses side by side finds.

    At every step each row's ``beam_width`` best extensions are looked at. Those that end are
    finished and kept apart; the best others, ``beam_width`` of them, go on. A row is done once
    nothing alive can pass its ``top`` best finished ones any more. With a width of 1 and no penalty
    this is ``greedy_search``.

    Args:
        step: ``step(tokens, state)`` for ints (n,) and a state of n rows returns log-probabilities
            (n, V) and the next state; what it returns beyond these is left aside. n is at most
            N * beam_width, and falls as rows are done. It runs without recording.
        state: tuples, lists and dicts, nested in any way, of tensors and arrays with N rows; other
            things in it are handed on as they are. What ``step`` hands back as the very same object
            is taken for constant, and is not copied when the hypotheses change places.
        start: the first token, of all rows or (N,).
        end: the token that ends a sequence.
        beam_width: B.
        max_length: how many tokens a sequence may have, its end included. A row with fewer than
            ``top`` finished ones by then is filled up with the best of those that have not ended.
        length_penalty: alpha in Wu et al. 2016, arXiv 1609.08144, equation 14: the score is the sum
            of log-probabilities over ((5 + L) / 6) ** alpha with L tokens, the end included. 0
            compares the sums, which favours short sequences.
        top: how many hypotheses of each row to return, up to ``beam_width``.
        batch_axis: where the rows are in each array of the state: an int for all of them, or a
            nest like the state's.

    Returns:
        for each row up to ``top`` hypotheses, the best first; fewer where there are no more.

    Raises:
        ArgumentError: a width, length, penalty or ``top`` out of range; an end outside the
            vocabulary; NaN or +inf among the log-probabilities; a batch_axis that does not fit the
            state.
        ShapeError: rows that differ in number; log-probabilities that are not (n, V).
        DTypeError: tokens that are not integers.
    """
    check_callable("step", step)
    B = check_size("beam_width", beam_width)
    if check_size("top", top) > B:
        raise ArgumentError(f"top: expected at most {B}, the beam_width, got {top}")
    check_integer("end", end)
    check_number("length_penalty", length_penalty, below_high=True)
    check_size("max_length", max_length)
    axes = _axes_like(state, batch_axis)
    first = _first_tokens(start, state, axes)
    N = len(first)
    check_elements("beam_width", (N, B), 8)
    longest = _penalty(max_length, length_penalty)
    found = [_Found(top) for _ in range(N)]
    rows = np.arange(N)  # of the batch, that are not done
    tokens = np.repeat(first, B)
    scores = np.full((N, B), -np.inf)
    scores[:, 0] = 0.0  # the hypotheses are the same in the beginning
    written = np.zeros((N, B, 0), np.int64)
    with no_grad():
        state = _take(state, axes, np.repeat(rows, B))
        for length in range(1, max_length + 1):
            if not len(rows):
                break
            log_probabilities, state_after = _stepped(step, tokens, state, end)
            log_probabilities = log_probabilities.reshape(len(rows), B, -1)
            ends = scores + log_probabilities[:, :, end]
            log_probabilities[:, :, end] = -np.inf
            scores, parents, nexts = _best(scores, log_probabilities)
            for place, beam in np.argwhere(_among_best(ends, scores)):
                score = ends[place, beam] / _penalty(length, length_penalty)
                found[rows[place]].add(score, written[place, beam])
            written = np.take_along_axis(written, parents[:, :, None], 1)
            written = np.concatenate([written, nexts[:, :, None]], 2)
            # A sum only falls as a sequence grows, and the longest has the largest penalty.
            hopes = scores[:, 0] / longest
            alive = [found[row].may_take(hope) for row, hope in zip(rows, hopes, strict=True)]
            places = np.flatnonzero(alive)
            kept = (places[:, None] * B + parents[places]).reshape(-1)
            unchanged = state if len(places) == len(rows) else None
            state = _take(state_after, axes, kept, unchanged)
            rows, scores, written = rows[places], scores[places], written[places]
            tokens = nexts[places].reshape(-1)
    for place, row in enumerate(rows):
        for score, ids in zip(scores[place], written[place], strict=True):
            found[row].fill_up(score / longest, ids)
    return [each.hypotheses for each in found]


def greedy_search(
    step: Step,
    state: Any,
    *,
    start: int | ArrayLike,
    end: int,
    max_length: int,
    batch_axis: Any = 0,
) -> list[Hypothesis]:
    """Takes the most probable token at every step, until it is the end or there are enough.

    Arguments and errors are those of ``beam_search``; returns one hypothesis for each row, with no
    tokens and a score of -inf where every token is impossible.
    """
    found = beam_search(
        step, state, start=start, end=end, beam_width=1, max_length=max_length,
        batch_axis=batch_axis,
    )
    nothing = Hypothesis(np.zeros(0, np.int64), -np.inf)
    return [hypotheses[0] if hypotheses else nothing for hypotheses in found]


def _penalty(length: int, alpha: float) -> float:
    return float(((5 + np.float64(length)) / 6) ** alpha)


class _Found:
    """The best hypotheses of one row so far."""

    def __init__(self, top: int) -> None:
        self.top = top
        self.hypotheses: list[Hypothesis] = []

    def add(self, score: float, tokens: Array) -> None:
        self.hypotheses.append(Hypothesis(tokens.copy(), float(score)))
        self.hypotheses.sort(key=lambda each: -each.score)
        del self.hypotheses[self.top :]

    def may_take(self, hope: float) -> bool:
        """Whether a sequence that cannot score more than ``hope`` could still get a place."""
        if hope == -np.inf:
            return False
        return len(self.hypotheses) < self.top or hope > self.hypotheses[-1].score

    def fill_up(self, score: float, tokens: Array) -> None:
        if len(self.hypotheses) < self.top and score > -np.inf:
            self.hypotheses.append(Hypothesis(tokens.copy(), float(score)))


def _stepped(step: Step, tokens: Array, state: Any, end: int) -> tuple[Array, Any]:
    scores, after, *_ = step(tokens, state)
    array = np.asarray(scores.data if isinstance(scores, Tensor) else scores)
    if array.ndim != 2 or len(array) != len(tokens) or array.dtype.kind != "f":
        raise ShapeError(
            f"step: expected log-probabilities ({len(tokens)}, V), got {array.dtype} of shape "
            f"{array.shape}"
        )
    if not 0 <= end < array.shape[1]:
        raise ArgumentError(f"end: expected a token in [0, {array.shape[1]}), got {end}")
    if not (array < np.inf).all():
        wrong = "NaN" if np.isnan(array).any() else "infinity"
        raise ArgumentError(f"step: expected log-probabilities, got {wrong} among them")
    return array.copy(), after


def _best(scores: Array, log_probabilities: Array) -> tuple[Array, Array, Array]:
    """Of scores (n, B) extended by (n, B, V): the B best of each row, their beams and tokens."""
    n, B, V = log_probabilities.shape
    k = min(B, V)
    # Of one beam no more than B extensions can be among the best: the rest is never added up.
    if k == 1:
        tokens = log_probabilities.argmax(2)[:, :, None]
    else:
        tokens = np.argpartition(log_probabilities, V - k, 2)[:, :, V - k :]
    extended = scores[:, :, None] + np.take_along_axis(log_probabilities, tokens, 2)
    best = np.argsort(-extended.reshape(n, B * k), 1, kind="stable")[:, :B]
    tokens = np.take_along_axis(tokens.reshape(n, B * k), best, 1)
    return np.take_along_axis(extended.reshape(n, B * k), best, 1), best // k, tokens


def _among_best(ends: Array, others: Array) -> Array:
    """bool (n, B): which ends are among the B best extensions, the others (n, B) being there."""
    B = ends.shape[1]
    rank = (others[:, None] > ends[:, :, None]).sum(2) + (ends[:, None] > ends[:, :, None]).sum(2)
    return (rank < B) & (ends > -np.inf)


# ---- states, nested in any way


def _axes_like(state: Any, axes: Any) -> Any:
    """The batch axis of every leaf, nested like the state."""
    if isinstance(state, Mapping):
        named = axes if isinstance(axes, Mapping) else dict.fromkeys(state, axes)
        if named.keys() != state.keys():
            raise ArgumentError(f"batch_axis: expected the keys {list(state)}, got {list(named)}")
        return {key: _axes_like(each, named[key]) for key, each in state.items()}
    if isinstance(state, tuple | list):
        parts = axes if isinstance(axes, tuple | list) else [axes] * len(state)
        if len(parts) != len(state):
            raise ArgumentError(f"batch_axis: expected {len(state)} items, got {len(parts)}")
        return [_axes_like(each, part) for each, part in zip(state, parts, strict=True)]
    if not isinstance(state, Tensor | np.ndarray):
        return None
    return check_integer("batch_axis", axes, -state.ndim, state.ndim - 1)


def _leaves(state: Any, axes: Any) -> list[tuple[Any, int]]:
    if isinstance(state, Mapping):
        return [leaf for key in state for leaf in _leaves(state[key], axes[key])]
    if isinstance(state, tuple | list):
        return [leaf for pair in zip(state, axes, strict=True) for leaf in _leaves(*pair)]
    return [] if axes is None else [(state, axes)]


def _first_tokens(start: Any, state: Any, axes: Any) -> Array:
    tokens = plain_array("start", start)
    if tokens.dtype.kind not in "iu":
        raise DTypeError(f"start: expected integers, got {tokens.dtype}")
    if tokens.ndim > 1:
        raise ShapeError(f"start: expected a token or (N,) of them, got shape {tokens.shape}")
    counts = {leaf.shape[axis] for leaf, axis in _leaves(state, axes)}
    counts |= {len(tokens)} if tokens.ndim else set()
    if len(counts) > 1:
        raise ShapeError(
            f"start, state: expected one number of rows, got {sorted(counts)} along batch_axis"
        )
    return np.broadcast_to(tokens.astype(np.int64), (counts.pop() if counts else 1,))


def _take(state: Any, axes: Any, rows: Array, unchanged: Any = None) -> Any:
    """The rows of every leaf, but for leaves that are also in ``unchanged``, in the same place."""
    if isinstance(state, Mapping):
        former = unchanged if isinstance(unchanged, Mapping) else {}
        return {k: _take(each, axes[k], rows, former.get(k)) for k, each in state.items()}
    if isinstance(state, tuple | list):
        before = unchanged if isinstance(unchanged, tuple | list) else [None] * len(state)
        taken = [_take(*p) for p in zip(state, axes, [rows] * len(state), before, strict=True)]
        if isinstance(state, list):
            return taken
        return type(state)(*taken) if hasattr(state, "_fields") else tuple(taken)
    if axes is None or state is unchanged:
        return state
    return state[(slice(None),) * (axes % state.ndim) + (rows,)]
