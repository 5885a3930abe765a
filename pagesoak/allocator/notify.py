"""Asking for a reporting pass: the one part of page reporting that runs inside the allocator.

A free whose merged block reaches `page_reporting_order` asks for a pass, as do registration of the
device and a pass that ran out of budget. The first request of an idle device schedules the delayed
work; others change nothing until it runs.

A policy may leave a zone alone until more of it is free (`reporter.policies.headroom`): then a
free of any order that lifts it there asks, too. No kernel has that part.

Models Linux 6.1 `mm/page_reporting.h` (`page_reporting_notify_free`) and `mm/page_reporting.c`
(`__page_reporting_request`). States and transitions: docs/model.md, "State machine".
"""

from pagesoak.base import recorder
from pagesoak.base.clock import ask_to_yield, now_ns
from pagesoak.base.external import exchange, wake_eventfd
from pagesoak.base.layout import (
    IDLE,
    R_DELAY_NS,
    R_EVENTFD,
    R_NOTIFY_SEQUENCE,
    R_ORDER,
    R_REGISTERED,
    R_REQUESTED_AT_NS,
    R_STATE,
    REQUESTED,
    Z_FREE_PAGES,
    ZONE_WORDS,
    Core,
)
from pagesoak.base.layout_demand import Z_WAIT_FREE_PAGES
from pagesoak.base.native import inner, leaf
from pagesoak.base.recorder import record

DELAY_SHORT_NS = 1_000_000
"""A virtual driver hears at once of a pass requested with a shorter delay; of others in time."""


@inner
def page_reporting_request(core: Core, worker: int, pfn: int, order: int) -> None:
    """Ask for a pass. `pfn` and `order` name the block that caused it, for the flight recorder (-1
    none).
    """
    report = core.report
    report[R_NOTIFY_SEQUENCE] += 1
    if report[R_STATE] == REQUESTED:
        return
    if report[R_STATE] == IDLE:
        report[R_REQUESTED_AT_NS] = now_ns(core, worker)
    old = exchange(report, R_STATE, REQUESTED)
    record(core, worker, recorder.NOTIFY, pfn, order, old, 0, 0)
    if old != IDLE:
        return
    report[R_REQUESTED_AT_NS] = now_ns(core, worker)
    if report[R_DELAY_NS] < DELAY_SHORT_NS:
        ask_to_yield(core)
    if report[R_EVENTFD] >= 0:
        wake_eventfd(report[R_EVENTFD])


@inner
def request_for_free_pages(core: Core, worker: int, zone: int, pfn: int, order: int) -> None:
    """Ask for a pass if the reporter waits for so many free pages in the zone, once."""
    z = zone * ZONE_WORDS
    if core.zones[z + Z_FREE_PAGES] >= core.zones[z + Z_WAIT_FREE_PAGES]:
        core.zones[z + Z_WAIT_FREE_PAGES] = 0
        page_reporting_request(core, worker, pfn, order)


@leaf
def page_reporting_notify_free(core: Core, worker: int, zone: int, pfn: int, order: int) -> None:
    """A free ended with a block of this order."""
    if core.report[R_REGISTERED] != 0 and order >= core.report[R_ORDER]:
        page_reporting_request(core, worker, pfn, order)
    if core.zones[zone * ZONE_WORDS + Z_WAIT_FREE_PAGES] != 0:
        request_for_free_pages(core, worker, zone, pfn, order)
