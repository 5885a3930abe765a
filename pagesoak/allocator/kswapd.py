"""kswapd: woken when a node is out of balance or boosted, it reclaims until the node is balanced.

Models Linux 6.1 `mm/vmscan.c`: `wakeup_kswapd`, `balance_pgdat`, `kswapd_shrink_node`. A run goes
down the priorities from 12 to 1; while it lasts pagesets keep less (ZONE_RECLAIM_ACTIVE). A run on
account of boosts alone stops at the first look that gives nothing. At the end the boosts that were
there when it began are taken back. MAX_RECLAIM_RETRIES runs that freed nothing, and the node is
left to direct reclaim until that frees something; a boost stays then.

kswapd runs on the CPU that woke it, when that CPU's burst ends (and it ends soon): a burst lets it
scan so many pages, and the run goes on at the next chance. Not modelled: ageing of anonymous
pages, its short sleep before the long one, writing pages out by itself (the flusher does).
"""

from pagesoak.allocator.gfp import GFP_DIRECT_RECLAIM, GFP_ZONE_SHIFT
from pagesoak.allocator.kcompactd import run_kcompactd, wakeup_kcompactd
from pagesoak.allocator.node import in_node, node_at, pgdat_balanced, pgdat_boosted
from pagesoak.allocator.shrink import (
    CLUSTER_PAGES,
    KSWAPD,
    PRIORITY_FIRST,
    shrink_node,
)
from pagesoak.allocator.watermark import WMARK_HIGH, wmark_pages
from pagesoak.allocator.zonelist import zone_allowed, zonelist_zone
from pagesoak.base.external import compare_exchange, store_release
from pagesoak.base.layout import (
    H_KSWAPD_WAKE,
    H_STOP,
    H_ZONES,
    PAGEBLOCK_ORDER,
    Z_BOOST,
    Z_BOOSTED,
    Z_INDEX,
    Z_NODE,
    Z_RECLAIM_ACTIVE,
    ZONE_WORDS,
    Core,
)
from pagesoak.base.layout_reclaim import (
    N_ALLOC_ORDER,
    N_AWAKE,
    N_BOOST_LEFT,
    N_FAILURES,
    N_HIGHEST_ZONE,
    N_ORDER,
    N_PRIORITY,
    N_RUN_ORDER,
    N_RUN_RECLAIMED,
    N_RUN_ZONE,
    N_RUNNING,
    NODES_MAX,
    Z_BOOST_SEEN,
)
from pagesoak.base.lock import HELD, lock_zone, unlock_zone
from pagesoak.base.native import inner
from pagesoak.base.statistics import KSWAPD_RUNS, KSWAPD_WAKES, count

FAILURES_MAX = 16
"""Runs without a page before kswapd gives up (MAX_RECLAIM_RETRIES)."""
SLICE_PAGES = 32_768
"""Scanned before a burst's CPU looks after other things again: some milliseconds."""
BOOST_PRIORITY_MIN = PRIORITY_FIRST - 2
"""A run for boosts alone looks no deeper."""
COMPACT_GAP = 2
"""So many times the block reclaimed, the run goes on for single pages (`compact_gap`)."""


@inner
def wakeup_kswapd(core: Core, worker: int, node: int, order: int, highest_zone: int) -> bool:
    """Wake a node's kswapd for a request, unless it is hopeless or has nothing to do; whether it
    is awake.
    """
    at = node_at(node)
    header = core.header
    header[at + N_HIGHEST_ZONE] = max(header[at + N_HIGHEST_ZONE], highest_zone + 1)
    header[at + N_ORDER] = max(header[at + N_ORDER], order)
    if header[at + N_AWAKE] != 0:
        return True
    if header[at + N_FAILURES] >= FAILURES_MAX:
        return False
    balanced = pgdat_balanced(core, node, order, highest_zone)
    if balanced and not pgdat_boosted(core, node, highest_zone):
        return False
    header[at + N_AWAKE] = 1
    header[H_KSWAPD_WAKE] = 1
    count(core, worker, KSWAPD_WAKES, 1)
    return True


