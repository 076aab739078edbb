"""The text task: a character-level language model from a text to a saved run, and back."""

from __future__ import annotations

import os
from collections.abc import Sequence
from typing import Any, NamedTuple

import numpy as np

from rnnkit.data import ContinuousBatches, Vocabulary, split_by_position
from rnnkit.errors import ArgumentError, RnnkitError
from rnnkit.optim import AdamW
from rnnkit.rng import manual_seed
from rnnkit.train.budget import Budget
from rnnkit.train.errors import RunError
from rnnkit.train.language_model import LanguageModel
from rnnkit.train.observers import Observer, Outcome, Validation
from rnnkit.train.run_folder import RunFolder
from rnnkit.train.schedules import make_schedule
from rnnkit.train.settings import Settings
from rnnkit.train.trainer import Trainer

_FORMAT = 1
_VALIDATION_SHARE = 0.1
# Twenty passes over more than this would take a noticeable part of a short run.
_VALIDATION_CHARACTERS = 100_000


class TextRun:
    """A run about to be made: text, vocabulary, batches and model, checked before any writing."""

    def __init__(self, text: str, settings: Settings, *, source: str) -> None:
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
        self.training = _batches(self.vocabulary.encode(training_text), settings)
        self.validation = _batches(self.vocabulary.encode(validation_text), settings)
        manual_seed(settings.seed)
        self.model = _model(self.vocabulary, settings)

    def train(self, folder: RunFolder, observers: Sequence[Observer] = ()) -> Outcome:
        """Train, keeping the settings and the best model in ``folder``.

        Raises TrainingError when the loss stops being finite and OSError when a file cannot be
        written; what was saved before stays whole.
        """
        settings = self.settings
        folder.save_settings(self.record())
        optimizer = AdamW(self.model.parameters(), lr=settings.lr, weight_decay=0.01)
        trainer = Trainer(
            self.model,
            optimizer,
            self.training,
            self.validation,
            _budget(settings, self.training.batches_per_epoch),
            schedule=make_schedule(settings.schedule, optimizer),
            clip=settings.clip,
            validations=settings.validations,
            observers=[KeepBest(self.model, folder), *observers],
        )
        return trainer.fit()

    def record(self) -> dict[str, Any]:
        """What settings.json holds: all that is needed to load the model again."""
        return {
            "format": _FORMAT,
            "task": "text",
            "source": self.source,
            "characters": self.characters,
            "settings": self.settings.as_dict(),
            "vocabulary": self.vocabulary.characters,
        }


class KeepBest(Observer):
    """Saves the model whenever a validation is the best so far."""

    def __init__(self, model: LanguageModel, folder: RunFolder) -> None:
        self._model = model
        self._folder = folder

    def on_validation(self, validation: Validation) -> None:
        if validation.is_best:
            notes = {"step": str(validation.step), "validation_bits": f"{validation.bits:.6f}"}
            self._folder.save_model(self._model.state_dict(), notes)


class LoadedText(NamedTuple):
    """The best model of a run, in evaluation mode, and what is needed to use it."""

    model: LanguageModel
    vocabulary: Vocabulary
    settings: Settings


def load_text_run(path: str | os.PathLike[str]) -> LoadedText:
    """The best model of a run, its vocabulary and its settings.

    Names, shapes and dtypes of the file are checked against the settings before the model is
    built. Raises RunError, in one line that names the file, when anything is missing or damaged.
    """
    folder = RunFolder(path)
    record = folder.load_settings()
    try:
        vocabulary, settings = _read_record(record)
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


def _read_record(record: dict[str, Any]) -> tuple[Vocabulary, Settings]:
    if record.get("format") != _FORMAT or record.get("task") != "text":
        raise ArgumentError(
            f"expected format {_FORMAT} and task 'text', "
            f"got {record.get('format')!r} and {record.get('task')!r}"
        )
    characters, settings = record.get("vocabulary"), record.get("settings")
    if not isinstance(characters, str) or not isinstance(settings, dict):
        raise ArgumentError("expected a text 'vocabulary' and an object 'settings'")
    return Vocabulary(characters), Settings.from_dict(settings)


def _model(vocabulary: Vocabulary, settings: Settings) -> LanguageModel:
    return LanguageModel(
        len(vocabulary),
        cell=settings.cell,
        layers=settings.layers,
        hidden=settings.hidden,
        embedding=settings.embedding,
        dropout=settings.dropout,
    )


def _batches(ids: np.ndarray, settings: Settings) -> ContinuousBatches:
    return ContinuousBatches(ids, min(settings.batch, len(ids) - 1), settings.length)


def _budget(settings: Settings, batches_per_epoch: int) -> Budget:
    if settings.epochs is not None:
        return Budget(steps=max(1, round(settings.epochs * batches_per_epoch)))
    assert settings.minutes is not None
    return Budget(seconds=60.0 * settings.minutes)
