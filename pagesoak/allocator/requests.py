"""From trace events to the requests of a replay.

A trace names pages; a replay cannot, for its pages may lie elsewhere. So every free is turned into
the free of a *recorded allocation* (by number), or of a page that was in use at the start. What
the recordings show decides the details:

- A free that goes through `free_unref_page_list()` has two events, mm_page_free when it is
  prepared and mm_page_free_batched when it happens; the request stands where the second one is.
- Bulk allocation (kernel stacks at fork) and compaction take pages without an event. Their later
  frees match nothing: they are counted, and dropped.
- A huge page that was split is freed in parts: a free has an order and an offset of its own.
"""

from array import array
from collections.abc import Iterator
from itertools import compress
from typing import NamedTuple, TypeAlias

from pagesoak.allocator.free_lists import FreeListSnapshot
from pagesoak.allocator.trace_record import FAILED_PFN, TraceRecord
from pagesoak.base.errors import InputError

IntArray: TypeAlias = "array[int]"

# Opcodes.
ALLOC = 0
FREE = 1
FREE_BOOT = 2

MAX_REQUESTS = 50_000_000
"""Requests of one recording: some 3 GB of arrays."""

MAX_SPAN_PAGES = 1 << 26
"""Pages between the first and the last zone's ends (256 GiB): there is a byte for each."""

_FLUSH_ROWS = 1 << 14

# What is known of a page of a snapshot.
_IN_NO_ZONE = 0
_IN_USE_SINCE_BOOT = 1
_IN_ZONE = 2


class Requests(NamedTuple):
    """One entry per request in each array.

    `time_ns` from the start, never falling. `identity`: of ALLOC its number (0, 1, …), of FREE the
    number of the allocation freed, of FREE_BOOT the first pfn. `order` of a free is what is freed,
    `offset` where it begins in that allocation, pages (0, unless an allocation is freed in parts).
    `gfp` is packed; it and `migratetype` are 0 for frees. `recorded_pfn` is the page the kernel
    took or freed, -1 for an allocation that failed. `line` is the event's line in the trace.
    """

    time_ns: IntArray
    opcode: IntArray
    order: IntArray
    migratetype: IntArray
    gfp: IntArray
    identity: IntArray
    offset: IntArray
    recorded_pfn: IntArray
    cpu: IntArray
    line: IntArray


_TYPE_CODES = "qbbbiqiqiq"


class RequestCounts(NamedTuple):
    """How many there are of what, and what the trace does not tell.

    `unmatched_frees` were dropped; `compaction_frees` of them freed pages that compaction had
    taken. `unrecorded_frees` and `unrecorded_boot_frees`: allocations that took pages which were
    in use by then; a free was put before each. `partial_frees` freed a part of an allocation,
    `mixed_frees` several allocations at once. `boot_pages` were in use at the start.
    """

    allocations: int
    failed_allocations: int
    unmatched_frees: int
    compaction_frees: int
    unrecorded_frees: int
    unrecorded_boot_frees: int
    partial_frees: int
    mixed_frees: int
    boot_pages: int


class _Freed(NamedTuple):
    """A free as it was emitted, in case it turns out to be batched."""

    row: int
    opcode: int
    order: int
    identity: int
    offset: int