@inner
def wake_all_kswapds(core: Core, cpu: int, order: int, gfp: int) -> None:
    """Wake the kswapd of each node that has a zone the request may use (`wake_all_kswapds`)."""
    last = -1
    for position in range(core.header[H_ZONES]):
        zone = zonelist_zone(core, cpu, position)
        node = core.zones[zone * ZONE_WORDS + Z_NODE]
        if node != last and zone_allowed(core, cpu, zone, gfp):
            highest = gfp >> GFP_ZONE_SHIFT
            awake = wakeup_kswapd(core, cpu, node, order, highest)
            if not awake and gfp & GFP_DIRECT_RECLAIM == 0:
                wakeup_kcompactd(core, node, order, highest)
            last = node


@inner
def wake_for_boosts(core: Core, worker: int) -> None:
    """What `rmqueue` does when it finds its zone freshly boosted."""
    for zone in range(core.header[H_ZONES]):
        z = zone * ZONE_WORDS
        if core.zones[z + Z_BOOSTED] != 0:
            core.zones[z + Z_BOOSTED] = 0
            wakeup_kswapd(core, worker, core.zones[z + Z_NODE], 0, core.zones[z + Z_INDEX])


@inner
def begin_run(core: Core, node: int) -> None:
    """Begin a run with what it was woken for (`kswapd`, start of `balance_pgdat`)."""
    at = node_at(node)
    header = core.header
    if header[at + N_HIGHEST_ZONE] != 0:
        header[at + N_RUN_ZONE] = header[at + N_HIGHEST_ZONE] - 1
    header[at + N_RUN_ORDER] = header[at + N_ORDER]
    header[at + N_ALLOC_ORDER] = header[at + N_ORDER]
    header[at + N_HIGHEST_ZONE] = 0
    header[at + N_ORDER] = 0
    header[at + N_PRIORITY] = PRIORITY_FIRST
    header[at + N_RUN_RECLAIMED] = 0
    boost = 0
    for zone in range(header[H_ZONES]):
        if in_node(core, zone, node, header[at + N_RUN_ZONE]):
            z = zone * ZONE_WORDS
            core.zones[z + Z_BOOST_SEEN] = core.zones[z + Z_BOOST]
            core.zones[z + Z_RECLAIM_ACTIVE] = 1
            boost += core.zones[z + Z_BOOST]
    header[at + N_BOOST_LEFT] = boost


@inner
def end_run(core: Core, worker: int, node: int) -> None:
    """Take back the boosts that the run saw when it began, and let pagesets keep what they may."""
    at = node_at(node)
    boosted = False
    for zone in range(core.header[H_ZONES]):
        z = zone * ZONE_WORDS
        if not in_node(core, zone, node, core.header[at + N_RUN_ZONE]):
            continue
        core.zones[z + Z_RECLAIM_ACTIVE] = 0
        if core.zones[z + Z_BOOST_SEEN] != 0 and lock_zone(core, zone, worker) == HELD:
            taken = min(core.zones[z + Z_BOOST], core.zones[z + Z_BOOST_SEEN])
            core.zones[z + Z_BOOST] -= taken
            core.zones[z + Z_BOOST_SEEN] = 0
            unlock_zone(core, zone, worker)
            boosted = True
    if boosted:
        wakeup_kcompactd(core, node, PAGEBLOCK_ORDER, core.header[at + N_RUN_ZONE])
    core.header[at + N_PRIORITY] = 0
    count(core, worker, KSWAPD_RUNS, 1)


@inner
def kswapd_wants(core: Core, node: int, highest_zone: int) -> int:
    """Pages that one look aims at: what the zones' high marks ask for together."""
    wanted = 0
    for zone in range(core.header[H_ZONES]):
        if in_node(core, zone, node, highest_zone):
            wanted += max(wmark_pages(core, zone, WMARK_HIGH), CLUSTER_PAGES)
    return wanted


