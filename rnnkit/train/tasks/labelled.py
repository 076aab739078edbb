"""What classifying and tagging have in common: labelled sequences, from files to a saved run."""

from __future__ import annotations

import dataclasses
import hashlib
import os
from collections import Counter
from collections.abc import Iterable, Iterator, Mapping, Sequence
from itertools import islice
from typing import Any, ClassVar, NamedTuple, Self

import numpy as np

from rnnkit.autograd import no_grad
from rnnkit.data import (
    Batches,
    Labelled,
    LabelSet,
    RaggedBatches,
    Vocabulary,
    group_duplicates,
    k_folds,
    read_labelled,
    split_at_random,
)
from rnnkit.errors import ArgumentError
from rnnkit.rng import manual_seed
from rnnkit.train.evaluation import evaluate
from rnnkit.train.models.classifier import SequenceClassifier
from rnnkit.train.models.language_model import CELLS
from rnnkit.train.models.tagger import SequenceTagger
from rnnkit.train.objective import Measure
from rnnkit.train.options import setting
from rnnkit.train.run_folder import RunFolder
from rnnkit.train.settings import Settings, probability
from rnnkit.train.tasks.base import Loaded, Task
from rnnkit.train.tasks.inputs import NUMBERS, UNITS, InputCodec

_FOLDS = 10  # one of them is held out
_PREDICTED_TOGETHER = 1024  # sequences that are sorted by length before they are cut into batches
_PAIRS_SHOWN = 5
_LABELS_SHOWN = 5


@dataclasses.dataclass(frozen=True)
class LabelledSettings(Settings):
    """Settings of a run on labelled sequences."""

    batch: int = 32
    lr: float = 0.004
    patience: int | None = 8
    unit: str = setting("characters", "the steps of a text", choices=UNITS, group="data")
    numbers: str = setting(
        "auto",
        "what lists of whole numbers are; auto: symbols, if there are at most 256 different ones",
        choices=NUMBERS,
        group="data",
    )
    vocabulary: int = setting(
        20_000, "words, tokens or numbers that are known, the most frequent", group="data"
    )
    class_weights: bool = setting(
        False, "weigh each class by the inverse of how frequent it is", group="data"
    )
    cell: str = setting("lstm", "kind of cell", choices=tuple(sorted(CELLS)), group="model")
    layers: int = setting(1, "recurrent layers", group="model")
    hidden: int = setting(96, "units of each layer and direction", group="model")
    embedding: int = setting(32, "size of a symbol's embedding", group="model")
    bidirectional: bool = setting(True, "read in both directions", group="model")
    dropout: float = setting(0.2, "dropout probability", metavar="P", group="model")

    largest: ClassVar[Mapping[str, int]] = {
        **Settings.largest,
        "vocabulary": 1 << 24,
        "layers": 64,
        "hidden": 1 << 16,
        "embedding": 1 << 16,
    }

    def __post_init__(self) -> None:
        probability("dropout", self.dropout)
        super().__post_init__()

    def encoder(self, inputs: InputCodec) -> dict[str, Any]:
        """The arguments of `RecurrentEncoder` but for the size."""
        return {
            "symbols": inputs.symbols,
            "cell": self.cell,
            "layers": self.layers,
            "hidden": self.hidden,
            "embedding": self.embedding,
            "dropout": self.dropout,
            "bidirectional": self.bidirectional,
        }


class LabelledParts(NamedTuple):
    """What is needed beside the settings to use a model of labelled sequences."""

    inputs: InputCodec
    labels: LabelSet


