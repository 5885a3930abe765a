"""How the files of a run's directory are written: line by line, or replaced as a whole.

Appending (worker log, events, series): one process writes, each line with a single `write(2)`, so
a line is with the kernel when `append` returns and survives the kill of whoever wrote it (not a
power cut: appending calls no fsync). The disk is allowed to fail: a full, read-only or lost one
never raises out of `AppendFile` and never costs more than the system call that failed. What could
not be written is kept for later as far as `pending_lines_max` allows, and counted as lost beyond.

Replacing (identity, summary, a thinned series): written beside, synced, renamed over. A reader
finds the old file or the new one, never half of it, also after a power cut.

Neither is safe between threads: callers with several threads bring their own lock.
"""

import os
import stat
from collections import deque
from collections.abc import Iterable
from enum import Enum
from pathlib import Path

FILE_MODE = 0o600  # results name the host, its kernel and its command line: for their owner only


def replace_file(path: Path, text: str | Iterable[str]) -> None:
    """Make `text`, or its parts in order, the whole content of `path`, for its owner only. Parts
    are asked for as they are written: a disk that refuses ends it in the middle.

    Raises:
        OSError: it could not be written; what was there before still is, and nothing else.
    """
    beside = path.with_name(f".{path.name}.new")
    try:
        descriptor = os.open(beside, os.O_WRONLY | os.O_CREAT | os.O_TRUNC, FILE_MODE)
        with os.fdopen(descriptor, "w", encoding="utf-8", errors="backslashreplace") as file:
            file.writelines([text] if isinstance(text, str) else text)
            file.flush()
            os.fsync(descriptor)
        beside.replace(path)
    except OSError:
        beside.unlink(missing_ok=True)
        raise
    folder = os.open(path.parent, os.O_RDONLY | os.O_DIRECTORY)
    try:
        os.fsync(folder)
    finally:
        os.close(folder)


class AtCap(Enum):
    """What happens when the file has reached its size cap."""

    ROTATE = "rotate"  # keep the newest: the file becomes `<name>.1`, the only older one
    REFUSE = "refuse"  # keep the oldest: further lines are counted as lost


class AppendFile:
    """Appends lines to `path`, at most `bytes_max` bytes of them.

    `lost_lines` counts the lines that will never be in the file, `pending_lines` those that still
    wait for the disk.
    """

    def __init__(
        self, path: Path, *, bytes_max: int, at_cap: AtCap, pending_lines_max: int = 0
    ) -> None:
        self.path = path
        self.lost_lines = 0
        self._bytes_max = bytes_max
        self._at_cap = at_cap
        self._pending_lines_max = pending_lines_max
        self._pending: deque[bytes] = deque()
        self._descriptor: int | None = None
        self._size_bytes = 0
        self._regular = True
        self._torn = False
        self._closed = False

    @property
    def pending_lines(self) -> int:
        """Lines that wait in memory because the disk refused them."""
        return len(self._pending)

    def append(self, line: str) -> bool:
        """Write `line` (no newline), after whatever still waits; False: it is not in the file."""
        data = line.encode("utf-8", "backslashreplace") + b"\n"
        if not self.retry_pending():
            self._keep(data)
            return False
        if self._full_for_good(len(data)):
            self.lost_lines += 1
            return False
        if not self._write(data):
            self._keep(data)
            return False
        return True

    def retry_pending(self) -> bool:
        """Write what waits, oldest first; True when nothing waits any more."""
        while self._pending:
            if not self._write(self._pending[0]):
                return False
            self._pending.popleft()
        return True

    def close(self) -> None:
        """Try once more to write what waits; what then still waits counts as lost."""
        if self._closed:
            return
        self.retry_pending()
        self.lost_lines += len(self._pending)
        self._pending.clear()
        self.abandon()

    def abandon(self) -> None:
        """Give up the descriptor and write nothing more: for the copy in a forked child."""
        self._closed = True
        if self._descriptor is not None:
            os.close(self._descriptor)
            self._descriptor = None

    def _keep(self, data: bytes) -> None:
        if len(self._pending) < self._pending_lines_max and not self._closed:
            self._pending.append(data)
        else:
            self.lost_lines += 1

    def _full_for_good(self, more_bytes: int) -> bool:
        return self._at_cap is AtCap.REFUSE and self._size_bytes + more_bytes > self._bytes_max

    def _write(self, data: bytes) -> bool:
        """One line in one system call; a torn one is cut off, or ended before the next line."""
        if self._closed:
            return False
        try:
            descriptor = self._open()
            if self._regular and self._size_bytes + len(data) > self._bytes_max:
                descriptor = self._rotate()
            whole = b"\n" + data if self._torn else data
            written = os.write(descriptor, whole)
        except OSError:
            return False
        if written < len(whole):
            self._cut_back(descriptor, written)
            return False
        self._torn = False
        self._size_bytes += written
        return True

    def _open(self) -> int:
        if self._descriptor is None:
            descriptor = os.open(self.path, os.O_RDWR | os.O_APPEND | os.O_CREAT, FILE_MODE)
            status = os.fstat(descriptor)
            self._descriptor = descriptor
            self._regular = stat.S_ISREG(status.st_mode)
            self._size_bytes = status.st_size if self._regular else 0
            if self._size_bytes:
                # An earlier writer may have been killed in the middle of a line.
                self._torn = os.pread(descriptor, 1, self._size_bytes - 1) != b"\n"
        return self._descriptor

    def _rotate(self) -> int:
        older = self.path.with_name(self.path.name + ".1")
        self.path.replace(older)
        if self._descriptor is not None:
            os.close(self._descriptor)
            self._descriptor = None
        self._torn = False
        return self._open()

    def _cut_back(self, descriptor: int, written: int) -> None:
        try:
            os.ftruncate(descriptor, self._size_bytes)
        except OSError:
            self._size_bytes += written
            self._torn = True
