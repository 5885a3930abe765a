"""One daemon to a place: a lock that ends with its holder, however it ends.

The lock is on an open file, not the file's existence, so it is never stale. The file holds the
process ID of who has it, to be named to those who come second.
"""

import contextlib
import fcntl
import os
from pathlib import Path

from pagesoak.base.errors import InputError

FILE_MODE = 0o600
FOLDER_MODE = 0o700
PID_BYTES_MAX = 20


class HeldError(InputError):
    """Another process has the lock."""


class Single:
    """The lock in `file`, held until `close`.

    Raises HeldError when another process has it, which is named, and another InputError when it
    cannot be had.
    """

    def __init__(self, file: Path) -> None:
        self._file = file
        flags = os.O_RDWR | os.O_CREAT | os.O_CLOEXEC | os.O_NOFOLLOW
        try:
            make_folder(file.parent)
            self._descriptor = os.open(file, flags, FILE_MODE)
        except OSError as error:
            raise InputError(f"cannot be locked: {error.strerror}", file=file) from error
        try:
            fcntl.flock(self._descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except OSError as error:
            holder = os.pread(self._descriptor, PID_BYTES_MAX, 0).decode("ascii", "replace")
            os.close(self._descriptor)
            said = f"a daemon is running here already, process {holder.strip() or '(unknown)'}"
            raise HeldError(said, file=file) from error
        with contextlib.suppress(OSError):  # a full disk: who comes second hears no number
            os.ftruncate(self._descriptor, 0)
            os.pwrite(self._descriptor, f"{os.getpid()}\n".encode(), 0)

    def close(self) -> None:
        """Let it go. The file stays: one taken away could be locked twice."""
        with contextlib.suppress(OSError):
            os.ftruncate(self._descriptor, 0)
        os.close(self._descriptor)


def make_folder(folder: Path) -> None:
    """Make a folder that is the owner's alone, and what is missing above it; one that is there
    stays as it is.
    """
    folder.parent.mkdir(parents=True, exist_ok=True)
    folder.mkdir(mode=FOLDER_MODE, exist_ok=True)
