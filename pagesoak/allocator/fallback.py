"""Taking from another type's lists: which block, how much of its page block comes along, and the
boost.

Models Linux 6.1 `mm/page_alloc.c`: `__rmqueue`, `__rmqueue_fallback`, `find_suitable_fallback`,
`can_steal_fallback`, `steal_suitable_fallback`, `move_freepages_block`, `boost_watermark`. All
under the zone lock. HIGHATOMIC is never a fallback. ALLOC_NOFRAGMENT is used only where the
preferred zone is Normal; it is not modelled.
"""

from pagesoak.allocator.buddy import (
    NO_PAGE,
    block_state,
    free_list,
    move_to_free_list,
    pageblock_type,
    rmqueue_smallest,
)
from pagesoak.allocator.watermark import ALLOC_KSWAPD
from pagesoak.base import recorder
from pagesoak.base.layout import (
    HIGHATOMIC,
    KIND_ALLOCATED,
    KIND_FREE,
    KIND_MASK,
    MAX_ORDER,
    MOVABLE,
    NEXT,
    ON_LRU,
    ORDER_MASK,
    PAGE_WORDS,
    PAGEBLOCK_ORDER,
    PAGEBLOCK_PAGES,
    RECLAIMABLE,
    UNMOVABLE,
    Z_BOOST,
    Z_BOOST_FACTOR,
    Z_BOOSTED,
    Z_END_PFN,
    Z_MANAGED,
    Z_START_PFN,
    Z_WMARK_HIGH,
    ZONE_WORDS,
    Core,
)
from pagesoak.base.native import hot, inner
from pagesoak.base.recorder import record
from pagesoak.base.statistics import STEALS, count

STEAL_ORDER = PAGEBLOCK_ORDER // 2
"""From this order on any request may claim the whole page block."""
BOOST_PAGEBLOCKS_MIN = 4
"""A zone of fewer page blocks is never boosted: it would be all boost."""
BOOST_FACTOR_UNIT = 10_000


@inner
def fallback_type(migratetype: int, choice: int) -> int:
    """The first or second type to fall back on."""
    if migratetype == UNMOVABLE:
        return RECLAIMABLE if choice == 0 else MOVABLE
    if migratetype == MOVABLE:
        return RECLAIMABLE if choice == 0 else UNMOVABLE
    return UNMOVABLE if choice == 0 else MOVABLE


@inner
def find_fallback(core: Core, zone: int, order: int, migratetype: int) -> int:
    """The type whose list of exactly this order would be taken from, or NO_PAGE."""
    for choice in range(2):
        other = fallback_type(migratetype, choice)
        head = free_list(core, zone, order, other)
        if core.pages[head * PAGE_WORDS + NEXT] != head:
            return other
    return NO_PAGE


@inner
def can_steal(order: int, migratetype: int) -> bool:
    """Whether the request may claim the whole page block of a block of this order."""
    return order >= STEAL_ORDER or migratetype != MOVABLE


@inner
def boost_max_pages(high: int, factor: int) -> int:
    """Most a zone's watermarks are raised: `factor` ten-thousandths of high, at least one page
    block; 0 where that fraction is 0, and boosting off.
    """
    scaled = (
        high // BOOST_FACTOR_UNIT * factor + high % BOOST_FACTOR_UNIT * factor // BOOST_FACTOR_UNIT
    )
    return max(scaled, PAGEBLOCK_PAGES) if scaled > 0 else 0


@inner
def boost_watermark(core: Core, zone: int) -> bool:
    """Raise the zone's watermarks by one page block up to the cap; False where boosting is off."""
    z = zone * ZONE_WORDS
    cap = boost_max_pages(core.zones[z + Z_WMARK_HIGH], core.zones[z + Z_BOOST_FACTOR])
    if cap == 0 or core.zones[z + Z_MANAGED] < BOOST_PAGEBLOCKS_MIN * PAGEBLOCK_PAGES:
        return False
    core.zones[z + Z_BOOST] = min(core.zones[z + Z_BOOST] + PAGEBLOCK_PAGES, cap)
    return True


