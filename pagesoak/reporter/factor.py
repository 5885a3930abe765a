"""`reporting_factor`: how much of a zone may be Reported, a knob beside every policy.

A percentage of the zone's managed pages. A zone that has as many Reported pages is left out of a
pass, before its gate; and after every isolation the Reported pages plus an estimate of the pending
ones are tested, which ends the visits of the zone with a short batch. The estimate takes all
pending entries to be of the order at hand: with 20 of order 9 and one of order 10 it is nearly
twice what is pending. A kernel without these patches has no such test, not even at 100.

Models patches 1 to 3 of Xunlei Pang's series of 26 March 2021 (ML-1 to ML-3), which were never
merged. Rules and test IDs: docs/model.md, 9.1.
"""

from pagesoak.allocator.buddy import count_free_pages, free_one_page, rmqueue_smallest
from pagesoak.allocator.watermark import WMARK_LOW, wmark_pages, zone_watermark_ok
from pagesoak.base.layout import (
    H_ZONES,
    MOVABLE,
    PAGEBLOCK_ORDER,
    R_OFFSET,
    REPORTING_CAPACITY,
    Z_MANAGED,
    Z_REPORTED,
    ZONE_WORDS,
    Core,
    open_core,
)
from pagesoak.base.layout_reporting import R_FACTOR
from pagesoak.base.lock import HELD, lock_zone, unlock_zone
from pagesoak.base.native import entry, inner, leaf

FACTOR_MAX = 100
"""Percent."""
UNLIMITED = 1 << 60
"""Room in a zone without the knob: more pages than any zone has."""
HIGHEST_ZONE_NONE = 0
"""The block that a raise takes is asked for without a lowmem reserve to keep."""
NO_RIGHTS = 0
NO_FLAGS = 0
"""Of the free after it: at the head, and it notifies."""


@leaf
def factor_threshold(managed_pages: int, factor: int) -> int:
    """Pages of a zone that may be Reported."""
    return managed_pages * factor // FACTOR_MAX


@leaf
def pending_estimate(pending_entries: int, order: int) -> int:
    """Pages that so many pending entries are taken to hold while a list of this order is seen."""
    return pending_entries << order


@inner
def room_under_factor(core: Core, zone: int) -> int:
    """Pages that may still become Reported in the zone; 0 or less: none."""
    factor = core.report[R_FACTOR] - 1
    if factor < 0:
        return UNLIMITED
    z = zone * ZONE_WORDS
    return int(factor_threshold(core.zones[z + Z_MANAGED], factor) - core.zones[z + Z_REPORTED])


@inner
def pending_reaches(core: Core, room_pages: int, order: int) -> bool:
    """Whether what is pending, by the estimate, fills the room."""
    pending = REPORTING_CAPACITY - core.report[R_OFFSET]
    return pending_estimate(pending, order) >= room_pages


@inner
def _provoke_notification(core: Core, worker: int, zone: int) -> bool:
    """Take a page block and give it back, so that its free asks for a pass; whether it was so.

    Without rights to reclaim: where the low mark does not allow it, nothing happens.
    """
    mark = wmark_pages(core, zone, WMARK_LOW)
    order = PAGEBLOCK_ORDER
    if not zone_watermark_ok(core, zone, order, mark, HIGHEST_ZONE_NONE, NO_RIGHTS):
        return False
    if lock_zone(core, zone, worker) != HELD:
        return False
    pfn = rmqueue_smallest(core, zone, order, MOVABLE)
    if pfn >= 0:
        count_free_pages(core, zone, -(1 << order))
        free_one_page(core, worker, zone, pfn, order, MOVABLE, NO_FLAGS)
    unlock_zone(core, zone, worker)
    return pfn >= 0


@entry
def set_reporting_factor(base: int, worker: int, factor: int, _until_ns: int) -> int:
    """Set the knob, 0 to 100 percent, at any time; returns what it was, -1 for none.

    Raised, it provokes a free that asks for a pass, in the highest zone that has a block to spare;
    if none has, reporting goes on at the next such free.
    """
    core = open_core(base)
    before = core.report[R_FACTOR] - 1
    core.report[R_FACTOR] = factor + 1
    if 0 <= before < factor:
        for below_top in range(core.header[H_ZONES]):
            zone = core.header[H_ZONES] - 1 - below_top
            if _provoke_notification(core, worker, zone):
                break
    return before
