"""The entry point of `pagesoak` and of `python -m pagesoak`.

`--version` is answered here, before anything heavy (numpy, Numba, typer) is imported.
"""

import sys

from pagesoak import __version__


def main() -> None:
    """Run the verb in `sys.argv`; ends in SystemExit with its exit code (`--version` returns)."""
    if sys.argv[1:] == ["--version"]:
        sys.stdout.write(f"pagesoak {__version__}\n")
        return
    from pagesoak.base.errors import EXIT_INTERRUPTED
    from pagesoak.cli.main import main as command_line

    code: object
    try:
        code = command_line()
    except SystemExit as ended:
        code = ended.code
    if code == EXIT_INTERRUPTED:
        _end_at_once(EXIT_INTERRUPTED)
    sys.exit(code)


def _end_at_once(code: int) -> None:
    """End with the exit code of an interrupt, whatever the interpreter remembers of it.

    CPython remembers an interrupt that passed through generated code (dataclasses, named tuples:
    so, most modules while they are imported), although it was caught, and ends `python -m` by
    SIGINT then.
    """
    import atexit
    import contextlib
    import os

    atexit._run_exitfuncs()  # noqa: SLF001 - what every other end of a program does
    for stream in (sys.stdout, sys.stderr):
        with contextlib.suppress(OSError, ValueError):
            stream.flush()
    os._exit(code)


if __name__ == "__main__":
    main()
