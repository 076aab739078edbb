"""The options of every command; those of a task are read from the task."""

from __future__ import annotations

import argparse
import contextlib
import os
import sys
from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING, Any, NoReturn

from rnnkit.errors import RnnkitError
from rnnkit.train.tasks import DEFAULT_TASK, TASKS, task_of, task_type

if TYPE_CHECKING:
    from rnnkit.train.tasks.base import Task

_Fill = Callable[["OneLineParser", list[str]], list[str]]

_RUN = "the folder of a run"


class OneLineParser(argparse.ArgumentParser):
    """Reports wrong usage in one line, as every other error of the command is reported."""

    def __init__(self, fill: _Fill | None = None, **kwargs: Any) -> None:
        """``fill(parser, args)`` adds the options once they are needed; returns what to parse."""
        super().__init__(allow_abbrev=False, **kwargs)
        self._fill = fill

    def parse_known_args(self, args: Any = None, namespace: Any = None) -> Any:
        if self._fill is None:
            return super().parse_known_args(args, namespace)
        fill, self._fill = self._fill, None
        found, unknown = super().parse_known_args(fill(self, list(args)), namespace)
        if unknown:
            # Here, and not by the parser above: its --help does not tell which there are.
            self.error(f"unrecognized arguments: {' '.join(unknown)}")
        return found, unknown

    def _print_message(self, message: str, file: Any = None) -> None:
        # argparse's own drops what cannot be written without a word.
        (file or sys.stderr).write(message)

    def error(self, message: str) -> NoReturn:
        print(f"rnnkit: error: {message} (see {self.prog} --help)", file=sys.stderr)
        sys.exit(2)


class _Version(argparse.Action):
    def __call__(self, parser: argparse.ArgumentParser, *_: Any) -> NoReturn:
        from rnnkit import backend

        print(f"rnnkit {backend.config()['rnnkit']}")
        parser.exit()


def make_parser() -> argparse.ArgumentParser:
    """The parser; the parsed arguments hold the command's function as ``run``."""
    parser = OneLineParser(
        prog="rnnkit", description="Train and run recurrent neural networks on the CPU."
    )
    parser.add_argument(
        "--version", action=_Version, nargs=0, help="show the version and leave"
    )
    commands = parser.add_subparsers(title="commands", metavar="COMMAND", required=True)
    for name, fill, text in (
        ("train", _fill_train, "train a model on your files, for one of several tasks"),
        ("resume", _fill_resume, "go on with a run that was cut short"),
        ("sample", _fill_sample, "write with a trained model"),
        ("predict", _fill_predict, "let a trained model say what it makes of new inputs"),
        ("evaluate", _fill_evaluate, "measure a trained model, on its own or on other files"),
        ("info", _fill_info, "show the version, the native kernels and the threads"),
    ):
        commands.add_parser(
            name,
            fill=fill,
            help=text,
            description=f"{text[0].upper()}{text[1:]}.",
            formatter_class=argparse.RawDescriptionHelpFormatter,
        )
    return parser


def _fill_train(parser: OneLineParser, args: list[str]) -> list[str]:
    from rnnkit.cli import options, train
    from rnnkit.train.options import method_options, settings_options

    name = DEFAULT_TASK
    if args and args[0] in TASKS:
        name = args.pop(0)
        parser.prog += f" {name}"
        parser.usage = f"{parser.prog} [options] [FILE ...]"
    else:
        parser.usage = f"{parser.prog} [TASK] [options] [FILE ...]"
        if {"-h", "--help"} & set(args):
            parser.description = f"{parser.description}\n\n{_task_list()}"
    task = task_type(name)
    if parser.prog.endswith(f" {name}"):
        parser.description = f"Train {task.help}."
    parser.add_argument("files", nargs="*", type=options.path, metavar="FILE", help=task.files_help)
    of_settings, of_show = settings_options(task.settings_type), method_options(task.show)
    options.add(parser, of_settings)
    output = parser.add_argument_group("output")
    output.add_argument(
        "--output",
        metavar="FOLDER",
        help="a new or empty folder for the run (default: a new numbered folder under runs/)",
    )
    options.add(parser, of_show, output)
    _add_machine(parser)
    _finish(parser, train.run, task=task, settings_options=of_settings, options=of_show)
    return args


