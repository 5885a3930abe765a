"""`pagesoak pause`, `resume` and `set`: steer a soak while it runs."""

from typing import Annotated

import typer

from pagesoak.base.errors import InputError
from pagesoak.cli.ask import AsJson, GoingRunName, Socket, client, of_run, shown
from pagesoak.cli.complete import one_of
from pagesoak.cli.output import print_json, write_out
from pagesoak.cli.runs import settings_words

KEYS = ("policy", "factor", "delay", "host.latency", "host.latency_per_mib", "load")
"""Those of `engine.settings`, which takes a while to import."""
Pairs = Annotated[
    list[str],
    typer.Argument(
        metavar="KEY=VALUE...",
        help=f"What to change: {', '.join(KEYS)}.",
        autocompletion=one_of([f"{key}=" for key in KEYS]),
    ),
]


def pause(run: GoingRunName, as_json: AsJson = False, socket: Socket = None) -> None:
    """Let a run stand still: its guest, its reporter, its clock; `resume` lets it go on."""
    _order(run, "pause", {}, as_json=as_json, socket=socket)


def resume(run: GoingRunName, as_json: AsJson = False, socket: Socket = None) -> None:
    """Let a run go on that was paused; nothing is made up for."""
    _order(run, "resume", {}, as_json=as_json, socket=socket)


def set_values(
    run: GoingRunName, pairs: Pairs, as_json: AsJson = False, socket: Socket = None
) -> None:
    """Change policy, host or load of a run while it goes on; the change is among its events."""
    _order(run, "set", read_pairs(pairs), as_json=as_json, socket=socket)


def read_pairs(pairs: list[str]) -> dict[str, str]:
    """Keys and values of `KEY=VALUE` texts; InputError for what is none, or given twice."""
    found: dict[str, str] = {}
    for pair in pairs:
        key, equals, value = pair.partition("=")
        if not equals or not key:
            raise InputError(f"{shown(pair)!r} is not KEY=VALUE, like delay=5s", key="set")
        if key in found:
            raise InputError("is given twice", key=shown(key))
        found[key] = value
    return found


def _order(
    run: str, what: str, document: dict[str, str], *, as_json: bool, socket: str | None
) -> None:
    record = client(socket).post(of_run(run, what), document)
    if as_json:
        print_json(record)
    else:
        words = settings_words(record["settings"])
        write_out(f"{shown(run)}: {shown(record['state'])}{', ' if words else ''}{words}\n")
