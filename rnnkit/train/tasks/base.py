"""What every task is made of."""

from __future__ import annotations

import os
from collections.abc import Iterator, Mapping, Sequence
from contextlib import AbstractContextManager, nullcontext
from typing import Any, ClassVar, Self

from rnnkit import rng
from rnnkit.backend import get_backend
from rnnkit.data import Batches
from rnnkit.errors import ArgumentError, RnnkitError
from rnnkit.module import Module
from rnnkit.optim import EMA, AdamW, Optimizer
from rnnkit.train.budget import Budget
from rnnkit.train.checkpoint import Checkpoints
from rnnkit.train.errors import RunError
from rnnkit.train.evaluation import evaluate
from rnnkit.train.keep_best import KeepBest
from rnnkit.train.loading import load_model
from rnnkit.train.objective import Measure
from rnnkit.train.observers import Observer, Outcome, Start
from rnnkit.train.run_folder import RunFolder
from rnnkit.train.settings import Settings
from rnnkit.train.sources import find_files, record_files, unchanged
from rnnkit.train.trainer import Trainer

_FORMAT = 3


class _SaveSettings(Observer):
    """Saves them when the trainer has the folder to itself: another may have chosen it, too."""

    def __init__(self, folder: RunFolder, record: Mapping[str, Any]) -> None:
        self._folder = folder
        self._record = record

    def on_start(self, start: Start) -> None:
        self._folder.save_settings(self._record)


class Loaded:
    """The best model of a run, in evaluation mode, and what is needed to use it.

    A task's own has what makes sense of: ``predict(inputs, ...)``, an iterator of records that JSON
    can hold, and ``sample(...)``, an iterator of pieces of text. Their keyword-only parameters are
    options of the commands of these names.
    """

    def __init__(
        self,
        task_type: type[Task],
        model: Any,
        settings: Any,
        parts: Any,
        record: Mapping[str, Any],
        folder: RunFolder,
    ) -> None:
        """``parts``: what `Task.read_details` returned; ``record``: what settings.json holds;
        ``folder``: where all this is kept."""
        self.task_type = task_type
        self.model = model
        self.settings = settings
        self.parts = parts
        self.record = record
        self.folder = folder

    def evaluate(
        self, files: Sequence[str | os.PathLike[str]] | None = None
    ) -> dict[str, float]:
        """Figures by name, over the validation part of the run or over other ``files``.

        Raises RunError when the data of the run are missing or have changed, ArgumentError naming
        a file that won't do.
        """
        if files:
            return self.figures(self.batches(files))
        task = self.reopen()
        assert task.validation is not None
        return self.figures(task.validation)

    def reopen(self) -> Task:
        """The task of the run, on the data it began with.

        Raises RunError when these are missing or have changed, or the record is damaged.
        """
        try:
            with rng.drawing_apart():  # the task begins as a run does, from its seed
                return self.task_type.reopen(self.record)
        except ArgumentError as error:
            raise RunError(f"{self.folder.settings}: damaged: {error}") from None

    def batches(self, files: Sequence[str | os.PathLike[str]]) -> Batches:
        """What `figures` are made of, from files other than those of the run."""
        raise NotImplementedError

    def figures(self, batches: Batches) -> dict[str, float]:
        """The figures over one pass."""
        return evaluate(self.model, batches)


