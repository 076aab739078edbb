"""The process that measures: one per thread count, results as JSON lines on standard output.

Thread counts of BLAS and OpenMP are read from the environment when their libraries load, so each
count gets a process of its own.
"""

from __future__ import annotations

import json
import os
import subprocess
import sys
import time
import traceback
from collections.abc import Callable, Iterator
from dataclasses import asdict, dataclass, replace
from importlib import import_module
from pathlib import Path
from types import ModuleType
from typing import Any, NamedTuple

THREAD_VARIABLES = (
    "RNNKIT_NUM_THREADS",
    "OMP_NUM_THREADS",
    "OPENBLAS_NUM_THREADS",
    "MKL_NUM_THREADS",
    "VECLIB_MAXIMUM_THREADS",
    "PJRT_NPROC",
)


class Suite(NamedTuple):
    """A module here with ``run``, ``line`` and ``tables``.

    ``every_count``: it runs for each thread count, and not only for the largest.
    ``by_cell``: naming cells is enough to run it.
    """

    module: str
    every_count: bool = False
    by_cell: bool = False


SUITES = {
    "limits": Suite("suite_limits", every_count=True),
    "cells": Suite("suite_cells", every_count=True, by_cell=True),
    "stream": Suite("suite_stream", by_cell=True),
    "matmul": Suite("suite_matmul"),
    "results": Suite("suite_results", by_cell=True),
    "language": Suite("suite_language"),
    "scaling": Suite("suite_scaling", by_cell=True),
    "footprint": Suite("suite_footprint"),
    "sequences": Suite("suite_sequences", by_cell=True),
    "programs": Suite("suite_programs"),
}


@dataclass(frozen=True)
class Options:
    """What one worker measures; no cells means every cell."""

    threads: int
    size: str
    dtypes: list[str]
    peers: list[str]
    cells: list[str]
    suites: list[str]


class WorkerError(RuntimeError):
    """A worker ended early; its own message is already on standard error."""


def suite_module(name: str) -> ModuleType:
    return import_module(f".{SUITES[name].module}", __package__)


def measure(options: Options) -> Iterator[dict[str, Any]]:
    """Starts a worker and yields what it emits: first the machine, then rows."""
    environment = os.environ | dict.fromkeys(THREAD_VARIABLES, str(options.threads))
    process = subprocess.Popen(
        [sys.executable, "-m", "benchmarks.worker", json.dumps(asdict(options))],
        stdout=subprocess.PIPE,
        text=True,
        env=environment,
        cwd=Path(__file__).parent.parent,
    )
    assert process.stdout is not None
    try:
        with process.stdout:
            for line in process.stdout:
                yield json.loads(line)
    finally:
        if process.poll() is None and sys.exc_info()[0] is not None:
            process.terminate()
        code = process.wait()
    if code != 0:
        raise WorkerError(f"the worker for {options.threads} thread(s) failed with status {code}")


def _emitter() -> Callable[[dict[str, Any]], None]:
    """Writes records to standard output, and lets nobody else: a library may print there, too."""
    records = os.fdopen(os.dup(sys.stdout.fileno()), "w")
    os.dup2(sys.stderr.fileno(), sys.stdout.fileno())
    return lambda record: print(json.dumps(record), file=records, flush=True)


def _usable(peers: list[str]) -> list[str]:
    """Those whose side can be imported; of the others it is said why not."""
    from .sides import peer_module

    found = []
    for peer in peers:
        try:
            peer_module(peer)
        except Exception as error:
            print(
                f"benchmarks: {peer} is left out: {type(error).__name__}: {error}", file=sys.stderr
            )
        else:
            found.append(peer)
    return found


def main() -> int:
    emit = _emitter()
    options = Options(**json.loads(sys.argv[1]))
    from .machine import describe

    options = replace(options, peers=_usable(options.peers))
    machine = describe(options.threads, options.peers)
    if not machine["rnnkit"]["native"]:
        print(
            "benchmarks: rnnkit's native extension is missing here, so there is nothing to "
            f"compare ({machine['rnnkit']['native_error']})",
            file=sys.stderr,
        )
        return 1
    emit({"machine": machine})
    for name in options.suites:
        start = time.perf_counter()
        try:
            suite_module(name).run(options, emit)
        except Exception as error:  # the other suites need not go without their figures
            traceback.print_exc()
            failed = f"{type(error).__name__}: {error}"
            emit({"suite": name, "threads": options.threads, "failed": failed})
        emit({"took": {"suite": name, "seconds": time.perf_counter() - start}})
    return 0


if __name__ == "__main__":
    sys.exit(main())
