"""One attempt at an allocation: over the zones, past the watermarks, out of pageset or lists.

Models Linux 6.1 `mm/page_alloc.c`: `get_page_from_freelist`, `rmqueue`. The fast path is one
attempt at the low mark (`allocate`); what follows when it fails is `slowpath`.

The watermark is tested before the pageset is looked at, on NR_FREE_PAGES alone: below the mark,
pages lying in the CPU's own pageset are out of reach too (docs/model.md, PC-2).
"""

from pagesoak.allocator.buddy import (
    NO_PAGE,
    count_free_pages,
    note_free_pages,
    set_block,
)
from pagesoak.allocator.demand import note_taken
from pagesoak.allocator.gfp import (
    GFP_MOVABLE,
    GFP_THISNODE,
    GFP_ZONE_SHIFT,
    ZONE_NORMAL,
)
from pagesoak.allocator.highatomic import reserve_highatomic, rmqueue_with_reserve
from pagesoak.allocator.pageset import pageset_alloc, pageset_allows
from pagesoak.allocator.pageset_lock import enter_pageset, leave_pageset, pageset_at
from pagesoak.allocator.profile import TUNED_PAGESETS, kernel_has
from pagesoak.allocator.watermark import (
    ALLOC_HIGHATOMIC,
    ALLOC_NO_WATERMARKS,
    ALLOC_NOFRAGMENT,
    note_below_high,
    zone_watermark_fast,
)
from pagesoak.allocator.zonelist import is_local, zonelist_zone
from pagesoak.base.clock import spend
from pagesoak.base.layout import (
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
    Z_INDEX,
    ZONE_WORDS,
    Core,
)
from pagesoak.base.layout_kernel import Z_NOFRAGMENT
from pagesoak.base.layout_virtual import C_LOCK_BLOCK
from pagesoak.base.lock import HELD, lock_zone, unlock_zone
from pagesoak.base.native import hot, inner

FAILED = -1
"""The request got nothing: an ordinary failure of one that may fail."""
KILLED = -2
"""The request got nothing and the OOM killer takes its owner."""
ABORTED = -3
"""The run is ending or the zone is dead: nothing was decided."""
WAITING = -4
"""The request got nothing and kills nobody: it waits for somebody else's pages, and is to be made
again after a tick.
"""

SEQUENCE_MASK = 0x7FFF_FFFF
"""Sequence numbers stay positive 32-bit words; they come round after two thousand million
allocations.
"""


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
    pfn = rmqueue_with_reserve(core, cpu, zone, order, migratetype, alloc_flags)
    if pfn != NO_PAGE:
        z = zone * ZONE_WORDS
        count_free_pages(core, zone, -(1 << order))
        core.zones[z + Z_ALLOCATED_DIRECT] += 1 << order
        note_free_pages(core, zone)
        note_taken(core, cpu, zone, 1 << order)
        take_block(core, cpu, pfn, order, migratetype, gfp, owner)
        spend(core, cpu, C_LOCK_BLOCK, 1)
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
    if kernel_has(core, TUNED_PAGESETS):
        note_below_high(core, zone, order, highest, alloc_flags)
    if alloc_flags & ALLOC_NO_WATERMARKS == 0 and not zone_watermark_fast(
        core, zone, order, highest, alloc_flags
    ):
        return NO_PAGE
    pfn = rmqueue(core, cpu, zone, order, migratetype, gfp, alloc_flags, owner)
    if alloc_flags & ALLOC_HIGHATOMIC and pfn != NO_PAGE:
        reserve_highatomic(core, cpu, zone, pfn, order)
    return pfn


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

    Other nodes' zones stand behind the local ones: the first ends a request that wants no others,
    and an attempt that must not mix page blocks, since mixing them is better than another node.
    """
    for place in range(position, core.header[H_ZONES]):
        zone = zonelist_zone(core, cpu, place)
        local_only = gfp & GFP_THISNODE or alloc_flags & ALLOC_NOFRAGMENT
        if local_only and not is_local(core, cpu, zone):
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
def preferred_zone_nofragment(core: Core, cpu: int, gfp: int) -> int:
    """ALLOC_NOFRAGMENT where the first zone that the request may use wants it, else 0."""
    for position in range(core.header[H_ZONES]):
        z = zonelist_zone(core, cpu, position) * ZONE_WORDS
        if core.zones[z + Z_INDEX] <= gfp >> GFP_ZONE_SHIFT:
            return ALLOC_NOFRAGMENT if core.zones[z + Z_NOFRAGMENT] != 0 else 0
    return 0


@hot
def alloc_flags_nofragment(core: Core, cpu: int, gfp: int) -> int:
    """ALLOC_NOFRAGMENT for requests that prefer zone Normal, else 0: in a guest without that zone
    known at once.
    """
    if core.zones[zonelist_zone(core, cpu, 0) * ZONE_WORDS + Z_INDEX] < ZONE_NORMAL:
        return 0
    return preferred_zone_nofragment(core, cpu, gfp)


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
