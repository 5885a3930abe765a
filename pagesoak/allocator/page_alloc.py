"""Allocation: the fast path, and the slow path up to the OOM killer.

Models Linux 6.1 `mm/page_alloc.c`: `__alloc_pages`, `get_page_from_freelist`, `rmqueue`,
`gfp_to_alloc_flags`, `__alloc_pages_slowpath`, `__alloc_pages_may_oom`. Of the slow path this
version has the attempts and their rights, the retry while the free count changes, the last chance
at the high mark, and who is refused and who kills. There is no page cache and no compaction here,
so direct reclaim finds nothing and says so at once.

The watermark is tested before the pageset is looked at, on NR_FREE_PAGES alone: below the mark,
pages lying in the CPU's own pageset are out of reach too (docs/model.md, PC-2).
"""

from pagesoak.allocator.attribution import EXHAUSTED, cause_of_failure
from pagesoak.allocator.buddy import (
    NO_PAGE,
    count_free_pages,
    note_free_pages,
    set_block,
)
from pagesoak.allocator.fallback import rmqueue_lists
from pagesoak.allocator.gfp import (
    GFP_DIRECT_RECLAIM,
    GFP_HIGH,
    GFP_KSWAPD_RECLAIM,
    GFP_MEMALLOC,
    GFP_MOVABLE,
    GFP_NOMEMALLOC,
    GFP_NORETRY,
    GFP_RETRY_MAYFAIL,
    GFP_THISNODE,
    GFP_ZONE_SHIFT,
    ZONE_NORMAL,
)
from pagesoak.allocator.pageset import pageset_alloc, pageset_allows
from pagesoak.allocator.pageset_lock import enter_pageset, leave_pageset, pageset_at
from pagesoak.allocator.watermark import (
    ALLOC_HIGHATOMIC,
    ALLOC_KSWAPD,
    ALLOC_MIN_RESERVE,
    ALLOC_NO_WATERMARKS,
    ALLOC_NON_BLOCK,
    WMARK_HIGH,
    WMARK_LOW,
    WMARK_MIN,
    zone_watermark_fast,
)
from pagesoak.allocator.zonelist import is_local, zonelist_zone
from pagesoak.base import recorder
from pagesoak.base.layout import (
    H_KSWAPD_WAKE,
    H_STOP,
    H_ZONES,
    KIND_ALLOCATED,
    NEXT,
    ON_LRU,
    PAGE_WORDS,
    PREVIOUS,
    TYPE_SHIFT,
    W_SEQUENCE,
    WORKER_WORDS,
    Z_ALLOCATED_DIRECT,
    Z_DEAD,
    Z_FREE_PAGES,
    Z_INDEX,
    Z_ISOLATED,
    ZONE_WORDS,
    Core,
)
from pagesoak.base.lock import HELD, lock_zone, unlock_zone
from pagesoak.base.native import hot, inner
from pagesoak.base.recorder import record
from pagesoak.base.statistics import (
    ALLOC_REQUESTS,
    FAILURES_ISOLATED,
    FALLBACKS,
    OOM_ISOLATED,
    STALLS,
    count,
)

FAILED = -1
"""The request got nothing: an ordinary failure of one that may fail."""
KILLED = -2
"""The request got nothing and the OOM killer takes its owner."""
ABORTED = -3
"""The run is ending or the zone is dead: nothing was decided."""

COSTLY_ORDER = 3
"""Larger requests never kill (PAGE_ALLOC_COSTLY_ORDER)."""
RECLAIM_RETRIES_MAX = 16
"""Fruitless rounds before the slow path gives up (MAX_RECLAIM_RETRIES)."""
SEQUENCE_MASK = 0x7FFF_FFFF
"""Sequence numbers stay positive 32-bit words; they come round after two thousand million
allocations.
"""

NO_CAUSE = -1


@hot
def take_block(
    core: Core, cpu: int, pfn: int, order: int, migratetype: int, gfp: int, owner: int
) -> None:
    """Write down who has the block: kind, order and type; in its links, sequence and owner."""
    w = cpu * WORKER_WORDS + W_SEQUENCE
    sequence = (core.workers[w] + 1) & SEQUENCE_MASK
    core.workers[w] = sequence
    on_lru = ON_LRU if gfp & GFP_MOVABLE else 0
    set_block(core.pages, pfn, KIND_ALLOCATED | order | (migratetype << TYPE_SHIFT) | on_lru)
    core.pages[pfn * PAGE_WORDS + NEXT] = sequence
    core.pages[pfn * PAGE_WORDS + PREVIOUS] = owner


