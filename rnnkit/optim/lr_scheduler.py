"""Learning-rate schedules, by the names and the counting of ``torch.optim.lr_scheduler``.

Every schedule but ReduceLROnPlateau is a function of the epoch: the learning rate is computed
afresh from the initial one, so a run that is resumed at epoch t has exactly the rates of one that
was not interrupted. An "epoch" is one call of ``step()``, whatever the caller takes that to be.
"""

from __future__ import annotations

import math
from bisect import bisect_right
from collections.abc import Mapping
from typing import TYPE_CHECKING, Any, ClassVar

from rnnkit.checks import (
    as_float,
    check_bool,
    check_callable,
    check_choice,
    check_integer,
    check_list,
    check_number,
    check_size,
)
from rnnkit.errors import ArgumentError
from rnnkit.optim.optimizer import Optimizer

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Sequence


class _Scheduler:
    """What all schedules share: the optimiser, the count of epochs, saving and loading."""

    progress: ClassVar[tuple[str, ...]] = ("last_epoch",)

    def __init__(self, optimizer: Optimizer) -> None:
        if not isinstance(optimizer, Optimizer):
            raise TypeError(f"optimizer: expected an Optimizer, got {type(optimizer).__name__}")
        self.optimizer = optimizer
        self.last_epoch = 0

    def get_last_lr(self) -> list[float]:
        """Return the learning rate of each parameter group as it is now."""
        return [group["lr"] for group in self.optimizer.param_groups]

    def state_dict(self) -> dict[str, Any]:
        """Return how far the schedule is, JSON-able; its constructor's arguments are not part."""
        return {name: getattr(self, name) for name in self.progress}

    def load_state_dict(self, state_dict: Mapping[str, Any]) -> None:
        """Continue from ``state_dict``; ArgumentError when it is none of this schedule."""
        if not isinstance(state_dict, Mapping):
            raise ArgumentError(f"state_dict: expected a dict, got {state_dict!r}")
        if set(state_dict) != set(self.progress):
            raise ArgumentError(
                f"{type(self).__name__}: expected a state_dict with {sorted(self.progress)}, "
                f"got {sorted(state_dict)}"
            )
        for name in self.progress:
            value, own = state_dict[name], getattr(self, name)
            kind, what = (int, "an integer") if isinstance(own, int) else (int | float, "a number")
            if isinstance(value, bool) or not isinstance(value, kind):
                raise ArgumentError(
                    f"{type(self).__name__}: {name}: expected {what}, got {value!r}"
                )
        for name in self.progress:
            setattr(self, name, state_dict[name])


class LRScheduler(_Scheduler):
    """Base of the schedules that are a function of the epoch; a subclass writes ``lr_at``.

    Each group's initial learning rate is kept in its option "initial_lr". With ``last_epoch`` other
    than -1 the schedule resumes after that epoch, and the groups must have that option (a loaded
    optimiser's have).
    """

    def __init__(self, optimizer: Optimizer, last_epoch: int = -1) -> None:
        super().__init__(optimizer)
        check_integer("last_epoch", last_epoch, -1)
        for number, group in enumerate(optimizer.param_groups):
            if last_epoch != -1 and "initial_lr" not in group:
                raise ArgumentError(
                    f"last_epoch: expected -1 (param group {number} has no 'initial_lr' to resume "
                    f"from), got {last_epoch}"
                )
        self.last_epoch = last_epoch
        self.step()

    def lr_at(self, epoch: int, initial_lr: float, group: int = 0) -> float:
        """Return the learning rate of parameter group number ``group`` at ``epoch``.

        Raises ArgumentError where one of them makes no sense.
        """
        raise NotImplementedError

    def _others_at(self, epoch: int, group: int) -> dict[str, Any]:
        """The options beside the learning rate that go by the epoch."""
        return {}

    def _check(self, epoch: int, initial_lr: float, group: int) -> None:
        """What an ``lr_at`` is given."""
        check_number("epoch", epoch, below_high=True)
        check_number("initial_lr", initial_lr)
        check_integer("group", group, 0, len(self.optimizer.param_groups) - 1)

    def step(self) -> None:
        """Go to the next epoch and set the learning rates.

        Where one of them cannot be told, as by a function that raises, nothing has changed.
        """
        self._go_to(self.last_epoch + 1)

    def load_state_dict(self, state_dict: Mapping[str, Any]) -> None:
        """Continue from ``state_dict`` and set the learning rates of that epoch."""
        before = self.last_epoch
        super().load_state_dict(state_dict)
        epoch, self.last_epoch = self.last_epoch, before
        self._go_to(epoch)

    def _go_to(self, epoch: int) -> None:
        before, self.last_epoch = self.last_epoch, epoch  # which an ``lr_at`` may read
        try:
            self._set_rates()
        except BaseException:
            self.last_epoch = before
            raise

    def _set_rates(self) -> None:
        groups = self.optimizer.param_groups
        # All are known before the first is set: a function that fails leaves no half of them.
        rates = [
            self.lr_at(self.last_epoch, group.get("initial_lr", group["lr"]), number)
            for number, group in enumerate(groups)
        ]
        for rate in rates:
            check_number(f"{type(self).__name__}: lr_at({self.last_epoch})", rate, below_high=True)
        others = [self._others_at(self.last_epoch, number) for number in range(len(groups))]
        for group, rate, other in zip(groups, rates, others, strict=True):
            group.setdefault("initial_lr", group["lr"])
            group.update(other, lr=float(rate))


