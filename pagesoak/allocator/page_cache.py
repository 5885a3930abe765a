"""The page cache: which pages of files are in memory, on which LRU list, and whether used again.

Models Linux 6.1 `mm/swap.c` and `mm/vmscan.c` for pages that are read and written through the
cache and not mapped: a page comes to the head of its node's inactive list; the access after the
first makes it active (`mark_page_accessed`). Pages locked in memory are on the unevictable list.
Pages of tmpfs are on none here: with no swap reclaim never looks at theirs. Everything under the
cache's lock (`lru_lock`).

Not modelled: that a page which comes back soon after it was reclaimed is active at once
(workingset), read-ahead, batches on their way to the lists (pagevecs).
"""

from pagesoak.allocator.page_free import release, zone_of
from pagesoak.base.layout import (
    H_OFFSETS,
    PAGE_WORDS,
    PREVIOUS,
    Z_NODE,
    ZONE_WORDS,
    Core,
)
from pagesoak.base.layout_reclaim import (
    HEADS_FIRST_SLOT,
    LRU_ACTIVE,
    LRU_INACTIVE,
    LRU_LIST_MASK,
    LRU_LISTS,
    LRU_NONE,
    REFERENCED,
    S_NEXT,
    S_PFN,
    S_PREVIOUS,
    S_STATE,
    SECTION_CACHE,
    SLOT_WORDS,
    Z_INACTIVE_FILE,
)
from pagesoak.base.native import Words, inner, int32_at, leaf

_CACHE_OFFSET = H_OFFSETS + SECTION_CACHE
ABSENT = -1


@leaf
def slots_of(core: Core) -> Words:
    """The slots' words."""
    return int32_at(core.base + core.header[_CACHE_OFFSET])


@leaf
def lru_head(node: int, lru: int) -> int:
    """The slot that heads a node's list."""
    return HEADS_FIRST_SLOT + node * LRU_LISTS + lru


@inner
def count_lru(core: Core, zone: int, lru: int, pages: int) -> None:
    """Change the zone's count of pages on a list."""
    core.zones[zone * ZONE_WORDS + Z_INACTIVE_FILE + lru - LRU_INACTIVE] += pages


@inner
def lru_add(core: Core, slots: Words, slot: int, lru: int, tail: bool) -> None:
    """Put a page that is on no list onto one of its node's; its other flags stay."""
    zone = zone_of(core, slots[slot * SLOT_WORDS + S_PFN])
    head = lru_head(core.zones[zone * ZONE_WORDS + Z_NODE], lru)
    before = slots[head * SLOT_WORDS + S_PREVIOUS] if tail else head
    after = slots[before * SLOT_WORDS + S_NEXT]
    slots[slot * SLOT_WORDS + S_NEXT] = after
    slots[slot * SLOT_WORDS + S_PREVIOUS] = before
    slots[before * SLOT_WORDS + S_NEXT] = slot
    slots[after * SLOT_WORDS + S_PREVIOUS] = slot
    slots[slot * SLOT_WORDS + S_STATE] |= lru
    count_lru(core, zone, lru, 1)


@inner
def lru_delete(core: Core, slots: Words, slot: int) -> None:
    """Take a page off its list; its other flags stay."""
    at = slot * SLOT_WORDS
    lru = slots[at + S_STATE] & LRU_LIST_MASK
    after, before = slots[at + S_NEXT], slots[at + S_PREVIOUS]
    slots[before * SLOT_WORDS + S_NEXT] = after
    slots[after * SLOT_WORDS + S_PREVIOUS] = before
    slots[at + S_STATE] &= ~LRU_LIST_MASK
    count_lru(core, zone_of(core, slots[at + S_PFN]), lru, -1)


@inner
def cache_add(core: Core, slots: Words, slot: int, pfn: int, lru: int) -> None:
    """A page of a file is in memory from now on; on a list, or with LRU_NONE on none."""
    slots[slot * SLOT_WORDS + S_PFN] = pfn
    slots[slot * SLOT_WORDS + S_STATE] = LRU_NONE
    if lru != LRU_NONE:
        lru_add(core, slots, slot, lru, False)


@inner
def cache_remove(core: Core, worker: int, slots: Words, slot: int) -> int:
    """A clean page leaves the cache and is free; 0, or ABORTED and it is still there."""
    at = slot * SLOT_WORDS
    pfn = slots[at + S_PFN]
    answer = release(core, worker, pfn, core.pages[pfn * PAGE_WORDS + PREVIOUS])
    if answer == 0:
        if slots[at + S_STATE] & LRU_LIST_MASK != LRU_NONE:
            lru_delete(core, slots, slot)
        slots[at + S_PFN] = ABSENT
        slots[at + S_STATE] = LRU_NONE
    return answer


@inner
def mark_accessed(core: Core, slots: Words, slot: int) -> None:
    """A page was read or written: the second time makes it active (`folio_mark_accessed`)."""
    at = slot * SLOT_WORDS
    state = slots[at + S_STATE]
    if state & REFERENCED == 0:
        slots[at + S_STATE] = state | REFERENCED
    elif state & LRU_LIST_MASK == LRU_INACTIVE:
        lru_delete(core, slots, slot)
        slots[at + S_STATE] &= ~REFERENCED
        lru_add(core, slots, slot, LRU_ACTIVE, False)