@hot
def rmqueue(
    core: Core,
    cpu: int,
    zone: int,
    order: int,
    migratetype: int,
    gfp: int,
    alloc_flags: int,
    owner: int,
) -> int:
    """A block of this zone for `owner`, through the pageset or straight from the buddy lists; else
    NO_PAGE.
    """
    p = pageset_at(core, cpu, zone)
    if pageset_allows(core, order) and enter_pageset(core, p):
        pfn = pageset_alloc(core, p, cpu, zone, order, migratetype, alloc_flags)
        if pfn != NO_PAGE:
            take_block(core, cpu, pfn, order, migratetype, gfp, owner)
        leave_pageset(core, p)
        if pfn != NO_PAGE:
            return pfn
    return rmqueue_buddy(core, cpu, zone, order, migratetype, gfp, alloc_flags, owner)


@inner
def rmqueue_buddy(
    core: Core,
    cpu: int,
    zone: int,
    order: int,
    migratetype: int,
    gfp: int,
    alloc_flags: int,
    owner: int,
) -> int:
    """A block straight from the buddy lists, under the zone lock; else NO_PAGE."""
    if lock_zone(core, zone, cpu) != HELD:
        return NO_PAGE
    pfn = rmqueue_lists(core, cpu, zone, order, migratetype, alloc_flags)
    if pfn != NO_PAGE:
        z = zone * ZONE_WORDS
        count_free_pages(core, zone, -(1 << order))
        core.zones[z + Z_ALLOCATED_DIRECT] += 1 << order
        note_free_pages(core, zone)
        take_block(core, cpu, pfn, order, migratetype, gfp, owner)
    unlock_zone(core, zone, cpu)
    return pfn


@hot
def get_page_from_zone(
    core: Core,
    cpu: int,
    zone: int,
    order: int,
    migratetype: int,
    gfp: int,
    alloc_flags: int,
    owner: int,
) -> int:
    """One attempt in one zone, if its index and its mark let the request; else NO_PAGE."""
    highest = gfp >> GFP_ZONE_SHIFT
    if core.zones[zone * ZONE_WORDS + Z_INDEX] > highest:
        return NO_PAGE
    if alloc_flags & ALLOC_NO_WATERMARKS == 0 and not zone_watermark_fast(
        core, zone, order, highest, alloc_flags
    ):
        return NO_PAGE
    return rmqueue(core, cpu, zone, order, migratetype, gfp, alloc_flags, owner)


@inner
def get_page_below(
    core: Core,
    cpu: int,
    position: int,
    order: int,
    migratetype: int,
    gfp: int,
    alloc_flags: int,
    owner: int,
) -> int:
    """One attempt over the CPU's zonelist from `position` on; NO_PAGE if none serves.

    Other nodes' zones stand behind the local ones: the first ends a request that wants no others.
    """
    for place in range(position, core.header[H_ZONES]):
        zone = zonelist_zone(core, cpu, place)
        if gfp & GFP_THISNODE and not is_local(core, cpu, zone):
            break
        pfn = get_page_from_zone(core, cpu, zone, order, migratetype, gfp, alloc_flags, owner)
        if pfn != NO_PAGE:
            return pfn
    return NO_PAGE


@hot
def get_page_from_freelist(
    core: Core, cpu: int, order: int, migratetype: int, gfp: int, alloc_flags: int, owner: int
) -> int:
    """One attempt over the CPU's zonelist; NO_PAGE if no zone of it serves."""
    zone = zonelist_zone(core, cpu, 0)
    pfn = get_page_from_zone(core, cpu, zone, order, migratetype, gfp, alloc_flags, owner)
    if pfn == NO_PAGE:
        return get_page_below(core, cpu, 1, order, migratetype, gfp, alloc_flags, owner)
    return pfn


@inner
def gfp_to_alloc_flags(gfp: int, order: int) -> int:
    """The slow path's rights: the min watermark, and reserves for those that may not wait."""
    flags = WMARK_MIN
    if gfp & GFP_KSWAPD_RECLAIM:
        flags |= ALLOC_KSWAPD
    if gfp & GFP_HIGH:
        flags |= ALLOC_MIN_RESERVE
    if gfp & GFP_DIRECT_RECLAIM == 0 and gfp & GFP_NOMEMALLOC == 0:
        flags |= ALLOC_NON_BLOCK
        if order > 0:
            flags |= ALLOC_HIGHATOMIC
    if gfp & GFP_MEMALLOC:
        flags |= ALLOC_NO_WATERMARKS
    return flags


