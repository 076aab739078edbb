"""Limited-memory BFGS (Nocedal and Wright 2006, "Numerical Optimization", algorithms 7.4 and 7.5).

With gradients g, steps s_i = x_{i+1} - x_i, changes y_i = g_{i+1} - g_i and rho_i = 1 / (y_i s_i),
the pairs (s, y) of the last few iterations stand for the inverse Hessian:

    q <- -g
    newest to oldest:       a_i <- rho_i s_i q,   q <- q - a_i y_i
    q <- q s y / (y y) of the newest
    oldest to newest:       b <- rho_i y_i q,     q <- q + (a_i - b) s_i
    x <- x + t q

t is lr, or what a line search finds. It fits the whole problem, or large batches, not small noisy
ones: the loss must be the same function at every call.
"""

from __future__ import annotations

import math
from typing import TYPE_CHECKING, Any

import numpy as np

from rnnkit.autograd import Tensor, enable_grad
from rnnkit.autograd.tensor import plain_array
from rnnkit.autograd.unchangeable import check_writeable
from rnnkit.checks import check_callable, check_number, check_size
from rnnkit.errors import ArgumentError, ShapeError
from rnnkit.optim.line_search import MOST_EVALUATIONS, Point, strong_wolfe
from rnnkit.optim.optimizer import Optimizer, loaded_array, loaded_count, loaded_number

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Mapping

    from rnnkit.autograd.tensor import Array

LEAST_CURVATURE = 1e-10
"""Pairs with a smaller y s are left out: the inverse Hessian must stay positive."""

_COUNTS = ("n_iter", "func_evals")
_NUMBERS = ("t", "H_diag", "prev_loss")
_VECTORS = ("d", "prev_flat_grad")
_HISTORIES = ("old_dirs", "old_stps", "ro")


