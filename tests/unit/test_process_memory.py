"""A process's memory: what a region takes beside its pages, and in which order it goes back."""

from collections.abc import Iterator
from contextlib import contextmanager

import pytest

from pagesoak.allocator.guest import AGAIN, DONE, OUT_OF_MEMORY, WAITS
from pagesoak.allocator.populate import plan_from_geometry, populate_synthetic
from pagesoak.allocator.process_memory import (
    BATCH_BLOCKS,
    BATCHES_MAX,
    BUNDLE_BLOCKS,
    gathered_place,
    place_region,
    table_words,
    touch_region,
    unmap_region,
)
from pagesoak.base import layout
from pagesoak.base.generator import seed_words
from pagesoak.base.layout import (
    L_CAPACITY,
    L_HELD,
    L_HELD_PAGES,
    L_ORDER,
    L_OWNER,
    L_RANDOM,
    L_TABLE,
    LOAD_WORDS,
    MOVABLE,
    OWNER_FIRST_LOAD,
    PAGEBLOCK_ORDER,
    PAGEBLOCK_PAGES,
    UNMOVABLE,
    Z_FREE_PAGES,
)
from pagesoak.base.layout_process import L_OFFSET, L_PAGE_TABLES
from pagesoak.base.layout_reclaim import L_BUSY
from pagesoak.base.native import entry
from pagesoak.base.segment import Segment
from pagesoak.base.statistics import VIOLATIONS
from tests.core_helper import CoreGuest, zone_of_blocks

BLOCKS = 16
REGION_PAGES = 5 * PAGEBLOCK_PAGES
FOREVER_NS = 1 << 62
LOAD = 0
ALLOCATED = 3


@entry
def place_of(_base: int, start: int, end: int, number: int) -> int:
    """`gathered_place` for a test."""
    return gathered_place(start, end, number)


class ProcessGuest(CoreGuest):
    """One zone of 64 MiB, and a load with room for a region of all of it."""

    def __init__(self) -> None:
        zones = (zone_of_blocks(BLOCKS),)
        words = table_words(BLOCKS * 1024)
        plan = plan_from_geometry(zones, cpus=1, loads=1, table_words=words)
        self.segment = Segment.create(plan)
        populate_synthetic(self.segment, zones)
        self.segment.header[layout.H_THP_PAGESETS] = 1
        self.segment.report[layout.R_EVENTFD] = -1
        self.base = self.segment.base
        self.zones = 1
        self.set_load(L_OWNER, OWNER_FIRST_LOAD)
        self.set_load(L_TABLE, 0)
        self.set_load(L_CAPACITY, words)
        for word, value in enumerate(seed_words(1, 0)):
            self.set_load(L_RANDOM + word, value)

    def set_load(self, word: int, value: int) -> None:
        """Change a word of the load's record."""
        self.segment.loads[LOAD * LOAD_WORDS + word] = value

    def load(self, word: int) -> int:
        """A word of the load's record."""
        return int(self.segment.loads[LOAD * LOAD_WORDS + word])

    def blocks_held(self) -> list[tuple[int, int]]:
        """Order and type of the region's blocks, in the order of their addresses."""
        pfns = [self.segment.tables[n] for n in range(self.load(L_HELD))]
        return [self.state(pfn)[1:3] for pfn in pfns]

    def touch(self, pages: int = REGION_PAGES) -> int:
        """Touch a region; kswapd, where it is woken, comes in between."""
        reason = AGAIN
        while reason == AGAIN:
            reason = touch_region(self.base, 0, LOAD, pages, FOREVER_NS)
        return reason

    def unmap(self, until_ns: int = FOREVER_NS) -> int:
        """Unmap it, as far as it goes until then."""
        reason = unmap_region(self.base, 0, LOAD, until_ns)
        while until_ns == FOREVER_NS and reason == AGAIN:
            reason = unmap_region(self.base, 0, LOAD, until_ns)
        return reason

    def kernel_pages(self) -> list[tuple[int, int, int, bool]]:
        """The records of the load's page tables."""
        words = self.load(L_CAPACITY)
        tables = range(self.load(L_PAGE_TABLES))
        return [self.state(self.segment.tables[words - 1 - n]) for n in tables]


@contextmanager
def process_guest() -> Iterator[ProcessGuest]:
    """A guest whose state is audited at the end."""
    guest = ProcessGuest()
    try:
        yield guest
        guest.check()
        assert guest.counter(VIOLATIONS) == 0
    finally:
        guest.segment.close()


@pytest.mark.parametrize(
    ("offset", "tables"), [(0, 5), (1, 6), (511, 6)], ids=["whole", "one-off", "last"]
)
def test_a_region_needs_a_page_table_per_2_mib_it_touches(offset: int, tables: int) -> None:
    with process_guest() as guest:
        guest.set_load(L_OFFSET, offset)
        assert guest.touch() == DONE
        assert guest.load(L_HELD_PAGES) == REGION_PAGES
        assert guest.blocks_held() == [(0, MOVABLE)] * REGION_PAGES
        assert guest.kernel_pages() == [(ALLOCATED, 0, UNMOVABLE, False)] * tables


