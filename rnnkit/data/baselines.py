"""What a forecast has to beat, and how it is measured.

Hyndman and Koehler, "Another look at measures of forecast accuracy", International Journal of
Forecasting 22 (2006), 679-688, for the scaled error.
"""

from __future__ import annotations

from typing import Any

import numpy as np

from rnnkit.autograd.tensor import float64_array, plain_array
from rnnkit.checks import check_fits, check_size
from rnnkit.errors import ArgumentError, ShapeError


def naive(history: Any, horizon: int) -> np.ndarray:
    """The last moment again: (horizon, ...) from ``history`` (L, ...), L at least 1."""
    return seasonal_naive(history, horizon, 1)


def seasonal_naive(history: Any, horizon: int, season: int) -> np.ndarray:
    """The last ``season`` moments again and again: (horizon, ...) from ``history`` (L, ...).

    Raises ArgumentError when a size is not positive, ``history`` is shorter than a season, or
    ``horizon`` more than an array can have.
    """
    check_size("horizon", horizon)
    check_size("season", season)
    known = plain_array("history", history)
    if not known.ndim or len(known) < season:
        raise ArgumentError(f"history: expected {season} moments or more, got {known.shape}")
    _check_horizon(horizon, known)
    return known[len(known) - season + np.arange(horizon) % season]


def drift(history: Any, horizon: int) -> np.ndarray:
    """The line through the first and the last moment, gone on with: (horizon, ...) from ``history``
    (L, ...). What has to be beaten where there is a trend.

    Raises ArgumentError when ``horizon`` is not positive or ``history`` has less than 2 moments.
    """
    check_size("horizon", horizon)
    known = float64_array("history", history)
    if not known.ndim or len(known) < 2:
        raise ArgumentError(f"history: expected 2 moments or more, got {known.shape}")
    _check_horizon(horizon, known)
    slope = (known[-1] - known[0]) / (len(known) - 1)
    ahead = np.arange(1, horizon + 1).reshape(-1, *[1] * (known.ndim - 1))
    line: np.ndarray = known[-1] + slope * ahead
    return line


def _check_horizon(horizon: int, known: np.ndarray) -> None:
    check_fits("horizon", horizon, max(8, known[0].nbytes))  # 8: the moments are numbered


def rmse(forecast: Any, truth: Any) -> float:
    """The root of the mean squared error over all entries. ShapeError when the shapes differ."""
    return float(np.sqrt(np.mean(_errors(forecast, truth) ** 2)))


def mae(forecast: Any, truth: Any) -> float:
    """The mean absolute error over all entries. ShapeError when the shapes differ."""
    return float(np.mean(np.abs(_errors(forecast, truth))))


def mase(forecast: Any, truth: Any, training: Any, season: int = 1) -> float:
    """The mean absolute error in units of what the (seasonal) naive forecast of one step makes
    within the training part: below 1 is better than that.

    Args:
        forecast, truth: (..., C).
        training: (L, C), L above ``season``; each channel is scaled by its own error.

    Raises:
        ShapeError: shapes that do not fit together.
        ArgumentError: a training part that is too short, not finite, or constant in a channel.
    """
    errors = np.abs(_errors(forecast, truth))
    known = plain_array("training", training)
    if known.ndim != 2 or errors.shape[-1:] != known.shape[1:]:
        raise ShapeError(
            f"training: expected (L, C) with forecasts (..., C), got {known.shape} and "
            f"{errors.shape}"
        )
    return float(np.mean(errors / naive_error(known, season)))


def naive_error(training: Any, season: int = 1) -> np.ndarray:
    """What ``mase`` measures in: the mean absolute error (C,) of the (seasonal) naive forecast of
    one step within the training part (L, C); arguments and errors as there."""
    check_size("season", season)
    known = float64_array("training", training)
    if known.ndim != 2:
        raise ShapeError(f"training: expected (L, C), got {known.shape}")
    if len(known) <= season:
        raise ArgumentError(f"training: expected more than {season} moments, got {len(known)}")
    if not np.isfinite(known).all():
        raise ArgumentError("training: expected finite numbers")
    scale: np.ndarray = np.abs(known[season:] - known[:-season]).mean(0)
    if not (scale > 0).all():
        raise ArgumentError(
            f"training: channel {int(scale.argmin())} never changes from season to season: "
            "there is no error to measure in"
        )
    return scale


def _errors(forecast: Any, truth: Any) -> np.ndarray:
    forecast, truth = float64_array("forecast", forecast), float64_array("truth", truth)
    if forecast.shape != truth.shape or not forecast.size:
        raise ShapeError(
            f"forecast: expected the shape of truth, {truth.shape}, not empty, got {forecast.shape}"
        )
    return forecast - truth
