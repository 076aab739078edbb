"""Training: the trainer, its observers and checkpoints, run folders, and the tasks."""

from typing import TYPE_CHECKING, Any

from rnnkit.errors import MissingPackageError
from rnnkit.train.budget import Budget
from rnnkit.train.checkpoint import Checkpoints
from rnnkit.train.curve import LearningCurve
from rnnkit.train.errors import RunError, TrainingError
from rnnkit.train.generate import generate
from rnnkit.train.keep_best import KeepBest
from rnnkit.train.language_model import LanguageModel
from rnnkit.train.log import CsvLog, JsonLinesLog
from rnnkit.train.objective import Loss, Measure
from rnnkit.train.observers import Observer, Outcome, Start, Step, Validation
from rnnkit.train.progress import progress_on
from rnnkit.train.run_folder import RunFolder
from rnnkit.train.schedules import make_schedule
from rnnkit.train.settings import Settings
from rnnkit.train.tasks import resume_run
from rnnkit.train.tasks.base import Task
from rnnkit.train.tasks.text import LoadedText, TextSettings, TextTask
from rnnkit.train.trainer import Trainer

if TYPE_CHECKING:
    from rnnkit.train.gradient_flow import GradientFlow

__all__ = [
    "Budget",
    "Checkpoints",
    "CsvLog",
    "GradientFlow",
    "JsonLinesLog",
    "KeepBest",
    "LanguageModel",
    "LearningCurve",
    "LoadedText",
    "Loss",
    "Measure",
    "MissingPackageError",
    "Observer",
    "Outcome",
    "RunError",
    "RunFolder",
    "Settings",
    "Start",
    "Step",
    "Task",
    "TextSettings",
    "TextTask",
    "Trainer",
    "TrainingError",
    "Validation",
    "generate",
    "make_schedule",
    "progress_on",
    "resume_run",
]


def __getattr__(name: str) -> Any:
    # The diagnostics are loaded by those who use them, not by every command.
    if name != "GradientFlow":
        raise AttributeError(f"module 'rnnkit.train' has no attribute {name!r}")
    from rnnkit.train.gradient_flow import GradientFlow

    return GradientFlow