@inner
def move_freepages_block(core: Core, zone: int, pfn: int, migratetype: int) -> tuple[int, int]:
    """Move every free block of a page block to a type's lists (tail); (free pages moved, movable
    pages in use).
    """
    z = zone * ZONE_WORDS
    start = pfn & ~(PAGEBLOCK_PAGES - 1)
    end = start + PAGEBLOCK_PAGES
    if start < core.zones[z + Z_START_PFN]:
        start = pfn
    if end > core.zones[z + Z_END_PFN]:
        return 0, 0
    moved = 0
    movable = 0
    page = start
    while page < end:
        state = block_state(core.pages, page)
        kind = state & KIND_MASK
        pages = 1 << (state & ORDER_MASK)
        if kind == KIND_FREE:
            move_to_free_list(core, zone, page, state & ORDER_MASK, migratetype)
            moved += pages
        elif kind == KIND_ALLOCATED and state & ON_LRU:
            movable += pages
        page += pages
    return moved, movable


@inner
def steal_suitable_fallback(
    core: Core,
    worker: int,
    zone: int,
    pfn: int,
    order: int,
    alloc_flags: int,
    start_type: int,
    whole: bool,
) -> None:
    """Bring a block of another type, or all that is free in its page block, over to the request's
    lists.
    """
    old_type = pageblock_type(core, pfn)
    count(core, worker, STEALS, 1)
    record(core, worker, recorder.STEAL, pfn, order, old_type, start_type, int(whole))
    if old_type == HIGHATOMIC:
        move_to_free_list(core, zone, pfn, order, start_type)
        return
    if order >= PAGEBLOCK_ORDER:
        for block in range(1 << (order - PAGEBLOCK_ORDER)):
            core.blocks[(pfn >> PAGEBLOCK_ORDER) + block] = start_type
        move_to_free_list(core, zone, pfn, order, start_type)
        return
    if boost_watermark(core, zone) and alloc_flags & ALLOC_KSWAPD:
        core.zones[zone * ZONE_WORDS + Z_BOOSTED] = 1
    if not whole:
        move_to_free_list(core, zone, pfn, order, start_type)
        return
    free, movable = move_freepages_block(core, zone, pfn, start_type)
    if free == 0:
        move_to_free_list(core, zone, pfn, order, start_type)
        return
    alike = 0
    if start_type == MOVABLE:
        alike = movable
    elif old_type == MOVABLE:
        alike = PAGEBLOCK_PAGES - free - movable
    if free + alike >= PAGEBLOCK_PAGES // 2:
        core.blocks[pfn >> PAGEBLOCK_ORDER] = start_type


@inner
def rmqueue_fallback(
    core: Core, worker: int, zone: int, order: int, migratetype: int, alloc_flags: int
) -> bool:
    """Bring memory of another type over; True when the request's own lists have some now.

    The largest block is looked for first, so that as few page blocks as possible get mixed; a
    movable request that cannot claim the page block anyway takes the smallest instead.
    """
    for distance in range(MAX_ORDER - order):
        current = MAX_ORDER - 1 - distance
        other = find_fallback(core, zone, current, migratetype)
        if other == NO_PAGE:
            continue
        if not can_steal(current, migratetype) and migratetype == MOVABLE and current > order:
            for smaller in range(order, MAX_ORDER):
                other = find_fallback(core, zone, smaller, migratetype)
                if other != NO_PAGE:
                    current = smaller
                    break
        head = free_list(core, zone, current, other)
        pfn = core.pages[head * PAGE_WORDS + NEXT]
        steal_suitable_fallback(
            core,
            worker,
            zone,
            pfn,
            current,
            alloc_flags,
            migratetype,
            can_steal(current, migratetype),
        )
        return True
    return False


@hot
def rmqueue_lists(
    core: Core, worker: int, zone: int, order: int, migratetype: int, alloc_flags: int
) -> int:
    """A block from the type's own lists, or after bringing some over; NO_PAGE when the zone has
    none (`__rmqueue`).
    """
    while True:
        pfn = rmqueue_smallest(core, zone, order, migratetype)
        if pfn != NO_PAGE:
            return pfn
        if not rmqueue_fallback(core, worker, zone, order, migratetype, alloc_flags):
            return NO_PAGE