class LoadedLabelled(Loaded):
    """The best model of a run on labelled sequences."""

    settings: LabelledSettings
    parts: LabelledParts

    def batches(self, files: Sequence[str | os.PathLike[str]]) -> RaggedBatches:
        data, source = read_files(files)
        task = self.task_type
        assert issubclass(task, LabelledTask)
        return task.batches(data, np.arange(len(data.sequences)), self.parts, self.settings, source)

    def figures(self, batches: Batches) -> dict[str, float]:
        """Accuracy, the mean over the classes of the share found of each, and the loss."""
        counts = self.confusion(batches)
        there = counts.sum(1) > 0
        recall = counts.diagonal()[there] / counts.sum(1)[there]
        return {
            "accuracy": float(counts.trace() / counts.sum()),
            "mean class recall": float(recall.mean()),
            "loss": evaluate(self.model, batches)["loss"],
        }

    def confusion(self, batches: Batches) -> np.ndarray:
        """How often each class (rows) was taken for each (columns): (C, C) int64."""
        C = len(self.parts.labels)
        counts = np.zeros((C, C), np.int64)
        with no_grad():
            for batch in batches.epoch():
                found = self.model(batch.inputs, batch.lengths).data.argmax(-1)
                valid = batch.targets >= 0
                np.add.at(counts, (batch.targets[valid], found[valid]), 1)
        return counts

    def _scores(self, inputs: Any) -> Iterator[np.ndarray]:
        """For each input, in their order, its scores (C,), or (L, C) where steps have labels."""
        if isinstance(inputs, str | os.PathLike):
            data = read_labelled(inputs, labels=False)
            sequences: Iterator[Any] = iter(data.sequences)
            kind, source = data.kind, os.fspath(inputs)
            if source.lower().endswith(".txt"):
                kind = self.parts.inputs.kind  # a line is whatever the model was trained on
        else:
            sequences, kind, source = iter(inputs), self.parts.inputs.kind, "inputs"
        done = 0
        while block := list(islice(sequences, _PREDICTED_TOGETHER)):
            places = range(done, done + len(block))
            encoded = self.parts.inputs.encode(kind, block, source, places)
            done += len(block)
            yield from self._scores_of(encoded)

    def _scores_of(self, encoded: list[np.ndarray]) -> list[np.ndarray]:
        found: list[Any] = [None] * len(encoded)
        batches = RaggedBatches(encoded, batch_size=self.settings.batch, shuffle=False)
        with no_grad():
            for batch in batches.epoch():
                scores = self.model(batch.inputs, batch.lengths).data
                for column, row in enumerate(batch.rows):
                    per_step = scores.ndim == 3
                    found[row] = (
                        scores[: batch.lengths[column], column] if per_step else scores[column]
                    )
        return found


