"""Runs that no runner of this daemon has: what another process runs, in the foreground or for a
daemon that was killed, and how that ended; and what ended uncleanly before this daemon was there.
"""

import time
from collections.abc import Collection

import structlog

from pagesoak.daemon.index import Index
from pagesoak.daemon.record import Record, State

LOOK_SECONDS = 3.0
"""Between two looks: an end is seen soon, for little work."""


class Elsewhere:
    """Sees such runs end, and notes it in the index; `going`: the names of the daemon's own."""

    def __init__(self, index: Index) -> None:
        self._index = index
        self._log = structlog.get_logger()
        self._look_at = time.monotonic() + LOOK_SECONDS
        self._unclean: list[tuple[float, Record]] = []
        """With when each was found."""

    @property
    def unclean(self) -> list[Record]:
        """Runs that were found to have ended uncleanly."""
        return [record for _, record in self._unclean]

    def unclean_lately(self, seconds: float) -> list[Record]:
        """Those that were found within so long: told as if they had ended then."""
        since = time.monotonic() - seconds
        return [record for found_at, record in self._unclean if found_at >= since]

    def catch_up(self, going: Collection[str]) -> None:
        """Bring the index up to date with the directories."""
        self._note_unclean(self._index.catch_up(going))

    def look(self, going: Collection[str]) -> None:
        """See which runs of other processes have ended, if it is time."""
        if time.monotonic() < self._look_at:
            return
        self._look_at = time.monotonic() + LOOK_SECONDS
        ended = self._index.look_elsewhere(going)
        self._note_unclean([record for record in ended if record.state is State.UNCLEAN])
        for record in ended:
            if record.state is not State.UNCLEAN:
                told = {"verdict": record.verdict, "reason": record.reason}
                self._log.info("run.ended", run=record.run, **told)

    def _note_unclean(self, records: list[Record]) -> None:
        for record in records:
            self._unclean.append((time.monotonic(), record))
            self._log.warning("run.ended_uncleanly", run=record.run, directory=record.directory)
