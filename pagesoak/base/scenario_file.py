"""Scenario files as texts: finding one, reading its TOML, and the line each key stands on.

`tomllib` gives values without places, and a mistake is only helpful with its line. So a small
scanner walks over the text a second time: it knows statements (`[table]`, `[[table]]`, `key =
value`) and how a value ends, nothing more, and relies on `tomllib` having accepted the text. A key
inside an inline table has the line of the statement.
"""

import bisect
import difflib
import json
import re
import tomllib
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass
from importlib import resources
from pathlib import Path
from typing import Any

from pagesoak.base.errors import InputError

FILE_SUFFIX = ".toml"
FILE_BYTES_MAX = (
    1 << 18
)  # a scenario is a page of text; bounds the work on a file given by mistake

Key = tuple[str | int, ...]
"""Where a value stands: ("guest", "memory"), ("load", 0, "cpu"); numbers count from 0."""


@dataclass(frozen=True)
class TomlFloat:
    """A number with a point or an exponent, kept as its text: nothing is rounded by a float."""

    text: str


def builtin_names() -> tuple[str, ...]:
    """Names of the scenarios that come with pagesoak, in alphabetical order."""
    return tuple(sorted(_builtins()))


def find_scenario(name_or_path: str | Path) -> Path:
    """The file of a built-in scenario by its name, or of the user's own by its path.

    A built-in name wins; write "./idle-512m" for a file of that name. `InputError` with the
    closest names if there is neither.
    """
    text = str(name_or_path)
    builtins = _builtins()
    if text in builtins:
        return builtins[text]
    path = Path(text)
    if "\0" not in text and path.is_file():
        return path
    if text.endswith(FILE_SUFFIX) or "/" in text:
        raise InputError("no such scenario file", file=text)
    known = ", ".join(sorted(builtins))
    raise InputError(
        f"no scenario named {text!r}{suggestion(text, builtins)};"
        f" built in are {known}; or give the path of a TOML file"
    )


def _builtins() -> dict[str, Path]:
    folder = Path(str(resources.files("pagesoak") / "scenarios"))
    return {path.stem: path for path in folder.glob("*" + FILE_SUFFIX)}


def suggestion(wrong: str, known: Iterable[str]) -> str:
    """` (did you mean "x" or "y"?)` for what is close to `wrong`, or an empty text."""
    close = difflib.get_close_matches(wrong, list(known), n=2)
    return f" (did you mean {' or '.join(map(repr, close))}?)" if close else ""


def read_text(path: Path) -> str:
    """The text of a scenario file; `InputError` if it cannot be read or is no text."""
    try:
        with path.open("rb") as file:
            raw = file.read(FILE_BYTES_MAX + 1)
    except OSError as error:
        raise InputError(f"cannot be read: {error.strerror or error}", file=path) from error
    if len(raw) > FILE_BYTES_MAX:
        raise InputError(f"is larger than {FILE_BYTES_MAX} bytes, so it is no scenario", file=path)
    try:
        return raw.decode("utf-8")
    except UnicodeDecodeError as error:
        line = raw.count(b"\n", 0, error.start) + 1
        raise InputError("is not UTF-8 text", file=path, line=line) from error


def parse_toml(text: str, file: str | Path) -> dict[str, Any]:
    """The document as dicts, lists and plain values, floats as `TomlFloat`; or `InputError`."""
    try:
        return tomllib.loads(text, parse_float=TomlFloat)
    except RecursionError as error:
        raise InputError("is nested too deep", file=file) from error
    except ValueError as error:  # TOMLDecodeError, and the int() of an absurdly long number
        message = str(error)
        match = re.search(r" \(at line ([0-9]+), column ([0-9]+)\)$", message)
        if match is not None:
            where = f"{message[: match.start()]} (column {match.group(2)})"
            raise InputError(f"TOML: {where}", file=file, line=int(match.group(1))) from error
        at_end = message.endswith("(at end of document)")
        line = max(1, len(text.splitlines())) if at_end else None
        raise InputError(f"TOML: {message}", file=file, line=line) from error


def dotted(key: Key) -> str:
    """`key` as people write it: `guest.memory`, `load[0].cpu`."""
    text = ""
    for part in key:
        text += f"[{part}]" if isinstance(part, int) else f".{part}"
    return text.removeprefix(".")


def line_of(lines: Mapping[Key, int], key: Key) -> int | None:
    """The line of `key`, or of the innermost table around it that stands in the text."""
    for length in range(len(key), 0, -1):
        if key[:length] in lines:
            return lines[key[:length]]
    return None


