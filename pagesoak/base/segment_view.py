"""A segment seen by who only reads it: mapped read-only, and without the compiler.

The daemon gets a run's segment as a descriptor and reads figures from it, as any worker would
(`base.statistics`). Nothing read here is believed beyond its range: sizes are checked against the
file before anything is mapped.
"""

import fcntl
import mmap
import os
from typing import Literal, Protocol

from pagesoak.base import layout
from pagesoak.base.errors import HarnessError
from pagesoak.base.layout_reclaim import H_CACHE_SLOTS
from pagesoak.base.layout_virtual import H_CONTENT_PAGES
from pagesoak.base.plan import SegmentPlan

SIZE_SEALS = fcntl.F_SEAL_SHRINK | fcntl.F_SEAL_GROW | fcntl.F_SEAL_SEAL
"""The size is fixed for ever. Writing and punching stay allowed."""
SEGMENT_BYTES_MAX = 1 << 36
"""Far above the segment of the largest guest: bounds what is mapped on the word of another."""

PLAN_WORDS = (
    layout.H_ZONES,
    layout.H_CPUS,
    layout.H_MAX_PFN,
    layout.H_WORKERS,
    layout.H_LOADS,
    layout.H_TABLE_WORDS,
    layout.H_REPLAY_EVENTS,
    H_CONTENT_PAGES,
    H_CACHE_SLOTS,
)
"""Header words of the plan, in its order."""


class SegmentWords(Protocol):
    """The sections that figures are read from, of 64-bit words each."""

    plan: SegmentPlan
    header: memoryview
    zones: memoryview
    pagesets: memoryview
    report: memoryview
    workers: memoryview
    loads: memoryview


class SegmentView:
    """A segment by its descriptor, which is the view's from then on; closed with it.

    Raises HarnessError when it is no segment of this layout, or not sealed; the descriptor is
    closed then, too.
    """

    def __init__(self, descriptor: int) -> None:
        self._descriptor = descriptor
        try:
            self._size_bytes = _checked_size(descriptor)
            self._map = mmap.mmap(
                descriptor, self._size_bytes, mmap.MAP_SHARED, prot=mmap.PROT_READ
            )
        except OSError as error:
            os.close(descriptor)
            raise HarnessError(f"the segment cannot be mapped: {error.strerror}") from error
        except HarnessError:
            os.close(descriptor)
            raise
        self._raw = memoryview(self._map)
        self.header = self._raw[: layout.HEADER_WORDS * layout.WORD_BYTES].cast("q")
        self.plan = SegmentPlan(*(self.header[index] for index in PLAN_WORDS))
        wrong = self._wrong()
        if wrong:
            self._release([self.header])
            raise HarnessError(f"not a segment of this pagesoak: {wrong}")
        self.zones = self._section(layout.Section.ZONES, "q")
        self.pagesets = self._section(layout.Section.PAGESETS, "q")
        self.report = self._section(layout.Section.REPORT, "q")
        self.workers = self._section(layout.Section.WORKERS, "q")
        self.loads = self._section(layout.Section.LOADS, "q")

    def _wrong(self) -> str:
        """What does not fit, in words; empty when all does."""
        header = self.header
        if (header[layout.H_MAGIC], header[layout.H_VERSION]) != (layout.MAGIC, layout.VERSION):
            return "another magic or layout version"
        if not all(0 <= size <= SEGMENT_BYTES_MAX for size in self.plan):
            return "a size out of range"
        *offsets, end = self.plan.offsets()
        if end > self._size_bytes or header[layout.H_SEGMENT_BYTES] != self._size_bytes:
            return "another size"
        found = header[layout.H_OFFSETS : layout.H_OFFSETS + len(offsets)].tolist()
        return "" if found == offsets else "sections elsewhere"

    def _section(self, number: int, code: Literal["b", "i", "q"]) -> memoryview:
        start = self.plan.offsets()[number]
        return self._raw[start : start + self.plan.section_bytes()[number]].cast(code)

    def close(self) -> None:
        """Unmap and close; every view of a section is invalid afterwards."""
        self._release(
            [self.header, self.zones, self.pagesets, self.report, self.workers, self.loads]
        )

    def _release(self, views: list[memoryview]) -> None:
        for view in (*views, self._raw):
            view.release()
        self._map.close()
        os.close(self._descriptor)


def _checked_size(descriptor: int) -> int:
    """The size of a sealed file that may be a segment."""
    size_bytes = os.fstat(descriptor).st_size
    if not layout.HEADER_WORDS * layout.WORD_BYTES <= size_bytes <= SEGMENT_BYTES_MAX:
        raise HarnessError(f"no pagesoak segment: {size_bytes} bytes")
    if fcntl.fcntl(descriptor, fcntl.F_GET_SEALS) & SIZE_SEALS != SIZE_SEALS:
        raise HarnessError("the segment is not sealed against a change of size")
    return size_bytes
