"""Figures of one run, read from its shared memory: all of one moment, and never a step back.

No lock is taken. Each worker's figures have a sequence number that is odd while they are written
(`base.statistics`); a reading is good when the numbers of all workers are even and the same after
everything was copied as before. When no good one is had within `READ_SECONDS_MAX`, which takes a
worker that died or was stopped in the middle of writing, the last good one stands, and is counted.
"""

import struct
import time
from typing import NamedTuple

from pagesoak.base import layout
from pagesoak.base import statistics as st
from pagesoak.base.segment_view import SegmentView

READ_SECONDS_MAX = 0.05
"""A publication takes microseconds; a scrape waits for nobody longer."""
PAUSE_SECONDS = 0.0005
"""Between two attempts: some publications last so long on a busy machine."""


class Reading(NamedTuple):
    """One moment of a run. `zones` are the words of the zone records (`base.layout`), `header` and
    `report` those of these sections; `heartbeats` are monotonic, by worker, 0 of one that never
    lived.
    """

    monotonic_ns: int
    statistics: st.Statistics
    header: tuple[int, ...]
    zones: tuple[tuple[int, ...], ...]
    report: tuple[int, ...]
    heartbeats: tuple[int, ...]


class Reader:
    """Reads one run; `torn` counts attempts that failed, `stale` readings given a second time."""

    def __init__(self, view: SegmentView) -> None:
        self._view = view
        self._last: Reading | None = None
        self.torn = 0
        self.stale = 0

    def take(self) -> Reading | None:
        """The run now, or as it was at the last good reading; None before the first."""
        deadline = time.monotonic() + READ_SECONDS_MAX
        while True:
            reading = self._attempt()
            if reading is not None:
                self._last = reading
                return reading
            self.torn += 1
            if time.monotonic() >= deadline:
                self.stale += 1
                return self._last
            time.sleep(PAUSE_SECONDS)

    @property
    def last(self) -> Reading | None:
        """The last good reading."""
        return self._last

    def _sequences(self) -> list[int]:
        words, workers = self._view.workers, range(self._view.plan.workers)
        return [words[w * layout.WORKER_WORDS + layout.W_PUBLISHED_SEQUENCE] for w in workers]

    def _attempt(self) -> Reading | None:
        view = self._view
        before = self._sequences()
        if any(sequence % 2 for sequence in before):
            return None
        starts = [w * layout.WORKER_WORDS for w in range(view.plan.workers)]
        published = [
            bytes(view.workers[at + layout.W_PUBLISHED :][: layout.STATISTICS_WORDS])
            for at in starts
        ]
        header, zones, report = bytes(view.header), bytes(view.zones), bytes(view.report)
        heartbeats = tuple(view.workers[at + layout.W_HEARTBEAT_NS] for at in starts)
        now_ns = time.monotonic_ns()
        if self._sequences() != before:
            return None
        words = _words(zones)
        return Reading(
            now_ns,
            st.added([st.parse_statistics(copied) for copied in published]),
            _words(header),
            tuple(
                words[at : at + layout.ZONE_WORDS]
                for at in range(0, view.plan.zones * layout.ZONE_WORDS, layout.ZONE_WORDS)
            ),
            _words(report),
            heartbeats,
        )


def _words(copied: bytes) -> tuple[int, ...]:
    return struct.unpack(f"={len(copied) // layout.WORD_BYTES}q", copied)
