"""What every task is made of."""

from __future__ import annotations

import os
from collections.abc import Mapping, Sequence
from typing import Any, ClassVar, Self

from rnnkit.backend import get_backend
from rnnkit.data import Batches
from rnnkit.errors import ArgumentError
from rnnkit.module import Module
from rnnkit.optim import EMA, AdamW, Optimizer
from rnnkit.train.budget import Budget
from rnnkit.train.checkpoint import Checkpoints
from rnnkit.train.errors import RunError
from rnnkit.train.keep_best import KeepBest
from rnnkit.train.objective import Measure
from rnnkit.train.observers import Observer, Outcome
from rnnkit.train.run_folder import RunFolder
from rnnkit.train.settings import Settings
from rnnkit.train.sources import find_files, record_files
from rnnkit.train.trainer import Trainer

_FORMAT = 2


class Task:
    """A run about to be made: data, batches and model, all checked before anything is written.

    A task is a subclass with ``name``, ``settings_type`` and ``measure``. Its constructor sets
    ``settings``, ``source``, ``model``, ``training`` and ``validation``; `prepare` calls it with
    what it has read; `details` gives what settings.json must hold beside the settings to load the
    model again. It says how in a class method ``load(folder)``.
    """

    name: ClassVar[str]
    settings_type: ClassVar[type[Settings]]
    measure: ClassVar[Measure] = Measure()

    settings: Any
    source: str  # the name of the data, for the record and for messages
    model: Module
    training: Batches
    validation: Batches | None
    # As in settings.json: the files that were read; none where the data come with Python.
    files: Sequence[Mapping[str, Any]] = ()

    @classmethod
    def prepare(cls, files: Sequence[str | os.PathLike[str]], settings: Any) -> Self:
        """The task on the data in ``files``. Raises ArgumentError naming a file that won't do."""
        task = cls.read(files, settings)
        task.files = record_files(files)
        return task

    @classmethod
    def reopen(cls, record: Mapping[str, Any]) -> Self:
        """The task whose `record` this is, on the same data.

        Raises RunError when these are missing or have changed, ArgumentError for a damaged record.
        """
        settings = cls.read_settings(record)
        task = cls.prepare(find_files(record), settings)
        if task.record()["details"] != record.get("details"):
            raise RunError(f"{task.source}: has changed since the run began, so it cannot go on")
        return task

    @classmethod
    def read(cls, files: Sequence[str | os.PathLike[str]], settings: Any) -> Self:
        """The task on the data in ``files``, which a subclass reads here."""
        raise NotImplementedError

    def details(self) -> dict[str, Any]:
        """What is needed beside the settings to load the model again, as JSON can hold it."""
        return {}

    def make_optimizer(self) -> Optimizer:
        """AdamW, unless a task knows better."""
        settings = self.settings
        return AdamW(
            self.model.parameters(), lr=settings.lr, weight_decay=settings.weight_decay
        )

    def record(self) -> dict[str, Any]:
        """What settings.json holds: all that is needed to resume, and to load the model again."""
        return {
            "format": _FORMAT,
            "task": self.name,
            "source": self.source,
            "files": [dict(file) for file in self.files],
            "backend": get_backend(),
            "settings": self.settings.as_dict(),
            "details": self.details(),
        }

    @classmethod
    def read_settings(cls, record: Mapping[str, Any]) -> Any:
        """The settings in a `record`. Raises ArgumentError when it is damaged or of another task.
        """
        if record.get("format") != _FORMAT or record.get("task") != cls.name:
            raise ArgumentError(
                f"expected format {_FORMAT} and task {cls.name!r}, "
                f"got {record.get('format')!r} and {record.get('task')!r}"
            )
        settings = record.get("settings")
        if not isinstance(settings, dict) or not isinstance(record.get("details"), dict):
            raise ArgumentError("expected the objects 'settings' and 'details'")
        return cls.settings_type.from_dict(settings)

    def train(self, folder: RunFolder, observers: Sequence[Observer] = ()) -> Outcome:
        """Train in a new folder; it gets the settings, the best model and checkpoints.

        Raises TrainingError when the loss stops being finite and OSError when a file cannot be
        written; what was saved before stays whole.
        """
        folder.save_settings(self.record())
        return self.trainer(folder, observers).fit()

    def resume(self, folder: RunFolder, observers: Sequence[Observer] = ()) -> Outcome:
        """Go on with a run that was cut short. Raises as `train`, and RunError as `Trainer.resume`.
        """
        return self.trainer(folder, observers).resume()

    def trainer(self, folder: RunFolder, observers: Sequence[Observer] = ()) -> Trainer:
        """The trainer of a run in ``folder``."""
        settings = self.settings
        if settings.epochs is not None:
            budget = Budget(epochs=settings.epochs)
        else:
            budget = Budget(seconds=60.0 * settings.minutes)
        return Trainer(
            self.model,
            self.make_optimizer(),
            self.training,
            self.validation,
            budget=budget,
            schedule=settings.schedule,
            clip=settings.clip,
            accumulate=settings.accumulate,
            ema=None if settings.ema is None else EMA(self.model.parameters(), settings.ema),
            validations=settings.validations,
            patience=settings.patience,
            measure=self.measure,
            observers=[KeepBest(self.model, folder), *observers],
            checkpoints=Checkpoints(folder.path),
        )
