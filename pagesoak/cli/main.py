"""The command line: one file per verb, put together here; errors become one message and the
documented exit code.
"""

import sys
from typing import Annotated

import typer

from pagesoak import __version__
from pagesoak.base.errors import EXIT_INTERRUPTED, PagesoakError
from pagesoak.cli.compile import compile_core
from pagesoak.cli.demo import demo
from pagesoak.cli.run import run
from pagesoak.cli.scenarios import scenarios

app = typer.Typer(
    name="pagesoak",
    help="Soak-test Linux free page reporting: does it starve the guest, what does it give back?",
    no_args_is_help=True,
    pretty_exceptions_enable=False,
    add_completion=True,
)
app.command()(run)
app.command()(demo)
app.command()(scenarios)
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
    """Run the verb named on the command line; its exit code."""
    try:
        result = app(standalone_mode=True)
    except PagesoakError as error:
        sys.stderr.write(f"pagesoak: {error}\n")
        return error.exit_code
    except KeyboardInterrupt:
        return EXIT_INTERRUPTED
    except BrokenPipeError:
        sys.stderr.close()
        return 0
    return int(result or 0)
