"""Taking from another type's lists as 6.12 does it: claim a whole page block, else take the
smallest block there is and leave its rest where it was.

A free block is on the lists of its page block's type, and stays there. So a claim changes the page
block's type with all that is free in it, or does not happen; and a block that is merely taken
leaves the halves it is split from with the type it came from.

A bulk refill remembers that nothing could be claimed, and does not try again for its other blocks:
`stolen` tells which way a block came, without a word of its own.

Models Linux 6.12.29+ `mm/page_alloc.c`: `__rmqueue_claim`, `try_to_steal_block`,
`__rmqueue_steal`, `rmqueue_bulk`. All under the zone lock.
"""

from pagesoak.allocator.buddy import (
    NO_PAGE,
    free_list,
    pageblock_type,
    rmqueue_smallest,
    take_and_split,
)
from pagesoak.allocator.fallback_choice import (
    boost_and_wake,
    can_steal,
    fallback_order_min,
    find_fallback,
)
from pagesoak.allocator.pageblock import (
    move_freepages,
    pageblock_contents,
    pageblock_start,
    set_pageblock_types,
)
from pagesoak.allocator.profile import TYPED_FREE_LISTS, kernel_has
from pagesoak.allocator.watermark import ALLOC_NOFRAGMENT
from pagesoak.base import recorder
from pagesoak.base.layout import (
    HIGHATOMIC,
    MAX_ORDER,
    MOVABLE,
    NEXT,
    PAGE_WORDS,
    PAGEBLOCK_ORDER,
    PAGEBLOCK_PAGES,
    Core,
)
from pagesoak.base.native import inner
from pagesoak.base.recorder import record
from pagesoak.base.statistics import STEALS, count


@inner
def first_of(core: Core, zone: int, order: int, migratetype: int) -> int:
    """The first block of a list that is not empty."""
    return core.pages[free_list(core, zone, order, migratetype) * PAGE_WORDS + NEXT]


@inner
def claim_block(
    core: Core, zone: int, pfn: int, current: int, order: int, start_type: int, alloc_flags: int
) -> int:
    """Turn the page block of a free block over to the request's type and take a block from it;
    NO_PAGE where less than half of it is free or alike.

    The watermarks are boosted for the attempt, whether it succeeds or not.
    """
    old_type = pageblock_type(core, pfn)
    if old_type == HIGHATOMIC:
        return NO_PAGE
    if current >= PAGEBLOCK_ORDER:
        set_pageblock_types(core, pfn, current, start_type)
        take_and_split(core, zone, pfn, current, order, start_type)
        return pfn
    boost_and_wake(core, zone, alloc_flags)
    start = pageblock_start(core, zone, pfn)
    if start < 0:
        return NO_PAGE
    free, movable = pageblock_contents(core, start)
    alike = 0
    if start_type == MOVABLE:
        alike = movable
    elif old_type == MOVABLE:
        alike = PAGEBLOCK_PAGES - free - movable
    if free + alike < PAGEBLOCK_PAGES // 2:
        return NO_PAGE
    move_freepages(core, zone, start, start_type)
    core.blocks[start >> PAGEBLOCK_ORDER] = start_type
    return rmqueue_smallest(core, zone, order, start_type)


@inner
def rmqueue_claim(
    core: Core, worker: int, zone: int, order: int, migratetype: int, alloc_flags: int
) -> int:
    """A block from a page block claimed for the type, the largest looked at first; NO_PAGE when
    none can be claimed.
    """
    for distance in range(MAX_ORDER - fallback_order_min(order, alloc_flags)):
        current = MAX_ORDER - 1 - distance
        other = find_fallback(core, zone, current, migratetype)
        if other == NO_PAGE:
            continue
        if not can_steal(current, migratetype):
            break
        pfn = first_of(core, zone, current, other)
        pfn = claim_block(core, zone, pfn, current, order, migratetype, alloc_flags)
        if pfn != NO_PAGE:
            count(core, worker, STEALS, 1)
            record(core, worker, recorder.STEAL, pfn, current, other, migratetype, 1)
            return pfn
    return NO_PAGE


@inner
def rmqueue_steal(core: Core, worker: int, zone: int, order: int, migratetype: int) -> int:
    """The smallest block of another type, its rest left on that type's lists; else NO_PAGE."""
    for current in range(order, MAX_ORDER):
        other = find_fallback(core, zone, current, migratetype)
        if other != NO_PAGE:
            pfn = first_of(core, zone, current, other)
            take_and_split(core, zone, pfn, current, order, other)
            count(core, worker, STEALS, 1)
            record(core, worker, recorder.STEAL, pfn, current, other, migratetype, 0)
            return pfn
    return NO_PAGE


@inner
def rmqueue_typed(
    core: Core, worker: int, zone: int, order: int, migratetype: int, alloc_flags: int
) -> int:
    """A block when the type's own lists have none; NO_PAGE when the zone has none."""
    pfn = rmqueue_claim(core, worker, zone, order, migratetype, alloc_flags)
    if pfn == NO_PAGE and alloc_flags & ALLOC_NOFRAGMENT == 0:
        return rmqueue_steal(core, worker, zone, order, migratetype)
    return pfn


@inner
def stolen(core: Core, pfn: int, migratetype: int) -> bool:
    """Whether a block that was just taken came from another type's page block, unclaimed."""
    return kernel_has(core, TYPED_FREE_LISTS) and pageblock_type(core, pfn) != migratetype
