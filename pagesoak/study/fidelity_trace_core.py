"""The requests of a trace, one call each, on the compiled core.

An event of a trace stands at the end of its request: what direct reclaim freed on the way to an
allocation has events of its own before. So an allocation is made with the attempts of the slow
path alone, each with its rights, and none of its waiting: low mark, min mark, no mark.

Frees name a page. It may have been taken since the snapshot, or before it: then nothing is known
of its block, and 2**order single pages stand for it.
"""

from pagesoak.allocator.allocate import attempt_at_low
from pagesoak.allocator.buddy import (
    NO_PAGE,
    add_to_free_list,
    block_state,
    count_free_pages,
    del_page_from_free_list,
    list_delete,
    pageblock_type,
    set_block,
)
from pagesoak.allocator.gfp import (
    GFP_KSWAPD_RECLAIM,
    GFP_MOVABLE,
    GFP_NOMEMALLOC,
    GFP_ZONE_SHIFT,
)
from pagesoak.allocator.highatomic import unreserve_highatomic
from pagesoak.allocator.page_alloc import get_page_from_freelist, rmqueue, take_block
from pagesoak.allocator.page_free import free_pages, free_to_buddy, zone_of
from pagesoak.allocator.pageset import drain_all_pagesets, drain_pages
from pagesoak.allocator.pageset_lock import pageset_at
from pagesoak.allocator.watermark import (
    ALLOC_KSWAPD,
    ALLOC_NO_WATERMARKS,
    WMARK_LOW,
    gfp_to_alloc_flags,
    zone_watermark_fast,
)
from pagesoak.allocator.zonelist import zone_allowed, zonelist_zone
from pagesoak.base.layout import (
    H_ZONES,
    KIND_ALLOCATED,
    KIND_FREE,
    KIND_MASK,
    KIND_NONE,
    KIND_PAGESET,
    MAX_ORDER,
    MOVABLE,
    ORDER_MASK,
    P_COUNT,
    TYPE_MASK,
    TYPE_SHIFT,
    Core,
    open_core,
)
from pagesoak.base.native import entry, inner
from pagesoak.reporter.gate import isolate_free_page, note_isolated

CPU = 0
"""Traces of one CPU are checked."""
TRACE_OWNER = 16
"""Owner of everything taken."""

ALLOC = 0
FREE = 1
ISOLATE = 2
ALLOC_IN_ZONE = 3
DRAIN = 4
RECLAIMED = 5
TAKE_FROM_PAGESET = 6
TAKE_FROM_FREE_LISTS = 7

FREED = 0
NOT_TAKEN = 1
"""A free of a page that is free in the model: nothing was done."""


@inner
def _trace_alloc(core: Core, order: int, migratetype: int, gfp: int, memalloc: int) -> int:
    """The attempts of an allocation: low mark; min mark with the rights of the slow path; none."""
    pfn = attempt_at_low(core, CPU, order, migratetype, gfp, TRACE_OWNER)
    flags = gfp_to_alloc_flags(gfp, order)
    for attempt in range(2):
        if pfn != NO_PAGE:
            return pfn
        if attempt > 0:
            if memalloc == 0 or gfp & GFP_NOMEMALLOC:
                break
            flags |= ALLOC_NO_WATERMARKS
        pfn = get_page_from_freelist(core, CPU, order, migratetype, gfp, flags, TRACE_OWNER)
    return pfn


@inner
def _make_taken(core: Core, pfn: int, order: int) -> bool:
    """Let exactly this block be a taken one; False when a part of it is not taken."""
    state = block_state(core.pages, pfn)
    if state & (KIND_MASK | ORDER_MASK) == KIND_ALLOCATED | order:
        return True
    page = pfn
    end = pfn + (1 << order)
    while page < end:
        state = block_state(core.pages, page)
        kind = state & KIND_MASK
        if kind != KIND_ALLOCATED:
            return False
        held = state & ORDER_MASK
        if held > order:  # freed in parts: each part is a block of its own from here on
            for part in range(1 << (held - order)):
                set_block(core.pages, page + (part << order), state & ~ORDER_MASK | order)
            return True
        page += 1 << held
    state = block_state(core.pages, pfn) & ~ORDER_MASK
    for inside in range(pfn + 1, end):
        set_block(core.pages, inside, KIND_NONE)
    set_block(core.pages, pfn, state | order)
    return True


