"""The command line: one file per verb, put together here; errors become one message and the
documented exit code.
"""

import os
import signal
import sys
from typing import Annotated

import typer

from pagesoak import __version__
from pagesoak.base.errors import EXIT_INTERRUPTED, EXIT_USAGE, PagesoakError
from pagesoak.cli.common import discard_output
from pagesoak.cli.compare import compare
from pagesoak.cli.compile import compile_core
from pagesoak.cli.demo import demo
from pagesoak.cli.explain import explain
from pagesoak.cli.fidelity import fidelity
from pagesoak.cli.policies import policies
from pagesoak.cli.run import run
from pagesoak.cli.scenarios import scenarios
from pagesoak.cli.timeline import timeline
from pagesoak.cli.window import window

PROGRAM = "pagesoak"
"""What it is called in its own messages, however it was started."""

app = typer.Typer(
    name=PROGRAM,
    help="Soak-test Linux free page reporting: does it starve the guest, what does it give back?",
    no_args_is_help=True,
    pretty_exceptions_enable=False,
    add_completion=True,
)
app.command()(run)
app.command()(demo)
app.command()(scenarios)
app.command()(policies)
app.command()(window)
app.command()(explain)
app.command()(timeline)
app.command()(compare)
app.command()(fidelity)
app.command("compile")(compile_core)


def _print_version(wanted: bool) -> None:
    if wanted:
        typer.echo(f"pagesoak {__version__}")
        raise typer.Exit


@app.callback()
def options(
    version: Annotated[
        bool,
        typer.Option(
            "--version", callback=_print_version, is_eager=True, help="Print the version."
        ),
    ] = False,
) -> None:
    """Soak-test Linux free page reporting."""


def main() -> int:
    """Run the verb named on the command line; its exit code.

    SIGTERM ends it as SIGINT does; a run takes both into its own hands while it lasts.
    """
    _open_missing_streams()
    try:
        signal.signal(signal.SIGTERM, signal.default_int_handler)
        result = app(prog_name=PROGRAM, standalone_mode=True)
    except PagesoakError as error:
        sys.stderr.write(f"pagesoak: {error}\n")
        return error.exit_code
    except OSError as error:  # of a file without a name: standard output cannot be written
        discard_output()
        place = error.filename or "standard output"
        sys.stderr.write(f"pagesoak: {place}: {error.strerror or error}\n")
        return EXIT_USAGE
    except KeyboardInterrupt:
        return EXIT_INTERRUPTED
    return int(result or 0)


def _open_missing_streams() -> None:
    """A standard stream that was closed leads nowhere: no file opened later takes its number."""
    for number, name in enumerate(("stdin", "stdout", "stderr")):
        if getattr(sys, name) is None:
            os.open(os.devnull, os.O_RDWR)  # the lowest number that is free: this one
            setattr(sys, name, os.fdopen(number, "w" if number else "r"))
