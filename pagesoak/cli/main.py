"""The command line: one file per verb, put together here; errors become one message and the
documented exit code.

Only the module of the verb that is called is imported, so that those which just ask the daemon
answer at once; help and completion import all.
"""

import errno
import importlib
import os
import signal
import sys
from collections.abc import Sequence
from typing import Annotated, NamedTuple

import typer

from pagesoak import __version__
from pagesoak.base.errors import EXIT_INTERRUPTED, EXIT_USAGE, PagesoakError
from pagesoak.cli.output import discard_output
from pagesoak.engine.signals import interrupt

PROGRAM = "pagesoak"
"""What it is called in its own messages, however it was started."""
HELP = "Soak-test Linux free page reporting: does it starve the guest, what does it give back?"
COMPLETE = "_PAGESOAK_COMPLETE"
"""Set by a shell that asks for completions."""
COMPLETE_WORDS = "COMP_WORDS"
"""What bash says has been typed; other shells load all verbs."""


OUTPUT_ERRORS = frozenset({errno.ENOSPC, errno.EDQUOT, errno.EFBIG, errno.EIO, errno.EBADF})
"""What writing fails with; a pipe without a reader is no error."""


DAEMON = "serve"
"""The verb whose standard error may be the journal, and which SIGTERM ends with exit code 0."""


class Verb(NamedTuple):
    """Where a verb is: module of this package, and its function."""

    module: str
    function: str
    hidden: bool = False


VERBS = {
    "run": Verb("run", "run"),
    "demo": Verb("demo", "demo"),
    "scenarios": Verb("scenarios", "scenarios"),
    "policies": Verb("policies", "policies"),
    "window": Verb("window", "window"),
    "explain": Verb("explain", "explain"),
    "timeline": Verb("timeline", "timeline"),
    "report": Verb("report", "report"),
    "compare": Verb("compare", "compare"),
    "fidelity": Verb("fidelity", "fidelity"),
    "compile": Verb("compile", "compile_core"),
    "serve": Verb("serve", "serve"),
    "start": Verb("start", "start"),
    "list": Verb("runs", "list_runs"),
    "status": Verb("runs", "status"),
    "stop": Verb("start", "stop"),
    "pause": Verb("steer", "pause"),
    "resume": Verb("steer", "resume"),
    "set": Verb("steer", "set_values"),
    "events": Verb("follow", "events"),
    "logs": Verb("follow", "logs"),
    "attach": Verb("attach", "attach"),
    "top": Verb("attach", "attach"),
    "chaos": Verb("chaos", "chaos"),
    "systemd": Verb("systemd", "systemd"),
    "page": Verb("page", "page"),
    "doctor": Verb("doctor", "doctor"),
    "runner": Verb("runner", "runner", hidden=True),
}


def application(verbs: Sequence[str] = tuple(VERBS)) -> typer.Typer:
    """The command line with these verbs."""
    app = typer.Typer(
        name=PROGRAM,
        help=HELP,
        no_args_is_help=True,
        pretty_exceptions_enable=False,
        add_completion=True,
    )
    app.callback()(options)
    for name in verbs:
        verb = VERBS[name]
        module = importlib.import_module(f"pagesoak.cli.{verb.module}")
        app.command(name, hidden=verb.hidden)(getattr(module, verb.function))
    return app


def _called(arguments: Sequence[str]) -> Sequence[str]:
    """The verb that is called, or that somebody types on behind; all when it cannot be told, or
    others are to be named.
    """
    typed = os.environ.get(COMPLETE_WORDS, "").split()[1:]
    if COMPLETE in os.environ:
        arguments = typed if len(typed) > 1 else []
    first = arguments[0] if arguments else ""
    return [first] if first in VERBS else list(VERBS)


def _print_version(wanted: bool) -> None:
    if wanted:
        typer.echo(f"pagesoak {__version__}")
        raise typer.Exit


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

    SIGTERM ends it as SIGINT does; a run takes both into its own hands while it lasts. For the
    daemon it waits until that can end in order.
    """
    _open_missing_streams()
    called = _called(sys.argv[1:])
    try:
        if signal.getsignal(signal.SIGINT) is signal.default_int_handler:  # else it is ignored
            signal.signal(signal.SIGINT, interrupt)
        signal.signal(signal.SIGTERM, interrupt)
        if called == [DAEMON]:
            signal.pthread_sigmask(signal.SIG_BLOCK, {signal.SIGTERM})
        result = application(called)(prog_name=PROGRAM, standalone_mode=True)
    except PagesoakError as error:
        _complain(str(error), called)
        return error.exit_code
    except OSError as error:
        discard_output()
        _complain(f"{_place(error)}: {error.strerror or error}", called)
        return EXIT_USAGE
    except KeyboardInterrupt:
        return EXIT_INTERRUPTED
    return int(result or 0)


def _complain(said: str, called: Sequence[str]) -> None:
    """Say on standard error what was wrong."""
    text = f"{PROGRAM}: {said}"
    if called == [DAEMON]:
        from pagesoak.daemon.log import as_error

        text = as_error(text, sys.stderr, os.environ)
    sys.stderr.write(f"{text}\n")


def _place(error: OSError) -> str:
    """What an error of the system is about: a file, or standard output, which has no name."""
    if error.errno in OUTPUT_ERRORS:
        return error.filename or "standard output"
    return error.filename or "the system refused something"


def _open_missing_streams() -> None:
    """A standard stream that was closed leads nowhere: no file opened later takes its number."""
    for number, name in enumerate(("stdin", "stdout", "stderr")):
        if getattr(sys, name) is None:
            os.open(os.devnull, os.O_RDWR)  # the lowest number that is free: this one
            setattr(sys, name, os.fdopen(number, "w" if number else "r"))
