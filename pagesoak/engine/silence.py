"""How long a worker has been silent: since its last heartbeat, but not while nobody could beat.

After a group of processes was frozen, or a virtual machine halted with its clock going on, every
heartbeat is old at once, and nobody hangs: the runner was away itself. A guest whose clock is made
to jump stands still by the runner's own will. In both cases silence counts from the moment on at
which things go on; the host stands still in the first alone.
"""

from pagesoak.base import layout
from pagesoak.base.segment import Segment
from pagesoak.base.units import NS_PER_SECOND

AWAY_SECONDS = 2.0
"""The runner looks ten times a second, and a recovery keeps it for a second or two; without a look
for longer it was not served by the machine, and others were not either.
"""


class Silence:
    """The silence of one run's workers, as its runner knows it; times are monotonic."""

    def __init__(self, segment: Segment) -> None:
        self._segment = segment
        self._looked_ns = 0
        self._counts_from_ns = 0
        self._guest_counts_from_ns = 0

    def look(self, now_ns: int) -> None:
        """The runner is there."""
        if self._looked_ns and now_ns - self._looked_ns > AWAY_SECONDS * NS_PER_SECOND:
            self._counts_from_ns = now_ns
        self._looked_ns = now_ns

    def guest_counts_from(self, ns: int) -> None:
        """Neither CPU nor reporter is to be blamed for silence before this moment."""
        self._guest_counts_from_ns = max(self._guest_counts_from_ns, ns)

    def seconds(self, worker: int, now_ns: int) -> float:
        """Of a worker, by its number."""
        place = worker * layout.WORKER_WORDS + layout.W_HEARTBEAT_NS
        since_ns = max(self._segment.workers[place], self._counts_from_ns)
        if worker <= self._segment.plan.cpus:
            since_ns = max(since_ns, self._guest_counts_from_ns)
        return max(now_ns - since_ns, 0) / NS_PER_SECOND