@inner
def _whole_of(core: Core, pfn: int) -> None:
    """Split the taken block that holds a page into pages, when the page is not its first."""
    if block_state(core.pages, pfn) & KIND_MASK != KIND_NONE:
        return
    for order in range(1, 11):
        first = pfn & ~((1 << order) - 1)
        state = block_state(core.pages, first)
        if state & KIND_MASK == KIND_NONE:
            continue
        if state & KIND_MASK == KIND_ALLOCATED and first + (1 << (state & ORDER_MASK)) > pfn:
            for page in range(first, first + (1 << (state & ORDER_MASK))):
                set_block(core.pages, page, state & ~ORDER_MASK)
        return


@inner
def _trace_free(core: Core, pfn: int, order: int, past_pageset: int) -> int:
    """See `trace_free`."""
    _whole_of(core, pfn)
    if not _make_taken(core, pfn, order):
        return NOT_TAKEN
    if past_pageset != 0:
        free_to_buddy(core, CPU, zone_of(core, pfn), pfn, order, pageblock_type(core, pfn))
    else:
        free_pages(core, CPU, pfn, order)
    return FREED


@inner
def _trace_isolate(core: Core, pfn: int, order: int) -> int:
    """See `trace_isolate`."""
    if block_state(core.pages, pfn) & (KIND_MASK | ORDER_MASK) != KIND_FREE | order:
        return -1
    zone = zone_of(core, pfn)
    if not isolate_free_page(core, zone, pfn, order):
        return 0
    note_isolated(core, zone, -(1 << order))
    for page in range(pfn, pfn + (1 << order)):
        take_block(core, CPU, page, 0, MOVABLE, GFP_MOVABLE, TRACE_OWNER)
    return 1


@inner
def _drain_zone(core: Core, zone: int) -> int:
    """See `drain_zone`."""
    p = pageset_at(core, CPU, zone)
    pages = core.pagesets[p + P_COUNT]
    drain_pages(core, p, CPU, zone, pages, 0)
    return pages


@inner
def _reclaimed_too_little(core: Core, order: int, migratetype: int, gfp: int) -> int:
    """See `reclaimed_too_little`."""
    flags = gfp_to_alloc_flags(gfp, order)
    for position in range(core.header[H_ZONES]):
        zone = zonelist_zone(core, CPU, position)
        if zone_allowed(core, CPU, zone, gfp) and zone_watermark_fast(
            core, zone, order, gfp >> GFP_ZONE_SHIFT, flags
        ):
            return 0
    unreserve_highatomic(core, CPU, migratetype, gfp, False)
    drain_all_pagesets(core, CPU, 1)
    return 1


@inner
def _take_from_pageset(core: Core, pfn: int, migratetype: int) -> int:
    """See `take_from_pageset`."""
    zone = zone_of(core, pfn)
    order = block_state(core.pages, pfn) & ORDER_MASK
    list_delete(core.pages, pfn)
    core.pagesets[pageset_at(core, CPU, zone) + P_COUNT] -= 1 << order
    take_block(core, CPU, pfn, order, migratetype, 0, TRACE_OWNER)
    return order


@inner
def _trace_alloc_in_zone(core: Core, zone: int, order: int, migratetype: int, gfp: int) -> int:
    """See `trace_alloc_in_zone`."""
    flags = WMARK_LOW
    if gfp & GFP_KSWAPD_RECLAIM:
        flags |= ALLOC_KSWAPD
    return rmqueue(core, CPU, zone, order, migratetype, gfp, flags, TRACE_OWNER)


