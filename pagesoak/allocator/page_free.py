"""Giving pages back: to the CPU's pageset, or straight to the buddy lists.

Models Linux 6.1 `mm/page_alloc.c`: `free_unref_page`, `__free_pages_ok`. The type a block is freed
with is that of its page block now, not the one it was asked for with. Types that pagesets do not
know (HIGHATOMIC) go in among the movable ones; ISOLATE goes past them, and so does everything
while somebody else has the pageset.
"""

from pagesoak.allocator.buddy import block_state, free_one_page, pageblock_type, set_block
from pagesoak.allocator.page_alloc import ABORTED
from pagesoak.allocator.pageset import pageset_allows, pageset_free
from pagesoak.allocator.pageset_lock import enter_pageset, leave_pageset, pageset_at
from pagesoak.allocator.stamp import FREED_NOT_TAKEN, breach, verify_block
from pagesoak.base.clock import spend
from pagesoak.base.layout import (
    ISOLATE,
    KIND_ALLOCATED,
    KIND_MASK,
    ORDER_MASK,
    PAGE_WORDS,
    PREVIOUS,
    Z_ALLOCATED_DIRECT,
    Z_END_PFN,
    Z_START_PFN,
    ZONE_WORDS,
    Core,
)
from pagesoak.base.layout_virtual import C_LOCK_BLOCK
from pagesoak.base.lock import HELD, lock_zone, unlock_zone
from pagesoak.base.native import hot, inner, leaf
from pagesoak.base.statistics import FREES, count


@leaf
def zone_of(core: Core, pfn: int) -> int:
    """The zone record that spans a page."""
    zone = 0
    while not (
        core.zones[zone * ZONE_WORDS + Z_START_PFN]
        <= pfn
        < core.zones[zone * ZONE_WORDS + Z_END_PFN]
    ):
        zone += 1
    return zone


@inner
def free_to_buddy(core: Core, cpu: int, zone: int, pfn: int, order: int, migratetype: int) -> int:
    """Give a block straight to the buddy lists, under the zone lock; 0, or ABORTED."""
    if lock_zone(core, zone, cpu) != HELD:
        return ABORTED
    set_block(core.pages, pfn, 0)
    core.zones[zone * ZONE_WORDS + Z_ALLOCATED_DIRECT] -= 1 << order
    free_one_page(core, cpu, zone, pfn, order, migratetype, 0)
    spend(core, cpu, C_LOCK_BLOCK, 1)
    unlock_zone(core, zone, cpu)
    count(core, cpu, FREES, 1)
    return 0


@hot
def free_pages(core: Core, cpu: int, pfn: int, order: int) -> int:
    """Give back a block that the caller knows is taken; 0, or ABORTED and it still is."""
    zone = zone_of(core, pfn)
    migratetype = pageblock_type(core, pfn)
    if pageset_allows(core, order) and migratetype != ISOLATE:
        p = pageset_at(core, cpu, zone)
        if enter_pageset(core, p):
            pageset_free(core, p, cpu, zone, pfn, order, migratetype)
            leave_pageset(core, p)
            count(core, cpu, FREES, 1)
            return 0
    return free_to_buddy(core, cpu, zone, pfn, order, migratetype)


@hot
def release(core: Core, cpu: int, pfn: int, owner: int) -> int:
    """Check that the owner has the block and that its pages are as they were left, then give it
    back; 0 or ABORTED.
    """
    state = block_state(core.pages, pfn)
    order = state & ORDER_MASK
    holder = core.pages[pfn * PAGE_WORDS + PREVIOUS]
    if state & KIND_MASK != KIND_ALLOCATED or holder != owner:
        breach(core, cpu, pfn, FREED_NOT_TAKEN, owner, state, holder)
        return 0
    verify_block(core, cpu, pfn, order)
    return free_pages(core, cpu, pfn, order)
