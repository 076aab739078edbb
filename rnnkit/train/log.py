"""The log of a run as JSON Lines or as CSV, readable while the run goes on."""

from __future__ import annotations

import csv
import io
import json
import math
import os
from collections.abc import Mapping, Sequence
from typing import IO, Any

from rnnkit.data.atomic import write_atomically
from rnnkit.train.objective import Mean
from rnnkit.train.observers import Observer, Outcome, Start, Step, Validation

_STEP_RECORDS = 200


class Log(Observer):
    """Writes validations, the outcome, and about 200 training records spread over the budget.

    A training record holds the means of the steps since the one before. When a run is resumed,
    what was written after its checkpoint is cut off first, so that the log becomes that of a run
    which was never cut short (apart from times).

    A subclass says how a record looks.
    """

    def __init__(self, path: str | os.PathLike[str]) -> None:
        """The file must not be there yet, unless the run is resumed."""
        self.path = os.fspath(path)
        self._file: IO[bytes] | None = None
        self._lines = 0
        self._mean = Mean()
        self._due = 0.0

    def on_start(self, start: Start) -> None:
        """Raises OSError, with the file's name, when it cannot be written."""
        if not start.resumed:
            self._file = open(self.path, "xb")  # noqa: SIM115 - closed in close()
            return
        self._replace(self._kept())

    def on_step(self, step: Step) -> None:
        self._mean.add_means(step.items, {"loss": step.loss, **step.metrics})
        if step.used >= self._due:
            self._due = step.used + 1.0 / _STEP_RECORDS
            means = self._mean.means()
            self._mean.clear()
            values = step._replace(loss=means.pop("loss"), metrics=means)._asdict()
            del values["items"]
            self._write("train", values)

    def on_validation(self, validation: Validation) -> None:
        values = validation._asdict()
        for name in ("value", "training_value"):
            del values[name]
        self._write("validation", values)

    def on_finish(self, outcome: Outcome) -> None:
        self._write("finish", outcome._asdict())

    def close(self) -> None:
        if self._file is not None:
            try:
                self._file.close()
            except OSError as error:
                raise OSError(error.errno, error.strerror, self.path) from None

    def state_dict(self) -> dict[str, Any]:
        if self._file is not None:
            try:
                # What the checkpoint counts on must be on the disk before it is.
                os.fsync(self._file.fileno())
            except OSError as error:
                raise OSError(error.errno, error.strerror, self.path) from None
        return {"lines": self._lines, "due": self._due, "mean": self._mean.state_dict()}

    def load_state_dict(self, state: Mapping[str, Any]) -> None:
        self._lines = int(state["lines"])
        self._due = float(state["due"])
        self._mean.load_state_dict(state["mean"])

    def encode(self, event: str, values: dict[str, Any]) -> bytes:
        """The line of a record; ``values`` are numbers, booleans, None and, under "metrics" and
        "training_metrics", more of them by name."""
        raise NotImplementedError

    def _write(self, event: str, values: dict[str, Any]) -> None:
        self._append(self.encode(event, {name: _tidy(value) for name, value in values.items()}))

    def _append(self, line: bytes) -> None:
        assert self._file is not None
        try:
            self._file.write(line)
            self._file.flush()
        except OSError as error:
            raise OSError(error.errno, error.strerror, self.path) from None
        self._lines += 1

    def _kept(self) -> list[bytes]:
        """The lines that were there at the checkpoint, or those of them that still are."""
        try:
            with open(self.path, "rb") as file:
                lines = file.readlines()[: self._lines]
        except FileNotFoundError:
            return []
        return [line for line in lines if line.endswith(b"\n")]

    def _replace(self, lines: list[bytes]) -> None:
        self.close()
        write_atomically(self.path, lines)
        self._file = open(self.path, "ab")  # noqa: SIM115 - closed in close()
        self._lines = len(lines)


def to_json(value: Any, ensure_ascii: bool = True) -> str:
    """``value`` on one line. JSON has no word for numbers that are not finite: they become null."""
    try:
        return json.dumps(value, ensure_ascii=ensure_ascii, allow_nan=False)
    except ValueError:
        return json.dumps(_finite(value), ensure_ascii=ensure_ascii)


def _finite(value: Any) -> Any:
    if isinstance(value, dict):
        return {name: _finite(each) for name, each in value.items()}
    if isinstance(value, list | tuple):
        return [_finite(each) for each in value]
    return None if isinstance(value, float) and not math.isfinite(value) else value


class JsonLinesLog(Log):
    """One JSON object a line: its "event" is "train", "validation" or "finish"."""

    def encode(self, event: str, values: dict[str, Any]) -> bytes:
        for name in ("metrics", "training_metrics"):
            if not values.get(name, True):
                del values[name]
        return to_json({"event": event, **values}).encode() + b"\n"


class CsvLog(Log):
    """One row a step or validation, for spreadsheets: the event, and a column for each value.

    Metrics have columns of their own, those of training as "training NAME" beside validation's;
    "metric NAME" where another column has the name.
    A column that comes up later is added at the right, and the rows before stay empty there.
    """

    def __init__(self, path: str | os.PathLike[str]) -> None:
        super().__init__(path)
        self._columns: list[str] = []

    def encode(self, event: str, values: dict[str, Any]) -> bytes:
        row = {"event": event, **_flat(values)}
        new = [name for name in row if name not in self._columns]
        if new:
            self._widen(new)
        return _csv_line(["" if (v := row.get(name)) is None else v for name in self._columns])

    def on_finish(self, outcome: Outcome) -> None:
        """Not a row: it has nothing in common with the others."""

    def load_state_dict(self, state: Mapping[str, Any]) -> None:
        super().load_state_dict(state)
        self._columns = next(csv.reader(line.decode() for line in self._kept()), [])

    def _widen(self, new: list[str]) -> None:
        rows = list(csv.reader(line.decode() for line in self._kept()))[1:]
        self._columns += new
        wider = [row + [""] * (len(self._columns) - len(row)) for row in rows]
        self._replace([_csv_line(row) for row in [self._columns, *wider]])


def _flat(values: dict[str, Any]) -> dict[str, Any]:
    flat = {name: value for name, value in values.items() if not isinstance(value, dict)}
    for prefix, group in (("", "metrics"), ("training ", "training_metrics")):
        for name, value in values.get(group, {}).items():
            column = prefix + name
            flat[f"metric {column}" if column in (*flat, "event") else column] = value
    return flat


def _csv_line(values: Sequence[Any]) -> bytes:
    line = io.StringIO()
    csv.writer(line, lineterminator="\n").writerow(values)
    return line.getvalue().encode()


def _tidy(value: Any) -> Any:
    if isinstance(value, Mapping):
        return {name: _tidy(part) for name, part in value.items()}
    if isinstance(value, float):
        return float(f"{value:.6g}") if math.isfinite(value) else None
    return value
