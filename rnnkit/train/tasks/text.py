"""The text task: a character-level language model from a text to a saved run, and back."""

from __future__ import annotations

import dataclasses
import hashlib
import math
import os
from collections.abc import Mapping, Sequence
from typing import Any, ClassVar, NamedTuple, Self

import numpy as np

from rnnkit.data import (
    ContinuousBatches,
    Vocabulary,
    default_corpus,
    read_texts,
    split_by_position,
)
from rnnkit.errors import ArgumentError, RnnkitError
from rnnkit.rng import manual_seed
from rnnkit.train.errors import RunError
from rnnkit.train.language_model import CELLS, LanguageModel
from rnnkit.train.objective import Measure
from rnnkit.train.run_folder import RunFolder
from rnnkit.train.settings import Settings, one_of, probability
from rnnkit.train.tasks.base import Task

_VALIDATION_SHARE = 0.1
# Twenty passes over more than this would take a noticeable part of a short run.
_VALIDATION_CHARACTERS = 100_000


@dataclasses.dataclass(frozen=True)
class TextSettings(Settings):
    """Settings of a language model run."""

    lr: float = 0.008
    cell: str = "lstm"
    layers: int = 1
    hidden: int = 256
    embedding: int = 64
    dropout: float = 0.25
    length: int = 64

    largest: ClassVar[Mapping[str, int]] = {
        **Settings.largest,
        "layers": 64,
        "hidden": 1 << 16,
        "embedding": 1 << 16,
        "length": 1 << 20,
    }

    def __post_init__(self) -> None:
        one_of("cell", self.cell, tuple(CELLS))
        probability("dropout", self.dropout)
        super().__post_init__()


class TextTask(Task):
    """A language model and the text it is to learn."""

    name = "text"
    settings_type = TextSettings
    measure = Measure(unit="bits/char", scale=1.0 / math.log(2.0), digits=3, items="tokens")

    settings: TextSettings
    model: LanguageModel
    training: ContinuousBatches
    validation: ContinuousBatches
    note = ""  # what the user should know about the text

    def __init__(self, text: str, settings: TextSettings, *, source: str) -> None:
        """``source``: the name of the text, for the record and for messages.

        Raises ArgumentError, naming the text, when it is too short for the settings.
        """
        self.settings = settings
        self.source = source
        share = min(_VALIDATION_SHARE, _VALIDATION_CHARACTERS / max(len(text), 1))
        needed = settings.batch * settings.length + 1
        held_out = round(len(text) * share)
        if len(text) - held_out < needed or held_out < 2:
            raise ArgumentError(
                f"{source}: too short: {len(text)} characters, of which {len(text) - held_out} "
                f"are for training; batch {settings.batch} and length {settings.length} need "
                f"{needed} (give more text or a smaller batch or length)"
            )
        training_text, validation_text = split_by_position(text, share)
        self.vocabulary = Vocabulary(training_text)
        self.characters = len(text)
        self._digest = hashlib.sha256(text.encode("utf-8", "surrogatepass")).hexdigest()
        self.training = _batches(self.vocabulary.encode(training_text), settings)
        self.validation = _batches(self.vocabulary.encode(validation_text), settings)
        manual_seed(settings.seed)
        self.model = _model(self.vocabulary, settings)

    @classmethod
    def read(cls, files: Sequence[str | os.PathLike[str]], settings: TextSettings) -> Self:
        """Several files are one text; without any it is Python's own language reference."""
        if files:
            first = os.fspath(files[0])
            name = first if len(files) == 1 else f"{first} and others"
            return cls(read_texts(files), settings, source=name)
        corpus = default_corpus()
        task = cls(corpus.text, settings, source=corpus.name)
        task.note = corpus.note
        return task

    def details(self) -> dict[str, Any]:
        return {
            "characters": self.characters,
            "sha256": self._digest,
            "vocabulary": self.vocabulary.characters,
        }

    @classmethod
    def load(cls, path: str | os.PathLike[str]) -> LoadedText:
        """The best model of a run, its vocabulary and its settings.

        Names, shapes and dtypes of the file are checked against the settings before the model is
        built. Raises RunError, in one line that names the file, when anything is missing or
        damaged.
        """
        folder = RunFolder(path)
        record = folder.load_settings()
        try:
            settings = cls.read_settings(record)
            characters = record["details"].get("vocabulary")
            if not isinstance(characters, str):
                raise ArgumentError("expected a text 'vocabulary'")
            vocabulary = Vocabulary(characters)
        except (ArgumentError, TypeError) as error:
            raise RunError(f"{folder.settings}: damaged: {error}") from None
        # The sizes in the settings decide what is allocated: first see that the file agrees.
        shapes = folder.model_shapes()
        last = settings.layers - 1
        expected = {
            "embedding.weight": (len(vocabulary), settings.embedding),
            "head.weight": (len(vocabulary), settings.hidden),
        }
        recurrent = shapes.get(f"recurrent.weight_hh_l{last}", (0, 0))
        agrees = recurrent[-1:] == (settings.hidden,)
        if not agrees or any(shapes.get(name) != shape for name, shape in expected.items()):
            raise RunError(f"{folder.model}: its shapes do not fit those in settings.json")
        model = _model(vocabulary, settings)
        arrays = folder.load_model()
        for name, array in arrays.items():
            if array.dtype != np.float32:
                raise RunError(f"{folder.model}: {name}: expected float32, got {array.dtype}")
        try:
            model.load_state_dict(arrays)
        except RnnkitError as error:
            raise RunError(f"{folder.model}: {' '.join(str(error).split())}") from None
        return LoadedText(model.eval(), vocabulary, settings)


class LoadedText(NamedTuple):
    """The best model of a run, in evaluation mode, and what is needed to use it."""

    model: LanguageModel
    vocabulary: Vocabulary
    settings: TextSettings


def _model(vocabulary: Vocabulary, settings: TextSettings) -> LanguageModel:
    return LanguageModel(
        len(vocabulary),
        cell=settings.cell,
        layers=settings.layers,
        hidden=settings.hidden,
        embedding=settings.embedding,
        dropout=settings.dropout,
    )


def _batches(ids: np.ndarray, settings: TextSettings) -> ContinuousBatches:
    return ContinuousBatches(ids, min(settings.batch, len(ids) - 1), settings.length)
