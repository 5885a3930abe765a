"""Guest RAM of a virtual run: content words in place of memory, and modelled times of punching.

Punching a page makes it zero. What "went back" is what was not zero before: exactly the pages that
would have had memory behind them. The host's clock moves by a time per range and one per MiB that
went back (`base.costs`).
"""

from pagesoak.base.clock import spend
from pagesoak.base.contents import clear_contents, has_contents
from pagesoak.base.layout import (
    E_PAGES,
    E_PFN,
    H_RAM_ADDRESS,
    H_RAM_BYTES,
    H_TOUCH,
    WORKER_WORDS,
    Core,
    open_core,
)
from pagesoak.base.layout_virtual import C_HOST_MIB, C_HOST_RANGE, W_CLOCK_NS
from pagesoak.base.native import entry, inner
from pagesoak.base.segment import Segment
from pagesoak.base.units import MIB, PAGE_SHIFT, PAGE_SIZE_BYTES
from pagesoak.host.backing import require_pages
from pagesoak.host.ledger import NO_BREACH, entry_breach, entry_words, note_punched, noted

MIB_PAGES = MIB // PAGE_SIZE_BYTES


@inner
def punch(core: Core, worker: int, first_pfn: int, pages: int) -> int:
    """Make pages zero, in the time that takes on the worker's clock; the bytes that went back.

    Without content words nothing is backed.
    """
    backed = 0
    if has_contents(core):
        backed = clear_contents(core, first_pfn, pages)
    spend(core, worker, C_HOST_RANGE, 1)
    took_ns = core.header[C_HOST_MIB] * backed // MIB_PAGES
    core.workers[worker * WORKER_WORDS + W_CLOCK_NS] += took_ns
    return backed << PAGE_SHIFT


@entry
def punch_contents(base: int, worker: int, first_pfn: int, pages: int) -> int:
    """`punch` for Python."""
    return punch(open_core(base), worker, first_pfn, pages)


@entry
def punch_entries(
    base: int, worker: int, request: int, start: int, end: int, _until_ns: int
) -> tuple[int, int]:
    """Check, punch and enter each of a request's entries [start, end); the first breach and its
    entry.
    """
    core = open_core(base)
    for index in range(start, end):
        breach = noted(core, worker, request, index, entry_breach(core, request, index))
        if breach == NO_BREACH:
            at = entry_words(index)
            first_pfn, pages = core.report[at + E_PFN], core.report[at + E_PAGES]
            punched_bytes = punch(core, worker, first_pfn, pages)
            breach = note_punched(core, worker, request, index, punched_bytes)
        if breach != NO_BREACH:
            return breach, index
    return NO_BREACH, end


def open_virtual_ram(segment: Segment, *, touch: bool) -> "VirtualRam":
    """The RAM of a virtual guest, entered in its header; the host's number is fixed."""
    segment.header[H_RAM_ADDRESS] = 0
    segment.header[H_RAM_BYTES] = segment.plan.max_pfn * PAGE_SIZE_BYTES if touch else 0
    segment.header[H_TOUCH] = int(touch)
    return VirtualRam(segment, segment.plan.cpus + 1)


class VirtualRam:
    """The RAM of a virtual guest, punched by the host of number `worker`."""

    punch_entries = staticmethod(punch_entries)

    def __init__(self, segment: Segment, worker: int) -> None:
        self._base = segment.base
        self._worker = worker
        self._size_bytes = segment.plan.max_pfn * PAGE_SIZE_BYTES

    def punch(self, first_pfn: int, pages: int) -> int:
        """Punch a range out; returns the bytes that went back.

        Raises HarnessError, and touches nothing, when it is empty or not inside RAM.
        """
        offset_bytes, length_bytes = first_pfn * PAGE_SIZE_BYTES, pages * PAGE_SIZE_BYTES
        require_pages(offset_bytes, length_bytes, self._size_bytes, PAGE_SIZE_BYTES)
        return punch_contents(self._base, self._worker, first_pfn, pages)

    def close(self) -> None:
        """Nothing to close: the words lie in the segment."""
