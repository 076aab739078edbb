"""Forecasts held against what came, and against what takes no network."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from functools import partial
from typing import Any, NamedTuple

import numpy as np

from rnnkit.autograd import no_grad
from rnnkit.data import SeriesWindows, drift, mae, naive, rmse, seasonal_naive
from rnnkit.module import Module, evaluating

NETWORK, NAIVE, DRIFT = "network", "naive", "drift"


class Scores(NamedTuple):
    """Errors of a forecaster over all origins and the whole horizon."""

    rmse: float
    mae: float
    mase: float  # the mean absolute error in units of the (seasonal) naive one in training


class Backtest(NamedTuple):
    """How the network and the naive forecasters did, target by target."""

    scores: Mapping[str, Mapping[str, Scores]]  # by target, by forecaster
    origins: int
    horizon: int

    def figures(self) -> dict[str, float]:
        """All scores in one, such as "network mase"; with the target's name if there are several.
        """
        found = {}
        for target, rivals in self.scores.items():
            prefix = f"{target}: " if len(self.scores) > 1 else ""
            for name, scores in rivals.items():
                for measure, value in scores._asdict().items():
                    found[f"{prefix}{name} {measure}"] = value
        return found

    def lines(self) -> Iterator[str]:
        """A table for each target, and in words whether the network is worth it."""
        for target, rivals in self.scores.items():
            yield (
                f"{target}, {self.horizon} ahead from {self.origins} origins"
                f"{'RMSE':>14}{'MAE':>12}{'MASE':>9}"
            )
            width = len(f"{target}, {self.horizon} ahead from {self.origins} origins")
            for name, scores in rivals.items():
                yield (
                    f"{'  ' + name:{width}}{scores.rmse:14.5g}{scores.mae:12.5g}{scores.mase:9.3f}"
                )
            yield _verdict(rivals)

    def defeats(self) -> Iterator[str]:
        """For each target that a naive forecaster does better, a line that says so."""
        for target, rivals in self.scores.items():
            if rivals[NETWORK].mae >= _best_rival(rivals)[1]:
                yield f"{target}: {_verdict(rivals)}"


def backtest(
    stretches: Sequence[tuple[SeriesWindows, Callable[[np.ndarray], np.ndarray]]],
    *,
    names: Sequence[str],
    errors: np.ndarray,
    season: int,
    units: Callable[[np.ndarray], np.ndarray] = np.asarray,
) -> Backtest:
    """Forecast from every origin of every stretch.

    Args:
        stretches: windows, and what forecasts them: inputs (T, N, C) -> outputs (horizon, N, K).
        names: of the K targets.
        errors: (K,), what the mean absolute error is scaled by (``data.naive_error``).
        season: of the seasonal naive forecaster, left out where it is 1.
        units: from what the windows hold to the user's units.
    """
    simple: dict[str, Callable[[np.ndarray, int], np.ndarray]] = {NAIVE: naive, DRIFT: drift}
    if season > 1:
        simple[f"seasonal naive ({season})"] = partial(seasonal_naive, season=season)
    rivals: dict[str, list[np.ndarray]] = {name: [] for name in (NETWORK, *simple)}
    truths = []
    for windows, forecast in stretches:
        for batch in windows.epoch():
            rivals[NETWORK].append(windows.forecasts(forecast(batch.inputs), batch.rows))
            truths.append(windows.truth(batch.rows))
        known = windows.series[:, windows.channels]
        for name, forecaster in simple.items():
            rivals[name] += [
                forecaster(known[:t], windows.horizon)[:, None] for t in windows.origins
            ]
    truth = units(np.concatenate(truths, 1))
    joined = {name: units(np.concatenate(found, 1)) for name, found in rivals.items()}
    scores = {
        target: {
            name: Scores(
                rmse(found[..., k], truth[..., k]),
                mae(found[..., k], truth[..., k]),
                mae(found[..., k], truth[..., k]) / float(errors[k]),
            )
            for name, found in joined.items()
        }
        for k, target in enumerate(names)
    }
    return Backtest(scores, truth.shape[1], truth.shape[0])


def forecast_with(model: Module) -> Callable[[np.ndarray], np.ndarray]:
    """A function from windows to forecasts by ``model`` in evaluation mode."""

    def forecast(inputs: np.ndarray) -> np.ndarray:
        with no_grad(), evaluating(model):
            outputs: Any = model(inputs)
        return np.asarray(outputs.data)

    return forecast


def _best_rival(rivals: Mapping[str, Scores]) -> tuple[str, float]:
    """The naive forecaster with the least mean absolute error, and that error."""
    others = {name: scores.mae for name, scores in rivals.items() if name != NETWORK}
    best = min(others, key=lambda name: others[name])
    return best, others[best]


def _verdict(rivals: Mapping[str, Scores]) -> str:
    own = rivals[NETWORK].mae
    best, error = _best_rival(rivals)
    if own < error:
        *most, last = (name for name in rivals if name != NETWORK)
        others = f"{', '.join(most)} and {last}"
        return (
            f"the network beats {others}: its mean absolute error is {1 - own / error:.1%} below "
            f"that of {best}"
        )
    if own == error:
        return f"the network is exactly as good as {best}: there is no need of it"
    more = f"{own / error - 1:.1%}" if error else "infinitely"
    return (
        f"the network LOSES to {best}: its mean absolute error is {more} larger; "
        f"{best} is the better forecast of this series"
    )
