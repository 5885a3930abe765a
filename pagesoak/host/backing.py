"""How much memory stands behind a range of guest RAM, read from the kernel, page by page.

The figure must be exact while the guest goes on writing to other pages of the same file. That
leaves out the file's block count: it moves with every fault elsewhere. What is left has to look at
each page, and does so inside the window; so the cheapest look that can answer goes first. Its cost
in microseconds for 4 MiB in 4 KiB pages, whose punch takes about 1000 when all are populated (all
populated / every other page / none; Linux 6.18):

- the guest's page table, PAGEMAP_SCAN (Linux 6.7): 8 / 1 / 1; can only answer "all of it"
- the page cache, cachestat(2) (Linux 6.5), swapped pages included: 45 / 23 / 2
- SEEK_DATA and SEEK_HOLE, any Linux: 60 to 400 / 480 to 630 / 1
- mincore(2) through the host's own mapping, in which it touches nothing: 105 / 105 / 65

A page that the guest's page table holds present in the shared mapping is in the file: so a range
that is present throughout is backed throughout and need not be counted. This asks the page table
of *one* process; where several CPUs fault a range in, none of their page tables has it all. A
range that is not present throughout is counted with cachestat, or, where the kernel has none, by
walking from data to hole.
"""

import contextlib
import ctypes
import mmap
import os
from collections.abc import Callable
from pathlib import Path

from pagesoak.base.errors import HarnessError

SYSCALL_CACHESTAT = 451
"""The same number on every architecture that pagesoak runs on."""
PAGEMAP_SCAN = 0xC060_6610
"""The ioctl request ('f', 16), to and fro, 96 bytes."""
PAGE_IS_PRESENT = 1 << 3

_CACHED = 0
"""Words of `struct cachestat`: pages in the cache, and (fourth) pages that went to swap."""
_EVICTED = 3
_CACHESTAT_WORDS = 5
_SCAN_WORDS = 12
"""Words of `struct pm_scan_arg`, of which these are used."""
_SCAN_SIZE = 0
_SCAN_START = 2
_SCAN_END = 3
_SCAN_REGIONS = 5
_SCAN_REGIONS_MAX = 6
_SCAN_INVERTED = 8
_SCAN_REQUIRED = 9
_SCAN_RETURNED = 11
_REGION_WORDS = 3

_libc = ctypes.CDLL(None, use_errno=True)
_libc.syscall.argtypes = [
    ctypes.c_long,
    ctypes.c_uint,
    ctypes.c_void_p,
    ctypes.c_void_p,
    ctypes.c_uint,
]
_libc.syscall.restype = ctypes.c_long
_libc.ioctl.argtypes = [ctypes.c_int, ctypes.c_ulong, ctypes.c_void_p]


def walk_backed_bytes(descriptor: int, offset_bytes: int, length_bytes: int) -> int:
    """Bytes of a file's range that are data and not hole; moves the descriptor's file position."""
    end = offset_bytes + length_bytes
    at = offset_bytes
    found = 0
    while at < end:
        try:
            data = os.lseek(descriptor, at, os.SEEK_DATA)
        except OSError:  # ENXIO: only hole from here to the end of the file
            break
        if data >= end:
            break
        at = min(os.lseek(descriptor, data, os.SEEK_HOLE), end)
        found += at - data
    return found


class CacheCounter:
    """Counts the pages of a file's range with cachestat(2)."""

    def __init__(self, descriptor: int) -> None:
        self._descriptor = descriptor
        self._range = (ctypes.c_uint64 * 2)()
        self._found = (ctypes.c_uint64 * _CACHESTAT_WORDS)()

    def supported(self) -> bool:
        """Whether this kernel, and whatever filters system calls, has cachestat for this file."""
        try:
            self.backed_bytes(0, mmap.PAGESIZE)
        except OSError:
            return False
        return True

    def backed_bytes(self, offset_bytes: int, length_bytes: int) -> int:
        """Bytes of the range in memory or in swap. Raises OSError."""
        self._range[0] = offset_bytes
        self._range[1] = length_bytes
        if _libc.syscall(SYSCALL_CACHESTAT, self._descriptor, self._range, self._found, 0):
            number = ctypes.get_errno()
            raise OSError(number, os.strerror(number))
        return int(self._found[_CACHED] + self._found[_EVICTED]) * mmap.PAGESIZE