def _fill_resume(parser: OneLineParser, args: list[str]) -> list[str]:
    from rnnkit.cli import options, resume
    from rnnkit.train.options import method_options

    parser.add_argument("folder", type=options.path, metavar="RUN", help=_RUN)
    found = method_options(_task_named_in(args).show)
    options.add(parser, found)
    _add_machine(parser)
    _finish(parser, resume.run, options=found)
    return args


def _fill_sample(parser: OneLineParser, args: list[str]) -> list[str]:
    from rnnkit.cli import options, sample

    parser.add_argument("folder", type=options.path, metavar="RUN", help=_RUN)
    _add_use(parser, args, "sample", sample.run)
    return args


def _fill_predict(parser: OneLineParser, args: list[str]) -> list[str]:
    from rnnkit.cli import options, predict

    parser.add_argument("folder", type=options.path, metavar="RUN", help=_RUN)
    parser.add_argument(
        "input",
        type=options.path,
        metavar="INPUT",
        help="a file of inputs; - for lines from standard input",
    )
    _add_use(parser, args, "predict", predict.run)
    return args


def _fill_evaluate(parser: OneLineParser, args: list[str]) -> list[str]:
    from rnnkit.cli import evaluate, options

    parser.add_argument("folder", type=options.path, metavar="RUN", help=_RUN)
    parser.add_argument(
        "files",
        nargs="*",
        type=options.path,
        metavar="FILE",
        help="by default the held-out part of the run",
    )
    parser.add_argument("--json", action="store_true", help="write one JSON object")
    _add_use(parser, args, "evaluate", evaluate.run)
    return args


def _fill_info(parser: OneLineParser, args: list[str]) -> list[str]:
    from rnnkit.cli import info

    _add_machine(parser)
    _finish(parser, info.run)
    return args


def _add_use(
    parser: OneLineParser, args: list[str], method: str, run: Callable[[Any], int]
) -> None:
    """The options of a method of what the run's task loads."""
    from rnnkit.cli import options
    from rnnkit.train.options import method_options

    task = _task_named_in(args)
    found = method_options(getattr(task.loaded_type, method, _nothing))
    options.add(parser, found)
    _add_machine(parser)
    if method != "evaluate":
        if found:
            parser.epilog = f"The options are those of the task {task.name!r}; a run's own are "
            parser.epilog += f"shown by: {parser.prog} RUN --help"
        else:
            parser.epilog = f"The options of a run's task are shown by: {parser.prog} RUN --help"
    _finish(parser, run, task=task, options=found)


def _nothing() -> None:
    """What a task that lacks a method has in its place."""


def _finish(parser: OneLineParser, run: Callable[[Any], int], **defaults: Any) -> None:
    parser.set_defaults(run=run, usage_error=parser.error, **defaults)


def _task_named_in(args: Sequence[str]) -> type[Task]:
    """The task of the run that is named among the arguments; of a text where there is none yet."""
    for argument in args:
        if os.path.isfile(os.path.join(argument, "settings.json")):
            # What is wrong with it is said when it is loaded.
            with contextlib.suppress(RnnkitError, OSError):
                return task_of(argument)
    return task_type(DEFAULT_TASK)


def _task_list() -> str:
    width = max(map(len, TASKS))
    lines = [f"  {name:{width}}  {task_type(name).help}" for name in TASKS]
    return "\n".join(
        [
            "tasks:", *lines, "",
            "A task's own options: rnnkit train TASK --help. Without a task it is "
            f"{DEFAULT_TASK!r}, whose options follow.",
        ]
    )  # fmt: skip


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
