"""Which policy a text means: built in, installed, or in a file.

`NAME` or `NAME:option=value,…` is a built-in policy, or one that an installed package offers under
the entry-point group `pagesoak.policies`; the name of a built-in one is never taken by another. In
the foreground verbs, where a person has typed it, `FILE.py:Name` and `FILE.py:Name:option=value`
is the class or object `Name` in a file: loading it runs what stands there.

An entry point or a file leads to a class that can be made without arguments, or to an object;
`reporter.policy.Policy` says what it must have.
"""

import importlib.util
import re
from collections.abc import Iterator
from importlib.metadata import EntryPoint, entry_points
from pathlib import Path
from typing import Any, NamedTuple

from pagesoak.base.errors import InputError
from pagesoak.base.scenario_file import suggestion
from pagesoak.reporter.guard import Guarded
from pagesoak.reporter.policies import BUILT_IN
from pagesoak.reporter.policies.options import (
    KEY,
    TEXT_LENGTH_MAX,
    split_options,
    with_options,
)
from pagesoak.reporter.policy import Policy

GROUP = "pagesoak.policies"
"""Entry points of installed packages: the name of a policy to its class or object."""
MODULE_NAME = "pagesoak_policy_file"
"""Of a policy file while it is loaded; it is not left among the imported modules."""

_FILE = re.compile(r"(?P<file>.+\.py):(?P<rest>.+)", re.DOTALL)
_NAME = re.compile(r"[a-z0-9][a-z0-9._-]{0,63}")


class Offered(NamedTuple):
    """A policy by name, as it is with its defaults, and who offers it."""

    name: str
    policy: Policy
    origin: str
    """`built in`, or the package."""


def find_policy(text: str, *, files: bool = False) -> Policy:
    """The policy that `text` means; with `files`, it may stand in a file.

    Raises InputError (key `policy`) when there is none, it cannot be loaded, it is no policy, or
    it has not such an option.
    """
    match = _FILE.fullmatch(text) if len(text) <= TEXT_LENGTH_MAX else None
    if match is not None:
        if not files:
            said = "a policy in a file is named on the command line, with --policy"
            raise InputError(f"{text!r}: {said}", key=KEY)
        attribute, given = split_options(match["rest"])
        return _made(_from_file(Path(match["file"]), attribute), given, match["file"])
    name, given = split_options(text)
    if name in BUILT_IN:
        return _made(BUILT_IN[name], given, name)
    installed = _installed()
    if name not in installed:
        known = [*BUILT_IN, *installed]
        said = f"no policy named {name!r}{suggestion(name, known)}; known are {', '.join(known)}"
        raise InputError(said, key=KEY)
    return _made(_loaded(installed[name]), given, name)


def check_policy_text(text: str) -> None:
    """Raise InputError (key `policy`) unless a scenario may name this policy."""
    find_policy(text)


def check_installed(text: str) -> None:
    """Raise InputError (key `policy`) unless a policy of this name is built in or installed. What
    a package installed is not loaded for that: it is made, or refused, where it will run.
    """
    if len(text) <= TEXT_LENGTH_MAX and _FILE.fullmatch(text):
        said = "a daemon takes policies that are built in or installed; `pagesoak run` takes files"
        raise InputError(f"{text!r}: {said}", key=KEY)
    name, given = split_options(text)
    if name in BUILT_IN:
        _made(BUILT_IN[name], given, name)
    elif name not in _installed():
        find_policy(text)


def offered() -> Iterator[Offered]:
    """Every policy that has a name: built in, then installed."""
    for name, factory in BUILT_IN.items():
        yield Offered(name, factory(), "built in")
    for name, point in _installed().items():
        package = point.dist.name if point.dist is not None else point.value
        yield Offered(name, _made(_loaded(point), {}, name), package)


def _installed() -> dict[str, EntryPoint]:
    points = sorted(entry_points(group=GROUP), key=lambda point: (point.name, point.value))
    return {point.name: point for point in points if point.name not in BUILT_IN}


def _loaded(point: EntryPoint) -> Any:
    try:
        return point.load()
    except Exception as error:
        said = f"cannot be loaded: {type(error).__name__}: {error}"
        raise InputError(f"{point.name} ({point.value}): {said}", key=KEY) from error


def _from_file(file: Path, attribute: str) -> Any:
    if not file.is_file():
        raise InputError("no such file", file=file, key=KEY)
    spec = importlib.util.spec_from_file_location(MODULE_NAME, file)
    if spec is None or spec.loader is None:
        raise InputError("is no Python file", file=file, key=KEY)
    module = importlib.util.module_from_spec(spec)
    try:
        spec.loader.exec_module(module)
    except SyntaxError as error:
        raise InputError(error.msg, file=file, line=error.lineno, key=KEY) from error
    except Exception as error:
        said = f"cannot be loaded: {type(error).__name__}: {error}"
        raise InputError(said, file=file, key=KEY) from error
    found = getattr(module, attribute, None)
    if found is None:
        raise InputError(f"has no {attribute!r}", file=file, key=KEY)
    return found


def _made(factory: Any, given: dict[str, str], name: str) -> Policy:
    """A policy that has what the reporter will ask for."""
    try:
        policy = with_options(factory, given, name)
    except InputError:
        raise
    except Exception as error:
        said = f"cannot be made: {type(error).__name__}: {error}"
        raise InputError(f"{name}: {said}", key=KEY) from error
    for function in ("at_zone", "at_hold"):
        if not callable(getattr(policy, function, None)):
            raise InputError(f"{name}: is no policy, it has no {function}", key=KEY)
    own = getattr(policy, "name", None)
    if not isinstance(own, str) or not _NAME.fullmatch(own):
        said = "must be a text of a to z, 0 to 9, dot, dash and underscore"
        raise InputError(f"{name}: its name {said}, not {own!r}", key=KEY)
    Guarded(policy)  # what it says of its device
    checked: Policy = policy
    return checked


__all__ = ["GROUP", "Offered", "check_installed", "check_policy_text", "find_policy", "offered"]
