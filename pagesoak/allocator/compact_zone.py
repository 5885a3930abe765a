"""Compacting a zone: whether that is worth it, until when, and how often it is put off.

It goes on where the scanners stood last, ends when a block is there or the scanners meet, and the
zone is put off for a growing number of times after failing. Direct compaction (`compaction`) and
kcompactd (`kcompactd`) both end up here.

Models Linux 6.1 and 6.12 `mm/compaction.c`: `compaction_suitable`, `compact_zone`,
`compact_finished`, `defer_compaction` and its kin; `mm/vmstat.c`: `fragmentation_index`. The
scanners: `compact_scan`.
"""

from pagesoak.allocator.buddy import NO_PAGE, free_list, pageblock_type
from pagesoak.allocator.compact_scan import migrate_pageblock, release_targets
from pagesoak.allocator.fallback_choice import can_steal, find_fallback
from pagesoak.allocator.pageset import drain_pages
from pagesoak.allocator.pageset_lock import enter_pageset, leave_pageset, pageset_at
from pagesoak.allocator.watermark import (
    WMARK_LOW,
    WMARK_MIN,
    pages_suffice,
    wmark_pages,
    zone_watermark_ok,
)
from pagesoak.base import recorder
from pagesoak.base.external import compare_exchange, store_release
from pagesoak.base.layout import (
    MAX_ORDER,
    NEXT,
    P_COUNT,
    PAGE_WORDS,
    PAGEBLOCK_PAGES,
    Z_END_PFN,
    Z_FREE_PAGES,
    Z_NR_FREE,
    Z_START_PFN,
    ZONE_WORDS,
    Core,
)
from pagesoak.base.layout_kernel import (
    Z_COMPACT_BUSY,
    Z_COMPACT_CONSIDERED,
    Z_COMPACT_DEFER_SHIFT,
    Z_COMPACT_FREE,
    Z_COMPACT_MIGRATE,
    Z_COMPACT_ORDER_FAILED,
)
from pagesoak.base.native import inner
from pagesoak.base.recorder import record

# How a zone's compaction, or all of a request's, ended; the larger wins.
NOT_SUITABLE = 0
SKIPPED = 1
DEFERRED = 2
CONTINUE = 4
COMPLETE = 5
PARTIAL = 6
CONTENDED = 7
SUCCESS = 8

COSTLY_ORDER = 3
COMPACT_GAP = 2
"""So many times the block must be free above the mark (`compact_gap`)."""
FRAGMENTED_ENOUGH = 500
"""sysctl_extfrag_threshold: at most that, and lack of memory is the trouble, not its pieces."""
FRAGMENTATION_UNIT = 1000
DEFER_SHIFT_MAX = 6
SLICE_PAGEBLOCKS = 16
"""Scanned in the background before the CPU whose time it takes looks after other things."""
ANY_TYPE = -1


@inner
def fragmentation_index(core: Core, zone: int, order: int) -> int:
    """0 when a lack of memory would fail a request of the order, 1000 when its being in pieces
    would; -1000 when it would not fail.
    """
    blocks = 0
    pages = 0
    for current in range(MAX_ORDER):
        number = core.zones[zone * ZONE_WORDS + Z_NR_FREE + current]
        if number > 0 and current >= order:
            return -FRAGMENTATION_UNIT
        blocks += number
        pages += number << current
    if blocks == 0:
        return 0
    lacking = FRAGMENTATION_UNIT + pages * FRAGMENTATION_UNIT // (1 << order)
    return FRAGMENTATION_UNIT - lacking // blocks


@inner
def room_to_compact(core: Core, zone: int, order: int, highest: int, available: int) -> bool:
    """Whether so many free pages are enough to compact with: the min mark, low for costly orders,
    and twice the block (`__compaction_suitable`).
    """
    mark = wmark_pages(core, zone, WMARK_LOW if order > COSTLY_ORDER else WMARK_MIN)
    mark += COMPACT_GAP << order
    return pages_suffice(core, zone, 0, mark, highest, 0, available)


@inner
def compaction_suitable(core: Core, zone: int, order: int, highest: int, alloc_flags: int) -> int:
    """SUCCESS when the request would be served without it, SKIPPED when it cannot help, else
    CONTINUE.
    """
    mark = wmark_pages(core, zone, alloc_flags)
    if zone_watermark_ok(core, zone, order, mark, highest, alloc_flags):
        return SUCCESS
    if not room_to_compact(
        core, zone, order, highest, core.zones[zone * ZONE_WORDS + Z_FREE_PAGES]
    ):
        return SKIPPED
    if order > COSTLY_ORDER:
        index = fragmentation_index(core, zone, order)
        if 0 <= index <= FRAGMENTED_ENOUGH:
            return SKIPPED
    return CONTINUE


@inner
def defer_compaction(core: Core, zone: int, order: int) -> None:
    """Put the zone off for twice as many attempts as before, at most 64."""
    z = zone * ZONE_WORDS
    core.zones[z + Z_COMPACT_CONSIDERED] = 0
    shift = core.zones[z + Z_COMPACT_DEFER_SHIFT] + 1
    core.zones[z + Z_COMPACT_DEFER_SHIFT] = min(shift, DEFER_SHIFT_MAX)
    failed = core.zones[z + Z_COMPACT_ORDER_FAILED]
    core.zones[z + Z_COMPACT_ORDER_FAILED] = min(failed, order)


