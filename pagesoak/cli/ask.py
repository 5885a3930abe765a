"""What the verbs that ask the daemon share: where it is, and texts that are safe to show."""

import re
from typing import Annotated

import typer

from pagesoak.base.errors import InputError
from pagesoak.base.run_name import RUN_NAME, RUN_NAME_WORDS
from pagesoak.cli.complete import complete_going_run, complete_run
from pagesoak.daemon.client import Client

Socket = Annotated[
    str | None,
    typer.Option(
        "--socket", help="The daemon's socket, if it is not where this user's is.", metavar="PATH"
    ),
]
AsJson = Annotated[bool, typer.Option("--json", help="Print one JSON object on one line.")]
RunName = Annotated[
    str, typer.Argument(metavar="RUN", help="The run's name.", autocompletion=complete_run)
]
GoingRunName = Annotated[
    str, typer.Argument(metavar="RUN", help="The run's name.", autocompletion=complete_going_run)
]

_RUN_NAME = re.compile(RUN_NAME)
MINUTE_SECONDS = 60
HOUR_SECONDS = 3600
DAY_SECONDS = 86400


def client(path: str | None) -> Client:
    """The daemon."""
    return Client(path)


def of_run(name: str, what: str = "") -> str:
    """Where the daemon has a run, or something of it; InputError for what no run can be called."""
    if not _RUN_NAME.fullmatch(name):
        raise InputError(f"no run is called {shown(name)!r}: {RUN_NAME_WORDS}", key="run")
    return f"/v1/runs/{name}{'/' if what else ''}{what}"


def shown(value: object) -> str:
    """A text from elsewhere: what could move a cursor is escaped; nothing is a dash."""
    text = "-" if value is None else str(value)
    return "".join(char if char.isprintable() else repr(char)[1:-1] for char in text)


def span(seconds: float | None) -> str:
    """A length of time to be read at a glance: `42s`, `3m20s`, `5h02m`, `12d4h`."""
    if seconds is None:
        return "-"
    whole = int(seconds)
    if whole < MINUTE_SECONDS:
        return f"{whole}s" if whole or not seconds else f"{seconds:.1f}s"
    if whole < HOUR_SECONDS:
        return f"{whole // MINUTE_SECONDS}m{whole % MINUTE_SECONDS:02}s"
    if whole < DAY_SECONDS:
        return f"{whole // HOUR_SECONDS}h{whole % HOUR_SECONDS // MINUTE_SECONDS:02}m"
    return f"{whole // DAY_SECONDS}d{whole % DAY_SECONDS // HOUR_SECONDS}h"


def columns(rows: list[list[str]]) -> str:
    """Rows as lines, each column as wide as its widest cell, two spaces between."""
    widths = [max(map(len, cells)) for cells in zip(*rows, strict=True)]
    lines = ("  ".join(map(str.ljust, cells, widths)).rstrip() for cells in rows)
    return "\n".join(lines) + "\n"
