"""`pagesoak timeline`: a picture of a finished run, as PNG and SVG."""

import sys
from pathlib import Path
from typing import Annotated

import typer

from pagesoak.base.errors import InputError
from pagesoak.cli.common import RESULTS, print_json, write_out

OUTPUT = "--output"
DEFAULT_NAMES = ("timeline.png", "timeline.svg")
"""In the run's directory, where no output is named."""


def timeline(
    run: Annotated[
        str,
        typer.Argument(
            help="A run's directory, its name below the results folder, or `latest`.",
            show_default=False,
        ),
    ],
    output: Annotated[
        list[Path] | None,
        typer.Option(
            OUTPUT,
            "-o",
            help="Picture to write, .png or .svg; may be given several times. Without it "
            "timeline.png and timeline.svg in the run's directory.",
        ),
    ] = None,
    begin: Annotated[
        str | None, typer.Option("--from", help="Begin, on the soak's clock, e.g. 7s.")
    ] = None,
    end: Annotated[str | None, typer.Option("--to", help="End, e.g. 9.5s.")] = None,
    failure: Annotated[
        int | None, typer.Option(help="Show the surroundings of the failure of this number.")
    ] = None,
    results: Annotated[Path, typer.Option(help="Folder of the runs' directories.")] = RESULTS,
    as_json: Annotated[
        bool, typer.Option("--json", help="Print one JSON object on one line.")
    ] = False,
) -> None:
    """Draw a run: free and isolated memory, watermarks, windows, failures, what went on."""
    from pagesoak.cli.find_run import run_named
    from pagesoak.study.drawing import check_picture_file
    from pagesoak.study.run_record import open_run
    from pagesoak.study.timeline import picture_of

    for path in output or ():
        check_picture_file(path, OUTPUT)
    from_ns, to_ns = _moment(begin, "--from"), _moment(end, "--to")
    record = open_run(run_named(run, results), results)
    picture = picture_of(record, from_ns, to_ns, failure)
    paths = output or [record.directory / name for name in DEFAULT_NAMES]
    picture.write(paths, OUTPUT)
    for note in picture.notes:
        sys.stderr.write(f"pagesoak: note: {note}\n")
    if as_json:
        print_json(picture.document(paths))
    else:
        write_out("".join(f"{path}\n" for path in paths))


def _moment(text: str | None, key: str) -> int | None:
    from pagesoak.base.units import parse_duration_ns

    if text is None:
        return None
    try:
        return parse_duration_ns(text)
    except InputError as error:
        raise InputError(error.message, key=key) from error
