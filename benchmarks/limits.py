"""The limits of this machine, measured by a small C file that is compiled on the spot.

    FMA peak           multiply-adds from registers, nothing else
    read bandwidth     a buffer of a given size read over and over, each thread its own part

Without a C compiler there are no limits, and everything else still runs.
"""

from __future__ import annotations

import ctypes
import os
import shutil
import subprocess
import tempfile
from collections.abc import Callable
from functools import cache
from pathlib import Path

import numpy as np

SOURCE = Path(__file__).with_name("limits.c")
FLAGS = ["-O2", "-ffp-contract=fast", "-shared", "-fPIC", "-pthread"]
# Clang halves vectors of 64 bytes on many processors unless it is told not to.
FOR_THIS_PROCESSOR = [
    ["-march=native", "-mprefer-vector-width=512"],
    ["-march=native"],
    ["-mcpu=native"],
]
SAMPLES, SAMPLE_SECONDS = 3, 0.0015
# Operations or bytes a second that any machine can do, to begin with.
SLOWEST = 1e9
USUAL_CACHES = {1: 32 << 10, 2: 1 << 20, 3: 16 << 20}


class LimitsError(RuntimeError):
    """The limits can't be measured here; the message says why."""


class Limits:
    """Measures for a number of threads.

    A reading is the best of a few samples of a millisecond or two: a limit is what can be reached,
    and whatever disturbs a sample only lowers it.
    """

    def __init__(self, library: ctypes.CDLL, threads: int) -> None:
        self.threads = threads
        self._library = library
        self._rounds: dict[object, int] = {}

    def fma(self, dtype: str) -> float:
        """Floating-point operations a second, two for a multiply-add."""
        size = np.dtype(dtype).itemsize
        work = self.threads * self._library.flops_per_round(size)
        return self._best_rate(
            dtype, work, lambda rounds: self._library.time_fma(size, self.threads, rounds)
        )

    def read(self, size: int) -> float:
        """Bytes a second when all threads together read ``size`` bytes, again and again."""
        grain = self._library.read_granularity()
        part = max(1, round(size / self.threads / grain)) * grain
        data = _buffer(self.threads * part)
        return self._best_rate(
            part,
            self.threads * part,
            lambda rounds: self._library.time_read(data, part, self.threads, rounds),
        )

    def _best_rate(self, key: object, work: int, timed: Callable[[int], float]) -> float:
        """``work`` a second, done in each of as many rounds as fill a sample."""
        rounds = self._rounds.get(key) or max(1, round(SAMPLE_SECONDS * SLOWEST / work))
        rates: list[float] = []
        while len(rates) < SAMPLES:
            seconds = timed(rounds)
            if seconds < 0:
                raise LimitsError(f"{self.threads} threads could not be started")
            if seconds >= SAMPLE_SECONDS:
                rates.append(rounds * work / seconds)
            else:
                growth = 1.2 * SAMPLE_SECONDS / max(seconds, SAMPLE_SECONDS / 10)
                rounds = round(rounds * growth) + 1
        self._rounds[key] = rounds
        return max(rates)


@cache
def limits(threads: int) -> Limits:
    """Raises LimitsError where there is no compiler."""
    return Limits(_library(), threads)


def limits_or_none(threads: int) -> Limits | None:
    try:
        return limits(threads)
    except LimitsError:
        return None


def caches() -> dict[int, int]:
    """Bytes of the data caches by level, as one core sees them; usual sizes where unknown."""
    found = {}
    for index in sorted(Path("/sys/devices/system/cpu/cpu0/cache").glob("index*")):
        try:
            level, kind, size = (
                (index / name).read_text().strip() for name in ("level", "type", "size")
            )
        except OSError:
            continue
        if kind != "Instruction" and size.endswith("K"):
            found[int(level)] = int(size[:-1]) << 10
    return USUAL_CACHES | found


def level_of(size: int) -> str:
    """The nearest memory that holds ``size`` bytes for one core: L1, L2, L3 or DRAM."""
    for level, room in sorted(caches().items()):
        if size <= room:
            return f"L{level}"
    return "DRAM"


def typical_sizes(threads: int) -> dict[str, int]:
    """For each memory, the bytes that all threads together read to be well inside it."""
    room = caches()
    return {
        "L1": threads * room[1] // 2,
        "L2": threads * max(room[2] // 2, min(2 * room[1], room[2])),
        "L3": max(room[3] // 2, min(2 * threads * room[2], room[3])),
        "DRAM": 4 * max(room.values()),
    }


_data: np.ndarray | None = None


def _buffer(size: int) -> int:
    """The address of at least ``size`` bytes, on a page boundary; one buffer serves all."""
    global _data
    page = 4096
    if _data is None or len(_data) < size + page:
        _data = np.ones(size + page, np.uint8)
    address = int(_data.__array_interface__["data"][0])
    return address + -address % page


@cache
def _library() -> ctypes.CDLL:
    named = os.environ.get("CC", "").split()
    compiler = named or [c for c in map(shutil.which, ("cc", "gcc", "clang")) if c][:1]
    if not compiler:
        raise LimitsError("no C compiler was found (cc, gcc, clang, or CC in the environment)")
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder, "limits.so")
        for target in FOR_THIS_PROCESSOR:
            command = [*compiler, *FLAGS, *target, str(SOURCE), "-o", str(path)]
            try:
                run = subprocess.run(command, capture_output=True, text=True, check=False)
            except OSError as error:
                raise LimitsError(f"{compiler[0]} can't be run: {error.strerror}") from None
            if run.returncode == 0:
                return _declared(ctypes.CDLL(str(path)))
    last_line = (run.stderr.strip().splitlines() or ["no message"])[-1]
    raise LimitsError(f"{compiler[0]} can't compile {SOURCE.name}: {last_line}")


def _declared(library: ctypes.CDLL) -> ctypes.CDLL:
    library.time_fma.restype = library.time_read.restype = ctypes.c_double
    library.time_fma.argtypes = [ctypes.c_int, ctypes.c_int, ctypes.c_long]
    library.time_read.argtypes = [ctypes.c_void_p, ctypes.c_size_t, ctypes.c_int, ctypes.c_long]
    return library
