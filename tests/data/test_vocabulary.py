"""Characters to ids and back."""

import numpy as np
import pytest

from rnnkit.data import Vocabulary
from rnnkit.errors import ArgumentError


def test_ids_follow_code_points():
    vocabulary = Vocabulary("banana é🙂")
    assert vocabulary.characters == " abné🙂"
    assert len(vocabulary) == 7
    ids = vocabulary.encode("ban 🙂")
    assert ids.dtype == np.int64
    assert ids.tolist() == [3, 2, 4, 1, 6]
    assert vocabulary.decode(ids) == "ban 🙂"


def test_unknown_characters_become_id_zero():
    vocabulary = Vocabulary("bd")
    assert vocabulary.encode("abcde").tolist() == [0, 1, 0, 2, 0]
    assert vocabulary.decode([0, 1]) == "\ufffdb"
    assert vocabulary.encode("\udce9").tolist() == [0]
    assert "b" in vocabulary
    assert "a" not in vocabulary
    assert "bd" not in vocabulary
    assert vocabulary.encode("").shape == (0,)


def test_nonsense_is_refused():
    with pytest.raises(ArgumentError, match="text: expected a text, got list"):
        Vocabulary("ab").encode(["a", "b"])
    with pytest.raises(ArgumentError, match="at least one"):
        Vocabulary("")
    with pytest.raises(ArgumentError, match="single characters"):
        Vocabulary(["a", "bc"])
    with pytest.raises(ArgumentError, match="single characters, got 1"):
        Vocabulary(["a", 1])
    for wrong in (-1, 2):
        with pytest.raises(ArgumentError, match=f"got {wrong}"):
            Vocabulary("a").decode([wrong])
