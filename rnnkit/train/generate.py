"""Writing text with a language model, one character after the other."""

from __future__ import annotations

from collections.abc import Iterator

import numpy as np

from rnnkit.autograd import no_grad
from rnnkit.data import Vocabulary
from rnnkit.decoding.sampling import check_temperature, choose
from rnnkit.errors import ArgumentError
from rnnkit.train.language_model import LanguageModel


def generate(
    model: LanguageModel,
    vocabulary: Vocabulary,
    *,
    prompt: str = "",
    length: int = 500,
    temperature: float = 1.0,
    rng: np.random.Generator,
) -> Iterator[str]:
    """Yield ``length`` characters that continue ``prompt``.

    ``temperature`` divides the logits: 1 samples what the model believes, less is more cautious,
    0 always takes the most probable character. Characters of the prompt that the vocabulary does
    not know are read as unknown; unknown is never written. Without a prompt the text begins as if
    at the start of a line. The same ``rng`` state gives the same text.

    Raises ArgumentError, before the first character, when a number is out of range.
    """
    if length < 0:
        raise ArgumentError(f"length: expected 0 or more, got {length}")
    check_temperature(temperature)
    return _characters(model, vocabulary, prompt, length, temperature, rng)


def _characters(
    model: LanguageModel,
    vocabulary: Vocabulary,
    prompt: str,
    length: int,
    temperature: float,
    rng: np.random.Generator,
) -> Iterator[str]:
    ids = vocabulary.encode(prompt or ("\n" if "\n" in vocabulary else vocabulary.characters[0]))
    state = None
    model.eval()
    for _ in range(length):
        # Not held over the yield: the caller's code runs there and may want gradients.
        with no_grad():
            logits, state = model(ids[:, None], state)
        scores = logits.data[-1, 0].copy()
        scores[Vocabulary.unknown] = -np.inf
        chosen = choose(scores, temperature, rng)
        yield vocabulary.characters[chosen - 1]
        ids = np.array([chosen])
