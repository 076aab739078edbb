"""What a forked child has to put right: it has one thread, whatever locks the others held."""

from __future__ import annotations

import os
from collections.abc import Callable
from typing import Any

count = 0
"""How many forks lie between this process and the first: what other threads held before one, nobody
releases. Read as ``forks.count``, as every layer and its backward pass do."""


def release_after_fork(lock: Any) -> None:
    """Have a forked child release it, where a thread that held it is not there to do so.

    An RLock that is held by who forks, as a signal handler may, stays so.
    """

    def release() -> None:
        if not (hasattr(lock, "_is_owned") and lock._is_owned()):
            lock._at_fork_reinit()

    in_forked_children(release)


def in_forked_children(call: Callable[[], object]) -> None:
    """Has a function called in each child, where there is such a thing as a fork."""
    if hasattr(os, "register_at_fork"):
        os.register_at_fork(after_in_child=call)


def _count_fork() -> None:
    global count
    count += 1


in_forked_children(_count_fork)
