"""Page blocks as wholes: changing their type, moving what is free in them, what else they hold.

Models Linux 6.1 and 6.12 `mm/page_alloc.c`: `move_freepages_block`, `prep_move_freepages_block`,
`change_pageblock_range`. Under the zone lock.
"""

from pagesoak.allocator.buddy import block_state, move_to_free_list
from pagesoak.allocator.profile import TYPED_FREE_LISTS, kernel_has
from pagesoak.base.layout import (
    KIND_ALLOCATED,
    KIND_FREE,
    KIND_MASK,
    ON_LRU,
    ORDER_MASK,
    PAGEBLOCK_ORDER,
    PAGEBLOCK_PAGES,
    Z_END_PFN,
    Z_START_PFN,
    ZONE_WORDS,
    Core,
)
from pagesoak.base.native import inner


@inner
def pageblock_start(core: Core, zone: int, pfn: int) -> int:
    """Where to begin with the page block of `pfn`; -1 when it may not be dealt with as a whole
    because it reaches out of the zone. 6.1 begins at `pfn` where only the start lies outside.
    """
    z = zone * ZONE_WORDS
    start = pfn & ~(PAGEBLOCK_PAGES - 1)
    if start + PAGEBLOCK_PAGES > core.zones[z + Z_END_PFN]:
        return -1
    if start < core.zones[z + Z_START_PFN]:
        return -1 if kernel_has(core, TYPED_FREE_LISTS) else pfn
    return start


@inner
def pageblock_contents(core: Core, start: int) -> tuple[int, int]:
    """Free pages from `start` to the end of its page block, and movable pages in use."""
    end = (start & ~(PAGEBLOCK_PAGES - 1)) + PAGEBLOCK_PAGES
    free = 0
    movable = 0
    page = start
    while page < end:
        state = block_state(core.pages, page)
        kind = state & KIND_MASK
        pages = 1 << (state & ORDER_MASK)
        if kind == KIND_FREE:
            free += pages
        elif kind == KIND_ALLOCATED and state & ON_LRU:
            movable += pages
        page += pages
    return free, movable


@inner
def move_freepages(core: Core, zone: int, start: int, migratetype: int) -> int:
    """Move every free block from `start` to the end of its page block to a type's lists (tail);
    how many pages.
    """
    end = (start & ~(PAGEBLOCK_PAGES - 1)) + PAGEBLOCK_PAGES
    moved = 0
    page = start
    while page < end:
        state = block_state(core.pages, page)
        pages = 1 << (state & ORDER_MASK)
        if state & KIND_MASK == KIND_FREE:
            move_to_free_list(core, zone, page, state & ORDER_MASK, migratetype)
            moved += pages
        page += pages
    return moved


@inner
def set_pageblock_types(core: Core, pfn: int, order: int, migratetype: int) -> None:
    """Give every page block of a block of at least that size a type."""
    for block in range(1 << (order - PAGEBLOCK_ORDER)):
        core.blocks[(pfn >> PAGEBLOCK_ORDER) + block] = migratetype
