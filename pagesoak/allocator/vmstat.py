"""Pages of other nodes that a CPU keeps in its pagesets go back when it no longer uses them.

Once a second a CPU's statistics are folded into those of the zones. On the way a pageset of a zone
of another node is looked at: three looks after the zone's last statistics from this CPU a batch of
it goes back, which is a change of the statistics itself, so another batch goes three looks later.
Pagesets of the own node are never emptied so.

Here the work is done by a CPU between its bursts: one that rests keeps what it has, as an idle CPU
of the kernel does. A zone's statistics are taken to have changed when pages came or went through
the pageset.

Models Linux 6.1 `mm/vmstat.c` (`refresh_cpu_vm_stats`, its part for NUMA) and `mm/page_alloc.c`
(`drain_zone_pages`).
"""

from pagesoak.allocator.pageset import drain_pages
from pagesoak.allocator.pageset_lock import enter_pageset, leave_pageset, pageset_at
from pagesoak.allocator.zonelist import is_local
from pagesoak.base.layout import (
    H_ZONES,
    P_ALLOCATED,
    P_BATCH,
    P_COUNT,
    WORKER_WORDS,
    Z_NODE,
    ZONE_WORDS,
    Core,
)
from pagesoak.base.layout_nodes import P_EXPIRE, P_SEEN_ALLOCATED, P_SEEN_COUNT, W_VMSTAT_NS
from pagesoak.base.native import inner

STAT_INTERVAL_NS = 1_000_000_000
"""`vm.stat_interval`, 1 s."""
EXPIRE_LOOKS = 3
"""Looks from a zone's last statistics on until its pages go back."""
FIRST_LIST = 0


@inner
def look_at_pageset(core: Core, p: int) -> bool:
    """One look: whether a batch is due."""
    if (
        core.pagesets[p + P_ALLOCATED] != core.pagesets[p + P_SEEN_ALLOCATED]
        or core.pagesets[p + P_COUNT] != core.pagesets[p + P_SEEN_COUNT]
    ):
        core.pagesets[p + P_SEEN_ALLOCATED] = core.pagesets[p + P_ALLOCATED]
        core.pagesets[p + P_SEEN_COUNT] = core.pagesets[p + P_COUNT]
        core.pagesets[p + P_EXPIRE] = EXPIRE_LOOKS
    if core.pagesets[p + P_EXPIRE] == 0 or core.pagesets[p + P_COUNT] == 0:
        return False
    core.pagesets[p + P_EXPIRE] -= 1
    return core.pagesets[p + P_EXPIRE] == 0


@inner
def refresh_remote_pagesets(core: Core, cpu: int, now: int) -> None:
    """The look of a CPU at its pagesets of other nodes, at most once a second; `now` in ns."""
    zones = core.header[H_ZONES]
    if core.zones[(zones - 1) * ZONE_WORDS + Z_NODE] == 0:
        return  # one node
    w = cpu * WORKER_WORDS + W_VMSTAT_NS
    if now - core.workers[w] < STAT_INTERVAL_NS:
        return
    core.workers[w] = now
    for zone in range(zones):
        if is_local(core, cpu, zone):
            continue
        p = pageset_at(core, cpu, zone)
        if enter_pageset(core, p):
            if look_at_pageset(core, p):
                drain_pages(core, p, cpu, zone, core.pagesets[p + P_BATCH], FIRST_LIST)
            leave_pageset(core, p)