class PageTable:
    """One process's page table, asked whether it holds a whole range of its addresses.

    Looking for a first page that is missing costs a quarter of looking for those that are there,
    as only what is found is written down. But a process that has ended misses nothing either: so
    afterwards the first page must be found to be there.
    """

    def __init__(self, descriptor: int) -> None:
        self._descriptor = descriptor
        self._region = (ctypes.c_uint64 * _REGION_WORDS)()
        self._missing = self._make_scan(PAGE_IS_PRESENT)
        self._there = self._make_scan(0)

    def _make_scan(self, inverted: int) -> "ctypes.Array[ctypes.c_uint64]":
        scan = (ctypes.c_uint64 * _SCAN_WORDS)()
        scan[_SCAN_SIZE] = ctypes.sizeof(scan)
        scan[_SCAN_REGIONS] = ctypes.addressof(self._region)
        scan[_SCAN_REGIONS_MAX] = 1
        scan[_SCAN_INVERTED] = inverted
        scan[_SCAN_REQUIRED] = PAGE_IS_PRESENT
        scan[_SCAN_RETURNED] = PAGE_IS_PRESENT
        return scan

    @classmethod
    def of_process(cls, pid: int, file: int, address: int, size_bytes: int) -> "PageTable | None":
        """The page table of a process that has all of a file mapped shared at `address`.

        `file` is a descriptor of it. None when it has not, is gone, may not be looked at, or the
        kernel cannot scan a page table. The table stays the one of that process when its number
        is given to another.
        """
        try:
            descriptor = os.open(f"/proc/{pid}/pagemap", os.O_RDONLY | os.O_CLOEXEC)
        except OSError:
            return None
        found = cls(descriptor)
        try:
            if maps_whole_file(Path(f"/proc/{pid}/maps").read_text(), file, address, size_bytes):
                found.holds(address, mmap.PAGESIZE)
                return found
        except (OSError, UnicodeDecodeError):
            pass
        found.close()
        return None

    def holds(self, address: int, length_bytes: int) -> bool:
        """Whether every page of the range is present. Raises OSError."""
        return not self._finds(self._missing, address, address + length_bytes) and self._finds(
            self._there, address, address + mmap.PAGESIZE
        )

    def _finds(self, scan: "ctypes.Array[ctypes.c_uint64]", start: int, end: int) -> bool:
        """Whether any page of the range is what the scan looks for."""
        scan[_SCAN_START] = start
        scan[_SCAN_END] = end
        regions = _libc.ioctl(self._descriptor, PAGEMAP_SCAN, scan)
        if regions < 0:
            number = ctypes.get_errno()
            raise OSError(number, os.strerror(number))
        return bool(regions)

    def close(self) -> None:
        """Let go of the page table."""
        os.close(self._descriptor)


def maps_whole_file(maps: str, file: int, address: int, size_bytes: int) -> bool:
    """Whether a text of /proc/PID/maps has all of `file` mapped shared, in one piece, there."""
    status = os.fstat(file)
    device = f"{os.major(status.st_dev):02x}:{os.minor(status.st_dev):02x}"
    for line in maps.splitlines():
        extent, rights, offset, where, inode = line.split(maxsplit=5)[:5]
        start, _, end = extent.partition("-")
        if (int(start, 16), int(offset, 16)) != (address, 0):
            continue
        is_file = (where, inode) == (device, str(status.st_ino))
        return is_file and rights.endswith("s") and int(end, 16) >= address + size_bytes
    return False


def _nobody() -> int:
    """The number of no process."""
    return 0


class Backing:
    """What stands behind the ranges of one file that is mapped at `address`."""

    def __init__(self, descriptor: int, address: int, size_bytes: int) -> None:
        self._descriptor = descriptor
        self._address = address
        self._size_bytes = size_bytes
        self._counter = CacheCounter(descriptor)
        self._is_counted = self._counter.supported()
        self._pid_of = _nobody
        self._pid = _nobody()
        self._table: PageTable | None = None

    def watch(self, pid_of: Callable[[], int]) -> bool:
        """Ask the page table of this process first, and no other's; False if it cannot be.

        What process it is, is asked before each look: a guest that was killed is replaced.
        """
        self._pid_of = pid_of
        self._follow()
        return self._table is not None

    def _follow(self) -> None:
        pid = self._pid_of()
        if pid != self._pid:
            self.forget()
            self._pid = pid
            self._table = PageTable.of_process(
                pid, self._descriptor, self._address, self._size_bytes
            )

    def forget(self) -> None:
        """Ask no page table any more."""
        if self._table is not None:
            self._table.close()
            self._table = None

    def full_bytes(self, offset_bytes: int, length_bytes: int) -> int:
        """Bytes behind a range that is likely to be backed throughout."""
        self._follow()
        with contextlib.suppress(OSError):  # it has ended; soon another is named
            address = self._address + offset_bytes
            if self._table is not None and self._table.holds(address, length_bytes):
                return length_bytes
        return self.backed_bytes(offset_bytes, length_bytes)

    def backed_bytes(self, offset_bytes: int, length_bytes: int) -> int:
        """Bytes behind a range, by looking at each page of the file."""
        if self._is_counted:
            return self._counter.backed_bytes(offset_bytes, length_bytes)
        return walk_backed_bytes(self._descriptor, offset_bytes, length_bytes)


def require_pages(offset_bytes: int, length_bytes: int, size_bytes: int, unit_bytes: int) -> None:
    """HarnessError unless a range is whole units of a file of this size, and not empty.

    `unit_bytes` is what the kernel takes out as a whole: of less it only zeroes a part.
    """
    reason = ""
    if length_bytes <= 0:
        reason = "it is empty"
    elif offset_bytes % unit_bytes or length_bytes % unit_bytes:
        reason = f"it is no whole number of pages of {unit_bytes} bytes"
    elif offset_bytes < 0 or offset_bytes + length_bytes > size_bytes:
        reason = f"guest RAM has {size_bytes} bytes"
    if reason:
        msg = f"refused to punch {length_bytes} bytes at {offset_bytes:#x}: {reason}"
        raise HarnessError(msg)
