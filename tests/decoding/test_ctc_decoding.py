"""Best path and prefix beam search, against a search through everything there is."""

from __future__ import annotations

from itertools import product

import numpy as np
import pytest

import rnnkit as rk
from rnnkit.decoding import Labelling, ctc_beam_search, ctc_greedy
from rnnkit.errors import ArgumentError, DTypeError, ShapeError


def log_probs(*shape, seed=0, dtype="float64", scale=1.0):
    scores = np.random.default_rng(seed).normal(size=shape) * scale
    return rk.tensor(scores).log_softmax(-1).numpy().astype(dtype)


def shows(alignment, blank):
    before = (None, *alignment)
    return tuple(k for k, last in zip(alignment, before, strict=False) if k not in (last, blank))


def everything(x, blank=0):
    """The log probability of every labelling of one row (T, C)."""
    found: dict[tuple[int, ...], float] = {}
    for alignment in product(range(x.shape[1]), repeat=len(x)):
        labels = shows(alignment, blank)
        way = sum(x[t, k] for t, k in enumerate(alignment))
        found[labels] = np.logaddexp(found.get(labels, -np.inf), way)
    return found


# -- best path -------------------------------------------------------------------------------


def test_greedy_drops_repeats_and_then_blanks():
    path = [0, 1, 1, 0, 1, 2, 2, 3, 0]
    x = np.full((9, 1, 4), -5.0)
    x[np.arange(9), 0, path] = -0.5
    labels, log_probability = ctc_greedy(x)
    assert [row.tolist() for row in labels] == [[1, 1, 2, 3]]
    assert labels[0].dtype == np.int64
    np.testing.assert_allclose(log_probability, [-4.5])
    assert [row.tolist() for row in ctc_greedy(x, blank=1)[0]] == [[0, 0, 2, 3, 0]]


@pytest.mark.parametrize("dtype", ["float32", "float64"])
def test_greedy_is_the_most_probable_alignment(dtype):
    x = log_probs(5, 6, 3, dtype=dtype)
    lengths = [5, 0, 3, 1, 4, 5]
    x[np.arange(5)[:, None] >= np.array(lengths)] = np.nan
    labels, log_probability = ctc_greedy(rk.tensor(x), rk.tensor(lengths))
    assert log_probability.dtype == np.float64
    for n, length in enumerate(lengths):
        ways = {
            alignment: sum(x[t, n, k] for t, k in enumerate(alignment))
            for alignment in product(range(3), repeat=length)
        }
        best = max(ways, key=ways.get)
        assert tuple(labels[n]) == shows(best, 0)
        assert log_probability[n] == pytest.approx(ways[best], rel=1e-6)


def test_greedy_forms():
    x = log_probs(4, 1, 3)
    labels, log_probability = ctc_greedy(x[:, 0])
    assert len(labels) == 1
    assert log_probability.shape == (1,)
    labels, log_probability = ctc_greedy(np.zeros((0, 2, 3)))
    assert [len(row) for row in labels] == [0, 0]
    np.testing.assert_array_equal(log_probability, [0, 0])
    labels, log_probability = ctc_greedy(np.zeros((3, 0, 3)))
    assert (labels, log_probability.shape) == ([], (0,))


# -- beam search -----------------------------------------------------------------------------


@pytest.mark.parametrize("blank", [0, 2])
@pytest.mark.parametrize("seed", range(8))
def test_a_beam_that_holds_everything_finds_everything_in_order(seed, blank):
    x = log_probs(5, 1, 4, seed=seed, scale=1.5)
    every = everything(x[:, 0], blank)
    (found,) = ctc_beam_search(x, blank=blank, beam_width=2000, top=2000)
    assert {tuple(h.labels) for h in found} == set(every)
    assert len(found) == len(every)
    for h in found:
        assert h.log_probability == pytest.approx(every[tuple(h.labels)], abs=1e-12)
        assert h.score == h.log_probability
        assert h.labels.dtype == np.int64
    scores = [h.score for h in found]
    assert scores == sorted(scores, reverse=True)
    (best,) = ctc_beam_search(x, blank=blank, beam_width=2000)[0]
    assert tuple(best.labels) == max(every, key=every.get)


