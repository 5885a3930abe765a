"""Options of a policy: `halving:budget=shift` is the policy `halving` with one option.

A policy that has options is a frozen dataclass, and its fields are the options: whole numbers
(`int`), `true` or `false` (`bool`), words (`str`), or one of some words (`Literal`), each with its
default, and `| None` where it may be left out for good. What the field's type cannot say,
`__post_init__` refuses, with an InputError whose key is the option's name. The same text stands
behind `--policy` and in a scenario's `reporting.policy`.
"""

import dataclasses
import re
import types
from collections.abc import Mapping
from typing import Any, Literal, NamedTuple, Union, get_args, get_origin, get_type_hints

from pagesoak.base.errors import InputError
from pagesoak.base.scenario_file import suggestion

CONTRACT = frozenset(
    {
        "name",
        "source",
        "formula",
        "registers_device",
        "device_capacity",
        "factor",
        "option_help",
        "demand_memory_seconds",
    }
)
"""What a policy says of itself: no options, even where they are fields."""
SEPARATOR = ":"
TEXT_LENGTH_MAX = 1000
"""Of a policy with its options: a line of a scenario file."""
KEY = "policy"

_WHOLE = re.compile("-?[0-9]{1,9}")


class Option(NamedTuple):
    """An option: its name, its default (None: left out), what it may be, what it is for."""

    name: str
    default: Any
    choices: tuple[Any, ...]
    """The words or values it may have; empty: any of `kind`."""
    kind: str
    help: str

    def values(self) -> str:
        """What may be given, in words."""
        return " or ".join(map(shown, self.choices)) if self.choices else self.kind


def options_of(factory: Any) -> tuple[Option, ...]:
    """The options of a policy or of its class, in the order of its fields."""
    if not dataclasses.is_dataclass(factory):
        return ()
    cls = factory if isinstance(factory, type) else type(factory)
    hints = get_type_hints(cls)
    said: Mapping[str, str] = getattr(factory, "option_help", {})
    return tuple(
        _option(field, hints[field.name], said.get(field.name, ""))
        for field in dataclasses.fields(factory)
        if field.init and field.name not in CONTRACT
    )


def _option(field: "dataclasses.Field[Any]", hint: Any, said: str) -> Option:
    kinds = [part for part in _parts(hint) if part is not type(None)]
    default = None if field.default is dataclasses.MISSING else field.default
    if len(kinds) == 1 and get_origin(kinds[0]) is Literal:
        return Option(field.name, default, get_args(kinds[0]), "", said)
    if kinds == [bool]:
        return Option(field.name, default, (True, False), "", said)
    return Option(field.name, default, (), "a whole number" if kinds == [int] else "a word", said)


def _parts(hint: Any) -> tuple[Any, ...]:
    return get_args(hint) if get_origin(hint) in {Union, types.UnionType} else (hint,)


def split_options(text: str) -> tuple[str, dict[str, str]]:
    """The name in `NAME:key=value,key=value`, and its options as they were given.

    Raises InputError (key `policy`) for what is not of this form, or too long.
    """
    if len(text) > TEXT_LENGTH_MAX:
        raise InputError(f"is longer than {TEXT_LENGTH_MAX} characters", key=KEY)
    name, colon, rest = text.partition(SEPARATOR)
    given: dict[str, str] = {}
    for part in rest.split(",") if colon else ():
        key, equals, value = (word.strip() for word in part.partition("="))
        if not key or not equals or not value:
            said = f"options are written NAME:key=value,key=value; {part!r} is none"
            raise InputError(f"{text!r}: {said}", key=KEY)
        if key in given:
            raise InputError(f"{text!r}: {key} is given twice", key=KEY)
        given[key] = value
    return name.strip(), given


def with_options(factory: Any, given: Mapping[str, str], name: str) -> Any:
    """The policy that `factory`, a class or a policy without options, makes of these options.

    Raises InputError that names the policy and the option for one that it does not have or that
    has no such value.
    """
    known = {option.name: option for option in options_of(factory)}
    values = {}
    for key, text in given.items():
        option = known.get(key)
        if option is None:
            names = f"; it has {', '.join(known)}" if known else "; it has none"
            raise InputError(
                f"{name} has no option {key!r}{suggestion(key, known)}{names}", key=KEY
            )
        values[key] = _value(option, text, name)
    if not isinstance(factory, type):
        return dataclasses.replace(factory, **values) if values else factory
    try:
        return factory(**values)
    except InputError as error:
        raise InputError(f"{name}: {error}", key=KEY) from error
    except (TypeError, ValueError) as error:
        raise InputError(f"{name}: cannot be made: {error}", key=KEY) from error


def _value(option: Option, text: str, name: str) -> Any:
    for choice in option.choices:
        if text == shown(choice):
            return choice
    if not option.choices and option.kind == "a word":
        return text
    if not option.choices and _WHOLE.fullmatch(text):
        return int(text)
    raise InputError(f"{name}: {option.name} must be {option.values()}, not {text!r}", key=KEY)


def option_values(policy: object) -> dict[str, Any]:
    """The options of a policy as they are, given or by default."""
    return {option.name: getattr(policy, option.name) for option in options_of(policy)}


def shown(value: object) -> str:
    """A value as it is written."""
    return str(value).lower() if isinstance(value, bool) else str(value)


def label(policy: object, name: str) -> str:
    """`NAME:key=value,…` with the options that differ from their defaults; `NAME` if none does."""
    changed = [
        f"{option.name}={shown(value)}"
        for option in options_of(policy)
        if (value := getattr(policy, option.name)) != option.default
    ]
    return f"{name}{SEPARATOR}{','.join(changed)}" if changed else name
