"""From scores to symbols, and how far these are from the right ones."""

from rnnkit.decoding.ctc import Hypothesis, ctc_beam_search, ctc_greedy
from rnnkit.decoding.edit_distance import edit_distance, label_error_rate

__all__ = [
    "Hypothesis",
    "ctc_beam_search",
    "ctc_greedy",
    "edit_distance",
    "label_error_rate",
]
