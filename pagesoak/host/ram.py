"""Guest RAM: one memfd that guest and host have mapped, and the punching of holes into it.

Page `pfn` lies at byte `pfn * 4096`. The file is sparse: what the guest has not touched, and
what the host has punched since, takes no memory and reads zero. It is made and mapped before the
workers are forked, so that all of them have it at the same address.

Punching is `fallocate` with PUNCH_HOLE and KEEP_SIZE, as QEMU does for file-backed guest memory
(`ram_block_discard_range`). That alone is enough for a shared file: it takes the pages out of
the page cache and of every mapping. `MADV_DONTNEED` only takes them out of the caller's mapping.
How much went back is the difference of what stood behind exactly that range before and after
(`host.backing`); nobody else touches a range while it is reported.
"""

import ctypes
import errno
import mmap
import os
from collections.abc import Callable

from pagesoak.base.layout import H_RAM_ADDRESS, H_RAM_BYTES, H_TOUCH
from pagesoak.base.segment import Segment, SharedFile
from pagesoak.base.units import PAGE_SIZE_BYTES
from pagesoak.host.backing import Backing, require_pages

FALLOC_FL_KEEP_SIZE = 1
FALLOC_FL_PUNCH_HOLE = 2
UNIT_BYTES = max(PAGE_SIZE_BYTES, mmap.PAGESIZE)
"""What the kernel takes out as a whole; of a page covered in part it only zeroes that part."""
FOLIO_BYTES_MAX = mmap.PAGESIZE * (mmap.PAGESIZE // 8)
"""The largest unit in which a file's cache may hold memory (a huge page: what one table of page
table entries maps). A punch that cuts one in two may fail to split it; then the memory stays,
zeroed.
"""

_libc = ctypes.CDLL(None, use_errno=True)
_libc.fallocate.argtypes = [ctypes.c_int, ctypes.c_int, ctypes.c_int64, ctypes.c_int64]


def punch_hole(descriptor: int, offset_bytes: int, length_bytes: int) -> None:
    """Give the memory behind a range of a file back; it reads zero then. Raises OSError."""
    mode = FALLOC_FL_PUNCH_HOLE | FALLOC_FL_KEEP_SIZE
    while _libc.fallocate(descriptor, mode, offset_bytes, length_bytes):
        number = ctypes.get_errno()
        if number != errno.EINTR:
            raise OSError(number, os.strerror(number))


class GuestRam:
    """The RAM of a guest of `pages` pages, mapped at `address`.

    Every process forked later has it mapped there too. Raises InputError when the system refuses
    the memory.
    """

    def __init__(self, pages: int) -> None:
        self.file = SharedFile("pagesoak-guest-ram", pages * PAGE_SIZE_BYTES)
        self.address = self.file.address
        self.size_bytes = self.file.size_bytes
        self._backing = Backing(self.file.descriptor, self.address, self.size_bytes)

    def watch(self, pid_of: Callable[[], int]) -> bool:
        """Say how to learn which process the only guest CPU is, which makes measuring full ranges
        cheaper.

        To be called in the host's process; of no use with several CPUs. False when the page table
        cannot be read now: while it cannot, every range is counted. What is measured is the same.
        """
        return self._backing.watch(pid_of)

    def punch(self, first_pfn: int, pages: int) -> int:
        """Punch `pages` pages out as `punch_bytes` does; returns the bytes that went back."""
        return self.punch_bytes(first_pfn * PAGE_SIZE_BYTES, pages * PAGE_SIZE_BYTES)

    def punch_bytes(self, offset_bytes: int, length_bytes: int) -> int:
        """Punch a range out; returns the bytes of memory that went back.

        Raises HarnessError, and touches nothing, when the range is empty, not made of whole
        pages or not inside RAM; OSError when the kernel refuses.
        """
        require_pages(offset_bytes, length_bytes, self.size_bytes, UNIT_BYTES)
        went_bytes = self._backing.full_bytes(offset_bytes, length_bytes)
        punch_hole(self.file.descriptor, offset_bytes, length_bytes)
        if offset_bytes % FOLIO_BYTES_MAX or length_bytes % FOLIO_BYTES_MAX:
            went_bytes -= self._backing.backed_bytes(offset_bytes, length_bytes)
        return went_bytes

    def close(self) -> None:
        """Unmap and close."""
        self._backing.forget()
        self.file.close()


class NoRam:
    """In place of guest RAM when a soak runs on metadata alone: there is nothing to punch."""

    def punch(self, first_pfn: int, pages: int) -> int:  # noqa: ARG002 - as GuestRam.punch
        """Nothing goes back: 0 bytes."""
        return 0

    def close(self) -> None:
        """Nothing to close."""


def open_ram(segment: Segment, *, touch: bool) -> GuestRam | NoRam:
    """The RAM of a segment's guest, entered in its header; none with `touch` off.

    To be called before the workers are forked. Raises InputError when the system refuses the
    memory.
    """
    ram = GuestRam(segment.plan.max_pfn) if touch else NoRam()
    segment.header[H_RAM_ADDRESS] = ram.address if isinstance(ram, GuestRam) else 0
    segment.header[H_RAM_BYTES] = ram.size_bytes if isinstance(ram, GuestRam) else 0
    segment.header[H_TOUCH] = int(touch)
    return ram