def test_what_it_finds_is_what_the_loss_says():
    x = log_probs(30, 2, 6, seed=2, scale=4.0)
    for n, found in enumerate(ctc_beam_search(x, [30, 24], beam_width=200, top=3)):
        for h in found:
            loss = rk.losses.ctc_loss(
                x[:, n], h.labels, [30, 24][n], len(h.labels), reduction="none"
            ).item()
            assert h.log_probability <= -loss + 1e-9
            assert h.log_probability == pytest.approx(-loss, abs=0.1)


def test_it_beats_the_best_path_where_a_labelling_has_more_ways():
    """Graves' example: blank is likelier in both frames, and yet the label is as a whole."""
    x = np.log(np.array([[[0.6, 0.4]], [[0.6, 0.4]]]))
    assert ctc_greedy(x)[0][0].tolist() == []
    (best, other) = ctc_beam_search(x, top=2)[0]
    assert best.labels.tolist() == [1]
    assert best.log_probability == pytest.approx(np.log(0.64))
    assert other.log_probability == pytest.approx(np.log(0.36))


@pytest.mark.parametrize("seed", range(4))
def test_a_narrow_beam_never_counts_an_alignment_twice(seed):
    x = log_probs(7, 1, 4, seed=seed)
    every = everything(x[:, 0])
    for width in (1, 2, 3, 5, 10, 30):
        (found,) = ctc_beam_search(x, beam_width=width, top=width)
        assert len({tuple(h.labels) for h in found}) == len(found) == width
        for h in found:
            assert h.log_probability <= every[tuple(h.labels)] + 1e-12
        if width == 30:
            assert every[tuple(found[0].labels)] == max(every.values())


def test_a_prefix_out_of_the_beam_keeps_its_alignments():
    """Two frames make label 1 the likelier one, none of them alone: a beam of one prefix must not
    forget the first when it comes to the second."""
    x = np.log(np.array([[[0.6, 0.4]], [[0.5, 0.5]]]))
    (best,) = ctc_beam_search(x, beam_width=1)[0]
    assert best.labels.tolist() == [1]
    assert best.log_probability == pytest.approx(np.log(0.7))


def test_rows_and_padding_do_not_matter_to_each_other():
    x = log_probs(9, 3, 4)
    lengths = [9, 4, 0]
    x[np.arange(9)[:, None] >= np.array(lengths)] = np.nan
    together = ctc_beam_search(rk.tensor(x), lengths, beam_width=5, top=2)
    for n, length in enumerate(lengths):
        (alone,) = ctc_beam_search(x[:length, n], beam_width=5, top=2)
        for a, b in zip(together[n], alone, strict=True):
            np.testing.assert_array_equal(a.labels, b.labels)
            assert a[1:] == b[1:]
    (empty,) = together[2]
    assert (empty.labels.tolist(), empty.log_probability) == ([], 0.0)
    assert ctc_beam_search(np.zeros((3, 0, 2))) == []


def test_single_precision_is_added_up_in_double():
    x = log_probs(20, 1, 5, dtype="float32")
    (a,), (b,) = (ctc_beam_search(v)[0] for v in (x, x.astype(np.float64)))
    assert a.log_probability == b.log_probability


def test_what_is_impossible_is_not_found():
    x = np.full((3, 1, 3), -np.inf)
    x[[0, 1, 2], 0, [1, 0, 1]] = -0.5
    (found,) = ctc_beam_search(x, top=5)
    assert [h.labels.tolist() for h in found] == [[1, 1]]
    x[1] = -np.inf
    assert ctc_beam_search(x, top=5) == [[]]
    assert ctc_beam_search(x, top=5, scorer=lambda prefix, label: 0.0) == [[]]


