"""The cycle: isolate free blocks into the scatterlist, have them reported, put them back.

One entry is one critical section: everything the reporter does under one taking of the zone lock.
A list of one order and migratetype is visited in one or more holds. A hold first puts back what a
report has just brought home, then walks the list from its head and isolates every block that is
not Reported, until the list ends, the scatterlist is full and must be reported (the lock is let go
for that), or a bound says stop. Whatever ends the walk early, the block it stopped at becomes the
first of its list: the next visit need not walk over Reported blocks again, and allocations meet
the unreported ones first.

What must outlive a hold lies in the report section: `R_OFFSET`, `R_BUDGET`, the entries, the
request. The budget bounds the reports of one visit and is tested as "below 0", before each block:
B allows B + 1.

An isolated block is on no list and in nobody's hands. Its first page is KIND_ISOLATED with its
order; NEXT holds the number of the request it will be reported in, PREVIOUS its entry: the host
checks both before it punches.

Models Linux 6.1 `mm/page_reporting.c`: `page_reporting_cycle`, `page_reporting_drain`; and
`mm/page_alloc.c`: `__putback_isolated_page`. Rules and test IDs: docs/model.md, 7.3 to 7.5.
"""

from pagesoak.allocator.buddy import (
    SKIP_REPORT_NOTIFY,
    TO_TAIL,
    block_state,
    free_list,
    free_one_page,
    list_rotate_to_front,
    page_is_buddy,
    pageblock_type,
    set_block,
)
from pagesoak.allocator.demand import begin_window, end_window, note_fill
from pagesoak.allocator.notify import page_reporting_request
from pagesoak.allocator.oom_wait import end_oom_waits
from pagesoak.base import recorder
from pagesoak.base.clock import now_ns, spend
from pagesoak.base.external import store_release
from pagesoak.base.layout import (
    E_ORDER,
    E_PFN,
    H_REQUEST_SEQUENCE,
    H_STOP,
    KIND_ISOLATED,
    NEXT,
    PAGE_WORDS,
    PREVIOUS,
    R_BUDGET,
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
    Z_NR_FREE,
    Z_REPORTED,
    ZONE_WORDS,
    Core,
    open_core,
)
from pagesoak.base.layout_virtual import C_LIST_STEP, C_LOCK_BLOCK
from pagesoak.base.lock import HELD, STOPPED, lock_zone, unlock_zone
from pagesoak.base.native import entry, inner, leaf
from pagesoak.base.recorder import record
from pagesoak.base.statistics import (
    ISOLATIONS_REFUSED,
    REPORT_CALLS,
    REPORT_ERRORS,
    REPORTED_PAGES,
    WINDOW,
    count,
    observe,
    publish,
)
from pagesoak.reporter.factor import pending_reaches, room_under_factor
from pagesoak.reporter.gate import isolate_free_page, kept_free_pages, note_isolated
from pagesoak.reporter.policy import BUDGET_BLOCKS_PER_ENTRY, BUDGET_BY_LIST
from pagesoak.reporter.scatterlist import (
    NO_ENTRY,
    clear_entries,
    entry_words,
    next_entry,
    pages_from,
    set_entry,
)

LIST_DONE = 0
"""Every block of the list is Reported or isolated; or a drain is done."""
REPORT_NOW = 1
"""The scatterlist is full and another block waits: report, then hold the same list again."""
REFUSED = 2
"""Isolating one more block would leave too little free: the visit ends, the pass goes on."""
BUDGET = 3
"""The visit's reports are used up and a block is left: a pass was requested, this visit ends."""
TAKEN = 4
"""The policy's `take` is used up and a block is left: the visit ends."""
FLUSH = 5
"""The policy wants what is pending reported first: report, drain, then hold the list anew."""
DEVICE_ERROR = 6
"""The report failed; its blocks are back, unreported: zone and pass end."""
LOCK_FAILED = 7
"""The zone is dead, or its lock was not to be had at the end of the run: nothing was done."""
LIST_BROKEN = 8
"""An entry names no block that is isolated: a bug of ours, the pass must not go on."""
FLOOR = 10
"""One more block would leave fewer pages free than the policy asks for, and none is pending: the
zone waits.
"""
FACTOR_REACHED = 9
"""`reporting_factor` has been reached: the zone's visits end, what is pending is reported."""

