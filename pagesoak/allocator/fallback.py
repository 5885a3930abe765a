"""Taking from another type's lists as 6.1 does it: the block, or all that is free in its page
block, moves to the lists of the request's type.

Models Linux 6.1 `mm/page_alloc.c`: `__rmqueue`, `__rmqueue_fallback`, `steal_suitable_fallback`.
All under the zone lock. Which block: `fallback_choice`; as 6.12 does it: `fallback_typed`.
"""

from pagesoak.allocator.buddy import (
    NO_PAGE,
    free_list,
    move_to_free_list,
    pageblock_type,
    rmqueue_smallest,
)
from pagesoak.allocator.fallback_choice import (
    boost_and_wake,
    can_steal,
    fallback_order_min,
    find_fallback,
)
from pagesoak.allocator.fallback_typed import rmqueue_typed
from pagesoak.allocator.pageblock import (
    move_freepages,
    pageblock_contents,
    pageblock_start,
    set_pageblock_types,
)
from pagesoak.allocator.profile import TYPED_FREE_LISTS, kernel_has
from pagesoak.base import recorder
from pagesoak.base.layout import (
    HIGHATOMIC,
    MAX_ORDER,
    MOVABLE,
    NEXT,
    PAGE_WORDS,
    PAGEBLOCK_ORDER,
    PAGEBLOCK_PAGES,
    ZONE_WORDS,
    Core,
)
from pagesoak.base.layout_kernel import Z_RESERVE_OVERWRITTEN
from pagesoak.base.native import hot, inner
from pagesoak.base.recorder import record
from pagesoak.base.statistics import STEALS, count


@inner
def note_overwritten_reserve(core: Core, zone: int, pfn: int, order: int) -> None:
    """Write down which page blocks of a block that is stolen whole were reserved: they no longer
    are, but `nr_reserved_highatomic` goes on counting them (6.1 `change_pageblock_range`).
    """
    for page in range(pfn, pfn + (1 << order), PAGEBLOCK_PAGES):
        if pageblock_type(core, page) == HIGHATOMIC:
            core.zones[zone * ZONE_WORDS + Z_RESERVE_OVERWRITTEN] += PAGEBLOCK_PAGES


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
        note_overwritten_reserve(core, zone, pfn, order)
        set_pageblock_types(core, pfn, order, start_type)
        move_to_free_list(core, zone, pfn, order, start_type)
        return
    boost_and_wake(core, zone, alloc_flags)
    start = pageblock_start(core, zone, pfn)
    if not whole or start < 0:
        move_to_free_list(core, zone, pfn, order, start_type)
        return
    free, movable = pageblock_contents(core, start)
    move_freepages(core, zone, start, start_type)
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
    for distance in range(MAX_ORDER - fallback_order_min(order, alloc_flags)):
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


@inner
def rmqueue_other_types(
    core: Core, worker: int, zone: int, order: int, migratetype: int, alloc_flags: int
) -> int:
    """A block when the type's own lists have none; NO_PAGE when the zone has none."""
    if kernel_has(core, TYPED_FREE_LISTS):
        return rmqueue_typed(core, worker, zone, order, migratetype, alloc_flags)
    while rmqueue_fallback(core, worker, zone, order, migratetype, alloc_flags):
        pfn = rmqueue_smallest(core, zone, order, migratetype)
        if pfn != NO_PAGE:
            return pfn
    return NO_PAGE


@hot
def rmqueue_lists(
    core: Core, worker: int, zone: int, order: int, migratetype: int, alloc_flags: int
) -> int:
    """A block from the type's own lists, or after bringing some over; NO_PAGE when the zone has
    none (`__rmqueue`).
    """
    pfn = rmqueue_smallest(core, zone, order, migratetype)
    if pfn != NO_PAGE:
        return pfn
    return rmqueue_other_types(core, worker, zone, order, migratetype, alloc_flags)
