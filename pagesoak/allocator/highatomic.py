"""The HIGHATOMIC reserve: page blocks kept for requests above order 0 that cannot wait.

Such a request, when it was served only in the slow path, reserves the page block it got its pages
from, up to about 1 % of the zone. What is free there moves to the HIGHATOMIC lists, from which
nobody else falls back, and which the watermark test does not count for those without rights to
them. Direct reclaim that did not help gives one page block back and keeps the last; before an OOM
kill all of them go.

Models Linux 6.1 and 6.12 `mm/page_alloc.c`: `rmqueue_buddy`, `reserve_highatomic_pageblock`,
`unreserve_highatomic_pageblock`; what differs is RESERVE_IN_WHOLE_PAGEBLOCKS of `profile`.
Invariant, audited: `Z_RESERVED_HIGHATOMIC` is the pages of the zone's page blocks of that type.
"""

from pagesoak.allocator.buddy import (
    NO_PAGE,
    free_list,
    move_to_free_list,
    pageblock_type,
    rmqueue_smallest,
)
from pagesoak.allocator.fallback import rmqueue_lists
from pagesoak.allocator.pageblock import move_freepages, pageblock_start, set_pageblock_types
from pagesoak.allocator.profile import (
    ATOMIC_FALLS_BACK_ON_RESERVE,
    RESERVE_IN_WHOLE_PAGEBLOCKS,
    TYPED_FREE_LISTS,
    kernel_has,
)
from pagesoak.allocator.watermark import ALLOC_HIGHATOMIC, ALLOC_NON_BLOCK, ALLOC_OOM
from pagesoak.allocator.zonelist import zone_allowed, zonelist_zone
from pagesoak.base import recorder
from pagesoak.base.layout import (
    H_ZONES,
    HIGHATOMIC,
    MAX_ORDER,
    NEXT,
    PAGE_WORDS,
    PAGEBLOCK_ORDER,
    PAGEBLOCK_PAGES,
    PCPTYPES,
    Z_MANAGED,
    Z_RESERVED_HIGHATOMIC,
    ZONE_WORDS,
    Core,
)
from pagesoak.base.layout_kernel import Z_RESERVE_RELEASED
from pagesoak.base.lock import HELD, lock_zone, unlock_zone
from pagesoak.base.native import inner
from pagesoak.base.recorder import record

HUNDREDTH = 100
"""The reserve is about one per cent of a zone."""


@inner
def rmqueue_with_reserve(
    core: Core, worker: int, zone: int, order: int, migratetype: int, alloc_flags: int
) -> int:
    """A block for a request that passes no pageset, from the reserve too where it has the rights;
    NO_PAGE when the zone has none (`rmqueue_buddy`). Under the zone lock.

    An atomic request above order 0 looks into the reserve first. An OOM victim, and one that
    cannot wait, look there last: failing now is worse than failing a large one later.
    """
    pfn = NO_PAGE
    if alloc_flags & ALLOC_HIGHATOMIC:
        pfn = rmqueue_smallest(core, zone, order, HIGHATOMIC)
    if pfn != NO_PAGE:
        return pfn
    pfn = rmqueue_lists(core, worker, zone, order, migratetype, alloc_flags)
    rights = ALLOC_OOM
    if kernel_has(core, ATOMIC_FALLS_BACK_ON_RESERVE):
        rights |= ALLOC_NON_BLOCK
    if pfn == NO_PAGE and alloc_flags & rights:
        return rmqueue_smallest(core, zone, order, HIGHATOMIC)
    return pfn


@inner
def reserve_limit_pages(core: Core, zone: int) -> int:
    """No more page blocks are reserved from this many pages on; 0: none ever."""
    hundredth = core.zones[zone * ZONE_WORDS + Z_MANAGED] // HUNDREDTH
    if not kernel_has(core, RESERVE_IN_WHOLE_PAGEBLOCKS):
        return hundredth + PAGEBLOCK_PAGES
    if hundredth < PAGEBLOCK_PAGES:
        return 0
    return (hundredth + PAGEBLOCK_PAGES - 1) & ~(PAGEBLOCK_PAGES - 1)


