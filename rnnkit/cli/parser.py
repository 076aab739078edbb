"""The options of every command."""

from __future__ import annotations

import argparse
import sys
from typing import Any, NoReturn

from rnnkit import backend
from rnnkit.cli import info, resume, sample, train
from rnnkit.train.settings import DEFAULT_MINUTES, Settings
from rnnkit.train.tasks.text import TextSettings


class OneLineParser(argparse.ArgumentParser):
    """Reports wrong usage in one line, as every other error of the command is reported."""

    def __init__(self, **kwargs: Any) -> None:
        super().__init__(allow_abbrev=False, **kwargs)

    def _print_message(self, message: str, file: Any = None) -> None:
        # argparse's own drops what cannot be written without a word.
        (file or sys.stderr).write(message)

    def error(self, message: str) -> NoReturn:
        print(f"rnnkit: error: {message} (see {self.prog} --help)", file=sys.stderr)
        sys.exit(2)


def make_parser() -> argparse.ArgumentParser:
    """The parser; the parsed arguments hold the command's function as ``run``."""
    parser = OneLineParser(
        prog="rnnkit", description="Train and run recurrent neural networks on the CPU."
    )
    parser.add_argument(
        "--version", action="version", version=f"rnnkit {backend.config()['rnnkit']}"
    )
    commands = parser.add_subparsers(title="commands", metavar="COMMAND", required=True)
    _add_train(commands)
    _add_resume(commands)
    _add_sample(commands)
    _add_info(commands)
    return parser


def _add_train(commands: Any) -> None:
    parser = commands.add_parser(
        "train",
        help="train a character-level language model on text",
        description="Train a character-level language model on UTF-8 text files, or on the "
        "prose of the Python language reference when none is given.",
    )
    default = TextSettings()
    parser.add_argument("files", nargs="*", metavar="FILE", help="UTF-8 text to train on")
    model = parser.add_argument_group("model")
    model.add_argument(
        "--cell", choices=("lstm", "gru", "rnn"), **_option(default, "cell", "kind of cell")
    )
    for name, text in (
        ("layers", "recurrent layers"),
        ("hidden", "units of each layer"),
        ("embedding", "size of a character's embedding"),
    ):
        model.add_argument(f"--{name}", type=int, metavar="N", **_option(default, name, text))
    model.add_argument(
        "--dropout", type=float, metavar="P", **_option(default, "dropout", "dropout probability")
    )

    training = parser.add_argument_group("training")
    for name, text in (
        ("batch", "parallel streams of text"),
        ("length", "steps of truncated backpropagation"),
        ("accumulate", "batches of an optimiser's step"),
    ):
        training.add_argument(f"--{name}", type=int, metavar="N", **_option(default, name, text))
    training.add_argument(
        "--lr", type=float, metavar="X", **_option(default, "lr", "peak learning rate")
    )
    training.add_argument(
        "--weight-decay", type=float, metavar="X", **_option(default, "weight_decay", "AdamW's")
    )
    training.add_argument(
        "--schedule",
        choices=("cosine", "plateau", "constant"),
        **_option(default, "schedule", "learning rate over the run"),
    )
    training.add_argument(
        "--clip", type=float, metavar="X", **_option(default, "clip", "largest gradient norm")
    )
    training.add_argument(
        "--ema",
        type=float,
        metavar="DECAY",
        help="validate and keep an average of the weights, such as 0.999 (default: the last ones)",
    )
    until = training.add_mutually_exclusive_group()
    until.add_argument("--epochs", type=float, metavar="X", help="passes over the training text")
    until.add_argument(
        "--minutes",
        type=float,
        metavar="X",
        help=f"time budget (default {DEFAULT_MINUTES}, unless --epochs is given)",
    )
    training.add_argument(
        "--validations",
        type=int,
        metavar="N",
        **_option(default, "validations", "validations over the run"),
    )
    training.add_argument(
        "--patience",
        type=int,
        metavar="N",
        help="stop after N validations in a row without a gain (default: never)",
    )
    training.add_argument(
        "--seed", type=int, metavar="N", **_option(default, "seed", "seed of every random number")
    )

    output = parser.add_argument_group("output")
    output.add_argument(
        "--output",
        metavar="FOLDER",
        help="a new or empty folder for the run (default: a new numbered folder under runs/)",
    )
    _add_sample_length(output)
    _add_machine(parser)
    parser.set_defaults(run=train.run, usage_error=parser.error)


def _add_resume(commands: Any) -> None:
    parser = commands.add_parser(
        "resume",
        help="go on with a run that was cut short",
        description="Go on with a run from its last checkpoint, with the settings and the data "
        "it began with.",
    )
    parser.add_argument("folder", metavar="RUN", help="the folder of a run")
    _add_sample_length(parser)
    _add_machine(parser)
    parser.set_defaults(run=resume.run, usage_error=parser.error)


def _add_sample(commands: Any) -> None:
    parser = commands.add_parser(
        "sample",
        help="continue a text with a trained model",
        description="Continue a text with the best model of a run.",
    )
    parser.add_argument("folder", metavar="RUN", help="the folder of a run")
    parser.add_argument("--prompt", default="", metavar="TEXT", help="the text to continue")
    parser.add_argument(
        "--temperature",
        type=float,
        default=0.7,
        metavar="X",
        help="0 for the most probable text, 1 for the model's own distribution (default 0.7)",
    )
    parser.add_argument(
        "--length", type=int, default=600, metavar="N", help="characters to write (default 600)"
    )
    parser.add_argument(
        "--seed", type=int, metavar="N", help="for the same text every time (default: a new one)"
    )
    _add_machine(parser)
    parser.set_defaults(run=sample.run, usage_error=parser.error)


def _add_info(commands: Any) -> None:
    parser = commands.add_parser(
        "info",
        help="show the version, the native kernels and the threads",
        description="Show how rnnkit was built and what it uses on this machine.",
    )
    _add_machine(parser)
    parser.set_defaults(run=info.run, usage_error=parser.error)


def _add_sample_length(parser: Any) -> None:
    parser.add_argument(
        "--sample-length",
        type=int,
        metavar="N",
        default=600,
        help="characters of sample text at the end (default 600; 0 for none)",
    )


def _add_machine(parser: argparse.ArgumentParser) -> None:
    machine = parser.add_argument_group("machine")
    machine.add_argument(
        "--backend",
        choices=("auto", "native", "python"),
        help="native kernels, pure Python, or whichever can run (default: RNNKIT_BACKEND or auto)",
    )
    machine.add_argument(
        "--threads",
        type=int,
        metavar="N",
        help="threads of the native kernels (default: RNNKIT_NUM_THREADS or one a core)",
    )


def _option(default: Settings, name: str, text: str) -> dict[str, Any]:
    value = getattr(default, name)
    return {"default": value, "help": f"{text} (default {value})"}

