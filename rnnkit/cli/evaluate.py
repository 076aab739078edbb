"""``rnnkit evaluate``: figures of the model of a run."""

from __future__ import annotations

import argparse

from rnnkit.cli.using import method_of_run


def run(arguments: argparse.Namespace) -> int:
    """Print each figure on a line of its own, or all as one JSON object."""
    figures = method_of_run(arguments, "evaluate")(arguments.files)
    if arguments.json:
        from rnnkit.train.log import to_json

        print(to_json(figures))
        return 0
    width = max(map(len, figures))
    for name, value in figures.items():
        print(f"{name:{width}}  {value:.6g}")
    return 0
