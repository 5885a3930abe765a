"""A guest with files: every page of them placed by hand, and the LRU lists readable."""

from collections.abc import Iterator, Sequence
from contextlib import contextmanager

from pagesoak.allocator.files import access, files
from pagesoak.allocator.geometry import ZoneGeometry
from pagesoak.allocator.page_cache import lru_head, mark_accessed, slots_of
from pagesoak.allocator.populate import plan_from_geometry, populate_synthetic
from pagesoak.allocator.reclaim import direct_reclaim
from pagesoak.allocator.shrink import shrink_node
from pagesoak.allocator.writeback import (
    end_writeback,
    mark_dirty,
    run_flusher,
    wake_flusher,
    writer_is_held_up,
)
from pagesoak.base import layout
from pagesoak.base.layout import L_OWNER, LOAD_WORDS, OWNER_FIRST_LOAD, open_core
from pagesoak.base.layout_reclaim import (
    CACHE_FIRST_SLOT,
    H_WRITEBACK_NS,
    L_FILE_PAGES,
    L_FIRST_SLOT,
    LRU_ACTIVE,
    LRU_INACTIVE,
    LRU_LIST_MASK,
    LRU_UNEVICTABLE,
    S_NEXT,
    S_PFN,
    S_STATE,
    SLOT_WORDS,
)
from pagesoak.base.native import entry
from pagesoak.base.segment import Segment
from tests.core_helper import CoreGuest

FOREVER_NS = 1 << 62
ACCESS, MARK, DIRTY_IT, WAKE_FLUSHER, END_WRITEBACK, RUN_FLUSHER, HELD_UP = range(7)
LISTS = {"inactive": LRU_INACTIVE, "active": LRU_ACTIVE, "unevictable": LRU_UNEVICTABLE}


@entry
def cache_step(base: int, what: int, slot: int, writes: int) -> int:
    """One of the steps above; what it answers, 0 when it says nothing."""
    core = open_core(base)
    slots = slots_of(core)
    answer = 0
    if what == ACCESS:
        answer = access(core, 0, 0, slot, writes != 0)
    elif what == MARK:
        mark_accessed(core, slots, slot)
    elif what == DIRTY_IT:
        mark_dirty(core, 0, slots, slot)
    elif what == WAKE_FLUSHER:
        wake_flusher(core, 0, slots)
    elif what == END_WRITEBACK:
        end_writeback(core, 0, slots)
    elif what == RUN_FLUSHER:
        run_flusher(core, 0, slots)
    elif writer_is_held_up(core, slots):
        answer = 1
    return answer


@entry
def reclaim_directly(base: int, cpu: int, gfp: int, owner: int) -> int:
    """`direct_reclaim` for a test."""
    return direct_reclaim(open_core(base), cpu, gfp, owner)


@entry
def shrink(
    base: int, priority: int, highest_zone: int, wanted: int, force: int, who: int
) -> tuple[int, int, int, int]:
    """`shrink_node` of node 0: freed, scanned, deactivated, skipped."""
    core = open_core(base)
    found = shrink_node(core, 0, 0, priority, highest_zone, wanted, force != 0, who)
    return found.freed, found.scanned, found.deactivated, int(found.skipped_active)


class FilesGuest(CoreGuest):
    """A `CoreGuest` of any zones with `pages` pages of files, of load 0; pages are named by their
    number in the files.
    """

    def __init__(self, zones: Sequence[ZoneGeometry], pages: int, cpus: int = 1) -> None:
        plan = plan_from_geometry(zones, cpus=cpus, loads=1)
        self.segment = Segment.create(plan._replace(cache_slots=CACHE_FIRST_SLOT + pages))
        populate_synthetic(self.segment, zones)
        self.segment.header[layout.H_THP_PAGESETS] = 1
        self.segment.report[layout.R_EVENTFD] = -1
        self.base = self.segment.base
        self.zones = len(zones)
        self.pages = pages
        for word, value in (
            (L_OWNER, OWNER_FIRST_LOAD),
            (L_FIRST_SLOT, CACHE_FIRST_SLOT),
            (L_FILE_PAGES, pages),
        ):
            self.segment.loads[word] = value

    def set_load(self, word: int, value: int) -> None:
        """Change a word of the load's record."""
        self.segment.loads[0 * LOAD_WORDS + word] = value

    def slot(self, page: int, word: int) -> int:
        """A word of a page's slot."""
        return int(self.segment.cache[(CACHE_FIRST_SLOT + page) * SLOT_WORDS + word])

    def set_slot(self, page: int, word: int, value: int) -> None:
        """Change a word of a page's slot."""
        self.segment.cache[(CACHE_FIRST_SLOT + page) * SLOT_WORDS + word] = value

    def pfn(self, page: int) -> int:
        """Where a page is, -1 when it is not in memory."""
        return self.slot(page, S_PFN)

    def flags(self, page: int) -> int:
        """A page's flags, without its list."""
        return self.slot(page, S_STATE) & ~LRU_LIST_MASK

    def lru(self, name: str, node: int = 0) -> list[int]:
        """Pages of a list, head first."""
        head = lru_head(node, LISTS[name])
        found = []
        slot = self.segment.cache[head * SLOT_WORDS + S_NEXT]
        while slot != head:
            found.append(slot - CACHE_FIRST_SLOT)
            assert len(found) <= self.pages, "a list runs in a circle"
            slot = self.segment.cache[slot * SLOT_WORDS + S_NEXT]
        return found

    def step(self, what: int, page: int = 0, *, writes: bool = False) -> int:
        """One of the steps of `cache_step` on a page."""
        return cache_step(self.base, what, CACHE_FIRST_SLOT + page, int(writes))

    def read(self, *pages: int) -> None:
        """Read pages, which must be possible."""
        for page in pages:
            assert self.step(ACCESS, page) == 0

    def write(self, *pages: int) -> None:
        """Write to pages, which must be possible."""
        for page in pages:
            assert self.step(ACCESS, page, writes=True) == 0

    def written_after(self, nanoseconds: int) -> None:
        """How long the disk takes from now on."""
        self.segment.header[H_WRITEBACK_NS] = nanoseconds

    def run(self, operations: int) -> int:
        """A burst of the load."""
        return files(self.base, 0, 0, operations, FOREVER_NS)


@contextmanager
def files_guest(
    *zones: ZoneGeometry, pages: int = 256, cpus: int = 1, audited: bool = True
) -> Iterator[FilesGuest]:
    """A guest with files for the length of a test, audited at its end."""
    guest = FilesGuest(zones, pages, cpus)
    try:
        yield guest
        if audited:
            guest.check()
    finally:
        guest.segment.close()
