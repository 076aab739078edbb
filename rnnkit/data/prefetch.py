"""Batches prepared on a thread of their own while the ones before are used."""

from __future__ import annotations

import os
from collections import deque
from collections.abc import Callable, Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from types import TracebackType
from typing import Any

from rnnkit.checks import check_size
from rnnkit.data.batches import B, Batches, PositionedBatches, check_batches
from rnnkit.errors import ArgumentError

_END: Any = object()


class Prefetched(PositionedBatches[B]):
    """The batches of another source, the same ones at the same positions, made ahead of time.

    Asked for a batch, it hands it out and has its thread make the following ``depth``; positions
    taken in turn are found ready. Any other order works too and costs one batch not made ahead.
    What the source raises comes out of the call for that batch. ``close()``, or the end of a
    ``with`` block, ends the thread; so does dropping the object, and none is ever waited for
    longer than a batch takes to make when Python ends. A forked child, in which the thread is not
    there, has one of its own; a pass that ``epoch`` has begun ends there with RuntimeError.

    It pays where making a batch takes long beside a step of training and leaves the interpreter
    alone meanwhile: memory-mapped corpora on a slow disk, large padded batches, resampling with
    NumPy. It does not where batches are sliced from memory (handing one over costs some 50
    microseconds), nor where Python code makes them: threads share one interpreter.

    The source must not be used by others meanwhile, unless it is safe on several threads; those
    of this package are.
    """

    def __init__(self, batches: Batches[B], depth: int = 1) -> None:
        """``batches``: the source; ``depth``: how many batches are held ready, each in memory.

        Raises ArgumentError when ``depth`` is not positive.
        """
        self.source = batches
        self.depth = check_size("depth", depth)
        self.batches_per_epoch = check_batches("batches", batches).batches_per_epoch
        self._executor: ThreadPoolExecutor | None = None
        self._ahead: deque[tuple[int, Future[B]]] = deque()
        self._closed = False
        self._process = os.getpid()

    def __repr__(self) -> str:
        return f"Prefetched({self.source!r}, depth={self.depth})"

    def __enter__(self) -> Prefetched[B]:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self.close()

    def batch(self, position: int) -> B:
        """The source's batch at ``position``; the following ones are begun."""
        self._place(position)
        self._begin_anew_in_a_child()
        while self._ahead and self._ahead[0][0] != position:
            self._ahead.popleft()[1].cancel()
        for following in range(position + len(self._ahead), position + self.depth + 1):
            self._ahead.append((following, self._submit(self.source.batch, following)))
        return self._ahead.popleft()[1].result()

    def epoch(self) -> Iterator[B]:
        """The source's ordered pass, made ahead likewise."""
        source = self.source.epoch()
        ahead: deque[Future[B]] = deque()
        process = os.getpid()
        try:
            while True:
                if os.getpid() != process:
                    raise RuntimeError("epoch: the process that began this pass goes on with it")
                while len(ahead) <= self.depth:
                    ahead.append(self._submit(next, source, _END))
                found = ahead.popleft().result()
                if found is _END:
                    return
                yield found
        finally:
            for future in ahead:
                future.cancel()

    def close(self) -> None:
        """End the thread. Batches already handed out stay good; more are refused."""
        self._begin_anew_in_a_child()
        self._closed = True
        self._ahead.clear()
        if self._executor is not None:
            self._executor.shutdown(wait=True, cancel_futures=True)
            self._executor = None

    def _submit(self, function: Callable[..., Any], *arguments: Any) -> Future[Any]:
        if self._closed:
            raise ArgumentError("batches: asked of a Prefetched that was closed")
        self._begin_anew_in_a_child()
        if self._executor is None:
            self._executor = ThreadPoolExecutor(1, thread_name_prefix="rnnkit-prefetch")
        return self._executor.submit(function, *arguments)

    def _begin_anew_in_a_child(self) -> None:
        """What its parent's thread was to make will never be there."""
        if self._process != os.getpid():
            self._process, self._executor = os.getpid(), None
            self._ahead.clear()
