"""Summaries that the disk has refused: kept in memory, and written as soon as it takes them.

A runner cannot wait for a disk; so it hands a summary that it could not write to the daemon.
"""

from collections.abc import Mapping
from pathlib import Path
from typing import Any

from pagesoak.base.errors import PagesoakError
from pagesoak.engine.rundir import write_summary_file

SUMMARIES_MAX = 256
"""A summary has some KiB; the oldest are dropped, and their runs will have ended uncleanly."""


class Summaries:
    """Summaries by the directory of their run; `dropped` counts those that were given up."""

    def __init__(self) -> None:
        self._waiting: dict[Path, Mapping[str, Any]] = {}
        self.dropped = 0

    @property
    def waiting(self) -> int:
        """How many the disk has not taken so far."""
        return len(self._waiting)

    def of(self, directory: Path) -> Mapping[str, Any] | None:
        """A summary that is not written yet."""
        return self._waiting.get(directory)

    def keep(self, directory: Path, summary: Mapping[str, Any]) -> None:
        """Write it, now or later."""
        self._waiting[directory] = summary
        self.retry()
        while len(self._waiting) > SUMMARIES_MAX:
            del self._waiting[next(iter(self._waiting))]
            self.dropped += 1

    def retry(self) -> None:
        """Try to write what waits; a run whose directory is gone needs none."""
        for directory, summary in list(self._waiting.items()):
            if directory.is_dir():
                try:
                    write_summary_file(directory, summary)
                except PagesoakError:
                    continue
            del self._waiting[directory]
