"""Whether operations are recorded, and how their array code is run; both per thread."""

from __future__ import annotations

from _thread import _local
from contextvars import Context
from functools import wraps
from typing import TYPE_CHECKING, Any, TypeVar

import numpy as np

from rnnkit.errors import ArgumentError

if TYPE_CHECKING:
    from collections.abc import Callable
    from typing import Self

_F = TypeVar("_F", bound="Callable[..., Any]")
_GENERATOR = 0x20 | 0x80 | 0x200  # CO_GENERATOR, CO_COROUTINE, CO_ASYNC_GENERATOR


def _run_with_errstate(function: Callable[..., Any], *args: Any, **kwargs: Any) -> Any:
    with np.errstate(all="ignore"):
        return function(*args, **kwargs)


class _ThreadState(_local):
    """What holds in a thread.

    `enabled`: operations are recorded. `entered`: the grad modes in force, each with what held
    before. `tracer`: takes the calls of primitives in their stead, as
    ``tracer.call(primitive, inputs, params)``. `run(f, *args)`: call f with NumPy's warnings off.

    NaN and inf propagate through a network in silence, as in every tensor library. Entering
    np.errstate for each op would cost more than a small op itself; since NumPy 2 the error state
    is a context variable, and running in a prepared context is nearly free.
    """

    enabled: bool = True
    entered: list[tuple[GradMode, bool]]
    tracer: Any = None
    run: Callable[..., Any]

    def __init__(self) -> None:
        self.entered = []
        if int(np.__version__.partition(".")[0]) < 2:
            self.run = _run_with_errstate
            return
        quiet = Context()
        quiet.run(np.seterr, all="ignore")
        self.run = quiet.run


state = _ThreadState()


def is_grad_enabled() -> bool:
    """True where operations on tensors that require a gradient are recorded (the default)."""
    return state.enabled


class GradMode:
    """Context manager and decorator that switches recording in the calling thread.

    One object may be entered by several threads at once, and again inside itself.
    """

    __slots__ = ("_enabled",)

    def __init__(self, enabled: bool) -> None:
        self._enabled = enabled

    def __enter__(self) -> Self:
        # With the thread, not the object, which other threads may enter.
        state.entered.append((self, state.enabled))
        state.enabled = self._enabled
        return self

    def __exit__(self, *exc_info: object) -> None:
        entered = state.entered
        # The last, but for generators, which may be left in another order, or another thread.
        for i in range(len(entered) - 1, -1, -1):
            if entered[i][0] is self:
                before = entered.pop(i)[1]
                if i < len(entered):  # what is left later must not bring this mode back
                    entered[i] = (entered[i][0], before)
                state.enabled = before
                return

    def __call__(self, function: _F) -> _F:
        code = getattr(function, "__code__", None)
        if code is not None and code.co_flags & _GENERATOR:
            raise ArgumentError(
                f"{function.__name__} is a generator or coroutine: a decorator would end the grad "
                "mode before its body runs; use a with-block inside it"
            )

        @wraps(function)
        def in_mode(*args: Any, **kwargs: Any) -> Any:
            with GradMode(self._enabled):
                return function(*args, **kwargs)

        return in_mode  # type: ignore[return-value]


class no_grad(GradMode):  # noqa: N801 (PyTorch's name)
    """Operations inside are not recorded: ``with rk.no_grad():`` or ``@rk.no_grad()``."""

    __slots__ = ()

    def __init__(self) -> None:
        super().__init__(False)


class enable_grad(GradMode):  # noqa: N801 (PyTorch's name)
    """Operations inside are recorded again, also within `no_grad`."""

    __slots__ = ()

    def __init__(self) -> None:
        super().__init__(True)
