"""The one place that answers "which path runs this call, and why"."""

from __future__ import annotations

import os
from _thread import _local
from collections import deque
from collections.abc import Callable
from typing import Any, TypeAlias

from rnnkit.backend import extension
from rnnkit.checks import check_integer
from rnnkit.errors import ArgumentError, BackendError, warn

MODES = ("auto", "native", "python")
REMEMBERED_CALLS = 64


Op: TypeAlias = "str | tuple[str, tuple[object, ...]]"
"""A call as it shall be shown: a text, or a template and its values, for calls that are many."""


class Decision:
    """The path chosen for one native-capable call.

    Attributes:
        op: what was called, with its sizes.
        path: "fused" (a hand-written kernel runs the whole of it), "program" (a traced cell runs
            natively), "python" (NumPy, for a layer on the tape over time) or, for matrix products,
            "numpy".
        reason: why, in one line.
    """

    __slots__ = ("_op", "path", "reason")

    def __init__(self, op: Op, path: str, reason: str) -> None:
        # A template and its values are put together only when someone asks.
        self._op = op
        self.path = path
        self.reason = reason

    @property
    def op(self) -> str:
        return _text(self._op)

    def __repr__(self) -> str:
        return f"{self.op}: {self.path} ({self.reason})"


class _ThreadOverride(_local):
    """The mode that `backend` has put in force in this thread.

    `entered`: those in force, each with the mode before it. Not a context variable: the array code
    of ops, which asks too, runs in a context of its own.
    """

    mode: str | None = None
    entered: list[tuple[backend, str | None]]

    def __init__(self) -> None:
        self.entered = []


_decisions: deque[Decision] = deque(maxlen=REMEMBERED_CALLS)
_latest: dict[str, Decision] = {}  # by op, for the ops whose calls are not told apart
_override = _ThreadOverride()
_warned_missing = False


def _checked(name: str, source: str) -> str:
    if not isinstance(name, str) or name not in MODES:
        raise ArgumentError(f"{source}: expected one of {', '.join(MODES)}, got {name!r}")
    return name


_default = _checked(os.environ.get("RNNKIT_BACKEND") or "auto", "RNNKIT_BACKEND")


class backend:  # noqa: N801 - used as `with rk.backend("python"):`
    """Context manager that chooses the path for the calls inside it (this thread only).

    Args:
        name: "auto" (a fused kernel or a traced program where one can run, else Python, and
            :func:`why` tells), "native" (raises BackendError with the reason where neither can run)
            or "python" (always the tape).

    Raises:
        ArgumentError: ``name`` is none of these.
    """

    __slots__ = ("_name",)

    def __init__(self, name: str) -> None:
        self._name = _checked(name, "backend")

    def __enter__(self) -> backend:
        _override.entered.append((self, _override.mode))
        _override.mode = self._name
        return self

    def __exit__(self, *exception: object) -> None:
        # As a grad mode does, see there.
        entered = _override.entered
        for i in range(len(entered) - 1, -1, -1):
            if entered[i][0] is self:
                before = entered.pop(i)[1]
                if i < len(entered):
                    entered[i] = (entered[i][0], before)
                _override.mode = before
                return


def set_backend(name: str) -> None:
    """Choose the path for the whole process: "auto", "native" or "python"; see :class:`backend`."""
    global _default
    _default = _checked(name, "set_backend")


def get_backend() -> str:
    """The mode in force here: "auto", "native" or "python"."""
    return _override.mode or _default


def why(last: int | None = None) -> list[Decision]:
    """Which path the last native-capable calls took and the reason, oldest first.

    The calls of layers and matrix products come last, each of the latest 64, beyond which they are
    forgotten; before them stands the latest of every other kind (an optimiser's step, a loss,
    dropout).

    Args:
        last: return only this many from the end.
    """
    recent = [*_latest.copy().values(), *_decisions.copy()]
    count = len(recent) if last is None else check_integer("last", last, 0)
    return recent[max(0, len(recent) - count) :]


def record(op: Op, path: str, reason: str) -> Decision:
    """Remember which path a call took, for :func:`why`."""
    decision = Decision(op, path, reason)
    _decisions.append(decision)
    return decision


def kernels_for(op: str, obstacle: str | None = None, required: bool = True) -> Any:
    """The native extension if it is to run ``op``, else None: the caller then runs its NumPy code.

    For what a training step does besides recurrent layers. ``op`` is a name without sizes, and only
    its latest call is remembered for :func:`why`, so that the layers' calls stay in view.

    Args:
        op: the call, as :func:`why` shall show it.
        obstacle: why the kernel cannot take this call, or None.
        required: whether "native" insists on the kernel.

    Raises:
        BackendError: "native" is in force and cannot run this call, though it is required.
    """
    mode = get_backend()
    native = extension.native()
    if mode == "python":
        reason = "backend 'python' is in force"
    else:
        if native is None:
            obstacle = _missing()
        if obstacle is None:
            _remember_latest(op, "fused", f"native kernel, {native.isa_in_use()}")  # type: ignore[union-attr]
            return native
        if mode == "native" and required:
            raise BackendError(f"{op}: backend 'native' is in force but {obstacle}")
        reason = obstacle
    _remember_latest(op, "python", reason)
    return None


def _remember_latest(op: str, path: str, reason: str) -> None:
    _latest.pop(op, None)  # what is put in again comes last
    _latest[op] = Decision(op, path, reason)


def decide(
    op: Op, kernel: str | None, dtype: str, program: Callable[[], str | None] | None = None
) -> Decision:
    """Choose the path for a call and remember the choice.

    Args:
        op: the call, as :func:`why` shall show it.
        kernel: name of the fused kernel that could run it, or None where there is none.
        dtype: name of the element type of the call's arrays.
        program: where there is no kernel, tells what keeps a traced program from running it, or
            None.

    Raises:
        BackendError: "native" is in force and cannot run this call.
    """
    mode = get_backend()
    if mode == "python":
        return record(op, "python", "backend 'python' is in force")
    native: Any = extension.native()
    obstacle = _missing() if native is None else _obstacle(native, kernel, dtype)
    if obstacle is None:
        return record(op, "fused", f"fused {kernel} kernel, {native.isa_in_use()}")
    if kernel is None and program is not None and native is not None:
        obstacle_to_program = program()
        if obstacle_to_program is None:
            return record(op, "program", f"traced program, {native.isa_in_use()}")
        obstacle += f", and no program: {obstacle_to_program}"
    if mode == "native":
        raise BackendError(f"{_text(op)}: backend 'native' is in force but {obstacle}")
    _warn_once_if_missing()
    return record(op, "python", obstacle)


def _text(op: Op) -> str:
    return op if isinstance(op, str) else op[0].format(*op[1])


_able: set[tuple[str, str]] = set()  # kernel and dtype of calls that met no obstacle


def _obstacle(native: Any, kernel: str | None, dtype: str) -> str | None:
    if kernel is None:
        return "there is no fused kernel for this cell"
    if (kernel, dtype) in _able:
        return None
    if not native.has_kernel(kernel, dtype):
        return f"there is no fused kernel {kernel!r} for dtype {dtype}"
    _able.add((kernel, dtype))
    return None


def _missing() -> str:
    return f"the native extension could not be loaded ({extension.load_error()})"


def _warn_once_if_missing() -> None:
    global _warned_missing
    if extension.native() is None and not _warned_missing:
        _warned_missing = True
        warn(
            "rnnkit's native extension could not be loaded; recurrent layers run on the much "
            f"slower Python path ({extension.load_error()})",
            RuntimeWarning,
        )
