"""The forecast task: columns of a CSV file, what comes after their end, and an honest backtest."""

from __future__ import annotations

import dataclasses
import hashlib
import os
import shutil
import tempfile
from collections.abc import Iterator, Mapping, Sequence
from typing import Any, ClassVar, NamedTuple, Self

import numpy as np

from rnnkit import rng
from rnnkit.autograd import no_grad
from rnnkit.data import (
    SeriesTransform,
    SeriesWindows,
    Table,
    naive_error,
    read_text_table,
    split_series,
)
from rnnkit.data.readers.table import numbers_of
from rnnkit.data.series import SCALINGS, cast_finite, check_series
from rnnkit.data.vocabulary import check_names
from rnnkit.errors import ArgumentError, ShapeError, warn
from rnnkit.train.backtest import Backtest, backtest, forecast_with
from rnnkit.train.errors import RunError
from rnnkit.train.loading import load_model
from rnnkit.train.models.forecaster import Forecaster
from rnnkit.train.models.language_model import CELLS
from rnnkit.train.objective import Measure
from rnnkit.train.options import setting
from rnnkit.train.run_folder import RunFolder
from rnnkit.train.settings import Settings, integer, positive, probability
from rnnkit.train.tasks.base import Loaded, Task

_MINUTES = 0.5
_MISSING = ("refuse", "carry")


@dataclasses.dataclass(frozen=True)
class ForecastSettings(Settings):
    """Settings of a forecasting run. With neither ``epochs`` nor ``minutes``, ``minutes`` is 0.5.
    """

    columns: str | None = setting(
        None,
        "columns to read, names or numbers from 0 with commas between (default: all of numbers)",
        metavar="NAMES",
        group="data",
    )
    target: str | None = setting(
        None,
        "columns to forecast, among those that are read (default: all of them)",
        metavar="NAMES",
        group="data",
    )
    window: int = setting(36, "moments that the network reads", group="data")
    horizon: int = setting(12, "moments that it forecasts", group="data")
    season: int | None = setting(
        None, "moments of a season, for the seasonal naive forecast (default: none)", group="data"
    )
    difference: int = setting(
        0,
        "learn the change over so many moments: 1 against a trend, a season's length against a "
        "season, 0 for none",
        group="data",
    )
    scaling: str = setting(
        "standard", "how the training part scales the columns", choices=SCALINGS, group="data"
    )
    log: bool = setting(False, "learn the logarithms of the numbers", group="data")
    decimal: str = setting(
        ".", "what stands before fractions, . or ,", choices=(".", ","), metavar="MARK",
        group="data",
    )
    missing: str = setting(
        "refuse", "empty cells: refuse, or carry the last value", choices=_MISSING, group="data"
    )
    validation: float = setting(
        0.15, "share of the moments that the best model is chosen by", group="data"
    )
    test: float = setting(0.15, "share of the moments, the last, for the backtest", group="data")
    refits: int = setting(
        0,
        "how often the backtest trains anew, on all that is known by then, as it goes along",
        group="data",
    )
    cell: str = setting("gru", "kind of cell", choices=tuple(sorted(CELLS)), group="model")
    layers: int = setting(1, "recurrent layers", group="model")
    hidden: int = setting(64, "units of each layer", group="model")
    dropout: float = setting(0.1, "dropout probability", metavar="P", group="model")
    batch: int = setting(32, "windows side by side", group="training")
    lr: float = 0.003
    minutes: float | None = setting(
        None,
        f"time budget (default {_MINUTES}, unless --epochs is given)",
        exclusive="budget",
        group="training",
    )

    largest: ClassVar[Mapping[str, int]] = {
        **Settings.largest,
        "window": 1 << 20,
        "horizon": 1 << 16,
        "layers": 64,
        "hidden": 1 << 16,
    }

    def __post_init__(self) -> None:
        for name in ("columns", "target"):
            value = getattr(self, name)
            if value is not None and not (isinstance(value, str) and value.strip(" ,")):
                raise ArgumentError(f"{name}: expected names with commas between, got {value!r}")
        if self.season is not None:
            integer("season", self.season, 1, 1 << 20)
        integer("difference", self.difference, 0, 1 << 20)
        integer("refits", self.refits, 0, 1000)
        for name in ("dropout", "validation", "test"):
            probability(name, getattr(self, name))
        positive("validation", self.validation)
        if self.epochs is None and self.minutes is None:
            object.__setattr__(self, "minutes", _MINUTES)
        super().__post_init__()


