"""The training loop: any model, any batches, and exact resumption."""

from __future__ import annotations

import contextlib
import math
import os
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from typing import Any

from rnnkit import rng
from rnnkit.autograd import Tensor
from rnnkit.checks import check_finite, check_kind, check_list, check_number, check_size
from rnnkit.data import Batches
from rnnkit.data.batches import check_batches
from rnnkit.errors import ArgumentError, RnnkitError
from rnnkit.module import Module
from rnnkit.nn.utils import clip_grad_norm_, detach_state
from rnnkit.optim import EMA, Optimizer
from rnnkit.train.budget import Budget
from rnnkit.train.checkpoint import Checkpoints, find_checkpoint, read_checkpoint
from rnnkit.train.errors import RunError, TrainingError
from rnnkit.train.evaluation import evaluate
from rnnkit.train.interrupt import InterruptFlag
from rnnkit.train.not_finite import culprit, first_gradient_not_finite
from rnnkit.train.objective import Loss, Mean, Measure, Objective, loss_of, objective_of
from rnnkit.train.observers import Observer, Outcome, Start, Step, Validation
from rnnkit.train.schedules import Plateau, Schedule, make_schedule
from rnnkit.train.speed import Speed


class Trainer:
    """Trains a model until its budget is used up, nothing is gained any more, or Ctrl-C.

    The model is left as the last step made it; an observer that wants the best one copies the
    weights when a validation says so.

    With ``checkpoints``, a run that was cut short at any moment goes on with `resume`: what comes
    out has the bits of a run that was not, for a budget in steps or epochs. With one in seconds
    the learning rate follows the clock, and no two runs are the same.
    """

    def __init__(
        self,
        model: Module,
        optimizer: Optimizer,
        training: Batches,
        validation: Batches | None = None,
        *,
        budget: Budget,
        objective: Objective | None = None,
        schedule: str | Callable[[float], float] | Schedule = "constant",
        clip: float | None = 1.0,
        accumulate: int = 1,
        ema: EMA | None = None,
        validations: int = 20,
        patience: int | None = None,
        target: float | None = None,
        measure: Measure = Measure(),  # noqa: B008 - immutable
        observers: Sequence[Observer] = (),
        checkpoints: Checkpoints | None = None,
        settings: Mapping[str, int | float | str | None] | None = None,
    ) -> None:
        """
        Args:
            objective: ``objective(batch, state) -> Loss``; by default ``model.loss``.
            schedule: a name, a function of the share of the budget used, or a Schedule.
            optimizer: one that needs a closure (LBFGS) gets it: each call makes the gradients of
                the step's batches anew, from the same state and with the same random numbers.
            clip: largest norm of all gradients of the optimiser's parameters together; None for
                any, which LBFGS insists on.
            accumulate: batches of a step; its gradient is that of the mean over all their items.
            ema: updated after every step; validation sees its averages.
            validations: how many over the whole budget, the one at the end included.
            patience: stop after so many validations in a row without a gain.
            target: stop when a validation is as good as this, in the unit of the objective.
            measure: what validations are judged by.
            settings: by name, numbers and texts that must be the same for a run to be resumed.

        Raises:
            ArgumentError: one of these is out of range, or does not go with another.
        """
        check_kind("model", model, Module)
        check_kind("optimizer", optimizer, Optimizer)
        check_kind("budget", budget, Budget)
        check_kind("measure", measure, Measure)
        if ema is not None:
            check_kind("ema", ema, EMA)
        if checkpoints is not None:
            check_kind("checkpoints", checkpoints, Checkpoints)
        observers = check_list("observers", observers, "several observers")
        for place, observer in enumerate(observers):
            check_kind(f"observers[{place}]", observer, Observer)
        check_batches("training", training)
        if validation is not None:
            check_batches("validation", validation)
        for name, source in (("training", training), ("validation", validation)):
            if source is not None:
                check_size(f"{name}.batches_per_epoch", source.batches_per_epoch)
        check_size("accumulate", accumulate)
        check_size("validations", validations)
        if patience is not None:
            check_size("patience", patience)
        if clip is not None:
            check_number("clip", clip, above_low=True)
        if clip is not None and optimizer.needs_closure:
            raise ArgumentError(
                f"clip: expected None with {type(optimizer).__name__}, "
                f"which needs the loss's own gradient, got {clip}"
            )
        if target is not None:
            check_finite("target", target)
        if settings is not None:
            check_kind("settings", settings, Mapping)
        for name, each in (settings or {}).items():
            if not isinstance(each, int | float | str | None):
                raise ArgumentError(f"settings: expected numbers and texts, got {name}={each!r}")
        self.model = model
        self.optimizer = optimizer
        self.training = training
        self.validation = validation
        self.budget = budget.in_steps(training.batches_per_epoch / accumulate)
        self.objective = objective_of(model, objective)
        self.schedule = make_schedule(schedule, optimizer, measure.higher_is_better)
        self.clip = math.inf if clip is None else clip
        self.accumulate = accumulate
        self.ema = ema
        self.validations = validations
        self.patience = patience
        self.target = target
        self.measure = measure
        self.observers = observers
        self.checkpoints = checkpoints
        self.settings = dict(settings or {})
        for name, needs_validation in (
            ("patience", patience is not None),
            ("target", target is not None),
            ("schedule", isinstance(self.schedule, Plateau)),
        ):
            if needs_validation and validation is None:
                raise ArgumentError(f"{name}: needs a validation part, got none")
        if checkpoints is not None:
            self._check_all_is_saved()

        self._state: Any = None
        self._speed = Speed()
        self._since_validation = Mean()
        self._step_number = 0
        self._seconds = 0.0  # after the last step or validation
        self._used = 0.0  # after the last step
        self._best: tuple[int, float] | None = None  # step and value
        self._without_gain = 0
        self._outcome: Outcome | None = None
        self._begun = 0.0

    # -- what is called from outside -----------------------------------------------------------

    def fit(self) -> Outcome:
        """Train from the beginning.

        Called again without ``checkpoints``, it goes on with what an interrupted run has left.

        Raises:
            TrainingError: the loss or a gradient stopped being finite.
            DTypeError: the objective returns something else than a `Loss` of a Tensor.
            RunError: a checkpoint of another run is where this one's would go; or this trainer was
                cut short before it had saved one, so that its model is no longer at the beginning.
            OSError: something could not be written; what was saved before is whole.
        """
        with self._sole_use():
            if self.checkpoints is not None and os.path.exists(self.checkpoints.path):
                raise RunError(
                    f"{self.checkpoints.path}: of a run that can be resumed; "
                    "choose another folder or remove it"
                )
            self._check_is_fresh()
            return self._fit(resumed=self._step_number > 0)

    def resume(self, path: str | os.PathLike[str] | None = None) -> Outcome:
        """Go on from a checkpoint, or from the beginning where a folder has none yet.

        ``path`` is a checkpoint or the folder it is in; by default where ``checkpoints`` are.
        Everything that was given to the constructor must be as it was. A finished run is left
        alone, and its outcome returned.

        Raises:
            RunError: the checkpoint is damaged, or of a run with another model or set up otherwise;
                nothing was loaded then. Or there is none, and this trainer was cut short before it
                had saved one.
        """
        if path is None:
            if self.checkpoints is None:
                raise ArgumentError("path: expected one, as there are no checkpoints")
            path = self.checkpoints.folder
            os.makedirs(path, exist_ok=True)
        with self._sole_use():
            found = find_checkpoint(path)
            if found is None:
                self._check_is_fresh()
            else:
                self._load(found)
            return self._outcome or self._fit(resumed=True)

    def evaluate(self, batches: Batches) -> dict[str, float]:
        """The mean "loss" and metrics over one ordered pass, in evaluation mode."""
        return evaluate(self.model, batches, self.objective)

    # -- the loop ------------------------------------------------------------------------------

    def _fit(self, resumed: bool) -> Outcome:
        with contextlib.ExitStack() as closing:
            for observer in self.observers:
                closing.callback(observer.close)
            start = Start(self.measure, resumed, self._step_number, self._used)
            for observer in self.observers:
                observer.on_start(start)
            return self._run()

    def _run(self) -> Outcome:
        self.model.train()
        self._begun = time.perf_counter() - self._seconds
        if self.checkpoints is not None:
            self.checkpoints.begin(self._step_number)
        with InterruptFlag() as interrupt:
            while not (self._is_over() or interrupt.requested):
                before = self._used
                self._step()
                gained = self._is_due(before) and self._validate()
                if self.checkpoints and (gained or self.checkpoints.due(self._step_number)):
                    self._save()
            interrupted = interrupt.requested
            if interrupted:
                # Before the validation that only an interrupted run makes.
                self._save()
            if (
                self.validation is not None
                and self._since_validation.count
                and (self._best is None or not interrupted)
            ):
                self._validate()
            outcome = self._make_outcome(interrupted)
            for observer in self.observers:
                observer.on_finish(outcome)
            if not interrupted:
                self._outcome = outcome
                self._save()
        return outcome

    def _is_over(self) -> bool:
        # Asked again before each step: with a budget in time, validation uses it up as well.
        used = self.budget.used(self._step_number, self._elapsed())
        return used >= 1.0 or self._is_stopped_early()

    def _is_stopped_early(self) -> bool:
        if self.patience is not None and self._without_gain >= self.patience:
            return True
        if self.target is None or self._best is None:
            return False
        return not self.measure.is_better(self.target, self._best[1])

    def _is_due(self, before: float) -> bool:
        """Whether a validation is: each is at a fixed share of the budget, the last at its end."""
        if self.validation is None or self._used >= 1.0:
            return False
        return math.floor(self._used * self.validations) > math.floor(before * self.validations)

    def _elapsed(self) -> float:
        return time.perf_counter() - self._begun

    def _step(self) -> None:
        begun = time.perf_counter()
        self.schedule.before_step(self.budget.used(self._step_number, self._elapsed()))
        if self.optimizer.needs_closure:
            mean, norm = self._step_with_closure()
        else:
            mean, norm = self._gradients()
            self.optimizer.step()
        if self.ema is not None:
            self.ema.update()

        self._step_number += 1
        self._speed.add(mean.count, time.perf_counter() - begun)
        self._seconds = self._elapsed()
        self._used = self.budget.used(self._step_number, self._seconds)
        means = mean.means()
        self._since_validation.add_means(mean.count, means)
        step = Step(
            step=self._step_number,
            epoch=self._epoch(),
            used=self._used,
            seconds=self._seconds,
            loss=means.pop("loss"),
            metrics=means,
            gradient_norm=norm,
            learning_rate=self.optimizer.param_groups[0]["lr"],
            items=mean.count,
            items_per_second=self._speed.recent,
        )
        for observer in self.observers:
            observer.on_step(step)

    def _step_with_closure(self) -> tuple[Mean, float]:
        """Let the optimiser look around; mean, norm and carried state are of where it began."""
        state, random = self._state, rng.get_state()
        begun: tuple[Mean, float, Any] | None = None

        def closure() -> float:
            nonlocal begun
            self._state = state
            rng.set_state(random)
            try:
                mean, norm = self._gradients()
            except TrainingError:
                if begun is None:
                    raise
                return math.inf  # a place to come back from
            if begun is None:
                begun = mean, norm, self._state
            return mean.means()["loss"]

        self.optimizer.step(closure)
        assert begun is not None
        mean, norm, self._state = begun
        return mean, norm

    def _gradients(self) -> tuple[Mean, float]:
        """Make the gradients of the next step's batches; their means, and the gradients' norm."""
        self.optimizer.zero_grad()
        self.model.zero_grad()  # also of what the optimiser does not train
        mean = Mean()
        first = 0
        for place in range(self.accumulate):
            batch = self.training.batch(self._step_number * self.accumulate + place)
            loss = loss_of(self.objective, batch, None if batch.starts_epoch else self._state)
            self._state = detach_state(loss.state)
            if loss.count:
                first = first or loss.count
                self._backward(loss, batch, loss.count / first)
                value = loss.value.item() * loss.count
                mean.add(loss.count, {"loss": value, **loss.metrics})
        if not mean.count:
            raise TrainingError(f"step {self._step_number + 1}: there is no item to learn from")
        return mean, self._clip(first / mean.count)

    def _backward(self, loss: Loss, batch: Any, weight: float) -> None:
        value = loss.value.item()
        if not math.isfinite(value):
            where = culprit(self.model, [batch])
            what = f"the training loss became {value}"
            raise self._not_finite(self._step_number + 1, what, where)
        # Weights of about 1 keep the sums in range; _clip divides by their sum.
        loss.value.backward(None if self.accumulate == 1 else weight)

    def _trained(self) -> list[Tensor]:
        """The optimiser's parameters: others of the model have a gradient that nobody uses."""
        return [param for group in self.optimizer.param_groups for param in group["params"]]

    def _clip(self, scale: float) -> float:
        trained = self._trained()
        if self.accumulate > 1:
            for parameter in trained:
                if parameter.grad is not None:
                    parameter.grad.data *= scale
        norm = clip_grad_norm_(trained, self.clip)
        if not math.isfinite(norm):
            name = first_gradient_not_finite(self.model, trained)
            raise self._not_finite(self._step_number + 1, f"the gradient of {name} overflowed")
        return norm

    def _validate(self) -> bool:
        """Validate and tell; whether it is the best so far."""
        assert self.validation is not None
        with self.ema.applied() if self.ema is not None else contextlib.nullcontext():
            means = self.evaluate(self.validation)
            if not math.isfinite(means["loss"]):
                what = f"the validation loss became {means['loss']}"
                where = culprit(self.model, self.validation.epoch())
                raise self._not_finite(self._step_number, what, where)
            name = self.measure.name
            if name not in means:
                raise ArgumentError(f"measure: {name!r} is not one of {', '.join(means)}")
            value = means[name]
            # What is NaN, as a metric may be, is no gain, or nothing after it would be one.
            gained = not math.isnan(value) and (
                self._best is None or self.measure.is_better(value, self._best[1])
            )
            if gained:
                self._best = self._step_number, value
            self._without_gain = 0 if gained else self._without_gain + 1
            self._seconds = self._elapsed()
            trained = self._since_validation.means()
            self._since_validation.clear()
            validation = Validation(
                step=self._step_number,
                epoch=self._epoch(),
                used=self._used,
                seconds=self._seconds,
                loss=means.pop("loss"),
                metrics=means,
                training_value=trained.get(name, math.nan),
                training_loss=trained.pop("loss"),
                training_metrics=trained,
                value=value,
                is_best=gained,
                items_per_second=self._speed.recent,
            )
            for observer in self.observers:
                observer.on_validation(validation)
        self.schedule.after_validation(value)
        return gained

    def _epoch(self) -> float:
        return self._step_number * self.accumulate / self.training.batches_per_epoch

    def _make_outcome(self, interrupted: bool) -> Outcome:
        step, value = self._best or (0, math.nan)
        return Outcome(
            steps=self._step_number,
            epochs=self._epoch(),
            seconds=self._elapsed(),
            best_step=step,
            best_value=value,
            items_per_second=self._speed.overall,
            interrupted=interrupted,
            stopped_early=self._is_stopped_early(),
        )

    def _not_finite(self, step: int, what: str, where: str = "") -> TrainingError:
        rate = self.optimizer.param_groups[0]["lr"]
        place = f" ({where})" if where else ""
        return TrainingError(
            f"step {step}: {what} at learning rate {rate:.3g}{place}; try a lower one"
        )

    # -- saving and going on -------------------------------------------------------------------

    def _sole_use(self) -> contextlib.AbstractContextManager[None]:
        return self.checkpoints.sole_use() if self.checkpoints else contextlib.nullcontext()

    def _check_is_fresh(self) -> None:
        if self._begun and self.checkpoints is not None:
            raise RunError(
                f"{self.checkpoints.path}: this trainer was cut short before it had saved one; "
                "make the model, the optimizer and the trainer anew"
            )

    def _check_all_is_saved(self) -> None:
        known = {id(parameter) for parameter in self.model.parameters()}
        if any(id(parameter) not in known for parameter in self._trained()):
            raise ArgumentError(
                "optimizer: trains a parameter that is not the model's, "
                "so no checkpoint would hold it"
            )

    def _setup(self) -> dict[str, Any]:
        """What must be the same for a run to go on."""
        return {
            "steps": self.budget.steps,
            "seconds": self.budget.seconds,
            "batches per epoch": self.training.batches_per_epoch,
            "accumulate": self.accumulate,
            "clip": self.clip,
            "validations": self.validations,
            "patience": self.patience,
            "target": self.target,
            "optimizer": type(self.optimizer).__name__,
            "schedule": type(self.schedule).__name__,
            "ema": self.ema is not None,
            "validation": self.validation is not None,
            "measure": self.measure.name,
        }

    def _save(self) -> None:
        if self.checkpoints is None:
            return
        nest = {
            "settings": self.settings,
            "setup": self._setup(),
            "progress": {
                "step": self._step_number,
                "seconds": self._seconds,
                "used": self._used,
                "best": None if self._best is None else list(self._best),
                "without_gain": self._without_gain,
                "since_validation": self._since_validation.state_dict(),
                "speed": self._speed.state_dict(),
                "outcome": None if self._outcome is None else list(self._outcome),
            },
            "rng": rng.get_state(),
            "model": self.model.state_dict(),
            "optimizer": self.optimizer.state_dict(),
            "schedule": self.schedule.state_dict(),
            "ema": None if self.ema is None else self.ema.state_dict(),
            "carried": self._state,
            "observers": {
                name: state
                for name, observer in _named(self.observers)
                if (state := observer.state_dict())
            },
        }
        self.checkpoints.save(self._step_number, nest)

    def _load(self, path: str) -> None:
        nest = read_checkpoint(path, self.model.state_dict())
        try:
            if "settings" in nest:  # an older checkpoint has none
                _check_same(path, nest["settings"], self.settings)
            _check_same(path, nest["setup"], self._setup())
            progress = nest["progress"]
            step = int(_number(progress, "step"))
            seconds, used = _number(progress, "seconds"), _number(progress, "used", 1.0)
            best = None
            if progress["best"] is not None:
                best_step, value = progress["best"]
                best = int(best_step), float(value)
            without_gain = int(_number(progress, "without_gain"))
            since_validation, speed = Mean(), Speed()
            since_validation.load_state_dict(progress["since_validation"])
            speed.load_state_dict(progress["speed"])
            outcome = None if progress["outcome"] is None else Outcome(*progress["outcome"])
            carried = detach_state(nest["carried"])
            with contextlib.ExitStack() as undo:  # all or nothing
                for part, state in self._parts(nest):
                    before = part.state_dict()
                    part.load_state_dict(state)
                    if before:
                        undo.callback(part.load_state_dict, before)
                rng.set_state(nest["rng"])
                undo.pop_all()
        except (
            RnnkitError, ArithmeticError, AttributeError, LookupError, TypeError, ValueError
        ) as error:  # fmt: skip
            if isinstance(error, RunError):
                raise
            reason = " ".join(str(error).split())
            raise RunError(f"{path}: does not fit this run: {reason}") from None
        self._step_number, self._seconds, self._used = step, seconds, used
        self._best, self._without_gain = best, without_gain
        self._since_validation, self._speed = since_validation, speed
        self._state, self._outcome = carried, outcome

    def _parts(self, nest: Mapping[str, Any]) -> Iterator[tuple[Any, Any]]:
        """What has a state of its own, each with that in a checkpoint."""
        yield self.model, nest["model"]
        yield self.optimizer, nest["optimizer"]
        yield self.schedule, nest["schedule"]
        if self.ema is not None:
            yield self.ema, nest["ema"]
        observers = dict(nest["observers"])
        for name, observer in _named(self.observers):
            if name in observers:
                yield observer, observers[name]


def _check_same(path: str, saved: Mapping[str, Any], given: Mapping[str, Any]) -> None:
    """Raise RunError naming what differs between a checkpoint and what was given anew."""
    for name, own in given.items():
        there = saved.get(name)  # what was not yet known is as if it had not been given
        if not isinstance(there, int | float | str | None):
            raise ArgumentError(f"{name}: expected a number or a text")
        if there != own:
            raise RunError(f"{path}: of a run set up otherwise: {name}: {there} there, {own} here")


def _named(observers: Sequence[Observer]) -> list[tuple[str, Observer]]:
    """Each with its kind, and its number among those of its kind."""
    counts: dict[str, int] = {}
    named = []
    for observer in observers:
        kind = type(observer).__name__
        counts[kind] = counts.get(kind, 0) + 1
        named.append((f"{kind} {counts[kind]}", observer))
    return named


def _number(values: Mapping[str, Any], name: str, largest: float = 2.0**62) -> float:
    """``values[name]``. Raises ArgumentError unless it is a number from 0 to ``largest``."""
    value = values[name]
    if isinstance(value, bool) or not isinstance(value, int | float) or not 0 <= value <= largest:
        raise ArgumentError(f"{name}: expected a number from 0 to {largest:g}, got {value!r}")
    return value
