"""The shared segment: one anonymous file, sealed in size, that all workers have mapped.

A memfd leaves no name behind, lives as long as a process holds it, and cannot change its size once
sealed, so that no peer can turn an access into SIGBUS. The layout inside is `base.layout`; a
segment of another layout version, or one made for the other kind of core (compiled or plain), is
refused.
"""

import ctypes
import fcntl
import mmap
import os
from typing import Literal

from pagesoak.base import layout
from pagesoak.base.errors import HarnessError, InputError
from pagesoak.base.external import initialise_mutex, set_atomic_mutex
from pagesoak.base.layout_demand import SECTION_DEMAND
from pagesoak.base.layout_kernel import H_KERNEL
from pagesoak.base.layout_reclaim import (
    CACHE_FIRST_SLOT,
    HEADS_FIRST_SLOT,
    S_NEXT,
    S_PFN,
    S_PREVIOUS,
    SECTION_CACHE,
    SLOT_WORDS,
)
from pagesoak.base.native import PLAIN, forget_extent, register_extent
from pagesoak.base.plan import SegmentPlan
from pagesoak.base.segment_view import PLAN_WORDS, SIZE_SEALS


class SharedFile:
    """An anonymous file of fixed size, mapped shared and writable at `address`.

    Raises InputError when the system refuses the memory (limits on file size or address space).
    """

    def __init__(self, name: str, size_bytes: int, descriptor: int | None = None) -> None:
        self.name = name
        self.size_bytes = size_bytes
        self.address = 0
        made = -1
        try:
            if descriptor is None:
                made = os.memfd_create(name, os.MFD_CLOEXEC | os.MFD_ALLOW_SEALING)
                os.ftruncate(made, size_bytes)
                fcntl.fcntl(made, fcntl.F_ADD_SEALS, SIZE_SEALS)
            self.descriptor = made if descriptor is None else descriptor
            self._map = mmap.mmap(self.descriptor, size_bytes, mmap.MAP_SHARED)
        except OSError as error:
            if made >= 0:
                os.close(made)
            msg = f"cannot get {size_bytes >> 20} MiB of shared memory for {name}: {error}"
            raise InputError(msg) from error
        self._anchor = ctypes.c_char.from_buffer(self._map)
        self.address = ctypes.addressof(self._anchor)
        register_extent(self.address, size_bytes)

    def view(self) -> memoryview:
        """All bytes; release it before `close`."""
        return memoryview(self._map)

    def backed_bytes(self) -> int:
        """Memory that the file occupies now."""
        return os.fstat(self.descriptor).st_blocks * 512

    def close(self) -> None:
        """Unmap and close; nothing is left behind."""
        if self.address:
            forget_extent(self.address)
            self.address = 0
            del self._anchor
            self._map.close()
            os.close(self.descriptor)


