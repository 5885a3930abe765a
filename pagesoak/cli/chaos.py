"""`pagesoak chaos`: make a fault happen in a run of the daemon, to see what becomes of it."""

from typing import Annotated

import typer

from pagesoak.base.faults import FAULTS, POINT_NAMES
from pagesoak.base.units import NS_PER_SECOND, parse_duration_ns
from pagesoak.cli.ask import AsJson, GoingRunName, Socket, client, of_run
from pagesoak.cli.complete import one_of
from pagesoak.cli.output import print_json, write_out


def chaos(
    run: GoingRunName,
    fault: Annotated[
        str,
        typer.Argument(help=f"One of {', '.join(FAULTS)}.", autocompletion=one_of(FAULTS)),
    ],
    cpu: Annotated[
        int | None, typer.Option(help="Which guest CPU, any without it.", metavar="CPU")
    ] = None,
    lasts: Annotated[
        str | None,
        typer.Option(
            "--for", help="How long a worker is stopped, a call takes longer, a clock jumps: 1s."
        ),
    ] = None,
    point: Annotated[
        str | None,
        typer.Option(
            help=f"Where in a hold: one of {', '.join(POINT_NAMES)}; any without it.",
            autocompletion=one_of(POINT_NAMES),
        ),
    ] = None,
    as_json: AsJson = False,
    socket: Socket = None,
) -> None:
    """Kill or stop a worker of a run, or have its host do wrong, where the daemon allows that.

    What became of it is among the run's events, and in its summary.
    """
    wanted: dict[str, object] = {"fault": fault}
    if lasts is not None:
        wanted["seconds"] = parse_duration_ns(lasts) / NS_PER_SECOND
    if cpu is not None:
        wanted["cpu"] = cpu
    if point is not None:
        wanted["point"] = point
    record = client(socket).post(of_run(run, "chaos"), wanted)
    if as_json:
        print_json(record)
    else:
        write_out(f"{run}: {fault} is on its way; see `pagesoak events {run}`\n")