class LambdaLR(LRScheduler):
    """initial * lr_lambda(epoch); one function for all groups, or a list with one for each."""

    def __init__(
        self,
        optimizer: Optimizer,
        lr_lambda: Callable[[int], float] | Sequence[Callable[[int], float]],
        last_epoch: int = -1,
    ) -> None:
        self._one = lr_lambda if callable(lr_lambda) else None
        self._each = []
        if self._one is None:
            self._each = check_list("lr_lambda", lr_lambda, "a function or several")
        for position, one in enumerate(self._each):
            check_callable(f"lr_lambda[{position}]", one)
        super().__init__(optimizer, last_epoch)

    @property
    def lr_lambdas(self) -> list[Callable[[int], float]]:
        """The function of each param group."""
        if self._one is None:
            return self._each
        return [self._one] * len(self.optimizer.param_groups)

    def lr_at(self, epoch: int, initial_lr: float, group: int = 0) -> float:
        self._check(epoch, initial_lr, group)
        groups = len(self.optimizer.param_groups)  # one may have been added
        if self._one is None and len(self._each) != groups:
            raise ArgumentError(
                f"lr_lambda: expected {groups} functions, one per param group, "
                f"got {len(self._each)}"
            )
        # Not by its truth: an object that can be called may count as false.
        found = (self._each[group] if self._one is None else self._one)(epoch)
        factor = as_float(f"lr_lambda({epoch})", found)
        check_number(f"lr_lambda({epoch})", factor, below_high=True)
        return initial_lr * factor


