"""Truncated backpropagation through time with carried state."""

from __future__ import annotations

import contextlib
import math
import time
from collections.abc import Sequence
from typing import Any

import numpy as np

from rnnkit.autograd import no_grad
from rnnkit.data import ContinuousBatches, Window
from rnnkit.nn.utils import clip_grad_norm_, detach_state
from rnnkit.optim import Optimizer
from rnnkit.train.budget import Budget
from rnnkit.train.errors import TrainingError
from rnnkit.train.interrupt import InterruptFlag
from rnnkit.train.language_model import LanguageModel
from rnnkit.train.observers import Observer, Outcome, Step, Validation
from rnnkit.train.schedules import Schedule

_BITS = 1.0 / math.log(2.0)
_SPEED_MEMORY_SECONDS = 3.0


class Trainer:
    """Trains a language model until its budget is used up or Ctrl-C is pressed.

    The model is left as the last step made it; an observer that wants the best one copies the
    weights when a validation says so.
    """

    def __init__(
        self,
        model: LanguageModel,
        optimizer: Optimizer,
        training: ContinuousBatches,
        validation: ContinuousBatches,
        budget: Budget,
        *,
        schedule: Schedule,
        clip: float = 1.0,
        validations: int = 20,
        observers: Sequence[Observer] = (),
    ) -> None:
        """``clip``: largest norm of all gradients together; ``validations``: how many over the
        whole budget, the one at the end included."""
        self.model = model
        self.optimizer = optimizer
        self.training = training
        self.validation = validation
        self.budget = budget
        self.schedule = schedule
        self.clip = clip
        self.validations = validations
        self.observers = observers
        self._state: Any = None
        self._speed = Speed()
        self._last = Step(0, 0.0, 0.0, 0.0, math.nan, math.nan, 0.0)
        self._best: Validation | None = None
        self._bits_since_validation: list[float] = []

    def fit(self) -> Outcome:
        """Train. Raises TrainingError when the loss or a gradient stops being finite."""
        with contextlib.ExitStack() as closing:
            for observer in self.observers:
                closing.callback(observer.close)
            return self._fit()

    def evaluate(self, batches: ContinuousBatches) -> float:
        """Bits per character over one pass, every state carried, no character left out but the
        few that do not fill the streams. Characters outside the vocabulary count like any other."""
        self.model.eval()
        state, nats, characters = None, 0.0, 0
        with no_grad():
            for window in batches.epoch():
                loss, state = self._loss(window, state)
                nats += loss.item() * window.targets.size
                characters += window.targets.size
        self.model.train()
        return nats / characters * _BITS

    def _fit(self) -> Outcome:
        self.model.train()
        started = time.perf_counter()
        due = 1.0 / self.validations
        with InterruptFlag() as interrupt:
            for window in self.training.batches():
                used = self.budget.used(window.position, time.perf_counter() - started)
                if used >= 1.0 or interrupt.requested:
                    break
                self._step(window, used, started)
                if self._last.used >= due and self._last.used < 1.0:
                    self._validate(started)
                    due = (math.floor(self._last.used * self.validations) + 1) / self.validations
            if self._bits_since_validation and (self._best is None or not interrupt.requested):
                self._validate(started)
            interrupted = interrupt.requested
        outcome = Outcome(
            steps=self._last.step,
            epochs=self._last.epoch,
            seconds=time.perf_counter() - started,
            best_step=self._best.step if self._best else 0,
            best_bits=self._best.bits if self._best else math.nan,
            tokens_per_second=self._speed.overall,
            interrupted=interrupted,
        )
        for observer in self.observers:
            observer.on_finish(outcome)
        return outcome

    def _step(self, window: Window, used: float, started: float) -> None:
        begun = time.perf_counter()
        self.schedule.before_step(used)
        if window.starts_epoch:
            self._state = None
        self.optimizer.zero_grad()
        loss, state = self._loss(window, self._state)
        nats = loss.item()
        if not math.isfinite(nats):
            raise TrainingError(self._not_finite(window, f"the training loss became {nats}"))
        loss.backward()
        norm = clip_grad_norm_(self.model.parameters(), self.clip)
        if not math.isfinite(norm):
            name = _first_not_finite(self.model)
            raise TrainingError(self._not_finite(window, f"the gradient of {name} overflowed"))
        self.optimizer.step()
        self._state = detach_state(state)

        now = time.perf_counter()
        self._speed.add(window.targets.size, now - begun)
        step = window.position + 1
        self._last = Step(
            step=step,
            epoch=step / self.training.batches_per_epoch,
            used=self.budget.used(step, now - started),
            seconds=now - started,
            bits=nats * _BITS,
            learning_rate=self.optimizer.param_groups[0]["lr"],
            tokens_per_second=self._speed.recent,
        )
        self._bits_since_validation.append(self._last.bits)
        for observer in self.observers:
            observer.on_step(self._last)

    def _validate(self, started: float) -> None:
        bits = self.evaluate(self.validation)
        if not math.isfinite(bits):
            raise TrainingError(
                f"step {self._last.step}: the validation loss became {bits}; "
                "try a lower learning rate"
            )
        seconds = time.perf_counter() - started
        validation = Validation(
            step=self._last.step,
            epoch=self._last.epoch,
            used=self._last.used,
            seconds=seconds,
            bits=bits,
            training_bits=sum(self._bits_since_validation) / len(self._bits_since_validation),
            is_best=self._best is None or bits < self._best.bits,
            tokens_per_second=self._speed.recent,
        )
        self._bits_since_validation.clear()
        if validation.is_best:
            self._best = validation
        self.schedule.after_validation(bits)
        for observer in self.observers:
            observer.on_validation(validation)

    def _loss(self, window: Window, state: Any) -> tuple[Any, Any]:
        return self.model.loss(window.inputs, window.targets, state)

    def _not_finite(self, window: Window, what: str) -> str:
        learning_rate = self.optimizer.param_groups[0]["lr"]
        return (
            f"step {window.position + 1}: {what} at learning rate {learning_rate:.3g}; "
            "try a lower one"
        )


class Speed:
    """Tokens per second of training: over the whole run, and over the last few seconds."""

    def __init__(self) -> None:
        self.recent = 0.0
        self._tokens = 0
        self._seconds = 0.0

    @property
    def overall(self) -> float:
        return self._tokens / self._seconds if self._seconds else 0.0

    def add(self, tokens: int, seconds: float) -> None:
        """One step of ``tokens`` characters took ``seconds``."""
        self._tokens += tokens
        self._seconds += seconds
        kept = math.exp(-seconds / _SPEED_MEMORY_SECONDS) if self.recent else 0.0
        self.recent = kept * self.recent + (1.0 - kept) * tokens / max(seconds, 1e-9)


def _first_not_finite(model: LanguageModel) -> str:
    for name, parameter in model.named_parameters():
        if parameter.grad is not None and not np.isfinite(parameter.grad.data).all():
            return name
    return "all parameters together"