class LabelledTask(Task):
    """A model of labelled sequences and the data it is to learn from."""

    measure = Measure("accuracy", unit="% right", scale=100.0, digits=2, higher_is_better=True)
    files_help = "labelled sequences: .csv, .tsv, .jsonl or .npz; by default generated ones"
    per_step: ClassVar[bool]  # whether there is a label for each step

    settings: LabelledSettings
    model: SequenceClassifier | SequenceTagger

    def __init__(self, data: Labelled, settings: LabelledSettings, *, source: str) -> None:
        """``source``: the name of the data, for the record and for messages.

        Raises ArgumentError, naming the data, when the labels are of the other sort, all the same,
        or too few to hold any out.
        """
        self.settings = settings
        self.source = source
        _check_sort(data, self.per_step, source)
        labels = LabelSet.of(_flat(data))
        if len(labels) < 2:
            raise ArgumentError(f"{source}: expected two labels or more, got {labels.names[0]!r}")
        training, held_out = _split(data, source)
        learnt = set(_flat(data, training))
        if unseen := [repr(name) for name in labels.names if name not in learnt]:
            self.note = (
                f"{source}: too rare to be learnt, as all examples are in the validation part: "
                f"{', '.join(unseen[:_LABELS_SHOWN])}{', ...' * (len(unseen) > _LABELS_SHOWN)}"
            )
        try:
            inputs = InputCodec.fit(
                data.kind,
                [data.sequences[row] for row in training],
                unit=settings.unit,
                numbers=settings.numbers,
                vocabulary=settings.vocabulary,
            )
        except ArgumentError as error:
            raise ArgumentError(f"{source}: {error}") from None
        self.parts = LabelledParts(inputs, labels)
        self._sequences = len(data.sequences)
        self._digest = _digest(data)
        self.training = self.batches(data, training, self.parts, settings, source)
        self.validation = self.batches(data, held_out, self.parts, settings, source)
        manual_seed(settings.seed)
        self.model = self.build(settings, self.parts)
        if settings.class_weights:
            counts = Counter(_flat(data, training))
            frequent = np.array([counts[name] for name in labels.names], np.float64)
            # The mean weight over the training part is 1, so that losses can be compared.
            weights = frequent.sum() / (np.count_nonzero(frequent) * np.maximum(frequent, 1.0))
            self.model.class_weights = weights.astype(np.float32)

    @classmethod
    def read(cls, files: Sequence[str | os.PathLike[str]], settings: Any) -> Self:
        """Several files are one data set; without any it is a generated one."""
        if files:
            data, source = read_files(files)
            return cls(data, settings, source=source)
        data, source = cls.generated()
        task = cls(data, settings, source=source)
        task.note = f"no file was given; learning from generated data, {source}"
        return task

    @classmethod
    def build(
        cls, settings: Any, parts: LabelledParts
    ) -> SequenceClassifier | SequenceTagger:
        raise NotImplementedError

    @classmethod
    def generated(cls) -> tuple[Labelled, str]:
        """The data without a file, and their name."""
        raise NotImplementedError

    @classmethod
    def batches(
        cls,
        data: Labelled,
        rows: np.ndarray,
        parts: LabelledParts,
        settings: LabelledSettings,
        source: str,
    ) -> RaggedBatches:
        """Batches of some of the data. Raises ArgumentError for what the parts do not know."""
        _check_sort(data, cls.per_step, source)
        chosen = [data.sequences[row] for row in rows]
        sequences = parts.inputs.encode(data.kind, chosen, source, rows)
        targets: Any = []
        for row, sequence in zip(rows, sequences, strict=True):
            where = f"{source}: example {row + 1}"
            names = data.labels[row] if cls.per_step else [data.labels[row]]
            try:
                targets.append(parts.labels.encode(names))
            except ArgumentError as error:
                raise ArgumentError(f"{where}: {error}") from None
            if cls.per_step and len(names) != len(sequence):
                raise ArgumentError(
                    f"{where}: {len(names)} labels for {len(sequence)} steps; "
                    "labels go with characters, so leave --unit words out"
                )
        if not cls.per_step:
            targets = np.concatenate(targets)
        return RaggedBatches(sequences, targets, batch_size=settings.batch, seed=settings.seed)

    @property
    def idle(self) -> dict[str, str]:
        inputs = self.parts.inputs
        found = {}
        if inputs.kind != "text":
            found["unit"] = "the inputs are no texts"
        if inputs.kind != "sequence":
            found["numbers"] = "the inputs are no numbers"
        if isinstance(inputs.codec, Vocabulary):
            found["vocabulary"] = "without --unit words all characters are known"
        if not inputs.symbols:
            found["vocabulary"] = found["embedding"] = "the inputs are features, not symbols"
        return found

    def details(self) -> dict[str, Any]:
        return {
            "sequences": self._sequences,
            "sha256": self._digest,
            "inputs": self.parts.inputs.record(),
            "labels": self.parts.labels.record(),
        }

    @classmethod
    def read_details(cls, details: Mapping[str, Any]) -> LabelledParts:
        inputs = InputCodec.from_record(details.get("inputs"))
        return LabelledParts(inputs, LabelSet.from_record(details.get("labels")))

    def summary(self) -> str:
        settings, inputs = self.settings, self.parts.inputs
        steps = f"{inputs.size:,} {'different symbols' if inputs.symbols else 'features'}"
        directions = ", both directions" if settings.bidirectional else ""
        return (
            f"{self.source}: {self._sequences:,} sequences of {steps}, "
            f"{len(self.parts.labels)} labels; {settings.cell.upper()} with {self.layers}"
            f"{directions}, {self.weights:,} weights"
        )

    def show(self, folder: RunFolder) -> Iterator[str]:
        """What the model that was kept takes for what, in the validation part."""
        loaded = self.load(folder.path)
        assert self.validation is not None
        counts = loaded.confusion(self.validation)
        what = "steps" if self.per_step else "sequences"
        yield f"{counts.trace():,} of {counts.sum():,} {what} of the validation part are right"
        wrong = counts - np.diag(counts.diagonal())
        for place in np.argsort(-wrong, None, kind="stable")[:_PAIRS_SHOWN]:
            true, taken = np.unravel_index(place, wrong.shape)
            if wrong[true, taken]:
                names = self.parts.labels.names
                yield (
                    f"  {names[true]!r} taken for {names[taken]!r}: {wrong[true, taken]:,} "
                    f"of {counts[true].sum():,}"
                )
        yield f"\nmore: {folder.command('predict')} INPUT"


