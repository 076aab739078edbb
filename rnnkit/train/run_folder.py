"""A run on disk: model.safetensors, settings.json, log.jsonl and curve.png in one folder."""

from __future__ import annotations

import json
import os
from collections.abc import Callable, Mapping
from typing import Any

import numpy as np

from rnnkit.data.atomic import write_atomically
from rnnkit.errors import MissingPackageError
from rnnkit.train.errors import RunError

_SETTINGS_LIMIT = 64 << 20


def require_safetensors() -> None:
    """Raise MissingPackageError when models cannot be saved or loaded."""
    try:
        import safetensors.numpy  # noqa: F401
    except ImportError:
        raise MissingPackageError(
            "saving and loading models needs the package safetensors; "
            "install it with: pip install 'rnnkit[train]'"
        ) from None


class RunFolder:
    """Names the files of a run and reads and writes them.

    Every write but the log's is atomic: when it fails, the file is as it was before.
    """

    def __init__(self, path: str | os.PathLike[str]) -> None:
        self.path = os.fspath(path)
        self.model = os.path.join(self.path, "model.safetensors")
        self.settings = os.path.join(self.path, "settings.json")
        self.log = os.path.join(self.path, "log.jsonl")
        self.curve = os.path.join(self.path, "curve.png")

    @classmethod
    def create(cls, path: str | os.PathLike[str]) -> RunFolder:
        """A new folder, or an existing empty one. Raises RunError when anything is in it."""
        run = cls(path)
        os.makedirs(run.path, exist_ok=True)
        if os.listdir(run.path):
            raise RunError(f"{run.path}: the folder is not empty; choose another output folder")
        return run

    @classmethod
    def create_numbered(cls, parent: str, name: str) -> RunFolder:
        """A new folder ``parent/name-1``, or with the first higher number not yet taken."""
        os.makedirs(parent, exist_ok=True)
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

    def files(self) -> list[str]:
        """The names of what was saved, sorted."""
        return sorted(name for name in os.listdir(self.path) if not name.startswith("."))

    def save_settings(self, settings: Mapping[str, Any]) -> None:
        """Write ``settings`` as JSON."""
        text = json.dumps(settings, indent=2, ensure_ascii=False) + "\n"
        write_atomically(self.settings, text.encode())

    def save_model(self, arrays: Mapping[str, np.ndarray], notes: Mapping[str, str]) -> None:
        """Write named arrays and, beside them in the same file, ``notes``."""
        require_safetensors()
        from safetensors.numpy import save

        # safetensors writes the memory of an array whatever its strides say.
        contiguous = {name: np.ascontiguousarray(array) for name, array in arrays.items()}
        write_atomically(self.model, save(contiguous, metadata=dict(notes)))

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

    def model_shapes(self) -> dict[str, tuple[int, ...]]:
        """The shape of every saved array, without reading the arrays. RunError when damaged."""
        return self._read_model(lambda file, name: tuple(file.get_slice(name).get_shape()))

    def load_model(self) -> dict[str, np.ndarray]:
        """Every saved array by name. RunError when the file is missing or damaged."""
        return self._read_model(lambda file, name: file.get_tensor(name))

    def _read_model(self, read: Callable[[Any, str], Any]) -> dict[str, Any]:
        require_safetensors()
        from safetensors import SafetensorError, safe_open

        if not os.path.exists(self.model):
            raise RunError(f"{self.path}: no model was saved: model.safetensors is missing")
        try:
            with safe_open(self.model, framework="numpy") as file:
                return {name: read(file, name) for name in file.keys()}  # noqa: SIM118
        except (SafetensorError, OSError, TypeError, AttributeError) as error:
            raise RunError(f"{self.model}: damaged: {error}") from None
