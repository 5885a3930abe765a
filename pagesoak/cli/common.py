"""What verbs that run soaks share: announcing the compilation, where results go, a summary."""

import importlib
import sys
from pathlib import Path
from typing import TYPE_CHECKING, Any

from pagesoak.cli.compile_once import compile_once
from pagesoak.cli.failures import failure_lines
from pagesoak.cli.output import print_json, write_out
from pagesoak.cli.summary_text import headline, summary_lines, verdict_words

if TYPE_CHECKING:
    from collections.abc import Iterable

    from rich.console import Console
    from rich.text import Text

__all__ = ["print_json", "write_out"]

EVERYTHING = ("pagesoak.engine.runner", "pagesoak.study.fidelity", "pagesoak.study.window")
"""Importing them imports every module that compiles something."""
RESULTS = Path("pagesoak-results")
"""Where runs are kept unless `--results` says otherwise, below the caller's directory."""


def load_core() -> None:
    """Load the compiled core; announced on stderr when it has to be compiled first.

    Then all of it is, whatever this verb needs: what is in the cache counts as complete. While
    another process compiles it, this one waits.
    """
    from pagesoak.base.native import CACHE_DIRECTORY, compiling_needed

    compile_once(CACHE_DIRECTORY, compiling_needed, _load)


def _load() -> None:
    from pagesoak.base.native import compiling_needed, load_entries

    if not compiling_needed():
        load_entries()
        return
    for name in EVERYTHING:
        importlib.import_module(name)
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


def terminal_columns(console: "Console") -> int | None:
    """The width to fold to, or None where nobody looks on: what a program reads stays whole."""
    return console.width if console.file.isatty() else None


def print_lines(console: "Console", lines: "Iterable[str | Text]") -> None:
    """Lines as they are, to standard output or standard error; no reader is no error."""
    with console.capture() as printed:
        for line in lines:
            console.print(line, highlight=False, markup=False, soft_wrap=True)
    if console.stderr:
        sys.stderr.write(printed.get())
    else:
        write_out(printed.get())


def print_summary(summary: dict[str, Any], console: "Console") -> None:
    """A summary for people: the verdict, the figures, the failures, where the results are."""
    from rich.text import Text

    columns = terminal_columns(console)
    colour = {"pass": "green", "fail": "red", "broken": "bold red"}[summary["verdict"]]
    words = verdict_words(summary)
    title = Text(headline(summary), no_wrap=columns is None)
    title.stylize("bold", 0, len(title) - len(words))
    title.stylize(colour, len(title) - len(words))
    titles = [title] if columns is None else list(title.wrap(console, columns))
    for part in titles:
        part.rstrip()
    failed = failure_lines(Path(summary["directory"]), summary["started_monotonic_ns"])
    print_lines(console, [*titles, *summary_lines(summary, failed, columns)])
