"""How large a segment is, and where its sections lie: sizes first, offsets from them."""

from typing import NamedTuple

from pagesoak.base.layout import (
    CACHE_LINE_BYTES,
    HEADER_WORDS,
    LOAD_WORDS,
    LOADS_MAX,
    MAX_ORDER,
    MIGRATE_TYPES,
    PAGE_RECORD_BYTES,
    PAGEBLOCK_ORDER,
    PAGESET_WORDS,
    PCP_LISTS,
    REPLAY_EVENT_WORDS,
    REPORT_WORDS,
    WORD_BYTES,
    WORKER_WORDS,
    ZONE_WORDS,
)
from pagesoak.base.layout_demand import DEMAND_WORDS
from pagesoak.base.layout_reclaim import CACHE_FIRST_SLOT, SLOT_BYTES


class SegmentPlan(NamedTuple):
    """Sizes of a segment, from which every offset follows."""

    zones: int
    cpus: int
    max_pfn: int
    workers: int
    loads: int
    table_words: int
    replay_events: int
    content_pages: int = 0
    """Virtual: pages with a content word."""
    cache_slots: int = 0
    """Pages of files, and the slots that the page cache has for itself; 0 without files."""

    @property
    def lists(self) -> int:
        """List head records: free lists of each zone, then pageset lists of each CPU and zone."""
        return self.zones * (MAX_ORDER * MIGRATE_TYPES + self.cpus * PCP_LISTS)

    def section_bytes(self) -> tuple[int, ...]:
        """Bytes of each section, in the order of `Section`."""
        return (
            self.zones * ZONE_WORDS * WORD_BYTES,
            self.cpus * self.zones * PAGESET_WORDS * WORD_BYTES,
            REPORT_WORDS * WORD_BYTES,
            self.workers * WORKER_WORDS * WORD_BYTES,
            LOADS_MAX * LOAD_WORDS * WORD_BYTES,
            (self.max_pfn >> PAGEBLOCK_ORDER) + 1,
            (self.max_pfn + self.lists) * PAGE_RECORD_BYTES,
            max(1, self.table_words) * 4,
            max(1, self.replay_events) * REPLAY_EVENT_WORDS * WORD_BYTES,
            max(1, self.content_pages) * WORD_BYTES,
            max(CACHE_FIRST_SLOT, self.cache_slots) * SLOT_BYTES,
            self.zones * DEMAND_WORDS * WORD_BYTES,
        )

    def offsets(self) -> tuple[int, ...]:
        """Byte offset of each section, and of the end of the segment."""
        found = []
        place = HEADER_WORDS * WORD_BYTES
        for size_bytes in self.section_bytes():
            found.append(place)
            place += -(-size_bytes // CACHE_LINE_BYTES) * CACHE_LINE_BYTES
        return (*found, place)