@inner
def total_pages(core: Core, word: int) -> int:
    """A zone word added up over all zones."""
    total = 0
    for zone in range(core.header[H_ZONES]):
        total += core.zones[zone * ZONE_WORDS + word]
    return total


@inner
def unusable_zones(core: Core) -> bool:
    """The run is ending, or a zone's lock holder has died."""
    return core.header[H_STOP] != 0 or total_pages(core, Z_DEAD) != 0


@inner
def may_oom(gfp: int, order: int) -> bool:
    """Whether this request may call the OOM killer (`__alloc_pages_may_oom`)."""
    if order > COSTLY_ORDER or gfp & (GFP_NORETRY | GFP_RETRY_MAYFAIL | GFP_THISNODE):
        return False
    return gfp & GFP_DIRECT_RECLAIM != 0 and gfp >> GFP_ZONE_SHIFT >= ZONE_NORMAL


@inner
def give_up(core: Core, cpu: int, order: int, gfp: int, cause: int) -> int:
    """Count a request that got nothing under what it is: a fallback, a failure, or a kill; FAILED
    or KILLED.
    """
    free = total_pages(core, Z_FREE_PAGES)
    isolated = total_pages(core, Z_ISOLATED)
    if gfp & GFP_NORETRY:
        count(core, cpu, FALLBACKS, 1)
        return FAILED
    if may_oom(gfp, order):
        count(core, cpu, OOM_ISOLATED + cause, 1)
        record(core, cpu, recorder.OOM, order, gfp, cause, free, isolated)
        return KILLED
    count(core, cpu, FAILURES_ISOLATED + cause, 1)
    record(core, cpu, recorder.ALLOCATION_FAILED, order, gfp, cause, free, isolated)
    return FAILED


@inner
def note_stall(core: Core, cpu: int, order: int, gfp: int) -> None:
    """A request had to wait for reclaim, which finds nothing here."""
    count(core, cpu, STALLS, 1)
    free = total_pages(core, Z_FREE_PAGES)
    isolated = total_pages(core, Z_ISOLATED)
    record(core, cpu, recorder.STALLED, order, gfp, free, isolated, 0)


@inner
def attempt(
    core: Core, cpu: int, order: int, migratetype: int, gfp: int, alloc_flags: int, owner: int
) -> int:
    """One attempt of the slow path: a page, NO_PAGE, or ABORTED where NO_PAGE says nothing."""
    pfn = get_page_below(core, cpu, 0, order, migratetype, gfp, alloc_flags, owner)
    if pfn == NO_PAGE and unusable_zones(core):
        return ABORTED
    return pfn


@inner
def alloc_pages_slowpath(
    core: Core, cpu: int, order: int, migratetype: int, gfp: int, owner: int
) -> int:
    """The attempts after the low watermark has refused; a page, or why there is none.

    Between the attempt and the look at its cause the window may have closed: then the request
    would be served now, and tries again, as the kernel's retries would.
    """
    flags = gfp_to_alloc_flags(gfp, order)
    if gfp & GFP_KSWAPD_RECLAIM:
        core.header[H_KSWAPD_WAKE] = 1
    cause = NO_CAUSE
    for _ in range(RECLAIM_RETRIES_MAX + 1):
        pfn = attempt(core, cpu, order, migratetype, gfp, flags, owner)
        if pfn != NO_PAGE:
            return pfn
        cause = cause_of_failure(core, cpu, order, gfp, flags)
        if cause >= 0:
            break
    if cause < 0:
        cause = EXHAUSTED
    if gfp & GFP_DIRECT_RECLAIM:
        note_stall(core, cpu, order, gfp)
    if may_oom(gfp, order):
        flags = WMARK_HIGH
        pfn = attempt(core, cpu, order, migratetype, gfp, flags, owner)
        if pfn != NO_PAGE:
            return pfn
    return give_up(core, cpu, order, gfp, cause)


@hot
def alloc_pages(core: Core, cpu: int, order: int, migratetype: int, gfp: int, owner: int) -> int:
    """A block of 2**order pages for `owner`: its pfn, or FAILED, KILLED, ABORTED."""
    count(core, cpu, ALLOC_REQUESTS, 1)
    flags = WMARK_LOW
    if gfp & GFP_KSWAPD_RECLAIM:
        flags |= ALLOC_KSWAPD
    pfn = get_page_from_freelist(core, cpu, order, migratetype, gfp, flags, owner)
    if pfn != NO_PAGE:
        return pfn
    return alloc_pages_slowpath(core, cpu, order, migratetype, gfp, owner)
