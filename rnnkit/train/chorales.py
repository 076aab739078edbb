"""Chorale-like pieces made by rule, for those who have no piano rolls at hand."""

from __future__ import annotations

import numpy as np

from rnnkit.data.readers.piano_rolls import KEYS, LOWEST

_SCALE = (0, 2, 4, 5, 7, 9, 11)
# Degree, counted from 0: what may follow it. I to most, towards V and home again.
_FOLLOWS = {0: (3, 4, 5, 1), 1: (4,), 3: (4, 0, 1), 4: (0, 0, 5), 5: (1, 3, 4)}
_BASS, _UPPER = (40, 55), (57, 77)


def generated_chorales(count: int, seed: int = 0) -> list[np.ndarray]:
    """``count`` pieces, (T, 88) float32 each, T from 32 on, in major keys and four voices.

    Each has four phrases of seven chords that end on V and I. The chords follow one another by the
    commonest rules of harmony; the bass has the root, and the upper three voices take the close
    position of the chord that is nearest to where they were. A chord lasts one frame or two.
    """
    rng = np.random.default_rng(seed)
    return [_piece(rng) for _ in range(count)]


def _piece(rng: np.random.Generator) -> np.ndarray:
    tonic = int(rng.integers(-4, 5))
    bass, upper = 48, np.array([60, 64, 67])
    frames = []
    for _ in range(4):
        degree = 0
        for place in range(7):
            if place == 5:
                degree = 4
            elif place == 6:
                degree = 0
            elif place:
                degree = int(rng.choice(_FOLLOWS[degree]))
            chord = [(_SCALE[(degree + step) % 7] + tonic) % 12 for step in (0, 2, 4)]
            bass = min(_pitches(chord[0], _BASS), key=lambda pitch: (abs(pitch - bass), pitch))
            upper = min(
                _positions(chord), key=lambda p: (int(np.abs(p - upper).sum()), int(p[0]))
            )
            frame = np.zeros(KEYS, np.float32)
            frame[np.array([bass, *upper]) - LOWEST] = 1.0
            frames += [frame] * (2 if place == 6 or rng.random() < 0.3 else 1)
    return np.stack(frames)


def _pitches(tone: int, span: tuple[int, int]) -> list[int]:
    return [pitch for pitch in range(*span) if pitch % 12 == tone]


def _positions(chord: list[int]) -> list[np.ndarray]:
    """All close positions of a chord within reach of the upper voices."""
    found = []
    for lowest in range(3):
        for pitch in _pitches(chord[lowest], _UPPER):
            others = [(chord[(lowest + k) % 3] - pitch) % 12 for k in (1, 2)]
            voices = np.sort(np.array([pitch, *(pitch + other for other in others)]))
            if voices[-1] < _UPPER[1]:
                found.append(voices)
    return found