class Columns(NamedTuple):
    """What a run knows of the columns, beside its settings."""

    names: list[str]
    targets: list[int]  # places of those forecast
    transform: SeriesTransform
    season: int
    errors: np.ndarray  # (K,), of the (seasonal) naive forecast in training


class LoadedForecast(Loaded):
    """The best model of a run on columns of numbers, and what it knows of them."""

    model: Forecaster
    settings: ForecastSettings
    parts: Columns

    def predict(self, inputs: Any) -> Iterator[dict[str, Any]]:
        """The moments after the end of a CSV file, or of an array (L, C) of the same columns.

        Yields ``{"step": 1, name: value, ...}`` for each, in the units of the file; where a column
        has the name "step", the number is under "_step".

        Raises ArgumentError when the file is too short or lacks a column.
        """
        name, values = self._values(inputs)
        columns = self.parts
        needed = self.settings.window + columns.transform.lag
        if len(values) < needed:
            raise ArgumentError(f"{name}: expected {needed} moments or more, got {len(values)}")
        window = columns.transform.transform(values)[-self.settings.window :, None]
        window = cast_finite(name, window, np.float32)
        with no_grad():
            outputs = self.model(window).data
        history = values[-max(columns.transform.lag, 1) :, None, columns.targets]
        forecasts = self._units(columns.transform.inverse(outputs, history, columns.targets))
        names = [columns.names[place] for place in columns.targets]
        number = "step"
        while number in names:
            number = f"_{number}"
        for step, moment in enumerate(forecasts[:, 0].tolist(), 1):
            yield {number: step, **dict(zip(names, moment, strict=True))}

    def backtest(self, source: Any = None) -> Backtest:
        """The backtest on the run's own test part, or on the whole of another file or array.

        Raises RunError when the run's own data are missing or have changed, ArgumentError for
        another file that won't do.
        """
        if source is None:
            task = self.reopen()
            assert isinstance(task, ForecastTask)
            with rng.drawing_apart():  # models of refits begin as those of runs do
                return task.backtest(self.model, self.folder)
        name, values = self._values(source)
        try:
            # The naive forecasts need a season, or two moments, before the first origin.
            begin = min(max(self.parts.season, 2), len(values) - 1)
            windows = _windows(values, self.parts, self.settings, (begin, len(values)))
        except ArgumentError as error:
            raise ArgumentError(f"{name}: {error}") from None
        return backtest(
            [(windows, forecast_with(self.model))],
            names=[self.parts.names[place] for place in self.parts.targets],
            errors=self.parts.errors,
            season=self.parts.season,
            units=self._units,
        )

    def evaluate(
        self, files: Sequence[str | os.PathLike[str]] | None = None
    ) -> dict[str, float]:
        """The figures of ``backtest``: on the run's test part, or on one other file.

        Warns where the network is no better than a naive forecast.
        """
        if files and len(files) > 1:
            raise ArgumentError(f"{os.fspath(files[1])}: expected one file of columns, got several")
        found = self.backtest(files[0] if files else None)
        for line in found.defeats():
            warn(line)
        return found.figures()

    def _units(self, values: np.ndarray) -> np.ndarray:
        return np.exp(values) if self.settings.log else values

    def _values(self, source: Any) -> tuple[str, np.ndarray]:
        """What the transform takes, and what to call it."""
        if isinstance(source, str | os.PathLike):
            name = os.fspath(source)
            table = _read(source, self.settings, self.parts.names)
        elif not isinstance(source, np.ndarray | list | tuple):
            raise ArgumentError("inputs: expected a CSV file or an array, got lines")
        else:
            name, table = "series", Table(tuple(self.parts.names), np.asarray(source))
        values = check_series(name, table.values)
        if values.shape[1] != len(self.parts.names):
            raise ArgumentError(
                f"{name}: expected {len(self.parts.names)} columns, got {values.shape[1]}"
            )
        try:
            return name, _logarithms(Table(table.names, values)) if self.settings.log else values
        except ArgumentError as error:
            raise ArgumentError(f"{name}: {error}") from None


