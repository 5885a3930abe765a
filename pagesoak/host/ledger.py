"""The ledger: whether a range that is to be punched is really isolated, for this very request.

A punch destroys what it hits. So before each one, and once more after it, the host compares two
records that the reporter makes at different places: the entry of the scatterlist (first page,
order, pages), and the record of the block's first page, which while it is isolated says so, with
its order, and has in its link words the number of the request (NEXT) and of the entry
(PREVIOUS). Both must name each other, and the request must be the one that is pending. A range
that fails the first check is not punched. Any failure is a bug of pagesoak, never a result.

After a punch its pages must read zero until somebody writes to them: their STAMPED bits are
cleared before the request is answered, while nobody else can touch them. As this has to visit
every page's record, which costs far more than the checks, only here is looked whether another
block begins inside. The words of the reporter, which sleeps meanwhile, are read without a lock.

Hosts check less: QEMU only that the range is RAM and aligned to its page size
(`virtio_balloon_handle_report`). The list ends at its marker, as the driver's does (Linux 6.1
`include/linux/scatterlist.h`).
"""

from pagesoak.base import recorder
from pagesoak.base.layout import (
    E_END,
    E_ORDER,
    E_PAGES,
    E_PFN,
    ENTRY_WORDS,
    H_RAM_BYTES,
    H_TOUCH,
    H_ZONES,
    KIND_ISOLATED,
    KIND_MASK,
    KIND_NONE,
    MAX_ORDER,
    NEXT,
    ORDER_MASK,
    PAGE_WORDS,
    PREVIOUS,
    R_COUNT,
    R_ENTRIES,
    R_ORDER,
    R_PUNCHED_BYTES,
    R_REQUEST,
    R_SERVED,
    R_START,
    REPORTING_CAPACITY,
    STAMPED,
    STATE,
    W_COUNTERS,
    WORKER_WORDS,
    Z_END_PFN,
    Z_START_PFN,
    ZONE_WORDS,
    Core,
    open_core,
)
from pagesoak.base.layout_virtual import H_CONTENT_PAGES, H_VIRTUAL
from pagesoak.base.native import entry, inner, leaf
from pagesoak.base.recorder import record
from pagesoak.base.statistics import (
    HOST_CALLS,
    HOST_RANGES,
    HOST_REQUESTS_DROPPED,
    LEDGER_BREACHES,
    PUNCHED_BYTES,
    count,
    publish,
)
from pagesoak.base.units import PAGE_SHIFT

DROPPED = -1
"""In place of a breach: a request that came late or twice."""
NO_BREACH = 0
NOT_PENDING = 1
OUTSIDE_LIST = 2
END_MARKER = 3
OUTSIDE_REQUEST = 4
WRONG_ORDER = 5
WRONG_PAGES = 6
UNALIGNED = 7
OUTSIDE_MEMORY = 8
NOT_ISOLATED = 9
OTHER_REQUEST = 10
OTHER_ENTRY = 11
BLOCK_INSIDE = 12

BREACHES = {
    NOT_PENDING: "the request is not the one that is pending",
    OUTSIDE_LIST: "the request does not lie inside the scatterlist",
    END_MARKER: "the end marker is not on the last entry of the request",
    OUTSIDE_REQUEST: "the entry is not part of the request",
    WRONG_ORDER: "the order is not one that is reported",
    WRONG_PAGES: "the number of pages is not that of the order",
    UNALIGNED: "the first page is not aligned to the order",
    OUTSIDE_MEMORY: "the range is not inside one zone and guest RAM",
    NOT_ISOLATED: "the first page is not an isolated block of that order",
    OTHER_REQUEST: "the block was isolated for another request",
    OTHER_ENTRY: "the block was isolated into another entry",
    BLOCK_INSIDE: "another block begins inside the range",
}
"""What each breach means."""

NO_PFN = -1


@leaf
def entry_words(index: int) -> int:
    """Index of the first word of a scatterlist entry."""
    return R_ENTRIES + index * ENTRY_WORDS


