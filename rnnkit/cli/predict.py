"""``rnnkit predict``: what the model of a run makes of new inputs, as JSON Lines."""

from __future__ import annotations

import argparse
import io
import sys
from collections.abc import Iterator

from rnnkit.cli.using import method_of_run
from rnnkit.errors import ArgumentError


def run(arguments: argparse.Namespace) -> int:
    """Write a JSON object for each input to standard output, in the order of the inputs."""
    from rnnkit.train.log import to_json

    predict = method_of_run(arguments, "predict")
    is_utf_8 = (sys.stdout.encoding or "").lower().replace("-", "") == "utf8"
    for record in predict(_standard_input() if arguments.input == "-" else arguments.input):
        sys.stdout.write(to_json(record, ensure_ascii=not is_utf_8) + "\n")
    return 0


def _standard_input() -> Iterator[str]:
    """Its lines, as they are read in a file: UTF-8 whatever the locale, without marks and ends."""
    if isinstance(sys.stdin, io.TextIOWrapper):
        sys.stdin.reconfigure(encoding="utf-8-sig", errors="strict")
    try:
        for line in sys.stdin:
            yield line.rstrip("\r\n")
    except UnicodeDecodeError as error:
        byte = error.object[error.start]
        raise ArgumentError(
            f"standard input: not UTF-8 text: invalid byte 0x{byte:02x}"
        ) from None
