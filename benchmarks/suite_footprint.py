"""What rnnkit costs beside its speed: time to import, size on disk, memory of a training step."""

from __future__ import annotations

import importlib.metadata
import json
import os
import subprocess
import sys
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Any

import rnnkit as rk

from .problem import Shape
from .report import Row, Table, count
from .timing import ratios, spread

if TYPE_CHECKING:
    from .worker import Options

ROOT = Path(__file__).parent.parent
IMPORT_ROUNDS = {"full": 25, "standard": 15, "quick": 3, "tiny": 2}
STEP_SHAPES = {
    "full": Shape(64, 100, 512, 512),
    "standard": Shape(64, 100, 512, 512),
    "quick": Shape(64, 50, 256, 256),
    "tiny": Shape(2, 3, 4, 5),
}
TRAINING_PEERS = ("torch", "jax")
PARTS = {"jax": ("jax", "jaxlib")}
"""What is installed as more than one package: of JAX, the compiler and the kernels are apart."""

_IMPORT = "import time; t = time.perf_counter(); import {}; print(time.perf_counter() - t)"


def run(options: Options, emit: Callable[[Row], None]) -> None:
    """Emits rows of kind "import", "size" and "memory"."""
    head = {"suite": "footprint", "threads": options.threads}
    for row in _imports(options):
        emit(head | {"kind": "import"} | row)
    for name in ["rnnkit", "numpy", *options.peers]:
        emit(head | {"kind": "size", "name": name, "bytes": installed_bytes(name)})
    for row in _memory(options):
        emit(head | {"kind": "memory"} | row)


def _imports(options: Options) -> Iterator[Row]:
    """Seconds to import in a fresh process, taken in turns; a first round warms the disk cache."""
    names = ["numpy", "rnnkit", *options.peers]
    seconds: dict[str, list[float]] = {name: [] for name in names}
    for number in range(1 + IMPORT_ROUNDS[options.size]):
        for name in names:
            taken = float(child("-c", _IMPORT.format(name)))
            if number > 0:
                seconds[name].append(taken)
    for name, values in seconds.items():
        yield {
            "name": name,
            "seconds": spread(values),
            "over_numpy": ratios(values, seconds["numpy"]),
        }


def _memory(options: Options) -> Iterator[Row]:
    """Peak memory of one training step of an LSTM in a process of its own."""
    shape = STEP_SHAPES[options.size]
    for name in ["native", *(peer for peer in options.peers if peer in TRAINING_PEERS)]:
        found = step_memory(name, options.threads, shape)
        yield {"name": "rnnkit" if name == "native" else name, "shape_text": str(shape), **found}


def step_memory(side: str, threads: int, shape: Shape, **options: Any) -> dict[str, int]:
    """Bytes resident before a training step of an LSTM, at its peak, in between, and of results.

    Args:
        side: "native" or the name of a peer.
        options: further fields of the ``Problem``.
    """
    job = {"side": side, "threads": threads, "shape": shape, "options": options}
    found: dict[str, int] = json.loads(child("-m", "benchmarks.footprint_step", json.dumps(job)))
    return found


def child(*arguments: str) -> str:
    """What another Python process prints."""
    # With bytecode kept, as every installed package has it.
    environment = {k: v for k, v in os.environ.items() if k != "PYTHONDONTWRITEBYTECODE"}
    return subprocess.run(
        [sys.executable, *arguments],
        cwd=ROOT, env=environment, check=True, stdout=subprocess.PIPE, text=True,
    ).stdout


def installed_bytes(name: str) -> int:
    """Bytes of a package's files; of an rnnkit used from its sources, what it would install."""
    own = Path(rk.__file__).parent
    if name == "rnnkit" and own.parent == ROOT:
        source_only = {".c", ".pyx", ".pxi", ".pxd", ".pyc"}
        return sum(
            path.stat().st_size
            for path in own.rglob("*")
            if path.is_file() and path.suffix not in source_only
        )
    files = [
        file for part in PARTS.get(name, (name,)) for file in importlib.metadata.files(part) or []
    ]
    paths = [Path(str(file.locate())) for file in files if file.suffix != ".pyc"]
    return sum(path.stat().st_size for path in paths if path.is_file())


def line(row: Row) -> str:
    return "footprint  " + " ".join(_cells(row))


def _cells(row: Row) -> list[str]:
    if row["kind"] == "import":
        value = f"{row['seconds']['median'] * 1e3:.0f} ms"
        note = f"{row['over_numpy']['median']:.2f}x NumPy's"
    elif row["kind"] == "size":
        value, note = count(row["bytes"], "B"), ""
    else:
        value = count(row["step"], "B")
        note = f"on top of {count(row['before'], 'B')}; LSTM {row['shape_text']}"
    return [row["kind"], row["name"], value, note]


def tables(rows: list[Row]) -> Iterator[Table]:
    body = [_cells(row) for row in rows]
    title = "Footprint: import time, installed size, peak memory of a training step"
    yield Table(title, ["what", "of", "value", "note"], body, texts=2)
