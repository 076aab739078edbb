"""Sequences of any kind as a model takes them: ids of symbols, or features made of like size."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from typing import Any

import numpy as np

from rnnkit.autograd.tensor import plain_array
from rnnkit.data import Scaler, Vocabulary, WordVocabulary, vocabulary_from_record
from rnnkit.data.readers.labelled import all_whole
from rnnkit.data.readers.table import parse_numbers
from rnnkit.data.series import cast_finite
from rnnkit.data.vocabulary import check_record
from rnnkit.errors import ArgumentError

UNITS = ("characters", "words")
NUMBERS = ("auto", "symbols", "features")

# What encodes inputs of each kind of `rnnkit.data.Labelled`.
_CODECS: dict[str, tuple[type, ...]] = {
    "text": (Vocabulary, WordVocabulary),
    "tokens": (WordVocabulary,),
    "sequence": (WordVocabulary, Scaler),
}

# With more different whole numbers than this they are quantities, not names of symbols.
_SYMBOLS = 256


class InputCodec:
    """What a training part teaches of its inputs, and how sequences like them are encoded.

    Texts become the ids of their characters or words, lists of tokens those of the tokens, whole
    numbers that are names those of their digits, and all other numbers features that are shifted
    and scaled to mean 0 and variance 1 in the training part.
    """

    def __init__(self, kind: str, codec: Vocabulary | WordVocabulary | Scaler) -> None:
        """``kind``: that of `rnnkit.data.Labelled`."""
        if kind not in _CODECS:
            raise ArgumentError(f"kind: expected one of {', '.join(_CODECS)}, got {kind!r}")
        if not isinstance(codec, _CODECS[kind]):
            raise ArgumentError(f"codec: a {type(codec).__name__} does not go with {kind!r}")
        self.kind = kind
        self.codec = codec

    @classmethod
    def fit(
        cls, kind: str, training: Sequence[Any], *, unit: str, numbers: str, vocabulary: int
    ) -> InputCodec:
        """Learn from the sequences of the training part, and from nothing else.

        Args:
            kind: that of `rnnkit.data.Labelled`.
            unit: of texts, "characters" or "words".
            numbers: whether whole numbers are "symbols" or "features"; "auto" takes them for
                symbols when there are at most 256 different ones.
            vocabulary: how many different words, tokens or numbers are known, the most frequent.
        """
        if kind == "text" and unit == "characters":
            return cls(kind, Vocabulary(set().union(*training)))
        if kind != "sequence":
            return cls(kind, WordVocabulary.of(training, max_size=vocabulary + 1))
        if training[0].ndim == 1:
            whole = np.concatenate(training)
            few = len(np.unique(whole)) <= _SYMBOLS
            if numbers == "symbols" or (numbers == "auto" and few):
                names = map(_names, training)
                return cls(kind, WordVocabulary.of(names, max_size=vocabulary + 1))
        return cls(kind, Scaler.fit(np.concatenate([_columns(each) for each in training])))

    @property
    def symbols(self) -> bool:
        """Whether sequences become ids, not features."""
        return not isinstance(self.codec, Scaler)

    @property
    def size(self) -> int:
        """How many ids there are, or features of a step."""
        return len(self.codec.shift) if isinstance(self.codec, Scaler) else len(self.codec)

    def encode(
        self,
        kind: str,
        sequences: Sequence[Any],
        source: str,
        places: Iterable[int] | None = None,
    ) -> list[np.ndarray]:
        """Each as int64 ids (L,) or float32 features (L, C).

        In messages ``source`` names them, and ``places`` which of its examples each is, from 0
        (default: the first ones).

        Raises ArgumentError for sequences of another kind and for one without a step.
        """
        if kind != self.kind:
            raise ArgumentError(f"{source}: expected inputs of kind {self.kind!r}, got {kind!r}")
        found = []
        places = range(len(sequences)) if places is None else places
        for place, sequence in zip(places, sequences, strict=True):
            where = f"{source}: example {place + 1}"
            encoded = self._encode(sequence, where)
            if not len(encoded):
                raise ArgumentError(f"{where}: there is no step in it")
            found.append(encoded)
        return found

    def record(self) -> dict[str, Any]:
        """What ``from_record`` makes the same of; JSON can hold it."""
        return {"kind": "inputs", "inputs": self.kind, "codec": self.codec.record()}

    @classmethod
    def from_record(cls, record: Any) -> InputCodec:
        """That of a record. Raises ArgumentError when it is not one of ``record()``."""
        fields = check_record(record, "inputs")
        codec = fields.get("codec")
        if isinstance(codec, Mapping) and codec.get("kind") == "scaler":
            return cls(str(fields.get("inputs")), Scaler.from_record(codec))
        return cls(str(fields.get("inputs")), vocabulary_from_record(codec))

    def _encode(self, sequence: Any, where: str) -> np.ndarray:
        codec = self.codec
        if isinstance(sequence, str) and self.kind != "text":
            sequence = _from_line(self.kind, sequence, where)
        if isinstance(codec, Scaler):
            given = plain_array(where, sequence)
            if given.dtype.kind not in "biuf" or given.ndim not in (1, 2):
                raise ArgumentError(
                    f"{where}: expected numbers (T, C), got {given.dtype} {given.shape}"
                )
            columns = _columns(given)
            if columns.shape[1] != self.size:
                raise ArgumentError(
                    f"{where}: expected {self.size} features a step, got {columns.shape[1]}"
                )
            return cast_finite(where, codec.transform(columns), np.float32)
        if self.kind == "text":
            if not isinstance(sequence, str):
                raise ArgumentError(f"{where}: expected a text, got {type(sequence).__name__}")
            return codec.encode(sequence)
        if self.kind == "tokens":
            # Of another kind they would all be taken for words that are not known.
            listed = isinstance(sequence, Sequence | np.ndarray)
            if not listed or not all(isinstance(token, str) for token in sequence):
                raise ArgumentError(f"{where}: expected a list of texts, the tokens")
            return codec.encode(sequence)
        values = plain_array(where, sequence)
        if values.ndim != 1 or values.dtype.kind not in "iu":
            raise ArgumentError(f"{where}: expected whole numbers, as those that were learnt")
        assert isinstance(codec, WordVocabulary)
        return codec.encode(_names(values))


def _names(values: np.ndarray) -> list[str]:
    return [str(value) for value in values.tolist()]


def _from_line(kind: str, line: str, where: str) -> Any:
    """What stands between the spaces of a line, as a CSV file's cell would be read."""
    if kind == "tokens":
        return line.split()
    numbers = np.array(parse_numbers(line, where))
    return numbers.astype(np.int64) if all_whole(numbers) else numbers


def _columns(values: np.ndarray) -> np.ndarray:
    values = values.astype(np.float64)
    return values[:, None] if values.ndim == 1 else values