class ForecastTask(Task):
    """A forecaster and the series it learns: trained on the first part, chosen on the second,
    backtested on the last, each moment's target in one of them only.
    """

    name = "forecast"
    help = "a forecaster of columns of a CSV file, backtested against naive forecasts"
    files_help = "a CSV file; by default a generated series"
    settings_type = ForecastSettings
    loaded_type = LoadedForecast
    measure = Measure(unit="scaled mean squared error", items="windows")

    settings: ForecastSettings
    model: Forecaster
    training: SeriesWindows
    validation: SeriesWindows

    def __init__(self, table: Table, settings: ForecastSettings, *, source: str) -> None:
        """``table``: the columns, ``Table(names, values)`` with values (L, C).

        Raises ArgumentError, naming the data, when they are too short, or do not go with the
        settings.
        """
        self.settings = settings
        self.source = source
        self.table = table
        if repeated := [name for name in table.names if table.names.count(name) > 1]:
            raise ArgumentError(
                f"{source}: two columns that are read have the name {repeated[0]!r}; "
                "--columns chooses some"
            )
        targets = _places(settings.target, table.names, source)
        if repeated := [table.names[place] for place in targets if targets.count(place) > 1]:
            raise ArgumentError(f"{source}: target: column {repeated[0]!r} is named twice")
        try:
            self.series = _logarithms(table) if settings.log else check_series("", table.values)
            self.columns = self._make_parts(targets)
        except (ArgumentError, ShapeError) as error:
            raise ArgumentError(f"{source}: {str(error).removeprefix(': ')}") from None
        rng.manual_seed(settings.seed)
        self.model = self.build(settings, self.columns)

    def _make_parts(self, targets: list[int]) -> Columns:
        settings = self.settings
        self.parts = split_series(len(self.series), settings.validation, settings.test)
        # All that is learnt of the numbers is learnt here.
        first = slice(*self.parts[0])
        season = settings.season or 1
        for name, moments in (("difference", settings.difference), ("season", season)):
            if moments >= first.stop:
                raise ArgumentError(
                    f"{name}: expected less than the {first.stop} moments of the training part, "
                    f"got {moments}"
                )
        transform = SeriesTransform.fit(self.series[first], settings.scaling, settings.difference)
        known = self.table.values[first]
        still = (known[season:] == known[:-season]).all(0)
        if names := [self.table.names[place] for place in targets if still[place]]:
            seasonally = "from season to season " if season > 1 else ""
            raise ArgumentError(
                f"target: column {names[0]!r} never changes {seasonally}in the training part: "
                "there is nothing to forecast"
            )
        errors = naive_error(known[:, targets], season)
        columns = Columns(list(self.table.names), targets, transform, season, errors)
        self.training = _windows(self.series, columns, settings, self.parts[0], settings.batch)
        self.validation = _windows(self.series, columns, settings, self.parts[1])
        self.held_out = _windows(self.series, columns, settings, self.parts[-1])
        return columns

    @classmethod
    def read(cls, files: Sequence[str | os.PathLike[str]], settings: ForecastSettings) -> Self:
        """One CSV file; without any, a generated series."""
        if len(files) > 1:
            raise ArgumentError(f"{os.fspath(files[1])}: expected one file of columns, got several")
        if files:
            return cls(_read(files[0], settings), settings, source=os.fspath(files[0]))
        if settings.season is None:
            settings = dataclasses.replace(settings, season=12)
        task = cls(generated_series(), settings, source="generated-months")
        task.note = (
            "no file: forecasting a generated series, 480 months of a trend, a season of 12 and "
            "noise that lingers"
        )
        return task

    def summary(self) -> str:
        """What is trained on what."""
        settings = self.settings
        names = ", ".join(self.table.names[place] for place in self.columns.targets)
        count = len(self.table.names)
        columns = f"{count} columns" if count > 1 else "1 column"
        return (
            f"{self.source}: {len(self.series):,} moments of {columns}, "
            f"{settings.horizon} of {names} forecast from {settings.window}; "
            f"{settings.cell.upper()} with {self.layers}, {self.weights:,} weights"
        )

    def details(self) -> dict[str, Any]:
        return {
            "columns": list(self.table.names),
            "targets": self.columns.targets,
            "season": self.columns.season,
            "transform": self.columns.transform.record(),
            "errors": self.columns.errors.tolist(),
            "moments": len(self.series),
            "sha256": hashlib.sha256(self.series.tobytes()).hexdigest(),
        }

    def show(self, folder: RunFolder) -> Iterator[str]:
        """The backtest of the best model, or of what `refit` trains."""
        yield from self.refit(folder)
        loaded = self.load(folder.path)
        part = "the test part" if self.settings.test else "the validation part (no test part)"
        yield f"backtest on {part}, which training never saw:"
        yield from self.backtest(loaded.model, folder).lines()
        yield f"\nmore: {folder.command('predict')} INPUT"

    def backtest(self, model: Forecaster, folder: RunFolder | None = None) -> Backtest:
        """Forecast from every origin of the last part with ``model``, or, with ``refits``, with
        models that are trained anew, as this one was, on all that comes before so many stretches.

        ``folder``: where `refit` has kept them; without, they are trained for the occasion.

        Raises RunError when one is not there.
        """
        stretches = [(self.held_out, forecast_with(model))]
        if self.settings.refits:
            if folder is None:
                with tempfile.TemporaryDirectory() as path:
                    folder = RunFolder(path)
                    for _ in self.refit(folder):
                        pass
                    return self.backtest(model, folder)
            stretches = list(self._refitted(folder))
        return backtest(
            stretches,
            names=[self.table.names[place] for place in self.columns.targets],
            errors=self.columns.errors,
            season=self.columns.season,
            units=np.exp if self.settings.log else np.asarray,
        )

    def refit(self, folder: RunFolder) -> Iterator[str]:
        """Train the models of the refits that ``folder`` lacks, and keep them there.

        Yields a line before each. One that was cut short goes on, as a run does. Raises as
        `resume`, and KeyboardInterrupt when Ctrl-C has ended one.
        """
        count = min(self.settings.refits, len(self.held_out.origins))
        for number, (task, _) in enumerate(self._stretches(), 1):
            own = RunFolder(os.path.join(folder.path, f"refit-{number}"))
            kept = _kept_refit(folder, number)
            if not kept.has_model():
                yield f"refit {number} of {count}: on the first {len(task.series):,} moments"
                if task.resume(own).interrupted:
                    raise KeyboardInterrupt
                os.replace(own.model, kept.model)
            shutil.rmtree(own.path, ignore_errors=True)

    def _stretches(self) -> Iterator[tuple[ForecastTask, tuple[int, int]]]:
        """Of the test part, one for each refit: a task on all that comes before, and the part."""
        settings = self.settings
        if not settings.refits:
            return
        origins = np.array_split(self.held_out.origins, settings.refits)
        for first, last in ((int(each[0]), int(each[-1])) for each in origins if len(each)):
            known = Table(self.table.names, self.table.values[:first])
            task = ForecastTask(known, dataclasses.replace(settings, test=0.0), source=self.source)
            yield task, (first, last + settings.horizon)

    def _refitted(self, folder: RunFolder) -> Iterator[tuple[SeriesWindows, Any]]:
        settings = self.settings
        for number, (task, part) in enumerate(self._stretches(), 1):
            kept = _kept_refit(folder, number)
            if not kept.has_model():
                raise RunError(
                    f"{folder.path}: refit {number} has not been trained; to train it: "
                    f"{folder.command('resume')}"
                )
            model = load_model(kept, lambda: self.build(settings, self.columns))
            yield _windows(self.series, task.columns, settings, part), forecast_with(model)

    @classmethod
    def read_details(cls, details: Mapping[str, Any]) -> Columns:
        names = check_names(details, "columns")
        try:
            targets = [int(place) for place in details["targets"]]
            errors = np.array(details["errors"], np.float64)
            season = int(details["season"])
        except ValueError:
            raise ArgumentError("targets, errors, season: expected numbers") from None
        transform = SeriesTransform.from_record(details["transform"])
        if not targets or not all(0 <= place < len(names) for place in targets):
            raise ArgumentError(f"targets: expected some of {len(names)} columns, got {targets}")
        if len(transform.scaler.shift) != len(names) or errors.shape != (len(targets),):
            raise ArgumentError("its columns, targets and scales do not go together")
        return Columns(names, targets, transform, season, errors)

    @classmethod
    def build(cls, settings: ForecastSettings, parts: Columns) -> Forecaster:
        return Forecaster(
            len(parts.names),
            parts.targets,
            settings.horizon,
            cell=settings.cell,
            layers=settings.layers,
            hidden=settings.hidden,
            dropout=settings.dropout,
        )


