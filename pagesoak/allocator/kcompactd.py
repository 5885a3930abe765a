"""kcompactd: compaction in the background, when kswapd has made room or a request cannot wait.

It runs on the CPU whose burst ends, some page blocks at a time, and goes on at the next chance.

Models Linux 6.1 and 6.12 `mm/compaction.c`: `wakeup_kcompactd`, `kcompactd_do_work`. Not modelled:
compaction ahead of need (proactiveness).
"""

from pagesoak.allocator.compact_zone import (
    ANY_TYPE,
    COMPLETE,
    CONTENDED,
    CONTINUE,
    PARTIAL,
    SKIPPED,
    SUCCESS,
    compact_zone,
    compaction_defer_reset,
    compaction_deferred,
    compaction_suitable,
    defer_compaction,
)
from pagesoak.allocator.pageset import drain_all_pagesets
from pagesoak.allocator.watermark import WMARK_MIN
from pagesoak.base.layout import (
    H_CPUS,
    H_KSWAPD_WAKE,
    H_ZONES,
    UNMOVABLE,
    Z_INDEX,
    Z_NODE,
    ZONE_WORDS,
    Core,
)
from pagesoak.base.layout_kernel import H_COMPACTION, Z_KCOMPACTD_ORDER
from pagesoak.base.native import inner


@inner
def wakeup_kcompactd(core: Core, node: int, order: int, highest: int) -> None:
    """Wake a node's kcompactd if some zone of it is worth compacting for the order."""
    if order == 0 or core.header[H_COMPACTION] == 0:
        return
    for zone in range(core.header[H_ZONES]):
        z = zone * ZONE_WORDS
        if core.zones[z + Z_NODE] != node or core.zones[z + Z_INDEX] > highest:
            continue
        if compaction_suitable(core, zone, order, highest, WMARK_MIN) == CONTINUE:
            known = core.zones[z + Z_KCOMPACTD_ORDER]
            core.zones[z + Z_KCOMPACTD_ORDER] = max(known, order)
            core.header[H_KSWAPD_WAKE] = 1


@inner
def run_kcompactd(core: Core, cpu: int) -> None:
    """What a CPU that has ended its burst gives kcompactd: some page blocks of each zone it was
    woken for. A zone that came to nothing is put off, with all pagesets empty.
    """
    if core.header[H_COMPACTION] == 0:
        return
    for zone in range(core.header[H_ZONES]):
        z = zone * ZONE_WORDS
        order = core.zones[z + Z_KCOMPACTD_ORDER]
        if order == 0:
            continue
        highest = core.zones[z + Z_INDEX]
        result = SKIPPED
        if not compaction_deferred(core, zone, order):
            result = compact_zone(
                core,
                cpu,
                zone,
                order,
                UNMOVABLE,
                highest,
                WMARK_MIN,
                ANY_TYPE,
                True,
            )
        if result == CONTENDED:
            core.header[H_KSWAPD_WAKE] = 1
            continue
        core.zones[z + Z_KCOMPACTD_ORDER] = 0
        if result == SUCCESS:
            compaction_defer_reset(core, zone, order, False)
        elif result in (COMPLETE, PARTIAL):
            drain_all_pagesets(core, cpu, core.header[H_CPUS])
            defer_compaction(core, zone, order)
