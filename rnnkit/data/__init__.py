"""Text as numbers: corpora, vocabularies and batches with carried state."""

from rnnkit.data.batches import Batches
from rnnkit.data.batching import ContinuousBatches, Window
from rnnkit.data.corpus import Corpus, default_corpus, docstring_corpus, topics_corpus
from rnnkit.data.files import read_text, read_texts
from rnnkit.data.split import split_by_position
from rnnkit.data.vocabulary import Vocabulary

__all__ = [
    "Batches",
    "ContinuousBatches",
    "Corpus",
    "Vocabulary",
    "Window",
    "default_corpus",
    "docstring_corpus",
    "read_text",
    "read_texts",
    "split_by_position",
    "topics_corpus",
]
