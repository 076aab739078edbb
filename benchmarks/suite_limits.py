"""The machine itself: FMA peak, and read bandwidth of each cache and of main memory."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import TYPE_CHECKING, Any

from .limits import LimitsError, limits, typical_sizes
from .report import Table, count, of_threads
from .timing import spread

if TYPE_CHECKING:
    from .worker import Options

ROUNDS = {"full": 25, "standard": 15, "quick": 9, "tiny": 2}


def run(options: Options, emit: Callable[[dict[str, Any]], None]) -> None:
    """Emits a row for each limit, or one that says why there are none."""
    head = {"suite": "limits", "threads": options.threads}
    try:
        machine = limits(options.threads)
        readers: dict[str, Callable[[], float]] = {
            "FMA float32": lambda: machine.fma("float32"),
            "FMA float64": lambda: machine.fma("float64"),
        }
        sizes = typical_sizes(options.threads)
        if options.size == "tiny":
            del sizes["DRAM"]
        for memory, size in sizes.items():
            readers[f"{memory} read"] = lambda size=size: machine.read(size)  # type: ignore[misc]
        rates: dict[str, list[float]] = {name: [] for name in readers}
        for _ in range(ROUNDS[options.size]):
            for name, read in readers.items():
                rates[name].append(read())
    except LimitsError as error:
        emit({**head, "missing": str(error)})
        return
    for name, values in rates.items():
        size_read = sizes.get(name.removesuffix(" read"))
        unit = "GFLOP/s" if size_read is None else "GB/s"
        emit({**head, "what": name, "unit": unit, "bytes": size_read, "rate": spread(values)})


def line(row: dict[str, Any]) -> str:
    if "missing" in row:
        return f"no limits: {row['missing']}"
    return f"{row['what']}: {row['rate']['median'] / 1e9:.4g} {row['unit']}"


def tables(rows: list[dict[str, Any]]) -> Iterator[Table]:
    for reason in dict.fromkeys(row["missing"] for row in rows if "missing" in row):
        yield Table(f"The limits of this machine are unknown: {reason}", [], [])
    rows = [row for row in rows if "missing" not in row]
    threads = list(dict.fromkeys(row["threads"] for row in rows))
    body = []
    for what in dict.fromkeys(row["what"] for row in rows):
        found = {row["threads"]: row for row in rows if row["what"] == what}
        first = next(iter(found.values()))
        size = "registers" if first["bytes"] is None else count(first["bytes"], "B")
        rates = [f"{found[n]['rate']['median'] / 1e9:.1f}" if n in found else "-" for n in threads]
        body.append([what, size, first["unit"], *rates])
    if body:
        head = ["limit", "from", "unit", *map(of_threads, threads)]
        yield Table("The limits of this machine (medians)", head, body, texts=3)
