"""The per-CPU pagesets: small caches of free blocks in front of the buddy lists.

Orders 0 to 3, three types each, and whole page blocks (two lists: not movable, movable) pass
through them; orders 4 to 8 and 10 never. A pageset has a lock of its own, taken by the CPU's
worker for every request and by others only to drain it or to look at it. An empty list is refilled
with a batch under the zone lock; when the count reaches `high` a batch goes back, round robin over
the lists beginning with the one freed to, each from its tail.

Pagesets that tune themselves (6.12): `pageset_tuned`.

Models Linux 6.1 `mm/page_alloc.c`: `rmqueue_pcplist`, `rmqueue_bulk`, `free_unref_page_commit`,
`nr_pcp_high`, `nr_pcp_free`, `free_pcppages_bulk`, with CONFIG_PCP_BATCH_SCALE_MAX 5; checked
against recordings (tests/recordings/FACTS.md, "Per-CPU lists of 6.1, as seen").
"""

from pagesoak.allocator.buddy import (
    NO_PAGE,
    block_state,
    count_free_pages,
    free_one_page,
    list_add,
    list_add_tail,
    list_delete,
    note_free_pages,
    pageblock_type,
    set_block,
)
from pagesoak.allocator.demand import note_taken
from pagesoak.allocator.fallback import rmqueue_lists
from pagesoak.allocator.fallback_typed import rmqueue_steal, stolen
from pagesoak.allocator.gfp import ZONE_MOVABLE
from pagesoak.allocator.pageset_lock import (
    claim_pageset,
    enter_pageset,
    leave_pageset,
    pageset_at,
    unclaim_pageset,
)
from pagesoak.allocator.pageset_tuned import (
    decayed_pages,
    tuned_pages_to_drain,
    tuned_refill_blocks,
)
from pagesoak.allocator.profile import TUNED_PAGESETS, TYPED_FREE_LISTS, kernel_has
from pagesoak.allocator.watermark import WMARK_HIGH, wmark_pages, zone_watermark_ok
from pagesoak.base.clock import spend
from pagesoak.base.fault_point import REFILLING, fault_point
from pagesoak.base.layout import (
    H_THP_PAGESETS,
    H_ZONES,
    KIND_PAGESET,
    MOVABLE,
    NEXT,
    P_ALLOCATED,
    P_BATCH,
    P_COUNT,
    P_FREE_FACTOR,
    P_HIGH,
    P_LIST_BASE,
    PAGE_WORDS,
    PAGEBLOCK_ORDER,
    PCP_LISTS,
    PCP_ORDERS,
    PCP_THP_LIST,
    PCPTYPES,
    PREVIOUS,
    TYPE_MASK,
    TYPE_SHIFT,
    Z_RECLAIM_ACTIVE,
    ZONE_WORDS,
    Core,
)
from pagesoak.base.layout_kernel import P_DECAY_DUE_NS, Z_BELOW_HIGH
from pagesoak.base.layout_virtual import C_LOCK_BLOCK
from pagesoak.base.lock import HELD, lock_zone, unlock_zone
from pagesoak.base.native import hot, inner, leaf
from pagesoak.base.statistics import PAGESET_DRAINS, PAGESET_REFILLS, count

PCP_BATCH_SCALE_MAX = 5
"""`free_factor` grows no further: a bulk free is at most 32 batches (CONFIG_PCP_BATCH_SCALE_MAX).
"""
REFILL_BLOCKS_MIN = 2
"""A refill takes at least so many blocks, whatever their order."""
RECLAIM_HIGH_BATCHES = 4
"""While kswapd runs a pageset keeps at most so many batches."""
DECAY_INTERVAL_NS = 1_000_000_000
"""Between two updates of a CPU's counters (sysctl_stat_interval)."""


@leaf
def pageset_allows(core: Core, order: int) -> bool:
    """Whether blocks of this order pass through pagesets (`pcp_allowed_order`)."""
    return order < PCP_ORDERS or (order == PAGEBLOCK_ORDER and core.header[H_THP_PAGESETS] != 0)


@leaf
def pageset_list(order: int, migratetype: int) -> int:
    """Number of the list for an order and a type (`order_to_pindex`)."""
    if order == PAGEBLOCK_ORDER:
        return PCP_THP_LIST + (1 if migratetype == MOVABLE else 0)
    return order * PCPTYPES + migratetype


@leaf
def pageset_list_order(index: int) -> int:
    """Order of the blocks on a list (`pindex_to_order`)."""
    return PAGEBLOCK_ORDER if index >= PCP_THP_LIST else index // PCPTYPES