def _kept_refit(folder: RunFolder, number: int) -> RunFolder:
    return RunFolder(folder.path, f"refit-{number}.safetensors")


def generated_series() -> Table:
    """480 months of a trend, a season of 12 and noise of which 0.7 is left a month later."""
    random = np.random.default_rng(0)
    t = np.arange(480)
    noise = np.zeros(len(t))
    for month in t[1:]:
        noise[month] = 0.7 * noise[month - 1] + random.normal(0.0, 2.5)
    season = 15.0 * np.sin(t * np.pi / 6) + 6.0 * np.cos(t * np.pi / 3)
    return Table(("generated",), (100.0 + 0.15 * t + season + noise)[:, None])


def _windows(
    series: np.ndarray,
    columns: Columns,
    settings: ForecastSettings,
    part: tuple[int, int],
    batch: int = 256,
) -> SeriesWindows:
    """The windows of a series, as the model sees them, whose targets are in ``part``."""
    return SeriesWindows(
        series,
        window=settings.window,
        horizon=settings.horizon,
        batch_size=batch,
        transform=columns.transform,
        part=part,
        channels=columns.targets,
        seed=settings.seed,
    )


def _read(
    path: str | os.PathLike[str], settings: ForecastSettings, names: Sequence[str] | None = None
) -> Table:
    """The columns of the settings; ``names``: those that a run read, which are asked for where the
    file names its columns."""
    table = read_text_table(path, decimal=settings.decimal)
    chosen: list[str | int] | None = None
    if names is not None and table.names is not None:
        chosen = list(names)
    elif settings.columns is not None:
        chosen = [_column(part, table.names) for part in _split(settings.columns)]
    return numbers_of(table, path, chosen, decimal=settings.decimal, missing=settings.missing)


def _split(text: str) -> list[str]:
    return [part.strip() for part in text.split(",") if part.strip()]


def _column(text: str, names: Sequence[str] | None) -> str | int:
    """A number where it is one, unless there is a column of that name."""
    is_number = text.isascii() and text.isdigit() and text not in (names or ())
    return int(text) if is_number else text


def _places(target: str | None, names: Sequence[str], source: str) -> list[int]:
    """The places of the columns to forecast among those that are read."""
    if target is None:
        return list(range(len(names)))
    places = []
    for part in _split(target):
        if part in names:
            places.append(list(names).index(part))
        elif isinstance(number := _column(part, names), int) and number < len(names):
            places.append(number)
        else:
            raise ArgumentError(
                f"{source}: target: no column {part!r} is read; there are {', '.join(names)}"
            )
    return places


def _logarithms(table: Table) -> np.ndarray:
    values = check_series("", table.values)
    if not (values > 0).all():
        moment, column = np.argwhere(values <= 0)[0]
        raise ArgumentError(
            f"log: expected numbers above 0, got {values[moment, column]:g} in column "
            f"{table.names[column]!r}, row {moment} of the numbers"
        )
    return np.log(values)