class Task:
    """A run about to be made: data, batches and model, all checked before anything is written.

    A task is a subclass with the class attributes below, beside a `Loaded` of its own. Its
    constructor sets ``settings``, ``source``, ``model``, ``training`` and ``validation``; `read`
    calls it with what it has read. `details` gives what settings.json must hold beside the settings
    to load the model again, `read_details` checks and reads that, and `build` makes the model of
    both. The fields of ``settings_type`` (see `rnnkit.train.options.setting`) and the keyword-only
    parameters of `show` and of the methods of ``loaded_type`` are the options of the command line.
    """

    name: ClassVar[str]
    help: ClassVar[str]  # one line: what is learnt
    files_help: ClassVar[str] = "what to train on"  # what FILE is, and what is used without
    settings_type: ClassVar[type[Settings]]
    loaded_type: ClassVar[type[Loaded]]

    measure: Measure = Measure()
    settings: Any
    source: str  # the name of the data, for the record and for messages
    model: Module
    training: Batches
    validation: Batches | None
    note = ""  # what the user should know about the data
    # As in settings.json: the files that were read; none where the data come with Python.
    files: Sequence[Mapping[str, Any]] = ()

    @property
    def idle(self) -> Mapping[str, str]:
        """The settings that have no effect on these data, with the reason."""
        return {}

    @classmethod
    def prepare(cls, files: Sequence[str | os.PathLike[str]], settings: Any) -> Self:
        """The task on the data in ``files``. Raises ArgumentError naming a file that won't do or
        changes meanwhile."""
        with unchanged(files):
            task = cls.read(files, settings)
            task.files = record_files(files)
        return task

    @classmethod
    def reopen(
        cls, record: Mapping[str, Any], guard: AbstractContextManager[None] | None = None
    ) -> Self:
        """The task whose `record` this is, on the same data, made inside ``guard``.

        Raises RunError when these are missing or have changed, ArgumentError for a damaged record.
        """
        settings = cls.read_settings(record)
        files = find_files(record)
        with guard or nullcontext():
            task = cls.prepare(files, settings)
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

    @classmethod
    def read_details(cls, details: Mapping[str, Any]) -> Any:
        """What `build` needs of what `details` gave: vocabularies and the like.

        Raises ArgumentError where a part is missing or damaged.
        """
        return None

    @classmethod
    def build(cls, settings: Any, parts: Any) -> Module:
        """A new model for ``settings`` and what `read_details` returned."""
        raise NotImplementedError

    @property
    def layers(self) -> str:
        """The recurrent layers of the settings, in words."""
        count = self.settings.layers
        return f"{count} layer{'s' if count > 1 else ''} of {self.settings.hidden}"

    @property
    def weights(self) -> int:
        """How many numbers the model learns."""
        return sum(parameter.size for parameter in self.model.parameters())

    def summary(self) -> str:
        """What is trained on what, in one line."""
        return f"{self.source}: {type(self.model).__name__}, {self.weights:,} weights"

    def run_name(self) -> str:
        """What a run's folder is called when the user has not named it, a number left out."""
        first = self.files[0]["path"] if self.files else self.source
        return f"{os.path.splitext(os.path.basename(first))[0]}-{self.name}"

    def show(self, folder: RunFolder) -> Iterator[str]:
        """Lines for the end of a run, made with the model as it was saved: a sample, a table."""
        return iter(())

    @classmethod
    def load(cls, path: str | os.PathLike[str]) -> Any:
        """The best model of the run in the folder ``path``, as the task's `Loaded`.

        Names, shapes and dtypes of the file are checked against the settings before anything is
        allocated. Raises RunError, in one line that names the file, when anything is missing or
        damaged.
        """
        folder = RunFolder(path)
        record = folder.load_settings()
        try:
            settings = cls.read_settings(record)
            parts = cls.read_details(record["details"])
        except (RnnkitError, ArithmeticError, LookupError, TypeError) as error:
            raise RunError(f"{folder.settings}: damaged: {error}") from None
        model = load_model(folder, lambda: cls.build(settings, parts))
        return cls.loaded_type(cls, model, settings, parts, record, folder)

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
        return self.trainer(folder, [_SaveSettings(folder, self.record()), *observers]).fit()

    def resume(self, folder: RunFolder, observers: Sequence[Observer] = ()) -> Outcome:
        """Go on with a run that was cut short. Raises as `train`, and RunError as `Trainer.resume`.
        """
        return self.trainer(folder, observers).resume()

    def trainer(self, folder: RunFolder, observers: Sequence[Observer] = ()) -> Trainer:
        """The trainer of a run in ``folder``."""
        settings: Settings = self.settings
        if settings.epochs is not None:
            budget = Budget(epochs=settings.epochs)
        else:
            assert settings.minutes is not None  # one of both is set
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
            settings=settings.as_dict(),
        )
