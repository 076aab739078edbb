"""The tag task: one label for every step of a sequence."""

from __future__ import annotations

import dataclasses
from collections.abc import Iterator
from typing import Annotated, Any

from rnnkit.data import Labelled
from rnnkit.train.models.tagger import SequenceTagger
from rnnkit.train.tasks.generated import bracket_depths
from rnnkit.train.tasks.labelled import (
    LabelledParts,
    LabelledSettings,
    LabelledTask,
    LoadedLabelled,
    probabilities,
)


@dataclasses.dataclass(frozen=True)
class TagSettings(LabelledSettings):
    """Settings of a run that learns a label for each step."""


class LoadedTagger(LoadedLabelled):
    """The best model of a run that learnt a label for each step."""

    model: SequenceTagger

    def predict(
        self,
        inputs: Any,
        *,
        all: Annotated[bool, "write the probability of each step's label"] = False,
    ) -> Iterator[dict[str, Any]]:
        """For each sequence, in order, the "labels" of its steps, with ``all`` also their
        "probabilities".

        ``inputs`` and errors: those of `LoadedClassifier.predict`.
        """
        for scores in self._scores(inputs):
            shares = probabilities(scores)
            record: dict[str, Any] = {"labels": self.parts.labels.decode(shares.argmax(-1))}
            if all:
                record["probabilities"] = shares.max(-1).tolist()
            yield record


class TagTask(LabelledTask):
    """A tagger of sequences, and the labelled ones it is to learn from.

    Without files these are 1500 strings of brackets, with the depth at each character
    (`rnnkit.train.tasks.generated.bracket_depths`).
    """

    name = "tag"
    help = "a tagger: one label for each step of a sequence"
    settings_type = TagSettings
    loaded_type = LoadedTagger
    per_step = True
    measure = LabelledTask.measure._replace(items="steps")

    @classmethod
    def generated(cls) -> tuple[Labelled, str]:
        return bracket_depths(), "bracket-depths"

    @classmethod
    def build(cls, settings: TagSettings, parts: LabelledParts) -> SequenceTagger:
        return SequenceTagger(
            parts.inputs.size, len(parts.labels), **settings.encoder(parts.inputs)
        )
