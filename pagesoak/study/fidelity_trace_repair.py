"""After a miss: back to before it, and then what the kernel must have done.

A miss is a miss: it has been counted before anything here happens. But one wrong decision must not
make every later allocation wrong, or a check would say how early the first one came and nothing
else. So two guests run side by side, one request apart. At a miss the first takes over the state
of the second, which is the one before the request, and the explanations are tried in turn, from
the smallest: another zone, pages that left the pageset without an event, a pageset that had been
drained, pages that left the free lists without an event. The one that gives the recorded page is
kept, and named in the result.
"""

from typing import NamedTuple

from pagesoak.allocator.free_lists import FreeListSnapshot
from pagesoak.allocator.gfp import GFP_ZONE_SHIFT
from pagesoak.allocator.pageset import pageset_list
from pagesoak.base.layout import (
    KIND_ALLOCATED,
    KIND_PAGESET,
    P_FREE_FACTOR,
    UNMOVABLE,
    Z_BOOST,
    Z_COUNTER_DRIFT,
    Z_COUNTER_STEP,
    Z_FREE_PAGES,
    Z_LOWMEM_RESERVE,
    Z_WMARK_LOW,
)
from pagesoak.study.fidelity_trace_core import (
    drain_zone,
    take_from_free_lists,
    take_from_pageset,
    trace_alloc,
    trace_alloc_in_zone,
    trace_free,
)
from pagesoak.study.fidelity_trace_guest import TraceGuest
from pagesoak.study.fidelity_trace_kswapd import Request

ZONE = "another zone served it"
BULK = "pages left the pageset without an event (bulk allocation)"
FURTHER_DOWN = "the page was further down the list"
DRAINED = "the pageset had been drained"
OTHER_LIST = "the page was on another list of the pageset"
HIDDEN = "the page was on a free list"
REFUSED = "the kernel had none"
NAMED_OTHERWISE = "the model had given the page away"
LATER_END = "a run of kswapd ended later than assumed"


STACK_PAGES = 4
"""A kernel stack on x86-64 (THREAD_SIZE 16 KiB), which a fork takes with one bulk allocation."""
STACKS_TRIED = 4
"""Forks between two unmovable requests that are thought of: they make requests themselves."""


class Repair(NamedTuple):
    """What explains a miss; `pages` that left without an event."""

    reason: str
    pages: int = 0


def is_bulk(order: int, migratetype: int, pages: int) -> bool:
    """Whether so many pages before the recorded one are what forks take in bulk: kernel stacks.

    Anything else that is missing from a list is no known gap of the trace.
    """
    return order == 0 and migratetype == UNMOVABLE and pages > 0 and pages % STACK_PAGES == 0


