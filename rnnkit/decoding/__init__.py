"""Scores into symbols: searching and sampling sequences."""

from rnnkit.decoding.beam import Hypothesis, beam_search, greedy_search
from rnnkit.decoding.sampling import choose

__all__ = ["Hypothesis", "beam_search", "choose", "greedy_search"]
