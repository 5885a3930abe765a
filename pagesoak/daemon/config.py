"""The daemon's configuration: a TOML file, every mistake in it reported at once with its line.

Every key has a default, so that no file is needed. `docs/daemon.md` lists them.
"""

import ipaddress
import re
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Annotated, Any, NamedTuple

from pydantic import BaseModel, BeforeValidator, ConfigDict, Field
from pydantic_core.core_schema import ValidationInfo

from pagesoak.base import scenario_values as values
from pagesoak.base.errors import InputError, InputErrors
from pagesoak.base.scenario_checks import Mistake, TableView
from pagesoak.base.scenario_file import dotted, key_lines, line_of, parse_toml, read_text
from pagesoak.base.scenario_reading import read_table
from pagesoak.base.scenario_tables import Reading, Table
from pagesoak.base.units import GIB, MIB, NS_PER_DAY, NS_PER_MINUTE
from pagesoak.daemon.places import SOCKET_PATH_BYTES_MAX, default_results, default_socket

AT_ONCE_MAX = 64
"""Soaks at once: each has three processes or more, and a machine has not more CPUs than this."""
HOSTS_MAX = 32
"""Names that a daemon of one machine goes by."""
RECORDINGS_MAX = 32
"""Folders to read recordings from."""
PORT_MAX = 65535

KEEP_FOR_DEFAULT_NS = 90 * NS_PER_DAY
"""A quarter: nobody asks for an older run who has not put it elsewhere."""
KEEP_SIZE_DEFAULT_BYTES = 20 * GIB
"""Some seventy runs whose events are as large as they may be; thousands of ordinary ones."""
KEEP_FOR_MAX_NS = 3650 * NS_PER_DAY
KEEP_SIZE_MIN_BYTES = MIB
KEEP_SIZE_MAX_BYTES = 1 << 50

_HOST = re.compile(r"[A-Za-z0-9]([A-Za-z0-9.-]{0,251}[A-Za-z0-9])?|\[[0-9A-Fa-f:.]{2,45}\]")
_LISTEN = re.compile(r"(?P<address>[0-9.]+|\[[0-9A-Fa-f:.]+\]|localhost):(?P<port>[0-9]{1,5})")


class Listen(NamedTuple):
    """A TCP address of this machine alone."""

    address: str
    port: int


def _path(value: object, info: ValidationInfo) -> Path:
    if not isinstance(value, str) or not value or "\0" in value:
        raise ValueError("must be a path, in quotes")
    folder = info.context.folder if isinstance(info.context, Reading) else Path()
    return Path(folder / value).absolute()


def _socket_path(value: object, info: ValidationInfo) -> Path:
    path = _path(value, info)
    if len(bytes(path)) > SOCKET_PATH_BYTES_MAX:
        raise ValueError(f"must be at most {SOCKET_PATH_BYTES_MAX} bytes long: {path}")
    return path


def _folders(value: object, info: ValidationInfo) -> tuple[Path, ...]:
    if not isinstance(value, list) or len(value) > RECORDINGS_MAX:
        raise ValueError(f"must be a list of at most {RECORDINGS_MAX} folders")
    folders = tuple(_path(entry, info) for entry in value)
    for folder in folders:
        if not folder.is_dir():
            raise ValueError(f"no such folder: {folder}")
    return folders


def _hosts(value: object) -> tuple[str, ...]:
    if not isinstance(value, list) or len(value) > HOSTS_MAX:
        raise ValueError(f"must be a list of at most {HOSTS_MAX} names")
    for name in value:
        if not isinstance(name, str) or not _HOST.fullmatch(name):
            raise ValueError(f"must be names of hosts without a port, not {name!r}")
    return tuple(name.lower() for name in value)


def _listen(value: object) -> Listen:
    match = _LISTEN.fullmatch(value) if isinstance(value, str) else None
    if match is None or int(match["port"]) > PORT_MAX:
        raise ValueError('must be an address and a port, like "127.0.0.1:9464"')
    text = "127.0.0.1" if match["address"] == "localhost" else match["address"].strip("[]")
    try:
        address = ipaddress.ip_address(text)
    except ValueError:
        raise ValueError(f"no such address: {match['address']}") from None
    if not address.is_loopback:
        raise ValueError(
            f"must be an address of this machine alone, like 127.0.0.1, not {text}: whoever "
            "reaches the port sees all figures"
        )
    return Listen(str(address), int(match["port"]))


class Control(Table):
    """How the daemon is reached."""

    socket: Annotated[Path | None, BeforeValidator(_socket_path)] = None
    hosts: Annotated[tuple[str, ...], BeforeValidator(_hosts)] = ()


