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
    from pagesoak.cli.main import main as command_line

    try:
        sys.exit(command_line())
    finally:
        _keep_exit_code()


def _keep_exit_code() -> None:
    """An interrupt that was caught stays caught.

    CPython remembers one that passed through generated code (dataclasses, named tuples: so, most
    modules while they are imported), and ends `python -m` by SIGINT, whatever the exit code. That
    signal does not come through any more, and the exit code stands.
    """
    import signal

    signal.pthread_sigmask(signal.SIG_BLOCK, {signal.SIGINT})


if __name__ == "__main__":
    main()
