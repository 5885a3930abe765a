"""What several verbs share: announcing the compilation, where results go, printing a summary."""

import json
import os
import sys
from pathlib import Path
from typing import TYPE_CHECKING, Any

from pagesoak.base.native import compiling_needed, load_entries
from pagesoak.base.units import MIB, PAGE_SHIFT

if TYPE_CHECKING:
    from rich.console import Console

RESULTS = Path("pagesoak-results")
"""Where runs are kept unless `--results` says otherwise, below the caller's directory."""


def load_core() -> None:
    """Load the compiled core; announced on stderr when it has to be compiled first."""
    if not compiling_needed():
        load_entries()
        return
    sys.stderr.write("pagesoak: compiling the core, once per version; a minute or two\n")
    terminal = sys.stderr.isatty()

    def announce(done: int, total: int) -> None:
        if terminal:
            sys.stderr.write(f"\rpagesoak: compiling the core: {done} of {total} ")
            sys.stderr.flush()

    try:
        load_entries(announce)
    except KeyboardInterrupt:
        sys.stderr.write("\npagesoak: interrupted while compiling; the next call goes on\n")
        raise
    sys.stderr.write(("\r" if terminal else "") + "pagesoak: the core is compiled             \n")


def write_out(text: str) -> None:
    """Write to standard output. That its reader has gone is no error: nobody wants the rest."""
    try:
        sys.stdout.write(text)
        sys.stdout.flush()
    except BrokenPipeError:
        discard_output()


def discard_output() -> None:
    """What standard output still holds, and all that comes, goes nowhere: it cannot be written."""
    nowhere = os.open(os.devnull, os.O_WRONLY)
    os.dup2(nowhere, sys.stdout.fileno())
    os.close(nowhere)


def print_json(document: dict[str, Any]) -> None:
    """One object on one line, the last of stdout."""
    write_out(json.dumps(document, sort_keys=False) + "\n")


def _milliseconds(seconds: float) -> str:
    return f"{seconds * 1000:.1f} ms"


def _mebibytes(pages: int) -> str:
    return f"{(pages << PAGE_SHIFT) // MIB:,} MiB"


def summary_rows(summary: dict[str, Any]) -> list[tuple[str, str]]:
    """A summary for people: what, and how much."""
    window = summary["window_seconds"]
    oom = summary["oom_events"]
    failures = summary["alloc_failures"]
    margin = summary["watermark_margin_pages_min"]
    integrity = summary["integrity"]
    audits = summary["audits"]
    failed = (
        f"{failures['isolated']} isolated, {failures['fragmented']} fragmented, "
        f"{failures['exhausted']} exhausted; {summary['fallbacks']} fell back"
    )
    kills = (
        f"{oom['isolated']} because pages were isolated, {oom['fragmented']} fragmented, "
        f"{oom['exhausted']} exhausted"
    )
    margins = (
        f"{margin['min']:,} pages over min, {margin['low']:,} over low, "
        f"{margin['high']:,} over high"
    )
    isolated = summary["isolated_pages_max"]
    reported = (
        f"{_mebibytes(summary['reported_pages'])} in {summary['report_calls']} calls, "
        f"{summary['punched_bytes'] // MIB:,} MiB given back to the host"
    )
    windows = (
        f"{window['count']} windows, median {_milliseconds(window['p50'])}, "
        f"99 % below {_milliseconds(window['p99'])}, longest {_milliseconds(window['max'])}"
    )
    verified = (
        f"{integrity['pages_verified']:,} page contents verified, "
        f"{integrity['violations']} violations"
    )
    return [
        ("requests", f"{summary['alloc_requests']:,} allocations, {summary['frees']:,} frees"),
        ("OOM kills", kills),
        ("failed allocations", failed),
        ("bursts", f"{summary['bursts']['run']}, of which {summary['bursts']['killed']} killed"),
        ("lowest free", f"{summary['free_pages_min']:,} pages"),
        ("least margin", margins),
        ("most isolated", f"{isolated:,} pages ({_mebibytes(isolated)})"),
        ("reported", reported),
        ("report window", windows),
        ("integrity", verified),
        ("audits", f"{audits['run']} run, {audits['failed']} failed"),
        ("results", summary["directory"]),
    ]


def print_summary(summary: dict[str, Any], console: "Console") -> None:
    """A summary as a table."""
    from rich.table import Table
    from rich.text import Text

    colour = {"pass": "green", "fail": "red", "broken": "bold red"}[summary["verdict"]]
    title = Text(f"{summary['scenario']}, policy {summary['policy']}: ")
    title.append(summary["verdict"], style=colour)
    if summary["interrupted"]:
        title.append(" (interrupted)")
    table = Table(title=title, title_justify="left", show_header=False, box=None, pad_edge=False)
    table.add_column(style="bold", no_wrap=True)
    table.add_column(overflow="fold")
    for name, value in summary_rows(summary):
        table.add_row(name, value)
    for broken in summary["limits_broken"]:
        table.add_row("limit broken", broken)
    if summary["reason"]:
        table.add_row("broken", summary["reason"])
    console.print(table)