@inner
def _take_from_free_lists(core: Core, pfn: int, order: int, migratetype: int) -> int:
    """See `take_from_free_lists`."""
    for current in range(order, MAX_ORDER):
        first = pfn & ~((1 << current) - 1)
        state = block_state(core.pages, first)
        if state & (KIND_MASK | ORDER_MASK) != KIND_FREE | current:
            continue
        zone = zone_of(core, pfn)
        listed = (state & TYPE_MASK) >> TYPE_SHIFT
        del_page_from_free_list(core, zone, first, current)
        half = current
        while half > order:
            half -= 1
            upper = first + (1 << half)
            if pfn >= upper:
                add_to_free_list(core, zone, first, half, listed, False)
                first = upper
            else:
                add_to_free_list(core, zone, upper, half, listed, False)
        count_free_pages(core, zone, -(1 << order))
        take_block(core, CPU, pfn, order, migratetype, 0, TRACE_OWNER)
        return 1
    return 0


@entry
def _step(base: int, operation: int, one: int, two: int, three: int, four: int) -> int:
    """Any of the operations: compiled together, they share the allocator's code."""
    core = open_core(base)
    if operation == ALLOC:
        answer = _trace_alloc(core, one, two, three, four)
    elif operation == FREE:
        answer = _trace_free(core, one, two, three)
    elif operation == ISOLATE:
        answer = _trace_isolate(core, one, two)
    elif operation == ALLOC_IN_ZONE:
        answer = _trace_alloc_in_zone(core, one, two, three, four)
    elif operation == DRAIN:
        answer = _drain_zone(core, one)
    elif operation == RECLAIMED:
        answer = _reclaimed_too_little(core, one, two, three)
    elif operation == TAKE_FROM_PAGESET:
        answer = _take_from_pageset(core, one, two)
    else:
        answer = _take_from_free_lists(core, one, two, three)
    return answer


def trace_alloc(base: int, order: int, migratetype: int, gfp: int, memalloc: int) -> int:
    """One allocation; the first pfn, or NO_PAGE. `memalloc`: the task may ignore the marks."""
    return _step(base, ALLOC, order, migratetype, gfp, memalloc)


def trace_free(base: int, pfn: int, order: int, past_pageset: int) -> int:
    """One free; FREED or NOT_TAKEN. `past_pageset`: the pageset's lock was held by what the free
    interrupted, so it went straight to the buddy lists.
    """
    return _step(base, FREE, pfn, order, past_pageset, 0)


def trace_isolate(base: int, pfn: int, order: int) -> int:
    """Compaction isolates a free block and splits it into single pages, which it may use up or
    free; 1, 0 when the model refuses, -1 when there is no such free block.
    """
    return _step(base, ISOLATE, pfn, order, 0, 0)


def trace_alloc_in_zone(base: int, zone: int, order: int, migratetype: int, gfp: int) -> int:
    """An allocation that is known to have been served by a zone; the first pfn, or NO_PAGE."""
    return _step(base, ALLOC_IN_ZONE, zone, order, migratetype, gfp)


def drain_zone(base: int, zone: int) -> int:
    """Empty the CPU's pageset of a zone; the pages it had."""
    return _step(base, DRAIN, zone, 0, 0, 0)


def reclaimed_too_little(base: int, order: int, migratetype: int, gfp: int) -> int:
    """Direct reclaim has freed something. If the request would not be served now, give a reserved
    page block back and empty all pagesets, and return 1.
    """
    return _step(base, RECLAIMED, order, migratetype, gfp, 0)


def take_from_pageset(base: int, pfn: int, migratetype: int) -> int:
    """Take a block from the middle of a pageset's list, as what left it without an event did; its
    order.
    """
    return _step(base, TAKE_FROM_PAGESET, pfn, migratetype, 0, 0)


def take_from_free_lists(base: int, pfn: int, order: int, migratetype: int) -> int:
    """Take exactly this block out of the free block that holds it, whose rest goes to the heads of
    the lower lists; 1, or 0 when it lies in no free block.
    """
    return _step(base, TAKE_FROM_FREE_LISTS, pfn, order, migratetype, 0)


KINDS = {
    KIND_NONE: "inside a block",
    KIND_FREE: "on a free list",
    KIND_PAGESET: "in a pageset",
    KIND_ALLOCATED: "taken",
}
