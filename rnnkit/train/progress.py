"""Progress on the terminal: a bar where there is one, a few lines where there is none."""

from __future__ import annotations

import time
from typing import Any, TextIO

from rnnkit.train.observers import Observer, Step, Validation

_REDRAW_SECONDS = 0.1
_LINE_SECONDS = 30.0


def progress_on(stream: TextIO) -> Observer:
    """A tqdm bar when ``stream`` is a terminal and tqdm is installed; otherwise plain lines."""
    if stream.isatty():
        try:
            from tqdm import tqdm
        except ImportError:
            return Lines(stream)
        return Bar(tqdm, stream)
    return Lines(stream)


class Bar(Observer):
    """The share of the budget used, the losses and the speed, redrawn in place."""

    def __init__(self, tqdm: Any, stream: TextIO) -> None:
        self._bar = tqdm(
            total=1.0,
            file=stream,
            dynamic_ncols=True,
            bar_format="{percentage:3.0f}% |{bar}| {elapsed}<{remaining}{postfix}",
        )
        self._drawn = 0.0
        self._bits: float | None = None
        self._validation = ""

    def on_step(self, step: Step) -> None:
        self._bits = step.bits if self._bits is None else 0.98 * self._bits + 0.02 * step.bits
        now = time.monotonic()
        if now - self._drawn >= _REDRAW_SECONDS:
            self._drawn = now
            self._draw(step.used, step.tokens_per_second)

    def on_validation(self, validation: Validation) -> None:
        self._validation = f", validation {validation.bits:.3f}"
        self._draw(validation.used, validation.tokens_per_second)

    def close(self) -> None:
        self._bar.close()

    def _draw(self, used: float, speed: float) -> None:
        self._bar.n = used
        self._bar.set_postfix_str(
            f"loss {self._bits:.3f}{self._validation} bits/char, {speed:,.0f} tokens/s"
        )


class Lines(Observer):
    """One line at every validation, and at least one every half minute."""

    def __init__(self, stream: TextIO) -> None:
        self._stream = stream
        self._written = time.monotonic()

    def on_step(self, step: Step) -> None:
        if time.monotonic() - self._written >= _LINE_SECONDS:
            self._write(step, f"loss {step.bits:.3f} bits/char")

    def on_validation(self, validation: Validation) -> None:
        self._write(
            validation,
            f"loss {validation.training_bits:.3f}, validation {validation.bits:.3f} bits/char",
        )

    def _write(self, at: Step | Validation, losses: str) -> None:
        self._written = time.monotonic()
        print(
            f"{at.used:4.0%}  step {at.step:,}  {losses}, {at.tokens_per_second:,.0f} tokens/s",
            file=self._stream,
            flush=True,
        )


