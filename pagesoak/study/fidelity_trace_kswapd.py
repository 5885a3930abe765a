"""When kswapd is at work, and what that does to the model: told by its events, as far as they say.

A run begins at mm_vmscan_kswapd_wake; from there to its end every zone of the node is marked
(ZONE_RECLAIM_ACTIVE), and pagesets keep four batches at most. Its end has no event. kswapd frees,
then looks whether the node is balanced and stops; so the end comes after its last event, nearly
always before the next event of anybody else. Nearly: it may lose the CPU in between. So the state
at an assumed end is kept, with the requests since; when an allocation misses later on, other ends
are tried, at the moments at which the CPU may have changed hands, and the first one from which
*every* request since follows is taken. The miss stays a miss.

The boost that the run saw at its start is taken back at its end.

Models the frame of `balance_pgdat` (Linux 6.1 `mm/vmscan.c`).
"""

from collections.abc import Iterator
from itertools import pairwise
from typing import NamedTuple

from pagesoak.base.layout import Z_BOOST, Z_RECLAIM_ACTIVE
from pagesoak.study.fidelity_trace_core import ALLOC, FREE, trace_alloc, trace_free, trace_isolate
from pagesoak.study.fidelity_trace_events import KSWAPD_SLEEP, KSWAPD_WAKE, TraceColumns
from pagesoak.study.fidelity_trace_guest import TraceGuest

KSWAPD = "kswapd"
"""Its tasks' names begin so."""
REQUESTS_KEPT = 20_000
"""Requests behind an assumed end that are kept; what misses later has other reasons."""
ENDS_TRIED = 64
"""The longest pauses behind an assumed end are tried as the true one."""


class Request(NamedTuple):
    """An allocation (its page as recorded), a free or an isolation, to be made again."""

    time_ns: int
    kind: int
    pfn: int
    order: int
    migratetype: int = 0
    gfp: int = 0
    past_pageset: int = 0


def run_ends(columns: TraceColumns) -> frozenset[int]:
    """The last event of kswapd in each of its runs, as indices."""
    tasks = columns.task_ids(KSWAPD)
    if not tasks:
        return frozenset()
    ends = set()
    last = -1
    for index, task in enumerate(columns.task):
        kind = columns.kind[index]
        if kind == KSWAPD_WAKE:
            if last >= 0:
                ends.add(last)
            last = index
        elif task in tasks and last >= 0 and kind != KSWAPD_SLEEP:
            last = index
    if last >= 0:
        ends.add(last)
    return frozenset(ends)


class Kswapd:
    """The marks of the guest's zones; `saved` is a guest that holds the state at the last end."""

    def __init__(self, saved: TraceGuest) -> None:
        self._saved = saved
        self._boosts: dict[int, int] = {}
        self._order = 0
        self._since: list[Request] | None = None

    def close(self) -> None:
        """Give the memory back."""
        self._saved.close()

    @property
    def wakes_compaction(self) -> bool:
        """Whether the run wakes kcompactd at its end: for a boost, or for larger blocks."""
        return self._order > 0 or any(self._boosts.values())

    def begin(self, guest: TraceGuest, node: int, order: int) -> None:
        """A run for a node begins."""
        self._since = None
        self._order = order
        self._boosts = {
            number: guest.zone_word(number, Z_BOOST)
            for number, zone in enumerate(guest.snapshot.zones)
            if zone.node == node
        }
        for zone in self._boosts:
            guest.set_zone_word(zone, Z_RECLAIM_ACTIVE, 1)

    def end(self, guest: TraceGuest) -> None:
        """It ends, as far as can be told."""
        self._saved.become(guest)
        self._since = []
        self._finish(guest)

    def _finish(self, guest: TraceGuest) -> None:
        for zone, seen in self._boosts.items():
            boost = guest.zone_word(zone, Z_BOOST)
            guest.set_zone_word(zone, Z_BOOST, boost - min(boost, seen))
            guest.set_zone_word(zone, Z_RECLAIM_ACTIVE, 0)

    def note(self, request: Request) -> None:
        """A request was made."""
        since = self._since
        if since is not None:
            since.append(request)
            if len(since) > REQUESTS_KEPT:
                self._since = None

    def forget(self) -> None:
        """Something happened that cannot be made again."""
        self._since = None

    def reconsider(self, guest: TraceGuest, missed: Request) -> bool:
        """Look for a later end from which all since the assumed one follows, `missed` included;
        the guest has that state then.
        """
        if not self._since:
            return False
        requests = [*self._since, missed]
        for end in _pauses(requests):
            guest.become(self._saved)
            if self._follows(guest, requests, end):
                self._since = requests
                return True
        return False

    def _follows(self, guest: TraceGuest, requests: list[Request], end: int) -> bool:
        for number, request in enumerate(requests):
            if number == end:
                self._finish(guest)
            if not make_again(guest, request):
                return False
        return True


def make_again(guest: TraceGuest, request: Request) -> bool:
    """Make a request; whether an allocation gave the recorded page."""
    _, kind, pfn, order, migratetype, gfp, past_pageset = request
    if kind == ALLOC:
        return trace_alloc(guest.base, order, migratetype, gfp, int(pfn >= 0)) == pfn
    if kind == FREE:
        trace_free(guest.base, pfn, order, past_pageset)
    else:
        trace_isolate(guest.base, pfn, order)
    return True


def _pauses(requests: list[Request]) -> Iterator[int]:
    """Where the longest pauses are, in the order of time: before which request each ends."""
    pauses = [
        (later.time_ns - earlier.time_ns, number)
        for number, (earlier, later) in enumerate(pairwise(requests), start=1)
    ]
    pauses.sort(reverse=True)
    yield from sorted(number for _, number in pauses[:ENDS_TRIED])
