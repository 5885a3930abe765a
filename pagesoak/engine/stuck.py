"""A worker that is stopped, or stuck, with a zone's lock in its hands: everybody waits for it.

Others wait in slices and stay killable, but nothing goes on. So a holder without a heartbeat for
some seconds is told to go on (SIGCONT), and if it does not within another, killed; what it leaves
is recovered like any death with a lock held. The mutex itself says who holds it.
"""

import signal
from collections.abc import Sequence

from pagesoak.base import layout
from pagesoak.base.segment import Segment
from pagesoak.base.units import NS_PER_SECOND
from pagesoak.engine.processes import WorkerProcess
from pagesoak.engine.silence import Silence

OWNER_BITS = 0x3FFF_FFFF
"""Of the first 32 bits of a robust mutex: the thread that holds it."""
HOLDER_SECONDS = 10.0
"""No hold takes milliseconds; no machine takes a process off its processors for so long."""
GOES_ON_SECONDS = 1.0
"""After it was told to."""


class StuckHolders:
    """Watches for them in one run."""

    def __init__(self, segment: Segment, silence: Silence) -> None:
        self._segment = segment
        self._silence = silence
        self._told: dict[int, int] = {}

    def look(self, workers: Sequence[WorkerProcess], now_ns: int) -> list[WorkerProcess]:
        """Tell holders that are stuck to go on; those that were told before and do not are killed.
        Whom it told or killed now.
        """
        holders = self._holders()
        met = []
        for worker in workers:
            silent_seconds = self._silence.seconds(worker.number, now_ns)
            if worker.pid not in holders or silent_seconds < HOLDER_SECONDS:
                self._told.pop(worker.pid, None)
            elif worker.pid not in self._told:
                self._told[worker.pid] = now_ns
                worker.send(signal.SIGCONT)
                met.append(worker)
            elif now_ns - self._told[worker.pid] > GOES_ON_SECONDS * NS_PER_SECOND:
                worker.kill()
                met.append(worker)
        return met

    def _holders(self) -> set[int]:
        words = self._segment.zones[layout.Z_LOCK :: layout.ZONE_WORDS].tolist()
        return {word & OWNER_BITS for word in words}