# -- with a scorer ---------------------------------------------------------------------------


def test_a_scorer_ranks_and_the_search_stays_exact():
    weights = np.random.default_rng(1).normal(size=(4, 4)) * 2

    def scorer(prefix, label):
        return weights[prefix[-1] if prefix else 0, label]

    def score_of(labels):
        return sum(scorer(labels[:i], label) for i, label in enumerate(labels))

    x = log_probs(5, 1, 4, seed=4)
    every = everything(x[:, 0])
    (found,) = ctc_beam_search(x, beam_width=2000, top=2000, scorer=scorer)
    assert {tuple(h.labels) for h in found} == set(every)
    for h in found:
        labels = tuple(h.labels)
        assert h.log_probability == pytest.approx(every[labels], abs=1e-12)
        assert h.score == pytest.approx(every[labels] + score_of(labels), abs=1e-12)
    assert tuple(found[0].labels) == max(every, key=lambda k: every[k] + score_of(k))
    assert tuple(found[0].labels) != max(every, key=every.get)


def test_a_scorer_can_forbid_and_is_called_once_for_each_prefix_and_label():
    calls = []

    def scorer(prefix, label):
        assert all(isinstance(k, int) for k in (*prefix, label))
        calls.append((prefix, label))
        return -np.inf if prefix[-1:] == (1,) else 0.5

    (found,) = ctc_beam_search(log_probs(6, 1, 3), beam_width=50, top=50, scorer=scorer)
    assert all(1 not in h.labels[:-1] for h in found)
    assert len(calls) == len(set(calls))
    assert all(label != 0 for _, label in calls)


@pytest.mark.parametrize("score", [np.nan, np.inf])
def test_scores_that_are_none(score):
    with pytest.raises(ArgumentError, match=r"scorer: expected a number or -inf, got .* behind \("):
        ctc_beam_search(log_probs(3, 1, 3), scorer=lambda prefix, label: score)


# -- refusals --------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("change", "error", "message"),
    [
        ({"log_probs": np.zeros((4, 2, 3), int)}, DTypeError, "log_probs: expected float32"),
        ({"log_probs": np.zeros(4)}, ShapeError, r"log_probs: expected \(T, N, C\) or"),
        ({"log_probs": np.zeros((4, 2, 0))}, ShapeError, "log_probs: expected"),
        ({"log_probs": np.full((4, 2, 3), np.nan)}, ArgumentError, "got nan for symbol 0 in frame"),
        ({"log_probs": np.full((4, 2, 3), np.inf)}, ArgumentError, "log_probs: .* got inf"),
        ({"lengths": [4, 5]}, ArgumentError, "lengths: expected from 0 to 4"),
        ({"lengths": [4]}, ShapeError, r"lengths: expected shape \(2,\)"),
        ({"lengths": [4.0, 4.0]}, DTypeError, "lengths: expected integers"),
        ({"blank": 3}, ArgumentError, "blank: expected an integer from 0 to 2"),
        ({"beam_width": 0}, ArgumentError, "beam_width: expected at least 1"),
        ({"beam_width": 2.0}, ArgumentError, "beam_width: expected an int"),
        ({"top": 0}, ArgumentError, "top: expected at least 1"),
        ({"top": 11}, ArgumentError, "top: expected at most beam_width, 10, got 11"),
    ],
)
def test_errors_name_the_argument(change, error, message):
    arguments = {"log_probs": np.zeros((4, 2, 3)), "lengths": [4, 4], **change}
    with pytest.raises(error, match=message):
        ctc_beam_search(**arguments)
    if not {"beam_width", "top"} & set(change):
        with pytest.raises(error, match=message):
            ctc_greedy(**arguments)


def test_names():
    assert rk.decoding.ctc_beam_search is ctc_beam_search
    assert Labelling._fields == ("labels", "log_probability", "score")
