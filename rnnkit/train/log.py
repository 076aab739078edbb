"""The log of a run: one JSON object a line, readable while the run goes on."""

from __future__ import annotations

import json
import math
from typing import Any

from rnnkit.train.observers import Observer, Outcome, Step, Validation

_STEP_RECORDS = 200


class JsonLinesLog(Observer):
    """Writes validations, the outcome, and about 200 training records spread over the budget.

    A training record holds the mean loss of the steps since the one before.
    """

    def __init__(self, path: str) -> None:
        """Raises OSError, with the file's name, when ``path`` cannot be written."""
        self.path = path
        self._file = open(path, "x", encoding="utf-8")  # noqa: SIM115 - closed in close()
        self._bits: list[float] = []
        self._due = 0.0

    def on_step(self, step: Step) -> None:
        self._bits.append(step.bits)
        if step.used >= self._due:
            self._due = step.used + 1.0 / _STEP_RECORDS
            mean = sum(self._bits) / len(self._bits)
            self._bits.clear()
            self._write("train", step._replace(bits=mean)._asdict())

    def on_validation(self, validation: Validation) -> None:
        self._write("validation", validation._asdict())

    def on_finish(self, outcome: Outcome) -> None:
        self._write("finish", outcome._asdict())

    def close(self) -> None:
        try:
            self._file.close()
        except OSError as error:
            raise OSError(error.errno, error.strerror, self.path) from None

    def _write(self, event: str, values: dict[str, Any]) -> None:
        record = {"event": event} | {name: _tidy(value) for name, value in values.items()}
        try:
            self._file.write(json.dumps(record) + "\n")
            self._file.flush()
        except OSError as error:
            raise OSError(error.errno, error.strerror, self.path) from None


def _tidy(value: Any) -> Any:
    if isinstance(value, float):
        return float(f"{value:.6g}") if math.isfinite(value) else None
    return value
