"""`pagesoak compare`: the same guest, load and seeds under several policies, side by side."""

import importlib
import sys
import time
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from pagesoak.base.errors import EXIT_INTERRUPTED, EXIT_PASS, InputError, PagesoakError
from pagesoak.cli.common import RESULTS, load_core, print_json, print_lines, terminal_columns
from pagesoak.cli.complete import ScenarioName
from pagesoak.cli.duration import duration_option_ns

if TYPE_CHECKING:
    from pagesoak.base.scenario import Scenario
    from pagesoak.study.compare import Comparison
    from pagesoak.study.compare_plan import Plan
    from pagesoak.study.compare_run import RunDone

SEEDS = 8
"""Unless the user says how many: enough to tell what happens often, and under a minute for three
policies of seed-512m in virtual time.
"""


def compare(
    scenario: ScenarioName,
    policies: Annotated[
        str, typer.Option(help="Policies, separated by commas: see `pagesoak policies`.")
    ],
    changed: Annotated[
        list[str] | None,
        typer.Option(
            "--with",
            metavar="KEY=VALUE",
            help="One more variant: the baseline's policy with this key of the scenario changed; "
            "'POLICY + KEY=VALUE + ...' for another policy, or several keys. May be repeated.",
        ),
    ] = None,
    seeds: Annotated[
        int, typer.Option(help="How many seeds, from the scenario's own on.")
    ] = SEEDS,
    baseline: Annotated[
        str | None,
        typer.Option(help="What the others are compared with; mainline, or the first."),
    ] = None,
    virtual: Annotated[
        bool, typer.Option("--virtual", help="On a virtual clock: repeatable, and much faster.")
    ] = False,
    duration: Annotated[
        str | None, typer.Option(help="How long each run takes, e.g. 90s or 30d.")
    ] = None,
    seed: Annotated[int | None, typer.Option(help="The first seed.")] = None,
    results: Annotated[
        Path, typer.Option(help="Folder for the comparison's directory.")
    ] = RESULTS,
    as_json: Annotated[
        bool, typer.Option("--json", help="Everything as one JSON object, last line of stdout.")
    ] = False,
    html: Annotated[
        Path | None, typer.Option(help="Write a page to this file, complete in itself.")
    ] = None,
    plot: Annotated[
        Path | None, typer.Option(help="Write the picture to this file, .png or .svg.")
    ] = None,
) -> None:
    """Compare policies: the same guest, load and seeds under each.

    Exit code 0 when all runs gave results, whatever they say; 2 usage, 3 broken, 130 interrupted.
    """
    from pagesoak.study.compare_plan import make_plan

    _check_files(html, plot)
    plan = make_plan(
        _scenario(scenario, duration, seed),
        policies,
        changed=changed or (),
        seeds=seeds,
        baseline=baseline,
        virtual=virtual,
    )
    _load_for_all()
    comparison, document = _compared(plan, results)
    _write_files(comparison, document, html, plot)
    if as_json:
        print_json(document)
    else:
        from rich.console import Console

        from pagesoak.cli.compare_text import text_lines

        console = Console()
        lines = text_lines(comparison, terminal_columns(console))
        print_lines(console, [*lines, "", f"results  {document['directory']}"])
    raise typer.Exit(EXIT_INTERRUPTED if comparison.interrupted else EXIT_PASS)


def _load_for_all() -> None:
    """Load the core with all that a run compiles, so that the runs forked from here share it."""
    importlib.import_module("pagesoak.study.compare_run")
    load_core()


def _scenario(name: str, duration: str | None, seed: int | None) -> "Scenario":
    from pagesoak.base.scenario import find_scenario, load_scenario

    duration_ns = duration_option_ns(duration)
    found = load_scenario(find_scenario(name))
    return found.with_overrides(duration_ns=duration_ns, seed=seed)


def _check_files(html: Path | None, plot: Path | None) -> None:
    """Raise InputError where a file could not be written after all runs."""
    from pagesoak.study.drawing import check_picture_file

    if plot is not None:
        check_picture_file(plot, "--plot")
    for key, file in (("--html", html), ("--plot", plot)):
        if file is None:
            continue
        if file.is_dir() or not file.parent.is_dir():
            said = "cannot be written: no such folder, or a folder itself"
            raise InputError(said, file=file, key=key)
        existed = file.exists()
        try:
            with file.open("ab"):
                pass
        except OSError as error:
            raise InputError(f"cannot be written: {error.strerror}", file=file, key=key) from error
        if not existed:
            file.unlink()


def _compared(plan: "Plan", results: Path) -> "tuple[Comparison, dict[str, Any]]":
    """Run all and sum up; the comparison, and what is kept of it."""
    from pagesoak.study.compare import compared
    from pagesoak.study.compare_folder import CompareFolder
    from pagesoak.study.compare_run import run_all

    total = len(plan.variants) * len(plan.seeds)
    folder = CompareFolder.create(results, started=time.time(), scenario=plan.scenario.name)
    began = time.monotonic()
    finished = 0

    def announce(run: "RunDone") -> None:
        nonlocal finished
        finished += 1
        _note(f"{finished} of {total}: {_said(plan, run)}")

    try:
        runs = run_all(plan, folder.path, command=sys.argv, announce=announce)
    except PagesoakError:
        folder.remove_if_empty()
        raise
    comparison = compared(plan, runs)
    return comparison, folder.keep(comparison, time.time(), time.monotonic() - began)


def _said(plan: "Plan", run: "RunDone") -> str:
    from pagesoak.cli.summary_text import verdict_words

    label = plan.variants[run.planned.variant].label
    return f"{label}, seed {run.planned.seed}: {verdict_words(run.summary)}"


def _note(text: str) -> None:
    sys.stderr.write(f"pagesoak: {text}\n")
    sys.stderr.flush()


def _write_files(
    comparison: "Comparison", document: "dict[str, Any]", html: Path | None, plot: Path | None
) -> None:
    from pagesoak.study.compare_page import page_text
    from pagesoak.study.compare_picture import whole_picture
    from pagesoak.study.drawing import write_picture

    if plot is not None and not any(comparison.totals):
        _note("no run has ended: nothing to draw")
    elif plot is not None:
        write_picture(whole_picture(comparison), plot, "--plot")
    if html is not None:
        try:
            html.write_text(page_text(comparison, document, sys.argv[1:]), encoding="utf-8")
        except OSError as error:
            said = f"cannot be written: {error.strerror}"
            raise InputError(said, file=html, key="--html") from error
