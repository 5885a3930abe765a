"""Small guests for tests of free lists and of reporting: zones with exactly the lists asked for.

A `Guest` is a segment with one or two zones. Its lists are filled block by block through
`free_one_page`, at the tail, so that they stand in the order given. `check` asserts what must hold
at any moment.
"""

from collections.abc import Iterable, Sequence
from typing import NamedTuple

from pagesoak.allocator.buddy import SKIP_REPORT_NOTIFY, TO_TAIL, free_one_page, rmqueue_smallest
from pagesoak.base import layout
from pagesoak.base.layout import (
    BLOCK_MASK,
    KIND_FREE,
    KIND_ISOLATED,
    MAX_ORDER,
    MIGRATE_TYPES,
    MOVABLE,
    PAGE_WORDS,
    PAGEBLOCK_ORDER,
    REPORTING_CAPACITY,
    TYPE_SHIFT,
    ZONE_WORDS,
    open_core,
)
from pagesoak.base.native import entry
from pagesoak.base.plan import SegmentPlan
from pagesoak.base.recorder import Event, read_events
from pagesoak.base.segment import Segment
from pagesoak.reporter.gate import isolate_free_page

SILENT = SKIP_REPORT_NOTIFY | TO_TAIL
HUGE = 1 << 62
SMALL_ORDER = 8
"""Largest block of the small rest: half a page block, so that it never grows to a whole one."""
REPORTER = 1
"""Worker number: one CPU, then the reporter."""
Block = tuple[int, int]
"""First page and order."""


@entry
def free_block(
    base: int, worker: int, zone: int, pfn: int, order: int, migratetype: int, flags: int
) -> int:
    """`free_one_page` for a test; returns the order the block ended with."""
    return free_one_page(open_core(base), worker, zone, pfn, order, migratetype, flags)


@entry
def isolate_block(base: int, zone: int, pfn: int, order: int) -> int:
    """`isolate_free_page` for a test; 1, or 0 when it is refused."""
    return int(isolate_free_page(open_core(base), zone, pfn, order))


@entry
def take_smallest(base: int, zone: int, order: int, migratetype: int) -> int:
    """`rmqueue_smallest` for a test, with the count of free pages; returns the first page."""
    core = open_core(base)
    pfn = rmqueue_smallest(core, zone, order, migratetype)
    if pfn >= 0:
        core.zones[zone * ZONE_WORDS + layout.Z_FREE_PAGES] -= 1 << order
    return pfn


class ZonePlan(NamedTuple):
    """Place and raw watermarks of a zone, in pages."""

    start_pfn: int
    end_pfn: int
    min_pages: int = 0
    low_pages: int = 0
    high_pages: int = 0


DMA = ZonePlan(1, 4096, 21, 26, 31)
DMA32 = ZonePlan(12_288, 131_072, 678, 847, 1016)
G512 = (DMA, DMA32)
"""The reference guest of 512 MiB (docs/model.md, WM-1)."""


def ample(blocks: int) -> ZonePlan:
    """A zone from page 0 on with room for so many blocks of order 10, and no watermarks."""
    return ZonePlan(0, blocks << 10)


