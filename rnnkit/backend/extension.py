"""The native extension as found at import: whether it loaded, its processor, its threads."""

from __future__ import annotations

import os
import platform
import sys
from importlib import import_module
from types import ModuleType
from typing import Any

import numpy as np

from rnnkit.checks import check_integer
from rnnkit.errors import ArgumentError, BackendError

MAX_THREADS = 256

# The dtypes that kernels take, by the names they know; NumPy takes microseconds to spell one.
DTYPE_NAMES = {np.dtype(np.float32): "float32", np.dtype(np.float64): "float64"}

_extension: ModuleType | None = None
_load_error: str | None = None
_num_threads = 1
_keeps_freed_memory = False


def native() -> ModuleType | None:
    """The extension module, or None where it could not be loaded (see :func:`load_error`)."""
    return _extension


def load_error() -> str | None:
    """Why the extension is missing, in one line; None where it is there."""
    return _load_error


def get_num_threads() -> int:
    """The number of threads that native kernels may use."""
    return _num_threads


def set_num_threads(n: int) -> None:
    """Let native kernels use up to ``n`` threads (1 to 256); results have the same bits for any.

    Raises:
        ArgumentError: ``n`` is not a whole number from 1 to 256.
    """
    global _num_threads
    _num_threads = check_integer("n", n, 1, MAX_THREADS)


def config() -> dict[str, Any]:
    """What is running: versions, compiler, instruction sets built, supported and in use, threads.

    ``native`` tells whether the compiled extension was loaded; where it was not, ``native_error``
    says why and the entries about the compiler and the instruction sets are None or empty.
    ``compiled_python`` tells whether the Python that every call goes through was compiled too.
    ``keeps_freed_memory`` tells whether malloc was asked to keep what a step frees for the next.
    """
    from rnnkit.backend import dispatch

    built: list[str] = []
    supported: list[str] = []
    compiler = isa = None
    version = None
    if _extension is not None:
        built = _extension.isa_built()
        supported = _extension.isa_supported()
        isa = _extension.isa_in_use()
        compiler = _extension.compiler()
        version = _extension.version()
    return {
        "rnnkit": _package_version(),
        "python": platform.python_version(),
        "numpy": np.__version__,
        "machine": platform.machine(),
        "native": _extension is not None,
        "native_error": _load_error,
        "native_version": version,
        "compiler": compiler,
        "compiled_python": not str(dispatch.__file__).endswith(".py"),
        "isa_built": built,
        "isa_supported": supported,
        "isa_in_use": isa,
        "num_threads": _num_threads,
        "cpu_count": _available_cpus(),
        "keeps_freed_memory": _keeps_freed_memory,
        "backend": dispatch.get_backend(),
    }


def _package_version() -> str:
    return sys.modules["rnnkit"].__version__


def _available_cpus() -> int:
    if hasattr(os, "sched_getaffinity"):
        return len(os.sched_getaffinity(0))
    return os.cpu_count() or 1


def _threads_from_environment() -> int:
    text = os.environ.get("RNNKIT_NUM_THREADS")
    if text is None or text == "":
        return min(_available_cpus(), MAX_THREADS)
    if not text.isdecimal() or not 1 <= int(text) <= MAX_THREADS:
        raise ArgumentError(
            f"RNNKIT_NUM_THREADS must be a whole number from 1 to {MAX_THREADS}, got {text!r}"
        )
    return int(text)


def _may_keep_memory() -> bool:
    """Not where the user has tuned malloc, or asked for none of it."""
    switch = os.environ.get("RNNKIT_KEEP_MEMORY") or "1"
    if switch not in ("0", "1"):
        raise ArgumentError(f"RNNKIT_KEEP_MEMORY must be 0 or 1, got {switch!r}")
    return switch == "1" and not any(
        name == "GLIBC_TUNABLES" or name.startswith("MALLOC_") for name in os.environ
    )


def _load() -> None:
    global _extension, _load_error, _num_threads, _keeps_freed_memory
    may_keep_memory = _may_keep_memory()
    _num_threads = _threads_from_environment()
    try:
        _native: Any = import_module("rnnkit.backend._native")
    except ImportError as error:
        _load_error = f"{type(error).__name__}: {error}".splitlines()[0]
        return
    try:
        _native.choose_isa(os.environ.get("RNNKIT_ISA") or None)
    except ValueError as error:
        raise BackendError(f"RNNKIT_ISA: {error}") from None
    _extension = _native
    _keeps_freed_memory = may_keep_memory and _native.keep_freed_memory()


_load()
