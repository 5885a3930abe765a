"""Why a request got nothing: because pages were isolated, because they were in pieces, or because
there were none.

The question no kernel tool answers. It is asked at the request's last attempt, over the zones it
may use, with the slow path's own test (the min watermark) and the caller's rights:

- *isolated*: the test passes once isolated pages are counted as free, and for order > 0 a block of
  that order is on a usable list, or is isolated, or arises when isolated blocks merge back;
- *fragmented*: pages suffice (with isolated ones counted), but no such block exists either way;
- *exhausted*: everything else.

Definition: docs/model.md, "Causes".
"""

from pagesoak.allocator.buddy import block_state
from pagesoak.allocator.gfp import GFP_ZONE_SHIFT
from pagesoak.allocator.page_alloc import total_pages
from pagesoak.allocator.watermark import (
    pages_suffice,
    wmark_pages,
    zone_has_block,
    zone_watermark_fast,
)
from pagesoak.allocator.zonelist import zone_allowed
from pagesoak.base.layout import (
    E_ORDER,
    E_PFN,
    ENTRY_WORDS,
    H_ZONES,
    KIND_FREE,
    KIND_ISOLATED,
    KIND_MASK,
    ORDER_MASK,
    R_ENTRIES,
    REPORTING_CAPACITY,
    Z_BOOST,
    Z_END_PFN,
    Z_FREE_PAGES,
    Z_ISOLATED,
    Z_LOWMEM_RESERVE,
    Z_START_PFN,
    Z_WMARK_MIN,
    ZONE_WORDS,
    Core,
)
from pagesoak.base.lock import HELD, lock_zone, unlock_zone
from pagesoak.base.native import inner
from pagesoak.base.recorder import STALLED, record_request

ISOLATED = 0
"""Numbered as `statistics.CAUSES`."""
FRAGMENTED = 1
EXHAUSTED = 2
SERVED_NOW = -1
"""The attempt would pass now."""
NO_ZONE = -(1 << 62)
"""Margin of a request that may use no zone at all."""


@inner
def free_or_isolated(core: Core, zone: int, pfn: int, order: int) -> bool:
    """Whether all pages of an aligned block are free or isolated: then it arises once those merge.

    The blocks inside never reach beyond it: they are smaller, or one of them is the block itself.
    """
    z = zone * ZONE_WORDS
    end = pfn + (1 << order)
    if pfn < core.zones[z + Z_START_PFN] or end > core.zones[z + Z_END_PFN]:
        return False
    page = pfn
    while page < end:
        state = block_state(core.pages, page)
        kind = state & KIND_MASK
        if kind != KIND_FREE and kind != KIND_ISOLATED:  # noqa: PLR1714 - no sets in compiled code
            return False
        page += 1 << (state & ORDER_MASK)
    return True


@inner
def isolated_block_exists(core: Core, zone: int, order: int) -> bool:
    """Whether putting the isolated blocks of a zone back would give a block of `order` or larger.

    Any number of isolated blocks may have to merge: page reporting at a small order takes many.
    """
    z = zone * ZONE_WORDS
    for index in range(REPORTING_CAPACITY):
        entry = R_ENTRIES + index * ENTRY_WORDS
        pfn = core.report[entry + E_PFN]
        if pfn < core.zones[z + Z_START_PFN] or pfn >= core.zones[z + Z_END_PFN]:
            continue
        if core.report[entry + E_ORDER] >= order:
            return True
        if free_or_isolated(core, zone, pfn & ~((1 << order) - 1), order):
            return True
    return False


@inner
def cause_of_failure(core: Core, worker: int, order: int, gfp: int, alloc_flags: int) -> int:
    """ISOLATED, FRAGMENTED or EXHAUSTED; SERVED_NOW when a zone would serve the request after all.

    Each zone is looked at under its lock, so that free and isolated pages belong together.
    """
    highest_zone = gfp >> GFP_ZONE_SHIFT
    fragmented = False
    isolated = False
    for zone in range(core.header[H_ZONES]):
        z = zone * ZONE_WORDS
        if not zone_allowed(core, worker, zone, gfp):
            continue
        if lock_zone(core, zone, worker) != HELD:
            return SERVED_NOW  # nothing is known; the next attempt finds out that the run ends
        if zone_watermark_fast(core, zone, order, highest_zone, alloc_flags):
            unlock_zone(core, zone, worker)
            return SERVED_NOW
        mark = wmark_pages(core, zone, alloc_flags)
        free = core.zones[z + Z_FREE_PAGES] + core.zones[z + Z_ISOLATED]
        if pages_suffice(core, zone, order, mark, highest_zone, alloc_flags, free):
            if (
                order == 0
                or zone_has_block(core, zone, order, alloc_flags)
                or isolated_block_exists(core, zone, order)
            ):
                isolated = True
            else:
                fragmented = True
        unlock_zone(core, zone, worker)
    if isolated:
        return ISOLATED
    return FRAGMENTED if fragmented else EXHAUSTED


@inner
def margin_pages(core: Core, worker: int, gfp: int) -> int:
    """How far the best zone that a request may use is above what its slow path asks of a caller
    without rights to reserves, for one page: served when more than 0, short by so many otherwise.
    """
    highest_zone = gfp >> GFP_ZONE_SHIFT
    best = NO_ZONE
    for zone in range(core.header[H_ZONES]):
        if not zone_allowed(core, worker, zone, gfp):
            continue
        z = zone * ZONE_WORDS
        asked = core.zones[z + Z_WMARK_MIN] + core.zones[z + Z_BOOST]
        asked += core.zones[z + Z_LOWMEM_RESERVE + highest_zone]
        margin = core.zones[z + Z_FREE_PAGES] - asked
        if best == NO_ZONE or margin > best:
            best = margin
    return int(best)


@inner
def note_request(core: Core, worker: int, kind: int, order: int, gfp: int, cause: int) -> None:
    """Put a request that got nothing, or had to reclaim, on record with what was there."""
    free = total_pages(core, Z_FREE_PAGES)
    isolated = total_pages(core, Z_ISOLATED)
    margin = margin_pages(core, worker, gfp)
    record_request(core, worker, kind, order, gfp, cause, free, isolated, margin)


@inner
def note_stall(core: Core, cpu: int, order: int, gfp: int, alloc_flags: int) -> None:
    """Put on record that a request had to reclaim by itself, however many rounds it makes, and
    why; one that would be served a moment later was short of pages all the same.
    """
    cause = cause_of_failure(core, cpu, order, gfp, alloc_flags)
    note_request(core, cpu, STALLED, order, gfp, cause if cause >= 0 else EXHAUSTED)
