"""How much free memory reporting leaves alone: the gate before a zone, the isolation of one block.

Two tests that look alike and differ where it matters. The gate asks, once per zone and pass and
without the lock, for *low* with the boost plus one full list of the smallest blocks. Afterwards
only isolation's own test holds, and it asks for the raw *min*, without boost, plus the block
itself: so a list of larger blocks may take a zone down to one page above min. Neither counts a
lowmem reserve.

Models Linux 6.1 `mm/page_reporting.c`: `page_reporting_process_zone` (the gate); isolation's own
rule is in `allocator.isolation`. Rules and test IDs: docs/model.md, 7.2, 7.3 and 7.6.
"""

from pagesoak.allocator.buddy import note_free_pages, set_block
from pagesoak.allocator.isolation import HIGHEST_ZONE_NONE, NO_RIGHTS, isolate_from_list
from pagesoak.allocator.watermark import WMARK_HIGH, WMARK_LOW, wmark_pages, zone_watermark_ok
from pagesoak.base import recorder
from pagesoak.base.layout import (
    H_ISOLATED_PAGES_MAX,
    H_ZONES,
    KIND_ISOLATED,
    R_CAPACITY,
    R_OFFSET,
    R_ORDER,
    R_REQUEST,
    REPORTING_CAPACITY,
    Z_BOOST,
    Z_FREE_PAGES,
    Z_ISOLATED,
    Z_ISOLATED_MAX,
    Z_LOWMEM_RESERVE,
    Z_MANAGED,
    Z_NR_FREE,
    Z_REPORTED,
    Z_RESERVED_HIGHATOMIC,
    Z_WMARK_HIGH,
    Z_WMARK_LOW,
    Z_WMARK_MIN,
    ZONE_WORDS,
    Core,
    open_core,
)
from pagesoak.base.layout_demand import Z_WAIT_FREE_PAGES
from pagesoak.base.layout_reporting import R_FACTOR
from pagesoak.base.native import entry, inner
from pagesoak.base.recorder import record
from pagesoak.base.statistics import GATES_CLOSED, count
from pagesoak.reporter.factor import room_under_factor
from pagesoak.reporter.scatterlist import pages_from

LOWMEM_RESERVES = 5
"""Words of `Z_LOWMEM_RESERVE`."""


@inner
def note_isolated(core: Core, zone: int, pages: int) -> None:
    """Count pages into or out of isolation; keep the most, of the zone and of all together."""
    zones = core.zones
    z = zone * ZONE_WORDS
    zones[z + Z_ISOLATED] += pages
    zones[z + Z_ISOLATED_MAX] = max(zones[z + Z_ISOLATED_MAX], zones[z + Z_ISOLATED])
    total = 0
    for other in range(core.header[H_ZONES]):
        total += zones[other * ZONE_WORDS + Z_ISOLATED]
    core.header[H_ISOLATED_PAGES_MAX] = max(core.header[H_ISOLATED_PAGES_MAX], total)


@inner
def isolate_free_page(core: Core, zone: int, pfn: int, order: int) -> bool:
    """Isolate a free block for a report; False when that would leave too little."""
    if not isolate_from_list(core, zone, pfn, order):
        return False
    set_block(core.pages, pfn, KIND_ISOLATED | order)
    note_isolated(core, zone, 1 << order)
    note_free_pages(core, zone)
    return True


@inner
def reporting_gate(core: Core, worker: int, zone: int) -> bool:
    """Whether a pass may work on the zone. No lock, as in the kernel.

    A zone that has reached `reporting_factor` never comes to its gate.
    """
    core.zones[zone * ZONE_WORDS + Z_WAIT_FREE_PAGES] = 0
    if room_under_factor(core, zone) <= 0:
        reported = core.zones[zone * ZONE_WORDS + Z_REPORTED]
        factor = core.report[R_FACTOR] - 1
        record(core, worker, recorder.FACTOR_REACHED, zone, reported, factor, 0, 0)
        return False
    full_list = core.report[R_CAPACITY] << core.report[R_ORDER]
    needed = wmark_pages(core, zone, WMARK_LOW) + full_list
    if zone_watermark_ok(core, zone, 0, needed, HIGHEST_ZONE_NONE, NO_RIGHTS):
        return True
    free = core.zones[zone * ZONE_WORDS + Z_FREE_PAGES]
    count(core, worker, GATES_CLOSED, 1)
    record(core, worker, recorder.GATE_CLOSED, zone, free, needed, 0, 0)
    return False


