"""The errors that rnnkit raises, beside Python's TypeError for an object of another kind.

Each also derives from the built-in exception that plain Python or NumPy would have raised, so
``except ValueError`` keeps working for people who do not import these names.
"""

from __future__ import annotations

import sys
import warnings


class RnnkitError(Exception):
    """Base of all rnnkit errors."""


class ShapeError(RnnkitError, ValueError):
    """An array has the wrong rank or size, or shapes do not broadcast."""


class DTypeError(RnnkitError, TypeError):
    """An array has a dtype that is not supported here, or dtypes were mixed."""


class ArgumentError(RnnkitError, ValueError):
    """An argument is outside its allowed values."""


class GraphError(RnnkitError, RuntimeError):
    """The autograd graph cannot do what was asked (freed, absent, or not connected)."""


class MissingRuleError(GraphError, NotImplementedError):
    """A gradient was asked of an op that has no derivative rule."""


class GradcheckError(RnnkitError, AssertionError):
    """A derivative rule disagrees with finite differences."""


class BackendError(RnnkitError, RuntimeError):
    """The requested execution path cannot run this call."""


class TraceError(RnnkitError, RuntimeError):
    """A cell's step does something that no program can do; the message names the line."""


class MissingPackageError(RnnkitError, ImportError):
    """An optional package that this step needs is not installed."""


def warn(message: str, category: type[Warning] = UserWarning) -> None:
    """A warning that shows the line of the caller's program that led here.

    Frames are counted until one is not of this package: some of its functions may be compiled, and
    those have none.
    """
    level, frame = 2, sys._getframe(1)
    while frame.f_back is not None and frame.f_globals.get("__name__", "").startswith("rnnkit."):
        level, frame = level + 1, frame.f_back
    warnings.warn(message, category, stacklevel=level)
