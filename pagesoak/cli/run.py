"""`pagesoak run`: one soak in the foreground, with progress while it runs and a summary at its
end.
"""

import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Annotated, Any

import typer

from pagesoak.cli.common import RESULTS, load_core, print_json, print_summary, write_out
from pagesoak.cli.complete import ScenarioName, complete_policy
from pagesoak.cli.duration import duration_option_ns


def run(
    scenario: ScenarioName,
    policy: Annotated[
        str | None,
        typer.Option(
            help="Reporting policy: see `pagesoak policies`, or FILE.py:Name.",
            autocompletion=complete_policy,
        ),
    ] = None,
    duration: Annotated[str | None, typer.Option(help="How long, e.g. 90s or 30d.")] = None,
    seed: Annotated[int | None, typer.Option(help="Seed of every random choice.")] = None,
    touch: Annotated[
        bool | None,
        typer.Option(
            "--touch/--no-touch", help="Really write guest pages, or run on metadata alone."
        ),
    ] = None,
    virtual: Annotated[
        bool, typer.Option("--virtual", help="On a virtual clock: repeatable, and much faster.")
    ] = False,
    results: Annotated[Path, typer.Option(help="Folder for the run's directory.")] = RESULTS,
    as_json: Annotated[
        bool, typer.Option("--json", help="The summary as one JSON object, last line of stdout.")
    ] = False,
) -> None:
    """Soak a guest; exit code 0 pass, 1 fail, 2 usage, 3 broken, 130 interrupted."""
    from pagesoak.base.scenario import find_scenario, load_scenario
    from pagesoak.engine.policy_choice import check_policy_text, find_policy

    found = None if policy is None else find_policy(policy, files=True)
    duration_ns = duration_option_ns(duration)
    chosen = load_scenario(find_scenario(scenario), policies=check_policy_text).with_overrides(
        policy=policy, duration_ns=duration_ns, seed=seed, touch=touch
    )
    from rich.console import Console

    from pagesoak.engine.progress import Progress
    from pagesoak.engine.runner import run_scenario

    load_core()
    outcome = run_scenario(
        chosen,
        results=results,
        command=sys.argv,
        progress=Progress(),
        virtual=virtual,
        policy=found,
    )
    if as_json:
        print_json(outcome.summary)
    else:
        print_summary(outcome.summary, Console())
        for line in explained_by(outcome.summary):
            write_out(line)
    if outcome.complaint:
        sys.stderr.write(f"pagesoak: {outcome.complaint}\n")
    raise typer.Exit(outcome.exit_code)


def explained_by(summary: dict[str, Any]) -> Iterator[str]:
    """The line that says how to hear the story, when a request got nothing."""
    if any((*summary["oom_events"].values(), *summary["alloc_failures"].values())):
        yield f"how it came about: pagesoak explain {summary['directory']}\n"
