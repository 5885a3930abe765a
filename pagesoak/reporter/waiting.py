"""A zone that is left alone until more of it is free.

A policy may ask that an isolation leaves so many pages free (`policy.Hold.leave_free_pages`).
Where no block can be isolated under that and none is pending, the zone *waits*: a free of any
order that lifts its free pages to that floor and one block asks for a pass (`allocator.notify`
tests that only while a zone waits); and because a floor may come down by itself, as old demands
are forgotten, the policy is asked again after a while, each time after twice as long. Zones stop
waiting when a pass begins. A reporter that waits is at rest: no block is isolated, no pass is
under way.

No kernel does this; it belongs to `reporter.policies.headroom`.
"""

from pagesoak.allocator.notify import page_reporting_request, request_for_free_pages
from pagesoak.base import recorder
from pagesoak.base.layout import (
    R_STATE,
    Z_FREE_PAGES,
    ZONE_WORDS,
    open_core,
)
from pagesoak.base.layout_demand import Z_WAIT_FREE_PAGES
from pagesoak.base.lock import HELD, lock_zone, unlock_zone
from pagesoak.base.native import entry
from pagesoak.base.recorder import record
from pagesoak.base.statistics import REPORTER_WAITS, count

NO_BLOCK = -1
"""In place of the block that caused a request."""


@entry
def wait_for_free(
    base: int, worker: int, zone: int, order: int, floor_pages: int, retry_ns: int, _until_ns: int
) -> int:
    """Let frees of the zone ask for a pass from `floor_pages` and one block of the order on.
    Returns the free pages; -1 if the lock was not to be had.
    """
    core = open_core(base)
    if lock_zone(core, zone, worker) != HELD:
        return -1
    z = zone * ZONE_WORDS
    free = core.zones[z + Z_FREE_PAGES]
    core.zones[z + Z_WAIT_FREE_PAGES] = floor_pages + (1 << order)
    record(core, worker, recorder.WAITING, zone, order, free, floor_pages, retry_ns)
    count(core, worker, REPORTER_WAITS, 1)
    request_for_free_pages(core, worker, zone, NO_BLOCK, order)  # one came since the visit
    unlock_zone(core, zone, worker)
    return free


@entry
def request_pass(base: int, worker: int, _until_ns: int) -> int:
    """Ask for a pass because a floor has come down; returns the state."""
    core = open_core(base)
    page_reporting_request(core, worker, NO_BLOCK, NO_BLOCK)
    return core.report[R_STATE]
