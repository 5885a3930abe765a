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

    sys.exit(command_line())


if __name__ == "__main__":
    main()