class StepLR(LRScheduler):
    """initial * gamma ** (epoch // step_size)."""

    def __init__(
        self, optimizer: Optimizer, step_size: int, gamma: float = 0.1, last_epoch: int = -1
    ) -> None:
        check_number("step_size", step_size, low=1)
        self.step_size = step_size
        check_number("gamma", gamma)
        self.gamma = gamma
        super().__init__(optimizer, last_epoch)

    def lr_at(self, epoch: int, initial_lr: float, group: int = 0) -> float:
        self._check(epoch, initial_lr, group)
        return _scaled(initial_lr, self.gamma, epoch // self.step_size)


class MultiStepLR(LRScheduler):
    """initial * gamma ** (number of milestones that epoch has reached)."""

    def __init__(
        self,
        optimizer: Optimizer,
        milestones: Iterable[int],
        gamma: float = 0.1,
        last_epoch: int = -1,
    ) -> None:
        self.milestones = sorted(_milestones(milestones))
        check_number("gamma", gamma)
        self.gamma = gamma
        super().__init__(optimizer, last_epoch)

    def lr_at(self, epoch: int, initial_lr: float, group: int = 0) -> float:
        self._check(epoch, initial_lr, group)
        return _scaled(initial_lr, self.gamma, bisect_right(self.milestones, epoch))


class ExponentialLR(LRScheduler):
    """initial * gamma ** epoch."""

    def __init__(self, optimizer: Optimizer, gamma: float, last_epoch: int = -1) -> None:
        check_number("gamma", gamma)
        self.gamma = gamma
        super().__init__(optimizer, last_epoch)

    def lr_at(self, epoch: int, initial_lr: float, group: int = 0) -> float:
        self._check(epoch, initial_lr, group)
        return _scaled(initial_lr, self.gamma, epoch)


class CosineAnnealingLR(LRScheduler):
    """eta_min + (initial - eta_min) (1 + cos(pi epoch / T_max)) / 2.

    Loshchilov and Hutter 2017, equation 5, without restarts: after T_max the rate rises again along
    the cosine.
    """

    def __init__(
        self, optimizer: Optimizer, T_max: int, eta_min: float = 0.0, last_epoch: int = -1
    ) -> None:
        check_number("T_max", T_max, low=1)
        self.T_max = T_max
        check_number("eta_min", eta_min)
        self.eta_min = eta_min
        super().__init__(optimizer, last_epoch)

    def lr_at(self, epoch: int, initial_lr: float, group: int = 0) -> float:
        self._check(epoch, initial_lr, group)
        share = (1 + math.cos(math.pi * epoch / self.T_max)) / 2
        return self.eta_min + (initial_lr - self.eta_min) * share


class CosineAnnealingWarmRestarts(LRScheduler):
    """Cosines from the initial rate down to eta_min, one after the other.

    The first takes T_0 epochs, each further one T_mult times as many as the one before.
    Loshchilov and Hutter 2017, equation 5.
    """

    def __init__(
        self,
        optimizer: Optimizer,
        T_0: int,
        T_mult: int = 1,
        eta_min: float = 0.0,
        last_epoch: int = -1,
    ) -> None:
        self.T_0 = check_size("T_0", T_0)
        self.T_mult = check_size("T_mult", T_mult)
        check_number("eta_min", eta_min)
        self.eta_min = eta_min
        super().__init__(optimizer, last_epoch)

    def lr_at(self, epoch: int, initial_lr: float, group: int = 0) -> float:
        self._check(epoch, initial_lr, group)
        length = self.T_0
        if self.T_mult == 1:
            epoch %= length
        while epoch >= length:
            epoch -= length
            length *= self.T_mult
        share = (1 + math.cos(math.pi * epoch / length)) / 2
        return self.eta_min + (initial_lr - self.eta_min) * share


class OneCycleLR(LRScheduler):
    """Up from max_lr / div_factor to max_lr, then down to that start / final_div_factor.

    For a schedule that is stepped after every batch: total_steps of them, or epochs *
    steps_per_epoch; the first pct_start of them go up. The rate stays where it has come to after
    the last. The optimiser's own rate is not used. With ``cycle_momentum`` the momentum, or the
    first of the betas, goes the other way, from max_momentum to base_momentum and back.
    Smith and Topin 2017, arXiv 1708.07120; without its third phase, as PyTorch's default.

    Args:
        max_lr, base_momentum, max_momentum: a number, or a list with one for each group.
        anneal_strategy: "cos" or "linear".
    """

    def __init__(
        self,
        optimizer: Optimizer,
        max_lr: float | Sequence[float],
        total_steps: int | None = None,
        epochs: int | None = None,
        steps_per_epoch: int | None = None,
        pct_start: float = 0.3,
        anneal_strategy: str = "cos",
        cycle_momentum: bool = True,
        base_momentum: float | Sequence[float] = 0.85,
        max_momentum: float | Sequence[float] = 0.95,
        div_factor: float = 25.0,
        final_div_factor: float = 1e4,
        last_epoch: int = -1,
    ) -> None:
        if total_steps is None:
            if epochs is None or steps_per_epoch is None:
                raise ArgumentError(
                    "total_steps: expected an integer, or epochs and steps_per_epoch, got None"
                )
            total_steps = check_size("epochs", epochs) * check_size(
                "steps_per_epoch", steps_per_epoch
            )
        self.total_steps = check_size("total_steps", total_steps)
        check_number("pct_start", pct_start, high=1.0)
        check_choice("anneal_strategy", anneal_strategy, ("cos", "linear"))
        check_number("div_factor", div_factor, low=1)
        check_number("final_div_factor", final_div_factor, low=1)
        self.pct_start = pct_start
        self.anneal_strategy = anneal_strategy
        self.cycle_momentum = check_bool("cycle_momentum", cycle_momentum)
        self.max_lr = max_lr
        self.base_momentum = base_momentum
        self.max_momentum = max_momentum
        self.div_factor = div_factor
        self.final_div_factor = final_div_factor
        super().__init__(optimizer, last_epoch)

    def lr_at(self, epoch: int, initial_lr: float, group: int = 0) -> float:
        self._check(epoch, initial_lr, group)
        top = self._of_group("max_lr", group)
        start = top / self.div_factor
        return self._annealed(epoch, start, top, start / self.final_div_factor)

    def _set_rates(self) -> None:
        if self.cycle_momentum and not {"momentum", "betas"} & {*self.optimizer.defaults}:
            raise ArgumentError(
                f"cycle_momentum: expected False for {type(self.optimizer).__name__}, which has "
                "no momentum, got True"
            )
        super()._set_rates()

    def _others_at(self, epoch: int, group: int) -> dict[str, Any]:
        if not self.cycle_momentum:
            return {}
        betas = self.optimizer.param_groups[group].get("betas")
        high = math.inf if betas is None else 1.0
        most = self._of_group("max_momentum", group, high)
        least = self._of_group("base_momentum", group, high)
        momentum = self._annealed(epoch, most, least, most)
        return {"momentum": momentum} if betas is None else {"betas": (momentum, betas[1])}

    def _annealed(self, epoch: int, start: float, turn: float, end: float) -> float:
        """What goes from ``start`` to ``turn`` and on to ``end``, at ``epoch``."""
        turning = self.pct_start * self.total_steps - 1
        if epoch <= turning:
            a, b, done = start, turn, epoch / turning if turning else 0.0
        else:
            first = max(turning, 0.0)
            rest = self.total_steps - 1 - first
            a, b, done = turn, end, min((epoch - first) / rest, 1.0) if rest else 1.0
        if self.anneal_strategy == "linear":
            return a + (b - a) * done
        return b + (a - b) * (1 + math.cos(math.pi * done)) / 2

    def _of_group(self, name: str, group: int, high: float = math.inf) -> float:
        """A number from 0 to below ``high``."""
        number = _one_per_group(name, getattr(self, name), self.optimizer)[group]
        check_number(name, number, high=high, below_high=True)
        return float(number)


class LinearLR(LRScheduler):
    """initial times a factor that goes in a line from start_factor to end_factor.

    It gets there in total_iters epochs and stays.
    The usual warm-up: ``SequentialLR(opt, [LinearLR(opt, 0.01, total_iters=w),
    CosineAnnealingLR(opt, n - w)], [w])``.
    """

    def __init__(
        self,
        optimizer: Optimizer,
        start_factor: float = 1.0 / 3,
        end_factor: float = 1.0,
        total_iters: int = 5,
        last_epoch: int = -1,
    ) -> None:
        check_number("start_factor", start_factor, high=1.0, above_low=True)
        check_number("end_factor", end_factor, high=1.0)
        check_number("total_iters", total_iters, low=1)
        self.start_factor = start_factor
        self.end_factor = end_factor
        self.total_iters = total_iters
        super().__init__(optimizer, last_epoch)

    def lr_at(self, epoch: int, initial_lr: float, group: int = 0) -> float:
        self._check(epoch, initial_lr, group)
        done = min(epoch, self.total_iters) / self.total_iters
        return initial_lr * (self.start_factor + (self.end_factor - self.start_factor) * done)


class SequentialLR(LRScheduler):
    """One schedule after another; ``schedulers[k + 1]`` starts at ``milestones[k]``.

    Each starts at its own epoch 0. Only this schedule is stepped, saved and loaded; the ones it is
    made of serve as functions of the epoch. The momentum of a OneCycleLR among them moves while it
    is its turn.
    """

    def __init__(
        self,
        optimizer: Optimizer,
        schedulers: Sequence[LRScheduler],
        milestones: Sequence[int],
        last_epoch: int = -1,
    ) -> None:
        self.schedulers = check_list("schedulers", schedulers, "several schedules")
        self.milestones = _milestones(milestones)
        for position, scheduler in enumerate(self.schedulers):
            name = f"schedulers[{position}]"
            if not isinstance(scheduler, LRScheduler):
                raise TypeError(
                    f"{name}: expected a schedule that is a function of the epoch, "
                    f"got {type(scheduler).__name__}"
                )
            if scheduler.optimizer is not optimizer:
                raise ArgumentError(f"{name}: expected the same optimizer, got another one")
        if not self.schedulers or len(self.milestones) != len(self.schedulers) - 1:
            raise ArgumentError(
                "milestones: expected one between each two schedulers, "
                f"got {len(self.milestones)} for {len(self.schedulers)}"
            )
        if any(
            later <= earlier
            for earlier, later in zip([0, *self.milestones], self.milestones, strict=False)
        ):
            raise ArgumentError(
                f"milestones: expected them positive and rising, got {self.milestones}"
            )
        super().__init__(optimizer, last_epoch)

    def lr_at(self, epoch: int, initial_lr: float, group: int = 0) -> float:
        self._check(epoch, initial_lr, group)
        scheduler, own = self._at(epoch)
        return scheduler.lr_at(own, initial_lr, group)

    def _others_at(self, epoch: int, group: int) -> dict[str, Any]:
        scheduler, own = self._at(epoch)
        return scheduler._others_at(own, group)

    def _at(self, epoch: int) -> tuple[LRScheduler, int]:
        """The schedule whose turn it is, and its own epoch."""
        position = bisect_right(self.milestones, epoch)
        return self.schedulers[position], epoch - (self.milestones[position - 1] if position else 0)


class ReduceLROnPlateau(_Scheduler):
    """Multiply the rates by ``factor`` after more than ``patience`` epochs without a gain.

    ``mode`` is "min" or "max". With threshold_mode "rel" a metric improves when it is below best *
    (1 - threshold) (above best * (1 + threshold) for "max"), with "abs" when it is below best -
    threshold (above best + threshold). After a reduction, ``cooldown`` epochs pass before bad ones
    count again. A rate is not taken below ``min_lr`` (a number, or a list with one for each group),
    nor changed by ``eps`` or less. A NaN metric is no improvement.
    """

    progress = ("last_epoch", "best", "num_bad_epochs", "cooldown_counter")

    def __init__(
        self,
        optimizer: Optimizer,
        mode: str = "min",
        factor: float = 0.1,
        patience: int = 10,
        threshold: float = 1e-4,
        threshold_mode: str = "rel",
        cooldown: int = 0,
        min_lr: float | Sequence[float] = 0.0,
        eps: float = 1e-8,
    ) -> None:
        super().__init__(optimizer)
        check_number("factor", factor, high=1.0, below_high=True)
        check_number("patience", patience)
        check_number("cooldown", cooldown)
        check_number("threshold", threshold)
        check_number("eps", eps)
        check_choice("mode", mode, ("min", "max"))
        check_choice("threshold_mode", threshold_mode, ("rel", "abs"))
        self.mode = mode
        self.factor = factor
        self.patience = patience
        self.threshold = threshold
        self.threshold_mode = threshold_mode
        self.cooldown = cooldown
        self.min_lr = min_lr
        for floor in self._floors():
            check_number("min_lr", floor)
        self.eps = eps
        self.best = math.inf if mode == "min" else -math.inf
        self.num_bad_epochs = 0
        self.cooldown_counter = 0

    def step(self, metrics: Any) -> None:
        """Take the metric of one more epoch, and reduce the rates when it is time.

        ``metrics`` is a number or a scalar Tensor.
        """
        metric = as_float("metrics", metrics)
        self._floors()
        self.last_epoch += 1
        if self._improves(metric):
            self.best = metric
            self.num_bad_epochs = 0
        else:
            self.num_bad_epochs += 1
        if self.cooldown_counter > 0:
            self.cooldown_counter -= 1
            self.num_bad_epochs = 0
        if self.num_bad_epochs > self.patience:
            self._reduce()
            self.cooldown_counter = self.cooldown
            self.num_bad_epochs = 0

    def _improves(self, metric: float) -> bool:
        sign = -1 if self.mode == "min" else 1
        if self.threshold_mode == "rel":
            bar = self.best * (1 + sign * self.threshold)
        else:
            bar = self.best + sign * self.threshold
        return metric < bar if self.mode == "min" else metric > bar

    def _floors(self) -> list[float]:
        return _one_per_group("min_lr", self.min_lr, self.optimizer)

    def _reduce(self) -> None:
        for group, floor in zip(self.optimizer.param_groups, self._floors(), strict=True):
            lowered = max(group["lr"] * self.factor, floor)
            if group["lr"] - lowered > self.eps:
                group["lr"] = lowered


def _scaled(initial_lr: float, gamma: float, exponent: float) -> float:
    """initial * gamma ** exponent; ArgumentError where floats do not reach so far."""
    try:
        rate = initial_lr * float(gamma) ** exponent
    except OverflowError:
        rate = math.inf
    if not math.isfinite(rate):
        raise ArgumentError(
            f"gamma: expected one whose power {exponent} is in the range of a float, got {gamma!r}"
        )
    return rate


def _milestones(milestones: Any) -> list[int]:
    listed = check_list("milestones", milestones, "several epochs")
    return [check_integer(f"milestones[{i}]", epoch) for i, epoch in enumerate(listed)]


def _one_per_group(name: str, value: Any, optimizer: Optimizer) -> list[float]:
    """A number, or a list of them, for each param group, of which one may have been added."""
    groups = len(optimizer.param_groups)
    if not isinstance(value, (list, tuple)):
        return [value] * groups
    if len(value) != groups:
        raise ArgumentError(f"{name}: expected {groups}, one per param group, got {len(value)}")
    return list(value)
