"""From what a task says of its options to the parser's, and back to values."""

from __future__ import annotations

import argparse
import re
from collections.abc import Callable, Mapping, Sequence
from typing import Any

from rnnkit.errors import ArgumentError
from rnnkit.train.options import Option

_METAVARS = {int: "N", float: "X", str: "TEXT"}


def add(parser: argparse.ArgumentParser, options: Sequence[Option], others: Any = None) -> None:
    """Let ``parser`` take ``options``, each under the heading of its group.

    ``others``: the group of those without one, by default none.
    """
    groups: dict[str, Any] = {"": others or parser}
    exclusive: dict[str, Any] = {}
    for option in options:
        name = option.about.group
        if name not in groups:
            groups[name] = parser.add_argument_group(name)
        target = groups[name]
        mark = option.about.exclusive
        if mark:
            if mark not in exclusive:
                exclusive[mark] = target.add_mutually_exclusive_group()
            target = exclusive[mark]
        target.add_argument(option.flag, dest=option.name, **_arguments(option))


def values(arguments: argparse.Namespace, options: Sequence[Option]) -> dict[str, Any]:
    """What was given for ``options``, by name.

    Leaves with wrong usage when one of them has no effect beside the others.
    """
    by_name = {option.name: option for option in options}
    given = {name: value for name, value in vars(arguments).items() if name in by_name}
    for name in given:
        other, _, wanted = by_name[name].about.needs.partition("=")
        if not other:
            continue
        value = given.get(other, by_name[other].default)
        has_effect = str(value) == wanted if wanted else bool(value)
        if not has_effect:
            flag = by_name[other].flag
            how = f"with {flag} {value}" if other in given else f"without {flag} {wanted}".rstrip()
            arguments.usage_error(f"argument {by_name[name].flag}: has no effect {how}")
    return given


def refuse_idle(
    arguments: argparse.Namespace, options: Sequence[Option], idle: Mapping[str, str]
) -> None:
    """Leave with wrong usage when one of ``options`` was given that has no effect.

    ``idle``: of what has none, by name, the reason.
    """
    for option in options:
        if option.name in idle and hasattr(arguments, option.name):
            arguments.usage_error(
                f"argument {option.flag}: has no effect: {idle[option.name]}"
            )


def refuse(
    arguments: argparse.Namespace, options: Sequence[Option], error: ArgumentError
) -> None:
    """Leave with wrong usage when ``error`` is about one of ``options``."""
    name, _, rest = str(error).partition(": ")
    for option in options:
        if option.name == name:
            arguments.usage_error(f"argument {option.flag}: {rest}")


def as_typed(error: ArgumentError, options: Sequence[Option], command: str = "") -> ArgumentError:
    """``error`` of a file with ``options`` as they are typed: ``--missing carry`` where it says
    ``missing='carry'``, and ``FILE: --log: ...`` where it says ``FILE: log: ...``.

    ``command``: what takes them, where it is not the one that was called.
    """
    flags = {option.name: f"{command} {option.flag}".lstrip() for option in options}
    name, text = "|".join(flags), str(error)
    text = re.sub(rf"\b({name})='([^']*)'", lambda found: f"{flags[found[1]]} {found[2]}", text)
    if not command:
        text = re.sub(rf"(?<=: )({name})(?=: )", lambda found: flags[found[1]], text, count=1)
    return ArgumentError(text)


def path(text: str) -> str:
    """The type of an argument that is a path."""
    if not text:  # as a variable of a script that was not set
        raise argparse.ArgumentTypeError("expected a path, got ''")
    return text


def _arguments(option: Option) -> dict[str, Any]:
    about = option.about
    help_text = about.help
    if option.default is not None and option.type is not bool and option.default != "":
        help_text = re.sub(r" \(default.*\)$", "", help_text) + f" (default {option.default})"
    # What is not given is not there: the task has its defaults itself.
    found: dict[str, Any] = {"default": argparse.SUPPRESS, "help": help_text.replace("%", "%%")}
    if option.type is bool:
        # What is on by default is switched off with --no-...
        if option.default:
            found["help"] += " (default)"
            return {**found, "action": argparse.BooleanOptionalAction}
        return {**found, "action": "store_true"}
    if about.choices:
        shown = {"metavar": about.metavar} if about.metavar else {}
        return {**found, "choices": about.choices, **shown}
    if about.metavar == "FILE":
        return {**found, "type": path, "metavar": about.metavar}
    metavar = about.metavar or _METAVARS[option.type]
    return {**found, "type": _converter(option), "metavar": metavar}


def _converter(option: Option) -> Callable[[str], Any]:
    least = option.about.least
    if least is None:
        return option.type

    def convert(text: str) -> Any:
        value = option.type(text)
        if value < least:
            raise argparse.ArgumentTypeError(f"expected {least} or more, got {value}")
        return value

    convert.__name__ = option.type.__name__  # as argparse names it in its messages
    return convert