LOCK_ATTEMPTS = 20
"""A second: isolated pages come back also when the run ends, whoever holds the lock just then."""
REQUESTS_MAX = 0x7FFF_FFFF
"""Request numbers go from 1 to this and begin again: they must fit a word of a page record."""


@leaf
def budget_of(free_blocks: int, capacity: int) -> int:
    """Reports that a visit to a list may make, less one: ceil(blocks / (16 * capacity))."""
    share = capacity * BUDGET_BLOCKS_PER_ENTRY
    return (free_blocks + share - 1) // share


@leaf
def next_request(core: Core) -> int:
    """The number that the next request will have."""
    return int(core.header[H_REQUEST_SEQUENCE]) % REQUESTS_MAX + 1


@inner
def _lock(core: Core, zone: int, worker: int) -> int:
    """The zone lock, with patience at the end of a run."""
    answer = STOPPED
    for _ in range(LOCK_ATTEMPTS):
        answer = lock_zone(core, zone, worker)
        if answer != STOPPED:
            break
    return answer


@inner
def _store_isolated(core: Core, worker: int, zone: int, pfn: int, order: int) -> None:
    """Put an isolated block into the next entry of the batch being filled."""
    report = core.report
    if report[R_OFFSET] == REPORTING_CAPACITY:
        report[R_FIRST_ISOLATED_AT_NS] = now_ns(core, worker)
        begin_window(core, zone)
    index = report[R_OFFSET] - 1
    set_entry(core, index, pfn, order)
    core.pages[pfn * PAGE_WORDS + NEXT] = next_request(core)
    core.pages[pfn * PAGE_WORDS + PREVIOUS] = index
    report[R_OFFSET] = index


@inner
def _obstacle(
    core: Core, zone: int, order: int, capacity: int, taken: int, take: int, leave_free: int
) -> int:
    """Why an unreported block is not to be isolated, before anything is tested of the block
    itself; LIST_DONE if nothing stands against it.
    """
    report = core.report
    if report[R_BUDGET] < 0:
        return BUDGET
    if report[R_OFFSET] <= REPORTING_CAPACITY - capacity:
        return REPORT_NOW
    if taken >= take:
        return TAKEN
    if core.zones[zone * ZONE_WORDS + Z_FREE_PAGES] - (1 << order) < leave_free:
        return FLOOR if report[R_OFFSET] == REPORTING_CAPACITY else REPORT_NOW
    return LIST_DONE


@inner
def _isolate(core: Core, worker: int, zone: int, pfn: int, order: int, leave_free: int) -> bool:
    """Isolate a block into the next entry; False, and it is on record, if the zone has too few."""
    if not isolate_free_page(core, zone, pfn, order):
        free = core.zones[zone * ZONE_WORDS + Z_FREE_PAGES]
        record(core, worker, recorder.ISOLATION_REFUSED, zone, order, pfn, free, 0)
        count(core, worker, ISOLATIONS_REFUSED, 1)
        return False
    _store_isolated(core, worker, zone, pfn, order)
    if leave_free > 0:
        note_fill(core, zone, leave_free - kept_free_pages(core, zone))
    spend(core, worker, C_LOCK_BLOCK, 1)
    return True


@inner
def _walk(
    core: Core,
    worker: int,
    zone: int,
    order: int,
    migratetype: int,
    capacity: int,
    take: int,
    leave_free: int,
) -> int:
    """Isolate from the head on; rotate to the block that stopped the walk; say why it ended."""
    head = free_list(core, zone, order, migratetype)
    room = room_under_factor(core, zone)
    taken = 0
    code = LIST_DONE
    pfn = int(core.pages[head * PAGE_WORDS + NEXT])
    steps = 0
    while pfn != head:
        steps += 1
        following = int(core.pages[pfn * PAGE_WORDS + NEXT])
        if not block_state(core.pages, pfn) & REPORTED:
            code = _obstacle(core, zone, order, capacity, taken, take, leave_free)
            if code == LIST_DONE and not _isolate(core, worker, zone, pfn, order, leave_free):
                code = REFUSED
            if code != LIST_DONE:
                break
            taken += 1
            if pending_reaches(core, room, order):
                pfn = following
                code = FACTOR_REACHED
                break
        pfn = following
    if code == REPORT_NOW:
        core.report[R_BUDGET] -= 1
    elif code == BUDGET:
        page_reporting_request(core, worker, pfn, order)
        record(core, worker, recorder.REQUESTED_AGAIN, zone, order, migratetype, 0, 0)
    spend(core, worker, C_LIST_STEP, steps)
    if pfn != head and int(core.pages[head * PAGE_WORDS + NEXT]) != pfn:
        list_rotate_to_front(core.pages, head, pfn)
    if taken > 0:
        free = core.zones[zone * ZONE_WORDS + Z_FREE_PAGES]
        record(core, worker, recorder.ISOLATED, zone, order, taken, taken << order, free)
    return code


