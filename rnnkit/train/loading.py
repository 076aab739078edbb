"""From a saved file to a model, without believing the settings that stand beside it."""

from __future__ import annotations

import os
from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager
from typing import TypeVar

import numpy as np

from rnnkit.errors import RnnkitError
from rnnkit.module import Module, UnexpectedShapeError, parameters_within
from rnnkit.train.errors import RunError
from rnnkit.train.run_folder import RunFolder
from rnnkit.train.tensor_file import TensorFile

M = TypeVar("M", bound=Module)


@contextmanager
def no_more_than(path: str, shapes: Iterable[tuple[int, ...]]) -> Iterator[None]:
    """Inside, a model is built with the sizes that the file ``path`` has, of arrays of ``shapes``.

    Raises RunError as soon as the settings ask for another; nothing was allocated for it.
    """
    try:
        with parameters_within(shapes):
            yield
    except (UnexpectedShapeError, MemoryError):
        raise RunError(f"{path}: its shapes do not fit those in settings.json") from None


@contextmanager
def within_checkpoint(folder: RunFolder) -> Iterator[None]:
    """`no_more_than` the checkpoint in ``folder``, or anything where there is none yet.

    Raises RunError also when the checkpoint is damaged.
    """
    if not os.path.exists(folder.checkpoint):
        yield
        return
    with TensorFile(folder.checkpoint) as file:
        shapes = [entry.shape for entry in file.entries.values()]
    with no_more_than(folder.checkpoint, shapes):
        yield


def load_model(folder: RunFolder, build: Callable[[], M]) -> M:
    """The model that ``build`` makes, with the weights in the folder, in evaluation mode.

    Names, shapes and dtypes in the file are checked before the model is built and before an array
    is read. Raises RunError, in one line that names the file, when it is missing, damaged or that
    of another model.
    """
    entries = folder.model_entries()
    for name, entry in entries.items():
        if entry.dtype.kind == "f" and entry.dtype != np.float32:
            raise RunError(f"{folder.model}: {name}: expected float32, got {entry.dtype}")
    with no_more_than(folder.model, (entry.shape for entry in entries.values())):
        model = build()
    try:
        model.load_state_dict(folder.load_model())
    except RnnkitError as error:
        if isinstance(error, RunError):
            raise
        raise RunError(f"{folder.model}: {' '.join(str(error).split())}") from None
    return model.eval()
