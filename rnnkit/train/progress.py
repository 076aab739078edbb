"""Progress on the terminal: a bar where there is one, a few lines where there is none."""

from __future__ import annotations

import math
import time
from typing import Any, TextIO

from rnnkit.errors import ArgumentError
from rnnkit.train.objective import Measure
from rnnkit.train.observers import Observer, Start, Step, Validation

_REDRAW_SECONDS = 0.1
_LINE_SECONDS = 30.0


def progress_on(stream: TextIO) -> Observer:
    """A tqdm bar when ``stream`` is a terminal and tqdm is installed; otherwise plain lines.

    Raises ArgumentError for what is no stream.
    """
    if not (hasattr(stream, "isatty") and hasattr(stream, "write")):
        raise ArgumentError(f"stream: expected a stream of text such as sys.stderr, got {stream!r}")
    if stream.isatty():
        try:
            from tqdm import tqdm
        except ImportError:
            return Lines(stream)
        return Bar(tqdm, stream)
    return Lines(stream)


class _Progress(Observer):
    def __init__(self) -> None:
        self._measure = Measure()

    def on_start(self, start: Start) -> None:
        self._measure = start.measure

    def _speed(self, items_per_second: float) -> str:
        return f"{items_per_second:,.0f} {self._measure.items}/s"


class Bar(_Progress):
    """The share of the budget used, the losses and the speed, redrawn in place."""

    def __init__(self, tqdm: Any, stream: TextIO) -> None:
        super().__init__()
        self._make = lambda initial: tqdm(
            total=1.0,
            initial=initial,
            file=stream,
            dynamic_ncols=True,
            bar_format="{percentage:3.0f}% |{bar}| {elapsed}<{remaining}{postfix}",
        )
        self._bar: Any = None
        self._drawn = 0.0
        self._loss: float | None = None
        self._validation = ""

    def on_start(self, start: Start) -> None:
        super().on_start(start)
        self._bar = self._make(start.used)

    def on_step(self, step: Step) -> None:
        value = step.value(self._measure)
        if not math.isnan(value):  # one would stay in the mean for ever
            self._loss = value if self._loss is None else 0.98 * self._loss + 0.02 * value
        now = time.monotonic()
        if now - self._drawn >= _REDRAW_SECONDS:
            self._drawn = now
            self._draw(step.used, step.items_per_second)

    def on_validation(self, validation: Validation) -> None:
        self._validation = f", validation {self._measure.show(validation.value)}"
        self._draw(validation.used, validation.items_per_second)

    def close(self) -> None:
        if self._bar is not None:
            self._bar.close()

    def _draw(self, used: float, speed: float) -> None:
        loss = "" if self._loss is None else f"training {self._measure.show(self._loss)}"
        self._bar.n = used
        self._bar.set_postfix_str(
            f"{loss}{self._validation} {self._measure.label}, {self._speed(speed)}"
        )


class Lines(_Progress):
    """One line at every validation, and at least one every half minute."""

    def __init__(self, stream: TextIO) -> None:
        super().__init__()
        self._stream = stream
        self._written = time.monotonic()

    def on_step(self, step: Step) -> None:
        if time.monotonic() - self._written >= _LINE_SECONDS:
            self._write(step, f"training {self._measure.show(step.value(self._measure))}")

    def on_validation(self, validation: Validation) -> None:
        show = self._measure.show
        self._write(
            validation,
            f"training {show(validation.training_value)}, validation {show(validation.value)}",
        )

    def _write(self, at: Step | Validation, values: str) -> None:
        self._written = time.monotonic()
        print(
            f"{at.used:4.0%}  step {at.step:,}  {values} {self._measure.label}, "
            f"{self._speed(at.items_per_second)}",
            file=self._stream,
            flush=True,
        )