@inner
def refill(
    core: Core,
    p: int,
    cpu: int,
    zone: int,
    order: int,
    migratetype: int,
    alloc_flags: int,
    index: int,
) -> int:
    """Fill an empty list with a batch of blocks under the zone lock; returns how many came
    (`rmqueue_bulk`).

    The watermark was tested before and is not tested again: a refill may end up to a batch below
    it.
    """
    if lock_zone(core, zone, cpu) != HELD:
        return 0
    wanted = core.pagesets[p + P_BATCH]
    if kernel_has(core, TUNED_PAGESETS):
        wanted = tuned_refill_blocks(core, p, zone, order)
    elif wanted > 1:
        wanted = max(wanted >> order, REFILL_BLOCKS_MIN)
    head = core.pagesets[p + P_LIST_BASE] + index
    taken = 0
    stealing = False
    while taken < wanted:
        if stealing:
            pfn = rmqueue_steal(core, cpu, zone, order, migratetype)
        else:
            pfn = rmqueue_lists(core, cpu, zone, order, migratetype, alloc_flags)
            stealing = pfn != NO_PAGE and stolen(core, pfn, migratetype)
        if pfn == NO_PAGE:
            break
        set_block(core.pages, pfn, KIND_PAGESET | order | (migratetype << TYPE_SHIFT))
        list_add_tail(core.pages, head, pfn)
        taken += 1
    fault_point(core, cpu, REFILLING)
    count_free_pages(core, zone, -(taken << order))
    note_free_pages(core, zone)
    note_taken(core, cpu, zone, taken << order)
    core.pagesets[p + P_COUNT] += taken << order
    spend(core, cpu, C_LOCK_BLOCK, taken)
    unlock_zone(core, zone, cpu)
    count(core, cpu, PAGESET_REFILLS, 1)
    return taken


@hot
def pageset_alloc(
    core: Core, p: int, cpu: int, zone: int, order: int, migratetype: int, alloc_flags: int
) -> int:
    """A block from the CPU's pageset, refilled when its list is empty; NO_PAGE when there is none.

    The worker is inside pageset `p`. The block's record still says KIND_PAGESET: the caller makes
    it its own before it leaves.
    """
    core.pagesets[p + P_FREE_FACTOR] >>= 1
    index = pageset_list(order, migratetype)
    head = core.pagesets[p + P_LIST_BASE] + index
    pfn = core.pages[head * PAGE_WORDS + NEXT]
    if pfn == head:
        if refill(core, p, cpu, zone, order, migratetype, alloc_flags, index) == 0:
            return NO_PAGE
        pfn = core.pages[head * PAGE_WORDS + NEXT]
    list_delete(core.pages, pfn)
    core.pagesets[p + P_COUNT] -= 1 << order
    core.pagesets[p + P_ALLOCATED] += 1 << order
    return pfn


@inner
def drain_pages(core: Core, p: int, worker: int, zone: int, pages: int, first_index: int) -> None:
    """Give about `pages` pages of pageset `p` back to the buddy lists, list `first_index` first;
    the caller has the pageset.

    The list in turn is emptied from its tail while the quota lasts, then the next one
    (`free_pcppages_bulk`). A round without a page ends it: a count that promises more than the
    lists hold is for the audit to find, not to loop over under the lock.
    """
    left = min(pages, core.pagesets[p + P_COUNT])
    if left <= 0 or lock_zone(core, zone, worker) != HELD:
        return
    typed = kernel_has(core, TYPED_FREE_LISTS)
    index = first_index
    empty_lists = 0
    while left > 0 and empty_lists < PCP_LISTS:
        head = core.pagesets[p + P_LIST_BASE] + index
        order = pageset_list_order(index)
        empty_lists += 1
        while left > 0:
            pfn = core.pages[head * PAGE_WORDS + PREVIOUS]
            if pfn == head:
                break
            empty_lists = 0
            if typed:
                migratetype = pageblock_type(core, pfn)
            else:
                migratetype = (block_state(core.pages, pfn) & TYPE_MASK) >> TYPE_SHIFT
            list_delete(core.pages, pfn)
            set_block(core.pages, pfn, 0)
            left -= 1 << order
            core.pagesets[p + P_COUNT] -= 1 << order
            free_one_page(core, worker, zone, pfn, order, migratetype, 0)
            spend(core, worker, C_LOCK_BLOCK, 1)
        index += 1
        if index == PCP_LISTS:
            index = 0
    unlock_zone(core, zone, worker)
    count(core, worker, PAGESET_DRAINS, 1)


