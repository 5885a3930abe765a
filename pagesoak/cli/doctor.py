"""`pagesoak doctor`: what of this machine would spoil a soak."""

import os
from pathlib import Path
from typing import Annotated

import typer

from pagesoak.base.errors import EXIT_LIMITS_BROKEN, EXIT_PASS
from pagesoak.cli.ask import AsJson, Socket, client, columns, shown
from pagesoak.cli.output import print_json, write_out
from pagesoak.daemon.client import NoDaemonError, RefusedError


def doctor(
    results: Annotated[
        Path | None, typer.Option(help="Where runs are to be kept; the daemon's place without it.")
    ] = None,
    as_json: AsJson = False,
    socket: Socket = None,
) -> None:
    """Look for what would spoil a soak: memory, processors, limits, huge pages, clock, disk.

    Exit code 1 when a soak would fail here.
    """
    from pagesoak.daemon.doctor import Finding, Level, Place, examine
    from pagesoak.daemon.places import default_results

    place = Place(default_results(os.environ).absolute())
    try:
        answer = client(socket).get("/v1/status")
        found = Finding("daemon", Level.OK, f"pagesoak {answer['pagesoak']} answers")
        place = Place(Path(answer["results"]), is_daemons=True, problem=answer["storage_problem"])
    except (NoDaemonError, RefusedError) as error:
        found = Finding("daemon", Level.NOTE, str(error))
    findings = [*examine(Place(results.absolute()) if results else place), found]
    is_bad = any(finding.level is Level.BAD for finding in findings)
    if as_json:
        print_json({"spoiled": is_bad, "findings": [f._asdict() for f in findings]})
    else:
        write_out(columns([[f.check, f.level, shown(f.text)] for f in findings]))
    raise typer.Exit(EXIT_LIMITS_BROKEN if is_bad else EXIT_PASS)
