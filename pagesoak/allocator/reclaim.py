"""Direct reclaim: what an allocation does itself when memory is short, and what it could find.

Models Linux 6.1 `mm/vmscan.c`: `try_to_free_pages`, `zone_reclaimable_pages`. Nothing is
reclaimable here yet, so a call counts its stall and comes back at once.
"""

from pagesoak.allocator.profile import FREE_PAGES_ARE_RECLAIMABLE, kernel_has
from pagesoak.base.layout import (
    Z_FREE_PAGES,
    ZONE_WORDS,
    Core,
)
from pagesoak.base.layout_reclaim import Z_ACTIVE_FILE, Z_INACTIVE_FILE
from pagesoak.base.native import inner
from pagesoak.base.statistics import STALLS, count


@inner
def lru_pages(core: Core, zone: int) -> int:
    """Pages of a zone on the lists that reclaim scans: file pages, as there is no swap."""
    z = zone * ZONE_WORDS
    return core.zones[z + Z_INACTIVE_FILE] + core.zones[z + Z_ACTIVE_FILE]


@inner
def zone_reclaimable_pages(core: Core, zone: int) -> int:
    """What the kernel holds reclaimable in a zone; by most releases' rule its free pages where
    nothing is (`profile`).
    """
    pages = lru_pages(core, zone)
    if pages == 0 and kernel_has(core, FREE_PAGES_ARE_RECLAIMABLE):
        return core.zones[zone * ZONE_WORDS + Z_FREE_PAGES]
    return pages


@inner
def direct_reclaim(core: Core, cpu: int) -> int:
    """Try to free pages on behalf of a request; how many came (`try_to_free_pages`).

    Each entry counts a stall, as ALLOCSTALL in /proc/vmstat does.
    """
    count(core, cpu, STALLS, 1)
    return 0