class RequestBuilder:
    """Takes the events from the start on, in the trace's order; `finish` gives the requests.

    `snapshot` is the guest at the start, or None when nothing is known of it: then a free of a
    page that was never allocated in the trace matches nothing. Raises `InputError` for events that
    contradict it, named by `file` and line.
    """

    def __init__(self, snapshot: FreeListSnapshot | None, start_ns: int, file: str) -> None:
        self._start_ns = start_ns
        self._now_ns = 0
        self._file = file
        self._base_pfn = 0
        self._pages: bytearray | None = None
        if snapshot is not None:
            self._base_pfn, self._pages = _page_map(snapshot, file)
        self._boot_pages = 0 if self._pages is None else self._pages.count(_IN_USE_SINCE_BOOT)
        self._failed_allocations = 0
        self._unmatched_frees = 0
        self._compaction_frees = 0
        self._unrecorded_frees = 0
        self._unrecorded_boot_frees = 0
        self._partial_frees = 0
        self._mixed_frees = 0
        self._holder: dict[int, int] = {}  # page in use to number of its allocation
        self._allocated: IntArray = array("q")  # number to first pfn
        self._orders: IntArray = array("b")  # number to order
        self._isolated: set[int] = set()
        self._prepared: dict[int, _Freed | None] = {}  # pfn to its mm_page_free
        self._rows: list[tuple[int, ...]] = []
        self._columns = [array(code) for code in _TYPE_CODES]
        self._kept = bytearray()  # per row: 0 when it moved to a later place

    @property
    def counts(self) -> RequestCounts:
        """The counts so far."""
        return RequestCounts(
            len(self._allocated),
            self._failed_allocations,
            self._unmatched_frees,
            self._compaction_frees,
            self._unrecorded_frees,
            self._unrecorded_boot_frees,
            self._partial_frees,
            self._mixed_frees,
            self._boot_pages,
        )

    @property
    def rows(self) -> int:
        """Rows so far, among them those that moved; see `finish`."""
        return len(self._kept)

    def alloc(self, event: TraceRecord) -> None:
        """mm_page_alloc."""
        number = len(self._allocated)
        pfn = event.pfn
        order = event.order
        self._allocated.append(pfn)
        self._orders.append(order)
        if pfn == FAILED_PFN:
            self._failed_allocations += 1
        else:
            self._check_block(event)
            self._prepared.pop(pfn, None)
            for page in range(pfn, pfn + (1 << order)):
                if page in self._holder:
                    self._unrecorded_frees += 1
                elif self._is_boot(page):
                    self._unrecorded_boot_frees += 1
                else:
                    continue
                self._release(event, pfn, order)
                break
            for page in range(pfn, pfn + (1 << order)):
                self._holder[page] = number
        self._emit(event, ALLOC, order, event.migratetype, event.gfp, number, 0, pfn)

    def free(self, event: TraceRecord) -> None:
        """mm_page_free."""
        self._check_block(event)
        freed = self._release(event, event.pfn, event.order)
        if not freed:
            self._unmatched(event)
        elif len(freed) > 1:
            self._mixed_frees += 1
        self._prepared[event.pfn] = freed[0] if len(freed) == 1 else None

    def free_batched(self, event: TraceRecord) -> None:
        """mm_page_free_batched: here the free really happens."""
        if event.pfn not in self._prepared:  # it was prepared before the start
            self.free(event)
            del self._prepared[event.pfn]
            return
        freed = self._prepared.pop(event.pfn)
        if freed is not None:
            self._kept[freed.row] = 0
            _, opcode, order, identity, offset = freed
            self._emit(event, opcode, order, 0, 0, identity, offset, event.pfn)

    def isolated_by_compaction(self, event: TraceRecord) -> None:
        """__isolate_free_page outside of a reporting pass: pages taken without an event."""
        self._isolated.update(range(event.pfn, event.pfn + (1 << event.order)))

    def finish(self, marks: list[int]) -> tuple[Requests, list[int]]:
        """The requests, and for each mark (a value `rows` had) how many of them precede it."""
        self._flush()
        kept = self._kept
        columns = [array(column.typecode, compress(column, kept)) for column in self._columns]
        return Requests(*columns), [sum(kept[:mark]) for mark in marks]

    def _check_block(self, event: TraceRecord) -> None:
        pfn = event.pfn
        if pfn & ((1 << event.order) - 1):
            raise self._error(event, f"pfn {pfn:#x} is not aligned to order {event.order}")
        pages = self._pages
        if pages is None:
            return
        index = pfn - self._base_pfn
        last = index + (1 << event.order) - 1
        if index < 0 or last >= len(pages) or _IN_NO_ZONE in (pages[index], pages[last]):
            raise self._error(event, f"pfn {pfn:#x} is in no zone of the snapshot")

    def _error(self, event: TraceRecord, message: str) -> InputError:
        return InputError(message, file=self._file, line=event.line)

    def _is_boot(self, page: int) -> bool:
        pages = self._pages
        return pages is not None and pages[page - self._base_pfn] == _IN_USE_SINCE_BOOT

    def _take_boot(self, page: int) -> bool:
        """Whether a page was in use since boot; it no longer is."""
        if self._pages is None or self._pages[page - self._base_pfn] != _IN_USE_SINCE_BOOT:
            return False
        self._pages[page - self._base_pfn] = _IN_ZONE
        return True

    def _unmatched(self, event: TraceRecord) -> None:
        self._unmatched_frees += 1
        if event.pfn in self._isolated:
            self._compaction_frees += 1
            self._isolated.difference_update(range(event.pfn, event.pfn + (1 << event.order)))

    def _release(self, event: TraceRecord, pfn: int, order: int) -> list[_Freed]:
        """Free what is in use of a block, one request per allocation or part of one."""
        freed = []
        for first, size, number in self._owned_runs(pfn, 1 << order):
            for page, part in _aligned_blocks(first, size):
                row = len(self._kept)
                if number is None:
                    opcode, identity, offset = FREE_BOOT, page, 0
                else:
                    opcode, identity, offset = FREE, number, page - self._allocated[number]
                    self._partial_frees += part != self._orders[number]
                self._emit(event, opcode, part, 0, 0, identity, offset, page)
                freed.append(_Freed(row, opcode, part, identity, offset))
        return freed

    def _owned_runs(self, pfn: int, size: int) -> Iterator[tuple[int, int, int | None]]:
        """Runs of pages with one owner, as (first, pages, allocation or None for boot).

        The pages are nobody's afterwards; those that were nobody's before are left out.
        """
        first = run = 0
        owner: int | None = None
        for page in range(pfn, pfn + size):
            holder = self._holder.pop(page, None)
            if holder is None and not self._take_boot(page):
                if run:
                    yield first, run, owner
                    run = 0
                continue
            if run and holder == owner:
                run += 1
                continue
            if run:
                yield first, run, owner
            first, run, owner = page, 1, holder
        if run:
            yield first, run, owner

    def _emit(
        self,
        event: TraceRecord,
        opcode: int,
        order: int,
        migratetype: int,
        gfp: int,
        identity: int,
        offset: int,
        pfn: int,
    ) -> None:
        now_ns = event.time_ns - self._start_ns
        if now_ns > self._now_ns:  # events of other CPUs may stand a little out of order
            self._now_ns = now_ns
        else:
            now_ns = self._now_ns
        row = now_ns, opcode, order, migratetype, gfp, identity, offset, pfn, event.cpu, event.line
        self._rows.append(row)
        self._kept.append(1)
        if len(self._rows) == _FLUSH_ROWS:
            self._flush()
        if len(self._kept) > MAX_REQUESTS:
            raise self._error(event, f"more than {MAX_REQUESTS} requests")

    def _flush(self) -> None:
        for column, values in zip(self._columns, zip(*self._rows, strict=True), strict=False):
            column.extend(values)
        self._rows.clear()


