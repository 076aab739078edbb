"""Writing text with a language model, one character or word after the other."""

from __future__ import annotations

from collections.abc import Iterator

import numpy as np

from rnnkit.autograd import no_grad
from rnnkit.checks import check_integer, check_kind
from rnnkit.data import Vocabulary, WordVocabulary
from rnnkit.data.words import WordJoiner
from rnnkit.decoding.sampling import check_temperature, choose
from rnnkit.errors import ArgumentError
from rnnkit.module import Module
from rnnkit.train.models.language_model import LanguageModel


def generate(
    model: LanguageModel,
    vocabulary: Vocabulary | WordVocabulary,
    *,
    prompt: str = "",
    length: int = 500,
    temperature: float = 1.0,
    rng: np.random.Generator,
) -> Iterator[str]:
    """Yield ``length`` characters, or words with the spaces before them, that continue ``prompt``.

    ``temperature`` divides the logits: 1 samples what the model believes, less is more cautious,
    0 always takes the most probable one. What the vocabulary does not know of the prompt is read as
    unknown; unknown is never written. Without a prompt the text begins as if at the start of a
    line. The same ``rng`` state gives the same text.

    Raises ArgumentError, before anything is written, when a number is out of range or the prompt
    has no word in it.
    """
    check_kind("model", model, Module)
    if not isinstance(vocabulary, Vocabulary | WordVocabulary):
        raise ArgumentError(f"vocabulary: expected a vocabulary, got {vocabulary!r}")
    check_kind("prompt", prompt, str)
    check_integer("length", length, 0)
    check_temperature(temperature)
    if prompt and not len(vocabulary.encode(prompt)):
        raise ArgumentError(f"prompt: expected a word or more, got {prompt!r}")
    return _pieces(model, vocabulary, prompt, length, temperature, rng)


def _pieces(
    model: LanguageModel,
    vocabulary: Vocabulary | WordVocabulary,
    prompt: str,
    length: int,
    temperature: float,
    rng: np.random.Generator,
) -> Iterator[str]:
    ids = vocabulary.encode(prompt or "\n")
    if not prompt and (not len(ids) or ids[0] == vocabulary.unknown):
        ids = np.array([vocabulary.unknown + 1])
    joiner: WordJoiner | None = None
    if isinstance(vocabulary, WordVocabulary):
        joiner = WordJoiner()
        for word in vocabulary.tokens(ids) if prompt else ():
            joiner.add(word)
    state = None
    model.eval()
    for _ in range(length):
        # Not held over the yield: the caller's code runs there and may want gradients.
        with no_grad():
            logits, state = model(ids[:, None], state)
        scores = logits.data[-1, 0].copy()
        scores[vocabulary.unknown] = -np.inf
        ids = np.array([choose(scores, temperature, rng)])
        piece = vocabulary.decode(ids)
        yield piece if joiner is None else joiner.add(piece)