@inner
def _list_breach(core: Core, request: int) -> int:
    """Breach of a request as a whole: it must be pending, in the list, and end at the marker."""
    report = core.report
    if report[R_REQUEST] != request:
        return NOT_PENDING
    start = report[R_START]
    entries = report[R_COUNT]
    if start < 0 or entries < 1 or start + entries > REPORTING_CAPACITY:
        return OUTSIDE_LIST
    last = start
    while last < REPORTING_CAPACITY and report[entry_words(last) + E_END] == 0:
        last += 1
    return NO_BREACH if last == start + entries - 1 else END_MARKER


@inner
def _in_memory(core: Core, pfn: int, pages: int) -> bool:
    """Whether the range lies in one zone, and in guest RAM if there is any."""
    if core.header[H_TOUCH] != 0 and (pfn + pages) << PAGE_SHIFT > core.header[H_RAM_BYTES]:
        return False
    for zone in range(core.header[H_ZONES]):
        z = zone * ZONE_WORDS
        if core.zones[z + Z_START_PFN] <= pfn and pfn + pages <= core.zones[z + Z_END_PFN]:
            return True
    return False


@inner
def _range_breach(core: Core, pfn: int, order: int, pages: int) -> int:
    """Breach of what an entry says, whatever the pages themselves say."""
    if order < core.report[R_ORDER] or order < 0 or order >= MAX_ORDER:
        return WRONG_ORDER
    if pages != 1 << order:
        return WRONG_PAGES
    if pfn < 0 or pfn & (pages - 1) != 0:
        return UNALIGNED
    return NO_BREACH if _in_memory(core, pfn, pages) else OUTSIDE_MEMORY


@inner
def _block_breach(core: Core, request: int, index: int, pfn: int, order: int) -> int:
    """Breach of what the record of the block's first page says, for a range inside a zone."""
    pages = core.pages
    place = pfn * PAGE_WORDS
    if pages[place + STATE] & (KIND_MASK | ORDER_MASK) != KIND_ISOLATED | order:
        return NOT_ISOLATED
    if pages[place + NEXT] != request:
        return OTHER_REQUEST
    if pages[place + PREVIOUS] != index:
        return OTHER_ENTRY
    return NO_BREACH


@inner
def _clear_stamps(core: Core, pfn: int, pages: int) -> int:
    """Enter that pages read zero; BLOCK_INSIDE when one of them, but the first, begins a block.

    In a virtual run on metadata alone nothing has a stamp, and this, which takes most of a pass's
    time, is left to the audit.
    """
    if core.header[H_VIRTUAL] > core.header[H_CONTENT_PAGES]:
        return NO_BREACH
    kinds = 0
    for place in range(pfn * PAGE_WORDS + STATE, (pfn + pages) * PAGE_WORDS, PAGE_WORDS):
        state = int(core.pages[place])
        if place != pfn * PAGE_WORDS + STATE:
            kinds |= state & KIND_MASK
        core.pages[place] = state & ~STAMPED
    return NO_BREACH if kinds == KIND_NONE else BLOCK_INSIDE


@inner
def entry_breach(core: Core, request: int, index: int) -> int:
    """Breach of one entry of a request, or NO_BREACH."""
    report = core.report
    start = report[R_START]
    if report[R_REQUEST] != request:
        return NOT_PENDING
    if index < max(start, 0) or index >= min(start + report[R_COUNT], REPORTING_CAPACITY):
        return OUTSIDE_REQUEST
    at = entry_words(index)
    pfn = report[at + E_PFN]
    order = report[at + E_ORDER]
    breach = _range_breach(core, pfn, order, report[at + E_PAGES])
    if breach == NO_BREACH:
        breach = _block_breach(core, request, index, pfn, order)
    return breach


@inner
def noted(core: Core, worker: int, request: int, index: int, breach: int) -> int:
    """The breach, counted and recorded with its evidence if it is one."""
    if breach != NO_BREACH:
        pfn, order, _, state, _, _ = _evidence(core, index)
        count(core, worker, LEDGER_BREACHES, 1)
        record(core, worker, recorder.LEDGER_BREACH, request, pfn, order, state, breach)
    return breach


