"""The text task: a language model of characters or words, from a text to a saved run, and back."""

from __future__ import annotations

import dataclasses
import hashlib
import math
import os
import shutil
import textwrap
from collections.abc import Iterator, Mapping, Sequence
from typing import Annotated, Any, ClassVar, Self

import numpy as np

from rnnkit.data import (
    Batches,
    ContinuousBatches,
    Vocabulary,
    WordVocabulary,
    default_corpus,
    read_texts,
    vocabulary_from_record,
)
from rnnkit.errors import ArgumentError, warn
from rnnkit.rng import manual_seed
from rnnkit.train.evaluation import evaluate
from rnnkit.train.models.language_model import CELLS, LanguageModel
from rnnkit.train.objective import Measure
from rnnkit.train.options import Described, setting
from rnnkit.train.run_folder import RunFolder
from rnnkit.train.settings import Settings, probability
from rnnkit.train.tasks.base import Loaded, Task
from rnnkit.train.writing import generate

_UNITS = ("characters", "words")
_VALIDATION_SHARE = 0.1
# Twenty passes over more than this would take a noticeable part of a short run.
_VALIDATION_CHARACTERS = 100_000
_SAMPLE_TEMPERATURE = 0.7


@dataclasses.dataclass(frozen=True)
class TextSettings(Settings):
    """Settings of a language model run."""

    lr: float = 0.008
    batch: int = setting(16, "parallel streams of text", group="training")
    unit: str = setting("characters", "what the text is made of", choices=_UNITS, group="model")
    vocabulary: int = setting(
        20_000,
        "with --unit words: how many of the most frequent are known",
        group="model",
        needs="unit=words",
    )
    cell: str = setting("lstm", "kind of cell", choices=tuple(sorted(CELLS)), group="model")
    layers: int = setting(1, "recurrent layers", group="model")
    hidden: int = setting(256, "units of each layer", group="model")
    embedding: int = setting(64, "size of a character's or word's embedding", group="model")
    tied: bool = setting(False, "let the last layer share the embedding's weights", group="model")
    dropout: float = setting(0.25, "dropout probability", metavar="P", group="model")
    length: int = setting(64, "steps of truncated backpropagation", group="training")

    largest: ClassVar[Mapping[str, int]] = {
        **Settings.largest,
        "vocabulary": 1 << 24,
        "layers": 64,
        "hidden": 1 << 16,
        "embedding": 1 << 16,
        "length": 1 << 20,
    }

    def __post_init__(self) -> None:
        probability("dropout", self.dropout)
        super().__post_init__()


class LoadedText(Loaded):
    """The best model of a run on a text, and its vocabulary."""

    model: LanguageModel
    settings: TextSettings

    @property
    def vocabulary(self) -> Vocabulary | WordVocabulary:
        """What it reads and writes."""
        vocabulary: Vocabulary | WordVocabulary = self.parts
        return vocabulary

    def sample(
        self,
        *,
        prompt: Annotated[str, Described("the text to continue", metavar="TEXT")] = "",
        temperature: Annotated[
            float, "0 for the most probable text, 1 for the model's own distribution"
        ] = _SAMPLE_TEMPERATURE,
        length: Annotated[int, Described("characters or words to write", least=0)] = 600,
        seed: Annotated[
            int | None,
            Described(
                "for the same text every time (default: a new one)", least=0, needs="temperature"
            ),
        ] = None,
    ) -> Iterator[str]:
        """The prompt and, in pieces, its continuation.

        Warns of what the model has never seen. Raises ArgumentError, before the first piece, when a
        number is out of range.
        """
        pieces = generate(
            self.model,
            self.vocabulary,
            prompt=prompt,
            length=length,
            temperature=temperature,
            rng=np.random.default_rng(seed),
        )
        strange = self._unknown(prompt)
        if strange:
            warn(f"the model has never seen {' '.join(map(repr, strange))}; read as unknown")
        return _begun_with(prompt, pieces)

    def batches(self, files: Sequence[str | os.PathLike[str]]) -> Batches:
        text, settings = read_texts(files), self.settings
        ids = self.vocabulary.encode(text)
        if len(ids) < 2:
            raise ArgumentError(f"{os.fspath(files[0])}: too short: {len(text)} characters")
        return _batches(ids, settings)

    def figures(self, batches: Batches) -> dict[str, float]:
        found = evaluate(self.model, batches)
        if self.settings.unit == "words":
            return {**found, "perplexity": math.exp(min(found["loss"], 700.0))}
        return {**found, "bits per character": found["loss"] / math.log(2.0)}

    def _unknown(self, prompt: str) -> list[str]:
        if isinstance(self.vocabulary, Vocabulary):
            return sorted({c for c in prompt if c not in self.vocabulary})
        known = self.vocabulary.encode(prompt)
        whole = WordVocabulary.of([prompt], lines=True) if len(known) else None
        return sorted(word for word in whole.words if word not in self.vocabulary) if whole else []


