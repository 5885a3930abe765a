"""Guests for tests of the allocator core: any zones, every page placed by hand, and every list
readable.

A `CoreGuest` is a segment filled by `populate_synthetic`. `take_all` puts a zone's pages into use
one by one; `give` then frees any aligned block of them straight to the buddy lists, so that a test
can build exactly the lists it is about. `check` audits the whole state; it shares no code with the
allocator.
"""

from collections.abc import Iterator, Sequence
from contextlib import contextmanager

from pagesoak.allocator.attribution import cause_of_failure
from pagesoak.allocator.audit import audit
from pagesoak.allocator.buddy import free_one_page, set_block
from pagesoak.allocator.geometry import ZONE_DMA32, ZONE_NAMES, ZoneGeometry, guest_zones
from pagesoak.allocator.gfp import GFP_ZONE_SHIFT, USER_MOVABLE, ZONE_MOVABLE
from pagesoak.allocator.highatomic import unreserve_highatomic
from pagesoak.allocator.kswapd import begin_run, end_run, run_kswapd
from pagesoak.allocator.page_alloc import rmqueue_buddy
from pagesoak.allocator.pageset import drain_all_pagesets
from pagesoak.allocator.populate import plan_from_geometry, populate_synthetic
from pagesoak.allocator.profile import PROFILES
from pagesoak.allocator.single import allocate_block, free_block
from pagesoak.base import layout
from pagesoak.base.layout import (
    BLOCK_MASK,
    HIGHATOMIC,
    KIND_ALLOCATED,
    KIND_SHIFT,
    MAX_ORDER,
    MIGRATE_TYPES,
    MOVABLE,
    NEXT,
    ORDER_MASK,
    OWNER_FIRST_LOAD,
    PAGE_WORDS,
    PAGEBLOCK_ORDER,
    PAGEBLOCK_PAGES,
    PAGESET_WORDS,
    PCP_LISTS,
    PREVIOUS,
    REPORTED,
    STATE,
    TYPE_MASK,
    TYPE_SHIFT,
    Z_ALLOCATED_DIRECT,
    ZONE_WORDS,
    open_core,
)
from pagesoak.base.layout_kernel import H_KERNEL
from pagesoak.base.layout_reclaim import H_NODES, N_HIGHEST_ZONE
from pagesoak.base.lock import lock_zone, unlock_zone
from pagesoak.base.native import entry
from pagesoak.base.segment import Segment
from pagesoak.base.statistics import publish_statistics, read_statistics

MIB = 1 << 20


@entry
def direct_take(base: int, zone: int, order: int, migratetype: int, alloc_flags: int) -> int:
    """A block past watermark and pageset, for the first load; -1 when there is none."""
    core = open_core(base)
    return rmqueue_buddy(core, 0, zone, order, migratetype, 0, alloc_flags, OWNER_FIRST_LOAD)


@entry
def direct_give(base: int, zone: int, pfn: int, order: int, migratetype: int, flags: int) -> int:
    """A taken block straight to the buddy lists, with whatever type; the order it ended with."""
    core = open_core(base)
    lock_zone(core, zone, 0)
    set_block(core.pages, pfn, 0)
    core.zones[zone * ZONE_WORDS + Z_ALLOCATED_DIRECT] -= 1 << order
    reached = free_one_page(core, 0, zone, pfn, order, migratetype, flags)
    unlock_zone(core, zone, 0)
    return reached


@entry
def drain_all(base: int, worker: int, cpus: int) -> int:
    """`drain_all_pagesets` for a test."""
    return drain_all_pagesets(open_core(base), worker, cpus)


@entry
def unreserve(base: int, migratetype: int, gfp: int, force: int) -> int:
    """`unreserve_highatomic` for a test; 1 or 0."""
    return int(unreserve_highatomic(open_core(base), 0, migratetype, gfp, force != 0))


