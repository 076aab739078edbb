"""Training: the trainer, its observers and checkpoints, run folders, and the tasks."""

from importlib import import_module
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from rnnkit.errors import MissingPackageError
    from rnnkit.train.budget import Budget
    from rnnkit.train.checkpoint import Checkpoints
    from rnnkit.train.curve import LearningCurve
    from rnnkit.train.errors import RunError, TrainingError
    from rnnkit.train.evaluation import evaluate
    from rnnkit.train.gradient_flow import GradientFlow
    from rnnkit.train.keep_best import KeepBest
    from rnnkit.train.log import CsvLog, JsonLinesLog
    from rnnkit.train.models.classifier import SequenceClassifier
    from rnnkit.train.models.language_model import LanguageModel
    from rnnkit.train.models.tagger import SequenceTagger
    from rnnkit.train.objective import Loss, Measure
    from rnnkit.train.observers import Observer, Outcome, Start, Step, Validation
    from rnnkit.train.options import setting
    from rnnkit.train.progress import progress_on
    from rnnkit.train.run_folder import RunFolder
    from rnnkit.train.schedules import make_schedule
    from rnnkit.train.settings import Settings
    from rnnkit.train.tasks import load_run, resume_run
    from rnnkit.train.tasks.base import Loaded, Task
    from rnnkit.train.tasks.classify import ClassifySettings, ClassifyTask, LoadedClassifier
    from rnnkit.train.tasks.compose import ComposeSettings, ComposeTask, LoadedCompose
    from rnnkit.train.tasks.forecast import ForecastSettings, ForecastTask, LoadedForecast
    from rnnkit.train.tasks.tag import LoadedTagger, TagSettings, TagTask
    from rnnkit.train.tasks.text import LoadedText, TextSettings, TextTask
    from rnnkit.train.tasks.translate import LoadedTranslate, TranslateSettings, TranslateTask
    from rnnkit.train.trainer import Trainer
    from rnnkit.train.writing import generate

# Loaded when it is first asked for: a command loads no more than it uses.
_NAMES = {
    "rnnkit.errors": "MissingPackageError",
    "rnnkit.train.budget": "Budget",
    "rnnkit.train.checkpoint": "Checkpoints",
    "rnnkit.train.curve": "LearningCurve",
    "rnnkit.train.errors": "RunError TrainingError",
    "rnnkit.train.evaluation": "evaluate",
    "rnnkit.train.gradient_flow": "GradientFlow",
    "rnnkit.train.keep_best": "KeepBest",
    "rnnkit.train.log": "CsvLog JsonLinesLog",
    "rnnkit.train.models.classifier": "SequenceClassifier",
    "rnnkit.train.models.language_model": "LanguageModel",
    "rnnkit.train.models.tagger": "SequenceTagger",
    "rnnkit.train.objective": "Loss Measure",
    "rnnkit.train.observers": "Observer Outcome Start Step Validation",
    "rnnkit.train.options": "setting",
    "rnnkit.train.progress": "progress_on",
    "rnnkit.train.run_folder": "RunFolder",
    "rnnkit.train.schedules": "make_schedule",
    "rnnkit.train.settings": "Settings",
    "rnnkit.train.tasks": "load_run resume_run",
    "rnnkit.train.tasks.base": "Loaded Task",
    "rnnkit.train.tasks.classify": "ClassifySettings ClassifyTask LoadedClassifier",
    "rnnkit.train.tasks.compose": "ComposeSettings ComposeTask LoadedCompose",
    "rnnkit.train.tasks.forecast": "ForecastSettings ForecastTask LoadedForecast",
    "rnnkit.train.tasks.tag": "LoadedTagger TagSettings TagTask",
    "rnnkit.train.tasks.text": "LoadedText TextSettings TextTask",
    "rnnkit.train.tasks.translate": "LoadedTranslate TranslateSettings TranslateTask",
    "rnnkit.train.trainer": "Trainer",
    "rnnkit.train.writing": "generate",
}
_HOMES = {name: module for module, names in _NAMES.items() for name in names.split()}

__all__ = [
    "Budget",
    "Checkpoints",
    "ClassifySettings",
    "ClassifyTask",
    "ComposeSettings",
    "ComposeTask",
    "CsvLog",
    "ForecastSettings",
    "ForecastTask",
    "GradientFlow",
    "JsonLinesLog",
    "KeepBest",
    "LanguageModel",
    "LearningCurve",
    "Loaded",
    "LoadedClassifier",
    "LoadedCompose",
    "LoadedForecast",
    "LoadedTagger",
    "LoadedText",
    "LoadedTranslate",
    "Loss",
    "Measure",
    "MissingPackageError",
    "Observer",
    "Outcome",
    "RunError",
    "RunFolder",
    "SequenceClassifier",
    "SequenceTagger",
    "Settings",
    "Start",
    "Step",
    "TagSettings",
    "TagTask",
    "Task",
    "TextSettings",
    "TextTask",
    "Trainer",
    "TrainingError",
    "TranslateSettings",
    "TranslateTask",
    "Validation",
    "evaluate",
    "generate",
    "load_run",
    "make_schedule",
    "progress_on",
    "resume_run",
    "setting",
]


def __getattr__(name: str) -> Any:
    if name not in _HOMES:
        raise AttributeError(f"module 'rnnkit.train' has no attribute {name!r}")
    value = globals()[name] = getattr(import_module(_HOMES[name]), name)
    return value


def __dir__() -> list[str]:
    return sorted({*globals(), *__all__})