@inner
def reserve_highatomic(core: Core, worker: int, zone: int, pfn: int, order: int) -> None:
    """Reserve the page block of a block that an atomic request above order 0 was just given."""
    z = zone * ZONE_WORDS
    limit = reserve_limit_pages(core, zone)
    if core.zones[z + Z_RESERVED_HIGHATOMIC] >= limit or lock_zone(core, zone, worker) != HELD:
        return
    if core.zones[z + Z_RESERVED_HIGHATOMIC] < limit and pageblock_type(core, pfn) < PCPTYPES:
        pages = reserve_pageblocks(core, zone, pfn, order)
        core.zones[z + Z_RESERVED_HIGHATOMIC] += pages
        if pages > 0:
            reserved = core.zones[z + Z_RESERVED_HIGHATOMIC]
            record(core, worker, recorder.HIGHATOMIC_RESERVED, pfn, order, reserved, 0, 0)
    unlock_zone(core, zone, worker)


@inner
def reserve_pageblocks(core: Core, zone: int, pfn: int, order: int) -> int:
    """Make a block's page blocks HIGHATOMIC, with what is free in them; how many pages that is."""
    if kernel_has(core, RESERVE_IN_WHOLE_PAGEBLOCKS) and order >= PAGEBLOCK_ORDER:
        set_pageblock_types(core, pfn, order, HIGHATOMIC)
        return 1 << order
    start = pageblock_start(core, zone, pfn)
    if start < 0 and kernel_has(core, TYPED_FREE_LISTS):
        return 0
    core.blocks[pfn >> PAGEBLOCK_ORDER] = HIGHATOMIC
    if start >= 0:
        move_freepages(core, zone, start, HIGHATOMIC)
    return PAGEBLOCK_PAGES


@inner
def unreserve_block(core: Core, zone: int, pfn: int, order: int, migratetype: int) -> bool:
    """Give the page block of a free HIGHATOMIC block, and what is free in it, to a type; whether
    anything moved.
    """
    z = zone * ZONE_WORDS
    whole = kernel_has(core, RESERVE_IN_WHOLE_PAGEBLOCKS)
    if order >= PAGEBLOCK_ORDER:
        core.zones[z + Z_RESERVE_RELEASED] += 1
    if pageblock_type(core, pfn) == HIGHATOMIC:
        pages = max(PAGEBLOCK_PAGES, 1 << order) if whole else PAGEBLOCK_PAGES
        core.zones[z + Z_RESERVED_HIGHATOMIC] -= min(pages, core.zones[z + Z_RESERVED_HIGHATOMIC])
    if whole and order >= PAGEBLOCK_ORDER:
        move_to_free_list(core, zone, pfn, order, migratetype)
        set_pageblock_types(core, pfn, order, migratetype)
        return True
    core.blocks[pfn >> PAGEBLOCK_ORDER] = migratetype
    start = pageblock_start(core, zone, pfn)
    return start >= 0 and move_freepages(core, zone, start, migratetype) > 0


@inner
def unreserve_zone(core: Core, worker: int, zone: int, migratetype: int, force: bool) -> bool:
    """Give one reserved page block of a zone back, the one with the smallest free block; whether
    there was one.
    """
    if not force and core.zones[zone * ZONE_WORDS + Z_RESERVED_HIGHATOMIC] <= PAGEBLOCK_PAGES:
        return False
    if lock_zone(core, zone, worker) != HELD:
        return False
    for order in range(MAX_ORDER):
        head = free_list(core, zone, order, HIGHATOMIC)
        pfn = core.pages[head * PAGE_WORDS + NEXT]
        if pfn != head and unreserve_block(core, zone, pfn, order, migratetype):
            reserved = core.zones[zone * ZONE_WORDS + Z_RESERVED_HIGHATOMIC]
            record(core, worker, recorder.HIGHATOMIC_RELEASED, pfn, order, reserved, force, 0)
            unlock_zone(core, zone, worker)
            return True
    unlock_zone(core, zone, worker)
    return False


@inner
def unreserve_highatomic(core: Core, cpu: int, migratetype: int, gfp: int, force: bool) -> bool:
    """Give one page block of the reserve back to a request's type, from the first of its zones
    that has one with a free page; whether there was one.

    Without `force` every zone keeps its last one (direct reclaim freed pages, but not enough);
    with it, none is kept (the next step is an OOM kill).
    """
    for position in range(core.header[H_ZONES]):
        zone = zonelist_zone(core, cpu, position)
        if zone_allowed(core, cpu, zone, gfp) and unreserve_zone(
            core, cpu, zone, migratetype, force
        ):
            return True
    return False
