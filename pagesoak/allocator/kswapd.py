"""kswapd, as far as this version has it: it takes the watermark boost back.

Models the end of `balance_pgdat` (Linux 6.1 `mm/vmscan.c`). There is no page cache here, so there
is nothing it could reclaim.
"""

from pagesoak.allocator.page_alloc import total_pages
from pagesoak.base.layout import (
    H_KSWAPD_WAKE,
    H_ZONES,
    Z_BOOST,
    Z_BOOSTED,
    ZONE_WORDS,
    Core,
)
from pagesoak.base.lock import HELD, lock_zone, unlock_zone
from pagesoak.base.native import inner
from pagesoak.base.statistics import KSWAPD_RUNS, count


@inner
def run_kswapd(core: Core, worker: int) -> None:
    """Kswapd's run, as far as this version has it: woken, it takes back the boost it finds, and
    sleeps again.

    Source: `balance_pgdat` (Linux 6.1 `mm/vmscan.c`): the boost seen at the start is subtracted at
    the end. It is woken by the slow path, and by an allocation that finds the zone boosted.
    """
    if core.header[H_KSWAPD_WAKE] == 0 and total_pages(core, Z_BOOSTED) == 0:
        return
    core.header[H_KSWAPD_WAKE] = 0
    for zone in range(core.header[H_ZONES]):
        z = zone * ZONE_WORDS
        if core.zones[z + Z_BOOST] != 0 and lock_zone(core, zone, worker) == HELD:
            core.zones[z + Z_BOOST] = 0
            core.zones[z + Z_BOOSTED] = 0
            unlock_zone(core, zone, worker)
    count(core, worker, KSWAPD_RUNS, 1)
