"""`pagesoak chaos`: make a fault happen in a run of the daemon, to see what becomes of it."""

from typing import Annotated

import typer

from pagesoak.base.faults import FAULTS, POINT_NAMES
from pagesoak.base.units import NS_PER_SECOND, parse_duration_ns
from pagesoak.cli.ask import AsJson, RunName, Socket, client, quoted
from pagesoak.cli.common import print_json, write_out


def chaos(
    run: RunName,
    fault: Annotated[str, typer.Argument(help=f"One of {', '.join(FAULTS)}.")],
    cpu: Annotated[
        int | None, typer.Option(help="Which guest CPU, any without it.", metavar="CPU")
    ] = None,
    lasts: Annotated[
        str,
        typer.Option(
            "--for", help="How long a worker is stopped, a call takes longer, a clock jumps."
        ),
    ] = "1s",
    point: Annotated[
        str | None, typer.Option(help=f"Where in a hold: one of {', '.join(POINT_NAMES)}.")
    ] = None,
    as_json: AsJson = False,
    socket: Socket = None,
) -> None:
    """Kill or stop a worker of a run, or have its host do wrong, where the daemon allows that.

    What became of it is among the run's events, and in its summary.
    """
    wanted: dict[str, object] = {
        "fault": fault,
        "seconds": parse_duration_ns(lasts) / NS_PER_SECOND,
    }
    if cpu is not None:
        wanted["cpu"] = cpu
    if point is not None:
        wanted["point"] = point
    record = client(socket).post(f"/v1/runs/{quoted(run)}/chaos", wanted)
    if as_json:
        print_json(record)
    else:
        write_out(f"{run}: {fault} is on its way; see `pagesoak events {run}`\n")