def read_files(files: Sequence[str | os.PathLike[str]]) -> tuple[Labelled, str]:
    """The examples of several files as one data set, and its name.

    Raises ArgumentError, naming the file, for one that cannot be read or is of another kind.
    """
    first, *others = [read_labelled(name) for name in files]
    source = os.fspath(files[0]) + (" and others" if others else "")
    sequences, labels = list(first.sequences), list(first.labels)
    for name, data in zip(files[1:], others, strict=True):
        if (data.kind, data.per_step) != (first.kind, first.per_step):
            raise ArgumentError(f"{os.fspath(name)}: not of the same kind as {files[0]}")
        sequences += data.sequences
        labels += data.labels
    return Labelled(first.kind, _alike(sequences, source), labels, first.per_step), source


def probabilities(scores: np.ndarray) -> np.ndarray:
    """Softmax over the last axis, float64."""
    weights = np.exp(scores.astype(np.float64) - scores.max(-1, keepdims=True))
    shares: np.ndarray = weights / weights.sum(-1, keepdims=True)
    return shares


def _alike(sequences: list[Any], source: str) -> list[Any]:
    """Whole numbers of one file beside other numbers of another are numbers as those are."""
    arrays = [each for each in sequences if isinstance(each, np.ndarray)]
    if len({each.ndim for each in arrays}) > 1:
        sequences = [each.reshape(len(each), -1).astype(np.float64) for each in arrays]
    if len({each.shape[1:] for each in sequences if isinstance(each, np.ndarray)}) > 1:
        raise ArgumentError(f"{source}: steps of different numbers of features")
    return sequences


def _check_sort(data: Labelled, per_step: bool, source: str) -> None:
    if data.per_step != per_step:
        wanted, got = ("step", "sequence") if per_step else ("sequence", "step")
        raise ArgumentError(
            f"{source}: expected one label for each {wanted}, got one for each {got}; "
            f"try rnnkit train {'classify' if per_step else 'tag'}"
        )


def _split(data: Labelled, source: str) -> tuple[np.ndarray, np.ndarray]:
    """Rows to train on and rows held out: copies on one side, classes on both in like shares."""
    groups = group_duplicates(data.sequences)
    count, different = len(groups), int(groups.max()) + 1
    if different < 2:
        raise ArgumentError(f"{source}: too few different sequences to hold any out")
    if data.per_step:
        parts = split_at_random(count, 1 / min(_FOLDS, different), groups=groups)
    else:
        parts = k_folds(min(_FOLDS, different), count, labels=data.labels, groups=groups)[0]
    return parts.training, parts.held_out


def _flat(data: Labelled, rows: Iterable[int] | None = None) -> Iterator[str]:
    """The labels of all sequences, or of some, one after the other."""
    for row in range(len(data.labels)) if rows is None else rows:
        yield from data.labels[row] if data.per_step else [data.labels[row]]


def _digest(data: Labelled) -> str:
    digest = hashlib.sha256()
    for sequence, label in zip(data.sequences, data.labels, strict=True):
        if isinstance(sequence, np.ndarray):
            digest.update(str(sequence.shape).encode() + sequence.tobytes())
        else:
            digest.update(repr(sequence).encode("utf-8", "surrogatepass"))
        digest.update(repr(label).encode("utf-8", "surrogatepass"))
    return digest.hexdigest()
