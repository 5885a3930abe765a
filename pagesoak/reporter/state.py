"""The device's state: registered or not, and IDLE, REQUESTED or ACTIVE.

A request turns IDLE into REQUESTED and schedules the pass after a delay (`allocator.notify`). The
pass turns the state to ACTIVE, whatever it was; a request meanwhile turns it to REQUESTED and
schedules nothing. At its end the pass goes back to IDLE, unless the state is REQUESTED by then:
then it schedules itself again. So a request is never lost, and there is never more than one pass.

Models Linux 6.1 `mm/page_reporting.c`: `page_reporting_register`, `page_reporting_unregister`, and
the frame of `page_reporting_process`. Rules and test IDs: docs/model.md, 7.1.
"""

from pagesoak.allocator.notify import page_reporting_request
from pagesoak.base import recorder
from pagesoak.base.clock import now_ns
from pagesoak.base.external import compare_exchange, exchange, store_release
from pagesoak.base.layout import (
    ACTIVE,
    H_STOP,
    IDLE,
    R_CALLS,
    R_CAPACITY,
    R_DELAY_NS,
    R_EVENTFD,
    R_ORDER,
    R_PASS,
    R_REGISTERED,
    R_REQUESTED_AT_NS,
    R_STATE,
    REPORTING_CAPACITY,
    REQUESTED,
    open_core,
)
from pagesoak.base.native import entry
from pagesoak.base.recorder import record
from pagesoak.base.statistics import LIST_ALLOCATIONS_FAILED, PASSES, count, publish
from pagesoak.reporter.gate import first_open_zone
from pagesoak.reporter.scatterlist import init_scatterlist

NO_BLOCK = -1
"""In place of the block that caused a request: registration did."""


@entry
def register_device(
    base: int, worker: int, order: int, capacity: int, delay_ns: int, eventfd: int, _until_ns: int
) -> int:
    """Register the one reporting device and request its first pass; its capacity, or 0 when there
    is a device already.

    `order` is page_reporting_order; `capacity` in entries, anything but 1 to 32 means 32;
    `eventfd` wakes the reporter, -1 without.
    """
    core = open_core(base)
    report = core.report
    if report[R_REGISTERED] != 0:
        return 0
    report[R_STATE] = IDLE
    report[R_ORDER] = order
    report[R_CAPACITY] = capacity if 1 <= capacity <= REPORTING_CAPACITY else REPORTING_CAPACITY
    report[R_DELAY_NS] = delay_ns
    report[R_EVENTFD] = eventfd
    init_scatterlist(core)
    page_reporting_request(core, worker, NO_BLOCK, NO_BLOCK)
    store_release(report, R_REGISTERED, 1)
    return report[R_CAPACITY]


@entry
def unregister_device(base: int) -> int:
    """Frees request nothing any more; returns whether a device was registered.

    A running pass goes on to its end: whoever takes the device away waits for the reporter,
    without time-out.
    """
    return exchange(open_core(base).report, R_REGISTERED, 0)


@entry
def look_at_device(base: int) -> tuple[int, ...]:
    """Whether the run is to stop, whether the device is registered, its state, when it left IDLE
    or its last pass ended, and its delay; no lock.
    """
    core = open_core(base)
    report = core.report
    return (
        core.header[H_STOP],
        report[R_REGISTERED],
        report[R_STATE],
        report[R_REQUESTED_AT_NS],
        report[R_DELAY_NS],
    )


@entry
def begin_pass(
    base: int, worker: int, zones: int, list_allocation_fails_every: int, _until_ns: int
) -> int:
    """The delayed work starts: ACTIVE, an empty scatterlist. Returns the first zone whose gate is
    open; `zones` if there is none, or was no memory for the list.

    Every n-th allocation of the list fails (0: none).
    """
    core = open_core(base)
    report = core.report
    store_release(report, R_STATE, ACTIVE)
    report[R_PASS] += 1
    report[R_CALLS] = 0
    count(core, worker, PASSES, 1)
    record(core, worker, recorder.PASS_START, report[R_PASS], 0, 0, 0, 0)
    if list_allocation_fails_every > 0 and report[R_PASS] % list_allocation_fails_every == 0:
        count(core, worker, LIST_ALLOCATIONS_FAILED, 1)
        record(core, worker, recorder.LIST_ALLOCATION_FAILED, report[R_PASS], 0, 0, 0, 0)
        return zones
    init_scatterlist(core)
    return first_open_zone(core, worker, 0, zones)


@entry
def end_pass(base: int, worker: int, _until_ns: int) -> int:
    """The work ends: IDLE, or REQUESTED and scheduled again from now on. Returns the state."""
    core = open_core(base)
    report = core.report
    state = IDLE
    report[R_REQUESTED_AT_NS] = now_ns(core, worker)  # never an older time beside a new request
    if compare_exchange(report, R_STATE, ACTIVE, IDLE) == REQUESTED:
        state = REQUESTED
    record(core, worker, recorder.PASS_END, report[R_PASS], state, report[R_CALLS], 0, 0)
    publish(core, worker)
    return state
