"""What a command line can offer of a task: read from the task itself, said nowhere else.

The fields of a dataclass of settings are options, described by `setting`; the keyword-only
parameters of a method are, described by ``Annotated[type, Described(...)]`` or by a plain help
text in its place.
"""

from __future__ import annotations

import dataclasses
import inspect
import types
import typing
from collections.abc import Callable, Sequence
from typing import Any, NamedTuple, get_args, get_origin, get_type_hints


class Described(NamedTuple):
    """What an option says of itself beyond its name, its type and its default."""

    help: str = ""  # with the default in it where that is None
    choices: tuple[str, ...] = ()
    metavar: str = ""  # by default from the type
    group: str = ""  # under which heading it stands in --help
    exclusive: str = ""  # of those with the same mark one may be given
    least: float | None = None  # the smallest number allowed
    # Without effect but for one value of another option, as "unit=words", or for any of it that is
    # not 0 or nothing, as "sampling".
    needs: str = ""


class Option(NamedTuple):
    """One option, as `Described` and with what the code says of it."""

    name: str
    type: type  # bool, int, float or str
    default: Any
    about: Described

    @property
    def flag(self) -> str:
        """``--as-typed``."""
        return f"--{self.name.replace('_', '-')}"


def setting(default: Any, help: str, **about: Any) -> Any:
    """A field of a dataclass of settings: its default, and what
    `rnnkit.train.options.Described` takes.

    A derived class may give the field another default, as ``name: type = default``, and leave the
    description to its base.
    """
    return dataclasses.field(default=default, metadata=Described(help, **about)._asdict())


def settings_options(settings_type: type) -> list[Option]:
    """The options that the fields of a dataclass are, in the order of their groups."""
    hints = get_type_hints(settings_type)
    found = [
        Option(
            field.name,
            _plain(hints[field.name]),
            field.default,
            described(settings_type, field.name),
        )
        for field in dataclasses.fields(settings_type)
        if field.init
    ]
    groups = list(dict.fromkeys(option.about.group for option in found))
    # What is the task's own comes first: the base class's fields are declared before.
    groups.sort(key=lambda group: group in _base_groups(settings_type))
    return sorted(found, key=lambda option: groups.index(option.about.group))


def described(settings_type: type, name: str) -> Described:
    """The description of a field, its own or that of the nearest base that has one."""
    for each in settings_type.__mro__:
        field = vars(each).get("__dataclass_fields__", {}).get(name)
        if field is not None and field.metadata:
            known = {key: field.metadata[key] for key in Described._fields if key in field.metadata}
            return Described(**{"group": "model", **known})
    return Described(group="model")


def method_options(method: Callable[..., Any]) -> list[Option]:
    """The options that the keyword-only parameters of a method are."""
    hints = get_type_hints(method, include_extras=True)
    found = []
    for name, parameter in inspect.signature(method).parameters.items():
        if parameter.kind is not inspect.Parameter.KEYWORD_ONLY:
            continue
        hint, about = hints.get(name, str), Described()
        if get_origin(hint) is typing.Annotated:
            hint, *notes = get_args(hint)
            note = notes[0]
            about = note if isinstance(note, Described) else Described(str(note))
        found.append(Option(name, _plain(hint), parameter.default, about))
    return found


def _plain(hint: Any) -> type:
    """The type that a text is turned into: that of the hint, None left out."""
    kinds: Sequence[Any] = (hint,)
    if get_origin(hint) in (typing.Union, types.UnionType):
        kinds = [kind for kind in get_args(hint) if kind is not type(None)]
    return kinds[0] if kinds[0] in (bool, int, float, str) else str


def _base_groups(settings_type: type) -> set[str]:
    base = [each for each in settings_type.__mro__ if dataclasses.is_dataclass(each)][-1]
    return {described(base, field.name).group for field in dataclasses.fields(base)}