@inner
def first_open_zone(core: Core, worker: int, zone: int, zones: int) -> int:
    """`open_zone` from within."""
    while zone < zones and not reporting_gate(core, worker, zone):
        zone += 1
    return zone


@entry
def open_zone(base: int, worker: int, zone: int, zones: int, _until_ns: int) -> int:
    """The first zone from this one on whose gate is open, `zones` when there is none."""
    return first_open_zone(open_core(base), worker, zone, zones)


@inner
def kept_free_pages(core: Core, zone: int) -> int:
    """What must stay free besides what a guest may take: the high mark with its boost, and free
    pages that are not for every request.
    """
    return wmark_pages(core, zone, WMARK_HIGH) + reserved_pages(core, zone)


@inner
def reserved_pages(core: Core, zone: int) -> int:
    """Free, and yet not for every request: the HIGHATOMIC reserve, the largest lowmem reserve."""
    z = zone * ZONE_WORDS
    reserve = 0
    for highest_zone in range(LOWMEM_RESERVES):
        reserve = max(reserve, core.zones[z + Z_LOWMEM_RESERVE + highest_zone])
    return int(core.zones[z + Z_RESERVED_HIGHATOMIC] + reserve)


@entry
def look_at_zone(base: int, zone: int) -> tuple[int, ...]:
    """What `policy.ZoneView` holds of a zone, from `managed_pages` on; no lock."""
    zones = open_core(base).zones
    z = zone * ZONE_WORDS
    return (
        zones[z + Z_MANAGED],
        zones[z + Z_FREE_PAGES],
        zones[z + Z_ISOLATED],
        zones[z + Z_REPORTED],
        zones[z + Z_RESERVED_HIGHATOMIC],
        zones[z + Z_WMARK_MIN],
        zones[z + Z_WMARK_LOW],
        zones[z + Z_WMARK_HIGH],
        zones[z + Z_BOOST],
    )


@entry
def look_at_hold(base: int, zone: int, order: int) -> tuple[int, ...]:
    """What `policy.HoldView` holds of a zone, from `free_pages` on; no lock."""
    core = open_core(base)
    z = zone * ZONE_WORDS
    return (
        core.zones[z + Z_FREE_PAGES],
        core.zones[z + Z_ISOLATED],
        core.zones[z + Z_NR_FREE + order],
        REPORTING_CAPACITY - core.report[R_OFFSET],
    )


@entry
def look_at_headroom(base: int, zone: int) -> tuple[int, ...]:
    """What `policy.HoldView` holds of a zone from `pending_pages` to `blocks`; no lock."""
    core = open_core(base)
    offset = core.report[R_OFFSET]
    zones = core.zones
    z = zone * ZONE_WORDS
    b = z + Z_NR_FREE
    return (
        pages_from(core, offset) if offset < REPORTING_CAPACITY else 0,
        int(core.report[R_REQUEST] != 0),
        zones[z + Z_MANAGED],
        zones[z + Z_WMARK_MIN],
        zones[z + Z_WMARK_LOW],
        zones[z + Z_WMARK_HIGH],
        zones[z + Z_BOOST],
        reserved_pages(core, zone),
        zones[b],
        zones[b + 1],
        zones[b + 2],
        zones[b + 3],
        zones[b + 4],
        zones[b + 5],
        zones[b + 6],
        zones[b + 7],
        zones[b + 8],
        zones[b + 9],
        zones[b + 10],
    )
