"""The process that measures: one per thread count, results as JSON lines on standard output.

Thread counts of BLAS and OpenMP are read from the environment when their libraries load, so each
count gets a process of its own.
"""

from __future__ import annotations

import json
import os
import subprocess
import sys
from collections.abc import Callable, Iterator
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

THREAD_VARIABLES = (
    "RNNKIT_NUM_THREADS",
    "OMP_NUM_THREADS",
    "OPENBLAS_NUM_THREADS",
    "MKL_NUM_THREADS",
    "VECLIB_MAXIMUM_THREADS",
)
SUITES = {"cells": "suite_cells"}


@dataclass(frozen=True)
class Options:
    """What one worker measures."""

    threads: int
    size: str
    dtypes: list[str]
    peers: list[str]
    only: list[str]
    suites: list[str]


class WorkerError(RuntimeError):
    """A worker ended early; its own message is already on standard error."""


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


def _emit(record: dict[str, Any]) -> None:
    print(json.dumps(record), flush=True)


def _suites(options: Options) -> Iterator[Callable[[Options, Callable[..., None]], None]]:
    from importlib import import_module

    for name in options.suites:
        yield import_module(f".{SUITES[name]}", __package__).run


def main() -> int:
    options = Options(**json.loads(sys.argv[1]))
    from .machine import describe
    from .sides import missing_peers

    machine = describe(options.threads, options.peers)
    if not machine["rnnkit"]["native"]:
        print(
            "benchmarks: rnnkit's native extension is missing here, so there is nothing to "
            f"compare ({machine['rnnkit']['native_error']})",
            file=sys.stderr,
        )
        return 1
    if absent := missing_peers(options.peers):
        print(f"benchmarks: not installed: {', '.join(absent)}", file=sys.stderr)
        return 1
    _emit({"machine": machine})
    for run in _suites(options):
        run(options, _emit)
    return 0


if __name__ == "__main__":
    sys.exit(main())
