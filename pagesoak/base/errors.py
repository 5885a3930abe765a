"""The errors a user can meet, each with the exit code it ends the program with.

Two classes are never mixed (reliability rule): what the user gave us was wrong (`InputError`, exit
code 2), and what we did was wrong (`HarnessError`, exit code 3).
"""

from collections.abc import Iterable
from pathlib import Path

EXIT_PASS = 0
EXIT_LIMITS_BROKEN = 1
EXIT_USAGE = 2
EXIT_HARNESS_BROKEN = 3
EXIT_NO_DAEMON = 69
EXIT_INTERRUPTED = 130


class PagesoakError(Exception):
    """Anything pagesoak refuses to go on after; `exit_code` is what the process ends with."""

    exit_code: int = EXIT_USAGE


class InputError(PagesoakError):
    """One mistake in something the user gave, with its place.

    `file` and `line` (from 1) name a place in a text; `key` names a setting (dotted, as in a TOML
    file).
    """

    def __init__(
        self,
        message: str,
        *,
        file: str | Path | None = None,
        line: int | None = None,
        key: str | None = None,
    ) -> None:
        self.message = message
        self.file = None if file is None else str(file)
        self.line = line
        self.key = key
        super().__init__(message)

    def __str__(self) -> str:
        place = ""
        if self.file is not None:
            place = self.file if self.line is None else f"{self.file}:{self.line}"
        parts = [part for part in (place, self.key) if part]
        return ": ".join([*parts, self.message])


class InputErrors(PagesoakError):
    """Every mistake of one input, reported together."""

    def __init__(self, errors: Iterable[InputError]) -> None:
        self.errors = tuple(errors)
        super().__init__("\n".join(str(error) for error in self.errors))


class HarnessError(PagesoakError):
    """A harness invariant is broken: a bug of pagesoak, never a policy's result."""

    exit_code = EXIT_HARNESS_BROKEN
