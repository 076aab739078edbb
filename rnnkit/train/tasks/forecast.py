"""The forecast task: columns of a CSV file, what comes after their end, and an honest backtest."""

from __future__ import annotations

import dataclasses
import hashlib
import os
import tempfile
from collections.abc import Iterator, Mapping, Sequence
from typing import Any, ClassVar, NamedTuple, Self

import numpy as np

from rnnkit.autograd import no_grad
from rnnkit.data import (
    SeriesTransform,
    SeriesWindows,
    Table,
    naive_error,
    read_table,
    read_text_table,
    split_series,
)
from rnnkit.data.series import SCALINGS, check_series
from rnnkit.errors import ArgumentError, ShapeError
from rnnkit.rng import manual_seed
from rnnkit.train.backtest import Backtest, backtest, forecast_with
from rnnkit.train.language_model import CELLS
from rnnkit.train.models.forecaster import Forecaster
from rnnkit.train.objective import Measure
from rnnkit.train.run_folder import RunFolder
from rnnkit.train.settings import Settings, integer, one_of, probability
from rnnkit.train.tasks.base import Task
from rnnkit.train.tasks.loading import load_model, reading_settings, recurrent_shapes

_MINUTES = 0.5
_MISSING = ("refuse", "carry")


def _field(default: Any, text: str) -> Any:
    return dataclasses.field(default=default, metadata={"help": text})


@dataclasses.dataclass(frozen=True)
class ForecastSettings(Settings):
    """Settings of a forecasting run. With neither ``epochs`` nor ``minutes``, ``minutes`` is 0.5.
    """

    batch: int = 32
    lr: float = 0.003
    columns: str | None = _field(
        None, "columns to read, names or numbers from 0 with commas between (default: all numbers)"
    )
    target: str | None = _field(
        None, "columns to forecast, among those that are read (default: all of them)"
    )
    window: int = _field(36, "moments that the network reads")
    horizon: int = _field(12, "moments that it forecasts")
    season: int | None = _field(
        None, "moments of a season, for the seasonal naive forecast (default: no season)"
    )
    difference: int = _field(
        0, "learn the change over so many moments: 1 against a trend, the season's length; 0: none"
    )
    scaling: str = _field("standard", "how columns are scaled, as the training part tells")
    log: bool = _field(False, "learn the logarithms of the numbers")
    missing: str = _field("refuse", "empty cells: refuse them or carry the last value forward")
    cell: str = _field("gru", "kind of cell")
    layers: int = _field(1, "recurrent layers")
    hidden: int = _field(64, "units of each layer")
    dropout: float = _field(0.1, "dropout probability")
    validation: float = _field(0.15, "share of the moments that the best model is chosen by")
    test: float = _field(0.15, "share of the moments, the last, for the backtest; 0: none")
    refits: int = _field(
        0, "how often the backtest trains anew, on all that is known by then, as it goes along"
    )

    largest: ClassVar[Mapping[str, int]] = {
        **Settings.largest,
        "window": 1 << 20,
        "horizon": 1 << 16,
        "layers": 64,
        "hidden": 1 << 16,
    }

    def __post_init__(self) -> None:
        one_of("cell", self.cell, tuple(CELLS))
        one_of("scaling", self.scaling, SCALINGS)
        one_of("missing", self.missing, _MISSING)
        if not isinstance(self.log, bool):
            raise ArgumentError(f"log: expected true or false, got {self.log!r}")
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
        if self.epochs is None and self.minutes is None:
            object.__setattr__(self, "minutes", _MINUTES)
        super().__post_init__()


