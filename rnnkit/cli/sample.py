"""``rnnkit sample``: continue a text with the model of a run."""

from __future__ import annotations

import argparse
import sys

from rnnkit.cli import machine
from rnnkit.cli.messages import note
from rnnkit.errors import ArgumentError


def run(arguments: argparse.Namespace) -> int:
    """Write the prompt and its continuation to standard output, as it is made."""
    import numpy as np

    from rnnkit.train import TextTask, generate

    if arguments.seed is not None and arguments.seed < 0:
        arguments.usage_error(f"argument --seed: expected 0 or more, got {arguments.seed}")
    machine.apply(arguments)
    loaded = TextTask.load(arguments.folder)
    strange = sorted({c for c in arguments.prompt if c not in loaded.vocabulary})
    if strange:
        note(f"the model has never seen {' '.join(map(repr, strange))}; read as unknown")
    try:
        characters = generate(
            loaded.model,
            loaded.vocabulary,
            prompt=arguments.prompt,
            length=arguments.length,
            temperature=arguments.temperature,
            rng=np.random.default_rng(arguments.seed),
        )
    except ArgumentError as error:
        arguments.usage_error(f"argument --{error}")
    sys.stdout.write(arguments.prompt)
    for character in characters:
        sys.stdout.write(character)
        if sys.stdout.isatty():
            sys.stdout.flush()
    sys.stdout.write("\n")
    return 0
