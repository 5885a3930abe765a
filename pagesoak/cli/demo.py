"""`pagesoak demo`: the main job in a minute, and the failure this project is about.

A recorded guest under its own recorded load with reporting as Linux does it; then a load of bursts
with a host that takes long to answer, with reporting and without. Exit code 0 when the failure was
shown: bursts killed because pages were isolated, and none without reporting.
"""

import sys
from pathlib import Path
from typing import Annotated, Any

import typer

from pagesoak.base.errors import EXIT_LIMITS_BROKEN
from pagesoak.cli.common import (
    RESULTS,
    load_core,
    print_json,
    print_lines,
    print_summary,
    terminal_columns,
)
from pagesoak.cli.summary_text import folded

RECORDED_NS = 22_000_000_000
"""The recorded load takes 20.1 s; the rest is for the pass after it."""
BURSTS_NS = 15_000_000_000
"""Some thirty bursts, a third of which begin in a window."""
LONG_WINDOW_NS = 800_000_000
"""Extra time of a report call: a host under memory pressure, or a paused one."""
THINK_NS = 250_000_000
"""Mean think time: busier than the scenario, so that a quarter of a minute is enough."""


def _bursts(policy: str) -> Any:
    from pagesoak.base.scenario import find_scenario, load_scenario

    scenario = load_scenario(find_scenario("seed-512m")).with_overrides(
        policy=policy, duration_ns=BURSTS_NS
    )
    host = scenario.host.model_copy(update={"latency_per_call_ns": LONG_WINDOW_NS})
    loads = tuple(load.model_copy(update={"think_ns": THINK_NS}) for load in scenario.loads)
    return scenario.model_copy(update={"host": host, "loads": loads})


def demo(
    results: Annotated[Path, typer.Option(help="Folder for the runs' directories.")] = RESULTS,
    as_json: Annotated[
        bool, typer.Option("--json", help="The three summaries as one JSON object on one line.")
    ] = False,
) -> None:
    """Show a real guest being reported, a guest being starved by it, and the same without."""
    from rich.console import Console
    from rich.text import Text

    from pagesoak.base.scenario import find_scenario, load_scenario
    from pagesoak.engine.progress import Progress
    from pagesoak.engine.runner import run_scenario

    recorded = load_scenario(find_scenario("recorded-w2")).with_overrides(duration_ns=RECORDED_NS)
    parts = (
        (
            "recorded",
            recorded,
            "1. A recorded 512 MiB guest under its recorded load, reported as Linux does it",
        ),
        (
            "reporting",
            _bursts("mainline"),
            "2. Bursts of 100 MiB with 150 MiB free; a report call takes 800 ms longer",
        ),
        ("off", _bursts("off"), "3. The same bursts without reporting"),
    )
    console = Console(stderr=as_json)
    load_core()
    summaries = {}
    for name, scenario, title in parts:
        print_lines(console, [Text(title, "bold")])
        outcome = run_scenario(scenario, results=results, command=sys.argv, progress=Progress())
        print_summary(outcome.summary, console)
        print_lines(console, [""])
        if outcome.complaint:
            sys.stderr.write(f"pagesoak: {outcome.complaint}\n")
        if outcome.summary["verdict"] == "broken" or outcome.summary["interrupted"]:
            raise typer.Exit(outcome.exit_code)
        summaries[name] = outcome.summary
    kills = summaries["reporting"]["oom_events"]["isolated"]
    control = sum(summaries["off"]["oom_events"].values())
    shown = kills > 0 and control == 0
    bursts = summaries["reporting"]["bursts"]["run"]
    found = (
        f"{kills:,} of {bursts:,} bursts were killed because pages were isolated for reporting; "
        f"{control:,} of {summaries['off']['bursts']['run']:,} without reporting."
    )
    answer = "The failure was shown." if shown else "The failure did not show this time."
    columns = terminal_columns(console)
    print_lines(console, [*folded(found, columns), answer])
    if as_json:
        print_json({"shown": shown, **summaries})
    raise typer.Exit(0 if shown else EXIT_LIMITS_BROKEN)
