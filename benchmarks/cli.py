"""The command line: ``python -m benchmarks``."""

from __future__ import annotations

import argparse
import importlib.util
import json
import os
import sys
from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import Any

from . import pictures, report
from .problem import FUSED
from .report import Row
from .sides import PEERS, missing_packages
from .targets import failures, summary
from .worker import SUITES, Options, WorkerError, measure, suite_module

MOST_THREADS = 256
"""What rnnkit and the measurement of the limits go up to."""


def parser() -> argparse.ArgumentParser:
    out = argparse.ArgumentParser(
        prog="python -m benchmarks",
        description="Times rnnkit's native path against its pure-Python path, and against other "
        "libraries where asked: interleaved in one process, results compared before timing, "
        "medians over rounds, next to the limits of this machine.",
    )
    size = out.add_mutually_exclusive_group()
    size.add_argument("--quick", action="store_true", help="fewer shapes, under two minutes")
    size.add_argument("--full", action="store_true", help="every variant, DeepBench, more rounds")
    size.add_argument("--tiny", action="store_true", help="a check of the suite itself")
    out.add_argument(
        "--only",
        type=_names((*SUITES, *FUSED)),
        default=[],
        metavar="NAMES",
        help=f"suites ({', '.join(SUITES)}) and cells ({', '.join(FUSED)}), separated by commas; "
        "cells alone run the suites that go by cell",
    )
    out.add_argument(
        "--dtype",
        type=_names(("float32", "float64")),
        metavar="DTYPES",
        help="float32, float64 or both; default: both, only float32 where quick or tiny",
    )
    out.add_argument(
        "--threads",
        type=_thread_counts,
        metavar="COUNTS",
        help="thread counts, separated by commas; default: 1,all, only all where quick",
    )
    out.add_argument(
        "--peers",
        type=_names(PEERS),
        default=[],
        metavar="NAMES",
        help=f"libraries to compare with, where installed: {', '.join(PEERS)}",
    )
    out.add_argument("--json", type=_file, metavar="FILE", help="write all figures to FILE")
    out.add_argument("--markdown", type=_file, metavar="FILE", help="write the tables to FILE")
    out.add_argument("--plot", type=_folder, metavar="FOLDER", help="draw pictures (matplotlib)")
    out.add_argument(
        "--load",
        type=Path,
        nargs="+",
        metavar="FILE",
        help="measure nothing: report what --json wrote, files of several runs together",
    )
    return out


def main(arguments: list[str] | None = None) -> int:
    options = _parsed(arguments)
    figures: dict[str, list[Row]] = {"machines": [], "rows": [], "took": []}
    status = 0
    try:
        for record in _loaded(options.load) if options.load else _measured(options):
            for key, kind in (("machine", "machines"), ("took", "took")):
                if key in record:
                    figures[kind].append(record[key])
                    break
            else:
                figures["rows"].append(record)
                if not options.load:
                    print(_line(record), file=sys.stderr, flush=True)
    except (WorkerError, OSError, ValueError) as error:
        print(f"benchmarks: {error}", file=sys.stderr)
        status = 1
    except KeyboardInterrupt:
        print("\nbenchmarks: interrupted", file=sys.stderr)
        status = 130
    if not figures["machines"]:
        return status
    try:
        _report(figures, options)
    except OSError as error:
        print(f"benchmarks: {error}", file=sys.stderr)
        status = status or 1
    except (KeyError, TypeError, AttributeError) as error:
        if not options.load:
            raise
        print(f"benchmarks: what was loaded is not what --json writes: {error!r}", file=sys.stderr)
        return 1
    for failure in failures(figures["rows"]):
        print(f"benchmarks: {failure}", file=sys.stderr)
        status = status or 1
    return status


def _parsed(arguments: list[str] | None) -> argparse.Namespace:
    known = parser()
    options = known.parse_args(arguments)
    measuring = ("quick", "full", "tiny", "only", "dtype", "threads", "peers")
    if options.load and (idle := [f"--{name}" for name in measuring if getattr(options, name)]):
        known.error(f"--load measures nothing: {', '.join(idle)} can't go with it")
    return options