class Segment:
    """The core's state: a `SharedFile` with the layout of `base.layout`.

    The sections are memoryviews: `header`, `zones`, `pagesets`, `report`, `workers`, `loads`,
    `replay`, `contents` and `demand` of 64-bit words, `pages`, `tables` and `cache` of 32-bit
    words, `blocks` of bytes.
    """

    def __init__(self, plan: SegmentPlan, file: SharedFile) -> None:
        self.plan = plan
        self.file = file
        self.base = file.address
        self._raw = file.view()
        offsets = plan.offsets()
        sizes = plan.section_bytes()

        def section(number: int, code: Literal["b", "i", "q"]) -> memoryview:
            start = offsets[number]
            return self._raw[start : start + sizes[number]].cast(code)

        self.header = self._raw[: layout.HEADER_WORDS * layout.WORD_BYTES].cast("q")
        self.zones = section(layout.Section.ZONES, "q")
        self.pagesets = section(layout.Section.PAGESETS, "q")
        self.report = section(layout.Section.REPORT, "q")
        self.workers = section(layout.Section.WORKERS, "q")
        self.loads = section(layout.Section.LOADS, "q")
        self.blocks = section(layout.Section.BLOCKS, "b")
        self.pages = section(layout.Section.PAGES, "i")
        self.tables = section(layout.Section.TABLES, "i")
        self.replay = section(layout.Section.REPLAY, "q")
        self.contents = section(layout.Section.CONTENTS, "q")
        self.cache = section(SECTION_CACHE, "i")
        self.demand = section(SECTION_DEMAND, "q")

    @property
    def kernel_rules(self) -> int:
        """The rules of the guest's kernel (`allocator.profile`)."""
        return int(self.header[H_KERNEL])

    @classmethod
    def create(cls, plan: SegmentPlan) -> "Segment":
        """Make an empty segment: header written, locks made, every list empty.

        Every CPU's zonelist goes from the last zone down to the first: right for one node.
        """
        *offsets, size_bytes = plan.offsets()
        size_bytes = -(-size_bytes // mmap.PAGESIZE) * mmap.PAGESIZE
        segment = cls(plan, SharedFile("pagesoak-segment", size_bytes))
        for index, value in (
            (layout.H_MAGIC, layout.MAGIC),
            (layout.H_VERSION, layout.VERSION),
            (layout.H_SEGMENT_BYTES, size_bytes),
            (layout.H_COMPILED, 0 if PLAIN else 1),
            (layout.H_FENCED, 1),
            *zip(PLAN_WORDS, plan, strict=True),
            *enumerate(offsets, layout.H_OFFSETS),
        ):
            segment.header[index] = value
        for cpu in range(plan.cpus):
            row = layout.H_ZONELIST_FIRST + cpu * layout.ZONES_MAX
            for position in range(plan.zones):
                segment.header[row + position] = plan.zones - 1 - position
        segment._make_locks()
        segment._make_lists()
        return segment

    @classmethod
    def attach(cls, descriptor: int) -> "Segment":
        """Map an existing segment; the descriptor is the segment's from then on.

        Raises HarnessError when it is no segment, has another layout version, another kind of
        core, or is not sealed.
        """
        size_bytes = os.fstat(descriptor).st_size
        if size_bytes < layout.HEADER_WORDS * layout.WORD_BYTES:
            msg = f"descriptor {descriptor} holds no pagesoak segment: {size_bytes} bytes"
            raise HarnessError(msg)
        if fcntl.fcntl(descriptor, fcntl.F_GET_SEALS) & SIZE_SEALS != SIZE_SEALS:
            msg = "the segment is not sealed against a change of size"
            raise HarnessError(msg)
        file = SharedFile("pagesoak-segment", size_bytes, descriptor)
        with file.view() as raw, raw.cast("q") as words:
            plan = SegmentPlan(*(words[index] for index in PLAN_WORDS))
            expected = (
                (layout.H_MAGIC, layout.MAGIC, "magic"),
                (layout.H_VERSION, layout.VERSION, "layout version"),
                (layout.H_SEGMENT_BYTES, size_bytes, "size"),
                (layout.H_COMPILED, 0 if PLAIN else 1, "kind of core"),
                *(
                    (layout.H_OFFSETS + number, offset, f"offset of section {number}")
                    for number, offset in enumerate(plan.offsets()[:-1])
                ),
            )
            wrong = [
                f"{what} is {words[index]}, not {value}"
                for index, value, what in expected
                if words[index] != value
            ]
        if wrong:
            file.close()
            raise HarnessError("not a segment of this pagesoak: " + "; ".join(wrong))
        set_atomic_mutex(file.address + layout.H_ATOMIC_MUTEX * layout.WORD_BYTES)
        return cls(plan, file)

    def _make_locks(self) -> None:
        word_bytes = layout.WORD_BYTES
        atomic_mutex = self.base + layout.H_ATOMIC_MUTEX * word_bytes
        initialise_mutex(atomic_mutex)
        set_atomic_mutex(atomic_mutex)
        zones = self.base + self.header[layout.H_OFFSETS + layout.Section.ZONES]
        for zone in range(self.plan.zones):
            initialise_mutex(zones + (zone * layout.ZONE_WORDS + layout.Z_LOCK) * word_bytes)
        initialise_mutex(self.base + self.header[layout.H_OFFSETS + SECTION_CACHE])

    def _make_lists(self) -> None:
        head = self.plan.max_pfn
        for zone in range(self.plan.zones):
            self.zones[zone * layout.ZONE_WORDS + layout.Z_LIST_BASE] = head
            head += layout.MAX_ORDER * layout.MIGRATE_TYPES
        for pageset in range(self.plan.cpus * self.plan.zones):
            self.pagesets[pageset * layout.PAGESET_WORDS + layout.P_LIST_BASE] = head
            head += layout.PCP_LISTS
        for slot in range(self.plan.cache_slots):
            at = slot * SLOT_WORDS
            if slot >= CACHE_FIRST_SLOT:
                self.cache[at + S_PFN] = -1
            elif slot >= HEADS_FIRST_SLOT:
                self.cache[at + S_NEXT] = self.cache[at + S_PREVIOUS] = slot
        for record in range(self.plan.max_pfn, head):
            self.pages[record * layout.PAGE_WORDS + layout.NEXT] = record
            self.pages[record * layout.PAGE_WORDS + layout.PREVIOUS] = record

    def close(self) -> None:
        """Unmap and close; every view of a section is invalid afterwards."""
        for view in (
            self.header, self.zones, self.pagesets, self.report, self.workers,
            self.loads, self.blocks, self.pages, self.tables, self.replay, self.contents,
            self.cache, self.demand, self._raw,
        ):  # fmt: skip
            view.release()
        self.file.close()
