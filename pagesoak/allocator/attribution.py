"""Why a request got nothing: because pages were isolated, because they were in pieces, or because there were none.

The question no kernel tool answers. It is asked at the request's last attempt, over the zones it may use, with the slow
path's own test (the min watermark) and the caller's rights:

- *isolated*: the test passes once isolated pages are counted as free, and for order > 0 a block of that order is on
  a usable list, or is isolated, or arises when isolated blocks merge back;
- *fragmented*: pages suffice (with isolated ones counted), but no such block exists either way;
- *exhausted*: everything else.

Definition: docs/model.md, "Causes".
"""

from pagesoak.allocator.buddy import page_is_buddy
from pagesoak.allocator.watermark import (
    pages_suffice,
    wmark_pages,
    zone_has_block,
    zone_watermark_fast,
)
from pagesoak.base.layout import (
    E_ORDER,
    E_PFN,
    ENTRY_WORDS,
    H_ZONES,
    MAX_ORDER,
    R_ENTRIES,
    REPORTING_CAPACITY,
    Z_END_PFN,
    Z_FREE_PAGES,
    Z_INDEX,
    Z_ISOLATED,
    Z_START_PFN,
    ZONE_WORDS,
    Core,
)
from pagesoak.base.lock import HELD, lock_zone, unlock_zone
from pagesoak.base.native import inner

ISOLATED = 0
"""Numbered as `statistics.CAUSES`."""
FRAGMENTED = 1
EXHAUSTED = 2
SERVED_NOW = -1
"""The attempt would pass now."""


@inner
def isolated_at(core: Core, pfn: int, order: int) -> bool:
    """Whether an isolated block of exactly this order starts here."""
    for index in range(REPORTING_CAPACITY):
        entry = R_ENTRIES + index * ENTRY_WORDS
        if core.report[entry + E_PFN] == pfn and core.report[entry + E_ORDER] == order:
            return True
    return False


@inner
def isolated_block_exists(core: Core, zone: int, order: int) -> bool:
    """Whether putting the isolated blocks of a zone back would give a block of `order` or larger."""
    z = zone * ZONE_WORDS
    for index in range(REPORTING_CAPACITY):
        entry = R_ENTRIES + index * ENTRY_WORDS
        pfn = core.report[entry + E_PFN]
        if pfn < core.zones[z + Z_START_PFN] or pfn >= core.zones[z + Z_END_PFN]:
            continue
        reached = core.report[entry + E_ORDER]
        while reached < order and reached < MAX_ORDER - 1:
            buddy = pfn ^ (1 << reached)
            if not page_is_buddy(core, zone, buddy, reached) and not isolated_at(core, buddy, reached):
                break
            pfn &= buddy
            reached += 1
        if reached >= order:
            return True
    return False


@inner
def cause_of_failure(core: Core, worker: int, order: int, highest_zone: int, alloc_flags: int) -> int:
    """ISOLATED, FRAGMENTED or EXHAUSTED; SERVED_NOW when a zone would serve the request after all.

    Each zone is looked at under its lock, so that free and isolated pages belong together.
    """
    fragmented = False
    isolated = False
    for zone in range(core.header[H_ZONES]):
        z = zone * ZONE_WORDS
        if core.zones[z + Z_INDEX] > highest_zone or lock_zone(core, zone, worker) != HELD:
            continue
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
