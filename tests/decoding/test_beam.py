"""Beam search: against everything there is, against a plain one, and as a matter of rows."""

from collections import namedtuple
from itertools import product

import numpy as np
import pytest

import rnnkit as rk
from rnnkit.decoding import Hypothesis, beam_search, greedy_search
from rnnkit.errors import ArgumentError, DTypeError, ShapeError

V, END, LONGEST = 4, 2, 4
PENALTIES = pytest.mark.parametrize("alpha", [0.0, 0.7, 2.0])


def table(seed, impossible=0.0):
    """Log-probabilities after every history: one row for each number that stands for one."""
    random = np.random.default_rng(seed)
    logits = random.standard_normal((3 * (V + 1) ** (LONGEST + 1), V)) * 1.5
    logits[random.random(logits.shape) < impossible] = -np.inf
    logits[~np.isfinite(logits).any(1)] = 0.0
    return logits - np.log(np.exp(logits).sum(1, keepdims=True))


def model(scores):
    """A step whose state is the history of each row as one number."""

    def step(tokens, state):
        histories = state * (V + 1) + tokens
        return scores[histories], histories

    return step


def log_probability(scores, history, tokens):
    """Of tokens, the end included, after a start token 0 and a history."""
    total = 0.0
    for before, token in zip((0, *tokens), tokens, strict=False):
        history = history * (V + 1) + before
        total += scores[history, token]
    return total


def enumerated(scores, history, alpha):
    """All hypotheses of a row: those that end, the best first, then those that don't."""
    others = [token for token in range(V) if token != END]
    ended, cut = [], []
    for length in range(LONGEST + 1):
        for words in product(others, repeat=length):
            whole = (*words, END) if length < LONGEST else words
            score = log_probability(scores, history, whole) / ((5 + len(whole)) / 6) ** alpha
            (ended if length < LONGEST else cut).append((list(words), score))
    ranked = [sorted(each, key=lambda pair: -pair[1]) for each in (ended, cut)]
    return [pair for each in ranked for pair in each if pair[1] > -np.inf]


def plain_search(scores, history, width, alpha, top):
    """The same search for one row, with lists."""
    alive, ended = [([], 0.0)], []
    for length in range(1, LONGEST + 1):
        grown = []
        for words, _ in alive:
            for token in range(V):
                more = [*words, token]
                grown.append((more, log_probability(scores, history, more)))
        grown = sorted((g for g in grown if g[1] > -np.inf), key=lambda pair: -pair[1])
        penalty = ((5 + length) / 6) ** alpha
        ended += [(w[:-1], s / penalty) for w, s in grown[:width] if w[-1] == END]
        alive = [g for g in grown if g[0][-1] != END][:width]
    ended.sort(key=lambda pair: -pair[1])
    cut = [(words, total / ((5 + LONGEST) / 6) ** alpha) for words, total in alive]
    return [*ended, *cut][:top]


def assert_found(hypotheses, expected):
    assert [each.tokens.tolist() for each in hypotheses] == [words for words, _ in expected]
    np.testing.assert_allclose(
        [each.score for each in hypotheses], [score for _, score in expected], rtol=1e-12
    )


@PENALTIES
@pytest.mark.parametrize("impossible", [0.0, 0.2])
def test_a_beam_wide_enough_finds_everything_in_order(alpha, impossible):
    scores = table(1, impossible)
    options = {"start": 0, "end": END, "max_length": LONGEST, "length_penalty": alpha}
    found = beam_search(model(scores), np.arange(3), beam_width=130, top=125, **options)
    for row, hypotheses in enumerate(found):
        expected = enumerated(scores, row, alpha)
        assert (len(expected) == 121) == (not impossible)
        assert len(expected) > 20
        assert_found(hypotheses, expected)
    best = beam_search(model(scores), np.arange(3), beam_width=130, **options)
    assert [each[0].score for each in best] == [each[0].score for each in found]


@PENALTIES
@pytest.mark.parametrize("width", [1, 2, 3, 7])
@pytest.mark.parametrize("seed", range(4))
def test_narrow_beams_are_the_plain_search(alpha, width, seed):
    scores = table(seed, 0.2)
    for top in {1, width}:
        found = beam_search(
            model(scores), np.arange(3), start=0, end=END, beam_width=width, max_length=LONGEST,
            length_penalty=alpha, top=top,
        )
        for row, hypotheses in enumerate(found):
            assert_found(hypotheses, plain_search(scores, row, width, alpha, top))


