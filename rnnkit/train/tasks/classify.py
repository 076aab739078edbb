"""The classify task: one label for a whole sequence."""

from __future__ import annotations

import dataclasses
from collections.abc import Iterator
from typing import Annotated, Any

from rnnkit.data import Labelled
from rnnkit.train.models.classifier import POOLINGS, SequenceClassifier
from rnnkit.train.options import setting
from rnnkit.train.tasks.generated import reber_strings
from rnnkit.train.tasks.labelled import (
    LabelledParts,
    LabelledSettings,
    LabelledTask,
    LoadedLabelled,
    probabilities,
)


@dataclasses.dataclass(frozen=True)
class ClassifySettings(LabelledSettings):
    """Settings of a run that learns one label for each sequence."""

    pooling: str = setting(
        "mean+max", "how the steps become one vector", choices=POOLINGS, group="model"
    )


class LoadedClassifier(LoadedLabelled):
    """The best model of a run that learnt one label for each sequence."""

    model: SequenceClassifier

    def predict(
        self,
        inputs: Any,
        *,
        all: Annotated[bool, "write the probability of every label"] = False,
    ) -> Iterator[dict[str, Any]]:
        """For each sequence, in order, its "label" and "probability", with ``all`` also
        "probabilities", by label.

        ``inputs``: the path of a file as `rnnkit.data.read_labelled` reads without labels, or
        sequences. Raises ArgumentError naming the file or the place of what cannot be read.
        """
        names = self.parts.labels.names
        for scores in self._scores(inputs):
            shares = probabilities(scores).tolist()
            best = max(range(len(names)), key=shares.__getitem__)
            record: dict[str, Any] = {"label": names[best], "probability": shares[best]}
            if all:
                record["probabilities"] = dict(zip(names, shares, strict=True))
            yield record


class ClassifyTask(LabelledTask):
    """A classifier of sequences, and the labelled ones it is to learn from.

    Without files these are 3000 strings of the Reber grammar, every other one with a wrong letter
    (`rnnkit.train.tasks.generated.reber_strings`).
    """

    name = "classify"
    help = "a classifier: one label for a whole sequence"
    settings_type = ClassifySettings
    loaded_type = LoadedClassifier
    per_step = False
    measure = LabelledTask.measure._replace(items="sequences")

    @classmethod
    def generated(cls) -> tuple[Labelled, str]:
        return reber_strings(), "reber-strings"

    @classmethod
    def build(cls, settings: ClassifySettings, parts: LabelledParts) -> SequenceClassifier:
        return SequenceClassifier(
            parts.inputs.size,
            len(parts.labels),
            pooling=settings.pooling,
            **settings.encoder(parts.inputs),
        )