@entry
def cause(base: int, order: int, highest_zone: int, alloc_flags: int) -> int:
    """`cause_of_failure` for a test, of a request that may use any node."""
    gfp = highest_zone << GFP_ZONE_SHIFT
    return cause_of_failure(open_core(base), 0, order, gfp, alloc_flags)


@entry
def cause_of_request(base: int, cpu: int, order: int, gfp: int, alloc_flags: int) -> int:
    """`cause_of_failure` of a CPU's request, for a test."""
    return cause_of_failure(open_core(base), cpu, order, gfp, alloc_flags)


@entry
def kswapd(base: int) -> int:
    """`run_kswapd` for a test; returns 0."""
    run_kswapd(open_core(base), 0)
    return 0


@entry
def boosts_back(base: int) -> int:
    """What the end of a kswapd's run does to node 0; returns 0."""
    core = open_core(base)
    core.header[H_NODES + N_HIGHEST_ZONE] = ZONE_MOVABLE + 1
    begin_run(core, 0)
    end_run(core, 0, 0)
    return 0


def zone_of_blocks(blocks: int, start_pfn: int = 0, index: int = ZONE_DMA32) -> ZoneGeometry:
    """A zone of so many blocks of order 10, all of it managed."""
    pages = blocks << (MAX_ORDER - 1)
    spans = ((start_pfn, start_pfn + pages),)
    return ZoneGeometry(ZONE_NAMES[index], index, start_pfn, pages, pages, spans)


G512 = guest_zones(512 * MIB)
"""The reference guest: DMA 3840 pages, DMA32 118784 from pfn 12288 on; record 1 is DMA32."""


