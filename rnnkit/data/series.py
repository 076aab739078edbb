"""Series of numbers: made fit to learn from, cut into windows, and backtested honestly.

A series is (L, C): L moments, C channels. A forecast made at origin t knows the moments before t
and says ``horizon`` of them from t on.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from typing import Any

import numpy as np

from rnnkit.autograd.checks import check_real_dtype
from rnnkit.autograd.tensor import float64_array, plain_array
from rnnkit.checks import (
    check_bool,
    check_integer,
    check_kind,
    check_list,
    check_number,
    check_size,
)
from rnnkit.data.batches import (
    PositionedBatches,
    SequenceBatch,
    epoch_generator,
)
from rnnkit.data.vocabulary import check_record
from rnnkit.errors import ArgumentError, DTypeError, ShapeError

_MOST_ORIGINS = 10_000_000  # of a backtest: a list of them takes some gigabytes
SCALINGS = ("standard", "minmax", "none")


class Scaler:
    """(x - shift) / scale for each channel, and back.

    ``transform`` and ``inverse`` raise ShapeError for values of another number of channels, and
    ArgumentError for channels that there are not.
    """

    def __init__(self, shift: Any, scale: Any) -> None:
        """``shift``, ``scale``: (C,); raises ArgumentError unless finite and scales above 0."""
        try:
            self.shift = np.array(shift, np.float64)
            self.scale = np.array(scale, np.float64)
        except (TypeError, ValueError, OverflowError):
            raise ArgumentError("shift, scale: expected numbers") from None
        if self.shift.ndim != 1 or self.shift.shape != self.scale.shape or not self.shift.size:
            raise ArgumentError(
                f"shift, scale: expected (C,) each, got {self.shift.shape} and {self.scale.shape}"
            )
        if not (np.isfinite(self.shift) & np.isfinite(self.scale) & (self.scale > 0)).all():
            raise ArgumentError("shift, scale: expected finite numbers, the scales above 0")

    @classmethod
    def fit(cls, training: Any, kind: str = "standard") -> Scaler:
        """Learn from the training part of a series and from nothing else.

        Args:
            training: (L, C).
            kind: "standard" to mean 0 and variance 1, "minmax" to the range from 0 to 1, "none".
                A channel that is constant is shifted only.

        Raises:
            ArgumentError: another kind, no moments, or a number that is not finite or, squared,
                too large.
            ShapeError: ``training`` is not (L, C).
        """
        values = check_series("training", training)
        channels = values.shape[1]
        if kind not in SCALINGS:
            raise ArgumentError(f"kind: expected one of {', '.join(SCALINGS)}, got {kind!r}")
        if kind == "none":
            return cls(np.zeros(channels), np.ones(channels))
        with np.errstate(over="ignore", invalid="ignore"):
            if kind == "minmax":
                shift, scale = values.min(0), values.max(0) - values.min(0)
            else:
                shift, scale = values.mean(0), values.std(0)
        if not np.isfinite(scale).all():
            channel = int(np.isfinite(scale).argmin())
            raise ArgumentError(f"training: channel {channel}: too large to scale")
        # The spread of a constant channel is rounding, not signal.
        constant = scale <= 1e-12 * np.maximum(np.abs(values).max(0), 1e-300)
        return cls(shift, np.where(constant, 1.0, scale))

    def transform(self, values: Any, channels: Sequence[int] | None = None) -> np.ndarray:
        """``values`` (..., C) scaled, float64; ``channels``: which they are, if not all."""
        values, shift, scale = self._of(values, channels)
        return (values - shift) / scale

    def inverse(self, values: Any, channels: Sequence[int] | None = None) -> np.ndarray:
        """The values (..., C) in their own units, float64, whose ``transform`` was ``values``."""
        values, shift, scale = self._of(values, channels)
        return values * scale + shift

    def record(self) -> dict[str, Any]:
        """What ``from_record`` makes the same scaler of; JSON can hold it, exactly."""
        return {"kind": "scaler", "shift": self.shift.tolist(), "scale": self.scale.tolist()}

    @classmethod
    def from_record(cls, record: Any) -> Scaler:
        """The scaler of a record. Raises ArgumentError when it is not one of ``record()``."""
        fields = check_record(record, "scaler")
        return cls(_numbers(fields, "shift"), _numbers(fields, "scale"))

    def _of(
        self, values: Any, channels: Sequence[int] | None
    ) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
        """The values, and the shift and scale of each of their channels."""
        shift, scale = self.shift, self.scale
        if channels is not None:
            chosen, count = check_list("channels", channels, "several channels"), len(shift)
            for channel in chosen:
                check_integer("channels", channel, -count, count - 1)
            shift, scale = shift[chosen], scale[chosen]
        given = float64_array("values", values)
        if given.shape[-1:] != shift.shape:  # one channel would pass for all
            raise ShapeError(f"values: expected (..., {len(shift)}), got shape {given.shape}")
        return given, shift, scale


class SeriesTransform:
    """What a model sees of a series: differences, if asked for, then scaled.

    With ``lag`` k > 0 moment t becomes x[t] - x[t - k], 1 against a trend and the season's length
    against a season; the first k moments are lost.
    """

    def __init__(self, scaler: Scaler, lag: int = 0) -> None:
        """``scaler``: of the differences where ``lag`` is not 0."""
        check_kind("scaler", scaler, Scaler)
        self.scaler = scaler
        self.lag = check_integer("lag", lag, 0)

    @classmethod
    def fit(cls, training: Any, scaling: str = "standard", lag: int = 0) -> SeriesTransform:
        """Learn from the training part (L, C); ``scaling``: a kind of ``Scaler.fit``.

        Raises as ``Scaler.fit`` does, and ArgumentError when no differences are left.
        """
        values = check_series("training", training)
        none_yet = cls(Scaler.fit(values, "none"), lag)
        if len(values) <= lag:
            raise ArgumentError(f"lag: expected less than the {len(values)} moments, got {lag}")
        return cls(Scaler.fit(none_yet.transform(values), scaling), lag)

    def transform(self, series: Any) -> np.ndarray:
        """``series`` (L, C) as the model sees it: (L - lag, C) float64, from moment ``lag`` on."""
        values = float64_array("series", series)
        if not values.ndim:
            raise ShapeError("series: expected (L, C), got ()")
        if self.lag:
            values = values[self.lag :] - values[: -self.lag]
        return self.scaler.transform(values)

    def inverse(
        self, outputs: Any, history: Any = None, channels: Sequence[int] | None = None
    ) -> np.ndarray:
        """Forecasts in the series' own units.

        Args:
            outputs: (horizon, ..., K), what a model said of the moments from an origin on.
            history: (lag or more, ..., K), the series' own moments up to the origin; needed for
                differences only.
            channels: which K channels of the series they are, if not all.

        Returns:
            (horizon, ..., K) float64.
        """
        values = self.scaler.inverse(outputs, channels)
        if not self.lag:
            return values
        known = float64_array("history", () if history is None else history)
        if not known.ndim or len(known) < self.lag:
            raise ArgumentError(f"history: expected the last {self.lag} moments before the origin")
        known = known[-self.lag :]
        if known.shape[1:] != values.shape[1:]:
            raise ShapeError(
                f"history: expected (moments, *{values.shape[1:]}) as outputs, got {known.shape}"
            )
        whole = np.concatenate([known, values])
        for t in range(self.lag, len(whole)):
            whole[t] += whole[t - self.lag]
        return whole[self.lag :]

    def record(self) -> dict[str, Any]:
        """What ``from_record`` makes the same transform of; JSON can hold it, exactly."""
        return {"kind": "series", "lag": self.lag, "scaler": self.scaler.record()}

    @classmethod
    def from_record(cls, record: Any) -> SeriesTransform:
        """The transform of a record. Raises ArgumentError when it is not one of ``record()``."""
        fields = check_record(record, "series")
        return cls(Scaler.from_record(fields.get("scaler")), fields.get("lag", 0))


class SeriesWindows(PositionedBatches[SequenceBatch]):
    """Windows of a series and the moments that follow them, as batches.

    The window at origin t gives ``inputs`` [t - window, t) of all channels and ``targets``
    [t, t + horizon) of the chosen ones, both as ``transform`` makes them. The origins are those
    whose targets lie within ``part``; inputs may reach back before it, to what is known when the
    forecast is made. So a training part and a validation part that meet share no target, and
    nothing of the second is seen in training.

    Each epoch takes every window once, in random order (``shuffle``); ``epoch()`` in that of time.
    A batch's ``rows`` are places in ``origins``.
    """

    def __init__(
        self,
        series: Any,
        *,
        window: int,
        horizon: int = 1,
        batch_size: int,
        transform: SeriesTransform | None = None,
        part: tuple[int, int] | None = None,
        channels: Sequence[int] | None = None,
        stride: int = 1,
        seed: int = 0,
        shuffle: bool = True,
        dtype: Any = np.float32,
    ) -> None:
        """
        Args:
            series: (L, C), in its own units, whole.
            window: T, moments that the model sees.
            horizon: moments that it forecasts.
            batch_size: N, the most windows in a batch.
            transform: what was learnt on the training part; none by default.
            part: (begin, end), the moments that targets are taken from; all by default.
            channels: the channels to forecast; all by default.
            stride: from one origin to the next.
            dtype: of what the batches hold, float32 or float64.

        Raises:
            ArgumentError: a size that is not positive, a part that is not in the series or holds
                no whole window, a channel that there is not, a number that is not finite.
            ShapeError: ``series`` is not (L, C), or of other channels than ``transform``.
            DTypeError: another dtype.
        """
        dtype = check_real_dtype("dtype", dtype)
        self.series = check_series("series", series)
        length, width = self.series.shape
        self.window = check_size("window", window)
        self.horizon = check_size("horizon", horizon)
        self.batch_size = check_size("batch_size", batch_size)
        stride = check_size("stride", stride)
        self.seed = check_integer("seed", seed, 0)
        self.shuffle = check_bool("shuffle", shuffle)
        if transform is None:
            transform = SeriesTransform(Scaler(np.zeros(width), np.ones(width)))
        check_kind("transform", transform, SeriesTransform)
        if len(transform.scaler.shift) != width:
            raise ShapeError(
                f"transform: expected {width} channels as series, got {len(transform.scaler.shift)}"
            )
        self.transform = transform
        some = f"some of 0 to {width - 1}"
        chosen = range(width) if channels is None else check_list("channels", channels, some)
        self.channels = [check_integer("channels", c, 0, width - 1) for c in chosen]
        if not self.channels:
            raise ArgumentError(f"channels: expected {some}, got none")
        ends = [0, length] if part is None else check_list("part", part, "(begin, end)")
        whole = [check_integer("part", end, 0, length) for end in ends]
        if len(whole) != 2 or whole[0] >= whole[1]:
            raise ArgumentError(f"part: expected (begin, end) within 0 to {length}, got {part}")
        begin, end = whole
        first = max(begin, self.window + transform.lag)
        after = end - self.horizon + 1
        if first >= after:
            raise ArgumentError(
                f"part: moments {begin} to {end} hold no target of {horizon} with a window of "
                f"{window} before it; make window or horizon smaller"
            )
        self.origins = np.arange(first, after, min(stride, length))
        # Moment t of the series is in row t - lag.
        self._values = cast_finite("series", transform.transform(self.series), dtype)
        self.batches_per_epoch = -(-len(self.origins) // batch_size)
        self._newest: tuple[int, np.ndarray] = (-1, self.origins)

    def __len__(self) -> int:
        """How many windows there are."""
        return len(self.origins)

    def __repr__(self) -> str:
        return (
            f"SeriesWindows({len(self)} windows of {self.window} moments and {self.horizon} to "
            f"forecast, {self.batches_per_epoch} batches of {self.batch_size})"
        )

    def batch(self, position: int) -> SequenceBatch:
        """The batch at ``position``. Raises ArgumentError when it is negative."""
        epoch, index = self._place(position)
        return self._make(position, index, self._order(epoch))

    def epoch(self) -> Iterator[SequenceBatch]:
        """Every window once, in the order of time."""
        rows = np.arange(len(self))
        for index in range(self.batches_per_epoch):
            yield self._make(index, index, rows)

    def latest(self) -> np.ndarray:
        """The inputs (T, 1, C) of the forecast that goes on where the series ends."""
        return self._values[len(self._values) - self.window :, None]

    def forecasts(self, outputs: Any, rows: Any = None) -> np.ndarray:
        """A model's outputs (horizon, N, K) in the series' own units, float64.

        ``rows``: those of the batch that the outputs are for; without, they are for ``latest()``.
        Raises ShapeError when the outputs are of another shape, and as ``truth`` does.
        """
        outputs = np.asarray(outputs)
        rows = None if rows is None else self._checked_rows(rows)
        expected = (self.horizon, 1 if rows is None else len(rows), len(self.channels))
        if outputs.shape != expected:
            raise ShapeError(f"outputs: expected {expected}, got {outputs.shape}")
        if rows is None:
            history = self.series[-max(self.transform.lag, 1) :, None, self.channels]
        else:
            history = self._stretch(self.series, rows, -self.transform.lag, 0)
        return self.transform.inverse(outputs, history, self.channels)

    def truth(self, rows: Any) -> np.ndarray:
        """What came, (horizon, N, K) float64 in the series' own units.

        ``rows``: (N,), the numbers of windows. Raises DTypeError for other than integers,
        ShapeError for other axes, ArgumentError for windows that there are not.
        """
        return self._stretch(self.series, self._checked_rows(rows), 0, self.horizon)

    def _checked_rows(self, rows: Any) -> np.ndarray:
        numbers = plain_array("rows", rows)
        if numbers.ndim != 1:
            raise ShapeError(f"rows: expected (N,), the numbers of windows, got {numbers.shape}")
        if numbers.dtype.kind not in "iu" and numbers.size:
            raise DTypeError(f"rows: expected integers, got {numbers.dtype}")
        if numbers.size and not 0 <= numbers.min() <= numbers.max() < len(self):
            raise ArgumentError(
                f"rows: expected windows from 0 to {len(self) - 1}, got {numbers.min()} to "
                f"{numbers.max()}"
            )
        return numbers.astype(np.int64)

    def _order(self, epoch: int) -> np.ndarray:
        if not self.shuffle:
            return np.arange(len(self))
        known, rows = self._newest
        if known != epoch:
            rows = epoch_generator(self.seed, epoch).permutation(len(self))
            self._newest = (epoch, rows)
        return rows

    def _make(self, position: int, index: int, order: np.ndarray) -> SequenceBatch:
        rows = order[index * self.batch_size : (index + 1) * self.batch_size].astype(np.int64)
        times = self.origins[rows] - self.transform.lag + np.arange(-self.window, 0)[:, None]
        inputs = self._values[times]
        lag = self.transform.lag
        targets = self._stretch(self._values, rows, -lag, self.horizon - lag)
        lengths = np.full(len(rows), self.window, np.int64)
        target_lengths = np.full(len(rows), self.horizon, np.int64)
        return SequenceBatch(position, index == 0, inputs, lengths, targets, target_lengths, rows)

    def _stretch(self, values: np.ndarray, rows: np.ndarray, begin: int, end: int) -> np.ndarray:
        """(end - begin, N, K): those moments, counted from the origins, of the chosen channels."""
        times = self.origins[rows] + np.arange(begin, end)[:, None]
        return values[times[..., None], self.channels]


def split_series(length: int, validation: float, test: float = 0.0) -> list[tuple[int, int]]:
    """The parts (begin, end) of a series to train on, validate with and test with, in this order
    of time; of ``test`` 0 there are two.

    Raises ArgumentError when a share is not from 0 to 1, a part would be empty or ``length`` is no
    positive integer.
    """
    length = check_size("length", length)
    check_number("validation", validation, high=1.0, above_low=True, below_high=True)
    check_number("test", test, high=1.0, below_high=True)
    test_begin = length - round(length * test)
    cut = test_begin - round(length * validation)
    parts = [(0, cut), (cut, test_begin)] + ([(test_begin, length)] if test else [])
    if any(not 0 <= begin < end for begin, end in parts):
        raise ArgumentError(
            f"length: {length} moments are too few for a validation part of {validation:.0%}, "
            f"a test part of {test:.0%} and the rest"
        )
    return parts


def rolling_origins(
    length: int, initial: int, horizon: int, step: int | None = None
) -> list[tuple[tuple[int, int], tuple[int, int]]]:
    """The parts of a backtest: train on (0, t), forecast (t, t + horizon), for growing t.

    Args:
        length: moments of the series.
        initial: t of the first forecast.
        step: from one t to the next; ``horizon`` by default, so that every moment from
            ``initial`` on is forecast once (but for fewer than ``horizon`` at the end).

    Returns:
        (training, test) pairs of (begin, end); no test part reaches past the series.

    Raises:
        ArgumentError: a size that is not positive, no room for one forecast, or more than
            10,000,000 forecasts.
    """
    step = horizon if step is None else step
    sizes = (("length", length), ("initial", initial), ("horizon", horizon), ("step", step))
    for name, value in sizes:
        check_size(name, value)
    if initial + horizon > length:
        raise ArgumentError(
            f"initial: {initial} moments and a horizon of {horizon} do not fit into {length}"
        )
    count = (length - horizon - initial) // step + 1
    if count > _MOST_ORIGINS:
        raise ArgumentError(
            f"length: expected up to {_MOST_ORIGINS} forecasts, got {count} within {length} "
            f"moments at a step of {step}"
        )
    return [((0, t), (t, t + horizon)) for t in range(initial, length - horizon + 1, step)]


def check_series(name: str, series: Any) -> np.ndarray:
    """``series`` as float64 (L, C). Raises ShapeError, ArgumentError unless that, and finite."""
    values = plain_array(name, series)
    if values.ndim != 2 or values.dtype.kind not in "biuf":
        raise ShapeError(f"{name}: expected numbers (L, C), got {values.dtype} {values.shape}")
    values = values.astype(np.float64)
    if not values.size:
        raise ArgumentError(f"{name}: expected at least one moment and channel, got {values.shape}")
    if not np.isfinite(values).all():
        moment, channel = np.argwhere(~np.isfinite(values))[0]
        raise ArgumentError(
            f"{name}: not a finite number at moment {moment}, channel {channel}: "
            f"{values[moment, channel]}"
        )
    return values


def cast_finite(name: str, values: np.ndarray, dtype: Any) -> np.ndarray:
    """``values``, transformed, as ``dtype``. Raises ArgumentError for what is not finite in it."""
    with np.errstate(over="ignore"):
        cast = values.astype(dtype)
    if not np.isfinite(cast).all():
        raise ArgumentError(
            f"{name}: not finite or too large: transformed, expected numbers that "
            f"{np.dtype(dtype)} holds"
        )
    return cast


def _numbers(fields: Mapping[str, Any], name: str) -> list[float]:
    values = fields.get(name)
    if not isinstance(values, list) or not all(
        isinstance(value, int | float) and not isinstance(value, bool) for value in values
    ):
        raise ArgumentError(f"record: expected {name!r} to be a list of numbers")
    return values
