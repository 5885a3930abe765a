"""The events of a run, `events.jsonl`: bounded however long the run is, and never without the
events that explain a failure.

At first everything that happens is written. A run of weeks has more ordinary events (passes,
reports, bursts) than anybody keeps; so when they have `ALL_BYTES_MAX`, they wait in memory, the
newest `CONTEXT_EVENTS` of them. An event that tells of something (a failure, a kill, a violation,
whatever is not in `ROUTINE`) is written, those that wait before it, and the next
`FOLLOWING_EVENTS` after it: the window in which it happened, up to its end. Of what is left out a
line of the kind `events-lost` says how many, worker by worker, where readers come to the gap.

A run that fails for weeks would fill even that. So the fuller the file, the less goes into it:
from `AROUND_SHARE` of what is left on a telling event stands by itself; from `TELLING_SHARE` on
failures are left out, too, for what the run itself does (pauses, settings, faults, recoveries) and
how it ends. The last of `BYTES_MAX` is never exceeded.
"""

import json
from collections import Counter, deque
from pathlib import Path
from typing import NamedTuple

from pagesoak.base.units import MIB
from pagesoak.engine.run_files import AppendFile, AtCap

EVENTS_LOST = "events-lost"
"""In place of so many events of a worker that are not on record."""
ROUTINE = frozenset(
    {
        "notify",
        "pass-start",
        "pass-end",
        "gate-closed",
        "factor-reached",
        "isolated",
        "isolation-refused",
        "report",
        "host-punched",
        "answer",
        "drained",
        "requested-again",
        "waiting",
        "stalled",
        "burst-begin",
        "burst-taken",
        "burst-end",
        "steal",
        "compacted",
        "highatomic-reserved",
        "highatomic-released",
        EVENTS_LOST,
    }
)
"""Kinds that a guest has in plenty when all is well; a stall is one as long as it gets a page."""

FAILURES = frozenset(
    {
        "allocation-failed",
        "oom",
        "oom-kill",
        "oom-wait",
        "host-error",
        "list-allocation-failed",
        "unseen-demand",
    }
)
"""Kinds that tell of something, and that a guest which fails on and on has in plenty, too."""

BYTES_MAX = 256 * MIB
"""Of the file: a million and a half events, of some 150 bytes each."""
ALL_BYTES_MAX = 192 * MIB
"""Up to here every event is written; the rest is for failures and what is around them."""
AROUND_SHARE = 3 / 4
"""Of the rest, 48 MiB: at least 1,300 failures with all that is around them."""
TELLING_SHARE = 15 / 16
"""Of the rest, 12 MiB more: some thirty thousand failures that stand by themselves, each with what
is left out before it. 4 MiB are kept, for ten thousand orders and recoveries.
"""
CONTEXT_EVENTS = 200
"""Before a telling event: a full report has up to 50, and a failure comes after several."""
FOLLOWING_EVENTS = 50
"""After it: up to the end of the window that it fell into."""
PENDING_MAX = 5_000
"""What waits while the disk is full: some minutes of an ordinary run's events, 1 MB of memory."""


class _Waiting(NamedTuple):
    """An event that may be told yet."""

    time_ns: int
    worker: int
    line: str


class EventLog:
    """Writes `path`. A disk that refuses is no error: what it refused is kept for later, up to
    `PENDING_MAX` lines, and counted in `lost` beyond.
    """

    def __init__(
        self, path: Path, *, all_bytes_max: int = ALL_BYTES_MAX, bytes_max: int = BYTES_MAX
    ) -> None:
        self._all_bytes_max = all_bytes_max
        rest = bytes_max - all_bytes_max
        self._around_bytes_max = all_bytes_max + rest * AROUND_SHARE
        self._telling_bytes_max = all_bytes_max + rest * TELLING_SHARE
        self._bytes = 0
        self._following = 0
        self._waiting: deque[_Waiting] = deque()
        self._left_out: Counter[int] = Counter()
        """Events of each worker that are older than those that wait, and not on record."""
        self._left_out_before = 0
        self._file = AppendFile(
            path, bytes_max=bytes_max, at_cap=AtCap.REFUSE, pending_lines_max=PENDING_MAX
        )

    @property
    def left_out(self) -> int:
        """Events that will never be in the file because it has too many; those that may be told
        yet are none of them.
        """
        return self._left_out_before + self._left_out.total()

    @property
    def lost(self) -> int:
        """Events that will never be in the file because the disk refused them, or it is full."""
        return self._file.lost_lines

    @property
    def pending(self) -> int:
        """Events that wait for a disk that refuses; it is tried again now."""
        self._file.retry_pending()
        return self._file.pending_lines

    def append(self, time_ns: int, worker: int, kind: str, line: str) -> None:
        """Take in an event; written when this returns, unless it is routine in a long run, or a
        failure in one that has had too many.
        """
        if self._bytes < self._all_bytes_max:
            self._write(line)
        elif kind in ROUTINE and self._following:
            self._following -= 1
            self._write(line)
        elif kind in ROUTINE or (self._bytes >= self._telling_bytes_max and kind in FAILURES):
            self._wait(_Waiting(time_ns, worker, line))
        elif self._bytes < self._around_bytes_max:
            self._write_waiting()
            self._write(line)
            self._following = FOLLOWING_EVENTS
        else:
            self._leave_out_waiting(time_ns)
            self._write(line)

    def close(self) -> None:
        """Write what waits, how the run ended among it, and give up the file."""
        self._write_waiting()
        self._file.close()

    def _write(self, line: str) -> None:
        self._bytes += len(line) + 1
        self._file.append(line)

    def _wait(self, event: _Waiting) -> None:
        self._waiting.append(event)
        if len(self._waiting) > CONTEXT_EVENTS:
            self._left_out[self._waiting.popleft().worker] += 1

    def _write_waiting(self) -> None:
        if self._waiting:
            self._write_gaps(self._waiting[0].time_ns)
        while self._waiting:
            self._write(self._waiting.popleft().line)

    def _leave_out_waiting(self, time_ns: int) -> None:
        self._left_out.update(event.worker for event in self._waiting)
        self._waiting.clear()
        self._write_gaps(time_ns)

    def _write_gaps(self, time_ns: int) -> None:
        for worker, events in sorted(self._left_out.items()):
            gap = {"monotonic_ns": time_ns, "worker": worker, "kind": EVENTS_LOST}
            self._write(json.dumps({**gap, "events": events}))
        self._left_out_before += self._left_out.total()
        self._left_out.clear()
