"""Direct reclaim: what an allocation does itself when memory is short, and what it could find.

Models Linux 6.1 `mm/vmscan.c`: `try_to_free_pages`, `do_try_to_free_pages`, `shrink_zones`,
`throttle_direct_reclaim`, `allow_direct_reclaim`, `zone_reclaimable_pages`. A sweep goes down the
priorities from 12 to 0 until it has freed 32 pages. One that frees nothing, but has left active
pages alone, is made once more and takes those too.

A request that is throttled waits for kswapd; here its CPU runs kswapd meanwhile, until the request
may go on, kswapd sleeps, or gives up. (In the kernel it would wait on where kswapd sleeps over a
balanced node: the fault that the change for CVE-2024-57884 was made against.)
"""

from pagesoak.allocator.gfp import GFP_ZONE_SHIFT, ZONE_NORMAL
from pagesoak.allocator.kswapd import FAILURES_MAX, SLICE_PAGES, run_node_alone
from pagesoak.allocator.node import in_node, node_at
from pagesoak.allocator.oom import is_victim
from pagesoak.allocator.profile import FREE_PAGES_ARE_RECLAIMABLE, kernel_has
from pagesoak.allocator.shrink import CLUSTER_PAGES, DIRECT, PRIORITY_FIRST, shrink_node
from pagesoak.allocator.watermark import WMARK_MIN, wmark_pages
from pagesoak.allocator.zonelist import zone_allowed, zonelist_zone
from pagesoak.base.layout import H_STOP, H_ZONES, Z_FREE_PAGES, Z_INDEX, Z_NODE, ZONE_WORDS, Core
from pagesoak.base.layout_reclaim import (
    N_AWAKE,
    N_FAILURES,
    N_HIGHEST_ZONE,
    Z_ACTIVE_FILE,
    Z_INACTIVE_FILE,
)
from pagesoak.base.native import inner
from pagesoak.base.statistics import KSWAPD_WAKES, STALLS, THROTTLES, count

NO_NODE = -1


@inner
def zone_reclaimable_pages(core: Core, zone: int) -> int:
    """What the kernel holds reclaimable in a zone, its file pages on the LRU lists; by most
    releases' rule its free pages where there are none (`profile`).
    """
    z = zone * ZONE_WORDS
    pages = core.zones[z + Z_INACTIVE_FILE] + core.zones[z + Z_ACTIVE_FILE]
    if pages == 0 and kernel_has(core, FREE_PAGES_ARE_RECLAIMABLE):
        return core.zones[z + Z_FREE_PAGES]
    return pages


@inner
def allow_direct_reclaim(core: Core, node: int) -> bool:
    """Whether a request may reclaim in this node by itself: more than half of the min marks of the
    zones that have something reclaimable is free, or kswapd is hopeless.
    """
    if core.header[node_at(node) + N_FAILURES] >= FAILURES_MAX:
        return True
    reserve = free = 0
    for zone in range(core.header[H_ZONES]):
        if in_node(core, zone, node, ZONE_NORMAL) and zone_reclaimable_pages(core, zone) > 0:
            reserve += wmark_pages(core, zone, WMARK_MIN)
            free += core.zones[zone * ZONE_WORDS + Z_FREE_PAGES]
    return reserve == 0 or free > reserve // 2


@inner
def throttling_node(core: Core, cpu: int, gfp: int) -> int:
    """The node whose state decides whether a request is throttled: that of the first zone up to
    Normal that it may use; NO_NODE when there is none.
    """
    for position in range(core.header[H_ZONES]):
        zone = zonelist_zone(core, cpu, position)
        z = zone * ZONE_WORDS
        if core.zones[z + Z_INDEX] <= ZONE_NORMAL and zone_allowed(core, cpu, zone, gfp):
            return core.zones[z + Z_NODE]
    return NO_NODE


@inner
def throttle_direct_reclaim(core: Core, cpu: int, node: int, owner: int) -> None:
    """Wait for kswapd while hardly anything is free; a process that is dying does not."""
    if is_victim(core, owner) or allow_direct_reclaim(core, node):
        return
    count(core, cpu, THROTTLES, 1)
    at = node_at(node)
    if core.header[at + N_AWAKE] == 0:
        highest = core.header[at + N_HIGHEST_ZONE]
        core.header[at + N_HIGHEST_ZONE] = min(highest, ZONE_NORMAL + 1)
        core.header[at + N_AWAKE] = 1
        count(core, cpu, KSWAPD_WAKES, 1)
    while core.header[at + N_AWAKE] != 0 and core.header[H_STOP] == 0:
        if not run_node_alone(core, cpu, node, SLICE_PAGES) or allow_direct_reclaim(core, node):
            return


@inner
def sweep(core: Core, cpu: int, gfp: int, force_deactivate: bool) -> tuple[int, bool]:
    """One sweep over the nodes the request may use: pages freed, and whether active pages were
    left alone. Each node is scanned once at a priority, in the order of the zonelist.
    """
    highest = gfp >> GFP_ZONE_SHIFT
    freed = 0
    skipped = False
    priority = PRIORITY_FIRST
    while priority >= 0 and freed < CLUSTER_PAGES and core.header[H_STOP] == 0:
        last = NO_NODE
        for position in range(core.header[H_ZONES]):
            zone = zonelist_zone(core, cpu, position)
            node = core.zones[zone * ZONE_WORDS + Z_NODE]
            if node == last or not zone_allowed(core, cpu, zone, gfp):
                continue
            last = node
            found = shrink_node(
                core, cpu, node, priority, highest, CLUSTER_PAGES, force_deactivate, DIRECT
            )
            freed += found.freed
            skipped = skipped or found.skipped_active
        priority -= 1
    return freed, skipped


@inner
def direct_reclaim(core: Core, cpu: int, gfp: int, owner: int) -> int:
    """Try to free pages on behalf of a request; how many came (`try_to_free_pages`).

    Each sweep counts a stall, as ALLOCSTALL in /proc/vmstat does.
    """
    node = throttling_node(core, cpu, gfp)
    if node != NO_NODE:
        throttle_direct_reclaim(core, cpu, node, owner)
    count(core, cpu, STALLS, 1)
    freed, skipped = sweep(core, cpu, gfp, False)
    if freed == 0 and skipped:
        count(core, cpu, STALLS, 1)
        freed, skipped = sweep(core, cpu, gfp, True)
    return freed
