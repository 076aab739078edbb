"""Language models to train end to end: their data, sizes and optimisers, the same for every side.

Nothing is downloaded. The characters are those of the Python reference that every CPython carries;
the words come from a seeded generator: classes follow one another as in a Markov chain, and a class
utters its words by Zipf's law, so there is something to learn at both levels.
"""

from __future__ import annotations

from dataclasses import dataclass
from functools import cache, cached_property
from itertools import islice

import numpy as np

import rnnkit as rk
from rnnkit.data.continuous import ContinuousBatches, Window
from rnnkit.data.corpus import default_corpus
from rnnkit.train import LanguageModel

CLASSES = 100
VALIDATION_SHARE = 0.05


@dataclass(frozen=True)
class Task:
    """A model, its data and how it is trained: N streams, T steps of truncated backpropagation."""

    name: str
    corpus: str
    vocabulary: int
    embedding: int
    hidden: int
    layers: int
    dropout: float
    N: int
    T: int
    optimizer: str
    learning_rate: float
    max_norm: float
    tokens: int

    def make_model(self) -> LanguageModel:
        """The rnnkit model; one seed, so it has the same weights at every call."""
        rk.manual_seed(7)
        return LanguageModel(
            self.vocabulary,
            layers=self.layers,
            hidden=self.hidden,
            embedding=self.embedding,
            dropout=self.dropout,
        )

    @cached_property
    def weights(self) -> dict[str, np.ndarray]:
        return self.make_model().state_dict()

    @cached_property
    def training(self) -> ContinuousBatches:
        return ContinuousBatches(self._split()[0], self.N, self.T)

    def validation(self, windows: int) -> list[Window]:
        """The first windows of what is held back."""
        batches = ContinuousBatches(self._split()[1], self.N, self.T)
        return list(islice(batches.epoch(), windows))

    def _split(self) -> tuple[np.ndarray, np.ndarray]:
        make = {"characters": characters, "words": words}[self.corpus]
        ids = make(self.vocabulary, self.tokens)
        held_back = max(int(VALIDATION_SHARE * len(ids)), 2 * self.N)
        return ids[:-held_back], ids[-held_back:]

    def __str__(self) -> str:
        return (
            f"{self.name}: {self.vocabulary} {self.corpus}, {self.layers} x LSTM {self.hidden}, "
            f"N{self.N} T{self.T}, {self.optimizer}"
        )


CHARACTERS = Task(
    "characters", "characters", 65, 128, 256, 2, 0.2, 32, 64, "Adam", 2e-3, 1.0, 1_000_000
)
# Sizes and optimiser of PyTorch's example word_language_model.
WORDS = Task("words", "words", 10_000, 200, 200, 2, 0.2, 20, 35, "SGD", 20.0, 0.25, 1_000_000)
WORDS_ADAM = Task(
    "words, Adam", "words", 10_000, 200, 200, 2, 0.2, 20, 35, "Adam", 2e-3, 1.0, 1_000_000
)
TINY = Task("tiny", "words", 150, 4, 5, 2, 0.1, 2, 3, "Adam", 1e-2, 1.0, 1000)
TINY_CHARACTERS = Task("tiny, SGD", "characters", 20, 4, 5, 1, 0.0, 2, 3, "SGD", 0.1, 1.0, 500)


@cache
def characters(vocabulary: int, tokens: int) -> np.ndarray:
    """Ids of the text's characters by falling frequency; the last id stands for all rare ones."""
    text = default_corpus().text[:tokens]
    codes = np.frombuffer(text.encode("utf-32-le"), np.uint32)
    _, ids, counts = np.unique(codes, return_inverse=True, return_counts=True)
    rank = np.empty(len(counts), np.int64)
    rank[np.argsort(-counts, kind="stable")] = np.arange(len(counts))
    return np.minimum(rank[ids], vocabulary - 1)


@cache
def words(vocabulary: int, tokens: int) -> np.ndarray:
    """Ids from the generator: 64 chains side by side, laid end to end."""
    random = np.random.default_rng(5)
    classes = min(CLASSES, vocabulary)
    size = vocabulary // classes
    # Each class is followed by five others, some more often than others.
    followers = random.integers(classes, size=(classes, 5))
    which = np.cumsum([0.5, 0.2, 0.15, 0.1, 0.05])
    zipf = np.cumsum(1 / np.arange(1, size + 1))
    names = random.permutation(vocabulary)

    chains = 64
    steps = -(-tokens // chains)
    current = random.integers(classes, size=chains)
    out = np.empty((steps, chains), np.int64)
    for t in range(steps):
        drawn = random.random((2, chains))
        choice = np.minimum(np.searchsorted(which, drawn[0]), 4)
        current = followers[current, choice]
        word = np.searchsorted(zipf, drawn[1] * zipf[-1])
        out[t] = names[current * size + np.minimum(word, size - 1)]
    return out.T.reshape(-1)[:tokens]
