"""`pagesoak fidelity`: hold the model to recordings of a real kernel."""

import sys
from pathlib import Path
from typing import Annotated

import typer

from pagesoak.base.errors import EXIT_LIMITS_BROKEN, EXIT_PASS, EXIT_USAGE, InputError
from pagesoak.cli.common import load_core, print_json, print_lines


def fidelity(
    recordings: Annotated[
        list[Path],
        typer.Argument(
            help="Folders in the formats of tests/recordings; a folder that holds several stands "
            "for all of them.",
            show_default=False,
        ),
    ],
    as_json: Annotated[
        bool, typer.Option("--json", help="The findings as one JSON object on one line.")
    ] = False,
    document: Annotated[
        Path | None,
        typer.Option(help="Write the findings to this file as well, as a page in Markdown."),
    ] = None,
) -> None:
    """Predict what a recorded kernel did, and say where the model is exact and where it is not.

    Exit code 0: everything demanded holds; 1: something does not; 2: a recording is damaged or
    missing.
    """
    from rich.console import Console

    from pagesoak.study.fidelity import check_recordings
    from pagesoak.study.fidelity_page import page_text
    from pagesoak.study.fidelity_text import report_lines

    def announce(text: str) -> None:
        sys.stderr.write(f"pagesoak: {text}\n")

    if document is not None and (document.is_dir() or not document.parent.is_dir()):
        raise InputError("cannot be written: no such folder, or a folder itself", file=document)
    load_core()
    results = check_recordings(recordings, announce)
    documents = [result.as_json() for result in results]
    if document is not None:
        arguments = [*map(str, recordings), "--document", document.name]
        document.write_text(page_text(documents, arguments), encoding="utf-8")
    if as_json:
        print_json({"recordings": documents})
    else:
        print_lines(Console(), report_lines(documents))
    faults = [fault for result in results for fault in result.faults]
    for fault in faults:
        sys.stderr.write(f"pagesoak: {fault}\n")
    if faults:
        raise typer.Exit(EXIT_USAGE)
    held = all(demand.holds for result in results for demand in result.demands)
    raise typer.Exit(EXIT_PASS if held else EXIT_LIMITS_BROKEN)