@inner
def look(core: Core, worker: int, node: int) -> tuple[int, bool]:
    """One look of a run at its priority: pages scanned, and whether the run is over."""
    at = node_at(node)
    header = core.header
    zone = header[at + N_RUN_ZONE]
    balanced = pgdat_balanced(core, node, header[at + N_RUN_ORDER], zone)
    if not balanced and header[at + N_BOOST_LEFT] > 0:
        header[at + N_BOOST_LEFT] = 0
        header[at + N_PRIORITY] = PRIORITY_FIRST
        return 0, False
    if balanced and header[at + N_BOOST_LEFT] == 0:
        return 0, True
    priority = header[at + N_PRIORITY]
    raises = header[at + N_BOOST_LEFT] == 0 or priority != BOOST_PRIORITY_MIN
    wanted = kswapd_wants(core, node, zone)
    found = shrink_node(core, worker, node, priority, zone, wanted, False, KSWAPD)
    freed = found.freed
    header[at + N_RUN_RECLAIMED] += freed
    order = header[at + N_RUN_ORDER]
    if order > 0 and header[at + N_RUN_RECLAIMED] >= COMPACT_GAP << order:
        header[at + N_RUN_ORDER] = 0
    if found.scanned >= wanted:
        raises = False
    header[at + N_BOOST_LEFT] -= min(header[at + N_BOOST_LEFT], freed)
    fruitless_boost = header[at + N_BOOST_LEFT] > 0 and freed == 0
    if not fruitless_boost and (raises or freed == 0):
        header[at + N_PRIORITY] -= 1
    if fruitless_boost or header[at + N_PRIORITY] == 0:
        if header[at + N_RUN_RECLAIMED] == 0:
            header[at + N_FAILURES] += 1
        return found.scanned + found.deactivated, True
    return found.scanned + found.deactivated, False


@inner
def run_node(core: Core, worker: int, node: int, pages: int) -> int:
    """Let a node's kswapd scan about `pages` pages; pages scanned. After a run it sleeps when it
    is hopeless, or the node is balanced for what came meanwhile, order 0 if nothing did.
    """
    at = node_at(node)
    header = core.header
    scanned = 0
    while header[at + N_AWAKE] != 0 and scanned < pages and header[H_STOP] == 0:
        if header[at + N_PRIORITY] == 0:
            begin_run(core, node)
        looked, over = look(core, worker, node)
        scanned += looked
        if not over:
            continue
        order = header[at + N_ORDER]
        zone = header[at + N_RUN_ZONE]
        if header[at + N_HIGHEST_ZONE] != 0:
            zone = header[at + N_HIGHEST_ZONE] - 1
        end_run(core, worker, node)
        hopeless = header[at + N_FAILURES] >= FAILURES_MAX
        if hopeless or pgdat_balanced(core, node, order, zone):
            header[at + N_AWAKE] = 0
            wakeup_kcompactd(core, node, header[at + N_ALLOC_ORDER], zone)
    return scanned


@inner
def run_node_alone(core: Core, worker: int, node: int, pages: int) -> bool:
    """`run_node` if nobody else does; whether it did."""
    at = node_at(node)
    if compare_exchange(core.header, at + N_RUNNING, 0, worker + 1) != 0:
        return False
    run_node(core, worker, node, pages)
    store_release(core.header, at + N_RUNNING, 0)
    return True


@inner
def run_kswapd(core: Core, worker: int) -> None:
    """What a CPU that has ended its burst gives kswapd: nothing unless somebody woke it."""
    if core.header[H_KSWAPD_WAKE] == 0:
        return
    core.header[H_KSWAPD_WAKE] = 0
    wake_for_boosts(core, worker)
    for node in range(NODES_MAX):
        if core.header[node_at(node) + N_AWAKE] == 0:
            continue
        run_node_alone(core, worker, node, SLICE_PAGES)
        if core.header[node_at(node) + N_AWAKE] != 0:
            core.header[H_KSWAPD_WAKE] = 1
    run_kcompactd(core, worker)
