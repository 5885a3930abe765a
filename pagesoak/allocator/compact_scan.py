"""Compaction's two scanners and what they do with a page: its content moves to the zone's end.

The migrate scanner goes up page block by page block, the free scanner comes down from the zone's
end and takes free blocks off their lists, by the same rule as reporting; so the two drain the
watermarks alike. What the first finds moves into what the second took, and the page that became
free goes through the CPU's pageset; behind each page block that pageset is emptied, so that what
was freed merges.

What moves is a single page that a load holds as a user page. Whoever moves a page must change its
owner's table, and to find the place every table is gone through once per page block: no word per
page is kept for that, and no allocation pays for it. A load whose table somebody else works on
keeps its pages, as pages under a lock do in the kernel.

Models Linux 6.1 and 6.12 `mm/compaction.c`: `isolate_migratepages`, `isolate_freepages`,
`split_map_pages`, `compaction_alloc`, `release_freepages`; `mm/migrate.c`. Not modelled: hints of
page blocks to skip, the fast search of free lists, huge pages and pages of files (they stay), and
that 32 pages are collected before they move.
"""

from pagesoak.allocator.buddy import block_state, pageblock_type, set_block
from pagesoak.allocator.isolation import isolate_from_list
from pagesoak.allocator.page_free import free_pages
from pagesoak.allocator.stamp import stamp_page, verify_page
from pagesoak.base.clock import spend
from pagesoak.base.external import compare_exchange, store_release
from pagesoak.base.layout import (
    H_LOADS,
    H_TOUCH,
    KIND_ALLOCATED,
    KIND_FREE,
    KIND_MASK,
    L_CAPACITY,
    L_CPU,
    L_CURSOR,
    L_EVENT_COUNT,
    L_HELD,
    L_OWNER,
    L_TABLE,
    LOAD_WORDS,
    MOVABLE,
    NEXT,
    ON_LRU,
    ORDER_MASK,
    OWNER_MASK,
    OWNER_SHIFT,
    PAGE_WORDS,
    PAGEBLOCK_ORDER,
    PAGEBLOCK_PAGES,
    PREVIOUS,
    SEQUENCE,
    STAMPED,
    STATE,
    TYPE_SHIFT,
    Z_ALLOCATED_DIRECT,
    Z_END_PFN,
    Z_START_PFN,
    ZONE_WORDS,
    Core,
)
from pagesoak.base.layout_kernel import (
    OWNER_COMPACTION,
    Z_COMPACT_FREE,
    Z_COMPACT_TARGET,
)
from pagesoak.base.layout_reclaim import L_BUSY
from pagesoak.base.layout_virtual import C_LIST_STEP, C_PAGE_TOUCH
from pagesoak.base.lock import HELD, lock_zone, unlock_zone
from pagesoak.base.native import inner

CLUSTER_PAGES = 32
"""Free pages taken at a time (COMPACT_CLUSTER_MAX)."""
NO_TARGET = -1

BUSY = 0
CLAIMED = 1
OURS = 2


@inner
def claim_table(core: Core, cpu: int, at: int, background: bool) -> int:
    """Take a load's table for a moment: CLAIMED, OURS if the request comes from it, or BUSY.

    Between the bursts of an unmapping its table stays taken: that is no request. A replay's table
    is changed by its own CPU alone, and by nobody else.
    """
    if core.loads[at + L_EVENT_COUNT] > 0:
        return OURS if core.loads[at + L_CPU] == cpu else BUSY
    if not background and core.loads[at + L_BUSY] == cpu + 1:
        return OURS
    return CLAIMED if compare_exchange(core.loads, at + L_BUSY, 0, cpu + 1) == 0 else BUSY


@inner
def single_user_page(core: Core, pfn: int, owner: int) -> bool:
    """Whether a page is in use by itself, as a user page of this owner."""
    state = block_state(core.pages, pfn)
    return (
        state & (KIND_MASK | ORDER_MASK | ON_LRU) == KIND_ALLOCATED | ON_LRU
        and core.pages[pfn * PAGE_WORDS + PREVIOUS] == owner
    )


@inner
def worth_looking_at(core: Core, first: int, end: int) -> bool:
    """Whether among these pages is one that might move: not all free or the kernel's."""
    pfn = first
    while pfn < end:
        state = block_state(core.pages, pfn)
        if state & (KIND_MASK | ORDER_MASK | ON_LRU) == KIND_ALLOCATED | ON_LRU:
            return True
        pfn += 1 << (state & ORDER_MASK)
    return False


@inner
def suitable_target(core: Core, start: int) -> bool:
    """Whether the free scanner takes pages of this page block: a movable one that is not free as a
    whole (`suitable_migration_target`).
    """
    state = block_state(core.pages, start)
    if state & KIND_MASK == KIND_FREE and state & ORDER_MASK >= PAGEBLOCK_ORDER:
        return False
    return pageblock_type(core, start) == MOVABLE


@inner
def take_free_block(core: Core, zone: int, pfn: int, order: int) -> bool:
    """Take a free block and make single pages of it, the last of them the next to be used; False
    when that would leave too little.
    """
    z = zone * ZONE_WORDS
    if not isolate_from_list(core, zone, pfn, order):
        return False
    for page in range(pfn, pfn + (1 << order)):
        set_block(core.pages, page, KIND_ALLOCATED | (MOVABLE << TYPE_SHIFT))
        core.pages[page * PAGE_WORDS + PREVIOUS] = OWNER_COMPACTION
        core.pages[page * PAGE_WORDS + NEXT] = core.zones[z + Z_COMPACT_TARGET]
        core.zones[z + Z_COMPACT_TARGET] = page + 1
    core.zones[z + Z_ALLOCATED_DIRECT] += 1 << order
    return True


