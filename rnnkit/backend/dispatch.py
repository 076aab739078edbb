"""The one place that answers "which path runs this call, and why"."""

from __future__ import annotations

import os
import warnings
from collections import deque
from contextvars import ContextVar, Token

from rnnkit.backend import extension
from rnnkit.errors import ArgumentError, BackendError

MODES = ("auto", "native", "python")
REMEMBERED_CALLS = 64


class Decision:
    """The path chosen for one native-capable call.

    Attributes:
        op: what was called, with its sizes.
        path: "fused" (a hand-written kernel runs the whole of it), "python" (the tape over time)
            or, for matrix products, "numpy".
        reason: why, in one line.
    """

    __slots__ = ("_op", "path", "reason")

    def __init__(self, op: str | tuple[str, tuple[object, ...]], path: str, reason: str) -> None:
        # A template and its values are put together only when someone asks.
        self._op = op
        self.path = path
        self.reason = reason

    @property
    def op(self) -> str:
        return self._op if isinstance(self._op, str) else self._op[0].format(*self._op[1])

    def __repr__(self) -> str:
        return f"{self.op}: {self.path} ({self.reason})"


_decisions: deque[Decision] = deque(maxlen=REMEMBERED_CALLS)
_override: ContextVar[str | None] = ContextVar("rnnkit_backend", default=None)
_warned_missing = False


def _checked(name: str, source: str) -> str:
    if name not in MODES:
        raise ArgumentError(f"{source}: expected one of {', '.join(MODES)}, got {name!r}")
    return name


_default = _checked(os.environ.get("RNNKIT_BACKEND") or "auto", "RNNKIT_BACKEND")


class backend:  # noqa: N801 - used as `with rk.backend("python"):`
    """Context manager that chooses the path for the calls inside it (this thread or task only).

    Args:
        name: "auto" (native where it can run, else Python, and :func:`why` tells), "native" (raises
            BackendError with the reason where it cannot run) or "python" (always the tape).

    Raises:
        ArgumentError: ``name`` is none of these.
    """

    __slots__ = ("_name", "_tokens")

    def __init__(self, name: str) -> None:
        self._name = _checked(name, "backend")
        self._tokens: list[Token[str | None]] = []

    def __enter__(self) -> backend:
        self._tokens.append(_override.set(self._name))
        return self

    def __exit__(self, *exception: object) -> None:
        _override.reset(self._tokens.pop())


def set_backend(name: str) -> None:
    """Choose the path for the whole process: "auto", "native" or "python"; see :class:`backend`."""
    global _default
    _default = _checked(name, "set_backend")


def get_backend() -> str:
    """The mode in force here: "auto", "native" or "python"."""
    return _override.get() or _default


def why(last: int | None = None) -> list[Decision]:
    """Which path the last native-capable calls took and the reason, oldest first.

    Args:
        last: return only this many of the most recent calls (at most 64 are remembered).
    """
    recent = list(_decisions)
    return recent if last is None else recent[max(0, len(recent) - last) :]


def record(op: str | tuple[str, tuple[object, ...]], path: str, reason: str) -> Decision:
    """Remember which path a call took, for :func:`why`.

    ``op`` is a text, or a template and its values.
    """
    decision = Decision(op, path, reason)
    _decisions.append(decision)
    return decision


def decide(op: str, kernel: str | None, dtype: str) -> Decision:
    """Choose the path for a call and remember the choice.

    Args:
        op: the call, as :func:`why` shall show it.
        kernel: name of the fused kernel that could run it, or None where there is none.
        dtype: name of the element type of the call's arrays.

    Raises:
        BackendError: "native" is in force and cannot run this call.
    """
    mode = get_backend()
    if mode == "python":
        return record(op, "python", "backend 'python' is in force")
    obstacle = _obstacle(kernel, dtype)
    if obstacle is None:
        isa = extension.native().isa_in_use()  # type: ignore[union-attr]
        return record(op, "fused", f"fused {kernel} kernel, {isa}")
    if mode == "native":
        raise BackendError(f"{op}: backend 'native' is in force but {obstacle}")
    _warn_once_if_missing()
    return record(op, "python", obstacle)


def _obstacle(kernel: str | None, dtype: str) -> str | None:
    native = extension.native()
    if native is None:
        return f"the native extension could not be loaded ({extension.load_error()})"
    if kernel is None:
        return "there is no fused kernel for this cell"
    if not native.has_kernel(kernel, dtype):
        return f"there is no fused kernel {kernel!r} for dtype {dtype}"
    return None


def _warn_once_if_missing() -> None:
    global _warned_missing
    if extension.native() is None and not _warned_missing:
        _warned_missing = True
        warnings.warn(
            "rnnkit's native extension could not be loaded; recurrent layers run on the much "
            f"slower Python path ({extension.load_error()})",
            RuntimeWarning,
            stacklevel=2,
        )