@inner
def compaction_deferred(core: Core, zone: int, order: int) -> bool:
    """Whether the zone is put off this time; each question counts."""
    z = zone * ZONE_WORDS
    if order < core.zones[z + Z_COMPACT_ORDER_FAILED]:
        return False
    limit = 1 << core.zones[z + Z_COMPACT_DEFER_SHIFT]
    considered = core.zones[z + Z_COMPACT_CONSIDERED] + 1
    core.zones[z + Z_COMPACT_CONSIDERED] = min(considered, limit)
    return considered < limit


@inner
def compaction_defer_reset(core: Core, zone: int, order: int, served: bool) -> None:
    """The order can be had after all; `served`: it was, so nothing is put off any more."""
    z = zone * ZONE_WORDS
    if served:
        core.zones[z + Z_COMPACT_CONSIDERED] = 0
        core.zones[z + Z_COMPACT_DEFER_SHIFT] = 0
    if order >= core.zones[z + Z_COMPACT_ORDER_FAILED]:
        core.zones[z + Z_COMPACT_ORDER_FAILED] = order + 1


@inner
def block_is_there(core: Core, zone: int, order: int, migratetype: int) -> bool:
    """Whether a request would find a block now: of its type, or one whose page block it may claim
    (`__compact_finished`).
    """
    for current in range(order, MAX_ORDER):
        head = free_list(core, zone, current, migratetype)
        if core.pages[head * PAGE_WORDS + NEXT] != head:
            return True
        if can_steal(current, migratetype) and (
            find_fallback(core, zone, current, migratetype) != NO_PAGE
        ):
            return True
    return False


@inner
def empty_own_pageset(core: Core, cpu: int, zone: int) -> None:
    """What was freed behind the migrate scanner goes to the buddy lists."""
    p = pageset_at(core, cpu, zone)
    if enter_pageset(core, p):
        drain_pages(core, p, cpu, zone, core.pagesets[p + P_COUNT], 0)
        leave_pageset(core, p)


@inner
def scan_zone(
    core: Core,
    cpu: int,
    zone: int,
    order: int,
    migratetype: int,
    source_type: int,
    background: bool,
) -> int:
    """Scan a zone, in the background a slice of it: SUCCESS, CONTENDED when there are more page
    blocks, COMPLETE or PARTIAL when the scanners met, the latter if they did not begin at the
    zone's ends.

    `source_type`: only page blocks of this type, ANY_TYPE of any.
    """
    zones = core.zones
    z = zone * ZONE_WORDS
    first = zones[z + Z_START_PFN] & ~(PAGEBLOCK_PAGES - 1)
    last = (zones[z + Z_END_PFN] - 1) & ~(PAGEBLOCK_PAGES - 1)
    if zones[z + Z_COMPACT_FREE] == 0:
        zones[z + Z_COMPACT_MIGRATE] = first
        zones[z + Z_COMPACT_FREE] = last
    whole = zones[z + Z_COMPACT_MIGRATE] == first and zones[z + Z_COMPACT_FREE] == last
    moved = 0
    scanned = 0
    result = CONTINUE
    while result == CONTINUE:
        start = zones[z + Z_COMPACT_MIGRATE]
        if start >= zones[z + Z_COMPACT_FREE]:
            zones[z + Z_COMPACT_FREE] = 0
            result = COMPLETE if whole else PARTIAL
        elif background and scanned >= SLICE_PAGEBLOCKS:
            result = CONTENDED
        else:
            found = 0
            if source_type == ANY_TYPE or pageblock_type(core, start) == source_type:
                found = migrate_pageblock(core, cpu, zone, start, background)
            zones[z + Z_COMPACT_MIGRATE] = start + PAGEBLOCK_PAGES
            scanned += 1
            moved += found
            if found > 0:
                empty_own_pageset(core, cpu, zone)
            if block_is_there(core, zone, order, migratetype):
                result = SUCCESS
    met = zones[z + Z_COMPACT_FREE] == 0
    release_targets(core, cpu, zone)
    if met:
        zones[z + Z_COMPACT_FREE] = 0
    record(core, cpu, recorder.COMPACTED, zone, order, scanned, moved, result)
    return result


@inner
def compact_zone(
    core: Core,
    cpu: int,
    zone: int,
    order: int,
    migratetype: int,
    highest: int,
    alloc_flags: int,
    source_type: int,
    background: bool,
) -> int:
    """Compact a zone if that is worth it and nobody else does; how it ended."""
    suitable = compaction_suitable(core, zone, order, highest, alloc_flags)
    if suitable != CONTINUE:
        return suitable
    z = zone * ZONE_WORDS
    if compare_exchange(core.zones, z + Z_COMPACT_BUSY, 0, cpu + 1) != 0:
        return CONTENDED
    result = scan_zone(core, cpu, zone, order, migratetype, source_type, background)
    store_release(core.zones, z + Z_COMPACT_BUSY, 0)
    return result
