"""Which path a call takes, and why; the only door to the native kernels.

The package itself is callable, so that ``rk.backend("python")`` is a context manager while
``rnnkit.backend`` stays importable as a package.
"""

from __future__ import annotations

import sys
from types import ModuleType

from rnnkit.backend.dispatch import (
    Decision,
    backend,
    decide,
    get_backend,
    kernels_for,
    record,
    set_backend,
    why,
)
from rnnkit.backend.extension import DTYPE_NAMES, config, get_num_threads, native, set_num_threads

__all__ = [
    "DTYPE_NAMES",
    "Decision",
    "backend",
    "config",
    "decide",
    "get_backend",
    "get_num_threads",
    "kernels_for",
    "native",
    "record",
    "set_backend",
    "set_num_threads",
    "why",
]


class _CallablePackage(ModuleType):
    def __call__(self, name: str) -> backend:
        return backend(name)


sys.modules[__name__].__class__ = _CallablePackage