class ForecastTask(Task):
    """A forecaster and the series it learns: trained on the first part, chosen on the second,
    backtested on the last, each moment's target in one of them only.
    """

    name = "forecast"
    help = "forecast columns of a CSV file, backtested against naive forecasts"
    settings_type = ForecastSettings
    measure = Measure(unit="mean squared error, scaled", items="windows")

    settings: ForecastSettings
    model: Forecaster
    training: SeriesWindows
    validation: SeriesWindows
    note = ""

    def __init__(self, table: Table, settings: ForecastSettings, *, source: str) -> None:
        """``table``: the columns, ``Table(names, values)`` with values (L, C).

        Raises ArgumentError, naming the data, when they are too short, or do not go with the
        settings.
        """
        self.settings = settings
        self.source = source
        self.table = table
        self.season = settings.season or 1
        self.targets = _places(settings.target, table.names, source)
        try:
            self.series = _logarithms(table) if settings.log else check_series("", table.values)
            self._make_parts()
        except (ArgumentError, ShapeError) as error:
            raise ArgumentError(f"{source}: {str(error).removeprefix(': ')}") from None
        manual_seed(settings.seed)
        self.model = _model(len(table.names), self.targets, settings)

    def _make_parts(self) -> None:
        settings = self.settings
        length = len(self.series)
        self.parts = split_series(length, settings.validation, settings.test)
        begin, end = self.parts[0]
        # All that is learnt of the numbers is learnt here.
        self.transform = SeriesTransform.fit(
            self.series[begin:end], settings.scaling, settings.difference
        )
        known = self.table.values[begin:end, self.targets]
        self.errors = naive_error(known, self.season)
        self.training = self.windows(self.series, self.parts[0], settings.batch)
        self.validation = self.windows(self.series, self.parts[1])
        self.held_out = self.windows(self.series, self.parts[-1])

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

    def windows(
        self, series: np.ndarray, part: tuple[int, int] | None = None, batch: int = 256
    ) -> SeriesWindows:
        """The windows of a series, as the model sees them, whose targets are in ``part``."""
        settings = self.settings
        return SeriesWindows(
            series,
            window=settings.window,
            horizon=settings.horizon,
            batch_size=batch,
            transform=self.transform,
            part=part,
            channels=self.targets,
            seed=settings.seed,
        )

    def summary(self) -> str:
        """What is trained on what."""
        settings = self.settings
        names = ", ".join(self.table.names[place] for place in self.targets)
        weights = sum(parameter.size for parameter in self.model.parameters())
        return (
            f"{self.source}: {len(self.series):,} moments of {len(self.table.names)} columns, "
            f"{settings.horizon} of {names} forecast from {settings.window}; "
            f"{settings.cell.upper()} with {settings.layers} x {settings.hidden}, "
            f"{weights:,} weights"
        )

    def details(self) -> dict[str, Any]:
        return {
            "columns": list(self.table.names),
            "targets": self.targets,
            "season": self.season,
            "transform": self.transform.record(),
            "errors": self.errors.tolist(),
            "moments": len(self.series),
            "sha256": hashlib.sha256(self.series.tobytes()).hexdigest(),
        }

    def show(self, folder: RunFolder) -> Iterator[str]:
        """The backtest of the best model."""
        loaded = self.load(folder.path)
        part = "the test part" if self.settings.test else "the validation part (no test part)"
        yield f"backtest on {part}, which training never saw:"
        yield from self.backtest(loaded.model).lines()

    def backtest(self, model: Forecaster) -> Backtest:
        """Forecast from every origin of the last part with ``model``, or, with ``refits``, with
        models that are trained anew, as this one was, on all that comes before so many stretches.
        """
        stretches = [(self.held_out, forecast_with(model))]
        if self.settings.refits:
            stretches = list(self._refitted())
        return backtest(
            stretches,
            names=[self.table.names[place] for place in self.targets],
            errors=self.errors,
            season=self.season,
            units=np.exp if self.settings.log else np.asarray,
        )

    def _refitted(self) -> Iterator[tuple[SeriesWindows, Any]]:
        settings = self.settings
        origins = np.array_split(self.held_out.origins, settings.refits)
        for first, last in ((int(each[0]), int(each[-1])) for each in origins if len(each)):
            known = Table(self.table.names, self.table.values[:first])
            task = ForecastTask(known, dataclasses.replace(settings, test=0.0), source=self.source)
            with tempfile.TemporaryDirectory() as folder:
                task.train(RunFolder(folder))
                model = self.load(folder).model
            part = (first, last + settings.horizon)
            yield task.windows(self.series, part), forecast_with(model)

    @classmethod
    def load(cls, path: str | os.PathLike[str]) -> LoadedForecast:
        """The best model of a run. Raises RunError, in one line that names the file, when anything
        is missing or damaged.
        """
        folder = RunFolder(path)
        record = folder.load_settings()
        with reading_settings(folder):
            settings = cls.read_settings(record)
            details = record["details"]
            names = [str(name) for name in details["columns"]]
            targets = [int(place) for place in details["targets"]]
            transform = SeriesTransform.from_record(details["transform"])
            errors = np.array(details["errors"], np.float64)
            season = int(details["season"])
            if len(transform.scaler.shift) != len(names) or errors.shape != (len(targets),):
                raise ArgumentError("its columns, targets and scales do not go together")
            if not targets or not all(0 <= place < len(names) for place in targets):
                raise ArgumentError(f"targets: expected some of {len(names)} columns")
        head = (settings.horizon * len(targets), settings.hidden + len(names))
        sizes = (settings.cell, settings.layers, len(names), settings.hidden)
        model = load_model(
            folder,
            {"head.weight": head, **recurrent_shapes("recurrent", *sizes)},
            lambda: _model(len(names), targets, settings),
        )
        return LoadedForecast(
            model, settings, names, targets, transform, season, errors, folder.path
        )


