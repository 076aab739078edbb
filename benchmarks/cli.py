"""The command line: ``python -m benchmarks``."""

from __future__ import annotations

import argparse
import json
import os
import sys
from pathlib import Path
from typing import Any

from rnnkit.cells import CELLS

from . import plot, report
from .sides import PEERS
from .worker import SUITES, Options, WorkerError, measure


def parser() -> argparse.ArgumentParser:
    out = argparse.ArgumentParser(
        prog="python -m benchmarks",
        description="Times rnnkit's native path against its pure-Python path, and against other "
        "libraries where asked: interleaved in one process, results compared before timing, "
        "medians over rounds.",
    )
    size = out.add_mutually_exclusive_group()
    size.add_argument("--quick", action="store_true", help="fewer shapes, under two minutes")
    size.add_argument("--tiny", action="store_true", help="a check of the suite itself")
    out.add_argument(
        "--only",
        type=_names(CELLS),
        default=[],
        metavar="CELLS",
        help=f"cells to run, separated by commas: {', '.join(CELLS)}",
    )
    out.add_argument(
        "--dtype",
        type=_names(("float32", "float64")),
        default=["float32"],
        metavar="DTYPES",
        help="float32 (the default), float64, or both, separated by a comma",
    )
    out.add_argument(
        "--threads",
        type=_thread_counts,
        default=_thread_counts("1,all"),
        metavar="COUNTS",
        help="thread counts, separated by commas; default: 1,all",
    )
    out.add_argument(
        "--peers",
        type=_names(PEERS),
        default=[],
        metavar="NAMES",
        help=f"libraries to compare with, where installed: {', '.join(PEERS)}",
    )
    out.add_argument("--json", type=Path, metavar="FILE", help="write all figures to FILE")
    out.add_argument("--plot", type=Path, metavar="FILE", help="draw the speed-ups (matplotlib)")
    return out


def main(arguments: list[str] | None = None) -> int:
    options = parser().parse_args(arguments)
    size = "tiny" if options.tiny else "quick" if options.quick else "full"
    machines: list[dict[str, Any]] = []
    rows: list[dict[str, Any]] = []
    try:
        for threads in options.threads:
            job = Options(threads, size, options.dtype, options.peers, options.only, list(SUITES))
            for record in measure(job):
                if "machine" in record:
                    machines.append(record["machine"])
                else:
                    rows.append(record)
                    _progress(record)
    except WorkerError as error:
        print(f"benchmarks: {error}", file=sys.stderr)
        return 1
    except KeyboardInterrupt:
        print("\nbenchmarks: interrupted", file=sys.stderr)
        return 130
    print("\n".join(report.machine_lines(machines[0])) + "\n")
    for table in report.tables(rows):
        print(table)
    if options.json:
        options.json.write_text(json.dumps({"machines": machines, "rows": rows}, indent=1) + "\n")
    if options.plot:
        plot.draw(rows, options.plot)
    return 0


def _progress(row: dict[str, Any]) -> None:
    ratios = "  ".join(
        f"{spread['median']:.2f}x over {name}" for name, spread in row["speedup_over"].items()
    )
    print(
        f"{row['threads']} thr  {row['label']} {row['mode']} {row['shape_text']} {row['dtype']}: "
        f"{row['seconds']['native']['median'] * 1e3:.3f} ms  {ratios}",
        file=sys.stderr,
        flush=True,
    )


def _names(known: Any) -> Any:
    def parse(text: str) -> list[str]:
        names = [name.strip() for name in text.split(",") if name.strip()]
        for name in names:
            if name not in known:
                raise argparse.ArgumentTypeError(f"{name!r} is none of {', '.join(known)}")
        return list(dict.fromkeys(names))

    return parse


def _thread_counts(text: str) -> list[int]:
    cores = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count()
    counts = []
    for word in text.split(","):
        if word != "all" and not (word.isdecimal() and int(word) >= 1):
            raise argparse.ArgumentTypeError(f"expected numbers from 1, or 'all', got {word!r}")
        counts.append((cores or 1) if word == "all" else int(word))
    return list(dict.fromkeys(counts))