def _page_map(snapshot: FreeListSnapshot, file: str) -> tuple[int, bytearray]:
    """First pfn, and a byte per page from there: in no zone, in use since boot, or neither."""
    base = min(zone.start_pfn for zone in snapshot.zones)
    span = max(zone.end_pfn for zone in snapshot.zones) - base
    if span > MAX_SPAN_PAGES:
        message = f"the zones of its snapshot span {span} pages, at most {MAX_SPAN_PAGES} are read"
        raise InputError(message, file=file)
    pages = bytearray(span)
    for zone in snapshot.zones:
        first = zone.start_pfn - base
        pages[first : first + zone.spanned] = bytes([_IN_USE_SINCE_BOOT]) * zone.spanned
    for pfn, order in snapshot.free_blocks():
        pages[pfn - base : pfn - base + (1 << order)] = bytes([_IN_ZONE]) * (1 << order)
    return base, pages


def _aligned_blocks(pfn: int, size: int) -> Iterator[tuple[int, int]]:
    """A run of pages as (pfn, order) of the largest aligned blocks, ascending."""
    end = pfn + size
    while pfn < end:
        order = (end - pfn).bit_length() - 1
        if pfn:
            order = min(order, (pfn & -pfn).bit_length() - 1)
        yield pfn, order
        pfn += 1 << order
