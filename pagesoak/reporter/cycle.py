"""The cycle: isolate free blocks into the scatterlist; drain what a report has brought home.

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

Models Linux 6.1 `mm/page_reporting.c`: `page_reporting_cycle`; what is reported and put back is in
`reporter.request`. Rules and test IDs: docs/model.md, 7.3 to 7.5.
"""

from typing import NamedTuple

from pagesoak.allocator.buddy import (
    block_state,
    free_list,
    list_rotate_to_front,
)
from pagesoak.allocator.demand import begin_window, note_fill
from pagesoak.allocator.notify import page_reporting_request
from pagesoak.base import recorder
from pagesoak.base.clock import now_ns, spend
from pagesoak.base.layout import (
    ISOLATE,
    NEXT,
    PAGE_WORDS,
    PREVIOUS,
    R_BUDGET,
    R_FIRST_ISOLATED_AT_NS,
    R_OFFSET,
    R_REQUEST,
    R_ZONE,
    REPORTED,
    REPORTING_CAPACITY,
    Z_FREE_PAGES,
    Z_NR_FREE,
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
    count,
)
from pagesoak.reporter.factor import pending_reaches, room_under_factor
from pagesoak.reporter.gate import isolate_free_page, kept_free_pages
from pagesoak.reporter.policy import BUDGET_BLOCKS_PER_ENTRY, BUDGET_BY_LIST
from pagesoak.reporter.request import next_request, note_answer, put_back
from pagesoak.reporter.scatterlist import (
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
"""One more block would leave fewer pages free than the policy asks for: the zone waits."""
FACTOR_REACHED = 9
"""`reporting_factor` has been reached: the zone's visits end, what is pending is reported."""

LOCK_ATTEMPTS = 20
"""A second: isolated pages come back also when the run ends, whoever holds the lock just then."""


class Wanted(NamedTuple):
    """What a policy says of a hold (`policy.Hold`)."""

    capacity: int
    take: int
    budget: int
    budget_capacity: int
    budget_shift: int
    flush_before: int
    leave_free: int


@leaf
def budget_of(free_blocks: int, capacity: int) -> int:
    """Reports that a visit to a list may make, less one: ceil(blocks / (16 * capacity))."""
    share = capacity * BUDGET_BLOCKS_PER_ENTRY
    return (free_blocks + share - 1) // share


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
def _obstacle(core: Core, zone: int, order: int, taken: int, wanted: Wanted) -> int:
    """Why an unreported block is not to be isolated, before anything is tested of the block
    itself; LIST_DONE if nothing stands against it.
    """
    report = core.report
    if report[R_BUDGET] < 0:
        return BUDGET
    if report[R_OFFSET] <= REPORTING_CAPACITY - wanted.capacity:
        return REPORT_NOW
    if taken >= wanted.take:
        return TAKEN if wanted.leave_free == 0 else FLOOR
    if core.zones[zone * ZONE_WORDS + Z_FREE_PAGES] - (1 << order) < wanted.leave_free:
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
def _walk(core: Core, worker: int, zone: int, order: int, migratetype: int, wanted: Wanted) -> int:
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
            code = _obstacle(core, zone, order, taken, wanted)
            if code == LIST_DONE and not _isolate(
                core, worker, zone, pfn, order, wanted.leave_free
            ):
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
    """Put back what a report has brought home; LIST_DONE, DEVICE_ERROR or LIST_BROKEN."""
    if not put_back(core, worker, zone, error):
        return LIST_BROKEN
    return LIST_DONE if error == 0 else DEVICE_ERROR


@inner
def _hold(
    core: Core, worker: int, zone: int, order: int, migratetype: int, wanted: Wanted, error: int
) -> int:
    """One hold of the zone lock, in the visit to one list; why it ended.

    The first look, whether there is anything on the list, is made without the lock.
    """
    report = core.report
    resumed = report[R_REQUEST] != 0
    if resumed:
        note_answer(core, worker, error)
    else:
        head = free_list(core, zone, order, migratetype)
        if core.pages[head * PAGE_WORDS + NEXT] == head:
            return LIST_DONE
        if wanted.flush_before != 0 and report[R_OFFSET] < REPORTING_CAPACITY:
            return FLUSH
    if _lock(core, zone, worker) != HELD:
        return LOCK_FAILED
    report[R_ZONE] = zone
    code = LIST_DONE
    if resumed:
        code = _drain(core, worker, zone, error)
    elif wanted.budget == BUDGET_BY_LIST:
        free_blocks = core.zones[zone * ZONE_WORDS + Z_NR_FREE + order]
        budget = budget_of(free_blocks, wanted.budget_capacity)
        report[R_BUDGET] = budget << wanted.budget_shift
    else:
        report[R_BUDGET] = wanted.budget
    if code == LIST_DONE:
        code = _walk(core, worker, zone, order, migratetype, wanted)
    unlock_zone(core, zone, worker)
    return code


@leaf
def visit_is_over(code: int) -> bool:
    """Whether a hold that ended so was the last of its visit, and the next list is to follow."""
    return code in (LIST_DONE, REFUSED, BUDGET, TAKEN)


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
    lists: int,
    until_ns: int,
) -> tuple[int, int, int, int]:
    """One hold of the zone lock in the visit to one list; returns why it ended, order and
    migratetype of the list to go on with (the same one, or the next when the visit is over), and
    `R_OFFSET`.

    `capacity` (1 to 32) entries may be used, `take` blocks isolated in this hold, `leave_free`
    pages left free by each isolation. A hold after a report (a request stands) drains it first,
    with `error` as its answer, and goes on with the visit; any other begins one, with `budget`,
    or, if that is BUDGET_BY_LIST, with the kernel's of `budget_capacity` entries, shifted to the
    left.

    What is said holds for `lists` lists, from this one on, order after order: their visits follow,
    each in holds of its own, as long as there is nothing to report and the time is not up.
    ISOLATE as a migratetype: the last of them is over.
    """
    core = open_core(base)
    wanted = Wanted(
        capacity, take, budget, budget_capacity, budget_shift, flush_before, leave_free
    )
    while True:
        code = _hold(core, worker, zone, order, migratetype, wanted, error)
        if not visit_is_over(code):
            break
        migratetype += 1
        lists -= 1
        if lists > 0 and migratetype == ISOLATE:
            order += 1
            migratetype = 0
        if lists <= 0 or now_ns(core, worker) >= until_ns:
            break
    return code, order, migratetype, core.report[R_OFFSET]


@entry
def drain_report(base: int, worker: int, zone: int, error: int, _until_ns: int) -> int:
    """Put back the blocks of a report outside a visit (leftover, flush), in a hold of its own.

    LIST_DONE, DEVICE_ERROR (back, unreported), LOCK_FAILED or LIST_BROKEN.
    """
    core = open_core(base)
    note_answer(core, worker, error)
    if _lock(core, zone, worker) != HELD:
        return LOCK_FAILED
    code = _drain(core, worker, zone, error)
    unlock_zone(core, zone, worker)
    return code