@inner
def _evidence(core: Core, index: int) -> tuple[int, int, int, int, int, int]:
    """What `entry_evidence` says."""
    report = core.report
    if index < 0 or index >= REPORTING_CAPACITY:
        return NO_PFN, -1, -1, -1, -1, -1
    at = entry_words(index)
    pfn = int(report[at + E_PFN])
    order = int(report[at + E_ORDER])
    pages = int(report[at + E_PAGES])
    if pfn < 0 or not _in_memory(core, pfn, 1):
        return pfn, order, pages, -1, -1, -1
    place = pfn * PAGE_WORDS
    return (
        pfn,
        order,
        pages,
        int(core.pages[place + STATE]),
        int(core.pages[place + NEXT]),
        int(core.pages[place + PREVIOUS]),
    )


@entry
def begin_request(
    base: int, worker: int, request: int, _until_ns: int
) -> tuple[int, int, int, int, int]:
    """Count a request and check it as a whole: 0, or a breach, counted and recorded. DROPPED, and
    counted as such: it is not the one that is pending, or has been answered already.

    Beside that its first entry, the one behind its last, its pages, and its call's number, counted
    from 1; zeros for a request that is dropped or breaks the rules.
    """
    core = open_core(base)
    report = core.report
    if report[R_REQUEST] != request or report[R_SERVED] == request:
        count(core, worker, HOST_REQUESTS_DROPPED, 1)
        publish(core, worker)
        return DROPPED, 0, 0, 0, 0
    count(core, worker, HOST_CALLS, 1)
    report[R_PUNCHED_BYTES] = 0
    breach = noted(core, worker, request, NO_PFN, _list_breach(core, request))
    if breach != NO_BREACH:
        return breach, 0, 0, 0, 0
    start = report[R_START]
    end = start + report[R_COUNT]
    pages = 0
    for index in range(start, end):
        pages += report[entry_words(index) + E_PAGES]
    call = core.workers[worker * WORKER_WORDS + W_COUNTERS + HOST_CALLS]
    return NO_BREACH, start, end, pages, call


@entry
def entry_evidence(base: int, index: int) -> tuple[int, int, int, int, int, int]:
    """What an entry says, and the record of the first page it names.

    First page, order, pages; STATE, NEXT, PREVIOUS. -1: there is no such entry, or page.
    """
    return _evidence(open_core(base), index)


@entry
def entry_range(base: int, index: int) -> tuple[int, int]:
    """First page and number of pages of an entry that has been checked."""
    report = open_core(base).report
    return report[entry_words(index) + E_PFN], report[entry_words(index) + E_PAGES]


@entry
def check_entry(base: int, worker: int, request: int, index: int, _until_ns: int) -> int:
    """Whether an entry of a request may be punched: 0, or a breach, counted and recorded."""
    core = open_core(base)
    return noted(core, worker, request, index, entry_breach(core, request, index))


@inner
def note_punched(core: Core, worker: int, request: int, index: int, punched_bytes: int) -> int:
    """`mark_punched` from within."""
    pfn = core.report[entry_words(index) + E_PFN]
    pages = core.report[entry_words(index) + E_PAGES]
    breach = entry_breach(core, request, index)
    if breach == NO_BREACH:
        breach = _clear_stamps(core, pfn, pages)
    if breach != NO_BREACH:
        return noted(core, worker, request, index, breach)
    core.report[R_PUNCHED_BYTES] += punched_bytes
    count(core, worker, HOST_RANGES, 1)
    count(core, worker, PUNCHED_BYTES, punched_bytes)
    record(core, worker, recorder.HOST_PUNCHED, request, pfn, pages, punched_bytes, 0)
    return NO_BREACH


@entry
def mark_punched(
    base: int, worker: int, request: int, index: int, punched_bytes: int, _until_ns: int
) -> int:
    """Check an entry again after its punch, and enter that its pages read zero from now on.

    `punched_bytes` of memory went back. 0, or a breach, counted and recorded.
    """
    return note_punched(open_core(base), worker, request, index, punched_bytes)


@entry
def finish_request(base: int, worker: int, request: int, error: int, _until_ns: int) -> int:
    """Before the answer: record an error, publish the figures. Returns the bytes punched."""
    core = open_core(base)
    if error != 0:
        record(core, worker, recorder.HOST_ERROR, request, error, 0, 0, 0)
    publish(core, worker)
    return int(core.report[R_PUNCHED_BYTES])
