"""`pagesoak runner`: how the daemon executes a soak. Not for people; it is left out of the help.

What to run comes on standard input, one JSON object: `scenario` (the text of a scenario file),
`name`, `results`, `command`, `started` (when that was ordered, seconds since the epoch), and
`parent`, the daemon's process. Everything that is said goes over
the line (`engine.line`), whose socket is the descriptor that `--line` names.
"""

import json
import sys
from pathlib import Path
from typing import Annotated, Any

import typer

from pagesoak.base.errors import HarnessError, PagesoakError
from pagesoak.engine.line import Line, end_with_parent
from pagesoak.engine.machine_oom import RUN_SCORE_MORE, be_killed_sooner


def runner(
    line: Annotated[int, typer.Option(help="Descriptor of the socket to the daemon.")],
) -> None:
    """Run one soak for the daemon."""
    wanted = json.load(sys.stdin)
    end_with_parent(wanted["parent"])
    be_killed_sooner(RUN_SCORE_MORE)
    connection = Line(line)
    try:
        exit_code = _run(wanted, connection)
    except PagesoakError as error:
        connection.refused(str(error))
        if isinstance(error, HarnessError):
            raise
        raise typer.Exit(error.exit_code) from error
    raise typer.Exit(exit_code)


def _run(wanted: dict[str, Any], line: Line) -> int:
    from pagesoak.base.scenario import parse_scenario
    from pagesoak.cli.common import load_core
    from pagesoak.engine.policy_choice import check_policy_text
    from pagesoak.engine.runner import run_scenario

    scenario = parse_scenario(
        wanted["scenario"],
        file="scenario.toml",
        folder=Path(),
        policies=check_policy_text,
    )
    load_core()
    outcome = run_scenario(
        scenario,
        results=Path(wanted["results"]),
        command=wanted["command"],
        name=wanted["name"],
        started=wanted["started"],
        line=line,
    )
    line.ended(outcome.summary, outcome.exit_code, outcome.complaint)
    return outcome.exit_code
