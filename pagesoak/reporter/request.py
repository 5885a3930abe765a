"""The report request: made of all that is pending, and brought home again.

A request names entries of the scatterlist. While it is with the host its blocks are isolated; then
they go back to the free lists, to the tail and without a notification, and become Reported if the
host has served it. One request at a time: `R_REQUEST` is its number, 0 when there is none.

Models Linux 6.1 `mm/page_reporting.c`: `page_reporting_drain`; and `mm/page_alloc.c`:
`__putback_isolated_page`. Rules and test IDs: docs/model.md, 7.5.
"""

from pagesoak.allocator.buddy import (
    SKIP_REPORT_NOTIFY,
    TO_TAIL,
    block_state,
    free_one_page,
    page_is_buddy,
    pageblock_type,
    set_block,
)
from pagesoak.allocator.demand import end_window
from pagesoak.allocator.oom_wait import end_oom_waits
from pagesoak.base import recorder
from pagesoak.base.clock import now_ns, spend
from pagesoak.base.external import store_release
from pagesoak.base.fault_point import PUTTING_BACK, fault_point
from pagesoak.base.layout import (
    E_ORDER,
    E_PFN,
    H_REQUEST_SEQUENCE,
    H_STOP,
    KIND_ISOLATED,
    PAGE_WORDS,
    R_CALLS,
    R_COUNT,
    R_FIRST_ISOLATED_AT_NS,
    R_OFFSET,
    R_REQUEST,
    R_START,
    R_ZONE,
    REPORTED,
    REPORTING_CAPACITY,
    STATE,
    Z_FREE_PAGES,
    Z_ISOLATED,
    Z_REPORTED,
    ZONE_WORDS,
    Core,
    open_core,
)
from pagesoak.base.layout_virtual import C_LOCK_BLOCK
from pagesoak.base.native import entry, inner, leaf
from pagesoak.base.recorder import record
from pagesoak.base.statistics import (
    REPORT_CALLS,
    REPORT_ERRORS,
    REPORTED_PAGES,
    WINDOW,
    count,
    observe,
    publish,
)
from pagesoak.reporter.gate import note_isolated
from pagesoak.reporter.scatterlist import (
    NO_ENTRY,
    clear_entries,
    entry_words,
    next_entry,
    pages_from,
)

REQUESTS_MAX = 0x7FFF_FFFF
"""Request numbers go from 1 to this and begin again: they must fit a word of a page record."""


@leaf
def next_request(core: Core) -> int:
    """The number that the next request will have."""
    return int(core.header[H_REQUEST_SEQUENCE]) % REQUESTS_MAX + 1


@inner
def put_back(core: Core, worker: int, zone: int, error: int) -> bool:
    """Put back the blocks of the request that has come home, under the zone lock; False if an
    entry names no block that is isolated.

    A block that is free with the order it went with becomes Reported if there was no error; one
    that merged with a buddy freed meanwhile does not.
    """
    report = core.report
    z = zone * ZONE_WORDS
    request = report[R_REQUEST]
    entries = 0
    pages = 0
    reported = 0
    index = report[R_START]
    while index != NO_ENTRY:
        pfn = report[entry_words(index) + E_PFN]
        order = report[entry_words(index) + E_ORDER]
        if pfn < 0 or block_state(core.pages, pfn) != KIND_ISOLATED | order:
            return False
        set_block(core.pages, pfn, 0)
        note_isolated(core, zone, -(1 << order))
        migratetype = pageblock_type(core, pfn)
        flags = SKIP_REPORT_NOTIFY | TO_TAIL
        free_one_page(core, worker, zone, pfn, order, migratetype, flags)
        if error == 0 and page_is_buddy(core, zone, pfn, order):
            core.pages[pfn * PAGE_WORDS + STATE] |= REPORTED
            core.zones[z + Z_REPORTED] += 1 << order
            reported += 1 << order
        entries += 1
        pages += 1 << order
        index = next_entry(core, index)
    fault_point(core, worker, PUTTING_BACK)
    clear_entries(core, report[R_START], report[R_COUNT])
    end_oom_waits(core, worker)
    spend(core, worker, C_LOCK_BLOCK, entries)
    if core.header[H_STOP] == 0:  # the end of a run cuts the host's latency short
        window_ns = now_ns(core, worker) - report[R_FIRST_ISOLATED_AT_NS]
        observe(core, worker, WINDOW, window_ns)
        end_window(core, worker, zone, window_ns)
    if error == 0:
        count(core, worker, REPORTED_PAGES, pages)
    else:
        count(core, worker, REPORT_ERRORS, 1)
    free = core.zones[z + Z_FREE_PAGES]
    record(core, worker, recorder.DRAINED, request, entries, pages, reported, free)
    report[R_FIRST_ISOLATED_AT_NS] = 0
    report[R_OFFSET] = REPORTING_CAPACITY
    store_release(report, R_REQUEST, 0)
    return True


@inner
def note_answer(core: Core, worker: int, error: int) -> None:
    """The host's answer is here, the pages are not back yet."""
    report = core.report
    window_ns = now_ns(core, worker) - report[R_FIRST_ISOLATED_AT_NS]
    record(core, worker, recorder.ANSWER, report[R_REQUEST], error, window_ns, 0, 0)


@entry
def submit_report(base: int, worker: int, _until_ns: int) -> tuple[int, int, int]:
    """Make the request for all that is pending; returns its number, for the host, its first entry
    and the number of its entries.

    The host may be woken afterwards: all it reads is written before the number is.
    """
    core = open_core(base)
    report = core.report
    request = next_request(core)
    start = report[R_OFFSET]
    entries = REPORTING_CAPACITY - start
    core.header[H_REQUEST_SEQUENCE] = request
    report[R_START] = start
    report[R_COUNT] = entries
    report[R_CALLS] += 1
    z = report[R_ZONE] * ZONE_WORDS
    free = core.zones[z + Z_FREE_PAGES]
    isolated = core.zones[z + Z_ISOLATED]
    pages = pages_from(core, start)
    record(core, worker, recorder.REPORT, request, entries, pages, free, isolated)
    count(core, worker, REPORT_CALLS, 1)
    publish(core, worker)
    store_release(report, R_REQUEST, request)
    return request, start, entries
