"""What a reporter that died leaves: a device in the middle of a pass, and pages isolated.

The pages go back to the free lists as after a report that failed, so that none becomes Reported.
The device is given up; who comes next registers it anew, and that requests a pass. To be called
while nobody is at work, and when no host has the pages any more.
"""

import errno

from pagesoak.base import layout
from pagesoak.base.errors import HarnessError
from pagesoak.base.layout_demand import Z_WAIT_FREE_PAGES
from pagesoak.base.segment import Segment
from pagesoak.reporter.cycle import DEVICE_ERROR, drain_report
from pagesoak.reporter.request import REQUESTS_MAX


def abandon_report(segment: Segment) -> None:
    """Put back what is isolated, and give the device up. HarnessError when the list is broken."""
    report = segment.report
    if report[layout.R_REQUEST] == 0 and report[layout.R_OFFSET] < layout.REPORTING_CAPACITY:
        _make_request(segment)
    if report[layout.R_REQUEST] != 0:
        runner = segment.plan.cpus + 2
        answer = drain_report(segment.base, runner, report[layout.R_ZONE], errno.EIO, 0)
        if answer != DEVICE_ERROR:
            raise HarnessError("the scatterlist of a dead reporter names what is not isolated")
    _give_device_up(segment)


def _make_request(segment: Segment) -> None:
    """A request of all that is isolated, answered already: no host ever sees it."""
    report = segment.report
    request = segment.header[layout.H_REQUEST_SEQUENCE] % REQUESTS_MAX + 1
    segment.header[layout.H_REQUEST_SEQUENCE] = request
    report[layout.R_START] = report[layout.R_OFFSET]
    report[layout.R_COUNT] = layout.REPORTING_CAPACITY - report[layout.R_OFFSET]
    report[layout.R_SERVED] = request
    report[layout.R_REQUEST] = request


def forget_report(segment: Segment) -> None:
    """Empty the scatterlist, whatever it says, and give the device up: its blocks are nobody's."""
    report = segment.report
    report[layout.R_SERVED] = report[layout.R_REQUEST]
    report[layout.R_REQUEST] = 0
    report[layout.R_OFFSET] = layout.REPORTING_CAPACITY
    report[layout.R_FIRST_ISOLATED_AT_NS] = 0
    for index in range(layout.REPORTING_CAPACITY):
        at = layout.R_ENTRIES + index * layout.ENTRY_WORDS
        report[at + layout.E_PFN] = -1
        report[at + layout.E_ORDER] = report[at + layout.E_PAGES] = 0
        report[at + layout.E_END] = int(index == layout.REPORTING_CAPACITY - 1)
    _give_device_up(segment)


def _give_device_up(segment: Segment) -> None:
    segment.report[layout.R_REGISTERED] = 0
    segment.report[layout.R_STATE] = layout.IDLE
    for zone in range(segment.plan.zones):
        segment.zones[zone * layout.ZONE_WORDS + Z_WAIT_FREE_PAGES] = 0


def isolated_blocks(segment: Segment) -> list[int]:
    """First pages of the blocks that the scatterlist names and that say of themselves that they
    are isolated.
    """
    report = segment.report
    found = []
    for index in range(report[layout.R_OFFSET], layout.REPORTING_CAPACITY):
        at = layout.R_ENTRIES + index * layout.ENTRY_WORDS
        pfn, order = report[at + layout.E_PFN], report[at + layout.E_ORDER]
        if 0 <= pfn < segment.plan.max_pfn:
            state = segment.pages[pfn * layout.PAGE_WORDS + layout.STATE]
            if state & (layout.KIND_MASK | layout.ORDER_MASK) == layout.KIND_ISOLATED | order:
                found.append(pfn)
    return found
