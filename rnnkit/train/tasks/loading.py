"""Loading the model of a run, whatever the task: checked before anything is built."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from typing import TypeVar

import numpy as np

from rnnkit.errors import RnnkitError
from rnnkit.module import Module
from rnnkit.train.errors import RunError
from rnnkit.train.run_folder import RunFolder

M = TypeVar("M", bound=Module)


@contextmanager
def reading_settings(folder: RunFolder) -> Iterator[None]:
    """Makes a RunError that names settings.json of what goes wrong while it is made use of."""
    try:
        yield
    except RunError:
        raise
    except (RnnkitError, TypeError, LookupError) as error:
        reason = " ".join(str(error).split())
        raise RunError(f"{folder.settings}: damaged: {reason}") from None


def load_model(
    folder: RunFolder, expected: Mapping[str, tuple[int, ...]], make: Callable[[], M]
) -> M:
    """The best model of a run, in evaluation mode.

    Args:
        expected: shapes of arrays that the settings imply. The sizes in the settings decide what
            ``make`` allocates; these show first that the file agrees with them.

    Raises:
        RunError: in one line that names the file, when it is missing, damaged or of another model.
    """
    shapes = folder.model_shapes()
    if any(shapes.get(name) != shape for name, shape in expected.items()):
        raise RunError(f"{folder.model}: its shapes do not fit those in settings.json")
    model = make()
    arrays = folder.load_model()
    for name, array in arrays.items():
        if array.dtype != np.float32:
            raise RunError(f"{folder.model}: {name}: expected float32, got {array.dtype}")
    try:
        model.load_state_dict(arrays)
    except RnnkitError as error:
        raise RunError(f"{folder.model}: {' '.join(str(error).split())}") from None
    return model.eval()


def recurrent_shapes(
    prefix: str, cell: str, layers: int, inputs: int, hidden: int
) -> dict[str, tuple[int, ...]]:
    """The shapes of the first layer's and of the last layer's weights, of "rnn", "gru", "lstm"."""
    rows = {"rnn": 1, "gru": 3, "lstm": 4}[cell] * hidden
    return {
        f"{prefix}.weight_ih_l0": (rows, inputs),
        f"{prefix}.weight_hh_l{layers - 1}": (rows, hidden),
    }