class Guest:
    """A segment with zones whose lists are filled by hand; all other pages are in use."""

    def __init__(self, *zones: ZonePlan, segment: Segment | None = None) -> None:
        """An empty guest with these zones, or the one that is in the segment already."""
        self.plans = zones
        max_pfn = max(zone.end_pfn for zone in zones)
        plan = SegmentPlan(len(zones), 1, max_pfn, 4, 0, 0, 0)
        self.segment = segment or Segment.create(plan)
        self.base = self.segment.base
        self.zones = self.segment.zones
        self.report = self.segment.report
        self.pages = self.segment.pages
        self.given = 0
        """Pages ever put on the lists, less those taken."""
        if segment is None:
            self._start_empty(max_pfn)
        else:
            self.given = sum(self.free_pages(zone) for zone in range(len(zones)))

    @classmethod
    def of(cls, segment: Segment) -> "Guest":
        """A guest that was filled by somebody else; the segment is the guest's from then on."""
        words = [segment.zones[z * ZONE_WORDS :] for z in range(segment.plan.zones)]
        plans = [
            ZonePlan(
                zone[layout.Z_START_PFN],
                zone[layout.Z_END_PFN],
                zone[layout.Z_WMARK_MIN],
                zone[layout.Z_WMARK_LOW],
                zone[layout.Z_WMARK_HIGH],
            )
            for zone in words
        ]
        for zone in words:
            zone.release()
        return cls(*plans, segment=segment)

    def _start_empty(self, max_pfn: int) -> None:
        self.segment.header[layout.H_FREE_PAGES_MIN] = HUGE
        self.report[layout.R_EVENTFD] = -1
        self.report[layout.R_OFFSET] = REPORTING_CAPACITY
        for entry_number in range(REPORTING_CAPACITY):
            at = layout.R_ENTRIES + entry_number * layout.ENTRY_WORDS
            self.report[at + layout.E_PFN] = -1
            self.report[at + layout.E_END] = int(entry_number == REPORTING_CAPACITY - 1)
        for number in range((max_pfn >> PAGEBLOCK_ORDER) + 1):
            self.segment.blocks[number] = MOVABLE
        for zone, plan in enumerate(self.plans):
            for index, value in (
                (layout.Z_INDEX, zone),
                (layout.Z_START_PFN, plan.start_pfn),
                (layout.Z_END_PFN, plan.end_pfn),
                (layout.Z_MANAGED, plan.end_pfn - plan.start_pfn),
                (layout.Z_WMARK_MIN, plan.min_pages),
                (layout.Z_WMARK_LOW, plan.low_pages),
                (layout.Z_WMARK_HIGH, plan.high_pages),
                *((word, HUGE) for word in range(layout.Z_FREE_PAGES_MIN, layout.Z_ISOLATED_MAX)),
            ):
                self.set_word(zone, index, value)

    def close(self) -> None:
        """Give the memory back."""
        for view in (self.zones, self.report, self.pages):
            view.release()
        self.segment.close()

    # -- words ------------------------------------------------------------------------------

    def word(self, zone: int, index: int) -> int:
        """A word of a zone's record."""
        return int(self.zones[zone * ZONE_WORDS + index])

    def set_word(self, zone: int, index: int, value: int) -> None:
        """Set a word of a zone's record."""
        self.zones[zone * ZONE_WORDS + index] = value

    def free_pages(self, zone: int = 0) -> int:
        """NR_FREE_PAGES."""
        return self.word(zone, layout.Z_FREE_PAGES)

    def isolated_pages(self) -> int:
        """Of all zones."""
        return sum(self.word(zone, layout.Z_ISOLATED) for zone in range(len(self.plans)))

    def block_state(self, pfn: int) -> int:
        """Kind, order, type and flags of a block's first page."""
        return int(self.pages[pfn * PAGE_WORDS + layout.STATE]) & BLOCK_MASK

    def zone_of(self, pfn: int) -> int:
        """The zone a page lies in."""
        return next(
            zone for zone, plan in enumerate(self.plans) if plan.start_pfn <= pfn < plan.end_pfn
        )

    # -- giving and taking ------------------------------------------------------------------

    def give(self, pfn: int, order: int, migratetype: int = MOVABLE, flags: int = SILENT) -> int:
        """Free a block; its page blocks get the type. Returns the order it ended with."""
        for page in range(pfn, pfn + (1 << order), 1 << PAGEBLOCK_ORDER):
            self.segment.blocks[page >> PAGEBLOCK_ORDER] = migratetype
        self.given += 1 << order
        zone = self.zone_of(pfn)
        return free_block(self.base, 0, zone, pfn, order, migratetype, flags)

    def give_list(
        self,
        order: int,
        pfns: Iterable[int],
        migratetype: int = MOVABLE,
        reported: Sequence[int] = (),
    ) -> None:
        """Append blocks to a list in the order given; those in `reported` are Reported."""
        for pfn in pfns:
            assert self.give(pfn, order, migratetype) == order
        for pfn in reported:
            self.pages[pfn * PAGE_WORDS + layout.STATE] |= layout.REPORTED
            zone = self.zone_of(pfn)
            pages = self.word(zone, layout.Z_REPORTED) + (1 << order)
            self.set_word(zone, layout.Z_REPORTED, pages)

    def give_small(self, pages: int, first_pfn: int) -> None:
        """Free so many pages in blocks below page block size, each half a page block at most."""
        pfn = first_pfn
        while pages:
            order = min(SMALL_ORDER, pages.bit_length() - 1)
            assert self.give(pfn, order) == order
            pages -= 1 << order
            pfn += 1 << PAGEBLOCK_ORDER

    def take(self, order: int, zone: int = 0, migratetype: int = MOVABLE) -> int:
        """Take the first fitting block; its first page."""
        pfn = take_smallest(self.base, zone, order, migratetype)
        assert pfn >= 0
        self.given -= 1 << order
        return pfn

    # -- looking ----------------------------------------------------------------------------

    def listed(self, order: int, migratetype: int = MOVABLE, zone: int = 0) -> list[int]:
        """The blocks of a list from its head to its tail; asserts that its links are sound."""
        head = self.word(zone, layout.Z_LIST_BASE) + order * MIGRATE_TYPES + migratetype
        found = []
        before = head
        record = self.pages[head * PAGE_WORDS + layout.NEXT]
        while record != head:
            found.append(record)
            assert self.pages[record * PAGE_WORDS + layout.PREVIOUS] == before
            assert (self.block_state(record) & ~layout.REPORTED) == (
                KIND_FREE | order | migratetype << TYPE_SHIFT
            )
            before = record
            record = self.pages[record * PAGE_WORDS + layout.NEXT]
        assert self.pages[head * PAGE_WORDS + layout.PREVIOUS] == before
        return found

    def reported(self, order: int, migratetype: int = MOVABLE, zone: int = 0) -> list[int]:
        """The Reported blocks of a list, in its order."""
        blocks = self.listed(order, migratetype, zone)
        return [pfn for pfn in blocks if self.block_state(pfn) & layout.REPORTED]

    def entries(self, start: int) -> list[Block]:
        """Entries of the scatterlist from `start` to the end marker, as the host reads them."""
        found = []
        for index in range(start, REPORTING_CAPACITY):
            at = layout.R_ENTRIES + index * layout.ENTRY_WORDS
            pfn, order, pages, end = self.report[at : at + layout.ENTRY_WORDS]
            assert pages == 1 << order
            found.append((pfn, order))
            if end:
                break
        return found

    def events(self, name: str, worker: int = REPORTER) -> list[dict[str, int]]:
        """The recorded events of one kind."""
        events: list[Event] = read_events(self.segment, worker)[0]
        return [event.fields for event in events if event.name == name]

    def counter(self, number: int, worker: int = REPORTER) -> int:
        """A counter as the worker has it, published or not."""
        at = worker * layout.WORKER_WORDS + layout.W_COUNTERS
        return int(self.segment.workers[at + number])

    # -- what must hold at any moment (docs/model.md, 11) -----------------------------------

    def check_scatterlist(self) -> None:
        """The offset is in range, the end marker at the last entry alone, unused entries empty."""
        offset = self.report[layout.R_OFFSET]
        assert 0 <= offset <= REPORTING_CAPACITY
        for index in range(REPORTING_CAPACITY):
            at = layout.R_ENTRIES + index * layout.ENTRY_WORDS
            pfn, order, pages, end = self.report[at : at + layout.ENTRY_WORDS]
            assert end == (index == REPORTING_CAPACITY - 1)
            if index < offset:
                assert (pfn, order, pages) == (-1, 0, 0)

    def check(self) -> None:
        """Lists, counts, flags and isolated blocks agree, and no page is lost or doubled."""
        self.check_scatterlist()
        total = sum(self._check_zone(zone) for zone in range(len(self.plans)))
        isolated = self._check_isolated()
        assert isolated == self.isolated_pages()
        assert total + isolated == self.given

    def check_page_records(self) -> None:
        """No page record says free or isolated but those of blocks that are; for small guests."""
        kinds = [state & layout.KIND_MASK for state in self.pages[layout.STATE :: PAGE_WORDS]]
        blocks = sum(
            self.word(zone, layout.Z_NR_FREE + order)
            for zone in range(len(self.plans))
            for order in range(MAX_ORDER)
        )
        assert kinds.count(KIND_FREE) == blocks
        isolated = REPORTING_CAPACITY - self.report[layout.R_OFFSET]
        assert kinds.count(KIND_ISOLATED) == isolated

    def _check_zone(self, zone: int) -> int:
        free = 0
        reported = 0
        for order in range(MAX_ORDER):
            blocks = 0
            for migratetype in range(MIGRATE_TYPES):
                pfns = self.listed(order, migratetype, zone)
                blocks += len(pfns)
                flagged = [p for p in pfns if self.block_state(p) & layout.REPORTED]
                assert not flagged or order >= self.report[layout.R_ORDER]
                reported += len(flagged) << order
            assert blocks == self.word(zone, layout.Z_NR_FREE + order)
            free += blocks << order
        assert free == self.free_pages(zone)
        assert reported == self.word(zone, layout.Z_REPORTED)
        return free

    def _check_isolated(self) -> int:
        offset = self.report[layout.R_OFFSET]
        if offset == REPORTING_CAPACITY:
            return 0
        expected = self.report[layout.R_REQUEST]
        expected = expected or self.segment.header[layout.H_REQUEST_SEQUENCE] + 1
        for index, (pfn, order) in enumerate(self.entries(offset), offset):
            record = pfn * PAGE_WORDS
            assert self.block_state(pfn) == KIND_ISOLATED | order
            assert self.pages[record + layout.NEXT] == expected
            assert self.pages[record + layout.PREVIOUS] == index
        return sum(1 << order for _, order in self.entries(offset))
