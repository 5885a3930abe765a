"""`pagesoak scenarios`: list the built-in scenarios, or show one with all its defaults.

What is shown of one scenario is a scenario file again: its text, and the resolved values as
comments.
"""

import json
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from pagesoak.base.scenario_file import read_text
from pagesoak.base.units import format_duration, format_size
from pagesoak.cli.common import print_json, print_lines, write_out
from pagesoak.cli.summary_text import folded

if TYPE_CHECKING:
    from pagesoak.base.scenario import Scenario

COLUMNS = ("NAME", "GUEST", "POLICY", "LOADS", "DURATION", "DESCRIPTION")
DESCRIPTION_COLUMNS_MIN = 30
"""Where a terminal leaves less for the descriptions, they stand below what they describe."""


def scenarios(
    name: Annotated[
        str | None, typer.Argument(help="A built-in scenario, or the path of a scenario file.")
    ] = None,
    as_json: Annotated[
        bool, typer.Option("--json", help="Print one JSON object on one line.")
    ] = False,
) -> None:
    """List the built-in scenarios, or show one: its text and its resolved values."""
    from pagesoak.base.scenario import builtin_names, find_scenario, load_scenario

    if name is not None:
        path = find_scenario(name)
        write_out((shown_as_json if as_json else shown)(path, load_scenario(path)) + "\n")
        return
    found = [(path, load_scenario(path)) for path in map(find_scenario, builtin_names())]
    if as_json:
        entries = [{"file": str(path), **scenario.as_json()} for path, scenario in found]
        print_json({"scenarios": entries})
        return
    rows = [row(scenario) for _, scenario in found]
    if sys.stdout.isatty():
        _print_list(rows)
    else:
        write_out(columns([COLUMNS, *rows]) + "\n")


def row(scenario: "Scenario") -> tuple[str, ...]:
    """What the list says about one scenario, in the order of `COLUMNS`."""
    guest = scenario.guest
    start = guest.recording or guest.snapshot
    if guest.memory_bytes is not None:
        text = format_size(guest.memory_bytes)
    else:
        text = f"recording {start.name}" if start is not None else ""
    return (
        scenario.name,
        f"{text}, {guest.cpus} vCPU{'s' if guest.cpus > 1 else ''}",
        scenario.reporting.policy,
        "+".join(load.kind for load in scenario.loads),
        format_duration(scenario.duration_ns),
        scenario.description,
    )


def columns(rows: Sequence[Sequence[str]]) -> str:
    """Rows as lines, each column as wide as its widest cell, two spaces between."""
    widths = [max(map(len, cells)) for cells in zip(*rows, strict=True)]
    lines = ("  ".join(map(str.ljust, cells, widths)).rstrip() for cells in rows)
    return "\n".join(lines)


def shown(path: Path, scenario: "Scenario") -> str:
    """The text of the file, then every value that holds, as comments."""
    resolved = "\n".join(f"# {line}".rstrip() for line in scenario.as_toml().splitlines())
    return f"{read_text(path).rstrip()}\n\n# ---- with every default, this is ----\n{resolved}"


def shown_as_json(path: Path, scenario: "Scenario") -> str:
    """The same as one JSON object: the file, its text and the resolved values."""
    entries = {"file": str(path), "text": read_text(path), "scenario": scenario.as_json()}
    return json.dumps(entries)


def stacked(rows: Sequence[Sequence[str]], width: int) -> list[str]:
    """Rows for a terminal too narrow for all columns: the description stands below the others, or
    below name and duration alone.
    """
    described = [cells[-1] for cells in rows]
    heads = columns([cells[:-1] for cells in rows]).splitlines()
    if max(map(len, heads)) > width:
        name, duration = COLUMNS.index("NAME"), COLUMNS.index("DURATION")
        heads = [f"{cells[name]}  {cells[duration]}" for cells in rows]
    return [
        line
        for head, text in zip(heads, described, strict=True)
        for line in (head, *folded(f"  {text}", width, "  "))
    ]


def _print_list(rows: Sequence[Sequence[str]]) -> None:
    from rich.console import Console
    from rich.table import Table

    console = Console(markup=False, highlight=False)
    others = columns([cells[:-1] for cells in (COLUMNS, *rows)]).splitlines()
    if max(map(len, others)) + DESCRIPTION_COLUMNS_MIN > console.width:
        print_lines(console, stacked(rows, console.width))
        return
    table = Table(box=None, pad_edge=False)
    for column in COLUMNS:
        table.add_column(column, no_wrap=column != "DESCRIPTION")
    for cells in rows:
        table.add_row(*cells)
    console.print(table)