class TextTask(Task):
    """A language model and the text it is to learn."""

    name = "text"
    help = "a language model: which character, or word, comes next"
    files_help = "UTF-8 text; by default the prose of the Python language reference"
    settings_type = TextSettings
    loaded_type = LoadedText

    settings: TextSettings
    model: LanguageModel
    training: ContinuousBatches
    validation: ContinuousBatches

    def __init__(self, text: str, settings: TextSettings, *, source: str) -> None:
        """``source``: the name of the text, for the record and for messages.

        Raises ArgumentError, naming the text, when it is too short for the settings.
        """
        self.settings = settings
        self.source = source
        share = min(_VALIDATION_SHARE, _VALIDATION_CHARACTERS / max(len(text), 1))
        held_out = round(len(text) * share)
        training_text, validation_text = text[: len(text) - held_out], text[len(text) - held_out :]
        if settings.unit == "words":
            self.measure = Measure(unit="nats/word", digits=3, items="words")
            self.vocabulary: Vocabulary | WordVocabulary = WordVocabulary.of(
                [training_text], max_size=settings.vocabulary + 1, lines=True
            )
        else:
            self.measure = Measure(
                unit="bits/char", scale=1.0 / math.log(2.0), digits=3, items="tokens"
            )
            self.vocabulary = Vocabulary(training_text or " ")
        ids, held_out_ids = map(self.vocabulary.encode, (training_text, validation_text))
        needed = settings.batch * settings.length + 1
        if len(ids) < needed or len(held_out_ids) < 2:
            raise ArgumentError(
                f"{source}: too short: {len(text)} characters, of which "
                f"{len(ids)} {settings.unit} are for training; batch {settings.batch} and length "
                f"{settings.length} need {needed} (give more text or a smaller batch or length)"
            )
        self.characters = len(text)
        self._digest = hashlib.sha256(text.encode("utf-8", "surrogatepass")).hexdigest()
        self.training = _batches(ids, settings)
        self.validation = _batches(held_out_ids, settings)
        manual_seed(settings.seed)
        self.model = self.build(settings, self.vocabulary)

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
            "vocabulary": self.vocabulary.record(),
        }

    @classmethod
    def read_details(cls, details: Mapping[str, Any]) -> Vocabulary | WordVocabulary:
        if "vocabulary" not in details:
            raise ArgumentError("expected an object 'vocabulary'")
        return vocabulary_from_record(details["vocabulary"])

    @classmethod
    def build(cls, settings: TextSettings, parts: Vocabulary | WordVocabulary) -> LanguageModel:
        return LanguageModel(
            len(parts),
            cell=settings.cell,
            layers=settings.layers,
            hidden=settings.hidden,
            embedding=settings.embedding,
            dropout=settings.dropout,
            tied=settings.tied,
        )

    def summary(self) -> str:
        settings = self.settings
        if isinstance(self.vocabulary, WordVocabulary):
            known = f"{len(self.vocabulary.words):,} words known"
        else:
            known = f"{len(self.vocabulary.characters)} different"
        return (
            f"{self.source}: {self.characters:,} characters, {known}; "
            f"{settings.cell.upper()} with {self.layers}, {self.weights:,} weights"
        )

    def run_name(self) -> str:
        return f"{super().run_name().removesuffix(self.name)}{self.settings.cell}"

    def show(
        self,
        folder: RunFolder,
        *,
        sample_length: Annotated[
            int, Described("length of the sample text at the end; 0 for none", least=0)
        ] = 600,
    ) -> Iterator[str]:
        if not sample_length:
            return
        loaded = self.load(folder.path)
        text = "".join(loaded.sample(length=sample_length, seed=self.settings.seed))
        width = min(shutil.get_terminal_size().columns, 100)
        yield f"a sample at temperature {_SAMPLE_TEMPERATURE}:\n"
        for line in text.split("\n"):
            yield textwrap.fill(line, width) if len(line) > width else line
        yield f"\nmore: {folder.command('sample')} --prompt 'The '"


def _begun_with(prompt: str, pieces: Iterator[str]) -> Iterator[str]:
    yield prompt
    yield from pieces


def _batches(ids: np.ndarray, settings: TextSettings) -> ContinuousBatches:
    return ContinuousBatches(ids, min(settings.batch, len(ids) - 1), settings.length)