def _measured(options: argparse.Namespace) -> Iterator[Row]:
    """What the workers emit, one worker for each thread count."""
    peers = []
    for peer in options.peers:
        if missing := missing_packages(peer):
            print(f"benchmarks: {peer} is left out: not installed: {', '.join(missing)}",
                  file=sys.stderr)  # fmt: skip
        else:
            peers.append(peer)
    size = next((s for s in ("tiny", "quick", "full") if getattr(options, s)), "standard")
    small = size in ("tiny", "quick")
    dtypes = options.dtype or (["float32"] if small else ["float32", "float64"])
    counts = options.threads or _thread_counts("all" if small else "1,all")
    cells = [name for name in options.only if name in FUSED]
    suites = [name for name in SUITES if name in options.only]
    if not suites:
        suites = [name for name, suite in SUITES.items() if suite.by_cell or not cells]
    for threads in counts:
        own = [s for s in suites if SUITES[s].every_count or threads == max(counts)]
        if own:
            yield from measure(Options(threads, size, dtypes, peers, cells, own))


def _loaded(paths: Iterable[Path]) -> Iterator[Row]:
    for path in paths:
        figures = json.loads(path.read_text())
        kinds = ("machines", "took", "rows")
        if not isinstance(figures, dict) or not all(
            isinstance(figures.get(kind), list) for kind in kinds
        ):
            raise ValueError(f"{path}: not what --json writes")
        for kind, key in (("machines", "machine"), ("took", "took")):
            yield from ({key: each} for each in figures[kind])
        yield from figures["rows"]


def _report(figures: dict[str, list[Row]], options: argparse.Namespace) -> None:
    rows = [row for row in figures["rows"] if "failed" not in row]
    tables = list(_tables(rows))
    head = "\n".join(report.heads(figures["machines"]))
    print(head + "\n")
    for table in tables:
        print(table.text())
    for took in figures["took"]:
        print(f"{took['suite']}: {took['seconds']:.0f} s", file=sys.stderr)
    if options.json:
        options.json.write_text(json.dumps(figures, indent=1) + "\n")
    if options.markdown:
        parts = [head.replace("\n", "\\\n") + "\n", *(table.markdown() for table in tables)]
        options.markdown.write_text("\n".join(parts))
    if options.plot:
        pictures.draw_all(rows, head, options.plot)


def _tables(rows: list[Row]) -> Iterator[report.Table]:
    for name in SUITES:
        own = [row for row in rows if row["suite"] == name]
        if own:
            yield from suite_module(name).tables(own)
    yield summary(rows)


def _line(row: Row) -> str:
    if "failed" in row:
        return f"{row['suite']}  FAILED: {row['failed']}"
    return str(suite_module(row["suite"]).line(row))


def _file(text: str) -> Path:
    """A file that can be written, as far as can be told before anything is measured."""
    path = Path(text)
    if path.is_dir() or not os.access(path.absolute().parent, os.W_OK):
        raise argparse.ArgumentTypeError(f"{text!r} is a folder, or in none that can be written to")
    return path


def _folder(text: str) -> Path:
    """A folder for pictures, and that there is what draws them."""
    path = Path(text)
    above = next(each for each in path.absolute().parents if each.exists())
    if (path.exists() and not path.is_dir()) or not above.is_dir() or not os.access(above, os.W_OK):
        raise argparse.ArgumentTypeError(
            f"{text!r} is no folder, or in none that can be written to"
        )
    if importlib.util.find_spec("matplotlib") is None:
        raise argparse.ArgumentTypeError("pictures need matplotlib, which is not installed")
    return path


def _names(known: Iterable[str]) -> Any:
    known = tuple(known)

    def parse(text: str) -> list[str]:
        names = [name.strip() for name in text.split(",") if name.strip()]
        for name in names:
            if name not in known:
                raise argparse.ArgumentTypeError(f"{name!r} is none of {', '.join(known)}")
        if not names:
            raise argparse.ArgumentTypeError(f"expected some of {', '.join(known)}, got {text!r}")
        return list(dict.fromkeys(names))

    return parse


def _thread_counts(text: str) -> list[int]:
    cores = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count()
    counts = []
    for word in text.split(","):
        if word != "all" and not (word.isdecimal() and 1 <= int(word) <= MOST_THREADS):
            raise argparse.ArgumentTypeError(
                f"expected numbers from 1 to {MOST_THREADS}, or 'all', got {word!r}"
            )
        counts.append(min(cores or 1, MOST_THREADS) if word == "all" else int(word))
    return list(dict.fromkeys(counts))
