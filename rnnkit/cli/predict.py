"""``rnnkit predict``: what the model of a run makes of new inputs, as JSON Lines."""

from __future__ import annotations

import argparse
import json
import sys

from rnnkit.cli.using import method_of_run


def run(arguments: argparse.Namespace) -> int:
    """Write a JSON object for each input to standard output, in the order of the inputs."""
    predict = method_of_run(arguments, "predict")
    # Lines are read as they are in a file: the line end is no part of an input.
    lines = (line.rstrip("\r\n") for line in sys.stdin)
    for record in predict(lines if arguments.input == "-" else arguments.input):
        sys.stdout.write(json.dumps(record, ensure_ascii=False) + "\n")
    return 0
