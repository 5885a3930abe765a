"""`pagesoak start` and `pagesoak stop`: have the daemon run a soak, and end one."""

import secrets
import sys
import time
from pathlib import Path
from typing import Annotated, Any

import typer

from pagesoak.base.errors import EXIT_USAGE
from pagesoak.cli.ask import AsJson, GoingRunName, Socket, client, of_run, shown
from pagesoak.cli.complete import ScenarioName, complete_policy
from pagesoak.cli.output import print_json, write_out
from pagesoak.cli.runs import state_words
from pagesoak.daemon.client import Client

NAME_LETTERS = "abcdefghjkmnpqrstuvwxyz23456789"
"""Of made-up names: nothing that is read for something else."""
NAME_LETTERS_COUNT = 5
NAME_CHARS_MAX = 50
"""Of the scenario's name in the run's."""
LOOK_SECONDS = 0.2
"""Between two looks at whether a run has begun, or ended."""
STOP_SECONDS_MAX = 120.0
"""A run that is asked to stop finishes its pass, verifies every page in use, and audits."""


def start(
    scenario: ScenarioName,
    name: Annotated[str | None, typer.Option(help="The run's name; made up without it.")] = None,
    policy: Annotated[
        str | None,
        typer.Option(help="See `pagesoak policies`.", autocompletion=complete_policy),
    ] = None,
    duration: Annotated[str | None, typer.Option(help="How long, e.g. 90s or 30d.")] = None,
    seed: Annotated[int | None, typer.Option(help="Seed of every random choice.")] = None,
    wait: Annotated[
        bool, typer.Option("--wait/--no-wait", help="Wait until its guest is made, or refused.")
    ] = True,
    as_json: AsJson = False,
    socket: Socket = None,
) -> None:
    """Start a soak in the daemon, and say how to follow it."""
    daemon = client(socket)
    daemon.get("/v1/version")
    wanted, scenario_name = _scenario(scenario)
    run = made_up_name(scenario_name) if name is None else name
    options = {"policy": policy, "duration": duration, "seed": seed}
    wanted |= {key: value for key, value in options.items() if value is not None}
    record = daemon.post("/v1/runs", {"run": run, **wanted})
    while wait and record["state"] == "starting":
        time.sleep(LOOK_SECONDS)
        record = daemon.get(of_run(run))
    if as_json:
        print_json(record)
    if record["state"] == "refused":
        sys.stderr.write(f"pagesoak: {shown(record['reason'])}\n")
        raise typer.Exit(EXIT_USAGE)
    if as_json:
        return
    if record["pid"] is None:
        write_out(f"{run} is over already: {state_words(record)}\n")
    else:
        write_out(
            f"{run}: {shown(record['scenario'])}, policy {shown(record['policy'])}\n"
            f"  pagesoak attach {run}    looks on\n"
            f"  pagesoak stop {run}      ends it\n"
        )


def stop(
    run: GoingRunName,
    wait: Annotated[bool, typer.Option("--wait/--no-wait", help="Wait for its end.")] = True,
    as_json: AsJson = False,
    socket: Socket = None,
) -> None:
    """End a run in order: its results are kept, its verdict says `interrupted`."""
    daemon = client(socket)
    record = daemon.post(of_run(run, "stop"))
    if wait:
        record = _ended(daemon, run, record)
    if as_json:
        print_json(record)
        return
    write_out(f"{run}: {state_words(record)}\n")


def _ended(daemon: Client, run: str, record: dict[str, Any]) -> dict[str, Any]:
    deadline = time.monotonic() + STOP_SECONDS_MAX
    while record["pid"] is not None and time.monotonic() < deadline:
        time.sleep(LOOK_SECONDS)
        record = daemon.get(of_run(run))
    return record


def _scenario(text: str) -> tuple[dict[str, Any], str]:
    """What the request says of the scenario, and its name. A file is read here: its paths mean
    what they mean in the caller's directory.
    """
    from pagesoak.base.scenario import builtin_names, find_scenario, load_scenario

    if text in builtin_names():
        return {"scenario": text}, text
    scenario = load_scenario(find_scenario(Path(text)))
    return {"scenario_toml": scenario.as_toml()}, scenario.name


def made_up_name(scenario: str) -> str:
    """A name for a run of a scenario that no other has."""
    letters = "".join(secrets.choice(NAME_LETTERS) for _ in range(NAME_LETTERS_COUNT))
    return f"{scenario[:NAME_CHARS_MAX].lower().lstrip('-._')}-{letters}"
