"""What can go wrong in a training run beyond a bad argument."""

from __future__ import annotations

from rnnkit.errors import RnnkitError


class TrainingError(RnnkitError, RuntimeError):
    """Training cannot go on: the loss or a gradient is no longer finite."""


class RunError(RnnkitError, ValueError):
    """A run folder is missing, damaged or already taken."""
