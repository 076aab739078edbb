"""Exponential moving averages of parameters.

After each update t = 1, 2, ... with parameters p:

    d  <- decay, or min(decay, (1 + t) / (10 + t)) with warm-up
    m  <- m + (1 - d) (p - m),   m = p at first

Averaged iterates generalise better than the last one: Polyak and Juditsky 1992, "Acceleration of
stochastic approximation by averaging", with equal weights; an exponential one forgets the start.
The warm-up lets the average follow the fast changes of the first steps.
"""

from __future__ import annotations

import contextlib
from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

import numpy as np

from rnnkit.autograd import Tensor
from rnnkit.autograd.unchangeable import check_writeable, unchangeable
from rnnkit.checks import check_bool, check_list, check_number
from rnnkit.errors import ArgumentError, ShapeError
from rnnkit.optim.optimizer import (
    Scratch,
    check_parameter,
    loaded_array,
    loaded_by_index,
    loaded_count,
)

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator


class EMA:
    """Averages of parameters, kept beside them, for evaluation and for the final model.

    Call ``update()`` after each step of the optimiser; evaluate within ``with ema.applied():``.

    Args:
        parameters: leaf Tensors, each once. The averages start at their values.
        decay: from 0 (the average is the last value) to 1 (it never moves).
        warm_up: whether the decay is lower at first.

    Attributes:
        updates: how many there were.
        averages: list of arrays, one per parameter.

    Raises:
        ArgumentError: no parameters, one given twice, a non-leaf, or decay outside [0, 1].
        TypeError: something is not a Tensor.
    """

    def __init__(
        self, parameters: Iterable[Tensor], decay: float = 0.999, *, warm_up: bool = True
    ) -> None:
        if isinstance(parameters, Tensor):
            raise TypeError("parameters: expected an iterable of Tensors, got a single Tensor")
        check_number("decay", decay, high=1.0)
        self.decay = float(decay)
        self.warm_up = check_bool("warm_up", warm_up)
        self.updates = 0
        self._parameters = check_list("parameters", parameters, "an iterable of Tensors")
        if not self._parameters:
            raise ArgumentError("parameters: expected at least one parameter, got none")
        known: set[int] = set()
        for position, param in enumerate(self._parameters):
            check_parameter(param, position, "parameters")
            if id(param) in known:
                raise ArgumentError(f"parameters[{position}] is given twice")
            known.add(id(param))
        self.averages = [np.array(param.data, order="C") for param in self._parameters]
        self._scratch = Scratch()
        self._is_applied = False

    def update(self) -> None:
        """Move the averages towards the parameters, in place.

        What is not finite goes into the averages as the arithmetic has it, without a warning.
        Raises ArgumentError within ``applied()``, where the parameters are the averages, and
        ShapeError for a parameter whose ``data`` has another shape now; nothing is changed then.
        """
        if self._is_applied:
            raise ArgumentError("EMA.update: expected to be called outside of applied()")
        averages = [self._average(i) for i in range(len(self._parameters))]
        self.updates += 1
        decay = self.decay
        if self.warm_up:
            decay = min(decay, (1 + self.updates) / (10 + self.updates))
        with np.errstate(all="ignore"):
            for param, average in zip(self._parameters, averages, strict=True):
                if decay == 0:
                    # Not by the difference, which rounding or an infinite average would spoil.
                    np.copyto(average, param.data)
                    continue
                work = self._scratch.like(average, "work")
                np.subtract(param.data, average, out=work)
                work *= 1 - decay
                average += work

    @contextlib.contextmanager
    def applied(self) -> Iterator[None]:
        """The parameters hold the averages within the ``with`` block, and after it what they held.

        They get their values back however the block is left; what it wrote into them is lost.
        Raises ArgumentError when it is within such a block already, and for frozen parameters.
        """
        if self._is_applied:
            raise ArgumentError("EMA.applied: the averages are in the parameters already")
        for i, param in enumerate(self._parameters):
            check_writeable(f"parameters[{i}]", param.data)
        kept = [param.data.copy() for param in self._parameters]
        self._is_applied = True
        try:
            for i, param in enumerate(self._parameters):
                np.copyto(param.data, self._average(i))
            yield
        finally:
            self._is_applied = False
            for param, values in zip(self._parameters, kept, strict=True):
                if param.data.flags.writeable:
                    np.copyto(param.data, values)
                else:  # frozen within the block, which it stays
                    param.data = unchangeable(values.astype(param.data.dtype, copy=False))

    def _average(self, i: int) -> np.ndarray:
        """In the dtype of the parameter, which Module.to() may have changed."""
        average, data = self.averages[i], self._parameters[i].data
        if average.shape != data.shape:
            raise ShapeError(
                f"parameters[{i}]: expected shape {average.shape}, as its average has, "
                f"got {data.shape}"
            )
        if average.dtype != data.dtype:
            average = self.averages[i] = average.astype(data.dtype)
        return average

    def state_dict(self) -> dict[str, Any]:
        """Return {"decay", "warm_up", "updates", "averages": {index: array copy}}."""
        return {
            "decay": self.decay,
            "warm_up": self.warm_up,
            "updates": self.updates,
            "averages": {i: average.copy() for i, average in enumerate(self.averages)},
        }

    def load_state_dict(self, state_dict: Mapping[str, Any]) -> None:
        """Take over what `state_dict` returned.

        Arrays are copied and get the dtype of their parameter. Indices may be ints or, after a trip
        through JSON, their strings. Raises ArgumentError listing everything that does not fit;
        nothing is changed in that case.
        """
        if not isinstance(state_dict, Mapping):
            raise ArgumentError(f"EMA: state_dict: expected a dict, got {state_dict!r}")
        expected = ("decay", "warm_up", "updates", "averages")
        problems = [f"missing {name}" for name in expected if name not in state_dict]
        problems += [f"unexpected {name}" for name in state_dict if name not in expected]
        arrays = loaded_by_index("averages", state_dict.get("averages", {}), problems)
        loaded = [
            loaded_array(
                f"averages {i}", arrays.pop(i, None), param.data.shape, param.data.dtype, problems
            )
            for i, param in enumerate(self._parameters)
        ]
        problems += [f"averages {i}: there are {len(self._parameters)} parameters" for i in arrays]
        updates = loaded_count("updates", state_dict.get("updates", 0), problems)
        if problems:
            raise ArgumentError(
                "EMA: state_dict does not fit, nothing was loaded:\n  " + "\n  ".join(problems)
            )
        check_number("decay", state_dict["decay"], high=1.0)
        self.warm_up = check_bool("warm_up", state_dict["warm_up"])
        self.decay = float(state_dict["decay"])
        self.updates = updates
        self.averages = loaded

    def __repr__(self) -> str:
        return (
            f"EMA({len(self.averages)} parameters, decay={self.decay}, warm_up={self.warm_up}, "
            f"updates={self.updates})"
        )