@hot
def pageset_high(core: Core, zone: int, p: int, free_high: bool) -> int:
    """Above which count pages go back (`nr_pcp_high`)."""
    high = core.pagesets[p + P_HIGH]
    if free_high:
        return 0
    if high != 0 and core.zones[zone * ZONE_WORDS + Z_RECLAIM_ACTIVE] != 0:
        return min(core.pagesets[p + P_BATCH] * RECLAIM_HIGH_BATCHES, high)
    return high


@inner
def pageset_free_pages(core: Core, p: int, high: int, free_high: bool) -> int:
    """How many pages go back; grows while nothing is allocated in between (`nr_pcp_free`)."""
    if free_high:
        return core.pagesets[p + P_COUNT]
    batch = core.pagesets[p + P_BATCH]
    if high < batch:
        return 1
    most = high - batch
    scaled = batch << core.pagesets[p + P_FREE_FACTOR]
    if scaled < most and core.pagesets[p + P_FREE_FACTOR] < PCP_BATCH_SCALE_MAX:
        core.pagesets[p + P_FREE_FACTOR] += 1
    return min(max(scaled, batch), most)


@inner
def tuned_free(core: Core, p: int, cpu: int, zone: int, order: int, index: int) -> None:
    """What follows a free in a pageset that tunes itself: pages go back, and the zone may turn out
    to be above its high mark again.
    """
    pages = tuned_pages_to_drain(core, p, zone, order)
    if pages == 0:
        return
    drain_pages(core, p, cpu, zone, pages, index)
    z = zone * ZONE_WORDS
    if core.zones[z + Z_BELOW_HIGH] != 0:
        mark = wmark_pages(core, zone, WMARK_HIGH)
        if zone_watermark_ok(core, zone, 0, mark, ZONE_MOVABLE, 0):
            core.zones[z + Z_BELOW_HIGH] = 0


@inner
def decay_pagesets(core: Core, cpu: int, now: int) -> None:
    """Let the CPU's pagesets shrink when their second is over (`vmstat_update`). Others' frees and
    the reporter's have no part in it; a CPU whose load sleeps does it when it goes on.
    """
    if not kernel_has(core, TUNED_PAGESETS):
        return
    for zone in range(core.header[H_ZONES]):
        p = pageset_at(core, cpu, zone)
        if now >= core.pagesets[p + P_DECAY_DUE_NS] and enter_pageset(core, p):
            core.pagesets[p + P_DECAY_DUE_NS] = now + DECAY_INTERVAL_NS
            pages = decayed_pages(core, p)
            if pages > 0:
                drain_pages(core, p, cpu, zone, pages, 0)
            leave_pageset(core, p)


@hot
def pageset_free(
    core: Core, p: int, cpu: int, zone: int, pfn: int, order: int, migratetype: int
) -> None:
    """Put a block into the CPU's pageset, which the worker is inside of; at `high` a batch goes
    back (`free_unref_page_commit`).

    `migratetype` is that of the page block. HIGHATOMIC has no list of its own: such a block lies
    with the movable ones, and 6.1 gives it back to its own type. A second block of order 1 to 3 in
    a row of frees empties the whole pageset.
    """
    index = pageset_list(order, migratetype if migratetype < PCPTYPES else MOVABLE)
    set_block(core.pages, pfn, KIND_PAGESET | order | (migratetype << TYPE_SHIFT))
    list_add(core.pages, core.pagesets[p + P_LIST_BASE] + index, pfn)
    core.pagesets[p + P_COUNT] += 1 << order
    core.pagesets[p + P_ALLOCATED] -= 1 << order
    if kernel_has(core, TUNED_PAGESETS):
        tuned_free(core, p, cpu, zone, order, index)
        return
    free_high = core.pagesets[p + P_FREE_FACTOR] != 0 and 0 < order < PCP_ORDERS
    high = pageset_high(core, zone, p, free_high)
    if core.pagesets[p + P_COUNT] >= high:
        pages = pageset_free_pages(core, p, high, free_high)
        drain_pages(core, p, cpu, zone, pages, index)


@inner
def drain_all_pagesets(core: Core, worker: int, cpus: int) -> int:
    """Empty the pagesets of all CPUs (`drain_all_pages`); returns how many could not be had."""
    missed = 0
    for cpu in range(cpus):
        for zone in range(core.header[H_ZONES]):
            p = pageset_at(core, cpu, zone)
            if claim_pageset(core, p, worker):
                drain_pages(core, p, worker, zone, core.pagesets[p + P_COUNT], 0)
                unclaim_pageset(core, p)
            else:
                missed += 1
    return missed