def key_lines(text: str) -> dict[Key, int]:
    """The line (from 1) of every table header and key of a text that `tomllib` accepts."""
    lines: dict[Key, int] = {}
    table: Key = ()
    array_lengths: dict[Key, int] = {}
    line_ends = [match.start() for match in re.finditer("\n", text)]
    for offset, is_array, statement in _statements(text):
        parts: Key = tuple(_key_parts(statement.lstrip("[")))
        if statement.startswith("["):
            table = _within_arrays(parts, array_lengths, is_array)
            key = table
        else:
            key = table + parts
        line = bisect.bisect_left(line_ends, offset) + 1
        for length in range(1, len(key) + 1):  # `a.b = 1` is also the first line of `a`
            lines.setdefault(key[:length], line)
    return lines


def _within_arrays(parts: Key, array_lengths: dict[Key, int], is_array: bool) -> Key:
    """The header's name, with the number of the current element after each array of tables."""
    key: Key = ()
    for position, part in enumerate(parts):
        key += (part,)
        if is_array and position == len(parts) - 1:
            array_lengths[key] = array_lengths.get(key, 0) + 1
        if key in array_lengths:
            key += (array_lengths[key] - 1,)
    return key


_BLANK = re.compile(r"(?:[ \t\r\n]|#[^\n]*)*")
_HEADER = re.compile(r"\[[^\n]*")
_QUOTED = r'"(?:[^"\\\n]|\\.)*"|\'[^\'\n]*\''
_KEY = re.compile(rf"(?:[A-Za-z0-9_.\- \t]|{_QUOTED})+")
_KEY_PART = re.compile(rf"[A-Za-z0-9_-]+|{_QUOTED}")
_VALUE_PIECE = re.compile(
    r'"""(?:[^\\]|\\.)*?"{3,5}(?!")|\'\'\'.*?\'{3,5}(?!\')|'
    + _QUOTED
    + r"|#[^\n]*|[\[{]|[\]}]|\n|.",
    re.DOTALL,
)


def _statements(text: str) -> Iterator[tuple[int, bool, str]]:
    """(offset, is `[[...]]`, "[" and the table's name or just the key) of each statement."""
    offset = 0
    while True:
        blank = _BLANK.match(text, offset)
        offset = blank.end() if blank else offset
        header = _HEADER.match(text, offset)
        if header is not None:
            yield offset, header.group().startswith("[["), _header_name(header.group())
            offset = header.end()
            continue
        key = _KEY.match(text, offset)
        if key is None or key.end() >= len(text):
            return
        yield offset, False, key.group()
        offset = _end_of_value(text, key.end() + 1)


def _header_name(header: str) -> str:
    """The header without what follows its closing bracket, still marked by one opening bracket."""
    name = _KEY.match(header.lstrip("["))
    return "[" + (name.group() if name else "")


def _end_of_value(text: str, offset: int) -> int:
    """Where the value from `offset` on ends: at a line's end outside of strings and brackets."""
    depth = 0
    for piece in _VALUE_PIECE.finditer(text, offset):
        part = piece.group()
        if part in ("[", "{"):
            depth += 1
        elif part in ("]", "}"):
            depth -= 1
        elif part == "\n" and depth <= 0:
            return piece.end()
    return len(text)


def _key_parts(text: str) -> Iterator[str]:
    for match in _KEY_PART.finditer(text):
        part = match.group()
        if part[0] == '"':
            yield str(tomllib.loads(f"key = {part}")["key"])
        else:
            yield part.strip("'")


def toml_text(document: Mapping[str, Any]) -> str:
    """`document` (plain keys, tables, lists of tables) as TOML that reads back as the same."""
    lines = [f"{key} = {_toml(value)}" for key, value in document.items() if not _is_table(value)]
    for key, value in document.items():
        for table in value if isinstance(value, list) else [value]:
            if isinstance(table, Mapping):
                lines += ["", f"[[{key}]]" if isinstance(value, list) else f"[{key}]"]
                lines += [f"{name} = {_toml(entry)}" for name, entry in table.items()]
    return "\n".join(lines) + "\n"


def _is_table(value: object) -> bool:
    return isinstance(value, Mapping) or (
        isinstance(value, list) and bool(value) and isinstance(value[0], Mapping)
    )


def _toml(value: object) -> str:
    """One value as TOML; JSON's strings are TOML's but for one control character."""
    if isinstance(value, Mapping):
        return "{ " + ", ".join(f"{key} = {_toml(entry)}" for key, entry in value.items()) + " }"
    if isinstance(value, list):
        return "[" + ", ".join(map(_toml, value)) + "]"
    return json.dumps(value, ensure_ascii=False).replace("\x7f", "\\u007f")