class LoadedForecast(NamedTuple):
    """The best model of a run, in evaluation mode, and what is needed to use it."""

    model: Forecaster
    settings: ForecastSettings
    names: list[str]  # of the columns
    targets: list[int]  # places of those forecast
    transform: SeriesTransform
    season: int
    errors: np.ndarray  # (K,), of the (seasonal) naive forecast in training
    path: str

    def predict(self, source: Any) -> Iterator[dict[str, Any]]:
        """The moments after the end of a CSV file, or of an array (L, C) of the same columns.

        Yields ``{"step": 1, name: value, ...}`` for each, in the units of the file.

        Raises ArgumentError when the file is too short or lacks a column.
        """
        name, values = self._values(source)
        needed = self.settings.window + self.transform.lag
        if len(values) < needed:
            raise ArgumentError(f"{name}: expected {needed} moments or more, got {len(values)}")
        window = self.transform.transform(values)[-self.settings.window :, None]
        with no_grad():
            outputs = self.model(window.astype(np.float32)).data
        history = values[-max(self.transform.lag, 1) :, None, self.targets]
        forecasts = self._units(self.transform.inverse(outputs, history, self.targets))
        for step, moment in enumerate(forecasts[:, 0].tolist(), 1):
            named = zip((self.names[place] for place in self.targets), moment, strict=True)
            yield {"step": step, **dict(named)}

    def backtest(self, source: Any = None) -> Backtest:
        """The backtest on the run's own test part, or on the whole of another file or array.

        Raises RunError when the run's own data are missing or have changed, ArgumentError for
        another file that won't do.
        """
        if source is None:
            folder = RunFolder(self.path)
            record = folder.load_settings()
            with reading_settings(folder):
                return ForecastTask.reopen(record).backtest(self.model)
        name, values = self._values(source)
        try:
            windows = SeriesWindows(
                values,
                window=self.settings.window,
                horizon=self.settings.horizon,
                batch_size=256,
                transform=self.transform,
                # The naive forecasts need a season before the first origin.
                part=(min(self.season, len(values) - 1), len(values)),
                channels=self.targets,
            )
        except ArgumentError as error:
            raise ArgumentError(f"{name}: {error}") from None
        return backtest(
            [(windows, forecast_with(self.model))],
            names=[self.names[place] for place in self.targets],
            errors=self.errors,
            season=self.season,
            units=self._units,
        )

    def evaluate(self, files: Sequence[str | os.PathLike[str]] | None = None) -> dict[str, float]:
        """The figures of ``backtest``: on the run's test part, or on one other file."""
        if files and len(files) > 1:
            raise ArgumentError(f"{os.fspath(files[1])}: expected one file of columns, got several")
        return self.backtest(files[0] if files else None).figures()

    def _units(self, values: np.ndarray) -> np.ndarray:
        return np.exp(values) if self.settings.log else values

    def _values(self, source: Any) -> tuple[str, np.ndarray]:
        """What the transform takes, and what to call it."""
        if isinstance(source, str | os.PathLike):
            name = os.fspath(source)
            table = _read(source, self.settings, self.names)
        else:
            name, table = "series", Table(tuple(self.names), np.asarray(source))
        values = check_series(name, table.values)
        if values.shape[1] != len(self.names):
            raise ArgumentError(
                f"{name}: expected {len(self.names)} columns, got {values.shape[1]}"
            )
        try:
            return name, _logarithms(Table(table.names, values)) if self.settings.log else values
        except ArgumentError as error:
            raise ArgumentError(f"{name}: {error}") from None


def generated_series() -> Table:
    """480 months of a trend, a season of 12 and noise of which 0.7 is left a month later."""
    rng = np.random.default_rng(0)
    t = np.arange(480)
    noise = np.zeros(len(t))
    for month in t[1:]:
        noise[month] = 0.7 * noise[month - 1] + rng.normal(0.0, 2.5)
    season = 15.0 * np.sin(t * np.pi / 6) + 6.0 * np.cos(t * np.pi / 3)
    return Table(("generated",), (100.0 + 0.15 * t + season + noise)[:, None])


def _model(channels: int, targets: list[int], settings: ForecastSettings) -> Forecaster:
    return Forecaster(
        channels,
        targets,
        settings.horizon,
        cell=settings.cell,
        layers=settings.layers,
        hidden=settings.hidden,
        dropout=settings.dropout,
    )


def _read(
    path: str | os.PathLike[str], settings: ForecastSettings, names: Sequence[str] | None = None
) -> Table:
    """The columns of the settings; ``names``: those that a run read."""
    known = read_text_table(path).names
    if names is not None and known is not None and set(names) <= set(known):
        chosen: list[str | int] | None = list(names)
    elif settings.columns is None:
        chosen = None
    else:
        chosen = [_column(part, known) for part in _split(settings.columns)]
    return read_table(path, chosen, missing=settings.missing)


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