@pytest.mark.parametrize(
    ("offset", "head", "huge"), [(0, 0, 5), (256, 256, 4)], ids=["whole", "half-off"]
)
def test_huge_pages_stand_where_2_mib_lie_whole(offset: int, head: int, huge: int) -> None:
    with process_guest() as guest:
        guest.set_load(L_ORDER, PAGEBLOCK_ORDER)
        guest.set_load(L_OFFSET, offset)
        assert guest.touch() == DONE
        tail = REGION_PAGES - huge * PAGEBLOCK_PAGES - head
        small = (0, MOVABLE)
        expected = [small] * head + [(PAGEBLOCK_ORDER, MOVABLE)] * huge + [small] * tail
        assert guest.blocks_held() == expected
        assert guest.load(L_PAGE_TABLES) == huge + (2 if head else 0)


def test_unmapping_gives_everything_back() -> None:
    with process_guest() as guest:
        free = guest.word(Z_FREE_PAGES)
        guest.touch()
        taken = REGION_PAGES + guest.load(L_PAGE_TABLES)
        assert guest.unmap() == DONE
        kept = guest.pageset_word(layout.P_COUNT)
        assert guest.word(Z_FREE_PAGES) + kept == free
        assert taken > REGION_PAGES
        assert guest.load(L_HELD) == guest.load(L_PAGE_TABLES) == 0
        assert guest.touch() == DONE
        assert guest.unmap() == DONE


def test_an_unmapping_that_is_interrupted_ends_the_same() -> None:
    with process_guest() as once, process_guest() as often:
        for guest in (once, often):
            guest.set_load(L_OFFSET, 3)
            guest.touch()
        assert once.unmap() == DONE
        interrupted = 0
        while often.unmap(0) == AGAIN:
            interrupted += 1
        assert interrupted > 1
        assert often.segment.pages.tobytes() == once.segment.pages.tobytes()


def test_who_unmaps_keeps_the_table() -> None:
    with process_guest() as guest:
        guest.touch()
        assert guest.unmap(0) == AGAIN
        assert guest.load(L_BUSY) == 1
        assert guest.unmap() == DONE
        assert guest.load(L_BUSY) == 0
        guest.set_load(L_BUSY, 2)
        assert guest.touch() == WAITS
        guest.set_load(L_BUSY, 0)


def test_a_region_larger_than_the_guest_is_killed_and_all_comes_back() -> None:
    with process_guest() as guest:
        free = guest.word(Z_FREE_PAGES)
        assert guest.touch(BLOCKS * 1024) == OUT_OF_MEMORY
        assert guest.unmap() == OUT_OF_MEMORY
        assert guest.unmap() == DONE
        assert guest.word(Z_FREE_PAGES) + guest.pageset_word(layout.P_COUNT) == free


def test_a_gather_is_freed_bundle_first_each_batch_from_its_end() -> None:
    """The runs that the recording w2 shows (FACTS.md, 8): 8 pages, then 510 at a time."""
    with process_guest() as guest:
        end = BUNDLE_BLOCKS + BATCH_BLOCKS + 40
        order = [place_of(guest.base, 0, end, number) for number in range(end)]
        assert order[:BUNDLE_BLOCKS] == list(range(BUNDLE_BLOCKS))[::-1]
        first = order[BUNDLE_BLOCKS : BUNDLE_BLOCKS + BATCH_BLOCKS]
        assert first == list(range(BUNDLE_BLOCKS, BUNDLE_BLOCKS + BATCH_BLOCKS))[::-1]
        assert order[-1] == BUNDLE_BLOCKS + BATCH_BLOCKS
        assert sorted(order) == list(range(end))


def test_a_gather_holds_its_batches_and_no_more() -> None:
    with process_guest() as guest:
        pages = BUNDLE_BLOCKS + BATCHES_MAX * BATCH_BLOCKS + 100
        free = guest.word(Z_FREE_PAGES)
        assert guest.touch(pages) == DONE
        assert guest.unmap() == DONE
        assert guest.word(Z_FREE_PAGES) + guest.pageset_word(layout.P_COUNT) == free


def test_since_6_9_pages_go_back_in_the_order_of_their_addresses() -> None:
    with process_guest() as old, process_guest() as new:
        new.set_kernel("6.12")
        for guest in (old, new):
            guest.touch(64)
            guest.unmap()
        taken = [guest.segment.tables[0] for guest in (old, new)]
        newest = [guest.pageset(layout.MOVABLE)[0] for guest in (old, new)]
        assert newest == [taken[0] + BUNDLE_BLOCKS, taken[1] + 63]


def test_a_process_begins_anywhere_unless_aligned() -> None:
    with process_guest() as guest:
        places = {place_region(guest.base, LOAD, 0, 0) for _ in range(50)}
        assert len(places) > 20
        assert all(0 <= place < PAGEBLOCK_PAGES for place in places)
        assert place_region(guest.base, LOAD, 1, 0) == 0