class Runs(Table):
    """Where runs are kept, and how many there may be."""

    directory: Annotated[Path | None, BeforeValidator(_path)] = None
    at_once_max: Annotated[int, Field(ge=1, le=AT_ONCE_MAX)] = 8
    recordings: Annotated[tuple[Path, ...], BeforeValidator(_folders)] = ()
    keep_for_ns: Annotated[
        int, BeforeValidator(values.duration(NS_PER_MINUTE, KEEP_FOR_MAX_NS))
    ] = Field(default=KEEP_FOR_DEFAULT_NS, alias="keep_for")
    keep_size_bytes: Annotated[
        int, BeforeValidator(values.size(KEEP_SIZE_MIN_BYTES, KEEP_SIZE_MAX_BYTES, MIB))
    ] = Field(default=KEEP_SIZE_DEFAULT_BYTES, alias="keep_size")
    chaos: bool = False


class Metrics(Table):
    """What Prometheus gets."""

    listen: Annotated[Listen | None, BeforeValidator(_listen)] = None
    keep_ended_ns: Annotated[int, BeforeValidator(values.duration(0, NS_PER_DAY))] = Field(
        default=10 * NS_PER_MINUTE, alias="keep_ended"
    )


class Page(Table):
    """The page for browsers."""

    listen: Annotated[Listen | None, BeforeValidator(_listen)] = None
    changes: bool = False


class _Head(Table):
    """There are no keys outside of tables."""


class Config(BaseModel):
    """The whole configuration; paths are absolute."""

    model_config = ConfigDict(frozen=True, arbitrary_types_allowed=True)

    file: Path | None
    socket: Path
    hosts: tuple[str, ...]
    results: Path
    at_once_max: int
    recordings: tuple[Path, ...]
    keep_for_ns: int
    keep_size_bytes: int
    chaos: bool
    listen: Listen | None
    keep_ended_ns: int
    page_listen: Listen | None = None
    page_changes: bool = False

    def needs_restart(self, other: "Config") -> list[str]:
        """What of `other` cannot take effect while the daemon runs, by key."""
        return [key for key, name in FIXED.items() if getattr(self, name) != getattr(other, name)]


FIXED = {
    "control.socket": "socket",
    "runs.directory": "results",
    "metrics.listen": "listen",
    "page.listen": "page_listen",
    "page.changes": "page_changes",
}
"""Keys, and attributes, that hold as long as the daemon runs."""
TABLES: dict[str, type[Table]] = {
    "control": Control,
    "runs": Runs,
    "metrics": Metrics,
    "page": Page,
}


def load_config(file: Path | None, environment: Mapping[str, str]) -> Config:
    """The configuration in `file`, all defaults without one; `InputErrors` with all mistakes."""
    text = "" if file is None else read_text(file)
    return parse_config(text, file, environment)


def parse_config(text: str, file: Path | None, environment: Mapping[str, str]) -> Config:
    """The configuration in a text; mistakes are named as in `file`."""
    name = file or Path("configuration")
    document = parse_toml(text, name)
    mistakes: list[Mistake] = []
    folder = name.absolute().parent
    rest: dict[str, Any] = {key: value for key, value in document.items() if key not in TABLES}
    read_table(_Head, rest, (), folder, mistakes, also=TABLES)
    tables: dict[str, Any] = {}
    views: dict[str, TableView] = {}
    for key, model in TABLES.items():
        raw = document.get(key, {})
        tables[key], views[key] = read_table(model, raw, (key,), folder, mistakes)
    mistakes += _between_tables(views["metrics"], views["page"])
    if mistakes:
        lines = key_lines(text)
        errors = [
            InputError(message, file=name, line=line_of(lines, key), key=dotted(key))
            for key, message in mistakes
        ]
        raise InputErrors(sorted(errors, key=lambda error: error.line or 0))
    control, runs, metrics = tables["control"], tables["runs"], tables["metrics"]
    return Config(
        file=file,
        socket=control.socket or _checked(default_socket(environment)),
        hosts=control.hosts,
        results=runs.directory or default_results(environment).absolute(),
        at_once_max=runs.at_once_max,
        recordings=runs.recordings,
        keep_for_ns=runs.keep_for_ns,
        keep_size_bytes=runs.keep_size_bytes,
        chaos=runs.chaos,
        listen=metrics.listen,
        keep_ended_ns=metrics.keep_ended_ns,
        page_listen=tables["page"].listen,
        page_changes=tables["page"].changes,
    )


def _between_tables(metrics: TableView, page: TableView) -> Iterator[Mistake]:
    """What each table alone cannot tell: a port, unless it is any that is free, is had once."""
    listen: Listen | None = page.get("listen")
    if listen is not None and listen.port and listen == metrics.get("listen"):
        said = f"must not be that of metrics.listen: only one can have port {listen.port}"
        yield page.mistake("listen", said)


def _checked(socket: Path) -> Path:
    """The default socket, if it can be one."""
    path = socket.absolute()
    if len(bytes(path)) > SOCKET_PATH_BYTES_MAX:
        said = f"must be at most {SOCKET_PATH_BYTES_MAX} bytes long: {path}"
        raise InputError(f"{said}; name another in the configuration", key="control.socket")
    return path
