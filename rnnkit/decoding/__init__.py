"""From scores to symbols, searched for or sampled, and how far these are from the right ones."""

from rnnkit.decoding.beam import Hypothesis, beam_search, greedy_search
from rnnkit.decoding.bleu import Bleu, corpus_bleu, tokenize_13a
from rnnkit.decoding.ctc import Labelling, ctc_beam_search, ctc_greedy
from rnnkit.decoding.edit_distance import edit_distance, label_error_rate
from rnnkit.decoding.sampling import choose

__all__ = [
    "Bleu",
    "Hypothesis",
    "Labelling",
    "beam_search",
    "choose",
    "corpus_bleu",
    "ctc_beam_search",
    "ctc_greedy",
    "edit_distance",
    "greedy_search",
    "label_error_rate",
    "tokenize_13a",
]
