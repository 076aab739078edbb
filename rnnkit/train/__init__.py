"""Training: settings, the trainer and its observers, run folders, text generation."""

from rnnkit.errors import MissingPackageError
from rnnkit.train.budget import Budget
from rnnkit.train.errors import RunError, TrainingError
from rnnkit.train.generate import generate
from rnnkit.train.language_model import LanguageModel
from rnnkit.train.observers import Observer, Outcome, Step, Validation
from rnnkit.train.run_folder import RunFolder
from rnnkit.train.schedules import make_schedule
from rnnkit.train.settings import Settings
from rnnkit.train.text import LoadedText, TextRun, load_text_run
from rnnkit.train.trainer import Trainer

__all__ = [
    "Budget",
    "LanguageModel",
    "LoadedText",
    "MissingPackageError",
    "Observer",
    "Outcome",
    "RunError",
    "RunFolder",
    "Settings",
    "Step",
    "TextRun",
    "Trainer",
    "TrainingError",
    "Validation",
    "generate",
    "load_text_run",
    "make_schedule",
]