@pytest.mark.parametrize("seed", range(6))
def test_greedy_takes_the_largest_at_every_step(seed):
    scores = table(seed)
    found = greedy_search(model(scores), np.arange(3), start=0, end=END, max_length=LONGEST)
    for row, (tokens, score) in enumerate(found):
        words = []
        while len(words) < LONGEST and (not words or words[-1] != END):
            history = row
            for before in (0, *words):
                history = history * (V + 1) + before
            words.append(int(scores[history].argmax()))
        np.testing.assert_allclose(score, log_probability(scores, row, words), rtol=1e-12)
        assert tokens.tolist() == [word for word in words if word != END]
        assert tokens.dtype == np.int64


@PENALTIES
def test_rows_do_not_depend_on_their_batch(alpha):
    scores = table(5)
    options = {
        "end": END, "beam_width": 3, "max_length": LONGEST, "length_penalty": alpha, "top": 2
    }  # fmt: skip
    starts = np.array([0, 1, 0])
    together = beam_search(model(scores), np.arange(3), start=starts, **options)
    for row in range(3):
        (alone,) = beam_search(
            model(scores), np.array([row]), start=int(starts[row]), **options
        )
        assert_found(together[row], [(each.tokens.tolist(), each.score) for each in alone])


Pair = namedtuple("Pair", "first second")