@inner
def _drain(core: Core, worker: int, zone: int, error: int) -> int:
    """Put back the blocks of the request that has come home; LIST_DONE or LIST_BROKEN.

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
            return LIST_BROKEN
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
    return LIST_DONE


@inner
def _note_answer(core: Core, worker: int, error: int) -> None:
    """The host's answer is here, the pages are not back yet."""
    report = core.report
    window_ns = now_ns(core, worker) - report[R_FIRST_ISOLATED_AT_NS]
    record(core, worker, recorder.ANSWER, report[R_REQUEST], error, window_ns, 0, 0)


@entry
def submit_report(base: int, worker: int, start: int, entries: int, _until_ns: int) -> int:
    """Make the request for entries [start, start + entries); returns its number, for the host.

    The host may be woken afterwards: all it reads is written before the number is.
    """
    core = open_core(base)
    report = core.report
    request = next_request(core)
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
    return request


@entry
def reporting_hold(
    base: int,
    worker: int,
    zone: int,
    order: int,
    migratetype: int,
    capacity: int,
    take: int,
    budget: int,
    budget_capacity: int,
    budget_shift: int,
    flush_before: int,
    leave_free: int,
    error: int,
    _until_ns: int,
) -> tuple[int, int]:
    """One hold of the zone lock in the visit to one list; returns why it ended, and `R_OFFSET`.

    `capacity` (1 to 32) entries may be used, `take` blocks isolated in this hold, `leave_free`
    pages left free by each isolation. A hold after a
    report (a request stands) drains it first, with `error` as its answer, and goes on with the
    visit; any other begins one, with `budget`, or, if that is BUDGET_BY_LIST, with the kernel's of
    `budget_capacity` entries, shifted to the left. The first look, whether there is anything on
    the list, is made without the lock.
    """
    core = open_core(base)
    report = core.report
    resumed = report[R_REQUEST] != 0
    if resumed:
        _note_answer(core, worker, error)
    else:
        head = free_list(core, zone, order, migratetype)
        if core.pages[head * PAGE_WORDS + NEXT] == head:
            return LIST_DONE, report[R_OFFSET]
        if flush_before != 0 and report[R_OFFSET] < REPORTING_CAPACITY:
            return FLUSH, report[R_OFFSET]
    if _lock(core, zone, worker) != HELD:
        return LOCK_FAILED, report[R_OFFSET]
    report[R_ZONE] = zone
    code = LIST_DONE
    if resumed:
        code = _drain(core, worker, zone, error)
        if code == LIST_DONE and error != 0:
            code = DEVICE_ERROR
    elif budget == BUDGET_BY_LIST:
        free_blocks = core.zones[zone * ZONE_WORDS + Z_NR_FREE + order]
        report[R_BUDGET] = budget_of(free_blocks, budget_capacity) << budget_shift
    else:
        report[R_BUDGET] = budget
    if code == LIST_DONE:
        code = _walk(core, worker, zone, order, migratetype, capacity, take, leave_free)
    unlock_zone(core, zone, worker)
    return code, report[R_OFFSET]


@entry
def drain_report(base: int, worker: int, zone: int, error: int, _until_ns: int) -> int:
    """Put back the blocks of a report outside a visit (leftover, flush), in a hold of its own.

    LIST_DONE, DEVICE_ERROR (back, unreported), LOCK_FAILED or LIST_BROKEN.
    """
    core = open_core(base)
    _note_answer(core, worker, error)
    if _lock(core, zone, worker) != HELD:
        return LOCK_FAILED
    code = _drain(core, worker, zone, error)
    unlock_zone(core, zone, worker)
    if code == LIST_DONE and error != 0:
        return DEVICE_ERROR
    return code
