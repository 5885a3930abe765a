"""What a line of a page-allocator trace says, as a light record.

Events as Linux 5.x to 6.12 define them (`include/trace/events/kmem.h`), and the probes of the
committed recordings (process, isolate, putback, notify, report, truth_capture).
"""

from typing import NamedTuple

MAX_TRACE_ORDER = 10
"""Largest block order of the modelled kernels; what is larger cannot be replayed."""

MAX_TRACE_PFN = 1 << 40
"""Behind every page of a 52-bit physical address."""

FAILED_PFN = -1
"""`pfn` of an allocation that found no page."""

LOST_COUNT_UNKNOWN = -1
"""`value` of LOST when the kernel did not say how many."""

# Kinds.
MM_PAGE_ALLOC = 0
MM_PAGE_FREE = 1
MM_PAGE_FREE_BATCHED = 2
MM_PAGE_ALLOC_ZONE_LOCKED = 3
MM_PAGE_PCPU_DRAIN = 4
MM_PAGE_ALLOC_EXTFRAG = 5
PROCESS = 6
PROCESS_RET = 7
ISOLATE = 8
ISOLATE_RET = 9
PUTBACK = 10
NOTIFY = 11
REPORT = 12
REPORT_RET = 13
TRUTH_CAPTURE = 14
TRACING_MARK_WRITE = 15
LOST = 16
OTHER = 17

KIND_BY_NAME = {
    "mm_page_alloc": MM_PAGE_ALLOC,
    "mm_page_free": MM_PAGE_FREE,
    "mm_page_free_batched": MM_PAGE_FREE_BATCHED,
    "mm_page_alloc_zone_locked": MM_PAGE_ALLOC_ZONE_LOCKED,
    "mm_page_pcpu_drain": MM_PAGE_PCPU_DRAIN,
    "mm_page_alloc_extfrag": MM_PAGE_ALLOC_EXTFRAG,
    "process": PROCESS,
    "process_ret": PROCESS_RET,
    "isolate": ISOLATE,
    "isolate_ret": ISOLATE_RET,
    "putback": PUTBACK,
    "notify": NOTIFY,
    "report": REPORT,
    "report_ret": REPORT_RET,
    "truth_capture": TRUTH_CAPTURE,
    "tracing_mark_write": TRACING_MARK_WRITE,
}


class TraceRecord(NamedTuple):
    """One event. Fields an event does not have keep their defaults.

    `time_ns` by the trace's clock; `line` counts from 1; `gfp` is packed
    (`pagesoak.allocator.gfp`). `order` and `migratetype` of mm_page_alloc_extfrag are the
    request's, `value` is the fallback order. `value` is 1 for a mm_page_alloc_zone_locked that
    refills a pageset, the result of isolate_ret and report_ret, the entries of report, the events
    of LOST. `name` is the event's name of an OTHER; `text` what follows the name of an OTHER, a
    marker, an extfrag.
    """

    kind: int
    time_ns: int
    cpu: int
    line: int
    pfn: int = 0
    order: int = 0
    migratetype: int = 0
    gfp: int = 0
    value: int = 0
    name: str = ""
    text: str = ""
