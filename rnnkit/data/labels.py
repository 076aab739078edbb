"""Names of classes as integer ids."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any

import numpy as np

from rnnkit.checks import check_list
from rnnkit.data.vocabulary import check_ids, check_names, check_record
from rnnkit.errors import ArgumentError


class LabelSet:
    """A fixed set of class names with the ids 0, 1, ... in the order given.

    There is no id for names outside the set: a label that training never showed is a mistake.
    """

    def __init__(self, names: Iterable[str]) -> None:
        """Raises ArgumentError when there is no name, one is repeated or is no text."""
        self.names = tuple(check_list("names", names, "several labels"))
        if not self.names:
            raise ArgumentError("names: expected at least one label, got none")
        for name in self.names:
            if not isinstance(name, str):
                raise ArgumentError(f"names: expected texts, got {name!r}")
        self._ids = {name: i for i, name in enumerate(self.names)}
        if len(self._ids) != len(self.names):
            raise ArgumentError("names: expected each label once")

    @classmethod
    def of(cls, labels: Iterable[str]) -> LabelSet:
        """The different labels among ``labels``: in the order of numbers when all are whole
        numbers, else of code points."""
        given = cls(dict.fromkeys(check_list("labels", labels, "a list of labels")))
        found = sorted(given.names)
        return cls(sorted(found, key=int) if all(map(_is_whole, found)) else found)

    def __len__(self) -> int:
        """How many labels there are."""
        return len(self.names)

    def __contains__(self, name: object) -> bool:
        return name in self._ids

    def __repr__(self) -> str:
        return f"LabelSet({len(self)} labels: {self._few(5)})"

    def encode(self, labels: Iterable[str]) -> np.ndarray:
        """The ids of ``labels``, int64 (L,). Raises ArgumentError for a label not in the set."""
        ids = []
        for place, label in enumerate(check_list("labels", labels, "a list of labels")):
            if not isinstance(label, str) or label not in self._ids:
                raise ArgumentError(
                    f"labels[{place}]: expected one of {self._few(10)}, got {label!r}"
                )
            ids.append(self._ids[label])
        return np.array(ids, np.int64)

    def decode(self, ids: Iterable[int]) -> list[str]:
        """The labels of ``ids``. Raises ArgumentError when an id is outside the set."""
        return [self.names[i] for i in check_ids(ids, len(self))]

    def record(self) -> dict[str, Any]:
        """What ``from_record`` makes the same set of; JSON can hold it."""
        return {"kind": "labels", "names": list(self.names)}

    @classmethod
    def from_record(cls, record: Any) -> LabelSet:
        """The set of a record. Raises ArgumentError when it is not one of ``record()``."""
        return cls(check_names(check_record(record, "labels"), "names"))

    def _few(self, most: int) -> str:
        return ", ".join(self.names[:most]) + ", ..." * (len(self) > most)


def _is_whole(name: str) -> bool:
    return name.removeprefix("-").isascii() and name.removeprefix("-").isdigit() and len(name) < 19
