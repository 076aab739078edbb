"""Drawing one symbol: probabilities, temperature, and what is left out."""

import numpy as np
import pytest

import rnnkit as rk
from rnnkit.decoding import choose
from rnnkit.errors import ArgumentError, DTypeError, ShapeError

P = np.array([0.1, 0.0, 0.45, 0.05, 0.15, 0.25])
with np.errstate(divide="ignore"):
    LOGITS = np.log(P) + 3.0
DRAWS = 20_000


def frequencies(**options):
    rng = np.random.default_rng(7)
    drawn = choose(np.tile(LOGITS, (DRAWS, 1)), options.pop("temperature", 1.0), rng, **options)
    assert drawn.shape == (DRAWS,)
    return np.bincount(drawn, minlength=len(P)) / DRAWS


def assert_drawn(found, expected):
    expected = np.asarray(expected) / np.sum(expected)
    np.testing.assert_array_equal(found > 0, expected > 0)
    # Five standard deviations.
    assert (np.abs(found - expected) <= 5 * np.sqrt(expected * (1 - expected) / DRAWS)).all()


@pytest.mark.parametrize("temperature", [1.0, 0.5, 3.0])
def test_frequencies_are_the_probabilities(temperature):
    assert_drawn(frequencies(temperature=temperature), P ** (1 / temperature))


def test_top_k_and_top_p_leave_out_the_rest():
    assert_drawn(frequencies(top_k=3), [0, 0, 0.45, 0, 0.15, 0.25])
    assert_drawn(frequencies(top_k=1), [0, 0, 1, 0, 0, 0])
    assert_drawn(frequencies(top_k=99), P)
    assert_drawn(frequencies(top_p=0.5), [0, 0, 0.45, 0, 0, 0.25])
    assert_drawn(frequencies(top_p=0.44), [0, 0, 1, 0, 0, 0])
    assert_drawn(frequencies(top_p=0.86), [0.1, 0, 0.45, 0, 0.15, 0.25])
    assert_drawn(frequencies(top_p=1.0), P)
    # Of what top_k leaves, 0.45 / 0.7 is enough for 0.6, which 0.45 was not.
    assert_drawn(frequencies(top_p=0.6), [0, 0, 0.45, 0, 0, 0.25])
    assert_drawn(frequencies(top_k=2, top_p=0.6), [0, 0, 1, 0, 0, 0])
    # Temperature comes first.
    assert_drawn(frequencies(temperature=0.1, top_p=0.9), [0, 0, 1, 0, 0, 0])


def test_equal_ones_at_the_edge_of_top_k_stay():
    rng = np.random.default_rng(0)
    drawn = choose(np.tile([0.0, 1.0, 0.0, -1.0], (200, 1)), 1.0, rng, top_k=2)
    assert set(drawn.tolist()) == {0, 1, 2}


def test_temperature_0_takes_the_first_largest_and_draws_nothing():
    rng = np.random.default_rng(3)
    assert choose([0.5, 2.0, 2.0], 0.0, rng) == 1
    np.testing.assert_array_equal(choose(rk.tensor([[0.5, 2.0], [3.0, 2.0]]), 0.0, rng), [1, 0])
    assert rng.random() == np.random.default_rng(3).random()


def test_one_number_for_each_id():
    """Of a row alone as of rows side by side; ids are plain ints for one row."""
    logits = np.random.default_rng(0).standard_normal((5, 9))
    together = choose(logits, 0.8, np.random.default_rng(3))
    rng = np.random.default_rng(3)
    alone = [choose(row, 0.8, rng) for row in logits]
    assert alone == together.tolist()
    assert type(alone[0]) is int
    assert choose(logits.reshape(5, 1, 9), 0.8, np.random.default_rng(3)).shape == (5, 1)


class Largest:
    """A generator of the largest number that there is below 1."""

    def random(self, shape):
        return np.full(shape, np.nextafter(1.0, 0.0))


def test_rounding_draws_nothing_impossible():
    logits = np.log(np.random.default_rng(1).random((200, 7)))
    logits[:, -2:] = -np.inf
    assert choose(logits, 1.0, Largest()).max() == 4


def test_scores_far_below_the_largest_are_not_drawn_and_do_not_warn():
    assert choose([0.0, 1.0], 1e-320, Largest()) == 1
    assert choose([1e308, -1e308], 1.0, Largest()) == 0
    assert choose([1000.0, 0.0], 1.0, Largest()) == 0


def test_without_a_generator_the_library_s_draws():
    rk.manual_seed(5)
    drawn = choose(np.tile(LOGITS, (50, 1)), 1.0)
    rk.manual_seed(5)
    np.testing.assert_array_equal(drawn, choose(np.tile(LOGITS, (50, 1)), 1.0, rk.generator()))
    assert len(set(drawn.tolist())) > 1


@pytest.mark.parametrize(
    ("arguments", "error", "message"),
    [
        ({"temperature": -1.0}, ArgumentError, "temperature: expected a number >= 0"),
        ({"temperature": np.inf}, ArgumentError, "temperature: expected a number >= 0"),
        ({"temperature": np.nan}, ArgumentError, "temperature: expected a number >= 0"),
        ({"temperature": "1"}, ArgumentError, "temperature: expected a number >= 0"),
        ({"rng": 7}, ArgumentError, "rng: expected a numpy.random.Generator or None, got 7"),
        ({"top_p": "1"}, ArgumentError, "top_p: expected a number > 0"),
        ({"top_k": 0}, ArgumentError, "top_k: expected at least 1"),
        ({"top_p": 0.0}, ArgumentError, "top_p: expected a number > 0"),
        ({"top_p": 1.5}, ArgumentError, "top_p: expected a number > 0"),
        ({"logits": [1, 2]}, DTypeError, "logits: expected floats, got int64"),
        ({"logits": 1.0}, ShapeError, r"logits: expected \(..., V\)"),
        ({"logits": np.zeros((3, 0))}, ShapeError, r"logits: expected \(..., V\)"),
        ({"logits": [0.0, np.nan]}, ArgumentError, "finite largest score, got nan"),
        ({"logits": [0.0, np.inf]}, ArgumentError, "finite largest score, got inf"),
        ({"logits": [-np.inf, -np.inf]}, ArgumentError, "finite largest score, got -inf"),
    ],
)
def test_refusals(arguments, error, message):
    whole = {"logits": LOGITS, "temperature": 1.0, "rng": np.random.default_rng(0), **arguments}
    with pytest.raises(error, match=message):
        choose(**whole)
