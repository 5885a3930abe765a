"""Direct compaction: a request's own work for a block of its order and type, and for how long.

Models Linux 6.1 and 6.12 `mm/compaction.c`: `try_to_compact_pages`,
`compaction_zonelist_suitable`; `mm/page_alloc.c`: `should_compact_retry`. Not modelled: that a
request catches the block as it is freed (capture).
"""

from pagesoak.allocator.compact_zone import (
    ANY_TYPE,
    COMPLETE,
    COSTLY_ORDER,
    DEFERRED,
    PARTIAL,
    SKIPPED,
    SUCCESS,
    compact_zone,
    compaction_defer_reset,
    compaction_deferred,
    defer_compaction,
    room_to_compact,
)
from pagesoak.allocator.gfp import GFP_IO, GFP_ZONE_SHIFT
from pagesoak.allocator.reclaim import zone_reclaimable_pages
from pagesoak.allocator.zonelist import zone_allowed, zonelist_zone
from pagesoak.base.layout import H_ZONES, Z_FREE_PAGES, ZONE_WORDS, Core
from pagesoak.base.layout_kernel import H_COMPACTION
from pagesoak.base.native import inner

PRIORITY_SYNC_FULL = 0
PRIORITY_SYNC_LIGHT = 1
PRIORITY_ASYNC = 2
"""How hard a request tries; the lower the harder (enum compact_priority)."""
RETRIES_MAX = 16
"""MAX_COMPACT_RETRIES; a quarter for costly orders."""
COSTLY_RETRIES_DIVISOR = 4
NO_RETRY = -1


@inner
def try_to_compact_pages(
    core: Core, cpu: int, order: int, migratetype: int, gfp: int, alloc_flags: int, priority: int
) -> int:
    """A request compacts its zones in turn until one has a block; the best of how they ended."""
    best = SKIPPED
    if core.header[H_COMPACTION] == 0 or gfp & GFP_IO == 0:
        return best
    source_type = migratetype if priority == PRIORITY_ASYNC else ANY_TYPE
    for position in range(core.header[H_ZONES]):
        zone = zonelist_zone(core, cpu, position)
        if not zone_allowed(core, cpu, zone, gfp):
            continue
        if priority > PRIORITY_SYNC_FULL and compaction_deferred(core, zone, order):
            best = max(best, DEFERRED)
            continue
        highest = gfp >> GFP_ZONE_SHIFT
        status = compact_zone(
            core,
            cpu,
            zone,
            order,
            migratetype,
            highest,
            alloc_flags,
            source_type,
            False,
        )
        best = max(best, status)
        if status == SUCCESS:
            compaction_defer_reset(core, zone, order, False)
            break
        if priority != PRIORITY_ASYNC and status in (COMPLETE, PARTIAL):
            defer_compaction(core, zone, order)
    return best


@inner
def some_zone_suitable(core: Core, cpu: int, order: int, gfp: int) -> bool:
    """Whether compaction could work somewhere if reclaim went on."""
    for position in range(core.header[H_ZONES]):
        zone = zonelist_zone(core, cpu, position)
        if zone_allowed(core, cpu, zone, gfp):
            available = zone_reclaimable_pages(core, zone) // order
            available += core.zones[zone * ZONE_WORDS + Z_FREE_PAGES]
            if room_to_compact(core, zone, order, gfp >> GFP_ZONE_SHIFT, available):
                return True
    return False


@inner
def should_compact_retry(
    core: Core, cpu: int, order: int, gfp: int, result: int, priority: int, retries: int
) -> tuple[int, int]:
    """Whether a request for which reclaim made progress goes on for another compaction: priority
    and count of retries from then on, NO_RETRY if it does not.
    """
    if order == 0 or core.header[H_COMPACTION] == 0 or gfp & GFP_IO == 0:
        return priority, NO_RETRY
    if result == SKIPPED:
        return priority, retries if some_zone_suitable(core, cpu, order, gfp) else NO_RETRY
    most = RETRIES_MAX
    if order > COSTLY_ORDER:
        most //= COSTLY_RETRIES_DIVISOR
    if result == SUCCESS and retries < most:
        return priority, retries + 1
    hardest = PRIORITY_SYNC_LIGHT if order > COSTLY_ORDER else PRIORITY_SYNC_FULL
    if priority > hardest:
        return priority - 1, 0
    return priority, NO_RETRY
