"""`pagesoak events` and `pagesoak logs`: a run's files as the daemon has them, line by line."""

import json
from collections.abc import Callable
from typing import Annotated, Any

import typer

from pagesoak.cli.ask import RunName, Socket, client, of_run, shown
from pagesoak.cli.output import write_out

Follow = Annotated[
    bool, typer.Option("--follow", "-f", help="Wait for more until the run has ended.")
]
Lines = Annotated[
    bool, typer.Option("--json", help="The lines as they are, each one JSON object.")
]
LOG_LEAD = frozenset(
    {
        "time",
        "level",
        "worker",
        "event",
        "run",
        "policy",
        "seed",
        "incarnation",
        "logger",
        "monotonic_ns",
    }
)
"""What a line of the log begins with, or what is the same in all of them."""
NANOSECONDS_PER_SECOND = 1_000_000_000


def events(
    run: RunName, follow: Follow = False, as_json: Lines = False, socket: Socket = None
) -> None:
    """Print what happened in a run."""
    _print(run, "events", _event_text, follow=follow, as_json=as_json, socket=socket)


def logs(
    run: RunName, follow: Follow = False, as_json: Lines = False, socket: Socket = None
) -> None:
    """Print what a run's workers logged."""
    _print(run, "logs", _log_text, follow=follow, as_json=as_json, socket=socket)


def _print(
    run: str,
    what: str,
    text: Callable[[dict[str, Any]], str],
    *,
    follow: bool,
    as_json: bool,
    socket: str | None,
) -> None:
    target = of_run(run, f"{what}?follow={'true' if follow else 'false'}")
    for event in client(socket).stream(target):
        line = event.get("data")
        if line is None:
            continue
        if not write_out(f"{line}\n" if as_json else f"{_shown_line(line, text)}\n"):
            return


def _shown_line(line: str, text: Callable[[dict[str, Any]], str]) -> str:
    """A line for people; what is no object of the kind that is expected, as it is."""
    try:
        return text(json.loads(line))
    except (ValueError, KeyError, TypeError):
        return shown(line)


def _fields(document: dict[str, Any], known: frozenset[str]) -> str:
    return " ".join(f"{shown(k)}={shown(v)}" for k, v in document.items() if k not in known)


def _event_text(event: dict[str, Any]) -> str:
    seconds = event["monotonic_ns"] / NANOSECONDS_PER_SECOND
    named = _fields(event, frozenset({"monotonic_ns", "worker", "kind"}))
    return f"{seconds:16.6f}  {event['worker']:>2}  {shown(event['kind']):<20} {named}".rstrip()


def _log_text(record: dict[str, Any]) -> str:
    lead = f"{shown(record['time'])} {shown(record['level']):<7} {shown(record['worker']):<13}"
    return f"{lead} {shown(record['event'])} {_fields(record, LOG_LEAD)}".rstrip()