class GuestPair:
    """A guest, and a second one that is a request behind it."""

    def __init__(self, first: TraceGuest, second: TraceGuest) -> None:
        self.guest = first
        self._behind = second
        self.same()

    def same(self) -> None:
        """Bring the second guest up to the first, after a change that was made on it alone."""
        self._behind.become(self.guest)

    def close(self) -> None:
        """Give the memory of both back."""
        self.guest.close()
        self._behind.close()

    def fold_counters(self) -> None:
        """The CPU tells the zones' counters everything, in both."""
        self.guest.fold_counters()
        self._behind.fold_counters()

    def alloc(self, request: Request) -> int:
        """Make an allocation; the second guest follows only if the page is the recorded one."""
        _, _, pfn, order, migratetype, gfp, _ = request
        memalloc = int(pfn >= 0)
        got = trace_alloc(self.guest.base, order, migratetype, gfp, memalloc)
        if got == pfn:
            trace_alloc(self._behind.base, order, migratetype, gfp, memalloc)
        return got

    def free(self, request: Request) -> int:
        """Free a block in both; FREED or NOT_TAKEN."""
        _, _, pfn, order, _, _, past_pageset = request
        trace_free(self._behind.base, pfn, order, past_pageset)
        return trace_free(self.guest.base, pfn, order, past_pageset)

    def repair(self, request: Request, got: int) -> Repair:
        """Undo the allocation that gave `got` and make the one that gave the recorded page."""
        self.guest.become(self._behind)
        found = Repair(REFUSED)
        if request.pfn >= 0:
            found = self._explain(request, got)
        self.same()
        return found

    def _explain(self, request: Request, got: int) -> Repair:
        zone = self.guest.zone_of(request.pfn)
        if zone < 0:
            return Repair(NAMED_OTHERWISE)
        for explain in (self._other_zone, self._down_the_list, self._stacks, self._drained):
            found = explain(request, zone, got)
            if found is not None:
                return found
            self.guest.become(self._behind)
        return self._take(request.order, request.migratetype, request.pfn)

    def _other_zone(self, request: Request, zone: int, got: int) -> Repair | None:
        guest = self.guest
        predicted = guest.zone_of(got) if got >= 0 else -1
        if predicted == zone:
            return None
        self._learn(zone, predicted, request.gfp >> GFP_ZONE_SHIFT)
        return Repair(ZONE) if self._served_by(zone, request) else None

    def _served_by(self, zone: int, request: Request) -> bool:
        """Whether the zone would serve the request with the recorded page."""
        _, _, pfn, order, migratetype, gfp, _ = request
        return trace_alloc_in_zone(self.guest.base, zone, order, migratetype, gfp) == pfn

    def _down_the_list(self, request: Request, zone: int, _got: int) -> Repair | None:
        guest = self.guest
        _, _, pfn, order, migratetype, _, _ = request
        kind, held, _ = guest.look_at(pfn)
        if kind != KIND_PAGESET or held != order:
            return None
        listed = guest.pageset_list(zone, pageset_list(order, migratetype))
        if pfn not in listed:
            return None
        place = listed.index(pfn)
        for passed in listed[: place + 1]:
            take_from_pageset(guest.base, passed, migratetype)
        bulk = is_bulk(order, migratetype, place)
        return Repair(BULK if bulk else FURTHER_DOWN, place << order)

    def _stacks(self, request: Request, zone: int, _got: int) -> Repair | None:
        for stacks in range(1, STACKS_TRIED + 1):
            if self._after_stacks(stacks * STACK_PAGES, zone, request):
                return Repair(BULK, stacks * STACK_PAGES)
            self.guest.become(self._behind)
        return None

    def _drained(self, request: Request, zone: int, _got: int) -> Repair | None:
        drain_zone(self.guest.base, zone)
        return Repair(DRAINED) if self._served_by(zone, request) else None

    def _after_stacks(self, pages: int, zone: int, request: Request) -> bool:
        """Whether the recorded page follows once kernel stacks were taken in bulk, which leaves
        the pageset's free_factor alone.
        """
        _, _, _, order, migratetype, gfp, _ = request
        if not is_bulk(order, migratetype, pages):
            return False
        base = self.guest.base
        factor = self.guest.pageset_word(zone, P_FREE_FACTOR)
        for _ in range(pages):
            trace_alloc_in_zone(base, zone, order, migratetype, gfp)
        self.guest.set_pageset_word(zone, P_FREE_FACTOR, factor)
        return self._served_by(zone, request)

    def _take(self, order: int, migratetype: int, recorded: int) -> Repair:
        """Take the recorded page from wherever it is."""
        guest = self.guest
        kind, held, _ = guest.look_at(recorded)
        if kind == KIND_PAGESET and held == order:
            take_from_pageset(guest.base, recorded, migratetype)
            return Repair(OTHER_LIST)
        if take_from_free_lists(guest.base, recorded, order, migratetype):
            return Repair(HIDDEN)
        return Repair(NAMED_OTHERWISE)

    def take_stacks(self, snapshot: FreeListSnapshot) -> int:
        """Take the kernel stacks that a snapshot shows to be gone from the head of an unmovable
        list, and nothing else; how many pages.
        """
        pages = 0
        for zone, recorded in enumerate(snapshot.zones):
            listed = self.guest.pageset_list(zone, UNMOVABLE)
            told = [list(pageset.lists.get(UNMOVABLE, ())) for pageset in recorded.pagesets]
            gone = len(listed) - len(told[0]) if told else 0
            if is_bulk(0, UNMOVABLE, gone) and listed[gone:] == told[0]:
                for pfn in listed[:gone]:
                    take_from_pageset(self.guest.base, pfn, UNMOVABLE)
                pages += gone
        self.same()
        return pages

    def take_unseen(self, pfn: int, order: int) -> bool:
        """Take a block that turns out to have been taken without an event; False if that fails."""
        reason = self._take(order, 0, pfn).reason
        self.same()
        return reason != NAMED_OTHERWISE or self.guest.look_at(pfn)[0] == KIND_ALLOCATED

    def _learn(self, zone: int, predicted: int, highest: int) -> None:
        """What a wrong choice of the zone says of the counters: a zone that was passed over read
        at most its mark, one that served although the model passed it over read more.
        """
        if (predicted >= 0 and predicted > zone and self._passes(predicted, highest)) or (
            not self._set_counter(zone, highest, 1) and predicted >= 0
        ):
            self._set_counter(predicted, highest, 0)

    def _passes(self, zone: int, highest: int) -> bool:
        """Whether a zone's counter is above its low mark in the model."""
        guest = self.guest
        free = guest.zone_word(zone, Z_FREE_PAGES) - guest.zone_word(zone, Z_COUNTER_DRIFT)
        return free > self._mark(zone, highest)

    def _mark(self, zone: int, highest: int) -> int:
        words = (Z_WMARK_LOW, Z_BOOST, Z_LOWMEM_RESERVE + highest)
        return sum(self.guest.zone_word(zone, word) for word in words)

    def _set_counter(self, zone: int, highest: int, above: int) -> bool:
        """Let a zone's counter be up to date if that explains the choice; else let it read its
        low mark, or a page more; False when it cannot have been so far from the lists.
        """
        guest = self.guest
        drift = guest.zone_word(zone, Z_FREE_PAGES) - self._mark(zone, highest) - above
        if abs(drift) > guest.zone_word(zone, Z_COUNTER_STEP):
            return False
        guest.set_zone_word(zone, Z_COUNTER_DRIFT, min(drift, 0) if above == 0 else max(drift, 0))
        if (drift >= 0) == (above != 0):
            guest.set_zone_word(zone, Z_COUNTER_DRIFT, 0)
        else:
            guest.set_zone_word(zone, Z_COUNTER_DRIFT, drift)
        return True
