"""`pagesoak report`: finished runs as one page, as Markdown or as JSON."""

import sys
from enum import StrEnum
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from pagesoak.base.errors import InputError
from pagesoak.cli.common import RESULTS, print_json, write_out

if TYPE_CHECKING:
    from pagesoak.study.run_report import Report, Told

OUTPUT = "--output"
RUNS_MAX = 12
"""Side by side: more columns fit no page."""
DEFAULT_NAME = "report.html"
"""In the run's directory, of one run; of several in the caller's."""


class Form(StrEnum):
    """What a report is written as."""

    HTML = "html"
    JSON = "json"
    MD = "md"


def report(
    runs: Annotated[
        list[str],
        typer.Argument(
            metavar="RUN...",
            help="Runs' directories, their names below the results folder, or `latest`.",
            show_default=False,
        ),
    ],
    output: Annotated[
        Path | None,
        typer.Option(
            OUTPUT,
            "-o",
            help="File to write, or - for standard output. Without it a page goes to report.html "
            "in the run's directory (of several runs: in the current one), the others to standard "
            "output.",
        ),
    ] = None,
    form: Annotated[
        Form, typer.Option("--format", help="A page, one JSON object, or Markdown.")
    ] = Form.HTML,
    results: Annotated[Path, typer.Option(help="Folder of the runs' directories.")] = RESULTS,
    as_json: Annotated[bool, typer.Option("--json", help="The same as --format json.")] = False,
) -> None:
    """Write a report: verdict, headroom over time, windows, failures with their stories.

    The page is one file that needs no network. Several runs are put side by side.
    """
    from pagesoak.cli.find_run import run_named
    from pagesoak.study.run_record import open_run
    from pagesoak.study.run_report import gather, report_document

    form = Form.JSON if as_json else form
    if len(runs) > RUNS_MAX:
        raise InputError(f"{len(runs)} runs; at most {RUNS_MAX} fit a report", key="RUN")
    records = [open_run(run_named(run, results), results) for run in runs]
    place = _place(output, form, records[0].directory if len(records) == 1 else Path())
    if place is not None:
        _check(place)
    reports = []
    for record in records:
        reports.append(gather(record, _told))
        for note in reports[-1].picture.notes:
            sys.stderr.write(f"pagesoak: note: {record.directory.name}: {note}\n")
    if form is Form.JSON and place is None:
        print_json(report_document(reports))
        return
    text = _text(reports, form)
    if place is None:
        write_out(text)
        return
    try:
        place.write_text(text, encoding="utf-8")
    except OSError as error:
        raise InputError(f"cannot be written: {error.strerror}", file=place, key=OUTPUT) from error
    write_out(f"{place}\n")


def _place(output: Path | None, form: Form, folder: Path) -> Path | None:
    """Where to; None: standard output."""
    if output is not None:
        return None if str(output) == "-" else output
    return folder / DEFAULT_NAME if form is Form.HTML else None


def _check(place: Path) -> None:
    """Raise InputError where nothing can be written, before anything is read."""
    if place.is_dir() or not place.parent.is_dir():
        said = "cannot be written: no such folder, or a folder itself"
        raise InputError(said, file=place, key=OUTPUT)


def _told(summary: dict[str, Any]) -> "Told":
    from pagesoak.cli.summary_text import headline, summary_rows
    from pagesoak.study.run_report import Told, shown_text

    rows = tuple((title, shown_text(value)) for title, value in summary_rows(summary))
    return Told(shown_text(headline(summary)), rows)


def _text(reports: "list[Report]", form: Form) -> str:
    import json

    from pagesoak.study.run_report import report_document
    from pagesoak.study.run_report_markdown import markdown_text
    from pagesoak.study.run_report_page import page_text

    if form is Form.HTML:
        return page_text(reports)
    document = report_document(reports)
    if form is Form.JSON:
        return json.dumps(document, allow_nan=False) + "\n"
    return markdown_text(document["runs"])