@inner
def take_free_pages(core: Core, cpu: int, zone: int, start: int) -> int:
    """Take free blocks of a page block, ascending, until there are enough; how many pages."""
    if lock_zone(core, zone, cpu) != HELD:
        return 0
    end = min(start + PAGEBLOCK_PAGES, core.zones[zone * ZONE_WORDS + Z_END_PFN])
    taken = 0
    pfn = max(start, core.zones[zone * ZONE_WORDS + Z_START_PFN])
    while pfn < end and taken < CLUSTER_PAGES:
        state = block_state(core.pages, pfn)
        order = state & ORDER_MASK
        if state & KIND_MASK == KIND_FREE:
            if not take_free_block(core, zone, pfn, order):
                break
            taken += 1 << order
        pfn += 1 << order
    unlock_zone(core, zone, cpu)
    return taken


@inner
def next_target(core: Core, cpu: int, zone: int, migrate_end: int) -> int:
    """A free page above the migrate scanner, taken; NO_TARGET when the scanners have met."""
    z = zone * ZONE_WORDS
    while core.zones[z + Z_COMPACT_TARGET] == 0:
        start = core.zones[z + Z_COMPACT_FREE]
        if start < migrate_end:
            return NO_TARGET
        spend(core, cpu, C_LIST_STEP, 1)
        if not suitable_target(core, start) or take_free_pages(core, cpu, zone, start) == 0:
            core.zones[z + Z_COMPACT_FREE] = start - PAGEBLOCK_PAGES
    target = core.zones[z + Z_COMPACT_TARGET] - 1
    core.zones[z + Z_COMPACT_TARGET] = core.pages[target * PAGE_WORDS + NEXT]
    return target


@inner
def move_page(core: Core, cpu: int, source: int, target: int) -> None:
    """Copy a page and what is known of it to a page that was taken; the old one is free then.

    Both must hold what they did; the copy carries a stamp of its own place, with the owner and
    sequence of the page's last write.
    """
    pages = core.pages
    if core.header[H_TOUCH] != 0 and pages[source * PAGE_WORDS + STATE] & STAMPED:
        verify_page(core, cpu, source)
        verify_page(core, cpu, target)
        owner = (pages[source * PAGE_WORDS + STATE] & OWNER_MASK) >> OWNER_SHIFT
        stamp_page(core, cpu, target, owner, pages[source * PAGE_WORDS + SEQUENCE])
    set_block(pages, target, block_state(pages, source))
    pages[target * PAGE_WORDS + NEXT] = pages[source * PAGE_WORDS + NEXT]
    pages[target * PAGE_WORDS + PREVIOUS] = pages[source * PAGE_WORDS + PREVIOUS]
    spend(core, cpu, C_PAGE_TOUCH, 1)
    free_pages(core, cpu, source, 0)


@inner
def migrate_table(core: Core, cpu: int, zone: int, first: int, end: int, load: int) -> int:
    """Move a load's pages out of a page block, or the zone's part of it; how many."""
    at = load * LOAD_WORDS
    owner = core.loads[at + L_OWNER]
    table = core.loads[at + L_TABLE]
    begin = core.loads[at + L_CURSOR]
    stop = core.loads[at + L_HELD]
    if core.loads[at + L_EVENT_COUNT] > 0:
        begin = 0
        stop = core.loads[at + L_CAPACITY]
    moved = 0
    for place in range(table + begin, table + stop):
        pfn = core.tables[place]
        if first <= pfn < end and single_user_page(core, pfn, owner):
            target = next_target(core, cpu, zone, end)
            if target == NO_TARGET:
                break
            move_page(core, cpu, pfn, target)
            core.tables[place] = target
            moved += 1
    return moved


@inner
def migrate_pageblock(core: Core, cpu: int, zone: int, start: int, background: bool) -> int:
    """Move what can be moved out of a page block; how many pages."""
    first = max(start, core.zones[zone * ZONE_WORDS + Z_START_PFN])
    end = min(start + PAGEBLOCK_PAGES, core.zones[zone * ZONE_WORDS + Z_END_PFN])
    moved = 0
    if not worth_looking_at(core, first, end):
        return moved
    for load in range(core.header[H_LOADS]):
        at = load * LOAD_WORDS
        claim = claim_table(core, cpu, at, background)
        if claim != BUSY:
            moved += migrate_table(core, cpu, zone, first, end, load)
        if claim == CLAIMED:
            store_release(core.loads, at + L_BUSY, 0)
    return moved


@inner
def release_targets(core: Core, cpu: int, zone: int) -> None:
    """Give back the free pages that were not used; the free scanner begins at them next time."""
    z = zone * ZONE_WORDS
    while core.zones[z + Z_COMPACT_TARGET] != 0:
        pfn = core.zones[z + Z_COMPACT_TARGET] - 1
        core.zones[z + Z_COMPACT_TARGET] = core.pages[pfn * PAGE_WORDS + NEXT]
        place = pfn & ~(PAGEBLOCK_PAGES - 1)
        core.zones[z + Z_COMPACT_FREE] = max(core.zones[z + Z_COMPACT_FREE], place)
        free_pages(core, cpu, pfn, 0)