class CoreGuest:
    """A segment and what tests do with it. Zones are named by record number."""

    def __init__(
        self,
        zones: Sequence[ZoneGeometry],
        cpus: int = 1,
        loads: int = 0,
        table_words: int = 0,
    ) -> None:
        plan = plan_from_geometry(zones, cpus=cpus, loads=loads, table_words=table_words)
        self.segment = Segment.create(plan)
        populate_synthetic(self.segment, zones)
        self.segment.header[layout.H_THP_PAGESETS] = 1
        self.segment.report[layout.R_EVENTFD] = -1
        self.base = self.segment.base
        self.zones = len(zones)

    # -- words ------------------------------------------------------------------------------------

    def word(self, word: int, zone: int = 0) -> int:
        """A word of a zone record."""
        return int(self.segment.zones[zone * ZONE_WORDS + word])

    def set_word(self, word: int, value: int, zone: int = 0) -> None:
        """Change a word of a zone record."""
        self.segment.zones[zone * ZONE_WORDS + word] = value

    def pageset_word(self, word: int, zone: int = 0, cpu: int = 0) -> int:
        """A word of a pageset record."""
        return int(self.segment.pagesets[(cpu * self.zones + zone) * PAGESET_WORDS + word])

    def set_pageset_word(self, word: int, value: int, zone: int = 0, cpu: int = 0) -> None:
        """Change a word of a pageset record."""
        self.segment.pagesets[(cpu * self.zones + zone) * PAGESET_WORDS + word] = value

    def set_marks(self, minimum: int, low: int, high: int, zone: int = 0) -> None:
        """The raw watermarks."""
        self.set_word(layout.Z_WMARK_MIN, minimum, zone)
        self.set_word(layout.Z_WMARK_LOW, low, zone)
        self.set_word(layout.Z_WMARK_HIGH, high, zone)

    def set_type(self, pfn: int, migratetype: int) -> None:
        """The type of the page block that holds `pfn`; HIGHATOMIC makes it reserved."""
        was, self.segment.blocks[pfn >> PAGEBLOCK_ORDER] = self.type_of(pfn), migratetype
        more = int(migratetype == HIGHATOMIC) - int(was == HIGHATOMIC)
        if more:
            zone = self.zone_of(pfn)
            reserved = self.word(layout.Z_RESERVED_HIGHATOMIC, zone) + more * PAGEBLOCK_PAGES
            self.set_word(layout.Z_RESERVED_HIGHATOMIC, reserved, zone)

    def type_of(self, pfn: int) -> int:
        """The type of the page block that holds `pfn`."""
        return int(self.segment.blocks[pfn >> PAGEBLOCK_ORDER])

    def counter(self, counter: int, worker: int = 0) -> int:
        """A counter of a worker, as of now."""
        publish_statistics(self.base, worker)
        return read_statistics(self.segment, worker).counters[counter]

    def set_kernel(self, name: str) -> None:
        """Follow another kernel's rules from now on."""
        self.segment.header[H_KERNEL] = PROFILES[name].rules

    # -- pages and lists --------------------------------------------------------------------------

    def state(self, pfn: int) -> tuple[int, int, int, bool]:
        """Kind (1 free, 2 pageset, 3 allocated, 4 isolated), order, type and Reported of a page
        record.
        """
        state = self.segment.pages[pfn * PAGE_WORDS + STATE] & BLOCK_MASK
        kind = (state & layout.KIND_MASK) >> KIND_SHIFT
        migratetype = (state & TYPE_MASK) >> TYPE_SHIFT
        return kind, state & ORDER_MASK, migratetype, state & REPORTED != 0

    def set_reported(self, *pfns: int) -> None:
        """Make free blocks Reported."""
        for pfn in pfns:
            zone = self.zone_of(pfn)
            self.segment.pages[pfn * PAGE_WORDS + STATE] |= REPORTED
            pages = 1 << self.state(pfn)[1]
            self.set_word(layout.Z_REPORTED, self.word(layout.Z_REPORTED, zone) + pages, zone)

    def zone_of(self, pfn: int) -> int:
        """The record of the zone that spans a page."""
        for zone in range(self.zones):
            if self.word(layout.Z_START_PFN, zone) <= pfn < self.word(layout.Z_END_PFN, zone):
                return zone
        raise ValueError(f"page {pfn} is in no zone")

    def walk(self, head: int) -> list[int]:
        """Members of a list, first to last."""
        found: list[int] = []
        record = self.segment.pages[head * PAGE_WORDS + NEXT]
        while record != head:
            found.append(record)
            assert len(found) <= self.segment.plan.max_pfn, "a list runs in a circle"
            record = self.segment.pages[record * PAGE_WORDS + NEXT]
        return found

    def free_list(self, order: int, migratetype: int = MOVABLE, zone: int = 0) -> list[int]:
        """First pages of a free list's blocks, in list order."""
        head = self.word(layout.Z_LIST_BASE, zone) + order * MIGRATE_TYPES + migratetype
        return self.walk(head)

    def free_lists(self, zone: int = 0) -> dict[tuple[int, int], list[int]]:
        """Every list that is not empty, by (order, type)."""
        lists = {
            (order, migratetype): self.free_list(order, migratetype, zone)
            for order in range(MAX_ORDER)
            for migratetype in range(MIGRATE_TYPES)
        }
        return {key: pfns for key, pfns in lists.items() if pfns}

    def pageset(self, index: int, zone: int = 0, cpu: int = 0) -> list[int]:
        """First pages of a pageset list's blocks, in list order."""
        return self.walk(self.pageset_word(layout.P_LIST_BASE, zone, cpu) + index)

    def pagesets(self, zone: int = 0, cpu: int = 0) -> dict[int, list[int]]:
        """Every pageset list that is not empty, by number."""
        lists = {index: self.pageset(index, zone, cpu) for index in range(PCP_LISTS)}
        return {index: pfns for index, pfns in lists.items() if pfns}

    # -- taking and giving ------------------------------------------------------------------------

    def alloc(
        self, order: int = 0, migratetype: int = MOVABLE, gfp: int = USER_MOVABLE, cpu: int = 0
    ) -> int:
        """A request by the core's own way; pfn, or FAILED, KILLED, ABORTED."""
        return allocate_block(self.base, cpu, order, migratetype, gfp, OWNER_FIRST_LOAD)

    def free(self, pfn: int, order: int = 0, cpu: int = 0) -> int:
        """Give a taken block back by the core's own way."""
        return free_block(self.base, cpu, pfn, order)

    def take(
        self, order: int, migratetype: int = MOVABLE, zone: int = 0, alloc_flags: int = 0
    ) -> int:
        """A block past watermark and pageset."""
        return direct_take(self.base, zone, order, migratetype, alloc_flags)

    def take_all(self, zone: int = 0) -> None:
        """Put every free page of a zone into use, each a block of its own."""
        for order in reversed(range(MAX_ORDER)):
            for migratetype in range(MIGRATE_TYPES):
                while self.free_list(order, migratetype, zone):
                    self.split(self.take(order, migratetype, zone), order)

    def take_down_to(self, free_pages: int, zone: int = 0) -> None:
        """Take the largest blocks that leave exactly so many pages free."""
        for order in reversed(range(MAX_ORDER)):
            while self.word(layout.Z_FREE_PAGES, zone) - (1 << order) >= free_pages:
                assert self.take(order, zone=zone) >= 0

    def _record(self, pfn: int, state: int) -> None:
        place = pfn * PAGE_WORDS
        pages = self.segment.pages
        pages[place + STATE] = (pages[place + STATE] & ~BLOCK_MASK) | state
        if state:
            pages[place + PREVIOUS] = OWNER_FIRST_LOAD
            pages[place + NEXT] = 0

    def split(self, pfn: int, order: int, *, on_lru: bool = False) -> None:
        """Make a taken block single taken pages."""
        lru = layout.ON_LRU if on_lru else 0
        for page in range(pfn, pfn + (1 << order)):
            self._record(page, KIND_ALLOCATED | MOVABLE << TYPE_SHIFT | lru)

    def join(self, pfn: int, order: int) -> None:
        """Make single taken pages a taken block."""
        for page in range(pfn, pfn + (1 << order)):
            assert self.state(page)[:2] == (3, 0), "the page is not in use by itself"
            self._record(page, 0)
        self._record(pfn, KIND_ALLOCATED | order | MOVABLE << TYPE_SHIFT)

    def give(
        self, pfn: int, order: int = 0, migratetype: int | None = None, flags: int = 0
    ) -> int:
        """Free pages of `take_all` as one block to the buddy lists; the order it ended with."""
        self.join(pfn, order)
        wanted = self.type_of(pfn) if migratetype is None else migratetype
        return direct_give(self.base, self.zone_of(pfn), pfn, order, wanted, flags)

    def unreserve(
        self, migratetype: int = MOVABLE, gfp: int = USER_MOVABLE, *, force: bool = True
    ) -> bool:
        """Give a page block of the HIGHATOMIC reserve back; whether there was one."""
        return unreserve(self.base, migratetype, gfp, int(force)) == 1

    def drain(self) -> int:
        """Empty all pagesets; how many could not be locked."""
        return drain_all(self.base, 0, self.segment.plan.cpus)

    # -- the whole ----------------------------------------------------------------------------

    def check(self) -> None:
        """Nothing is wrong anywhere."""
        result = audit(self.segment)
        assert result.clean, result.breaches[:5]


@contextmanager
def dma32_alone() -> Iterator[CoreGuest]:
    """DMA32 of G512 with the watermarks it has there, and no DMA to fall back on; record 0."""
    with core_guest(G512[1]) as guest:
        guest.set_marks(678, 847, 1016)
        yield guest


@contextmanager
def core_guest(
    *zones: ZoneGeometry,
    cpus: int = 1,
    audited: bool = True,
    loads: int = 0,
    table_words: int = 0,
) -> Iterator[CoreGuest]:
    """A guest for the length of a test, audited at its end."""
    guest = CoreGuest(zones, cpus, loads, table_words)
    try:
        yield guest
        if audited:
            guest.check()
    finally:
        guest.segment.close()