def test_states_may_be_nested_in_any_way():
    scores = table(2)
    expected = beam_search(
        model(scores), np.arange(3), start=0, end=END, beam_width=3, max_length=LONGEST, top=3
    )

    def step(tokens, state):
        (pair, [kept, note]), named = state["nest"], state["named"]
        history = pair.first.data[0] * (V + 1) + tokens
        assert isinstance(pair, Pair)
        assert note == "a note"
        np.testing.assert_array_equal(pair.second.data, pair.first.data.T)
        np.testing.assert_array_equal(named, history // (V + 1))
        after = Pair(rk.tensor(history[None]), rk.tensor(history[:, None]))
        return rk.tensor(scores[history]), {"nest": (after, [kept, note]), "named": history}, "more"

    rows = np.arange(3)
    state = {
        "nest": (Pair(rk.tensor(rows[None]), rk.tensor(rows[:, None])), [rk.ones(5, 3), "a note"]),
        "named": rows,
    }
    axes = {"nest": (Pair(1, 0), [-1, None]), "named": 0}
    found = beam_search(
        step, state, start=0, end=END, beam_width=3, max_length=LONGEST, top=3, batch_axis=axes
    )
    for ours, theirs in zip(found, expected, strict=True):
        assert_found(ours, [(each.tokens.tolist(), each.score) for each in theirs])


def test_constants_stay_and_done_rows_leave():
    """A constant is gathered only when rows leave, and then it is that of the rows that stay."""
    ends_after = np.array([1, 3, 2])
    seen = []

    def step(tokens, state):
        count, constant = state
        seen.append(constant)
        np.testing.assert_array_equal(constant.data[:, 0] > count, np.ones(len(tokens), bool))
        log_probabilities = np.full((len(tokens), 3), -50.0)
        wanted = np.where(constant.data[:, 0] == count + 1, 2, 1)
        log_probabilities[np.arange(len(tokens)), wanted] = -1e-9
        return log_probabilities, (count + 1, constant)

    constant = rk.tensor(ends_after[:, None])
    found = beam_search(
        step, (np.zeros(3, int), constant), start=0, end=2, beam_width=2, max_length=9
    )
    assert [len(each[0].tokens) for each in found] == [0, 2, 1]
    assert [len(each) for each in seen] == [6, 4, 2]
    seen.clear()
    same = rk.tensor(np.full((3, 1), 3))
    beam_search(step, (np.zeros(3, int), same), start=0, end=2, beam_width=2, max_length=9)
    assert len(seen) == 3
    assert seen[0] is seen[1] is seen[2]


def test_nothing_is_recorded_and_nothing_need_be_there():
    weight = rk.tensor(np.log([0.2, 0.5, 0.3]), requires_grad=True)

    def step(tokens, state):
        scores = weight.expand(len(tokens), 3)
        assert not scores.requires_grad
        return scores, state

    # Without arrays in the state, the start tokens say how many rows there are.
    found = beam_search(step, None, start=[0, 0], end=2, beam_width=2, max_length=3, top=2)
    assert [[each.tokens.tolist() for each in row] for row in found] == [[[], [1]]] * 2
    assert beam_search(step, None, start=0, end=2, beam_width=1, max_length=1)[0][0].tokens == [1]
    none = beam_search(step, np.zeros((0, 2)), start=0, end=2, beam_width=2, max_length=3)
    assert none == []

    def impossible(tokens, state):
        return np.full((len(tokens), 3), -np.inf), state

    assert beam_search(impossible, None, start=0, end=2, beam_width=2, max_length=3) == [[]]
    (only,) = greedy_search(impossible, None, start=0, end=2, max_length=3)
    assert isinstance(only, Hypothesis)
    assert (len(only.tokens), only.score) == (0, -np.inf)


def test_an_end_that_is_the_only_token():
    def step(tokens, state):
        return np.zeros((len(tokens), 1)), state

    for most in (3, 2**62):  # of which nothing is made
        found = beam_search(step, None, start=0, end=0, beam_width=3, max_length=most, top=3)
        assert [each.tokens.tolist() for each in found[0]] == [[]]


def test_longer_ones_win_with_a_penalty():
    """Ending at once has a probability of 0.4, doing so after one token 0.24."""

    def step(tokens, state):
        return np.log([[1e-9, 0.6, 0.4]] * len(tokens)), state

    options = {"start": 0, "end": 2, "beam_width": 2, "max_length": 2}
    (short,), (long,) = (
        beam_search(step, None, length_penalty=alpha, **options)[0] for alpha in (0.0, 3.0)
    )
    assert short.tokens.tolist() == []
    assert long.tokens.tolist() == [1]
    np.testing.assert_allclose(long.score, np.log(0.24) / (7 / 6) ** 3)


@pytest.mark.parametrize(
    ("change", "error", "message"),
    [
        ({"beam_width": 0}, ArgumentError, "beam_width: expected at least 1"),
        ({"top": 3}, ArgumentError, "top: expected at most 2, the beam_width"),
        ({"max_length": 0}, ArgumentError, "max_length: expected at least 1"),
        ({"length_penalty": -0.1}, ArgumentError, "length_penalty: expected a number >= 0"),
        ({"end": V}, ArgumentError, r"end: expected a token in \[0, 4\), got 4"),
        ({"end": 1.0}, ArgumentError, "end: expected an integer, got 1.0"),
        ({"start": 0.5}, DTypeError, "start: expected integers"),
        ({"start": [0, 0]}, ShapeError, r"expected one number of rows, got \[2, 3\]"),
        ({"start": [[0]]}, ShapeError, "start: expected a token or"),
        ({"batch_axis": 1}, ArgumentError, "batch_axis: expected an integer from -1 to 0, got 1"),
        (
            {"batch_axis": "0"}, ArgumentError,
            "batch_axis: expected an integer from -1 to 0, got '0'",
        ),
    ],
)
def test_refusals(change, error, message):
    options = {"start": 0, "end": END, "beam_width": 2, "max_length": LONGEST, **change}
    with pytest.raises(error, match=message):
        beam_search(model(table(0)), np.arange(3), **options)


def test_refusals_of_nests_and_steps():
    options = {"start": 0, "end": END, "beam_width": 2, "max_length": LONGEST}
    rows = np.arange(3)
    with pytest.raises(ArgumentError, match="batch_axis: expected 2 items, got 1"):
        beam_search(model(table(0)), (rows, rows), batch_axis=(0,), **options)
    with pytest.raises(ArgumentError, match=r"batch_axis: expected the keys \['a'\], got \['b'\]"):
        beam_search(model(table(0)), {"a": rows}, batch_axis={"b": 0}, **options)
    for wrong, message in (
        (np.full((6, V), np.nan), "got NaN"),
        (np.full((6, V), np.inf), "got infinity"),
        (np.zeros((3, V)), r"expected log-probabilities \(6, V\)"),
        (np.zeros((6, V), int), "got int64"),
    ):
        with pytest.raises((ArgumentError, ShapeError), match=message):
            beam_search(lambda tokens, state, w=wrong: (w, state), rows, **options)
