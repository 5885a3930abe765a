"""`pagesoak explain`: what failed in a finished run, and the story of one failure."""

from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from pagesoak.cli.common import RESULTS, print_json, print_lines, terminal_columns

if TYPE_CHECKING:
    from pagesoak.study.explain import Explanation
    from pagesoak.study.story import Story

TABLE = ("NO", "AT", "REQUEST", "OUTCOME", "CAUSE", "FREE", "ISOLATED", "MARGIN", "THE POLICY")
RIGHT = frozenset({"NO", "AT", "FREE", "ISOLATED", "MARGIN"})
"""Columns of numbers."""
ROWS_MAX = 200
"""Of the table: four screens; with --json there are more."""


def explain(
    run: Annotated[
        str,
        typer.Argument(
            help="A run's directory, its name below the results folder, or `latest`.",
            show_default=False,
        ),
    ],
    failure: Annotated[
        int | None, typer.Option(help="The failure of this number, not the worst one.")
    ] = None,
    every: Annotated[
        bool, typer.Option("--all", help="A table of all failed and stalled requests.")
    ] = False,
    results: Annotated[Path, typer.Option(help="Folder of the runs' directories.")] = RESULTS,
    as_json: Annotated[
        bool, typer.Option("--json", help="Print one JSON object on one line.")
    ] = False,
) -> None:
    """Tell the story of a failure: who asked, what was isolated, what came back when."""
    from rich.console import Console

    from pagesoak.cli.find_run import run_named
    from pagesoak.study.explain import document, explain_run
    from pagesoak.study.run_record import open_run

    explanation = explain_run(open_run(run_named(run, results), results), failure)
    if as_json:
        print_json(document(explanation, listed=every))
        return
    console = Console()
    columns = terminal_columns(console)
    lines = table(explanation) if every and failure is None else story(explanation, columns)
    print_lines(console, lines)


def story(explanation: "Explanation", columns: int | None) -> Iterator[str]:
    """The run in two lines, then the story, or how close it came."""
    from pagesoak.cli.summary_text import folded
    from pagesoak.study.explain import closest_lines, story_lines

    yield from _head(explanation, columns)
    found = explanation.story
    if found is None:
        for line in closest_lines(explanation):
            yield from folded(line, columns)
        return
    words = explanation.words
    total = len(explanation.failures)
    yield from folded(
        f"Failure {found.failure.number:,} of {total:,}. {words.header(found.failure)}", columns
    )
    doing = words.doing(found.failure.reporter, found.failure.time_ns)
    yield from folded(f"The policy: {doing}.", columns)
    yield ""
    yield from _steps(explanation, found, columns)
    yield ""
    for line in story_lines(explanation):
        yield from folded(line, columns)
    if total > 1:
        yield ""
        yield f"{total - 1:,} more in `--all`; another's story: `--failure N`"


def _head(explanation: "Explanation", columns: int | None) -> Iterator[str]:
    from pagesoak.cli.summary_text import folded
    from pagesoak.study.explain import counts_line

    yield from folded(explanation.record.title, columns)
    yield from folded(counts_line(explanation), columns)
    for note in explanation.notes:
        yield from folded(f"note: {note}", columns, "  ")
    yield ""


def _steps(explanation: "Explanation", found: "Story", columns: int | None) -> Iterator[str]:
    """The steps, with the time on the soak's clock and the time from the failure."""
    from pagesoak.cli.summary_text import folded
    from pagesoak.study.story_words import span

    rows = []
    for step in found.steps:
        away_ns = step.time_ns - found.failure.time_ns
        sign = "+" if away_ns > 0 else ""
        from_failure = "" if step.failure and away_ns == 0 else f"{sign}{span(away_ns)}"
        rows.append((explanation.words.at(step.time_ns), from_failure, step))
    first = max(len(at) for at, _, _ in rows)
    second = max(len(away) for _, away, _ in rows)
    for at, away, step in rows:
        mark = ">" if step.failure else " "
        text = f"{mark} {at:>{first}}  {away:>{second}}  {step.text}"
        yield from folded(text, columns, " " * (first + second + 6))


def table(explanation: "Explanation") -> Iterator[str]:
    """A row for each failed or stalled request."""
    yield from _head(explanation, None)
    words = explanation.words
    if not explanation.failures:
        yield "no request failed or stalled"
        return
    rows = [TABLE]
    for one in explanation.failures[:ROWS_MAX]:
        margin = "" if one.margin_pages is None else f"{one.margin_pages:,}"
        rows.append(
            (
                str(one.number),
                words.at(one.time_ns),
                words.request(one),
                words.outcome(one),
                one.cause or "not recorded",
                f"{one.free_pages:,}",
                f"{one.isolated_pages:,}",
                margin,
                words.doing(one.reporter, one.time_ns),
            )
        )
    widths = [max(len(row[place]) for row in rows) for place in range(len(TABLE))]
    for row in rows:
        cells = [
            cell.rjust(width) if name in RIGHT else cell.ljust(width)
            for name, cell, width in zip(TABLE, row, widths, strict=True)
        ]
        yield "  ".join(cells).rstrip()
    if len(explanation.failures) > ROWS_MAX:
        yield f"and {len(explanation.failures) - ROWS_MAX:,} more: `--all --json`"