class LBFGS(Optimizer):
    """``torch.optim.LBFGS``: same options, defaults and update; the line search is the book's.

    ``step(closure)`` makes up to ``max_iter`` iterations. It stops early once ``closure`` has been
    called ``max_eval`` times (by default 5 / 4 of max_iter), where no element of the gradient
    exceeds ``tolerance_grad``, or where the step or the change of the loss falls below
    ``tolerance_change``. ``history_size`` pairs (s, y) are kept. ``line_search_fn`` is None, for
    steps of length lr, or "strong_wolfe", for a length that is searched from lr on.

    All parameters are one vector: there is one group, and one dtype. The state of the method stands
    with the first parameter, under PyTorch's names; ``old_dirs`` (k, n) are the changes y and
    ``old_stps`` (k, n) the steps s, oldest first.

    Raises ArgumentError for a second group, parameters of two dtypes and impossible options.
    """

    counts_steps = False
    needs_closure = True

    def __init__(
        self,
        params: Iterable[Tensor] | Iterable[dict[str, Any]],
        lr: float = 1.0,
        max_iter: int = 20,
        max_eval: int | None = None,
        tolerance_grad: float = 1e-7,
        tolerance_change: float = 1e-9,
        history_size: int = 100,
        line_search_fn: str | None = None,
    ) -> None:
        check_size("max_iter", max_iter)
        super().__init__(
            params,
            {
                "lr": lr,
                "max_iter": max_iter,
                "max_eval": max_iter * 5 // 4 if max_eval is None else max_eval,
                "tolerance_grad": tolerance_grad,
                "tolerance_change": tolerance_change,
                "history_size": history_size,
                "line_search_fn": line_search_fn,
            },
        )

    def add_param_group(self, param_group: Mapping[str, Any]) -> None:
        if self.param_groups:
            raise ArgumentError("params: LBFGS has one group for all parameters, got a second one")
        super().add_param_group(param_group)

    def check_options(self, group: Mapping[str, Any]) -> None:
        for name in ("lr", "tolerance_grad", "tolerance_change"):
            check_number(name, group[name], below_high=True)
        for name in ("max_iter", "max_eval", "history_size"):
            check_size(name, group[name])
        if group["line_search_fn"] not in (None, "strong_wolfe"):
            raise ArgumentError(
                "line_search_fn: expected None or 'strong_wolfe', "
                f"got {group['line_search_fn']!r}"
            )

    def step(self, closure: Callable[[], Any] | None = None) -> Any:
        """Make up to ``max_iter`` iterations; return what ``closure`` returned first.

        ``closure`` clears the gradients, computes the loss, calls ``backward()`` and returns the
        loss; it is called with gradients recorded. Parameters that have no gradient stay as they
        are. With a loss or a gradient that is not finite nothing is changed.

        Raises ArgumentError without a closure, for parameters of two dtypes, and for one that is
        frozen.
        """
        if closure is None:
            raise ArgumentError("closure: expected a function that makes the loss anew, got None")
        check_callable("closure", closure)
        for position, param in enumerate(self._parameters()):
            check_writeable(f"params[{position}]", param.data)
        with enable_grad(), np.errstate(all="ignore"):
            return self._iterate(closure)

    def _iterate(self, closure: Callable[[], Any]) -> Any:
        (group,) = self.param_groups
        first = closure()
        here = Point(0.0, _number(first), 0.0, self._gradient())
        state = self._own_state(here.gradient)
        last_evaluation = state["func_evals"] + group["max_eval"]
        state["func_evals"] += 1
        if not _is_finite(here) or _largest(here.gradient) <= group["tolerance_grad"]:
            return first
        for iteration in range(group["max_iter"]):
            is_last = iteration + 1 == group["max_iter"]
            direction = self._next_direction(state, here, group["history_size"])
            slope = float(direction @ here.gradient)
            if not slope < -group["tolerance_change"]:
                break
            start = here._replace(t=0.0, slope=slope)
            length = group["lr"]
            if state["n_iter"] == 1:
                length *= min(1.0, 1.0 / float(np.abs(start.gradient).sum()))
            if length == 0:
                break
            go, evaluate = self._line(closure, state)
            if group["line_search_fn"] is not None:
                tolerance = group["tolerance_change"] / _largest(direction)
                most = min(MOST_EVALUATIONS, last_evaluation - state["func_evals"])
                here = strong_wolfe(evaluate, start, length, tolerance, most)
                go(here.t)
            elif not is_last:
                here = evaluate(length)
            else:
                # The next call makes loss and gradient anew: nothing would look at these.
                go(length)
                here = start._replace(t=length)
            state["t"] = here.t
            if (
                is_last
                or state["func_evals"] >= last_evaluation
                or not _is_finite(here)
                or _largest(here.gradient) <= group["tolerance_grad"]
                or _largest(direction) * here.t <= group["tolerance_change"]
                or abs(here.loss - start.loss) < group["tolerance_change"]
            ):
                break
        return first

    def _next_direction(self, state: dict[str, Any], here: Point, history_size: int) -> Array:
        """What the state knows after it has learnt of ``here``; its step is not made yet."""
        gradient = here.gradient
        if state["n_iter"] > 0:
            change = gradient - state["prev_flat_grad"]
            step = state["d"] * state["t"]
            curvature = float(change @ step)
            if curvature > LEAST_CURVATURE:
                newest = (change, step, np.array(1 / curvature, gradient.dtype))
                for name, item in zip(_HISTORIES, newest, strict=True):
                    kept = state[name][max(0, len(state[name]) + 1 - history_size) :]
                    state[name] = np.concatenate([kept, item[None]])
                state["H_diag"] = curvature / float(change @ change)
        direction = _two_loops(state, gradient)
        state["n_iter"] += 1
        state.update(d=direction, t=0.0, prev_flat_grad=gradient, prev_loss=here.loss)
        return direction

    def _line(
        self, closure: Callable[[], Any], state: dict[str, Any]
    ) -> tuple[Callable[[float], None], Callable[[float], Point]]:
        """Functions that move the parameters to a length along the direction from where they are.

        The second calls the closure there.
        """
        direction = state["d"]
        origin = [param.data.copy() for param in self._parameters()]

        def go(t: float) -> None:
            first = 0
            for param, values in zip(self._parameters(), origin, strict=True):
                part = direction[first : first + values.size].reshape(values.shape)
                np.multiply(part, t, out=param.data)
                param.data += values
                first += values.size

        def evaluate(t: float) -> Point:
            go(t)
            state["func_evals"] += 1
            loss = _number(closure())
            gradient = self._gradient()
            return Point(t, loss, float(direction @ gradient), gradient)

        return go, evaluate

    # -- vectors of all parameters -----------------------------------------------------------

    def _gradient(self) -> Array:
        """The gradients of all parameters as a new vector, 0 where there is none."""
        return np.concatenate(
            [
                np.zeros(param.data.size, param.data.dtype)
                if param.grad is None
                else param.grad.data.reshape(-1)
                for param in self._parameters()
            ]
        )

    def _own_state(self, gradient: Array) -> dict[str, Any]:
        """The state, new at the first call, in the dtype of the parameters."""
        dtypes = sorted({param.data.dtype.name for param in self._parameters()})
        if len(dtypes) > 1:
            raise ArgumentError(f"params: expected parameters of one dtype, got {dtypes}")
        state = self.state.setdefault(0, {})
        if not state:
            state.update(dict.fromkeys(_COUNTS, 0))
            state.update(dict.fromkeys(_NUMBERS, 0.0), H_diag=1.0)
            state.update({name: np.zeros_like(gradient) for name in _VECTORS})
            state.update(
                {name: np.zeros((0, *shape), gradient.dtype) for name, shape in self._rows()}
            )
        for name, value in state.items():
            if isinstance(value, np.ndarray):
                state[name] = value.astype(gradient.dtype, copy=False)
        return state

    def _rows(self) -> list[tuple[str, tuple[int, ...]]]:
        """The histories, and what one pair adds to each."""
        size = sum(param.data.size for param in self._parameters())
        return [("old_dirs", (size,)), ("old_stps", (size,)), ("ro", ())]

    # -- loading -----------------------------------------------------------------------------

    def _loaded_state(
        self, index: int, saved: Mapping[str, Any], data: np.ndarray, problems: list[str]
    ) -> dict[str, Any]:
        if index:
            problems.append(f"state {index}: expected all of it in state 0")
            return {}
        known = (*_COUNTS, *_NUMBERS, *_VECTORS, *_HISTORIES)
        wrong = [f"state 0: missing {name}" for name in known if name not in saved]
        wrong += [f"state 0: unexpected {name}" for name in saved if name not in known]
        if wrong:
            problems += wrong
            return {}
        state: dict[str, Any] = {
            name: loaded_count(f"state {index}: {name}", saved[name], problems)
            for name in _COUNTS
        }
        state |= {
            name: loaded_number(f"state {index}: {name}", saved[name], problems, -math.inf)
            for name in _NUMBERS
        }
        try:
            pairs = plain_array("ro", saved["ro"]).size
        except ShapeError:  # told below
            pairs = 0
        rows = self._rows()
        shapes = dict.fromkeys(_VECTORS, rows[0][1])
        shapes |= {name: (pairs, *shape) for name, shape in rows}
        for name, shape in shapes.items():
            state[name] = loaded_array(f"state 0: {name}", saved[name], shape, data.dtype, problems)
        return state


def _two_loops(state: dict[str, Any], gradient: Array) -> Array:
    """Minus the inverse Hessian times the gradient: algorithm 7.4."""
    changes, steps, ro = (state[name] for name in _HISTORIES)
    factors = [0.0] * len(ro)
    q = -gradient
    for i in reversed(range(len(ro))):
        factors[i] = float(steps[i] @ q) * float(ro[i])
        q -= factors[i] * changes[i]
    q *= state["H_diag"]
    for i in range(len(ro)):
        q += (factors[i] - float(changes[i] @ q) * float(ro[i])) * steps[i]
    return q


def _number(loss: Any) -> float:
    if isinstance(loss, Tensor) and loss.size == 1:
        return float(loss.item())
    if not isinstance(loss, float | int | np.number):
        raise ArgumentError(f"closure: expected it to return the loss, got {loss!r}")
    return float(loss)


def _largest(vector: Array) -> float:
    return float(np.abs(vector).max(initial=0.0))


def _is_finite(point: Point) -> bool:
    return math.isfinite(point.loss) and bool(np.isfinite(point.gradient).all())
