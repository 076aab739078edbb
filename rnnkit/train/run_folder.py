"""A run on disk: its settings, model, checkpoint, logs and learning curve in one folder."""

from __future__ import annotations

import json
import os
import shlex
from collections.abc import Mapping
from typing import Any

import numpy as np

from rnnkit.data.atomic import remove_partial_files, write_atomically
from rnnkit.train.checkpoint import NAME as CHECKPOINT
from rnnkit.train.errors import RunError
from rnnkit.train.tensor_file import Entry, TensorFile, encode

_SETTINGS_LIMIT = 64 << 20


class RunFolder:
    """Names the files of a run and reads and writes them.

    Every write but the logs' is atomic: when it fails, the file is as it was before.
    """

    def __init__(
        self, path: str | os.PathLike[str], model: str = "model.safetensors"
    ) -> None:
        """``model``: the name of the file of weights, of which a run may keep several."""
        self.path = os.fspath(path)
        self.model = os.path.join(self.path, model)
        self.settings = os.path.join(self.path, "settings.json")
        self.checkpoint = os.path.join(self.path, CHECKPOINT)
        self.log = os.path.join(self.path, "log.jsonl")
        self.table = os.path.join(self.path, "log.csv")
        self.curve = os.path.join(self.path, "curve.png")

    @classmethod
    def create(cls, path: str | os.PathLike[str]) -> RunFolder:
        """A new folder, or an existing empty one. Raises RunError when anything is in it, or it is
        a file."""
        run = cls(path)
        _make_folder(run.path)
        remove_partial_files(run.path)
        if os.listdir(run.path):
            raise RunError(f"{run.path}: the folder is not empty; choose another output folder")
        return run

    @classmethod
    def create_numbered(cls, parent: str, name: str) -> RunFolder:
        """A new folder ``parent/name-1``, or with the first higher number not yet taken."""
        _make_folder(parent)
        number = 1
        while True:
            path = os.path.join(parent, f"{name}-{number}")
            try:
                os.mkdir(path)
            except FileExistsError:
                number += 1
            else:
                return cls(path)

    def has_model(self) -> bool:
        """Whether a model was saved."""
        return os.path.exists(self.model)

    def command(self, name: str) -> str:
        """What is typed into a shell for the command ``name`` of this run."""
        return f"rnnkit {name} {shlex.quote(self.path)}"

    def files(self) -> list[str]:
        """The names of what was saved, sorted."""
        return sorted(name for name in os.listdir(self.path) if not name.startswith("."))

    def save_settings(self, settings: Mapping[str, Any]) -> None:
        """Write ``settings`` as JSON."""
        text = json.dumps(settings, indent=2, ensure_ascii=False) + "\n"
        # The name of a file need not be UTF-8: Python has surrogates for such bytes.
        write_atomically(self.settings, text.encode("utf-8", "surrogatepass"))

    def save_model(self, arrays: Mapping[str, np.ndarray], notes: Mapping[str, str]) -> None:
        """Write named arrays and, beside them in the same file, ``notes``."""
        write_atomically(self.model, encode(arrays, notes))

    def save_best(self, arrays: Mapping[str, np.ndarray], step: int, value: float) -> None:
        """Write the model of a validation, with its step and what it was judged by."""
        self.save_model(arrays, {"step": str(step), "validation": repr(value)})

    def model_quality(self) -> tuple[int, float]:
        """The step and the value that `save_best` was given. RunError when damaged."""
        with self._open_model() as file:
            try:
                return int(file.notes["step"]), float(file.notes["validation"])
            except (KeyError, ValueError):
                raise RunError(f"{self.model}: damaged: its notes name no validation") from None

    def load_settings(self) -> dict[str, Any]:
        """The settings. Raises RunError when the folder is no run or the file is damaged."""
        if not os.path.isdir(self.path):
            raise RunError(f"{self.path}: no such run folder")
        try:
            with open(self.settings, "rb") as file:
                raw = file.read(_SETTINGS_LIMIT + 1)
        except FileNotFoundError:
            raise RunError(f"{self.path}: not a run folder: settings.json is missing") from None
        if len(raw) > _SETTINGS_LIMIT:
            raise RunError(f"{self.settings}: damaged: larger than any settings file")
        try:
            settings = json.loads(raw)
        except (ValueError, RecursionError) as error:
            raise RunError(f"{self.settings}: damaged: {error}") from None
        if not isinstance(settings, dict):
            raise RunError(f"{self.settings}: damaged: expected a JSON object")
        return settings

    def model_entries(self) -> dict[str, Entry]:
        """What every saved array is, without reading the arrays. RunError when damaged."""
        with self._open_model() as file:
            return dict(file.entries)

    def load_model(self) -> dict[str, np.ndarray]:
        """Every saved array by name. RunError when the file is missing or damaged."""
        with self._open_model() as file:
            return {name: file.read(name) for name in file.entries}

    def _open_model(self) -> TensorFile:
        if not os.path.exists(self.model):
            name = os.path.basename(self.model)
            raise RunError(f"{self.path}: no model was saved: {name} is missing")
        return TensorFile(self.model)


def _make_folder(path: str) -> None:
    try:
        os.makedirs(path, exist_ok=True)
    except FileExistsError:
        raise RunError(f"{path}: expected a folder, this is a file") from None
